"""The lines of the log that a run or a session is made of, byte for byte, with their hashes."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import duckdb
import msgspec

from eventlog.errors import InvalidEvent, MissingExtra
from eventlog.format import envelope
from eventlog.log import layout, zst
from eventlog.queries.identity import Scope

#: Segments that are open at a time.
_OPEN_MAX = 64
# In order of time; lines without a time, and those of a clock that went back, follow the line before them.
_PLACES = """
    SELECT event_id::VARCHAR, event_type, segment, line_offset, line_length FROM (
        SELECT *, max(timestamp) OVER (PARTITION BY segment ORDER BY line_offset ROWS UNBOUNDED PRECEDING) AS moment
        FROM events WHERE {scope}
    ) ORDER BY moment, segment, line_offset
"""


class LineHash(msgspec.Struct, frozen=True, kw_only=True):
    """The SHA-256 of a line with its newline, in hex, and where it stands: `offset` is in bytes."""

    segment: str
    offset: int
    sha256: str


class Hashes(msgspec.Struct, frozen=True, kw_only=True):
    """The hashes of lines in their order, and `sha256`, that of all of them one after the other.

    `missing` counts the lines that the log does not have any more.
    """

    lines: list[LineHash]
    sha256: str
    missing: int


class _Place(NamedTuple):
    event_id: str
    event_type: str
    segment: str
    offset: int
    length: int


class LogLines:
    """The lines of a run or a session, in order of time. A line that the log has no more is left out."""

    def __init__(self, root: Path, connection: duckdb.DuckDBPyConnection, scope: Scope) -> None:
        self._root = root
        self._workspace = scope.workspace
        rows = connection.execute(scope.within(_PLACES), scope.params).fetchall()
        self._places = [_Place(*row) for row in rows]

    def read(self) -> Iterator[bytes]:
        """Yield the lines, with their newlines."""
        return (line for _, line in self._read() if line is not None)

    def hashes(self) -> Hashes:
        """Return the hashes of the lines."""
        whole = hashlib.sha256()
        each: list[LineHash] = []
        for place, line in self._read():
            if line is not None:
                whole.update(line)
                digest = hashlib.sha256(line).hexdigest()
                each.append(LineHash(segment=place.segment, offset=place.offset, sha256=digest))
        return Hashes(lines=each, sha256=whole.hexdigest(), missing=len(self._places) - len(each))

    def _read(self) -> Iterator[tuple[_Place, bytes | None]]:
        files: dict[str, zst.SegmentBytes | None] = {}
        with contextlib.ExitStack() as opened:
            for place in self._places:
                if place.segment not in files:
                    if len(files) >= _OPEN_MAX:
                        opened.close()
                        files.clear()
                    files[place.segment] = self._open(place, opened)
                yield place, self._line(files[place.segment], place)

    def _open(self, place: _Place, opened: contextlib.ExitStack) -> zst.SegmentBytes | None:
        try:
            path = layout.segment_path(self._root, place.event_type, place.segment)
            return opened.enter_context(zst.open_segment(path))
        except (OSError, MissingExtra):
            return None

    def _line(self, file: zst.SegmentBytes | None, place: _Place) -> bytes | None:
        """Return a line if it still is the event that was indexed: else it may be anybody's."""
        if file is None:
            return None
        try:
            line = file.pread(place.length, place.offset)
            logged = envelope.decode(line.removesuffix(b"\n")).envelope
        except (OSError, InvalidEvent):
            return None
        is_same = (logged.event_id.lower(), logged.workspace) == (place.event_id, self._workspace)
        return line if is_same and line.endswith(b"\n") else None
