"""What calls cost in runs, sessions and requests; the only module of this room that asks for prices."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal, localcontext
from typing import Any, NamedTuple, Self, TypeVar

import duckdb
import msgspec

from eventlog.queries.identity import Column, Scope
from eventlog.queries.rows import plain

S = TypeVar("S", bound=msgspec.Struct)

#: A sum of costs has 38 at most; the default of 28 would round sums from 10 billion USD on.
_DIGITS = 50
_HAS_CALLS = "SELECT 1 FROM llm_calls WHERE {scope} LIMIT 1"
_COSTS = "SELECT event_id::VARCHAR, cost_usd FROM llm_costs WHERE {scope} AND cost_usd IS NOT NULL"
#: Calls are read three times, and those of imported sessions are parsed out of their lines each time.
_COPY_CALLS = """
    CREATE OR REPLACE TEMP TABLE calls_of_list AS
    SELECT {selected} FROM llm_calls WHERE {column} IN (SELECT unnest($ids::VARCHAR[]))
"""
_SUMS = """
    SELECT {column}, workspace, sum(cost_usd), count(*) FILTER (cost_usd IS NULL) FROM {costs} GROUP BY ALL
"""


class Sum(NamedTuple):
    """The cost of some calls in USD, None where none has a price; and how many have none."""

    cost_usd: Decimal | None
    unpriced: int

    @classmethod
    def of(cls, cost_usd: Decimal | None, unpriced: int) -> Self:
        """Return what a query has summed up, without the zeros of its decimals."""
        return cls(None if cost_usd is None else plain(cost_usd), unpriced)


#: The sums of runs, sessions or requests, by id and workspace.
Sums = Mapping[tuple[str, str | None], Sum]


def read_costs(connection: duckdb.DuckDBPyConnection, scope: Scope) -> dict[str, Decimal]:
    """Return the cost in USD of each model call by event id, such as `{"01a1…": Decimal("0.0034")}`.

    A call without a price is missing: it is not free.
    """
    # Loading the prices takes longer than all the rest, so it is done only where there are calls.
    if not connection.execute(scope.within(_HAS_CALLS), scope.params).fetchall():
        return {}
    from eventlog.queries.cost import costs  # noqa: PLC0415

    costs.provide(connection)
    return dict(connection.execute(scope.within(_COSTS), scope.params).fetchall())


def sums(connection: duckdb.DuckDBPyConnection, column: Column, ids: Collection[str]) -> Sums:
    """Return what the calls of each run or session cost, by id and workspace; those without calls are missing."""
    if not ids:
        return {}
    from eventlog.queries.cost import costs  # noqa: PLC0415 - loading the prices takes longer than most lists

    selected = ", ".join(dict.fromkeys([column, *costs.NEEDED_FOR_AMOUNTS]))
    connection.execute(_COPY_CALLS.format(selected=selected, column=column), {"ids": [*ids]})
    resolved = costs.resolve(connection, calls="calls_of_list")
    statement = _SUMS.format(column=column, costs=costs.subquery(connection, resolved, calls="calls_of_list"))
    return {(id_, workspace): Sum.of(*found) for id_, workspace, *found in connection.execute(statement).fetchall()}


def with_sum(row: S, cost: Sum | None) -> S:
    """Return a run, a session or a request with its `cost_usd` and the number of its `unpriced` calls."""
    changes: dict[str, Any] = {} if cost is None else cost._asdict()
    return msgspec.structs.replace(row, **changes)


def total(costs: Iterable[Decimal | None]) -> Decimal | None:
    """Return the exact sum of costs in USD, as `cost` and `metrics` have it; None where no call has one."""
    known = [cost for cost in costs if cost is not None]
    with localcontext(prec=_DIGITS):
        return sum(known, Decimal(0)) if known else None
