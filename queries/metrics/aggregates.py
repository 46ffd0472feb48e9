"""Metrics: runs, model and tool calls, errors, tokens, cost and latencies per hour or day.

    runs, llm_costs, tool_calls, events ── one row each per bucket and group ──→ one row per bucket and group

Nothing is stored: every answer is computed from the index as it is now, so late events are in the right bucket,
and nothing is counted twice; see docs/decisions/0018-metrics-by-query.md.

Everything is counted in the bucket of one moment, however long it took: a run in that of its start, a model call in
that of its `timestamp` (as its cost is), a tool call in that of its start, an `error` event in that of its
`timestamp`. Runs, tool calls and `error` events have no model: grouped by model, they are in the rows without one.
So everything is in exactly one row, and the rows of any grouping add up to the same totals.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Any, Literal, get_args

import duckdb
import msgspec

from eventlog.errors import QueryFailed
from eventlog.format.timestamps import MS_MAX, naive_utc
from eventlog.indexer.sql import literal
from eventlog.indexer.views import definitions
from eventlog.indexer.views.definitions import FAILED, NOBODY_IS_GONE
from eventlog.queries import zones
from eventlog.queries.cost import costs
from eventlog.queries.identity import names
from eventlog.queries.rows import rows_as_dicts
from eventlog.queries.runs import owners

Bucket = Literal["day", "hour"]
Group = Literal["workspace", "agent", "model"]
BUCKETS: tuple[Bucket, ...] = get_args(Bucket)
GROUPS: tuple[Group, ...] = get_args(Group)

#: Of one answer.
ROWS_MAX = 100_000
#: The most frequent error types are named; the others are summed up under OTHER.
TYPES_MAX = 100
OTHER, UNKNOWN = "(other)", "(unknown)"


class Percentiles(msgspec.Struct, frozen=True):
    """Percentiles by nearest rank, in the unit of the values: of 100 latencies, p95 is the 95th smallest.

    `values` is the number of values.
    """

    values: int
    p50: float
    p95: float
    p99: float


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """The metrics of one group in the bucket that begins at `start`.

    `workspace`, `agent` and `model` are None if the events have none, or if the metrics are not grouped by them. Each
    run is in one of `runs_ok`, `_error`, `_cancelled`, `_abandoned` and `_running`; `success_rate` is
    ok / (ok + error + abandoned), 0 to 1, None if there are none of these. The four `…_errors` count failures by type:
    `{"TimeoutError": 3}`. `cost_usd` is the sum over the calls that have a price, None if none has;
    `unpriced_calls` are not in it. The output tokens of `cut_short_calls` are far too few for what they wrote, and so
    is their part of the cost.
    """

    start: datetime
    workspace: str | None
    agent: str | None
    model: str | None
    runs: int
    runs_ok: int
    runs_error: int
    runs_cancelled: int
    runs_abandoned: int
    runs_running: int
    success_rate: float | None
    run_errors: dict[str, int]
    run_duration_ms: Percentiles | None
    llm_calls: int
    llm_failures: int
    llm_errors: dict[str, int]
    uncached_input_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: Decimal | None
    unpriced_calls: int
    cut_short_calls: int
    latency_ms: Percentiles | None
    ttft_ms: Percentiles | None
    tool_calls: int
    tool_failures: int
    tool_errors: dict[str, int]
    tool_duration_ms: Percentiles | None
    logged_errors: dict[str, int]


def metrics(
    connection: duckdb.DuckDBPyConnection,
    bucket: Bucket = "day",
    by: Collection[Group] = (),
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    agent: str | None = None,
    now: datetime | None = None,
    zone: tzinfo | None = UTC,
) -> list[Metrics]:
    """Return metrics per bucket and group, sorted by both; empty buckets are left out.

    Days and hours are those of `zone`; None is that of this machine.

    Counted is what happened at `since` or later and before `until`, also if these are inside a bucket. Times without a
    zone are UTC. Open runs are abandoned or not as of `now`: at the present, also if their process is gone. Raises
    QueryFailed for an unknown bucket or group, and for more than ROWS_MAX rows.
    """
    if bucket not in BUCKETS:
        raise QueryFailed(f"unknown bucket {bucket!r}; use {' or '.join(BUCKETS)}")
    groups = set(names(by))
    unknown = groups - set(GROUPS)
    if unknown:
        raise QueryFailed(f"cannot group by {', '.join(sorted(unknown))}; use {', '.join(GROUPS)}")
    costs.provide(connection)
    params = {
        "since": since and naive_utc(since),
        "until": until and naive_utc(until),
        "agent": agent,
        "now": naive_utc(now or datetime.now(UTC)),
        "limit": ROWS_MAX + 1,
    } | {f"by_{group}": group in groups for group in GROUPS}
    gone = owners.gone(connection) if now is None else NOBODY_IS_GONE
    start = zones.bucket(bucket, "moment", zone)
    rows = rows_as_dicts(connection.execute(_METRICS.replace("{gone}", gone).replace("{start}", start), params))
    if len(rows) > ROWS_MAX:
        raise QueryFailed(f"there are more than {ROWS_MAX:,} rows; narrow it by a later `since`, or by fewer groups")
    return [_metrics(row | {"start": zones.started(bucket, row["start"], zone)}) for row in rows]


# -- SQL -----------------------------------------------------------------------------------


def _types(failed: str) -> str:
    return f"histogram(coalesce(error_type, {literal(UNKNOWN)})) FILTER ({failed})"


def _percentiles(values: str) -> str:
    """Return SQL for [number of values, p50, p95, p99] of the possible durations; NULL if there are none."""
    valid = f"FILTER ({values} BETWEEN 0 AND {MS_MAX:.0f})"  # NaN compares as greater than all numbers
    return (
        f"CASE WHEN count(*) {valid} > 0 THEN "
        f"list_prepend(count(*) {valid}, quantile_disc({values}::DOUBLE, [0.5, 0.95, 0.99]) {valid}) END"
    )


_RUNS = {
    "runs": "count(*)",
    **{f"runs_{status}": f"count(*) FILTER (outcome = {literal(status)})" for status in get_args(definitions.Outcome)},
    "run_errors": _types("outcome = 'error'"),
    "run_duration_ms": _percentiles("duration_ms"),
}
_LLM_CALLS = {
    "llm_calls": "count(*)",
    "llm_failures": f"count(*) FILTER ({FAILED})",
    "llm_errors": _types(FAILED),
    **{
        f"{kind}_tokens": f"sum({kind}_tokens)"  # a HUGEINT
        for kind in ("uncached_input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning")
    },
    "cost_usd": "sum(cost_usd)",
    "unpriced_calls": "count(*) FILTER (cost_usd IS NULL)",
    "cut_short_calls": "count(*) FILTER (cut_short)",
    "latency_ms": _percentiles("latency_ms"),
    "ttft_ms": _percentiles("ttft_ms"),
}
_TOOL_CALLS = {
    "tool_calls": "count(*)",
    "tool_failures": f"count(*) FILTER ({FAILED})",
    "tool_errors": _types(FAILED),
    "tool_duration_ms": _percentiles("duration_ms"),
}
_LOGGED = {"logged_errors": _types("true")}

_NO_MODEL = "NULL::VARCHAR AS model"
#: Sources, with the moment of each row as `moment`, and the columns that are computed from them.
_SOURCES = (
    (
        f"SELECT * REPLACE ({definitions.outcome('$now::TIMESTAMP', '{gone}')} AS outcome), "
        f"coalesce(started, finished, last_event) AS moment, {_NO_MODEL} FROM runs",
        _RUNS,
    ),
    ("SELECT *, timestamp AS moment FROM llm_costs", _LLM_CALLS),
    (f"SELECT *, timestamp AS moment, {_NO_MODEL} FROM tool_calls", _TOOL_CALLS),
    (
        f"SELECT workspace, agent, timestamp AS moment, {_NO_MODEL}, payload ->> 'error_type' AS error_type"
        " FROM events WHERE event_type = 'error'",
        _LOGGED,
    ),
)
_COLUMNS = {name: sql for _, columns in _SOURCES for name, sql in columns.items()}
_COUNTS = {name for name in _COLUMNS if Metrics.__annotations__[name] == "int"}


_KEYS = [
    "{start} AS start",
    *(f"CASE WHEN $by_{group}::BOOLEAN THEN {group} END AS {group}" for group in GROUPS),
]
_PER_SOURCE = [
    f"""
        SELECT {", ".join([*_KEYS, *(f"{sql} AS {name}" for name, sql in columns.items())])} FROM ({source})
        WHERE ($since::TIMESTAMP IS NULL OR moment >= $since::TIMESTAMP)
          AND ($until::TIMESTAMP IS NULL OR moment < $until::TIMESTAMP)
          AND ($agent::VARCHAR IS NULL OR agent = $agent)
        GROUP BY ALL
    """
    for source, columns in _SOURCES
]


def _joined(name: str) -> str:
    """Return SQL for a column of the whole row; a row of one bucket and group has it from one source."""
    return f"coalesce(any_value({name}), 0) AS {name}" if name in _COUNTS else f"any_value({name}) AS {name}"


_METRICS = f"""
    SELECT start, {", ".join([*GROUPS, *map(_joined, _COLUMNS)])}
    FROM ({" UNION ALL BY NAME ".join(_PER_SOURCE)})
    GROUP BY ALL ORDER BY start, {", ".join(f"{group} NULLS FIRST" for group in GROUPS)} LIMIT $limit
"""


def _metrics(row: dict[str, Any]) -> Metrics:
    for name, kind in Metrics.__annotations__.items():
        if kind.startswith("Percentiles") and row[name] is not None:
            count, *percentiles = row[name]
            row[name] = Percentiles(int(count), *percentiles)
        elif kind.startswith("dict"):
            row[name] = _most_frequent(row[name] or {})
    judged = row["runs_ok"] + row["runs_error"] + row["runs_abandoned"]
    return Metrics(**row, success_rate=row["runs_ok"] / judged if judged else None)


def _most_frequent(types: dict[str, int]) -> dict[str, int]:
    """Return the most frequent types first; the rest is summed up under OTHER."""
    ordered = sorted(types.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in ordered[TYPES_MAX:])
    return dict(ordered[:TYPES_MAX]) | ({OTHER: rest} if rest else {})
