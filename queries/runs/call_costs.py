"""The cost of each call in a run or a session; the only module of this room that asks for prices."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, localcontext

import duckdb

from eventlog.queries.identity import Scope

#: A sum of costs has 38 at most; the default of 28 would round sums from 10 billion USD on.
_DIGITS = 50
_HAS_CALLS = "SELECT 1 FROM llm_calls WHERE {scope} LIMIT 1"
_COSTS = "SELECT event_id::VARCHAR, cost_usd FROM llm_costs WHERE {scope} AND cost_usd IS NOT NULL"


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


def total(costs: Iterable[Decimal | None]) -> Decimal | None:
    """Return the exact sum of costs in USD, as `cost` and `metrics` have it; None where no call has one."""
    known = [cost for cost in costs if cost is not None]
    with localcontext(prec=_DIGITS):
        return sum(known, Decimal(0)) if known else None
