"""Calls of models in Claude Code's transcripts, and calls that failed.

The rules come from looking at real transcripts:

- One answer spans several lines, one for each block of its content. All have its message id; proxies and subagents drop
  the request id from some. They repeat the usage, which grows from line to line, or shrinks where the first line was an
  estimate: the line with a stop reason counts, else the last.
- Message ids of Anthropic and other long ones are unique. Others are unique within a conversation, or only within a
  request.
- What subagents said is inside `progress` lines, in files of their own, or both.
- `<synthetic>` is no model: Claude Code itself wrote what the provider could not. Where it says so, a call failed. Each
  retry has a line `api_error`.
"""

from __future__ import annotations

from eventlog.format.usage_dialects import TOKENS
from eventlog.indexer.sql import literal
from eventlog.indexer.views import usage
from eventlog.indexer.views.claude_code.lines import (
    BRANCH,
    LINES,
    OF_LINE,
    OF_PROGRESS,
    TYPE,
    part,
    parts,
    seldom,
)  # fmt: skip
from eventlog.indexer.views.claude_code.sessions import PROJECTS
from eventlog.indexer.views.claude_code.subagents import SUBAGENTS, join_subagents, subagent_of
from eventlog.indexer.views.projects import project_of
from eventlog.indexer.views.providers import provider_of

_ENVELOPE = "event_id, timestamp, segment, line_offset, run_id, session_id, parent_event_id, workspace, agent"
_USAGE_COLUMNS = ", ".join(f"{value} AS {name}" for name, value in usage.columns("reading").items())
_COMMON = f"{_ENVELOPE}, line, before, chars, seldom, {part('/cwd')} AS cwd, {BRANCH} AS branch"


def messages(lines: str, of_line: str, of_progress: str) -> str:
    """Return a query for what was said in lines, with an additional column for either place: `<SQL> AS name`."""
    return f"""
        SELECT {_COMMON}, false AS within, {parts(OF_LINE)}, {of_line}
        FROM {lines} WHERE {part("/type")} IN ('assistant', 'user')
        UNION ALL
        SELECT {_COMMON}, true, {parts(OF_PROGRESS)}, {of_progress}
        FROM {lines} WHERE {part("/type")} = 'progress' AND {part("/data/type")} = 'agent_progress'
    """


_ERROR = f"""coalesce({seldom("error_kind_within")}, {seldom("error_kind")}, 'http_' || {seldom("error_status")},
            CASE WHEN json_valid({seldom("error")}) THEN NULL ELSE {seldom("error")} END, 'api_error')"""
_FAILED = f"""
SELECT {_COMMON}, {part("/requestId")} AS request_id, {part("/agentId")} AS agent_id, {_ERROR} AS error_type
FROM lines
WHERE ({part("/type")} = 'system' AND {seldom("subtype")} = 'api_error')
   OR ({part("/message/model")} = '<synthetic>' AND {seldom("is_api_error")} = 'true')
"""

# Lines are taken apart once, and only where a model may have said something: each condition would otherwise take
# apart every line again for the part that it looks at. Whole payloads would have to be held for that, so none is.
LLM_CALLS = f"""
WITH RECURSIVE lines AS MATERIALIZED (
    SELECT * EXCLUDE payload, payload -> '/message/usage' AS usage_of_line,
           payload -> '/data/message/message/usage' AS usage_of_progress
    FROM {LINES} WHERE contains(parts::VARCHAR, 'assistant') OR {seldom("subtype")} = 'api_error'
), {SUBAGENTS}, {PROJECTS}, counted AS (
    SELECT * EXCLUDE (message_id),
           coalesce(message_id, event_id::VARCHAR) AS message_id,
           TRY_CAST({seldom("cost_usd")} AS DECIMAL(38,18)) AS cost_usd,
           TRY_CAST({seldom("duration_ms")} AS DOUBLE) AS duration_ms, {_USAGE_COLUMNS}
    FROM ({messages("lines", "reading, usage_of_line AS raw_usage", "reading, usage_of_progress")})
    WHERE role = 'assistant' AND model IS NOT NULL AND model <> '<synthetic>'
), scoped AS (
    SELECT *, CASE WHEN starts_with(message_id, 'msg_') OR length(message_id) >= 20 THEN ''
                   ELSE concat_ws(chr(10), session_id, agent_id) END AS scope
    FROM counted
), keyed AS (
    -- a line without a request id belongs to the first request of its message
    SELECT *, CASE WHEN scope <> '' THEN coalesce(request_id, first_value(request_id IGNORE NULLS) OVER (
                       PARTITION BY workspace, scope, message_id ORDER BY timestamp, segment, line_offset
                       ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)) END AS request
    FROM scoped
), ranked AS (
    SELECT *,
           row_number() OVER (of_call ORDER BY stop_reason IS NULL, timestamp DESC, segment DESC, line_offset DESC)
               AS position,
           first_value(session_id) OVER in_order AS first_session_id,
           first_value(agent_id IGNORE NULLS) OVER in_order AS first_agent_id,
           first_value(request_id IGNORE NULLS) OVER in_order AS first_request_id,
           max(cost_usd) OVER of_call AS reported_cost_usd, max(duration_ms) OVER of_call AS latency_ms,
           greatest(sum(chars) FILTER (NOT within) OVER of_call, sum(chars) FILTER (within) OVER of_call)
               AS output_chars,
           min(timestamp) OVER of_call AS first_timestamp, max(timestamp) OVER of_call AS last_timestamp
    FROM keyed
    WINDOW of_call AS (PARTITION BY workspace, scope, message_id, request),
           in_order AS (PARTITION BY workspace, scope, message_id, request ORDER BY timestamp, segment, line_offset
                        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
), answers AS (
    SELECT message_id, first_request_id AS request_id, run_id, first_session_id AS session_id, parent_event_id,
           first_agent_id AS agent_id, line, before, cwd, branch, workspace, agent, model, stop_reason,
           {", ".join(usage.columns("reading"))}, raw_usage, output_chars,
           true AS ok, NULL::VARCHAR AS error_type, reported_cost_usd, latency_ms,
           first_timestamp AS timestamp, last_timestamp, event_id
    FROM ranked WHERE position = 1
), calls AS (
    FROM answers
    UNION ALL BY NAME
    SELECT event_id::VARCHAR AS message_id, request_id, run_id, session_id, parent_event_id, agent_id, line, before,
           cwd, branch, workspace, agent, false AS ok, error_type, timestamp, timestamp AS last_timestamp, event_id
    FROM ({_FAILED})
), complete AS (
SELECT message_id, request_id, run_id, calls.session_id, parent_event_id, {subagent_of("calls")} AS subagent_id,
       calls.workspace, agent, {literal(TYPE)} AS source,
       coalesce(project, {project_of("cwd")}) AS project, branch, {provider_of("model", "message_id")} AS provider,
       model,
       {", ".join(f"coalesce({name}, 0) AS {name}" for name in TOKENS[:-1])}, {TOKENS[-1]},
       usage_problem, web_searches, inference_geo, advice,
       stop_reason, service_tier, raw_usage, output_chars::BIGINT AS output_chars, latency_ms, ok, error_type,
       reported_cost_usd, timestamp, last_timestamp, event_id
FROM calls {join_subagents("calls")}
LEFT JOIN projects ON projects.session_id = calls.session_id
  AND projects.workspace IS NOT DISTINCT FROM calls.workspace
)
{usage.with_advice("complete")}
"""
