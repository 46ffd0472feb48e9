"""What is taken off a health score, for what, in which words: one check per line of CHECKS.

Pure rules from a row of evidence to points. docs/health.md has the same numbers, with the reason for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from eventlog.queries.health import evidence
from eventlog.queries.health.evidence import STUCK_TIMES, Window
from eventlog.queries.text import units

#: Calls, at least, before their failures say something.
CALLS_MIN = 10
#: Calls, at least, now and before: with fewer, a p95 is the slowest one.
LATENCIES_MIN = 20
#: Earlier windows, and runs now and before, that it takes to compare costs.
WINDOWS_MIN, RUNS_MIN = 3, 5
#: Intervals of silence that a heartbeat may have.
MISSED_MAX = 3
#: What a heartbeat says that is meant to be the last.
STOPPED = "stopped"

Row = Mapping[str, Any]
Judged = tuple[float | None, str]


class Check(msgspec.Struct, frozen=True):
    """One reason to take points off, `points_max` at most: how to find it, and how to judge what was found.

    `judge` gets the row of an agent and returns points and words; no points where there is too little to judge.
    `missing` is what is said where there is no row.
    """

    name: str
    points_max: int
    evidence: Callable[[Window], str]
    judge: Callable[[Row], Judged]
    missing: str


def _share(value: float, free: float, full: float) -> float:
    """Return how far a value is on its way from what costs nothing to what costs all: 0 to 1."""
    return min(1.0, max(0.0, (value - free) / (full - free)))


def _failures(
    points_max: int, things: str, total: str, *, free: float, full: float, at_least: int
) -> Callable[[Row], Judged]:
    def judge(row: Row) -> Judged:
        count, failed = row[total], row["failed"]
        if count < at_least:
            return None, f"{_counted(count, things)}, too few to judge (under {at_least})"
        rate = failed / count
        named = ", ".join(
            f"{kind} {times}"
            for kind, times in sorted((row["types"] or {}).items(), key=lambda each: (-each[1], each[0]))[:3]
        )
        words = f"{failed:,} of {_counted(count, things)} failed ({rate:.1%})"
        return points_max * _share(rate, free, full), f"{words}: {named}" if named else words

    return judge


def _latency(row: Row) -> Judged:
    now, before = row["calls"], row["calls_before"]
    if now < LATENCIES_MIN or before < LATENCIES_MIN:
        return (
            None,
            f"latencies of {now:,} calls, and of {before:,} before: too few for a trend (under {LATENCIES_MIN})",
        )
    words = f"p95 {row['p95_ms']:,.0f} ms, {row['p95_ms_before']:,.0f} ms before"
    if row["p95_ms_before"] <= 0:
        return None, f"{words}: nothing to compare with"
    ratio = row["p95_ms"] / row["p95_ms_before"]
    return 15 * _share(ratio, 1.25, 3), f"{words} (×{ratio:.2f})"


def _cost(row: Row) -> Judged:
    found: list[tuple[float, str]] = []
    usd, dearest = row["usd"], row["dearest_usd_before"]
    if usd is not None and row["windows_before"] >= WINDOWS_MIN and dearest > 0:
        found.append((float(usd / dearest), f"{_usd(usd)}, {_usd(dearest)} in the dearest window before"))
    now, before = row["usd_per_run"], row["usd_per_run_before"]
    if row["runs"] >= RUNS_MIN and row["runs_before"] >= RUNS_MIN and before > 0:
        found.append((now / before, f"{_usd(now)} per run, {_usd(before)} before"))
    if not found:
        return None, "too little to compare costs"
    ratio, words = max(found)
    return 15 * _share(ratio, 1.5, 4), f"{words} (×{ratio:.2f})"


def _heartbeat(row: Row) -> Judged:
    interval_s, silent_s = row["interval_s"], row["silent_s"]
    last = f"last heartbeat {row['last']:%Y-%m-%d %H:%M:%S}Z"
    if row["status"] == STOPPED:
        return None, f"{last}, which said that it stops"
    missed = silent_s / interval_s
    words = f"{last}, {silent_s:,.0f} s ago, one is due every {interval_s:g} s"
    return (20 + 30 * _share(missed, MISSED_MAX, 10) if missed > MISSED_MAX else 0), words


def _drops(row: Row) -> Judged:
    dropped, came = row["dropped"], row["events"]
    share = dropped / (dropped + came)
    return 5 + 15 * _share(share, 0, 0.01), f"{_counted(dropped, 'events')} lost ({share:.2%}): {row['cause']}"


def _stuck_runs(row: Row) -> Judged:
    bad = row["abandoned"] + row["stuck"]
    known = bad + row["finished"]
    if not bad:
        return 0, f"none of {_counted(known + row['running'], 'runs')}"
    words = [f"{row['abandoned']:,} abandoned"] if row["abandoned"] else []
    if row["stuck"]:
        words.append(
            f"{row['stuck']:,} under way for over {STUCK_TIMES} times the longest ({row['longest_ms'] / 1000:,.0f} s)"
        )
    named = ", ".join(row["run_ids"])
    return 5 + 25 * _share(bad / known, 0, 0.25), f"{' and '.join(words)} of {_counted(known, 'runs')}: {named}"


def _counted(count: int, things: str) -> str:
    return f"{count:,} {things if count != 1 else things.removesuffix('s')}"


def _usd(amount: Decimal | float) -> str:
    return units.usd(Decimal(str(amount)))


CHECKS = (
    Check(
        "run_errors", 60, evidence.run_errors,
        _failures(60, "runs", "finished", free=0, full=0.5, at_least=1), "no run finished",
    ),
    Check(
        "call_errors", 20, evidence.call_errors,
        _failures(20, "model calls", "calls", free=0.02, full=0.25, at_least=CALLS_MIN), "no model calls",
    ),
    Check(
        "tool_errors", 10, evidence.tool_errors,
        _failures(10, "tool calls", "calls", free=0.1, full=0.6, at_least=CALLS_MIN), "no tool calls",
    ),
    Check("latency", 15, evidence.latency, _latency, "no latencies"),
    Check("cost", 15, evidence.cost, _cost, "no costs"),
    Check("heartbeat", 50, evidence.heartbeat, _heartbeat, "no heartbeats with an interval"),
    Check("drops", 20, evidence.drops, _drops, "no events known to be lost"),
    Check("stuck_runs", 30, evidence.stuck_runs, _stuck_runs, "no runs"),
)  # fmt: skip
