"""The messages of recorded model calls and `message` events, each text once.

A model call names all messages of its prompt, so the prompt of a later call repeats those before it. A text counts as
new where one prompt has it more often than any prompt, with its answer, had it before. Programs may record the same
text as a `message` event, or a tool's call and result as a `tool_call` event: it is there once then, too.

Messages are read in the forms of OpenTelemetry, Anthropic, OpenAI and Google.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import msgspec

from eventlog.log import blobs

PartKind = Literal["text", "thinking", "call", "result"]


class Part(NamedTuple):
    """A part of a message: a text, a thought, a tool call (`text` is its arguments as JSON), or the result of one."""

    role: str
    kind: PartKind
    text: str
    tool: str | None = None
    tool_call_id: str | None = None


class ToolEvents(NamedTuple):
    """The tool calls that have events of their own: their ids, and their names with arguments."""

    ids: frozenset[str]
    calls: frozenset[bytes]


class History:
    """What was said so far in a run, or in the runs of a session. Ask it in the order of the log."""

    def __init__(self, tools: ToolEvents) -> None:
        self._tools = tools
        #: By run, the most times that one prompt, with its answer, had a text. `_latest` is that of the last call.
        self._runs: dict[str | None, Counter[bytes]] = {}
        self._latest: Counter[bytes] = Counter()
        #: How often `message` events of a run had a text, and how many of them came before the call that has it, too.
        self._events: Counter[tuple[str | None, bytes]] = Counter()
        self._ahead: Counter[bytes] = Counter()

    def of_call(self, payload: dict[str, Any], run_id: str | None) -> Iterator[tuple[Part, bool]]:
        """Yield what is new in a model call, and whether it is of the answer."""
        prompt = [*_messages(payload.get("system_instructions"), "system"),
                  *_messages(payload.get("input_messages"), "user")]  # fmt: skip
        most = self._latest = self._of_run(run_id, prompt)
        here: Counter[bytes] = Counter()
        for part in self._without_events(prompt):
            key = _key(part)
            here[key] += 1
            if here[key] > most[key]:
                most[key] = here[key]
                yield part, False
            elif self._ahead[key]:
                self._ahead[key] -= 1
        for part in self._without_events(_messages(payload.get("output_messages"), "assistant")):
            key = _key(part)
            if self._ahead[key]:
                self._ahead[key] -= 1
            else:
                most[key] += 1
                yield part, True

    def of_message(self, message: dict[str, Any], run_id: str | None) -> Iterator[Part]:
        """Yield what is new in a `message` event."""
        most = self._runs.get(run_id, self._latest)
        for part in self._without_events(_messages(message, str(message.get("role") or "user"))):
            key = _key(part)
            self._events[run_id, key] += 1
            if self._events[run_id, key] > most[key]:
                most[key] = self._events[run_id, key]
                self._ahead[key] += 1
                yield part

    def _of_run(self, run_id: str | None, prompt: list[Part]) -> Counter[bytes]:
        """Return what prompts of a run had so far. One that begins with answers goes on with the run before it."""
        if run_id not in self._runs:
            goes_on = any(part.role == "assistant" for part in prompt)
            self._runs[run_id] = Counter(self._latest if goes_on else self._ahead)
        return self._runs[run_id]

    def note_result(self, run_id: str | None, *texts: str | None) -> None:
        """Remember the result of a `tool_call` event: prompts repeat it."""
        most = self._runs.get(run_id, self._latest)
        for text in filter(None, texts):
            most[_key(Part("tool", "result", text))] += 1

    def _without_events(self, parts: list[Part]) -> Iterator[Part]:
        for part in parts:
            if part.tool_call_id in self._tools.ids and part.kind in ("call", "result"):
                continue
            if part.kind == "call" and call_key(part.tool, part.text) in self._tools.calls:
                continue
            if part.text.strip() or part.kind in ("call", "result"):
                yield part


def call_key(tool: str | None, arguments: str | None) -> bytes:
    """Return what equal calls of a tool have in common, however their arguments are written."""
    with contextlib.suppress(msgspec.MsgspecError, ValueError, RecursionError):
        arguments = msgspec.json.encode(msgspec.json.decode(arguments or "null"), order="sorted").decode()
    return _digest("call", tool or "", arguments or "")


def _key(part: Part) -> bytes:
    if part.kind == "call":
        return _digest("id", part.tool_call_id) if part.tool_call_id else call_key(part.tool, part.text)
    return _digest(part.kind, "" if part.kind == "result" else part.role, part.text)


def _digest(*texts: str) -> bytes:
    return hashlib.blake2b("\0".join(texts).encode(errors="surrogatepass"), digest_size=16).digest()


# -- forms of messages -----------------------------------------------------------------------


def _messages(value: Any, role: str) -> list[Part]:
    """Return the parts of one message or several, in whatever form; `role` is that of texts that name none."""
    if value is None:
        return []
    if blobs.error_of(value):
        return [Part(role, "text", f"(it cannot be read: {blobs.error_of(value)})")]
    return [part for message in (value if isinstance(value, list) else [value]) for part in _message(message, role)]


def _message(message: Any, role: str) -> Iterator[Part]:
    if not _is_message(message):
        yield from _block(message, role)
        return
    role = str(message.get("role") or role)
    thought = message.get("reasoning_content", message.get("reasoning"))
    if isinstance(thought, str):
        yield Part(role, "thinking", thought)
    content = message.get("parts", message.get("content"))
    if role in ("tool", "function"):
        yield from _result(content, message.get("tool_call_id"), message.get("name"))
        return
    for block in content if isinstance(content, list) else [] if content is None else [content]:
        yield from _block(block, role)
    for call in _objects(message.get("tool_calls")):
        function = call.get("function")
        yield from _call(function if isinstance(function, dict) else call, call.get("id"))


def _is_message(value: Any) -> bool:
    """Say whether an object is a message, not a block of the content of one."""
    if not isinstance(value, dict):
        return False
    return bool({"role", "parts", "tool_calls"} & value.keys()) or ("content" in value and "type" not in value)


def _result(content: Any, tool_call_id: Any, tool: Any = None) -> Iterator[Part]:
    blocks = content if isinstance(content, list) else [content]
    nested = [part for block in blocks for part in _block(block, "tool")]
    if any(part.kind == "result" for part in nested):  # the blocks name their calls themselves
        yield from nested
    else:
        text = "\n".join(part.text for part in nested)
        yield Part("tool", "result", text, _text_or_none(tool), _text_or_none(tool_call_id))


def _block(block: Any, role: str) -> Iterator[Part]:
    """Yield the parts of a block of content."""
    if isinstance(block, str) or block is None:
        yield Part(role, "text", block or "")
        return
    if not isinstance(block, dict):
        yield Part(role, "text", _json(block))
        return
    kind = block.get("type")
    if kind in ("tool_use", "tool_call", "function_call", "server_tool_use") or "functionCall" in block:
        yield from _call(block.get("functionCall", block), block.get("call_id", block.get("id")))
    elif kind in ("tool_result", "tool_call_response", "function_call_output") or "functionResponse" in block:
        named = next((block[name] for name in ("tool_use_id", "call_id", "id") if block.get(name)), None)
        answer = next((block[name] for name in ("content", "output", "response", "result", "functionResponse")
                       if name in block), None)  # fmt: skip
        yield from _result(answer, named)
    elif kind in ("thinking", "reasoning"):
        text = next((block[name] for name in ("thinking", "content", "text") if isinstance(block.get(name), str)), None)
        summary = "\n".join(str(each.get("text", "")) for each in _objects(block.get("summary")))
        yield Part(role, "thinking", text or summary)
    else:
        text = next((block[name] for name in ("text", "content") if isinstance(block.get(name), str)), None)
        yield Part(role, "text", text if text is not None else f"[{kind}]" if isinstance(kind, str) else _json(block))


def _call(call: dict[str, Any], call_id: Any) -> Iterator[Part]:
    arguments = next((call[name] for name in ("arguments", "input", "args") if name in call), None)
    text = arguments if isinstance(arguments, str) else _json(arguments)
    yield Part("assistant", "call", text or "", str(call.get("name") or "tool"), _text_or_none(call_id))


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
