"""What was said and done, from the index, in the order of the log: one entry for each text, tool call and model call.

Lines of others are read through the views, which know what is a copy, whose line it is, and which result belongs to
which call. Of recorded calls, the payloads are read: their prompts and answers may be stored beside the log.

The order is that of the lines in a segment, since clocks go back; where an import went on in another segment, the time
of the lines before them decides. Recorded events, which stand in a segment for each type, are in order of time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import msgspec

from eventlog.format import payloads, timestamps
from eventlog.log import blobs
from eventlog.queries.conversation.recorded import History, Part, ToolEvents, call_key
from eventlog.queries.conversation.structs import Message, ToolUse
from eventlog.queries.identity import Scope
from eventlog.queries.rows import rows_as_dicts

#: Limits of one answer: things, characters of all texts, characters of one text.
ITEMS_MAX = 20_000
CHARS_MAX = 64 * 1024 * 1024
TEXT_MAX_CHARS = 4 * 1024 * 1024
#: Prompts repeat those before them: after so many bytes, prompts of further calls are not looked at.
_PROMPTS_MAX_BYTES = 256 * 1024 * 1024
_FETCHED = 256
_RECORDED = "('message', 'llm_call', 'tool_call', 'run_started', 'error', 'conversation_state')"


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call of a model, for the sums."""

    event_id: str
    model: str | None
    input_tokens: int
    output_tokens: int
    ok: bool | None


class Result(NamedTuple):
    """The result of a tool call that stands in an earlier entry."""

    tool_call_id: str
    text: str


class LeftOut(NamedTuple):
    """A tool call that is beyond the limits, for the sums."""

    ok: bool | None


Thing = Message | ToolUse | Call | Result | LeftOut


class Entry(NamedTuple):
    """One thing: of which subagent (None: the main conversation), in which turn if its event carries one, and when."""

    subagent_id: str | None
    turn_number: int | None
    timestamp: datetime | None
    thing: Thing


class Entries(msgspec.Struct):
    """The entries of a run or a session, and what is beyond the limits."""

    entries: list[Entry]
    left_out_items: int = 0
    left_out_chars: int = 0


def _result_text(output: str) -> str:
    """Return SQL for a tool's result as text: the texts of its blocks, and what else there is as JSON."""
    return f"""CASE json_type({output}) WHEN 'VARCHAR' THEN {output} ->> '$'
        WHEN 'ARRAY' THEN array_to_string(
            [coalesce(block ->> 'text', CASE WHEN json_type(block) = 'VARCHAR' THEN block ->> '$'
                                             WHEN block ->> 'type' = 'image' THEN '[image]'
                                             ELSE block::VARCHAR END) FOR block IN ({output})::JSON[]], chr(10))
        WHEN 'NULL' THEN NULL ELSE {output}::VARCHAR END"""


