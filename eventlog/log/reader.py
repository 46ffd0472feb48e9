"""Reading segments: complete lines with their offsets, also of a log that is still growing.

A line is complete when its newline is there. Bytes behind the last newline of a segment are
not read: its writer may still be writing them, or has died and left a torn tail.
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
#: How much of a line over the limit is returned, as evidence.
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
        """Whether the line is longer than MAX_LINE_BYTES."""
        return self.length > len(self.data) + 1


class Block(NamedTuple):
    """Consecutive complete lines, newlines included; or the first part of one line that is over the limit.

    `length` counts the bytes in the file; `data` is shorter only where a line is over the limit.
    """

    offset: int
    length: int
    data: bytes

    @property
    def oversized(self) -> bool:
        """Whether the block is one line that is longer than MAX_LINE_BYTES."""
        return self.length > len(self.data)

    def lines(self) -> Iterator[Line]:
        """Yield the lines of the block."""
        if self.oversized:
            yield Line(self.offset, self.length, self.data)
            return
        offset = self.offset
        for data in self.data[:-1].split(b"\n"):
            yield Line(offset, len(data) + 1, data)
            offset += len(data) + 1


class Located(NamedTuple):
    """A line, and its event type, segment and byte offset."""

    event_type: str
    segment: str
    offset: int
    data: bytes


def read_lines(path: Path, offset: int = 0, *, end: int | None = None, max_bytes: int | None = None) -> Iterator[Line]:
    """Yield the complete lines of a file from a byte offset, which must be the start of one.

    Like `read_blocks`, line by line; reading stops after the line that reaches `max_bytes`. Raises SegmentUnreadable.
    """
    budget_end = None if max_bytes is None else offset + max_bytes
    for block in read_blocks(path, offset, end=end, max_bytes=max_bytes):
        for line in block.lines():
            yield line
            if budget_end is not None and line.offset + line.length >= budget_end:
                return


def read_blocks(
    path: Path,
    offset: int = 0,
    *,
    end: int | None = None,
    max_bytes: int | None = None,
    block_bytes: int = _BLOCK_BYTES,
) -> Iterator[Block]:
    """Yield the complete lines of a file from a byte offset, which must be the start of one, in blocks.

    It reads no bytes behind `end`, and begins no block after `max_bytes`. A missing file yields
    nothing. Memory: one block of `block_bytes`, or one line. Raises SegmentUnreadable.
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
            size = block_bytes if end is None else min(block_bytes, end - offset)
            data = file.pread(size, offset) if size > 0 else b""
            whole = data.rfind(b"\n") + 1
            if whole:
                block = Block(offset, whole, data if whole == len(data) else data[:whole])
            else:
                line = _long_line(file, data, offset, end) if len(data) == block_bytes else None
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
    """Return the error for a segment that exists and cannot be read."""
    return SegmentUnreadable(f"{path}: cannot be read: {error.strerror}; check its permissions and the disk")


def _long_line(file: SegmentBytes, block: bytes, offset: int, end: int | None) -> Line | None:
    """Return a line that is longer than a block; None while it has no end."""
    parts, length = [block], len(block)
    while True:
        size = _BLOCK_BYTES if end is None else min(_BLOCK_BYTES, end - offset - length)
        block = file.pread(size, offset + length) if size > 0 else b""
        if not block:
            return None
        newline = block.find(b"\n")
        part = block if newline < 0 else block[:newline]
        if length <= MAX_LINE_BYTES:
            parts.append(part)
        length += len(part)
        if newline >= 0:
            data = b"".join(parts)
            return Line(offset, length + 1, data if length <= MAX_LINE_BYTES else data[:OVERSIZED_KEPT_BYTES])


def read_line_at(path: Path, offset: int) -> bytes | None:
    """Return the line that starts at an offset, without its newline; None without a complete line.

    Raises SegmentUnreadable.
    """
    for line in read_lines(path, offset, max_bytes=1):
        return line.data
    return None


def read_log(
    root: str | Path, event_types: Iterable[str] | None = None, *, damaged: dict[str, str] | None = None
) -> Iterator[Located]:
    """Yield every complete line of the log, segment after segment.

    Raises SegmentUnreadable; with `damaged`, adds {segment: reason} to it instead, and continues with the next segment.
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
    """An event whose type is that of its folder, and its line."""

    located: Located
    envelope: Envelope


def read_events(root: str | Path, event_type: str, *, damaged: dict[str, str] | None = None) -> Iterator[Event]:
    """Yield the events of one type. Use it where an event decides something.

    Skips lines that are no events, or whose envelope names another type than their folder: the indexer
    quarantines them. `damaged` is that of `read_log`. Raises SegmentUnreadable.
    """
    for located in read_log(root, [event_type], damaged=damaged):
        try:
            event = decode(located.data).envelope
        except InvalidEvent:
            continue
        if event.event_type == event_type:
            yield Event(located, event)


def last_lines(segment: layout.SegmentFile, count: int) -> list[Located]:
    """Return the last `count` complete lines of a segment, oldest first, without reading all of it.

    Raises SegmentUnreadable.
    """
    span = 64 * 1024
    while True:
        start = max(segment.size - span, 0)
        lines = list(_lines_after_newline(segment, start))
        if len(lines) >= count or start == 0:
            return lines[-count:]
        span *= 4


def _lines_after_newline(segment: layout.SegmentFile, start: int) -> Iterator[Located]:
    # In the middle of a file, the first whole line begins behind the next newline. Reading from one byte
    # earlier keeps a line that begins right at `start`.
    lines = read_lines(segment.path, max(start - 1, 0), end=segment.size)
    if start > 0:
        next(lines, None)
    for line in lines:
        yield Located(segment.event_type, segment.name, line.offset, line.data)


class _Position(NamedTuple):
    """How far a segment was read, and the last bytes before that offset."""

    offset: int = 0
    tail: bytes = b""


def _position(line: Line) -> _Position:
    tail = b"" if line.oversized else line.data[-_TAIL_BYTES:] + b"\n"
    return _Position(line.offset + line.length, tail)


class Follower:
    """Follows a growing log across new segments.

    `poll` yields the lines that became complete since the last call, also from new segments. A segment that shrank
    or vanished is read no further. A segment that grew and has other bytes before the last offset is another file,
    and is read from its start.
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
        """The byte offset up to which each segment was read, by name; without segments that were not read yet."""
        return {name: position.offset for name, position in self._positions.items()}

    def poll(self) -> Iterator[Located]:
        """Yield new complete lines, segment after segment. Raises SegmentUnreadable."""
        for segment in layout.list_log(self._root, self._types).segments:
            position = self._positions.get(segment.name, _Position())
            if segment.size <= position.offset:
                continue
            start = position.offset if _is_continued(segment.path, position) else 0
            for line in read_lines(segment.path, start):
                self._positions[segment.name] = _position(line)
                yield Located(segment.event_type, segment.name, line.offset, line.data)

    def follow(self, wait: Callable[[], object] = lambda: time.sleep(0.2)) -> Iterator[Located]:
        """Yield new lines for ever, calling `wait` between polls. Raises SegmentUnreadable."""
        while True:
            yield from self.poll()
            wait()


def _is_continued(path: Path, position: _Position) -> bool:
    """Say whether a segment still has the bytes that were read last. Raises SegmentUnreadable."""
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
