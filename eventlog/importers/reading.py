"""Reading a source in steps: its next lines, and what it is known by up to there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from eventlog.errors import ImportFailed
from eventlog.importers.content import COMPARED_BYTES, Content, fingerprint
from eventlog.importers.positions import Position
from eventlog.importers.records import Record, SourceLine, split_records

#: How much of a source is imported in one step.
_STEP_BYTES = 1024 * 1024


class Line(NamedTuple):
    """A line of a source: its records, its length in bytes, and whether it has its newline."""

    records: list[Record]
    length: int
    terminated: bool


class Reading:
    """The lines of some content from an offset on.

    `ended`: there are no more. `unfinished`: but a last one that somebody is writing. `failure` says what is wrong with
    the content behind them.
    """

    def __init__(self, content: Content, offset: int) -> None:
        self.content = content
        self.offset = offset
        self.ended = self.unfinished = False
        self.failure: str | None = None
        self._tail = bytearray()
        self._lines = self._behind(offset)
        self._taken: list[SourceLine] = []

    def _behind(self, offset: int) -> Iterator[SourceLine]:
        self._tail += self.content.before(offset) or b""
        yield from self.content.lines(offset)

    def next(self) -> list[Line]:
        """Return the lines of the next step. A last one without a newline may be among them, if nothing can follow."""
        lines, size = [], 0
        self._taken = []
        try:
            for line in self._lines:
                records = split_records(line)
                if not line.terminated and not self.content.compressed and not all(map(_is_whole, records)):
                    self.unfinished = True
                    break
                lines.append(Line(records, line.length, line.terminated))
                self._taken.append(line)
                size += line.length
                if size >= _STEP_BYTES or self.content.is_waiting():
                    return lines
        except ImportFailed as error:
            self.failure = str(error)
        self.ended = True
        return lines

    def move(self, position: Position) -> None:
        """Move a position behind the lines of the last step that have their newline."""
        for line in self._taken:
            if not line.terminated:
                break
            if line.length == len(line.data):
                self._tail += line.data + line.ending
            else:  # a line over the limit, of which the end was not kept
                self._tail.clear()
            self.offset = line.end
            if len(self._tail) > _STEP_BYTES:
                del self._tail[:-COMPARED_BYTES]
        del self._tail[:-COMPARED_BYTES]
        position.offset, position.prefix_hash = self.offset, None
        self.content.recognise_in(position)
        has_tail = len(self._tail) == min(COMPARED_BYTES, self.offset)
        position.tail = fingerprint(bytes(self._tail)) if has_tail else None


def _is_whole(record: Record) -> bool:
    """Say whether nothing that is still to come can belong to the record: it is an object, closed."""
    return record.reason is None and record.data.startswith(b"{")