# What the views say, one after the other: each looks into large lines, and together they would not fit into memory.
# `rank` is the order of what comes from one line, after the place of its block: texts, tool calls, the call itself.
_STAGED = {
    "conversation_messages": """
        SELECT event_id, source, 'message' AS entry, 0 AS rank, coalesce(block, 0) AS block, subagent_id, role,
               coalesce(kind, 'text') AS kind, text[1:$chars] AS text, length(text) AS chars, model, timestamp
        FROM messages WHERE {scope} AND (source <> 'message' OR kind = 'text')
    """,
    "conversation_tools": f"""
        SELECT event_id, source, 'tool' AS entry, 1 AS rank, coalesce(block, 0) AS block, subagent_id, tool AS name,
               tool_call_id, (input::VARCHAR)[1:$chars] AS text, coalesce(length(input::VARCHAR), 0) AS chars,
               ({_result_text("output")})[1:$chars] AS result,
               coalesce(length({_result_text("output")}), 0) AS result_chars,
               duration_ms, ok, error_type AS error, timestamp
        FROM tool_calls WHERE {{scope}}
    """,
    "conversation_calls": """
        SELECT event_id, source, 'call' AS entry, 2 AS rank, 0 AS block, subagent_id, model, ok, error_type AS error,
               latency_ms AS duration_ms,
               coalesce(uncached_input_tokens, 0)::HUGEINT + coalesce(cache_read_tokens, 0)
                   + coalesce(cache_write_5m_tokens, 0) + coalesce(cache_write_1h_tokens, 0) AS input_tokens,
               coalesce(output_tokens, 0) AS output_tokens, last_timestamp AS timestamp
        FROM llm_calls WHERE {scope}
    """,
}
# `payload` is that of an event whose texts are to be read in Python.
_ENTRIES = f"""
    WITH lines AS (
        SELECT event_id, event_type, run_id, segment, line_offset, turn_number, timestamp,
               CASE WHEN event_type IN ('llm_call', 'message')
                         OR (event_type IN {_RECORDED} AND contains(payload::VARCHAR, '"$blob"'))
                    THEN payload::VARCHAR END AS payload,
               CASE WHEN event_type IN ('error', 'tool_call')
                    THEN concat_ws(': ', payload ->> '/error_type', payload ->> '/error_message')
                    WHEN event_type = 'conversation_state' THEN payload ->> '/summary'
                    WHEN event_type = 'run_started' THEN payload ->> '/task' END AS words
        FROM events WHERE {{scope}}
    ), entries AS (
        FROM conversation_messages
        UNION ALL BY NAME
        SELECT event_id, event_type AS source, 'message' AS entry, 0 AS rank, 0 AS block,
               CASE event_type WHEN 'run_started' THEN 'user' ELSE 'assistant' END AS role,
               CASE event_type WHEN 'error' THEN 'error' WHEN 'conversation_state' THEN 'summary'
                               ELSE 'task' END AS kind,
               words[1:$chars] AS text, length(words) AS chars, timestamp
        FROM lines WHERE words <> '' AND event_type <> 'tool_call'
        UNION ALL BY NAME
        FROM conversation_tools
        UNION ALL BY NAME
        FROM conversation_calls
    ), standing AS (
        SELECT entries.*, run_id, turn_number, payload, words, source NOT IN {_RECORDED} AS is_line,
               CASE WHEN is_line THEN segment END AS segment, CASE WHEN is_line THEN line_offset END AS line_offset
        FROM entries LEFT JOIN (SELECT * EXCLUDE (event_type, timestamp) FROM lines) AS lines USING (event_id)
    )
    SELECT * EXCLUDE (event_id), event_id::VARCHAR AS event_id,
           CASE WHEN is_line THEN coalesce(
               max(timestamp) FILTER (timestamp > 'epoch') OVER (
                   PARTITION BY subagent_id, segment ORDER BY line_offset, block, rank ROWS UNBOUNDED PRECEDING),
               min(timestamp) FILTER (timestamp > 'epoch') OVER (PARTITION BY subagent_id, segment), timestamp)
               ELSE timestamp END AS moment
    FROM standing
    ORDER BY moment, segment NULLS FIRST, line_offset NULLS FIRST, standing.event_id, block, rank
"""
_TOOL_EVENTS = """
    SELECT payload ->> '/tool_call_id', payload ->> '/tool_name', (payload -> '/arguments')::VARCHAR
    FROM events WHERE {scope} AND event_type = 'tool_call'
"""


def read_entries(
    connection: duckdb.DuckDBPyConnection, root: Path, scope: Scope, *, text_chars: int = TEXT_MAX_CHARS
) -> Entries:
    """Return the entries of a run or a session; of each text the first `text_chars` characters."""
    answer = Entries([])
    left_chars = CHARS_MAX
    for entry in _expanded(connection, root, scope, text_chars):
        taken, whole = _sizes(entry.thing)
        if whole and (left_chars < taken or len(answer.entries) >= ITEMS_MAX):
            answer.left_out_items += 1
            answer.left_out_chars += whole
            if isinstance(entry.thing, ToolUse):
                answer.entries.append(entry._replace(thing=LeftOut(entry.thing.ok)))
            continue
        left_chars -= taken
        answer.entries.append(entry)
    return answer


