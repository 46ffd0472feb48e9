"""What the calls in a tree cost: the one place where looking at runs asks for prices."""

from __future__ import annotations

from decimal import Decimal

import duckdb


def costs(connection: duckdb.DuckDBPyConnection, column: str, value: str) -> dict[str, Decimal]:
    """Return the cost in USD of each call whose `column` (run_id or session_id) has this value, by its event id.

    A call that is not in it has no price, which is not the same as to cost nothing.
    """
    # Prices are loaded for those that have calls: that takes longer than all the rest.
    if not connection.execute(f"SELECT 1 FROM llm_calls WHERE {column} = ? LIMIT 1", [value]).fetchall():
        return {}
    from queries.cost import costs as costing  # noqa: PLC0415

    costing.provide(connection)
    rows = connection.execute(
        f"SELECT event_id::VARCHAR, cost_usd FROM llm_costs WHERE {column} = ? AND cost_usd IS NOT NULL", [value]
    ).fetchall()
    return dict(rows)
