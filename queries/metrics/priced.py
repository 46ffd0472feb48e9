"""The one place where metrics and health get costs from."""

from __future__ import annotations

import duckdb

_REPORTED_ONLY = "CREATE OR REPLACE TEMP VIEW llm_costs AS SELECT *, reported_cost_usd AS cost_usd FROM llm_calls"


def provide(connection: duckdb.DuckDBPyConnection) -> None:
    """Make `llm_costs` on this connection: `llm_calls` with `cost_usd`, NULL where a call has no price."""
    connection.execute(_REPORTED_ONLY)
