"""Costs summed up: per period and group, with what is unpriced, the running day, and other prices for the same calls.

Sums are made by DuckDB over decimals, so that they are exact in any grouping. Days, weeks (from Monday) and
months are those of UTC, and a call belongs to the one of its timestamp.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any, Literal

import duckdb
import msgspec

from eventlog.errors import QueryFailed
from eventlog.importers import sources
from eventlog.indexer.sql import literal
from eventlog.queries.cost import costs, rates
from eventlog.queries.cost.costs import COSTS, USD, Resolved
from eventlog.queries.cost.rates import Key, Rate

Period = Literal["day", "week", "month"]
By = Literal["model", "agent", "workspace", "session", "project"]

#: Kinds of unpriced calls that a report lists, the most frequent ones.
UNPRICED_MAX = 100

PERIODS: tuple[Period, ...] = ("day", "week", "month")
_COLUMNS: dict[By, str] = {
    "model": "model", "agent": "agent", "workspace": "workspace", "session": "session_id", "project": "project",
}  # fmt: skip
GROUPS = tuple(_COLUMNS)
_IMPORTED = "SELECT 1 FROM events WHERE event_type IN (SELECT unnest(?::VARCHAR[])) LIMIT 1"
_TOKENS = (
    "uncached_input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens",
)  # fmt: skip
_AMOUNTS = (
    "cost_usd", "input_cost_usd", "cache_read_cost_usd", "cache_write_cost_usd", "output_cost_usd",
    "request_cost_usd", "cache_savings_usd",
)  # fmt: skip


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What some calls cost, in USD. `start` (UTC) is None without periods, `group` without groups or of none.

    `cost_usd` sums up what is priced, and is None where nothing is: `unpriced_calls` are never in it. The
    amounts by kind are those of computed calls, without what was reported as one amount.
    `cache_savings_usd` is what the tokens in caches would have cost as plain input, minus what they did cost.
    """

    start: datetime | None = None
    group: str | None = None
    calls: int
    reported_calls: int
    unpriced_calls: int
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
    cache_savings_usd: Decimal | None


class Unpriced(msgspec.Struct, frozen=True, kw_only=True):
    """Calls that have no price, and why. `first` and `last` are UTC."""

    provider: str | None
    model: str | None
    service_tier: str | None
    because: str
    calls: int
    tokens: int
    first: datetime
    last: datetime


class Burn(msgspec.Struct, frozen=True, kw_only=True):
    """What the running UTC day has cost so far, and would cost in the end at the same rate."""

    day: datetime
    calls: int
    unpriced_calls: int
    cost_usd: Decimal
    elapsed_s: float
    usd_per_hour: Decimal
    projected_usd: Decimal


class CostReport(msgspec.Struct, frozen=True, kw_only=True):
    """Rows in order of time, then cost; their total; the running day; what has no price. `notes` warn of the prices."""

    period: Period | None
    by: By | None
    rows: list[Cost]
    total: Cost
    today: Burn
    unpriced: list[Unpriced]
    notes: list[str]


class Repriced(msgspec.Struct, frozen=True, kw_only=True):
    """The same calls at the prices of their own time (`old`) and of another (`new`), in USD.

    `difference_usd` is of the calls that have both prices. What only one side has a price for is apart, so that
    new = old + difference + newly priced − no longer priced, in every row and in the total, which is the sum of rows.
    """

    group: str | None
    calls: int
    old_usd: Decimal | None
    new_usd: Decimal | None
    difference_usd: Decimal | None
    newly_priced_usd: Decimal | None
    no_longer_priced_usd: Decimal | None
    old_unpriced_calls: int
    new_unpriced_calls: int


class Recomputed(msgspec.Struct, frozen=True, kw_only=True):
    """What calls would have cost at the prices of `as_of` (UTC), by group and in total."""

    as_of: datetime
    by: By
    rows: list[Repriced]
    total: Repriced
    notes: list[str]


class PriceInUse(msgspec.Struct, frozen=True):
    """A rate that calls in the index may have; `rate` None says that they have none."""

    workspace: str | None
    provider: str | None
    model: str | None
    service_tier: str | None
    rate: Rate | None


