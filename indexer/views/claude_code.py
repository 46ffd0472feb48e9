"""Imported Claude Code transcripts as calls of models and tools.

The rules come from looking at real transcripts: one model message spans several lines
that all repeat its usage, growing from line to line, and forked sessions repeat whole
lines; so a call is one (message id, request id), anywhere in a workspace, with its largest usage. What
subagents used is inside `progress` lines and nowhere else. `<synthetic>` is no model.
"""

from __future__ import annotations

from eventlog.indexer.sql import ident, literal, literals
from eventlog.indexer.views import messages, usage
from eventlog.indexer.views.promoted import PromotedColumn
from eventlog.indexer.views.sources import SourceViews, rows_of

_TYPE = "claude_code"

#: What the small parts of a message are called here, and where they stand in it (RFC 6901).
_OF_MESSAGE = {
    "message_id": "/id",
    "model": "/model",
    "stop_reason": "/stop_reason",
}
#: Where they stand in a line. What a subagent said is a line within a line.
_OF_LINE = {
    "role": "/type",
    "request_id": "/requestId",
    "subagent_id": "/agentId",
    **{name: f"/message{pointer}" for name, pointer in _OF_MESSAGE.items()},
}
_OF_PROGRESS = {
    "role": "/data/message/type",
    "request_id": "/data/message/requestId",
    "subagent_id": "/data/agentId",
    **{name: f"/data/message/message{pointer}" for name, pointer in _OF_MESSAGE.items()},
}
_POINTERS = list(dict.fromkeys(["/cwd", "/summary", "/data/type", *_OF_LINE.values(), *_OF_PROGRESS.values()]))

#: The small parts of a line, as a JSON array in one column: a payload is taken apart once, when it is indexed. Each
#: column costs every batch a little, and many short texts cost DuckDB more to store than one.
PARTS = PromotedColumn(
    _TYPE, "parts", "VARCHAR", f"to_json(json_extract_string(payload, [{literals(_POINTERS)}]))::VARCHAR"
)
#: The reading of a line's usage object. Only lines that have one are taken apart again for it.
USAGE = usage.promoted(
    _TYPE,
    "usage",
    """CASE WHEN contains(payload::VARCHAR, '"usage"') THEN list_transform(
        [json_extract(payload, ['/type', '/message/usage', '/data/message/message/usage'])],
        lambda x: CASE WHEN x[1] = '"progress"' THEN x[3] ELSE x[2] END)[1] END""",
)
#: What they mean is said below, so that a better rule improves the past as well.
_LINES = f"(SELECT *, {ident(PARTS.column)}::JSON::VARCHAR[] AS parts FROM {rows_of(_TYPE)})"


def _part(pointer: str) -> str:
    """Return what stands somewhere in a line, as an expression over `_LINES`."""
    return f"parts[{_POINTERS.index(pointer) + 1}]"


def _parts(pointers: dict[str, str]) -> str:
    return ", ".join(f"{_part(pointer)} AS {name}" for name, pointer in pointers.items())


_USAGE_COLUMNS = ", ".join(f"{value} AS {name}" for name, value in usage.columns("reading").items())
_COMMON = f"event_id, timestamp, run_id, session_id, parent_event_id, workspace, agent, {_part('/cwd')} AS project"


def _messages(lines: str, of_line: str, of_progress: str) -> str:
    return f"""
        SELECT {_COMMON}, {_parts(_OF_LINE)}, {of_line}
        FROM {lines} WHERE {_part("/type")} IN ('assistant', 'user')
        UNION ALL
        SELECT {_COMMON}, {_parts(_OF_PROGRESS)}, {of_progress}
        FROM {lines} WHERE {_part("/type")} = 'progress' AND {_part("/data/type")} = 'agent_progress'
    """


