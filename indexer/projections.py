"""Views made from events: pure rules, from what was logged to what is asked.

Two kinds: typed views, one per registered event type, written from the JSON Schema that
producers log; and views over imported transcripts, which read the foreign lines as they
are, so that a better rule here improves the past as well.
"""

from __future__ import annotations

from typing import Any

import duckdb
import msgspec

from eventlog.envelope import EVENT_TYPE
from eventlog.schemas import RESERVED, SCHEMA_EVENT, EventSchema
from indexer import schema
from indexer.schema import CONTENT, PLACE

_FIELDS_MAX = 1000
_SCALARS = {"string": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN"}
_FORMATS = {
    "date-time": "TIMESTAMP",
    "date": "DATE",
    "time": "TIME",
    "uuid": "UUID",
    "decimal": "DECIMAL(38, 12)",
}


def create(connection: duckdb.DuckDBPyConnection) -> None:
    """Make all tables and views in an empty database."""
    schema.create_tables(connection)
    connection.execute(_LLM_CALLS)
    connection.execute(_TOOL_CALLS)
    connection.execute(_SESSIONS)


def create_typed_views(connection: duckdb.DuckDBPyConnection) -> None:
    """Make one view per event type whose schema is in the log.

    Where a type changed over time its view has the columns of all its versions, a later
    version deciding the type of a column that it shares with an earlier one. A field that has
    two types in one version is JSON: nothing says which of them is right.
    """
    found = connection.execute(
        f"SELECT payload FROM events WHERE event_type = '{SCHEMA_EVENT}'"
        " ORDER BY TRY_CAST(payload ->> 'version' AS BIGINT), event_id"
    ).fetchall()
    fields_by_type: dict[str, dict[str, str]] = {}
    decided: dict[tuple[str, str], int] = {}
    for (payload,) in found:
        try:
            logged = msgspec.json.decode(payload, type=EventSchema)
        except msgspec.MsgspecError:
            continue  # logged by a program that is not ours: it stays visible as an event
        if not EVENT_TYPE.fullmatch(logged.name) or logged.name in RESERVED:
            continue
        fields = fields_by_type.setdefault(logged.name, {})
        for field, kind in list_columns(logged.json_schema).items():
            same_version = decided.get((logged.name, field)) == logged.version
            fields[field] = "JSON" if same_version and fields[field] != kind else kind
            decided[logged.name, field] = logged.version
    for name, fields in fields_by_type.items():
        connection.execute(_typed_view(name, dict(list(fields.items())[:_FIELDS_MAX])))


def list_columns(json_schema: dict[str, Any]) -> dict[str, str]:
    """Return the top-level fields of a JSON Schema with their DuckDB types."""
    top = _resolve(json_schema, json_schema)
    properties = top.get("properties")
    if not isinstance(properties, dict):
        return {}
    return {name: _column_type(part, json_schema) for name, part in properties.items() if name}


def _resolve(part: Any, whole: dict[str, Any]) -> dict[str, Any]:
    """Follow one reference into `$defs`; msgspec writes no chains of them."""
    if not isinstance(part, dict):
        return {}
    reference = part.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        definitions = whole.get("$defs")
        target = definitions.get(reference.removeprefix("#/$defs/")) if isinstance(definitions, dict) else None
        return target if isinstance(target, dict) else {}
    return part


def _column_type(part: Any, whole: dict[str, Any]) -> str:
    part = _resolve(part, whole)
    options = part.get("anyOf")
    if isinstance(options, list):
        parts = [_resolve(option, whole) for option in options]
        kinds = {_plain_type(each) for each in parts if each.get("type") != "null"}
        return kinds.pop() if len(kinds) == 1 else "JSON"
    return _plain_type(part)


def _plain_type(part: dict[str, Any]) -> str:
    values = part.get("enum")
    is_text = isinstance(values, list) and values and all(isinstance(value, str) for value in values)
    if is_text or part.get("type") == "string":
        return _FORMATS.get(str(part.get("format")), "VARCHAR")
    return _SCALARS.get(str(part.get("type")), "JSON")


def quoted(name: str) -> str:
    """Quote an identifier."""
    return '"' + name.replace('"', '""') + '"'


def _typed_view(event_type: str, fields: dict[str, str]) -> str:
    envelope_columns = [name for name in CONTENT if name not in ("event_type", "payload", "extra")]
    taken = {name.lower() for name in (*envelope_columns, *PLACE)}
    parts = list(envelope_columns)
    for field, kind in fields.items():
        column = field
        while column.lower() in taken:  # DuckDB compares names without case
            column = f"payload_{column}"
        taken.add(column.lower())
        pointer = "/" + field.replace("~", "~0").replace("/", "~1")  # RFC 6901: any name can be said
        path = "'" + pointer.replace("'", "''") + "'"
        value = f"payload -> {path}" if kind == "JSON" else f"TRY_CAST(payload ->> {path} AS {kind})"
        parts.append(f"{value} AS {quoted(column)}")
    return (
        f"CREATE OR REPLACE VIEW {quoted(event_type)} AS SELECT {', '.join([*parts, *PLACE])} "
        f"FROM events WHERE event_type = '{event_type}'"
    )


# -- imported Claude Code transcripts --------------------------------------------------------
#
# The rules come from looking at real transcripts: one model message spans several lines
# that all repeat its usage, growing from line to line, and forked sessions repeat whole
# lines; so a call is one (message id, request id), anywhere, with its largest usage. What
# subagents used is inside `progress` lines and nowhere else. `<synthetic>` is no model.

_MESSAGES = """
    SELECT event_id, timestamp, session_id, workspace, agent, payload ->> 'type' AS role,
           payload -> 'message' AS message, payload ->> 'requestId' AS request_id,
           payload ->> 'agentId' AS subagent_id
    FROM events
    WHERE event_type = 'claude_code' AND payload ->> 'type' IN ('assistant', 'user')
    UNION ALL
    SELECT event_id, timestamp, session_id, workspace, agent, payload ->> '$.data.message.type',
           payload -> '$.data.message.message', payload ->> '$.data.message.requestId',
           payload ->> '$.data.agentId'
    FROM events
    WHERE event_type = 'claude_code' AND payload ->> 'type' = 'progress'
      AND payload ->> '$.data.type' = 'agent_progress'
"""

_LLM_CALLS = f"""
CREATE VIEW llm_calls AS
WITH lines AS (
    SELECT *, coalesce(message ->> 'id', event_id::VARCHAR) AS message_id,
           message ->> 'model' AS model, message -> 'usage' AS usage
    FROM ({_MESSAGES}) WHERE role = 'assistant'
), counted AS (
    SELECT *,
           TRY_CAST(usage ->> 'input_tokens' AS BIGINT) AS uncached_input_tokens,
           TRY_CAST(usage ->> 'cache_read_input_tokens' AS BIGINT) AS cache_read_tokens,
           TRY_CAST(usage ->> 'cache_creation_input_tokens' AS BIGINT) AS cache_write_tokens,
           TRY_CAST(usage ->> '$.cache_creation.ephemeral_5m_input_tokens' AS BIGINT) AS written_5m,
           TRY_CAST(usage ->> '$.cache_creation.ephemeral_1h_input_tokens' AS BIGINT) AS written_1h,
           TRY_CAST(usage ->> 'output_tokens' AS BIGINT) AS output_tokens
    FROM lines WHERE model IS NOT NULL AND model <> '<synthetic>'
), ranked AS (
    SELECT *,
           row_number() OVER (
               PARTITION BY message_id, request_id
               ORDER BY coalesce(uncached_input_tokens, 0)::HUGEINT + coalesce(cache_read_tokens, 0)
                        + coalesce(cache_write_tokens, 0) + coalesce(output_tokens, 0) DESC, timestamp, event_id
           ) AS position,
           min(timestamp) OVER (PARTITION BY message_id, request_id) AS first_timestamp,
           max(timestamp) OVER (PARTITION BY message_id, request_id) AS last_timestamp
    FROM counted
)
SELECT message_id, request_id, session_id, subagent_id, workspace, agent, 'claude_code' AS source, model,
       coalesce(uncached_input_tokens, 0) AS uncached_input_tokens,
       coalesce(cache_read_tokens, 0) AS cache_read_tokens,
       -- without the split by lifetime, a cache write has the default one of 5 minutes
       coalesce(written_5m, TRY(cache_write_tokens - coalesce(written_1h, 0)), 0) AS cache_write_5m_tokens,
       coalesce(written_1h, 0) AS cache_write_1h_tokens,
       coalesce(output_tokens, 0) AS output_tokens,
       message ->> 'stop_reason' AS stop_reason, usage ->> 'service_tier' AS service_tier, usage AS raw_usage,
       first_timestamp AS timestamp, last_timestamp, event_id
FROM ranked WHERE position = 1
"""

_BLOCKS = f"""
    SELECT * EXCLUDE message, unnest(
        CASE WHEN json_type(message, '$.content') = 'ARRAY' THEN (message -> 'content')::JSON[] END) AS block
    FROM ({_MESSAGES})
"""

_TOOL_CALLS = f"""
CREATE VIEW tool_calls AS
WITH blocks AS ({_BLOCKS}), calls AS (
    SELECT block ->> 'id' AS tool_call_id, timestamp, session_id, subagent_id, workspace, agent,
           block ->> 'name' AS tool, block -> 'input' AS input, event_id,
           row_number() OVER (PARTITION BY block ->> 'id' ORDER BY timestamp, event_id) AS position
    FROM blocks WHERE block ->> 'type' = 'tool_use'
), results AS (
    SELECT block ->> 'tool_use_id' AS tool_call_id, timestamp AS finished, block -> 'content' AS output,
           coalesce(TRY_CAST(block ->> 'is_error' AS BOOLEAN), false) AS failed,
           row_number() OVER (PARTITION BY block ->> 'tool_use_id' ORDER BY timestamp, event_id) AS position
    FROM blocks WHERE block ->> 'type' = 'tool_result'
)
SELECT tool_call_id, session_id, subagent_id, workspace, agent, 'claude_code' AS source, tool, input, output,
       calls.timestamp, finished, date_sub('millisecond', calls.timestamp, finished) AS duration_ms,
       NOT failed AS ok, event_id
FROM calls LEFT JOIN (SELECT * FROM results WHERE position = 1) USING (tool_call_id)
WHERE calls.position = 1
"""

_SESSIONS = """
CREATE VIEW sessions AS
WITH lines AS (
    SELECT session_id, count(*) AS events,
           min(timestamp) FILTER (timestamp > 'epoch') AS first,
           max(timestamp) FILTER (timestamp > 'epoch') AS last,
           any_value(workspace ORDER BY event_id) AS workspace, any_value(agent ORDER BY event_id) AS agent,
           arg_min(payload ->> 'cwd', event_id) FILTER (payload ->> 'cwd' IS NOT NULL) AS project,
           arg_max(payload ->> 'summary', event_id) FILTER (payload ->> 'type' = 'summary') AS summary
    FROM events WHERE session_id IS NOT NULL GROUP BY session_id
), calls AS (
    SELECT session_id, count(*) AS llm_calls, list(DISTINCT model ORDER BY model) AS models,
           TRY_CAST(sum(uncached_input_tokens) AS BIGINT) AS uncached_input_tokens,
           TRY_CAST(sum(cache_read_tokens) AS BIGINT) AS cache_read_tokens,
           TRY_CAST(sum(cache_write_5m_tokens) AS BIGINT) AS cache_write_5m_tokens,
           TRY_CAST(sum(cache_write_1h_tokens) AS BIGINT) AS cache_write_1h_tokens,
           TRY_CAST(sum(output_tokens) AS BIGINT) AS output_tokens
    FROM llm_calls GROUP BY session_id
), tools AS (
    SELECT session_id, count(*) AS tool_calls, count(*) FILTER (NOT ok) AS tool_failures
    FROM tool_calls GROUP BY session_id
)
SELECT session_id, first, last, date_sub('second', first, last) AS duration_s, events, workspace, agent, project,
       summary, coalesce(llm_calls, 0) AS llm_calls, coalesce(tool_calls, 0) AS tool_calls,
       coalesce(tool_failures, 0) AS tool_failures, coalesce(models, []) AS models,
       coalesce(uncached_input_tokens, 0) AS uncached_input_tokens,
       coalesce(cache_read_tokens, 0) AS cache_read_tokens,
       coalesce(cache_write_5m_tokens, 0) AS cache_write_5m_tokens,
       coalesce(cache_write_1h_tokens, 0) AS cache_write_1h_tokens,
       coalesce(output_tokens, 0) AS output_tokens
FROM lines LEFT JOIN calls USING (session_id) LEFT JOIN tools USING (session_id)
"""
