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

from eventlog.errors import ImportFailed
from eventlog.format import ids, timestamps
from eventlog.format.envelope import Envelope, encode_fields
from eventlog.importers.source import importer_parts, path_name

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

    def envelope(self, data: bytes, source: str, occurrence: int) -> Envelope:
        """Make the event of a line."""
        line = self._decode(data)
        moment = _moment(line)
        return Envelope(
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


def find(paths: list[Path]) -> list[Path]:
    """Return the transcripts under the given files and folders, sorted.

    Raises ImportFailed for a path that is neither.
    """
    found: set[Path] = set()
    for path in paths:
        if path.is_dir():
            for ending in ("*.jsonl", "*.jsonl.gz", "*.jsonl.zst"):
                found.update(each for each in path.rglob(ending) if each.is_file())
        elif path.is_file():
            found.add(path)
        else:
            problem = "is neither a file nor a folder" if path.exists() else "does not exist"
            raise ImportFailed(f"{path} {problem}; name a transcript or a folder of them")
    return sorted(found)
