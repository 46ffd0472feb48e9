"""Metrics: runs, calls of models and tools, errors, tokens, cost and latencies per bucket of UTC time.

    runs, llm_costs, tool_calls, events ── one row each per bucket and group ──→ one row per bucket and group

Nothing is stored: every answer is counted from what the index holds now. So asking twice counts
nothing twice, and what came late stands where it belongs; see docs/decisions/0018-metrics-by-query.md.

Each row is in the bucket of one moment, whatever it lasted: a run in that of its start, a call of a model
in that of its `timestamp` (where its cost is, too), a call of a tool in that of its start, an `error`
event in its own. Runs, tools and `error` events have no model: by model, they are in the
rows without one. So each is in exactly one row, and the rows of any grouping add up to the same.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, get_args

import duckdb
import msgspec

from eventlog.errors import QueryFailed
from eventlog.indexer.sql import literal
from eventlog.queries.cost import costs

Bucket = Literal["day", "hour"]
Group = Literal["workspace", "agent", "model"]
BUCKETS: tuple[Bucket, ...] = get_args(Bucket)
GROUPS: tuple[Group, ...] = get_args(Group)

#: More than anybody reads; the query is stopped rather than the memory filled.
ROWS_MAX = 100_000
#: Of errors, so many types are named, the most frequent; the rest is under OTHER.
TYPES_MAX = 100
OTHER, UNKNOWN = "(other)", "(unknown)"
#: Longer than 30 years is a mistake in the log. (NaN compares as greater than all numbers.)
_MS_MAX = 1e12


class Percentiles(msgspec.Struct, frozen=True):
    """Of `values` values: each the smallest that is at least as great as 50, 95 or 99 % of them (nearest rank)."""

    values: int
    p50: float
    p95: float
    p99: float


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one bucket, which begins at `start` (UTC), and of one group in it.

    `workspace`, `agent` and `model` are None for what has none, and where it was not asked by them. Runs are
    `runs_ok`, `_error`, `_cancelled`, `_abandoned` or `_running`, and `success_rate` is ok / (ok + error + abandoned):
    None where there is none of these. The four `…_errors` count failures by their type. `cost_usd` sums up the calls
    that have a price, and is None where none has; `unpriced_calls` are not in it.
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
) -> list[Metrics]:
    """Count per bucket and group, in this order; buckets in which nothing was are left out. Raises QueryFailed.

    Only what is at `since` or later and before `until` counts, also where they cut a bucket. Times without a
    zone are UTC. `now` decides which open runs are abandoned.
    """
    if bucket not in BUCKETS:
        raise QueryFailed(f"unknown bucket {bucket!r}; use {' or '.join(BUCKETS)}")
    unknown = set(by) - set(GROUPS)
    if unknown:
        raise QueryFailed(f"cannot group by {', '.join(sorted(unknown))}; use {', '.join(GROUPS)}")
    costs.provide(connection)
    params = {"since": naive(since), "until": naive(until), "agent": agent, "now": naive(now) or _now()}
    rows = connection.execute(_query(bucket, by), params).fetchall()
    if len(rows) > ROWS_MAX:
        raise QueryFailed(f"there are more than {ROWS_MAX:,} rows; ask since a later time, or by less")
    return [_metrics(row) for row in rows]


def outcome(now: str) -> str:
    """Return SQL for how a row of `runs` stands at a moment, given as SQL: as in `runs.status`, for any clock.

    A word of the producer's own for a run that is over, such as `timeout`, is an error.
    """
    return (
        f"CASE WHEN finished IS NULL AND abandoned_at < {now} THEN 'abandoned' "
        "WHEN finished IS NULL THEN 'running' WHEN status IN ('ok', 'cancelled') THEN status ELSE 'error' END"
    )


def naive(moment: datetime | None) -> datetime | None:
    """Return a time as the index has it: UTC, without a zone."""
    return moment if moment is None or moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


# -- SQL -----------------------------------------------------------------------------------


def _types(failed: str) -> str:
    return f"histogram(coalesce(error_type, {literal(UNKNOWN)})) FILTER ({failed})"


def _percentiles(values: str) -> str:
    """Return SQL for [how many, p50, p95, p99] of what can be a duration; NULL where there is none."""
    sound = f"FILTER ({values} BETWEEN 0 AND {_MS_MAX:.0f})"
    return (
        f"CASE WHEN count(*) {sound} > 0 THEN "
        f"list_prepend(count(*) {sound}, quantile_disc({values}::DOUBLE, [0.5, 0.95, 0.99]) {sound}) END"
    )


_RUNS = {
    "runs": "count(*)",
    **{
        f"runs_{each}": f"count(*) FILTER (outcome = {literal(each)})"
        for each in ("ok", "error", "cancelled", "abandoned", "running")
    },
    "run_errors": _types("outcome = 'error'"),
    "run_duration_ms": _percentiles("duration_ms"),
}
_LLM_CALLS = {
    "llm_calls": "count(*)",
    "llm_failures": "count(*) FILTER (NOT ok)",
    "llm_errors": _types("NOT ok"),
    **{
        f"{each}_tokens": f"TRY_CAST(sum({each}_tokens) AS BIGINT)"
        for each in ("uncached_input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning")
    },
    "cost_usd": "sum(cost_usd)",
    "unpriced_calls": "count(*) FILTER (cost_usd IS NULL)",
    "latency_ms": _percentiles("latency_ms"),
    "ttft_ms": _percentiles("ttft_ms"),
}
_TOOL_CALLS = {
    "tool_calls": "count(*)",
    "tool_failures": "count(*) FILTER (NOT ok)",
    "tool_errors": _types("NOT ok"),
    "tool_duration_ms": _percentiles("duration_ms"),
}
_LOGGED = {"logged_errors": _types("true")}

_NO_MODEL = "NULL::VARCHAR AS model"
#: What is counted: from where, with its moment as `moment`, and which columns.
_PARTS = (
    (
        f"SELECT *, coalesce(started, finished, last_event) AS moment, {_NO_MODEL}, "
        f"{outcome('$now::TIMESTAMP')} AS outcome FROM runs",
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
_COLUMNS = {name: sql for _, columns in _PARTS for name, sql in columns.items()}
_COUNTS = {name for name in _COLUMNS if Metrics.__annotations__[name] == "int"}


def _query(bucket: Bucket, by: Collection[Group]) -> str:
    """Return the query: each part on its own, one below the other, and rows of one bucket and group made one."""
    keys = [f"date_trunc({literal(bucket)}, moment)::TIMESTAMP AS start"]
    keys += [f"{each if each in by else 'NULL::VARCHAR'} AS {each}" for each in GROUPS]
    parts = [
        f"SELECT {', '.join([*keys, *(f'{sql} AS {name}' for name, sql in columns.items())])} FROM ({source}) "
        "WHERE ($since IS NULL OR moment >= $since::TIMESTAMP) AND ($until IS NULL OR moment < $until::TIMESTAMP) "
        "AND ($agent IS NULL OR agent = $agent) GROUP BY ALL"
        for source, columns in _PARTS
    ]
    joined = [
        f"coalesce(any_value({name}), 0) AS {name}" if name in _COUNTS else f"any_value({name}) AS {name}"
        for name in _COLUMNS
    ]
    return (
        f"SELECT start, {', '.join([*GROUPS, *joined])} FROM ({' UNION ALL BY NAME '.join(parts)}) "
        f"GROUP BY ALL ORDER BY start, {', '.join(f'{each} NULLS FIRST' for each in GROUPS)} LIMIT {ROWS_MAX + 1}"
    )


def _metrics(row: tuple[Any, ...]) -> Metrics:
    values = dict(zip(("start", *GROUPS, *_COLUMNS), row, strict=True))
    values["start"] = values["start"].replace(tzinfo=UTC)
    for name, kind in Metrics.__annotations__.items():
        if kind.startswith("Percentiles") and values[name] is not None:
            count, *percentiles = values[name]
            values[name] = Percentiles(int(count), *percentiles)
        elif kind.startswith("dict"):
            values[name] = _most(values[name] or {})
    judged = values["runs_ok"] + values["runs_error"] + values["runs_abandoned"]
    return Metrics(**values, success_rate=values["runs_ok"] / judged if judged else None)


def _most(types: dict[str, int]) -> dict[str, int]:
    """Return the most frequent types first; what is left out is summed up."""
    ordered = sorted(types.items(), key=lambda each: (-each[1], each[0]))
    rest = sum(count for _, count in ordered[TYPES_MAX:])
    return dict(ordered[:TYPES_MAX]) | ({OTHER: rest} if rest else {})
