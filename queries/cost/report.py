"""Cost reports: sums per period and group, unpriced calls, the running day, and the same calls at other prices.

DuckDB sums up decimals, so sums are exact in any grouping. Days, weeks (from Monday) and months are those of a time
zone, UTC unless another one is asked for; a call belongs to the one of its timestamp.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from decimal import Decimal, localcontext
from typing import Any, Literal

import duckdb
import msgspec

from eventlog.errors import QueryFailed
from eventlog.format.timestamps import naive_utc, utc
from eventlog.indexer.sql import literal, literals
from eventlog.queries import zones
from eventlog.queries.cost import costs, rates
from eventlog.queries.cost.costs import COSTS, USD
from eventlog.queries.cost.rates import Key, Rate
from eventlog.queries.rows import plain, rows_as, rows_as_dicts

Period = Literal["day", "week", "month"]
By = Literal[
    "model", "agent", "workspace", "session", "project", "branch", "subagent", "server", "source", "run", "provider"
]

#: A report lists the most frequent kinds of unpriced calls.
UNPRICED_MAX = 100

PERIODS: tuple[Period, ...] = ("day", "week", "month")
_COLUMNS: dict[By, str] = {
    "model": "model", "agent": "agent", "workspace": "workspace", "session": "session_id", "project": "project",
    "branch": "branch", "subagent": "subagent_id", "server": "server", "source": "source", "run": "run_id",
    "provider": "provider",
}  # fmt: skip
GROUPS = tuple(_COLUMNS)
#: Ids of these are unique in their workspace only.
_UNIQUE_WITHIN: tuple[By, ...] = ("session", "run", "subagent")
#: What groups are called, besides their ids.
_NAMES: dict[By, str] = {
    "session": "SELECT session_id, workspace, title FROM sessions WHERE session_id IN (SELECT unnest($ids::VARCHAR[]))",
    "run": "SELECT run_id, workspace, name FROM runs WHERE run_id IN (SELECT unnest($ids::VARCHAR[]))",
}
#: The views that a report reads besides those of calls.
VIEWS: dict[By, tuple[str, ...]] = {"session": ("sessions",), "run": ("runs",), "server": ("tool_calls",)}
_TOKENS = (
    "uncached_input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens",
)  # fmt: skip
_COUNTS = (*_TOKENS, "web_searches")
_AMOUNTS = (
    "cost_usd", "input_cost_usd", "cache_read_cost_usd", "cache_write_cost_usd", "output_cost_usd",
    "request_cost_usd", "web_search_cost_usd", "cache_savings_usd", "cut_short_cost_usd",
)  # fmt: skip


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of some calls, in USD. `start` is None without periods; `group` is None without groups.

    `cost_usd` is the sum over the calls that have a price, None if none has; `unpriced_calls` are not in it. The
    amounts by kind, such as `input_cost_usd`, are of calls whose cost was computed, not reported as one amount.
    `cache_savings_usd` is what the cached tokens would have cost as plain input, minus what they did cost. Of the
    `cut_short_calls` the output tokens that are counted are far too few for what was written: `cut_short_cost_usd` is
    about what the missing ones cost, and in no sum; None if none of these calls has a computed cost.
    `group_workspace` is the workspace of a session, run or subagent, whose ids are unique only there; `group_name` is
    the title of a session, the name of a run.
    """

    start: datetime | None = None
    group: str | None = None
    group_workspace: str | None = None
    group_name: str | None = None
    calls: int
    reported_calls: int
    unpriced_calls: int
    cut_short_calls: int
    web_searches: int
    uncached_input_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    output_tokens: int
    cost_usd: Decimal | None
    input_cost_usd: Decimal | None
    cache_read_cost_usd: Decimal | None
    cache_write_cost_usd: Decimal | None
    output_cost_usd: Decimal | None
    request_cost_usd: Decimal | None
    web_search_cost_usd: Decimal | None
    cache_savings_usd: Decimal | None
    cut_short_cost_usd: Decimal | None


class Unpriced(msgspec.Struct, frozen=True, kw_only=True):
    """Calls without a price, and the reason, such as "no price is known". `first` and `last` are UTC.

    `inference_geo` is given where it may change a price. `can_be_set` says that a `price_set` event would do.
    """

    provider: str | None
    model: str | None
    service_tier: str | None
    inference_geo: str | None = None
    because: str
    can_be_set: bool
    web_searches: int = 0
    calls: int
    tokens: int
    first: datetime
    last: datetime


