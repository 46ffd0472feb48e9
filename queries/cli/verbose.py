"""The whole of a run in words: for each step and call, what it was given and what came out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from eventlog.cli.text import counted, printable
from eventlog.queries.runs.nodes import Node
from eventlog.queries.text.units import duration

#: What belongs to each kind of event, in this order; what else there is follows.
_ORDER = {
    "llm_call": (
        "system_instructions", "input_messages", "output_messages", "context_statistics", "request_parameters",
        "finish_reasons", "tool_definitions", "raw_usage",
    ),
    "tool_call": ("arguments", "result"),
    "step": ("input", "output"),
}  # fmt: skip
#: They stand in the tree already.
_KNOWN = ("name", "kind", "duration_ms", "latency_ms", "tool_name")
_TEXT_MAX_CHARS = 200_000


def details(node: Node, payload: Any) -> Iterator[str]:
    """Yield the lines of an event: a heading, and its fields."""
    took = f", {duration(node.duration_ms)}" if node.duration_ms is not None else ""
    yield printable(f"── {node.event_type} {node.name}{took}, {node.event_id}")
    if isinstance(payload, dict):
        first = [name for name in _ORDER.get(node.event_type, ()) if name in payload]
        rest = [name for name in payload if name not in first and name not in _KNOWN]
        for name in (*first, *rest):
            yield from _field(name, payload[name])
    yield ""


def _field(name: str, value: Any) -> Iterator[str]:
    if name in ("input_messages", "output_messages") and isinstance(value, list):
        for message in value:
            yield from _message(name.removesuffix("_messages"), message)
    elif isinstance(value, str):
        yield from _text(name, value)
    elif isinstance(value, dict | list) and value:
        yield from _text(name, pretty(value))
    else:
        yield printable(f"   {name}: {msgspec.json.encode(value).decode()}")


def _message(direction: str, message: Any) -> Iterator[str]:
    """A message as most programs have it: a role, and text or parts."""
    if not isinstance(message, dict):
        yield from _text(direction, message if isinstance(message, str) else pretty(message))
        return
    role = str(message.get("role", ""))
    parts = message.get("parts", message.get("content"))
    for part in parts if isinstance(parts, list) else [parts]:
        text = part.get("content", part.get("text")) if isinstance(part, dict) else part
        whole = text if isinstance(text, str) else pretty(message if part is None else part)
        yield from _text(f"{direction} {role}".strip(), whole)


def _text(name: str, text: str) -> Iterator[str]:
    cut = text[:_TEXT_MAX_CHARS]
    rows = [printable(row) for row in cut.split("\n")]
    if len(rows) == 1 and len(rows[0]) <= 60:
        yield f"   {printable(name)}: {rows[0]}"
        return
    yield f"   {printable(name)}:"
    yield from (f"     {row}" for row in rows)
    if len(cut) < len(text):
        yield f"     … {counted(len(text) - len(cut), 'more character')}; eventlog show EVENT has them"


def pretty(value: Any) -> str:
    """Return JSON over several lines."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
