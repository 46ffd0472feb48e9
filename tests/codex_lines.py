"""Lines of Codex rollouts, made by hand: for tests of the importer and of the views."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eventlog.config import Config
from eventlog.importers.codex import Codex
from eventlog.importers.engine import importing
from eventlog.indexer.indexer import Indexer
from eventlog.queries.store import ReadStore

#: UUIDs of version 7: those of sessions and turns begin with the time, here the minute.
PARENT = "01900000-0000-7000-8000-00000000000a"
CHILD = "01900000-0010-7000-8000-00000000000b"
SIBLING = "01900000-0011-7000-8000-00000000000c"
TURN = "01900000-0001-7000-8000-000000000001"
TURN_2 = "01900000-0002-7000-8000-000000000002"
OWN_TURN = "01900000-0012-7000-8000-000000000003"
MODEL = "gpt-5.5"

Line = dict[str, Any]


def line(kind: str, at: str | None, **payload: Any) -> Line:
    """A line at a time of one day, such as `10:00:01`."""
    return ({} if at is None else {"timestamp": f"2026-06-17T{at}.000Z"}) | {"type": kind, "payload": payload}


def meta(session: str = PARENT, at: str = "10:00:00", **more: Any) -> Line:
    fields = {"id": session, "cwd": "/home/ada/engine", "cli_version": "0.142.1", "model_provider": "openai"}
    return line("session_meta", at, **(fields | more))


def turn(at: str = "10:00:01", turn_id: str | None = TURN, model: str = MODEL, **more: Any) -> Line:
    return line("turn_context", at, **({} if turn_id is None else {"turn_id": turn_id}), model=model, **more)


def usage(input_: int, output: int, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    return {
        "input_tokens": input_,
        "cached_input_tokens": cached,
        "output_tokens": output,
        "reasoning_output_tokens": reasoning,
        "total_tokens": input_ + output,
    }


def count(at: str | None, total: dict[str, Any], last: dict[str, Any] | None = None) -> Line:
    info = {"total_token_usage": total, "last_token_usage": last or total, "model_context_window": 258400}
    return line("event_msg", at, type="token_count", info=info, rate_limits=None)


def event(at: str, kind: str, **more: Any) -> Line:
    return line("event_msg", at, type=kind, **more)


def item(at: str, kind: str, **more: Any) -> Line:
    return line("response_item", at, type=kind, **more)


def said(at: str, role: str, *texts: str) -> Line:
    kind = "output_text" if role == "assistant" else "input_text"
    return item(at, "message", role=role, content=[{"type": kind, "text": text} for text in texts])


def write(path: Path, lines: Iterable[Line]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return path


def import_files(root: Path, *paths: Path, workspace: str | None = None) -> None:
    with importing(Config(root=str(root), strict=True), Codex(workspace=workspace)) as importer:
        for path in paths:
            importer.run(path)


def store_of(root: Path, folder: Path, *rollouts: Iterable[Line]) -> ReadStore:
    """Import rollouts, each a file of its own, in this order; index them."""
    import_files(root, *(write(folder / f"{n}.jsonl", lines) for n, lines in enumerate(rollouts)))
    Indexer(root).catch_up()
    return ReadStore(root)