# Lines are taken apart once, and only where a model may have said something: each condition would otherwise take
# apart every line again for the part that it looks at. Whole payloads would have to be held for that, so none is.
_LLM_CALLS = f"""
WITH lines AS MATERIALIZED (
    SELECT * EXCLUDE payload, {ident(USAGE.column)}::JSON::VARCHAR[] AS reading,
           payload -> '/message/usage' AS usage_of_line,
           payload -> '/data/message/message/usage' AS usage_of_progress
    FROM {_LINES} WHERE contains({ident(PARTS.column)}, '"assistant"')
), counted AS (
    SELECT * REPLACE (coalesce(message_id, event_id::VARCHAR) AS message_id),
           {_USAGE_COLUMNS}
    FROM ({_messages("lines", "reading, usage_of_line AS raw_usage", "reading, usage_of_progress")})
    WHERE role = 'assistant' AND model IS NOT NULL AND model <> '<synthetic>'
), ranked AS (
    SELECT *,
           row_number() OVER (
               PARTITION BY workspace, message_id, request_id
               ORDER BY coalesce(uncached_input_tokens, 0)::HUGEINT + coalesce(cache_read_tokens, 0)
                        + coalesce(cache_write_5m_tokens, 0) + coalesce(cache_write_1h_tokens, 0)
                        + coalesce(output_tokens, 0) DESC, timestamp, event_id
           ) AS position,
           min(timestamp) OVER (PARTITION BY workspace, message_id, request_id) AS first_timestamp,
           max(timestamp) OVER (PARTITION BY workspace, message_id, request_id) AS last_timestamp
    FROM counted
), calls AS (
    SELECT message_id, request_id, run_id, session_id, parent_event_id, subagent_id, workspace, agent,
           {literal(_TYPE)} AS source, project, 'anthropic' AS provider, model, NULL::VARCHAR AS request_model,
           coalesce(uncached_input_tokens, 0) AS uncached_input_tokens,
           coalesce(cache_read_tokens, 0) AS cache_read_tokens,
           coalesce(cache_write_5m_tokens, 0) AS cache_write_5m_tokens,
           coalesce(cache_write_1h_tokens, 0) AS cache_write_1h_tokens,
           coalesce(output_tokens, 0) AS output_tokens, reasoning_tokens, stop_reason, service_tier, raw_usage,
           usage_problem, web_searches, inference_geo, advice,
           NULL::DOUBLE AS latency_ms, NULL::DOUBLE AS ttft_ms, true AS ok, NULL::VARCHAR AS error_type,
           NULL::DECIMAL(38,18) AS reported_cost_usd,
           first_timestamp AS timestamp, last_timestamp, event_id
    FROM ranked WHERE position = 1
)
{usage.with_advice("calls")}
"""

_BLOCKS = f"""
    SELECT * EXCLUDE message, unnest(
        CASE WHEN json_type(message, '$.content') = 'ARRAY' THEN (message -> 'content')::JSON[] END) AS block
    FROM ({_messages(_LINES, "payload -> '/message' AS message", "payload -> '/data/message/message'")})
"""

_TOOL_CALLS = f"""
WITH blocks AS ({_BLOCKS}), calls AS (
    SELECT block ->> 'id' AS tool_call_id, timestamp, run_id, session_id, parent_event_id, subagent_id,
           workspace, agent,
           block ->> 'name' AS tool, block -> 'input' AS input, event_id,
           row_number() OVER (PARTITION BY workspace, block ->> 'id' ORDER BY timestamp, event_id) AS position
    FROM blocks WHERE block ->> 'type' = 'tool_use'
), results AS (
    SELECT block ->> 'tool_use_id' AS tool_call_id, workspace, timestamp AS finished, block -> 'content' AS output,
           coalesce(TRY_CAST(block ->> 'is_error' AS BOOLEAN), false) AS failed,
           row_number() OVER (PARTITION BY workspace, block ->> 'tool_use_id' ORDER BY timestamp, event_id) AS position
    FROM blocks WHERE block ->> 'type' = 'tool_result'
)
SELECT calls.tool_call_id, run_id, session_id, parent_event_id, subagent_id, calls.workspace, agent,
       {literal(_TYPE)} AS source, tool, input, output, calls.timestamp, finished,
       date_sub('millisecond', calls.timestamp, finished)::DOUBLE AS duration_ms,
       NOT failed AS ok, NULL::VARCHAR AS error_type, event_id
FROM calls LEFT JOIN (SELECT * FROM results WHERE position = 1) AS results
  ON results.tool_call_id = calls.tool_call_id AND results.workspace IS NOT DISTINCT FROM calls.workspace
WHERE calls.position = 1
"""

_SESSIONS = f"""
SELECT workspace, session_id, arg_min({_part("/cwd")}, event_id) AS project,
       arg_max({_part("/summary")}, event_id) FILTER ({_part("/type")} = 'summary') AS summary
FROM {_LINES} WHERE session_id IS NOT NULL GROUP BY workspace, session_id
"""

_CONTENTS = _messages(
    _LINES,
    "payload -> '/message/content' AS content, payload ->> '/uuid' AS line_id",
    "payload -> '/data/message/message/content', payload ->> '/data/message/uuid'",
)

# A session may lie in two files. Lines that hold the results of tools have no text.
_MESSAGES = f"""
WITH lines AS (
    SELECT *, {messages.text_of("content")} AS text, {literal(_TYPE)} AS source,
           row_number() OVER (
               PARTITION BY workspace, session_id, coalesce(line_id, event_id::VARCHAR) ORDER BY timestamp, event_id
           ) AS position
    FROM ({_CONTENTS})
)
SELECT role, text, model, run_id, session_id, parent_event_id, subagent_id, workspace, agent, source, timestamp,
       event_id
FROM lines WHERE text <> '' AND position = 1
"""

VIEWS = SourceViews(
    promoted=(PARTS, USAGE),
    llm_calls=_LLM_CALLS,
    tool_calls=_TOOL_CALLS,
    sessions=_SESSIONS,
    messages=_MESSAGES,
)
