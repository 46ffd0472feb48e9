"""`requests`: one row for each request that recorded events name, with or without a `request` event of its own.

Events of sources do not count: their `request_id` is what a provider calls one model call, and thousands of them would
hide the requests that somebody made.
"""

from __future__ import annotations

from eventlog.format.envelope import AUDIT_LEVELS
from eventlog.importers import sources
from eventlog.indexer.sql import literals
from eventlog.indexer.views import definitions, values

# A field that the last `request` event does not have (`arg_max_null`) is not taken from an earlier one.
_REQUESTS = f"""
WITH answered AS (
    SELECT workspace, request_id, arg_max_null(payload ->> 'name', (timestamp, event_id)) AS name,
           arg_max(coalesce(payload ->> 'status', 'ok'), (timestamp, event_id)) AS status,
           arg_max_null({values.field("duration_ms", "DOUBLE")}, (timestamp, event_id)) AS duration_ms,
           arg_max_null(payload ->> 'error_type', (timestamp, event_id)) AS error_type,
           arg_max_null(payload ->> 'error_message', (timestamp, event_id)) AS error_message,
           arg_max(event_id, (timestamp, event_id)) AS event_id
    FROM event_rows WHERE event_type = 'request' AND request_id IS NOT NULL GROUP BY workspace, request_id
), told AS (
    SELECT workspace, request_id, count(*) AS events,
           min(timestamp) FILTER (timestamp > 'epoch') AS first,
           max(timestamp) FILTER (timestamp > 'epoch') AS last,
           arg_min(session_id, (timestamp, event_id)) AS session_id,
           arg_min(agent, (timestamp, event_id)) AS agent,
           list(DISTINCT run_id ORDER BY run_id) FILTER (run_id IS NOT NULL) AS run_ids,
           max(list_position([{literals(AUDIT_LEVELS)}], audit_level)) AS level,
           count(*) FILTER (event_type = 'decision_trace') AS decisions,
           {definitions.RECORDED_COUNTS}
    FROM event_rows WHERE request_id IS NOT NULL AND event_type NOT IN ({{imported}}) GROUP BY workspace, request_id
)
SELECT told.request_id, name, told.workspace, session_id, agent, coalesce(run_ids, []) AS run_ids, status, first, last,
       duration_ms, error_type, error_message, [{literals(AUDIT_LEVELS)}][level] AS audit_level,
       events, steps, llm_calls, llm_failures, tool_calls, tool_failures, errors, decisions,
       uncached_input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens, event_id
FROM told LEFT JOIN answered
  ON told.request_id = answered.request_id AND told.workspace IS NOT DISTINCT FROM answered.workspace
"""


def query() -> str:
    """Return the query of the view. Raises InvalidSource."""
    return _REQUESTS.format(imported=literals(sources.event_types()) or "''")
