"""Codex rollouts: `~/.codex/sessions/YYYY/MM/DD/rollout-<time>-<session id>.jsonl`, and archived ones.

Each line becomes the payload of a `codex` event as it stands; what it means is left to the index's views.

Lines do not name their session; the first one of a file, `session_meta`, does. A fork or a subagent begins with its
own `session_meta` and goes on with the lines of its parent, that one's `session_meta` among them: so only the first
counts (https://github.com/kenn-io/agentsview/pull/657).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from eventlog.errors import ImportFailed
from eventlog.format import ids, json_text, payloads, timestamps
from eventlog.format.envelope import Envelope, encode_fields
from eventlog.importers import previews
from eventlog.importers.compression import ENDINGS, of_name, plain_name
from eventlog.importers.records import importer_parts, open_source, path_name, read_lines, split_records
from eventlog.importers.sources import Source

EVENT_TYPE = "codex"
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LINE_TYPES = frozenset({"session_meta", "turn_context", "response_item", "event_msg", "compacted"})
#: Files beside the rollouts: prompts of all sessions, and names of sessions.
_OTHER_FILES = frozenset({"history.jsonl", "session_index.jsonl"})


class _Line(msgspec.Struct):
    """What an envelope needs of a line; all else is only in the payload."""

    timestamp: Any = None
    type: Any = None
    payload: msgspec.Raw = msgspec.Raw(b"null")


class Codex:
    """The format of Codex's rollouts."""

    def __init__(self, *, workspace: str | None = None, agent: str | None = None) -> None:
        encode_fields({"workspace": workspace, "agent": agent})
        self.workspace = workspace
        self.agent = agent or None
        self.key = msgspec.json.encode([EVENT_TYPE, workspace, self.agent]).decode()
        self._decode = msgspec.json.Decoder(_Line).decode

    def source_name(self, path: Path) -> str:
        """The session's id, by the file's first line, else by its name: a moved or archived rollout is the same one."""
        stem = plain_name(Path(path_name(path)).name).removesuffix(".jsonl")
        named = _ID.findall(stem)
        return _session_of(path) or (named[-1] if named else stem)

    def envelopes(self, data: bytes, source: str, occurrence: int) -> list[Envelope]:
        """Return the one event of a line."""
        line = self._decode(json_text.once(data))
        moment = timestamps.from_foreign(line.timestamp)
        timestamp = timestamps.UNKNOWN if moment is None else timestamps.to_text(moment)
        made = Envelope(
            event_id=ids.derived_id(
                timestamps.to_us(timestamps.parse(timestamp)),
                EVENT_TYPE, source, *importer_parts(self.agent), data, str(occurrence), workspace=self.workspace,
            ),
            event_type=EVENT_TYPE,
            timestamp=timestamp,
            session_id=source,
            request_id=_turn_of(line.payload),
            workspace=self.workspace,
            agent=self.agent,
            payload=msgspec.Raw(data),
        )  # fmt: skip
        return [made]


def _turn_of(payload: msgspec.Raw) -> str | None:
    """Return the id of the turn that a line names: in a turn, Codex does what one prompt asks for."""
    fields = payloads.fields(payload)
    inner = fields.get("metadata")
    for turn in (fields.get("turn_id"), inner.get("turn_id") if isinstance(inner, dict) else None):
        if isinstance(turn, str) and turn:
            return turn
    return None


def _session_of(path: Path) -> str | None:
    """Return the session that the first line of a file names; None if it names none, or cannot be read."""
    try:
        with open_source(path) as file:
            for line in read_lines(path, file, 0):
                for record in split_records(line):
                    first = msgspec.json.decode(json_text.once(record.data), type=_Line)
                    session = payloads.fields(first.payload).get("id") if first.type == "session_meta" else None
                    return session if isinstance(session, str) and session else None
    except (ImportFailed, ValueError, RecursionError):  # the import itself says what is damaged
        return None
    return None


def default_folders() -> list[Path]:
    """Return where Codex keeps its rollouts on this machine: those in use, and archived ones."""
    base = os.environ.get("CODEX_HOME")
    home = Path(base) if base else Path.home() / ".codex"
    return [home / "sessions", home / "archived_sessions"]


def without_copies(paths: Sequence[Path]) -> list[Path]:
    """Leave out archived rollouts that are in use, compressed ones that are there as they were, and other files.

    Archived is `<home>/archived_sessions/<name>`, in use `<home>/sessions/YYYY/MM/DD/<name>`. Codex moves a rollout
    from one to the other; where both are, the one in use has gone on.
    """
    there = set(paths)
    in_use = {(home, plain_name(path.name)) for path in paths if (home := _home_of(path, "sessions")) is not None}
    return [
        path
        for path in paths
        if path.name not in _OTHER_FILES
        and (_home_of(path, "archived_sessions"), plain_name(path.name)) not in in_use
        and not (of_name(path.name) and path.with_suffix("") in there)
    ]


def _home_of(path: Path, folder: str) -> Path | None:
    """Return the folder that has the nearest folder of this name above a file."""
    return next((parent.parent for parent in path.parents if parent.name == folder), None)


def recognises(line: Any) -> bool:
    """Say whether a line is one of Codex: a type that it has, and a payload."""
    return line.get("type") in _LINE_TYPES and isinstance(line.get("payload"), dict) and "sessionId" not in line


SOURCE = Source(
    name=EVENT_TYPE,
    command="codex",
    help="""Import Codex rollouts; by default all of ~/.codex.

    The index then has views over them: llm_calls, tool_calls, sessions, messages.

    \b
    Example:
      eventlog import codex
      eventlog import codex ~/.codex/sessions/2026/06 --follow
    """,
    event_types=(EVENT_TYPE,),
    format=Codex,
    default_folders=default_folders,
    patterns=("*.jsonl", *(f"*.jsonl{ending}" for ending in ENDINGS)),
    noun="rollout",
    preview=previews.codex,
    recognises=recognises,
    without_copies=without_copies,
    views="eventlog.indexer.views.codex:VIEWS",
)