def _sizes(thing: Thing) -> tuple[int, int]:
    """Return the characters of what is shown of a thing, and of all of it; 0 for what only counts."""
    if isinstance(thing, Message):
        return len(thing.text), thing.chars
    if isinstance(thing, ToolUse):
        return len(thing.arguments) + len(thing.result or ""), thing.arguments_chars + thing.result_chars + 1
    return (len(thing.text), len(thing.text)) if isinstance(thing, Result) else (0, 0)


def _expanded(connection: duckdb.DuckDBPyConnection, root: Path, scope: Scope, text_chars: int) -> Iterator[Entry]:
    reader = _Reader(root, scope, _tool_events(connection, scope), text_chars)
    params = {**scope.params, "chars": text_chars}
    for table, statement in _STAGED.items():
        used = params if "$chars" in statement else scope.params
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {scope.within(statement)}", used)
    cursor = connection.execute(scope.within(_ENTRIES), params)
    while rows := rows_as_dicts(cursor, rows_max=_FETCHED):
        for row in rows:
            for thing, timestamp in reader.things(row):
                yield Entry(row["subagent_id"], row["turn_number"], timestamp, thing)
    for table in _STAGED:
        connection.execute(f"DROP TABLE {table}")


def _tool_events(connection: duckdb.DuckDBPyConnection, scope: Scope) -> ToolEvents:
    rows = connection.execute(scope.within(_TOOL_EVENTS), scope.params).fetchall()
    return ToolEvents(
        ids=frozenset(call_id for call_id, *_ in rows if call_id),
        calls=frozenset(call_key(tool, arguments) for _, tool, arguments in rows),
    )


