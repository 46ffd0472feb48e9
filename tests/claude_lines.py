"""Lines of Claude Code's transcripts, made small, for tests of what is read from them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import msgspec

from eventlog.config import Config
from eventlog.importers.claude_code import ClaudeCode
from eventlog.importers.engine import importing
from eventlog.indexer.indexer import Indexer
from eventlog.queries.store import ReadStore

OPUS = "claude-opus-4-5-20251101"
SESSION = "11111111-aaaa-4aaa-8aaa-000000000001"
Line = dict[str, Any]

_numbers = itertools.count(1)


def line(kind: str, at: str, session: str = SESSION, **fields: Any) -> Line:
    """A line of any kind at a time of one day, such as `10:00:01`."""
    return {
        "parentUuid": None, "isSidechain": False, "cwd": "/home/ada/kiln", "sessionId": session, "type": kind,
        "uuid": f"{next(_numbers):08d}-0000-4000-8000-000000000000", "timestamp": f"2026-03-02T{at}.000Z",
    } | fields  # fmt: skip


def prompt(at: str, content: Any, session: str = SESSION, **fields: Any) -> Line:
    """What a user said: a text, or blocks."""
    return line("user", at, session, message={"role": "user", "content": content}, **fields)


def answer(
    at: str, *blocks: Line, message_id: str = "", session: str = SESSION, output: int = 10, **fields: Any
) -> Line:
    """A line of a model's answer."""
    usage = {"input_tokens": 3, "cache_read_input_tokens": 100, "output_tokens": output}
    message = {
        "id": message_id or f"msg_{next(_numbers)}", "role": "assistant", "model": OPUS, "content": list(blocks),
        "usage": usage,
    }  # fmt: skip
    return line("assistant", at, session, message=message, **fields)


def text(words: str) -> Line:
    """A block of text."""
    return {"type": "text", "text": words}


def thinking(words: str) -> Line:
    """A block of thinking."""
    return {"type": "thinking", "thinking": words, "signature": "c2ln"}


def use(call_id: str, tool: str, **arguments: Any) -> Line:
    """A block that calls a tool."""
    return {"type": "tool_use", "id": call_id, "name": tool, "input": arguments}


def result(at: str, call_id: str, content: Any, session: str = SESSION, **fields: Any) -> Line:
    """The line with the result of a tool call."""
    block = {"type": "tool_result", "tool_use_id": call_id, "content": content}
    if "is_error" in fields:
        block["is_error"] = fields.pop("is_error")
    return line("user", at, session, message={"role": "user", "content": [block]}, **fields)


def store_of(root: Path, folder: Path, *files: list[Line]) -> ReadStore:
    """Import files of lines, one after the other, and index them."""
    with importing(Config(root=str(root), strict=True), ClaudeCode()) as importer:
        for number, lines in enumerate(files):
            path = folder / f"{number}.jsonl"
            path.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in lines))
            importer.run(path)
    Indexer(root).catch_up()
    return ReadStore(root)
