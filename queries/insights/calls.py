"""The calls of a run or a session, as the insights look at them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import duckdb
import msgspec

from eventlog.queries.identity import Scope

#: The first ones count; no more than this are looked at.
CALLS_MAX = 20_000


class ModelCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call of a model. `context` tells subagents' conversations from the main one (""). Times in UTC."""

    event_id: str
    context: str
    model: str | None
    started: datetime
    finished: datetime
    input_tokens: int
    cache_read_tokens: int
    output_tokens: int
    ok: bool


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call of a tool. `arguments` is JSON, the same for the same arguments; `result_bytes` of its JSON."""

    event_id: str
    tool: str
    arguments: str
    result_bytes: int
    started: datetime
    finished: datetime
    duration_ms: float
    ok: bool


class Calls(msgspec.Struct, frozen=True):
    """What was called, each in order of time. `cut` says that there were more than CALLS_MAX of a kind."""

    models: list[ModelCall]
    tools: list[ToolCall]
    cut: bool


_MODELS = f"""
    SELECT event_id::VARCHAR, coalesce(subagent_id, ''), model,
           CASE WHEN source = 'llm_call' AND latency_ms BETWEEN 0 AND 1e12
                THEN coalesce(TRY(timestamp - to_microseconds((latency_ms * 1000)::BIGINT)), timestamp)
                ELSE timestamp END AS started,
           last_timestamp,
           coalesce(TRY(uncached_input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens), 0),
           cache_read_tokens, output_tokens, ok
    FROM llm_calls WHERE {{condition}} ORDER BY last_timestamp, event_id LIMIT {CALLS_MAX + 1}
"""
_TOOLS = f"""
    SELECT event_id::VARCHAR, coalesce(tool, ''), coalesce(input::VARCHAR, ''),
           coalesce(TRY_CAST(output ->> '/$blob/bytes' AS BIGINT), strlen(output::VARCHAR), 0),
           timestamp, coalesce(finished, timestamp), coalesce(duration_ms, 0), ok
    FROM tool_calls WHERE {{condition}} ORDER BY timestamp, tool_call_id, event_id LIMIT {CALLS_MAX + 1}
"""


def of(connection: duckdb.DuckDBPyConnection, scope: Scope) -> Calls:
    """Return the calls of a run or a session."""
    queries = (query.format(condition=scope.condition) for query in (_MODELS, _TOOLS))
    of_models, of_tools = (connection.execute(query, scope.params).fetchall() for query in queries)
    models, tools = list(map(_model, of_models)), list(map(_tool, of_tools))
    cut = len(models) > CALLS_MAX or len(tools) > CALLS_MAX
    return Calls(models[:CALLS_MAX], tools[:CALLS_MAX], cut)


def _model(row: tuple[Any, ...]) -> ModelCall:
    values = dict(zip(ModelCall.__struct_fields__, row, strict=True))
    return ModelCall(**_with_zones(values))


def _tool(row: tuple[Any, ...]) -> ToolCall:
    values = dict(zip(ToolCall.__struct_fields__, row, strict=True))
    return ToolCall(**_with_zones(values) | {"arguments": canonical(values["arguments"])})


def _with_zones(values: dict[str, Any]) -> dict[str, Any]:
    return values | {name: values[name].replace(tzinfo=UTC) for name in ("started", "finished")}


def canonical(arguments: str) -> str:
    """Return JSON in one form: without spaces, keys in order."""
    try:
        return msgspec.json.encode(msgspec.json.decode(arguments), order="sorted").decode()
    except (msgspec.MsgspecError, RecursionError):
        return arguments
