"""The short table of docs/performance.md: what a user does, and how long it takes, without the comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench.case import Outcome
from bench.figures import figure, in_words


class Row(NamedTuple):
    """What a user does, and the claim that measures it: `outcomes[case, claim]`."""

    action: str
    case: str
    claim: str


ROWS = (
    Row("`obs.emit` of a typed event", "emit", "structlog"),
    Row("`obs.emit_many` of 100 events", "emit-many", "bare"),
    Row('`obs.emit` with `durability="synced"`, 16 threads, per event', "emit-synced", "fdatasync"),
    Row("`import eventlog`, with the start of Python", "start", "import"),
    Row("`eventlog emit` from a shell", "start", "emit"),
    Row("`eventlog statusline`", "statusline", "time"),
    Row("from `emit` to the answer of a reader, at 1,000 events a second: median", "freshness", "p50"),
    Row("the same: 99th percentile", "freshness", "p99"),
    Row("`eventlog replay` of 1 million events of 800 bytes", "replay-1m", "time"),
    Row("`eventlog replay` of 5 million events", "replay-5m", "time"),
    Row("`eventlog cost` for the first time, over 16 MiB of Claude Code sessions", "first-answer", "time"),
    Row("`eventlog cost daily` of these sessions", "cost-daily", "time"),
    Row("`eventlog sql`, a small answer out of 5 million events", "sql-in-the-shell", "time"),
    Row("SQL on an open connection: tokens and p95 latency by model, 1 million events", "aggregates", "tokens-json"),
    Row("SQL on an open connection: runs by agent and status, 1 million events", "aggregates", "runs-json"),
)
#: Figures that are no times: shares of the log's bytes, and what a watching indexer needs.
SHARES = (
    Row("size of the index, as a share of the log", "sizes", "index"),
    Row("size of archived segments, as a share of the log", "sizes", "archive"),
)
IDLE = (
    Row("`eventlog index --watch` with nothing to do: processor", "idle", "cpu"),
    Row("`eventlog index --watch` with nothing to do: memory", "idle", "memory"),
)


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the table in Markdown, one line for each row; a figure that was not measured is a dash."""
    by_claim = {(outcome.case, outcome.claim.name): outcome for outcome in outcomes}
    lines = ["| what you do | it takes | memory |", "| --- | ---: | ---: |"]
    lines += [f"| {row.action} | {_time(by_claim.get((row.case, row.claim)))} |" for row in ROWS]
    for row in SHARES:
        value = _value(by_claim.get((row.case, row.claim)))
        lines.append(f"| {row.action} | {'–' if value is None else figure(100 * value, '%')} | |")
    for row in IDLE:
        outcome = by_claim.get((row.case, row.claim))
        value = _value(outcome)
        share = "–" if outcome is None or value is None else figure(value, outcome.claim.unit)
        lines.append(f"| {row.action} | {share} | |")
    return "\n".join(lines)


def _value(outcome: Outcome | None) -> float | None:
    return None if outcome is None else outcome.value


def _time(outcome: Outcome | None) -> str:
    """Return the cells of a time: the median (with its note, such as p99), and the peak memory of the process."""
    if outcome is None or outcome.ours is None:
        return "– | –"
    side = outcome.ours
    note = f" ({side.note})" if side.note else ""
    memory = "" if side.peak_bytes is None else in_words(side.peak_bytes, "B")
    return f"{in_words(side.value, side.unit)}{note} | {memory}"