class Burn(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of the running day or month so far, and projected to its end at the same rate. `day` is its start.

    A call that is dated later, by a clock that ran ahead, is not in it. `elapsed_s` and the rate are those of the last
    full minute, one at least.
    """

    day: datetime
    calls: int
    unpriced_calls: int
    cost_usd: Decimal
    elapsed_s: float
    usd_per_hour: Decimal
    projected_usd: Decimal


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What may be spent per day or month, what was, and what will have been at its end at the same rate, in USD.

    `unpriced_calls` are not in it.
    """

    per: Literal["day", "month"]
    limit_usd: Decimal
    spent_usd: Decimal
    projected_usd: Decimal
    unpriced_calls: int


class CostReport(msgspec.Struct, frozen=True, kw_only=True):
    """Rows sorted by start, then by cost; their total; the running day and month; unpriced calls; budgets.

    `notes` are warnings.
    """

    period: Period | None
    by: By | None
    rows: list[Cost]
    total: Cost
    today: Burn
    month: Burn
    unpriced: list[Unpriced]
    notes: list[str]
    budgets: list[Budget] = []


class Repriced(msgspec.Struct, frozen=True, kw_only=True):
    """The same calls at the prices of their own time (`old`) and of another time (`new`), in USD.

    `difference_usd` is that of the calls with both prices; calls with only one of them are counted separately, so that
    new = old + difference + newly priced − no longer priced, in each row and in the total.
    """

    group: str | None
    group_workspace: str | None
    calls: int
    old_usd: Decimal | None
    new_usd: Decimal | None
    difference_usd: Decimal | None
    newly_priced_usd: Decimal | None
    no_longer_priced_usd: Decimal | None
    old_unpriced_calls: int
    new_unpriced_calls: int


class Recomputed(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of calls at the prices of `as_of` (UTC), per group and in total."""

    as_of: datetime
    by: By
    rows: list[Repriced]
    total: Repriced
    notes: list[str]


class PriceInUse(msgspec.Struct, frozen=True):
    """A rate of calls in the index; `rate` is None if these calls have no price."""

    workspace: str | None
    provider: str | None
    model: str | None
    service_tier: str | None
    inference_geo: str | None
    rate: Rate | None


def report(
    connection: duckdb.DuckDBPyConnection,
    *,
    period: Period | None = "day",
    by: By | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    now: datetime | None = None,
    zone: tzinfo | None = UTC,
) -> CostReport:
    """Sum up the cost of the calls from `since`, included, to `until`, excluded.

    `now` is the time that the running day is computed for. Days are those of `zone`; None is that of this machine.
    Raises QueryFailed for an unknown period or group.
    """
    if period is not None and period not in PERIODS:
        raise QueryFailed(f"unknown period {period!r}; use one of {', '.join(PERIODS)}")
    _check_group(by)
    moment = naive_utc(now or datetime.now(UTC))
    today, month = zones.day_of(moment, zone), zones.month_of(moment, zone)
    calls, resolved = costs.copied(connection, _columns(by), servers=by == "server")
    connection.execute(
        _CREATE_CELLS.format(
            **_grouped(by),
            start="NULL::TIMESTAMP" if period is None else zones.bucket(period, "timestamp", zone),
            costs=costs.subquery(connection, resolved, calls=calls),
        ),
        {
            **_bounds(since, until),
            "today": naive_utc(today[0]),
            "month": naive_utc(month[0]),
            "now": moment,
        },
    )
    sums: dict[str, list[Cost]] = {"row": [], "total": [], "today": [], "month": []}
    for row in rows_as_dicts(connection.execute(_SUMS)):
        start = None if period is None or row["start"] is None else zones.started(period, row["start"], zone)
        sums[row.pop("grouping")].append(Cost(**_plain_values(row) | {"start": start}))
    (total,), (of_day,), (of_month,) = (sums[grouping] or [_NO_CALLS] for grouping in ("total", "today", "month"))
    return CostReport(
        period=period,
        by=by,
        rows=_named(connection, by, sums["row"]),
        total=total,
        today=_burn(of_day, today, utc(moment)),
        month=_burn(of_month, month, utc(moment)),
        unpriced=rows_as(Unpriced, connection.execute(_UNPRICED)) if total.unpriced_calls else [],
        notes=resolved.notes,
    )


def recompute(
    connection: duckdb.DuckDBPyConnection,
    as_of: datetime,
    *,
    by: By = "model",
    since: datetime | None = None,
    until: datetime | None = None,
) -> Recomputed:
    """Price the calls from `since`, included, to `until`, excluded, as if all had been made at `as_of`.

    Raises QueryFailed for an unknown group.
    """
    _check_group(by)
    moment = naive_utc(as_of)
    calls, resolved = costs.copied(connection, _columns(by), numbered=True, servers=by == "server")
    for side, at in (("old", None), ("new", moment)):
        costs.install(connection, resolved, calls=calls, as_of=at)
        connection.execute(_CREATE_SIDE.format(side=side, **_grouped(by)), _bounds(since, until))
    rows = [Repriced(**_plain_values(row)) for row in rows_as_dicts(connection.execute(_REPRICED))]
    (total,) = rows_as_dicts(connection.execute(_REPRICED_TOTAL))
    return Recomputed(as_of=utc(moment), by=by, rows=rows, total=Repriced(**_plain_values(total)), notes=resolved.notes)


def prices_in_use(
    connection: duckdb.DuckDBPyConnection, model: str | None = None
) -> tuple[list[PriceInUse], list[str]]:
    """Return the rates of the calls in the index, and notes; with `model`, of the models with that in their names."""
    resolved = costs.resolve(connection)
    prices: list[PriceInUse] = []
    for key in sorted(resolved.rates, key=_by_name):
        if model is not None and model.casefold() not in (key.model or "").casefold():
            continue
        key_rates: list[Rate | None] = [*resolved.rates[key]] or [None]
        tier = rates.tier_name(key.service_tier)
        prices += [
            PriceInUse(key.workspace, key.provider, key.model, tier, key.inference_geo, rate) for rate in key_rates
        ]
    return prices, resolved.notes


def _by_name(key: Key) -> tuple[str, ...]:
    return tuple(part or "" for part in (key.model, key.provider, key.service_tier, key.inference_geo, key.workspace))


# -- SQL -----------------------------------------------------------------------------------


def _columns(by: By | None) -> list[str]:
    """Return the columns of calls that a group needs."""
    return [] if by in (None, "server") else [_COLUMNS[by]]


def _grouped(by: By | None) -> dict[str, str]:
    """Return SQL for the group of a call, and for the workspace of the group."""
    group = "NULL::VARCHAR" if by is None else _COLUMNS[by]
    return {"group": group, "group_workspace": "workspace" if by in _UNIQUE_WITHIN else "NULL::VARCHAR"}


def _named(connection: duckdb.DuckDBPyConnection, by: By | None, rows: list[Cost]) -> list[Cost]:
    """Return rows with what their groups are called."""
    ids = list(dict.fromkeys(row.group for row in rows if row.group is not None))
    if by not in _NAMES or not ids:
        return rows
    found = connection.execute(_NAMES[by], {"ids": ids}).fetchall()
    names = {(id_, workspace): name for id_, workspace, name in found}
    return [msgspec.structs.replace(row, group_name=names.get((row.group, row.group_workspace))) for row in rows]


_IN_TIME = """
    ($since::TIMESTAMP IS NULL OR timestamp >= $since::TIMESTAMP)
    AND ($until::TIMESTAMP IS NULL OR timestamp < $until::TIMESTAMP)
"""
_CREATE_CELLS = f"""
    CREATE OR REPLACE TEMP TABLE cost_cells AS
    SELECT {{start}} AS start,
           {{group}} AS "group", {{group_workspace}} AS group_workspace, provider, model, service_tier,
           {costs.GEO} AS inference_geo, cost_source, unpriced_because,
           {_IN_TIME} AS asked, timestamp >= $today::TIMESTAMP AND timestamp <= $now::TIMESTAMP AS today,
           timestamp >= $month::TIMESTAMP AND timestamp <= $now::TIMESTAMP AS month,
           count(*) AS calls, count(*) FILTER (cut_short) AS cut_short_calls,
           {", ".join(f"sum({name}) AS {name}" for name in (*_COUNTS, *_AMOUNTS))},
           min(timestamp) AS first, max(timestamp) AS last
    FROM {{costs}} WHERE asked OR month GROUP BY ALL
"""


def _calls_from(source: str) -> str:
    return f"coalesce(sum(cost_cells.calls) FILTER (cost_source = {literal(source)}), 0)::BIGINT AS {source}_calls"


#: The rows, the total, the running day and month in one statement: planning it takes longer than running it.
_SUMS = f"""
    SELECT CASE grouping(asked, today, month, start) WHEN 6 THEN 'row' WHEN 7 THEN 'total' WHEN 11 THEN 'today'
                ELSE 'month' END AS grouping,
           start, "group", group_workspace, coalesce(sum(cost_cells.calls), 0)::BIGINT AS calls,
           {_calls_from("reported")}, {_calls_from("unpriced")},
           coalesce(sum(cost_cells.cut_short_calls), 0)::BIGINT AS cut_short_calls,
           {", ".join(f"coalesce(sum(cost_cells.{name}), 0)::HUGEINT AS {name}" for name in _COUNTS)},
           {", ".join(f"sum(cost_cells.{name})::{USD} AS {name}" for name in _AMOUNTS)}
    FROM cost_cells GROUP BY GROUPING SETS ((asked, start, "group", group_workspace), (asked), (today), (month))
    HAVING asked OR today OR month
    ORDER BY start, sum(cost_cells.cost_usd) DESC NULLS LAST, "group" NULLS LAST, group_workspace NULLS FIRST
"""
_NO_CALLS = msgspec.convert(
    dict.fromkeys(("calls", "reported_calls", "unpriced_calls", "cut_short_calls", *_COUNTS), 0)
    | dict.fromkeys(_AMOUNTS),
    Cost,
)
_UNPRICED = f"""
    SELECT provider, model, service_tier, inference_geo, unpriced_because AS because,
           because IN ({literals(costs.MENDED_BY_A_PRICE)}) AS can_be_set, sum(cost_cells.calls)::BIGINT AS calls,
           sum({" + ".join(_TOKENS)})::HUGEINT AS tokens, coalesce(sum(cost_cells.web_searches), 0)::HUGEINT
               AS web_searches,
           min(cost_cells.first) AS first, max(cost_cells.last) AS last
    FROM cost_cells WHERE asked AND cost_source = 'unpriced'
    GROUP BY provider, model, service_tier, inference_geo, unpriced_because
    ORDER BY calls DESC, model, provider, service_tier, inference_geo, because LIMIT {UNPRICED_MAX}
"""
_CREATE_SIDE = f"""
    CREATE OR REPLACE TEMP TABLE cost_calls_{{side}} AS
    SELECT call_number, {{group}} AS "group", {{group_workspace}} AS group_workspace, cost_usd AS usd
    FROM {COSTS} WHERE {_IN_TIME}
"""
_REPRICED_SUMS = f"""
    count(*) AS calls, sum(o.usd)::{USD} AS old_usd, sum(n.usd)::{USD} AS new_usd,
    sum(n.usd - o.usd)::{USD} AS difference_usd,
    (sum(n.usd) FILTER (o.usd IS NULL))::{USD} AS newly_priced_usd,
    (sum(o.usd) FILTER (n.usd IS NULL))::{USD} AS no_longer_priced_usd,
    count(*) FILTER (o.usd IS NULL) AS old_unpriced_calls, count(*) FILTER (n.usd IS NULL) AS new_unpriced_calls
"""
_SIDES = "cost_calls_old o JOIN cost_calls_new n USING (call_number)"
_REPRICED = f"""
    SELECT o."group" AS "group", o.group_workspace AS group_workspace, {_REPRICED_SUMS} FROM {_SIDES}
    GROUP BY 1, 2 ORDER BY sum(n.usd) DESC NULLS LAST, 1 NULLS LAST, 2 NULLS FIRST
"""
_REPRICED_TOTAL = f'SELECT NULL AS "group", NULL AS group_workspace, {_REPRICED_SUMS} FROM {_SIDES}'


def _check_group(by: By | None) -> None:
    if by is not None and by not in _COLUMNS:
        raise QueryFailed(f"costs cannot be grouped by {by!r}; use one of {', '.join(GROUPS)}, or sql() on {COSTS}")


def _bounds(since: datetime | None, until: datetime | None) -> dict[str, Any]:
    return {"since": since and naive_utc(since), "until": until and naive_utc(until)}


def _plain_values(row: dict[str, Any]) -> dict[str, Any]:
    return {name: plain(value) if isinstance(value, Decimal) else value for name, value in row.items()}


def _burn(spent: Cost, period: tuple[datetime, datetime], now: datetime) -> Burn:
    start, end = period
    elapsed_s = max((now - start).total_seconds() // 60 * 60, 60.0)
    whole_s = (end.astimezone(UTC) - start.astimezone(UTC)).total_seconds()  # where clocks change, not 24 hours
    cost = spent.cost_usd or Decimal(0)
    usd_per_hour, projected_usd = burned(cost, elapsed_s, whole_s)
    return Burn(
        day=start,
        calls=spent.calls,
        unpriced_calls=spent.unpriced_calls,
        cost_usd=cost,
        elapsed_s=elapsed_s,
        usd_per_hour=usd_per_hour,
        projected_usd=projected_usd,
    )


def burned(cost: Decimal, elapsed_s: float, whole_s: float) -> tuple[Decimal, Decimal]:
    """Return the cost of an hour at the rate of the seconds so far, and of all seconds; to the millionth of a USD."""
    with localcontext(prec=50):
        per_second = cost / Decimal(str(elapsed_s))
        micros = Decimal("0.000001")
        return (
            plain((per_second * 3600).quantize(micros)),
            plain((per_second * Decimal(str(whole_s))).quantize(micros)),
        )
