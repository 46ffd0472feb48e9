"""What streams send: the lines of the log that are events, which of them a client wants, and how they are read again.

`Backlog` reads what a client has missed from the log itself, in the order of the names of segments, which is that of
their creation; of one client it holds one open file and one block in memory.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Iterator
from typing import NamedTuple

from eventlog.errors import InvalidEvent, SegmentUnreadable
from eventlog.format.envelope import Envelope, decode
from eventlog.log import reader
from eventlog.log.layout import SegmentFile
from eventlog.log.reader import Line
from eventlog.server.positions import Cursor, Files, Progress

_logger = logging.getLogger("eventlog.server")
#: Read at once, and collected before it is sent, in bytes.
_BLOCK_BYTES = 64 * 1024
_PART_BYTES = 64 * 1024
#: A thread turns to another client after so many bytes of the log, whether it found something in them or not.
_TURN_BYTES = 1024 * 1024


class Frame(NamedTuple):
    """An event that is sent: its id, which says where the stream stands behind it, its envelope and its line."""

    id: str
    envelope: Envelope
    line: bytes


class Wanted(NamedTuple):
    """Which events a stream sends. None is any; `workspace` is the one that the key is for."""

    workspace: str | None = None
    types: frozenset[str] | None = None
    agent: str | None = None
    run: str | None = None
    session: str | None = None

    def has(self, event: Envelope) -> bool:
        """Say whether an event is wanted."""
        return (
            (self.workspace is None or event.workspace == self.workspace)
            and (self.types is None or event.event_type in self.types)
            and (self.agent is None or event.agent == self.agent)
            and (self.run is None or event.run_id == self.run)
            and (self.session is None or event.session_id == self.session)
        )


def event_of(line: Line, event_type: str) -> Envelope | None:
    """Return the event of a line in the folder of a type; None for what the index would put into quarantine."""
    try:
        event = decode(line.data).envelope
    except InvalidEvent:
        return None
    return event if event.event_type == event_type else None


class Backlog:
    """The wanted events between a position and what was read of a log."""

    def __init__(self, cursor: Cursor, files: Files, growing: Cursor, wanted: Wanted) -> None:
        """`growing` lists what may still grow. `cursor` is moved along, and stands behind `files` at the end."""
        self.cursor = cursor
        self._files = files
        self._growing = growing
        self._wanted = wanted
        self._steps = self._walk()
        self._lock = threading.Lock()

    def next(self) -> list[Frame] | None:
        """Return some of the next frames, perhaps none; None at the end. Takes less than 0.1 s."""
        frames: list[Frame] = []
        size = 0
        with self._lock:
            for frame in self._steps:
                if frame is None:
                    return frames
                frames.append(frame)
                size += len(frame.line)
                if size >= _PART_BYTES:
                    return frames
        return frames or None

    def close(self) -> None:
        """Close the file that is open, when `next` has returned: a client may leave meanwhile."""
        with self._lock:
            self._steps.close()

    def _walk(self) -> Generator[Frame | None]:
        """Yield frames, and None where another client's turn has come."""
        cursor, horizon = self.cursor, self.cursor.horizon
        for name in sorted(self._files):
            progress = self._files[name]
            was_listed = name in cursor.listed
            if self._may_have(progress.file):
                start = cursor.reached(progress)
                if start < progress.offset:
                    yield from self._read(progress, start)
            if name in self._growing.listed:
                cursor.advance(progress)
            elif was_listed or name > horizon:
                cursor.settle(progress)

    def _may_have(self, file: SegmentFile) -> bool:
        return self._wanted.types is None or file.event_type in self._wanted.types

    def _read(self, progress: Progress, start: int) -> Iterator[Frame | None]:
        file, cursor, read_bytes = progress.file, self.cursor, 0
        try:
            for block in reader.read_blocks(file.path, start, end=progress.offset, block_bytes=_BLOCK_BYTES):
                for line in block.lines():
                    event = event_of(line, file.event_type)
                    if event is not None and self._wanted.has(event):
                        end = line.offset + line.length
                        cursor.advance(Progress(file, end, end))
                        yield Frame(cursor.id_of(file.name, line.offset), event, line.data)
                read_bytes += block.length
                if read_bytes >= _TURN_BYTES:
                    read_bytes = 0
                    end = block.offset + block.length
                    cursor.advance(Progress(file, end, end))
                    yield None
        except SegmentUnreadable as error:
            _logger.warning("a stream goes on without the rest of a segment: %s", error)


class Batch(NamedTuple):
    """Lines that were appended one after the other, and where the log stands behind them."""

    frames: list[Frame]
    files: Files
    cursor: Cursor
