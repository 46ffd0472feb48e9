"""Claude Code transcripts: `~/.claude/projects/<folder>/<session id>.jsonl`.

Each line becomes the payload of a `claude_code` event as it stands; what it means is left
to the index's views, which can be made better later. Unknown line types are welcome.

A line that names no session belongs to that of its file's other lines. In a file where no line names one (summaries
of other sessions, under a name of its own) it belongs to what it refers to, which the index finds out; without a
reference, to the session that the file or its folder is called by.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from eventlog.errors import ImportFailed
from eventlog.format import ids, json_text, payloads, timestamps
from eventlog.format.envelope import Envelope, encode_fields
from eventlog.importers import compression, previews
from eventlog.importers.records import importer_parts, open_source, path_name, read_lines, split_records
from eventlog.importers.sources import Source

EVENT_TYPE = "claude_code"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: How much of a file is searched for a line that names a session: all but the largest are read whole.
_SEARCHED_BYTES = 64 * 1024 * 1024
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@/-]*")


class _Line(msgspec.Struct):
    """The few fields of a line that go into the envelope; all else is only in the payload."""

    timestamp: Any = None
    sessionId: Any = None  # noqa: N815 - their name
    requestId: Any = None  # noqa: N815
    snapshot: msgspec.Raw = msgspec.Raw(b"null")
    uuid: Any = None
    leafUuid: Any = None  # noqa: N815
    messageId: Any = None  # noqa: N815


class _Sessions(NamedTuple):
    """The session that the lines of a file name, if one does, and the one that it or its folder is called by."""

    named: str | None
    standing: str


class ClaudeCode:
    """The format of Claude Code's transcripts."""

    def __init__(self, *, workspace: str | None = None, agent: str | None = None) -> None:
        encode_fields({"workspace": workspace, "agent": agent})
        self.workspace = workspace
        self.agent = agent or None
        self.key = f"claude_code workspace={_quoted(workspace)} agent={_quoted(self.agent)}"
        self._decode = msgspec.json.Decoder(_Line).decode
        #: By the names of files.
        self._sessions: dict[str, _Sessions] = {}

    def source_name(self, path: Path) -> str:
        """The session that the file is called by: a copied or moved transcript is the same one."""
        plain = Path(path_name(path))
        stem = compression.plain_name(plain.name).removesuffix(".jsonl")
        name = next(iter(_UUID.findall(stem)), stem)
        if name not in self._sessions or self._sessions[name].named is None:
            self._sessions[name] = _Sessions(_named_session(path, name), _standing_for(plain, name))
        return name

    def envelopes(self, data: bytes, source: str, occurrence: int) -> list[Envelope]:
        """Return the one event of a line.

        Its id depends on the session and the bytes, not on the file: a fork begins with lines of another session,
        byte for byte. Where a line has a uuid, its second occurrence is a copy as well.
        """
        line = self._decode(json_text.once(data))
        moment = _moment(line)
        session = _text(line.sessionId) or self._session_of_file(source, line)
        nth = 0 if _text(line.uuid) else occurrence
        made = Envelope(
            event_id=ids.derived_id(
                timestamps.to_us(timestamps.parse(moment)),
                EVENT_TYPE, session or "", *importer_parts(self.agent), data, str(nth), workspace=self.workspace,
            ),
            event_type=EVENT_TYPE,
            timestamp=moment,
            session_id=session,
            request_id=line.requestId if isinstance(line.requestId, str) else None,
            workspace=self.workspace,
            agent=self.agent,
            payload=msgspec.Raw(data),
        )  # fmt: skip
        return [made]

    def _session_of_file(self, source: str, line: _Line) -> str | None:
        """Return the session of a line that names none; None where it refers to another line."""
        sessions = self._sessions.get(source) or _Sessions(None, source)
        refers = _text(line.leafUuid) or _text(line.messageId)
        return sessions.named or (None if refers else sessions.standing)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _named_session(path: Path, name: str) -> str | None:
    """Return the session that the lines of a file name: `name`, if one does, else the first; None if none does."""
    is_session, first = bool(_UUID.fullmatch(name)), None
    with contextlib.suppress(ImportFailed), open_source(path) as file:  # the import itself says what is damaged
        for line in read_lines(path, file, 0):
            if line.end > _SEARCHED_BYTES:
                break
            if b'"sessionId"' not in line.data:
                continue
            for record in split_records(line):
                session = _session_of(record.data)
                if session == name or (session and not is_session):
                    return session
                first = first or session
    return first


def _standing_for(path: Path, name: str) -> str:
    """Return the session that a file is called by, or the nearest folder that is called by one."""
    folders = (folder.name for folder in path.parents)
    return name if _UUID.fullmatch(name) else next(filter(_UUID.fullmatch, folders), name)


def _session_of(data: bytes) -> str | None:
    try:
        return _text(_decode_line(json_text.once(data)).sessionId)
    except (ValueError, RecursionError):
        return None


_decode_line = msgspec.json.Decoder(_Line).decode


def _quoted(name: str | None) -> str:
    """Return a name as it stands in the key: in quotes where it could be taken for what follows it."""
    if name is None or _PLAIN_NAME.fullmatch(name):
        return name or ""
    return json.dumps(name)


def _moment(line: _Line) -> str:
    """The line's own time; without one, that of its snapshot; without that, unknown.

    Not the neighbours' time: a rewritten file has other neighbours, and the id depends on it.
    """
    for value in (line.timestamp, payloads.fields(line.snapshot).get("timestamp")):
        found = timestamps.from_foreign(value)
        if found is not None:
            return timestamps.to_text(found)
    return timestamps.UNKNOWN


def default_folders() -> list[Path]:
    """Return where Claude Code keeps its transcripts on this machine.

    CLAUDE_CONFIG_DIR may name several folders, with commas between. Without it there are two: later versions write to
    that of the XDG specification.
    """
    configured = [part.strip() for part in os.environ.get("CLAUDE_CONFIG_DIR", "").split(",")]
    bases = [Path(part).expanduser() for part in configured if part]
    if not bases:
        xdg = os.environ.get("XDG_CONFIG_HOME")
        bases = [Path.home() / ".claude", (Path(xdg) if xdg else Path.home() / ".config") / "claude"]
    return [base / "projects" for base in bases]


SOURCE = Source(
    name=EVENT_TYPE,
    command="claude-code",
    help="""Import Claude Code transcripts; by default all of ~/.claude and ~/.config/claude.

    The index then has views over them: llm_calls, tool_calls, sessions, messages.

    \b
    Example:
      eventlog import claude-code
      eventlog import claude-code ~/.claude/projects/my-project --follow
    """,
    event_types=(EVENT_TYPE,),
    format=ClaudeCode,
    default_folders=default_folders,
    recognises=lambda line: "sessionId" in line and ("uuid" in line or "leafUuid" in line or "messageId" in line),
    patterns=("*.jsonl", *(f"*.jsonl{ending}" for ending in compression.ENDINGS)),
    noun="transcript",
    preview=previews.claude_code,
    views="eventlog.indexer.views.claude_code:VIEWS",
)
