"""The events of a log, read line by line: docs/format.md, and "Identity" and "copies" in docs/schema.md."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

EPOCH = datetime(1970, 1, 1)
SOURCES = ("claude_code",)


class Event(NamedTuple):
    """A line of the log. `timestamp` is UTC without a zone; `place` is its segment and its byte."""

    event_id: str
    event_type: str
    timestamp: datetime
    workspace: str | None
    agent: str | None
    run_id: str | None
    session_id: str | None
    payload: dict[str, Any]
    place: tuple[str, int]
    request_id: str | None = None
    audit_level: str = "turn"

    @property
    def order(self) -> tuple[datetime, tuple[str, int]]:
        return self.timestamp, self.place


def read(root: Path) -> list[Event]:
    """Return the events of a root, each identity once: of several lines, that of the first place."""
    lines: list[Event] = []
    for path in (root / "log").glob("*/*.jsonl"):
        offset = 0
        for raw in path.read_bytes().split(b"\n"):
            event = _event(raw, path.parent.name, (path.stem, offset))
            if event is not None:
                lines.append(event)
            offset += len(raw) + 1
    first: dict[tuple[str | None, str], Event] = {}
    for event in sorted(lines, key=lambda event: event.place):
        first.setdefault((event.workspace, event.event_id), event)
    return list(first.values())


def _event(raw: bytes, folder: str, place: tuple[str, int]) -> Event | None:
    """Return the event of a line; None for what is no event (only what the tests write on purpose is looked for)."""
    try:
        line = json.loads(raw, parse_float=Decimal)
    except ValueError:
        return None
    if not isinstance(line, dict) or line.get("event_type") != folder or not isinstance(line.get("payload"), dict):
        return None
    return Event(
        event_id=line["event_id"].lower(),
        event_type=folder,
        timestamp=datetime.fromisoformat(line["timestamp"]).replace(tzinfo=None),
        workspace=line.get("workspace"),
        agent=line.get("agent"),
        run_id=line.get("run_id"),
        session_id=line.get("session_id"),
        payload=line["payload"],
        place=place,
        request_id=line.get("request_id"),
        audit_level=line.get("audit_level") or "turn",
    )


def without_copies(events: Iterable[Event]) -> list[Event]:
    """Return the events without the lines that Claude Code copied from another session."""
    events = list(events)
    copied = _copies([event for event in events if event.event_type == "claude_code"])
    return [event for event in events if event.place not in copied]


def _copies(lines: list[Event]) -> set[tuple[str, int]]:
    same: dict[tuple[str | None, str], list[Event]] = defaultdict(list)
    for line in lines:
        mark = _mark(line.payload)
        if mark is not None:
            same[line.workspace, mark].append(line)
    marked = {line.place: _says_that_it_is_a_copy(line.payload) for line in lines}
    ended: dict[tuple[str | None, str | None], datetime] = {}
    began: dict[tuple[str | None, str | None], datetime] = {}
    for group in same.values():
        alone = sum(not marked[line.place] for line in group) == 1
        for line in group:
            session = (line.workspace, line.session_id)
            ended[session] = max(ended.get(session, line.timestamp), line.timestamp)
            if alone and not marked[line.place] and line.timestamp > EPOCH:
                began[session] = min(began.get(session, line.timestamp), line.timestamp)

    def rank(line: Event) -> tuple[bool, datetime, datetime, tuple[str, int]]:
        session = (line.workspace, line.session_id)
        return marked[line.place], began.get(session, datetime.min), ended[session], line.place

    return {line.place for group in same.values() for line in sorted(group, key=rank)[1:]}


def _mark(payload: dict[str, Any]) -> str | None:
    """What a line and its copies have in common: its uuid; its text, where it has none and names no session."""
    if payload.get("uuid") is not None:
        return str(payload["uuid"]).lower()
    return json.dumps(payload, default=str) if payload.get("sessionId") is None else None


def _says_that_it_is_a_copy(payload: dict[str, Any]) -> bool:
    return payload.get("forkedFrom") is not None or payload.get("sessionKind") == "bg"


# -- values ----------------------------------------------------------------------------------


def text(value: Any) -> str | None:
    """A text; None for anything else: a field of another type is absent."""
    return value if isinstance(value, str) else None


def whole(value: Any) -> int | None:
    """A whole number of 64 bits; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63 else None


def number(value: Any) -> float | None:
    """Any number."""
    return float(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else None


def nested(value: Any, *names: str) -> Any:
    """What stands at a path in objects; None where there is nothing."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value