class _Reader:
    """Turns rows into what they stand for, in their order."""

    def __init__(self, root: Path, scope: Scope, tools: ToolEvents, text_chars: int) -> None:
        self._resolver = blobs.Resolver(root)
        self._workspace = scope.workspace
        self._history = History(tools)
        self._text_chars = text_chars
        self._left_bytes = _PROMPTS_MAX_BYTES
        self._last_message = ""

    def things(self, row: dict[str, Any]) -> Iterator[tuple[Message | ToolUse | Call | Result, datetime | None]]:
        moment = row["timestamp"]
        timestamp = None if moment is None or moment == timestamps.parse(timestamps.UNKNOWN) else moment
        if row["entry"] == "message" and row["source"] != "message":
            self._last_message = row["event_id"]
            if row["text"].strip():
                yield self._message(row, timestamp), timestamp
        elif row["entry"] == "message":
            parts = self._history.of_message(self._payload(row), row["run_id"])
            yield from ((self._of_part(part, row, timestamp), timestamp) for part in parts)
        elif row["entry"] == "tool":
            yield self._tool_use(row, timestamp), timestamp
        else:
            if row["payload"] is not None:
                yield from self._recorded_call(row, timestamp)
            elif row["ok"] is False and row["event_id"] != self._last_message:  # else a notice says why
                yield self._error(row, row["error"], timestamp), timestamp
            yield self._call(row), timestamp

    def _payload(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the payload of a recorded event; without its prompt, once too much was read of prompts."""
        stored = row["payload"].encode()
        if self._left_bytes < 0:
            cut = {name: raw for name, raw in payloads.fields(stored).items() if name != "input_messages"}
            stored = msgspec.json.encode(cut)
        whole = self._resolver.resolve(stored, self._workspace, marked=True)
        self._left_bytes -= len(whole)
        return payloads.fields(whole)

    def _recorded_call(
        self, row: dict[str, Any], timestamp: datetime | None
    ) -> Iterator[tuple[Message | ToolUse | Result, datetime | None]]:
        payload = self._payload(row)
        began = timestamp
        if timestamp is not None and 0 <= (row["duration_ms"] or -1) <= timestamps.MS_MAX:
            with suppress(OverflowError):  # a duration that leads out of the calendar
                began = timestamp - timedelta(milliseconds=row["duration_ms"])
        for part, is_answer in self._history.of_call(payload, row["run_id"]):
            moment = timestamp if is_answer else began
            yield self._of_part(part, row, moment), moment
        if row["ok"] is False:
            words = [payload.get(name) for name in ("error_type", "error_message")]
            yield self._error(row, ": ".join(str(each) for each in words if each), timestamp), timestamp

    def _of_part(self, part: Part, row: dict[str, Any], timestamp: datetime | None) -> Message | ToolUse | Result:
        event_id, text, chars = row["event_id"], part.text[: self._text_chars], len(part.text)
        if part.kind == "call":
            return ToolUse(
                tool=part.tool or "tool", tool_call_id=part.tool_call_id, arguments=text, arguments_chars=chars,
                result=None, result_chars=0, ok=None, timestamp=timestamp, event_id=event_id,
            )  # fmt: skip
        if part.kind == "result" and part.tool_call_id is not None:
            return Result(part.tool_call_id, part.text)
        model = row["model"] if part.role == "assistant" else None
        kind = "text" if part.kind == "result" else part.kind
        return Message(
            role=part.role, kind=kind, text=text, chars=chars, model=model, timestamp=timestamp, event_id=event_id
        )

    def _message(self, row: dict[str, Any], timestamp: datetime | None) -> Message:
        text, chars = row["text"], row["chars"]
        if row["payload"] is not None and text.startswith('{"$blob":'):
            payload = self._payload(row)
            text = _as_text(payload.get("task", payload.get("summary", payload.get("error_message")))) or ""
            text, chars = text[: self._text_chars], len(text)
        return Message(
            role=row["role"] or "user", kind=row["kind"], text=text, chars=chars, model=row["model"],
            timestamp=timestamp, event_id=row["event_id"],
        )  # fmt: skip

    def _error(self, row: dict[str, Any], text: str | None, timestamp: datetime | None) -> Message:
        text = text or "the call failed"
        return Message(
            role="assistant", kind="error", text=text[: self._text_chars], chars=len(text), model=row["model"],
            timestamp=timestamp, event_id=row["event_id"],
        )  # fmt: skip

    def _tool_use(self, row: dict[str, Any], timestamp: datetime | None) -> ToolUse:
        arguments, chars = row["text"] or "", row["chars"]
        result, result_chars = row["result"], row["result_chars"]
        if row["payload"] is not None:
            payload = self._payload(row)
            arguments, result = _as_json(payload.get("arguments")), _as_text(payload.get("result"))
            chars, result_chars = len(arguments), len(result or "")
        if row["source"] == "tool_call":
            self._history.note_result(row["run_id"], result, row["words"], row["error"])
        return ToolUse(
            tool=row["name"] or "tool", tool_call_id=row["tool_call_id"], arguments=arguments[: self._text_chars],
            arguments_chars=chars, result=None if result is None else result[: self._text_chars],
            result_chars=result_chars, ok=row["ok"], error=row["words"] or row["error"], duration_ms=row["duration_ms"],
            timestamp=timestamp, event_id=row["event_id"],
        )  # fmt: skip

    def _call(self, row: dict[str, Any]) -> Call:
        return Call(
            event_id=row["event_id"], model=row["model"], input_tokens=int(row["input_tokens"]),
            output_tokens=int(row["output_tokens"]), ok=row["ok"],
        )  # fmt: skip


def _as_json(value: Any) -> str:
    return "" if value is None else msgspec.json.encode(value).decode()


def _as_text(value: Any) -> str | None:
    """Return a result as text; why it cannot be read where it is stored beside the log."""
    if isinstance(value, str) or value is None:
        return value
    reason = blobs.error_of(value)
    return f"(it cannot be read: {reason})" if reason else _as_json(value)
