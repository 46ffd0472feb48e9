"""The model calls, tool calls and steps of a run or a session, as the insights need them."""

from __future__ import annotations

from datetime import datetime

import duckdb
import msgspec

from eventlog.format.timestamps import MS_MAX
from eventlog.queries.identity import Scope
from eventlog.queries.rows import rows_as, rows_as_dicts

#: Of a longer run or session, the first calls are analysed.
CALLS_MAX = 20_000


class ModelCall(msgspec.Struct, frozen=True, kw_only=True):
    """A model call. `context` is the id of the subagent whose conversation it is in, "" for the main one.

    `ok` is False where it failed, None where that is unknown.
    """

    event_id: str
    context: str
    model: str | None
    started: datetime
    finished: datetime
    input_tokens: int
    cache_read_tokens: int
    output_tokens: int
    ok: bool | None
    parent_event_id: str | None = None


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call. `arguments` is JSON in one form (see `canonical`); `result_bytes` is the length of the result's.

    `ok` is False where it failed, None where that is unknown, as of an imported call without a result.
    """

    event_id: str
    tool: str
    arguments: str
    result_bytes: int
    started: datetime
    finished: datetime
    duration_ms: float
    ok: bool | None
    parent_event_id: str | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded step."""

    event_id: str
    parent_event_id: str | None
    name: str


class Calls(msgspec.Struct, frozen=True):
    """Calls in order of time, and steps. `cut` is true if there were more than CALLS_MAX of any kind."""

    model_calls: list[ModelCall]
    tool_calls: list[ToolCall]
    cut: bool
    steps: list[Step] = []


_MODEL_CALLS = f"""
    SELECT event_id::VARCHAR AS event_id, coalesce(subagent_id, '') AS context, model,
           CASE WHEN source = 'llm_call' AND latency_ms BETWEEN 0 AND {MS_MAX:.0f}
                THEN greatest(TRY(timestamp - to_microseconds((latency_ms * 1000)::BIGINT)), TIMESTAMP '0001-01-01')
                ELSE timestamp END AS started,
           last_timestamp AS finished,
           coalesce(uncached_input_tokens, 0)::HUGEINT + coalesce(cache_read_tokens, 0)
               + coalesce(cache_write_5m_tokens, 0) + coalesce(cache_write_1h_tokens, 0) AS input_tokens,
           cache_read_tokens, output_tokens, ok, parent_event_id::VARCHAR AS parent_event_id
    FROM llm_calls WHERE {{scope}} ORDER BY last_timestamp, llm_calls.event_id LIMIT $limit
"""
_TOOL_CALLS = f"""
    SELECT event_id::VARCHAR AS event_id, coalesce(tool, '') AS tool, coalesce(input::VARCHAR, '') AS arguments,
           coalesce(TRY_CAST(output ->> '/$blob/bytes' AS BIGINT), strlen(output::VARCHAR), 0) AS result_bytes,
           timestamp AS started, coalesce(finished, timestamp) AS finished,
           CASE WHEN duration_ms BETWEEN 0 AND {MS_MAX:.0f} THEN duration_ms ELSE 0 END AS duration_ms, ok,
           parent_event_id::VARCHAR AS parent_event_id
    FROM tool_calls WHERE {{scope}} ORDER BY timestamp, tool_call_id, tool_calls.event_id LIMIT $limit
"""
_STEPS = """
    SELECT event_id::VARCHAR AS event_id, parent_event_id::VARCHAR AS parent_event_id, coalesce(name, '') AS name
    FROM steps WHERE {scope} ORDER BY started, steps.event_id LIMIT $limit
"""


def read_calls(connection: duckdb.DuckDBPyConnection, scope: Scope) -> Calls:
    """Return the calls of a run or a session, the first CALLS_MAX of each kind."""
    params = {**scope.params, "limit": CALLS_MAX + 1}
    model_calls = rows_as(ModelCall, connection.execute(scope.within(_MODEL_CALLS), params))
    rows = rows_as_dicts(connection.execute(scope.within(_TOOL_CALLS), params))
    tool_calls = [ToolCall(**row | {"arguments": canonical(row["arguments"])}) for row in rows]
    steps = rows_as(Step, connection.execute(scope.within(_STEPS), params))
    cut = any(len(found) > CALLS_MAX for found in (model_calls, tool_calls, steps))
    return Calls(model_calls[:CALLS_MAX], tool_calls[:CALLS_MAX], cut, steps[:CALLS_MAX])


def canonical(arguments: str) -> str:
    """Return JSON in one form, without spaces and with sorted keys; a text that is no JSON as it is."""
    try:
        return msgspec.json.encode(msgspec.json.decode(arguments), order="sorted").decode()
    except (msgspec.MsgspecError, RecursionError):
        return arguments
