"""Validated blocks of lines on their way into the index, in the form that DuckDB's JSON reader takes.

A buffer holds the lines in one file in memory. Each is as in the log, with three fields in front, its position:

    {"event_id":…}  →  {"s":1,"o":4096,"n":812,"event_id":…}

`s` numbers the segments, `o` is the line's offset in bytes, `n` its length. DuckDB's own parallel reader makes rows
of the lines, so Python builds none (docs/decisions/0013, 0021). All ids in a buffer differ: lines that repeat one are
left out of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Set
from contextlib import contextmanager
from itertools import accumulate, chain, groupby
from typing import NamedTuple

from eventlog.indexer.index.schema import CONTENT
from eventlog.indexer.load.staging import MemoryFile, as_table
from eventlog.indexer.load.validation import validate_block
from eventlog.indexer.sql import literal, literals
from eventlog.indexer.views import typed
from eventlog.log.reader import Block, Line

_READ = {name: kind for name, kind in CONTENT.items() if name != "extra"}
_DEFAULTS = {"audit_level": "coalesce(audit_level, 'turn')", "schema_version": "coalesce(schema_version, 1)"}
_CONTENT = ", ".join(f"{_DEFAULTS[name]} AS {name}" if name in _DEFAULTS else name for name in _READ)
#: A validated line has no field that eventlog does not know, and so none of these.
_POSITION = {"s": "INTEGER", "o": "BIGINT", "n": "BIGINT"}


def _struct(columns: dict[str, str]) -> str:
    return ", ".join(f"{name}: {literal(kind)}" for name, kind in columns.items())


#: DuckDB reads twice this at a time: small enough for its threads to share the work of a part.
_OBJECT_BYTES = 1024 * 1024
_BRACE = ord("{")
_HIGHEST = "g"  # above any id, as text


class _Buffered(NamedTuple):
    """A block in a buffer: where it stands in the log, and its size in the buffer, positions included."""

    segment: str
    event_type: str
    offset: int
    length: int
    size_bytes: int


class Added(NamedTuple):
    """How many lines of a block were buffered, and those that have to be checked one by one."""

    buffered: int
    rest: list[Line]


class BlockBuffer:
    """The validated blocks of one part of a batch; `close` it after use."""

    def __init__(self) -> None:
        self._lines = MemoryFile()
        #: The event ids of all lines. May also contain ids of lines that were not buffered.
        self.ids: set[str] = set()
        self._blocks: list[_Buffered] = []
        #: Numbers that stand for the names of segments, from 1: the names would be half of the text.
        self._numbers: dict[str, int] = {}
        #: Events by segment.
        self.events = Counter[str]()
        #: The lowest and the highest id, as text.
        self.lowest, self.highest = _HIGHEST, ""
        self._longest = 0

    def add(self, segment: str, event_type: str, block: Block) -> Added:
        """Validate and buffer a block: none of its lines, or all but those that repeat an id."""
        valid = validate_block(block, event_type)
        if valid is None:
            return Added(0, list(block.lines()))
        ids, lengths = valid
        lowest, highest = min(ids), max(ids)
        repeated = self._note(ids, lowest)
        self.lowest, self.highest = min(self.lowest, lowest), max(self.highest, highest)
        if not repeated:
            return self._add(segment, event_type, block, lengths)
        buffered, rest = 0, []
        for part, its_lengths, is_repeated in _parts(block, lengths, repeated):
            added = Added(0, list(part.lines())) if is_repeated else self._add(segment, event_type, part, its_lengths)
            buffered += added.buffered
            rest += added.rest
        return Added(buffered, rest)

    def _note(self, ids: list[str], lowest: str) -> set[int]:
        """Note the ids of lines; return the numbers of the lines whose id was noted before."""
        new = set(ids)
        if len(new) == len(ids) and (lowest > self.highest or self.ids.isdisjoint(new)):
            self.ids |= new
            return set()
        repeated = set()
        for number, event_id in enumerate(ids):
            if event_id in self.ids:
                repeated.add(number)
            self.ids.add(event_id)
        return repeated

    def _add(self, segment: str, event_type: str, block: Block, lengths: list[int]) -> Added:
        """Buffer validated lines, unless one does not start with its object."""
        number = self._numbers.setdefault(segment, len(self._numbers) + 1)
        lines = _with_positions(number, block, lengths)
        if lines is None:
            return Added(0, list(block.lines()))
        self._longest = max(self._longest, *lengths)
        self._lines.write(lines)
        self._blocks.append(_Buffered(segment, event_type, block.offset, block.length, len(lines)))
        self.events[segment] += len(lengths)
        return Added(len(lengths), [])

    @property
    def size_bytes(self) -> int:
        """The size of the buffered lines, positions included."""
        return sum(block.size_bytes for block in self._blocks)

    @property
    def event_types(self) -> frozenset[str]:
        """The event types of the buffered lines."""
        return frozenset(block.event_type for block in self._blocks)

    @property
    def rows(self) -> str:
        """A FROM clause with the columns of CONTENT and POSITION. DuckDB may refuse to read it (duckdb.Error)."""
        position = f"[{literals(self._numbers)}][s] AS segment, o AS line_offset, n AS line_length"
        return f"(SELECT {_CONTENT}, NULL::JSON AS extra, {position} FROM {self._read(_POSITION | _READ)})"

    def _read(self, columns: dict[str, str]) -> str:
        return (
            f"read_json({literal(self._lines.finished())}, format = 'newline_delimited', auto_detect = false, "
            f"maximum_object_size = {max(self._longest, _OBJECT_BYTES) + 1024}, columns = {{{_struct(columns)}}})"
        )

    def sample(self, event_type: str) -> typed.Sample | None:
        """Return a context manager for a FROM clause with some events of a type; None if the buffer has none."""
        start = 0
        for block in self._blocks:
            if block.event_type == event_type:
                lines = self._lines.read(block.size_bytes, start).split(b"\n")[: typed.SAMPLE_ROWS]
                return as_table(lines, _struct({"event_type": "VARCHAR", "payload": "JSON"}))
            start += block.size_bytes
        return None

    def blocks(self) -> Iterator[tuple[str, str, Block]]:
        """Yield segment, event type and block of all that was buffered, the lines as they stand in the log."""
        start = 0
        for block in self._blocks:
            data = _without_positions(self._lines.read(block.size_bytes, start))
            yield block.segment, block.event_type, Block(block.offset, block.length, data)
            start += block.size_bytes

    def clear(self) -> None:
        """Empty the buffer; its memory is used again."""
        self._lines.clear()
        self.ids.clear()
        self._blocks.clear()
        self._numbers.clear()
        self.events.clear()
        self.lowest, self.highest = _HIGHEST, ""
        self._longest = 0

    def close(self) -> None:
        """Free the memory."""
        self._lines.close()


@contextmanager
def block_buffers(count: int) -> Iterator[list[BlockBuffer]]:
    """Yield new buffers, which are closed at the end of the `with` block."""
    buffers = [BlockBuffer() for _ in range(count)]
    try:
        yield buffers
    finally:
        for buffer in buffers:
            buffer.close()


def _parts(block: Block, lengths: list[int], repeated: Set[int]) -> Iterator[tuple[Block, list[int], bool]]:
    """Yield consecutive lines of a block that are all repeated, or none of them, with their lengths."""
    start = 0
    for is_repeated, numbers in groupby(range(len(lengths)), repeated.__contains__):
        its_lengths = [lengths[number] for number in numbers]
        size = sum(its_lengths)
        yield Block(block.offset + start, size, block.data[start : start + size]), its_lengths, is_repeated
        start += size


def _with_positions(number: int, block: Block, lengths: list[int]) -> bytes | None:
    """Return the lines of a block, each with its position in front; None if a line does not start with its object."""
    data = block.data
    ends = list(accumulate(lengths))
    starts = [0, *ends[:-1]]
    if set(map(data.__getitem__, starts)) != {_BRACE}:
        return None
    position = b'{"s":%d,"o":%%d,"n":%%d,' % number
    positions = map(position.__mod__, zip(accumulate(lengths, initial=block.offset), lengths, strict=False))
    lines = [data[start + 1 : end] for start, end in zip(starts, ends, strict=True)]
    return b"".join(chain.from_iterable(zip(positions, lines, strict=True)))


def _without_positions(data: bytes) -> bytes:
    lines = data.split(b"\n")[:-1]
    return b"".join(b"{%b\n" % line.split(b",", len(_POSITION))[-1] for line in lines)
