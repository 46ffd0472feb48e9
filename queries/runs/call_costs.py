"""What the calls in a tree cost: the one place where looking at runs asks for prices."""

from __future__ import annotations

from decimal import Decimal

import duckdb

from eventlog.queries.identity import Named


def costs(connection: duckdb.DuckDBPyConnection, which: Named) -> dict[str, Decimal]:
    """Return the cost in USD of each call of a run or a session, by its event id.

    A call that is not in it has no price, which is not the same as to cost nothing.
    """
    # Prices are loaded for those that have calls: that takes longer than all the rest.
    if not connection.execute(f"SELECT 1 FROM llm_calls WHERE {which.condition} LIMIT 1", which.params).fetchall():
        return {}
    from eventlog.queries.cost import costs as costing  # noqa: PLC0415

    costing.provide(connection)
    rows = connection.execute(
        f"SELECT event_id::VARCHAR, cost_usd FROM llm_costs WHERE {which.condition} AND cost_usd IS NOT NULL",
        which.params,
    ).fetchall()
    return dict(rows)
