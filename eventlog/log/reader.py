"""Reading segments: complete lines with their offsets, and a log that is still growing.

A line is complete when its newline is there. What stands behind the last newline of a
segment is not read: its writer may still be at it, or is gone and has left a torn tail.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from eventlog.errors import InvalidEvent, SegmentUnreadable
from eventlog.format.envelope import MAX_LINE_BYTES, Envelope, decode
from eventlog.log import layout
from eventlog.log.zst import SegmentBytes, open_segment

_BLOCK_BYTES = 1024 * 1024
#: What is kept of a line that is over the limit, as evidence.
OVERSIZED_KEPT_BYTES = 64 * 1024
_TAIL_BYTES = 4096


class Line(NamedTuple):
    """One complete line. `length` counts the newline; `data` does not hold it.

    A line longer than MAX_LINE_BYTES comes with only the first OVERSIZED_KEPT_BYTES of
    its data, so reading is bounded whatever the file holds.
    """

    offset: int
    length: int
    data: bytes

    @property
    def oversized(self) -> bool:
        return self.length > len(self.data) + 1


class Block(NamedTuple):
    """Consecutive complete lines, newlines included; or one line that is over the limit, in part.

    `length` counts the bytes in the file; `data` is shorter only where a line is over the limit.
    """

    offset: int
    length: int
    data: bytes

    @property
    def oversized(self) -> bool:
        return self.length > len(self.data)

    def lines(self) -> Iterator[Line]:
        """Yield the lines one by one."""
        if self.oversized:
            yield Line(self.offset, self.length, self.data)
            return
        offset = self.offset
        for data in self.data[:-1].split(b"\n"):
            yield Line(offset, len(data) + 1, data)
            offset += len(data) + 1


class Located(NamedTuple):
    """A line and where it stands."""

    event_type: str
    segment: str
    offset: int
    data: bytes


def read_lines(path: Path, offset: int = 0, *, end: int | None = None, max_bytes: int | None = None) -> Iterator[Line]:
    """Yield the complete lines of a file from a byte offset, which must be the start of one.

    As `read_blocks`, line by line; the reading stops at the end of the line that reaches `max_bytes`.
    """
    budget_end = None if max_bytes is None else offset + max_bytes
    for block in read_blocks(path, offset, end=end, max_bytes=max_bytes):
        for line in block.lines():
            yield line
            if budget_end is not None and line.offset + line.length >= budget_end:
                return


def read_blocks(
    path: Path, offset: int = 0, *, end: int | None = None, max_bytes: int | None = None
) -> Iterator[Block]:
    """Yield the complete lines of a file from a byte offset, which must be the start of one, in blocks.

    `end` bounds the bytes that are looked at; no block is begun behind `max_bytes`. A file that
    is gone yields nothing. Memory: one block, or one line. Raises SegmentUnreadable.
    """
    try:
        file = open_segment(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        budget_end = None if max_bytes is None else offset + max_bytes
        while budget_end is None or offset < budget_end:
            size = _BLOCK_BYTES if end is None else min(_BLOCK_BYTES, end - offset)
            data = file.pread(size, offset) if size > 0 else b""
            whole = data.rfind(b"\n") + 1
            if whole:
                block = Block(offset, whole, data if whole == len(data) else data[:whole])
            else:
                line = _long_line(file, data, offset, end) if len(data) == _BLOCK_BYTES else None
                if line is None:
                    return
                block = Block(offset, line.length, line.data if line.oversized else line.data + b"\n")
            yield block
            offset += block.length
    except OSError as error:
        raise unreadable(path, error) from error
    finally:
        file.close()


def unreadable(path: Path, error: OSError) -> SegmentUnreadable:
    """Make the error for a segment that is there and cannot be read."""
    return SegmentUnreadable(f"{path}: cannot be read: {error.strerror}; check its permissions and the disk")


def _long_line(file: SegmentBytes, block: bytes, offset: int, end: int | None) -> Line | None:
    """Find the end of a line that is longer than a block; None while it has none."""
    kept, length = [block], len(block)
    while True:
        size = _BLOCK_BYTES if end is None else min(_BLOCK_BYTES, end - offset - length)
        block = file.pread(size, offset + length) if size > 0 else b""
        if not block:
            return None
        newline = block.find(b"\n")
        part = block if newline < 0 else block[:newline]
        if length <= MAX_LINE_BYTES:
            kept.append(part)
        length += len(part)
        if newline >= 0:
            data = b"".join(kept)
            return Line(offset, length + 1, data if length <= MAX_LINE_BYTES else data[:OVERSIZED_KEPT_BYTES])


def read_line_at(path: Path, offset: int) -> bytes | None:
    """Return the one line that starts at an offset, or None where there is no complete line."""
    for line in read_lines(path, offset, max_bytes=1):
        return line.data
    return None


def read_log(
    root: str | Path, event_types: Iterable[str] | None = None, *, damaged: dict[str, str] | None = None
) -> Iterator[Located]:
    """Yield every complete line of the log, segment after segment.

    Raises SegmentUnreadable; with `damaged`, puts there the name and the reason, and goes on behind.
    """
    for segment in layout.list_log(root, event_types).segments:
        try:
            for line in read_lines(segment.path):
                yield Located(segment.event_type, segment.name, line.offset, line.data)
        except SegmentUnreadable as error:
            if damaged is None:
                raise
            damaged[segment.name] = str(error)


class Event(NamedTuple):
    """A line that is an event of the type of its folder, and where it stands."""

    located: Located
    envelope: Envelope


def read_events(root: str | Path, event_type: str, *, damaged: dict[str, str] | None = None) -> Iterator[Event]:
    """Yield the events of one type: what is to be read where an event decides something.

    A line that is no event, or whose envelope names another type than its folder, is passed over: the indexer
    has it in quarantine. `damaged` is that of `read_log`. Raises SegmentUnreadable.
    """
    for located in read_log(root, [event_type], damaged=damaged):
        try:
            event = decode(located.data).envelope
        except InvalidEvent:
            continue
        if event.event_type == event_type:
            yield Event(located, event)


def last_lines(segment: layout.SegmentFile, count: int) -> list[Located]:
    """Return the last complete lines of a segment, oldest first, without reading all of it."""
    span = 64 * 1024
    while True:
        start = max(segment.size - span, 0)
        lines = list(_lines_after_newline(segment, start))
        if len(lines) >= count or start == 0:
            return lines[-count:]
        span *= 4


def _lines_after_newline(segment: layout.SegmentFile, start: int) -> Iterator[Located]:
    # From the middle of a file, the first line begins behind the next newline. Beginning one
    # byte earlier makes a start right at a line's beginning come out right as well.
    lines = read_lines(segment.path, max(start - 1, 0), end=segment.size)
    if start > 0:
        next(lines, None)
    for line in lines:
        yield Located(segment.event_type, segment.name, line.offset, line.data)


class _Position(NamedTuple):
    """How far a segment was read, and the last bytes before that."""

    offset: int = 0
    tail: bytes = b""


def _position(line: Line) -> _Position:
    tail = b"" if line.oversized else line.data[-_TAIL_BYTES:] + b"\n"
    return _Position(line.offset + line.length, tail)


class Follower:
    """Follows a live log across rotation: end of file is not the end.

    `poll` yields what became complete since the last call, from every segment there is by
    now. A segment that shrank or vanished is read no further; one that has grown beyond what was read of it, and has
    other bytes before that, is another file, and is read from its start.
    """

    def __init__(
        self,
        root: str | Path,
        event_types: Iterable[str] | None = None,
        *,
        from_start: bool = False,
    ) -> None:
        self._root = root
        self._types = None if event_types is None else frozenset(event_types)
        self._positions: dict[str, _Position] = {}
        if not from_start:
            for segment in layout.list_log(root, self._types).segments:
                self._positions[segment.name] = _line_end(segment)

    @property
    def offsets(self) -> dict[str, int]:
        """How far each segment was read; those that are new are not in it."""
        return {name: position.offset for name, position in self._positions.items()}

    def poll(self) -> Iterator[Located]:
        """Yield new complete lines, segment after segment."""
        for segment in layout.list_log(self._root, self._types).segments:
            position = self._positions.get(segment.name, _Position())
            if segment.size <= position.offset:
                continue
            start = position.offset if _is_continued(segment.path, position) else 0
            for line in read_lines(segment.path, start):
                self._positions[segment.name] = _position(line)
                yield Located(segment.event_type, segment.name, line.offset, line.data)

    def follow(self, wait: Callable[[], object] = lambda: time.sleep(0.2)) -> Iterator[Located]:
        """Yield new lines for ever, calling `wait` between polls."""
        while True:
            yield from self.poll()
            wait()


def _is_continued(path: Path, position: _Position) -> bool:
    """Say whether a segment still has the bytes that were read last, where they were. Raises SegmentUnreadable."""
    if not position.tail:
        return True
    size = len(position.tail)
    try:
        with open_segment(path) as file:
            return file.pread(size, position.offset - size) == position.tail
    except FileNotFoundError:
        return True  # then there is nothing to read
    except OSError as error:
        raise unreadable(path, error) from error


def _line_end(segment: layout.SegmentFile) -> _Position:
    """Return where the last complete line of a segment ends."""
    lines = last_lines(segment, 1)
    if not lines:
        return _Position()
    return _position(Line(lines[-1].offset, len(lines[-1].data) + 1, lines[-1].data))
