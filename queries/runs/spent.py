"""What the calls in a tree cost: the one place where looking at runs asks for prices."""

from __future__ import annotations

from decimal import Decimal

import duckdb


def costs(connection: duckdb.DuckDBPyConnection, column: str, value: str) -> dict[str, Decimal]:
    """Return the cost in USD of each call whose `column` (run_id or session_id) has this value, by its event id.

    A call that is not in it has no price, which is not the same as to cost nothing.
    """
    rows = connection.execute(
        f"SELECT event_id::VARCHAR, reported_cost_usd FROM llm_calls "
        f"WHERE {column} = ? AND reported_cost_usd IS NOT NULL",
        [value],
    ).fetchall()
    return dict(rows)
