"""Claude Code transcripts: `~/.claude/projects/<folder>/<session id>.jsonl`.

Each line becomes the payload of a `claude_code` event as it stands; what it means is left
to the index's views, which can be made better later. Unknown line types are welcome.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import msgspec

from eventlog.format import ids, timestamps
from eventlog.format.envelope import Envelope, encode_fields
from eventlog.importers.records import importer_parts, path_name
from eventlog.importers.sources import Source

EVENT_TYPE = "claude_code"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@/-]*")


class _Line(msgspec.Struct):
    """The few fields of a line that go into the envelope; all else is only in the payload."""

    timestamp: Any = None
    sessionId: Any = None  # noqa: N815 - their name
    requestId: Any = None  # noqa: N815
    snapshot: Any = None


class ClaudeCode:
    """The format of Claude Code's transcripts."""

    def __init__(self, *, workspace: str | None = None, agent: str | None = None) -> None:
        encode_fields({"workspace": workspace, "agent": agent})
        self.workspace = workspace
        self.agent = agent or None
        self.key = f"claude_code workspace={_quoted(workspace)} agent={_quoted(self.agent)}"
        self._decode = msgspec.json.Decoder(_Line).decode

    def source_name(self, path: Path) -> str:
        """The session's id, which is the file's name: a copied or moved transcript is the same one."""
        return Path(path_name(path)).name.removesuffix(".zst").removesuffix(".gz").removesuffix(".jsonl")

    def envelopes(self, data: bytes, source: str, occurrence: int) -> list[Envelope]:
        """Return the one event of a line."""
        line = self._decode(data)
        moment = _moment(line)
        made = Envelope(
            event_id=ids.derived_id(
                timestamps.to_us(timestamps.parse(moment)),
                EVENT_TYPE, source, *importer_parts(self.agent), data, str(occurrence), workspace=self.workspace,
            ),
            event_type=EVENT_TYPE,
            timestamp=moment,
            session_id=line.sessionId if isinstance(line.sessionId, str) and line.sessionId else source,
            request_id=line.requestId if isinstance(line.requestId, str) else None,
            workspace=self.workspace,
            agent=self.agent,
            payload=msgspec.Raw(data),
        )  # fmt: skip
        return [made]


def _quoted(name: str | None) -> str:
    """Return a name as it stands in the key: in quotes where it could be taken for what follows it."""
    if name is None or _PLAIN_NAME.fullmatch(name):
        return name or ""
    return json.dumps(name)


def _moment(line: _Line) -> str:
    """The line's own time; without one, that of its snapshot; without that, unknown.

    Not the neighbours' time: a rewritten file has other neighbours, and the id depends on it.
    """
    snapshot = line.snapshot if isinstance(line.snapshot, dict) else {}
    for value in (line.timestamp, snapshot.get("timestamp")):
        found = timestamps.from_foreign(value)
        if found is not None:
            return timestamps.to_text(found)
    return timestamps.UNKNOWN


def default_folder() -> Path:
    """Return where Claude Code keeps its transcripts on this machine."""
    base = os.environ.get("CLAUDE_CONFIG_DIR")
    return (Path(base) if base else Path.home() / ".claude") / "projects"


SOURCE = Source(
    name=EVENT_TYPE,
    command="claude-code",
    help="""Import Claude Code transcripts; by default all of ~/.claude/projects.

    The index then has views over them: llm_calls, tool_calls, sessions, messages.

    \b
    Example:
      eventlog import claude-code
      eventlog import claude-code ~/.claude/projects/my-project --follow
    """,
    event_types=(EVENT_TYPE,),
    format=ClaudeCode,
    default_folders=lambda: [default_folder()],
    recognises=lambda line: "sessionId" in line and ("uuid" in line or "leafUuid" in line or "messageId" in line),
    patterns=("*.jsonl", "*.jsonl.gz", "*.jsonl.zst"),
    noun="transcript",
    views="eventlog.indexer.views.claude_code:VIEWS",
)
