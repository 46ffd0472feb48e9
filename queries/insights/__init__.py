"""Answers what a run or a session repeated or wasted: loops, retries, re-sent tokens, gaps."""

from __future__ import annotations

import duckdb

from eventlog.queries.insights import calls, findings
from eventlog.queries.insights.findings import Insights
from eventlog.queries.runs import lookup


def find_insights(connection: duckdb.DuckDBPyConnection, prefix: str) -> Insights:
    """Return the insights into the run, or else the session, with this id. Any unique prefix of an id works.

    Raises QueryFailed if there is none, or if several ids start so.
    """
    run = lookup.find_run(connection, prefix)
    if run is not None:
        return findings.insights(calls.read_calls(connection, run), run_id=run.id)
    session = lookup.find_session(connection, prefix)
    if session is not None:
        return findings.insights(calls.read_calls(connection, session), session_id=session.id)
    raise lookup.not_found(prefix)
