"""Loops and waste: what a run, or a session, did more often than it had to."""

from __future__ import annotations

import duckdb

from eventlog.queries.insights import calls, findings
from eventlog.queries.insights.findings import Insights
from eventlog.queries.runs import lookup


def of(connection: duckdb.DuckDBPyConnection, given: str) -> Insights:
    """Look at a run, or else at a session, that is called so or whose id alone begins so. Raises QueryFailed."""
    run = lookup.find_run(connection, given)
    if run is not None:
        return findings.insights(calls.of(connection, run), run_id=run.id)
    session = lookup.find_session(connection, given)
    if session is not None:
        return findings.insights(calls.of(connection, session), session_id=session.id)
    raise lookup.not_found(given)
