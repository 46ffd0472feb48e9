"""Views that unite recorded and imported events: `llm_calls`, `tool_calls`, `messages`, `sessions`, `runs`, ….

They read imported lines as they are in the log, so a better rule here improves past events, too. A source is part of
them from its first event on: it would cost every question tens of milliseconds of planning.
"""

from __future__ import annotations

from collections.abc import Collection

import duckdb

from eventlog.importers import sources as importers
from eventlog.indexer.index import schema
from eventlog.indexer.sql import ident
from eventlog.indexer.views import alerts, messages, recorded, requests, sources
from eventlog.indexer.views.ordering import recorded as in_order
from eventlog.indexer.views.promoted import PromotedColumn
from eventlog.indexer.views.typed import SELECT_TYPES_WITH_ROWS


def promoted() -> tuple[PromotedColumn, ...]:
    """Return the promoted columns of a new index. Raises InvalidSource."""
    return (*recorded.PROMOTED, *sources.promoted())


def create(connection: duckdb.DuckDBPyConnection) -> None:
    """Create all tables and views in an empty database. Raises InvalidSource."""
    sources.check()
    schema.create_tables(connection, {ident(column.column): column.kind for column in promoted()})
    sources.note(connection)
    for name, query in views().items():
        connection.execute(schema.view(name, query))


def read_sources(connection: duckdb.DuckDBPyConnection, new: Collection[str] = ()) -> None:
    """Let the views read all sources that have events in the index, or whose event types are among `new`.

    Call it inside a transaction. Raises InvalidSource.
    """
    of_sources = importers.event_types()
    rows = connection.execute(SELECT_TYPES_WITH_ROWS, [of_sources]).fetchall()
    present = {row[0] for row in rows} | set(new).intersection(of_sources)
    there = dict(connection.execute(SELECT_VIEWS, [list(sources.COLUMNS)]).fetchall())
    for name, query in views(present).items():
        if name in sources.COLUMNS and schema.query_of(there[name]) != query.strip():
            connection.execute(schema.view(name, query, replace=True))


def _same_session(other: str) -> str:
    return f"{other}.session_id = lines.session_id AND {other}.workspace IS NOT DISTINCT FROM lines.workspace"


def _sessions(present: Collection[str]) -> str:
    return f"""
WITH lines AS (
    SELECT workspace, session_id, count(*) AS events,
           min(timestamp) FILTER (timestamp > 'epoch') AS first,
           max(timestamp) FILTER (timestamp > 'epoch') AS last,
           arg_min(agent, event_id) AS agent
    FROM events WHERE session_id IS NOT NULL GROUP BY workspace, session_id
), imported AS (
    {sources.sessions(present)}
), calls AS (
    SELECT workspace, session_id, count(*) AS llm_calls, list(DISTINCT model ORDER BY model) AS models,
           sum(uncached_input_tokens) AS uncached_input_tokens,
           sum(cache_read_tokens) AS cache_read_tokens,
           sum(cache_write_5m_tokens) AS cache_write_5m_tokens,
           sum(cache_write_1h_tokens) AS cache_write_1h_tokens,
           sum(output_tokens) AS output_tokens
    FROM llm_calls GROUP BY workspace, session_id
), tools AS (
    SELECT workspace, session_id, count(*) AS tool_calls, count(*) FILTER (NOT ok) AS tool_failures
    FROM tool_calls GROUP BY workspace, session_id
)
SELECT lines.session_id, first, last, date_sub('second', first, last) AS duration_s, events, lines.workspace, agent,
       project, branch, summary, title, title_source,
       coalesce(llm_calls, 0) AS llm_calls, coalesce(tool_calls, 0) AS tool_calls,
       coalesce(tool_failures, 0) AS tool_failures, coalesce(models, []) AS models,
       coalesce(uncached_input_tokens, 0) AS uncached_input_tokens,
       coalesce(cache_read_tokens, 0) AS cache_read_tokens,
       coalesce(cache_write_5m_tokens, 0) AS cache_write_5m_tokens,
       coalesce(cache_write_1h_tokens, 0) AS cache_write_1h_tokens,
       coalesce(output_tokens, 0) AS output_tokens
FROM lines
LEFT JOIN imported ON {_same_session("imported")}
LEFT JOIN calls ON {_same_session("calls")}
LEFT JOIN tools ON {_same_session("tools")}
"""


# A view of its own: a store of one workspace also sees prices in it that were set for all workspaces.
_PRICE_EVENTS = f"""
SELECT event_id, timestamp, workspace, payload, latest, recorded, segment, line_offset
FROM ({in_order("event_type = 'price_set'")})
"""


def views(present: Collection[str] = ()) -> dict[str, str]:
    """Return the queries of all views by name, in the order of their creation. Raises InvalidSource.

    They read those sources that have one of the event types `present`.
    """
    return {
        "llm_calls": sources.united("llm_calls", recorded.LLM_CALLS, present),
        "tool_calls": sources.united("tool_calls", recorded.TOOL_CALLS, present),
        "messages": sources.united("messages", messages.RECORDED, present),
        "runs": recorded.RUNS,
        "steps": recorded.STEPS,
        "sessions": _sessions(present),
        "requests": requests.query(),
        "price_events": _PRICE_EVENTS,
        **alerts.VIEWS,
    }


SELECT_VIEWS = (
    "SELECT view_name, sql FROM duckdb_views() "
    "WHERE database_name = current_database() AND NOT internal AND view_name IN (SELECT unnest(?))"
)
