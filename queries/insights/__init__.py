"""Loops and waste: what a run, or a session, did more often than it had to."""

from __future__ import annotations

import duckdb

from queries.insights import calls, findings
from queries.insights.findings import Insights
from queries.runs import found


def of(connection: duckdb.DuckDBPyConnection, given: str) -> Insights:
    """Look at a run, or else at a session, that is called so or whose id alone begins so. Raises QueryFailed."""
    run_id = found.run_named(connection, given)
    if run_id is not None:
        return findings.insights(calls.of(connection, "run_id", run_id), run_id=run_id)
    session_id = found.session_named(connection, given)
    if session_id is not None:
        return findings.insights(calls.of(connection, "session_id", session_id), session_id=session_id)
    raise found.neither(given)