def report(
    connection: duckdb.DuckDBPyConnection,
    *,
    period: Period | None = "day",
    by: By | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    now: datetime | None = None,
) -> CostReport:
    """Sum up the calls from `since` on and before `until`. `now` is for the running day. Raises QueryFailed."""
    if period is not None and period not in PERIODS:
        raise QueryFailed(f"unknown period {period!r}; use one of {', '.join(PERIODS)}")
    group = _column(by)
    moment = _naive(now) or datetime.now(UTC).replace(tzinfo=None)
    today = datetime(moment.year, moment.month, moment.day)
    asked, bounds = _asked(since, until)
    of_today = "timestamp >= $today AND timestamp < $tomorrow"
    calls, resolved = _resolved(connection)
    bucket = "NULL::TIMESTAMP" if period is None else f"date_trunc({literal(period)}, timestamp)::TIMESTAMP"
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE cost_cells AS
        SELECT {bucket} AS start, {group} AS "group", provider, model, service_tier, cost_source, unpriced_because,
               {asked} AS asked, {of_today} AS today,
               count(*) AS calls, {", ".join(f"sum({name}) AS {name}" for name in (*_TOKENS, *_AMOUNTS))},
               min(timestamp) AS first, max(timestamp) AS last
        FROM {costs.priced(connection, resolved, calls=calls)} WHERE asked OR today GROUP BY ALL
        """,
        {**bounds, "today": today, "tomorrow": today + timedelta(days=1)},
    )
    sums: dict[str, list[Cost]] = {"row": [], "total": [], "today": []}
    for which, *sum_ in connection.execute(_ALL_SUMS).fetchall():
        sums[which].append(_cost(tuple(sum_)))
    (total,), (spent,) = (sums[which] or [_cost(_NOTHING)] for which in ("total", "today"))
    unpriced = connection.execute(_UNPRICED).fetchall() if total.unpriced_calls else []
    return CostReport(
        period=period,
        by=by,
        rows=sums["row"],
        total=total,
        today=_burn(spent, today, moment),
        unpriced=[Unpriced(**_values(Unpriced, (*row, _utc(first), _utc(last)))) for *row, first, last in unpriced],
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
    """Price the calls from `since` on and before `until` again: as if all had been made at `as_of`."""
    moment = _naive(as_of) or as_of
    asked, bounds = _asked(since, until)
    calls, resolved = _resolved(connection, numbered=True)
    for side, at in (("old", None), ("new", moment)):
        costs.install(connection, resolved, calls=calls, as_of=at)
        connection.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE cost_calls_{side} AS
            SELECT call_number, {_column(by)} AS "group", cost_usd AS usd FROM {COSTS} WHERE {asked}
            """,
            bounds,
        )
    joined = "cost_calls_old o JOIN cost_calls_new n USING (call_number)"
    sums = ", ".join(
        [
            "count(*)",
            *(
                f"({each})::{USD}"
                for each in (
                    "sum(o.usd)", "sum(n.usd)", "sum(n.usd - o.usd)",
                    "sum(n.usd) FILTER (o.usd IS NULL)", "sum(o.usd) FILTER (n.usd IS NULL)",
                )
            ),
            *(f"count(*) FILTER ({side}.usd IS NULL)" for side in "on"),
        ]
    )  # fmt: skip
    rows = connection.execute(
        f'SELECT o."group", {sums} FROM {joined} GROUP BY 1 ORDER BY sum(n.usd) DESC NULLS LAST, 1 NULLS LAST'
    ).fetchall()
    (total,) = connection.execute(f"SELECT NULL, {sums} FROM {joined}").fetchall()
    return Recomputed(
        as_of=_utc(moment), by=by, rows=[_repriced(row) for row in rows], total=_repriced(total), notes=resolved.notes
    )


def prices_in_use(
    connection: duckdb.DuckDBPyConnection, model: str | None = None
) -> tuple[list[PriceInUse], list[str]]:
    """Return the rates of the calls in the index, of those whose model's name has `model` in it; and notes."""
    resolved = costs.resolve(connection)
    found = []
    for key in sorted(resolved.rates, key=_by_name):
        if model is not None and model.casefold() not in (key.model or "").casefold():
            continue
        known: list[Rate | None] = [*resolved.rates[key]] or [None]
        tier = rates.tier_name(key.service_tier)
        found += [PriceInUse(key.workspace, key.provider, key.model, tier, rate) for rate in known]
    return found, resolved.notes


def _by_name(key: Key) -> tuple[str, ...]:
    return tuple(part or "" for part in (key.model, key.provider, key.service_tier, key.workspace))


