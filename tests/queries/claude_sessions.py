"""Lines of Claude Code's transcripts, made by hand: for tests of what is asked about sessions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from eventlog.config import Config
from eventlog.importers.claude_code import ClaudeCode
from eventlog.importers.engine import importing
from eventlog.indexer.indexer import Indexer
from eventlog.queries.store import ReadStore

MODEL = "claude-opus-4-5-20251101"
#: Of a call without more tokens than these: 2 cents by the price of MODEL, 5 USD per million.
TOKENS = {"input_tokens": 4_000, "output_tokens": 0}

Line = dict[str, Any]


def line(kind: str, session: str, at: str, **more: Any) -> Line:
    """A line of a session at a time, such as `2026-03-01T10:00:00Z`."""
    uuid = str(uuid5(NAMESPACE_OID, f"{kind} {session} {at} {sorted(more)} {more.get('message')}"))
    fields = {"type": kind, "sessionId": session, "uuid": uuid, "timestamp": at, "cwd": "/home/ada/engine"}
    return fields | {name: value for name, value in more.items() if value is not None}


def asked(session: str, at: str, text: str, **more: Any) -> Line:
    return line("user", session, at, message={"role": "user", "content": text}, **more)


def answered(session: str, at: str, *blocks: Line, tokens: dict[str, int] | None = None, **more: Any) -> Line:
    """An answer with blocks, such as calls of tools; by default of 2 cents."""
    message = {
        "id": f"msg_{uuid5(NAMESPACE_OID, session + at).hex}", "role": "assistant", "model": MODEL,
        "content": [*blocks], "stop_reason": "end_turn", "usage": TOKENS if tokens is None else tokens,
    }  # fmt: skip
    return line("assistant", session, at, message=message, **more)


def tool(id_: str, name: str, **arguments: Any) -> Line:
    return {"type": "tool_use", "id": f"toolu_{id_}", "name": name, "input": arguments}


def result(session: str, at: str, id_: str, text: str = "done", *, failed: bool = False) -> Line:
    block = {"type": "tool_result", "tool_use_id": f"toolu_{id_}", "content": text, "is_error": failed}
    return line("user", session, at, message={"role": "user", "content": [block]})


def store_of(root: Path, folder: Path, *transcripts: Iterable[Line]) -> ReadStore:
    """Import transcripts, each a file of its own; index them."""
    folder.mkdir(parents=True, exist_ok=True)
    with importing(Config(root=str(root), strict=True), ClaudeCode()) as importer:
        for number, lines in enumerate(transcripts):
            path = folder / f"{number}.jsonl"
            path.write_text("".join(json.dumps(each) + "\n" for each in lines))
            importer.run(path)
    Indexer(root).catch_up()
    return ReadStore(root)
