"""`llm_costs` and `llm_rates` for SQL that users write: made on the connection of a query that mentions them."""

from __future__ import annotations

import duckdb

from eventlog.queries.access.reader import OnDemand


def _provide(connection: duckdb.DuckDBPyConnection) -> None:
    from eventlog.queries.cost import costs  # noqa: PLC0415 - most queries are not about costs

    costs.provide(connection)


TABLES: OnDemand = dict.fromkeys(("llm_costs", "llm_rates"), _provide)