_SUMS = ", ".join(
    [
        "coalesce(sum(calls), 0)::BIGINT",
        *(
            f"coalesce(sum(calls) FILTER (cost_source = {literal(each)}), 0)::BIGINT"
            for each in ("reported", "unpriced")
        ),
        *(f"coalesce(sum({name}), 0)::HUGEINT" for name in _TOKENS),
        *(f"sum({name})::{USD}" for name in _AMOUNTS),
    ]
)
# Of all, in one statement: to plan one takes longer than to run it.
_ALL_SUMS = f"""
    SELECT CASE grouping(asked, today, start) WHEN 2 THEN 'row' WHEN 3 THEN 'total' ELSE 'today' END AS which,
           start, "group", {_SUMS}
    FROM cost_cells GROUP BY GROUPING SETS ((asked, start, "group"), (asked), (today))
    HAVING asked OR today ORDER BY start, sum(cost_usd) DESC NULLS LAST, "group" NULLS LAST
"""
_NOTHING: tuple[Any, ...] = (None, None, 0, 0, 0, *[0] * len(_TOKENS), *[None] * len(_AMOUNTS))
_UNPRICED = f"""
    SELECT provider, model, service_tier, unpriced_because, sum(calls)::BIGINT,
           sum({" + ".join(_TOKENS)})::HUGEINT, min(first), max(last)
    FROM cost_cells WHERE asked AND cost_source = 'unpriced' GROUP BY 1, 2, 3, 4
    ORDER BY 5 DESC, 2, 1, 3, 4 LIMIT {UNPRICED_MAX}
"""


def _resolved(connection: duckdb.DuckDBPyConnection, *, numbered: bool = False) -> tuple[str, Resolved]:
    """Return what `llm_costs` is to stand on, and the rates.

    Calls are looked at more than once. Those of imported sessions are put aside first: to find them among
    all the lines takes longest. Recorded ones are faster where they are, unless each is to have a `call_number`.
    """
    calls = costs.CALLS
    if numbered or connection.execute(_IMPORTED, [sources.event_types()]).fetchall():
        calls = "cost_calls"
        columns = ", ".join(dict.fromkeys([*costs.NEEDED, *_COLUMNS.values()]))
        number = "row_number() OVER () AS call_number, " if numbered else ""
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {calls} AS SELECT {number}{columns} FROM {costs.CALLS}")
    return calls, costs.resolve(connection, calls=calls)


def _column(by: By | None) -> str:
    if by is None:
        return "NULL::VARCHAR"
    if by not in _COLUMNS:
        raise QueryFailed(f"costs cannot be grouped by {by!r}; use one of {', '.join(GROUPS)}, or sql() on {COSTS}")
    return _COLUMNS[by]


def _asked(since: datetime | None, until: datetime | None) -> tuple[str, dict[str, Any]]:
    bounds = {name: _naive(moment) for name, moment in (("since", since), ("until", until)) if moment is not None}
    signs = {"since": ">=", "until": "<"}
    return " AND ".join(["true", *(f"timestamp {signs[name]} ${name}" for name in bounds)]), bounds


def _cost(row: tuple[Any, ...]) -> Cost:
    values = _values(Cost, row)
    values["start"] = None if values["start"] is None else _utc(values["start"])
    return Cost(**values)


def _repriced(row: tuple[Any, ...]) -> Repriced:
    return Repriced(**_values(Repriced, row))


def _values(struct: type[msgspec.Struct], row: tuple[Any, ...]) -> dict[str, Any]:
    plain = (_plain(value) if isinstance(value, Decimal) else value for value in row)
    return dict(zip(struct.__struct_fields__, plain, strict=True))


def _burn(spent: Cost, day: datetime, now: datetime) -> Burn:
    elapsed_s = max((now - day).total_seconds(), 1.0)
    cost = spent.cost_usd or Decimal(0)
    with localcontext(prec=50):
        per_second = cost / Decimal(str(elapsed_s))
        micros = Decimal("0.000001")
        return Burn(
            day=_utc(day),
            calls=spent.calls,
            unpriced_calls=spent.unpriced_calls,
            cost_usd=cost,
            elapsed_s=elapsed_s,
            usd_per_hour=_plain((per_second * 3600).quantize(micros)),
            projected_usd=_plain((per_second * 86_400).quantize(micros)),
        )


def _plain(amount: Decimal) -> Decimal:
    """Return the same amount without the zeros behind it, and never as a power of ten."""
    text = format(amount, "f")
    return Decimal(text.rstrip("0").rstrip(".") if "." in text else text)


def _naive(moment: datetime | None) -> datetime | None:
    if moment is None or moment.tzinfo is None:
        return moment
    return moment.astimezone(UTC).replace(tzinfo=None)


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)
