"""The checks of a health score: from a row of evidence to the points that it costs, and the words that say why.

docs/health.md has the same numbers, with the reason for each. Points are reckoned in fractions, since they are rounded:
in binary, 10 × (0.125 - 0.1) / 0.5 is a little less than a half.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import msgspec

from eventlog.cli.text import counted, percent
from eventlog.queries.health import evidence
from eventlog.queries.health.evidence import STUCK_TIMES
from eventlog.queries.text import units

#: Calls that an error rate needs.
CALLS_MIN = 10
#: Calls that a p95 needs, in the window and before: of fewer, it is the slowest one.
LATENCIES_MIN = 20
#: Earlier windows, and runs in the window and before, that a comparison of costs needs.
WINDOWS_MIN, RUNS_MIN = 3, 5
#: Intervals without a heartbeat that cost nothing.
MISSED_MAX = 3
#: The status of the last heartbeat of an agent that stops on purpose.
STOPPED = "stopped"

Row = Mapping[str, Any]
#: Points, None if there is too little data, and the words for people.
Judgement = tuple[Fraction | int | None, str]


class Check(msgspec.Struct, frozen=True):
    """A reason to take off up to `points_max` points.

    `query` is a query of `evidence`, and `judge` turns the row of an agent into points and words. `missing` are the
    words for an agent without a row.
    """

    name: str
    points_max: int
    query: str
    judge: Callable[[Row], Judgement]
    missing: str


def _share(value: Fraction, free: str, full: str) -> Fraction:
    """Return the share of the points that a value costs: 0 up to `free`, 1 from `full` on, linear between."""
    least, most = Fraction(free), Fraction(full)
    return min(Fraction(1), max(Fraction(0), (value - least) / (most - least)))


def _exact(value: float) -> Fraction:
    """Return a measured number as it is written: 0.1 is a tenth, not the binary number next to it."""
    return Fraction(repr(value))


def _failures(
    points_max: int, thing: str, total: str, *, free: str, full: str, at_least: int
) -> Callable[[Row], Judgement]:
    def judge(row: Row) -> Judgement:
        count, failed = row[total], row["failed"]
        if count < at_least:
            return None, f"{counted(count, thing)}, too few to judge (under {at_least})"
        rate = Fraction(failed, count)
        by_count = sorted((row["types"] or {}).items(), key=lambda item: (-item[1], item[0]))
        named = ", ".join(f"{error_type} {times}" for error_type, times in by_count[:3])
        words = f"{failed:,} of {counted(count, thing)} failed ({percent(failed, count)})"
        return points_max * _share(rate, free, full), f"{words}: {named}" if named else words

    return judge


def _latency(row: Row) -> Judgement:
    now, before = row["calls"], row["calls_before"]
    if now < LATENCIES_MIN or before < LATENCIES_MIN:
        return (
            None,
            f"latencies of {now:,} calls, and of {before:,} before: too few for a trend (under {LATENCIES_MIN})",
        )
    words = f"p95 {row['p95_ms']:,.0f} ms, {row['p95_ms_before']:,.0f} ms before"
    if row["p95_ms_before"] <= 0:
        return None, f"{words}: nothing to compare with"
    ratio = _exact(row["p95_ms"]) / _exact(row["p95_ms_before"])
    return 15 * _share(ratio, "1.25", "3"), f"{words} (×{float(ratio):.2f})"


def _cost(row: Row) -> Judgement:
    ratios: list[tuple[Fraction, str]] = []
    usd, dearest = row["usd"], row["dearest_usd_before"]
    if usd is not None and row["windows_before"] >= WINDOWS_MIN and dearest > 0:
        words = f"{units.usd(usd)}, {units.usd(dearest)} in the dearest window before"
        ratios.append((Fraction(usd) / Fraction(dearest), words))
    if row["runs"] >= RUNS_MIN and row["runs_before"] >= RUNS_MIN and row["run_usd_before"] > 0:
        now, before = row["run_usd"] / row["runs"], row["run_usd_before"] / row["runs_before"]
        exact = Fraction(row["run_usd"]) / row["runs"] / (Fraction(row["run_usd_before"]) / row["runs_before"])
        ratios.append((exact, f"{units.usd(now)} per run, {units.usd(before)} before"))
    if not ratios:
        return None, "too little to compare costs"
    ratio, words = max(ratios)
    return 15 * _share(ratio, "1.5", "4"), f"{words} (×{float(ratio):.2f})"


def _heartbeat(row: Row) -> Judgement:
    interval_s, silent_s = row["interval_s"], row["silent_s"]
    last = f"last heartbeat {row['last']:%Y-%m-%d %H:%M:%S}Z"
    if row["status"] == STOPPED:
        return None, f"{last}, which said that it stops"
    missed = _exact(silent_s) / _exact(interval_s)
    words = f"{last}, {silent_s:,.0f} s ago, one is due every {interval_s:g} s"
    return (20 + 30 * _share(missed, str(MISSED_MAX), "10") if missed > MISSED_MAX else 0), words


def _drops(row: Row) -> Judgement:
    dropped, recorded = row["dropped"], row["events"]
    total = dropped + recorded
    words = f"{counted(dropped, 'event')} lost ({percent(dropped, total)}): {row['cause']}"
    return 5 + 15 * _share(Fraction(dropped, total), "0", "0.01"), words


def _stuck_runs(row: Row) -> Judgement:
    bad = row["abandoned"] + row["stuck"]
    total = bad + row["finished"]
    if not bad:
        return 0, f"none of {counted(total + row['running'], 'run')}"
    words = [f"{row['abandoned']:,} abandoned"] if row["abandoned"] else []
    if row["stuck"]:
        words.append(
            f"{row['stuck']:,} under way for over {STUCK_TIMES} times the longest ({row['longest_ms'] / 1000:,.0f} s)"
        )
    found = f"{' and '.join(words)} of {counted(total, 'run')}: {', '.join(row['run_ids'])}"
    return 5 + 25 * _share(Fraction(bad, total), "0", "0.25"), found


CHECKS = (
    Check(
        "run_errors", 60, evidence.RUN_ERRORS,
        _failures(60, "run", "finished", free="0", full="0.5", at_least=1), "no run finished",
    ),
    Check(
        "call_errors", 20, evidence.CALL_ERRORS,
        _failures(20, "model call", "calls", free="0.02", full="0.25", at_least=CALLS_MIN), "no model calls",
    ),
    Check(
        "tool_errors", 10, evidence.TOOL_ERRORS,
        _failures(10, "tool call", "calls", free="0.1", full="0.6", at_least=CALLS_MIN), "no tool calls",
    ),
    Check("latency", 15, evidence.LATENCY, _latency, "no latencies"),
    Check("cost", 15, evidence.COST, _cost, "no costs"),
    Check("heartbeat", 50, evidence.HEARTBEAT, _heartbeat, "no heartbeats with an interval"),
    Check("drops", 20, evidence.DROPS, _drops, "no events known to be lost"),
    Check("stuck_runs", 30, evidence.STUCK_RUNS, _stuck_runs, "no runs"),
)  # fmt: skip
