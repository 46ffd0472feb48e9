"""Proven lines on their way into the index: as DuckDB itself will read them.

The lines stand in one file in memory, as in the log but for three fields that come first, their place in it:

    {"event_id":…}  →  {"s":1,"o":4096,"n":812,"event_id":…}

s numbers the segments, o is the line's offset, n its length. DuckDB's own parallel reader makes rows of them,
so none is ever built in Python. One id stands here once: a block that repeats one is not taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate, chain
from typing import NamedTuple

from eventlog.indexer.index.schema import CONTENT
from eventlog.indexer.load.staging import MemoryFile, as_table
from eventlog.indexer.load.validation import prove
from eventlog.indexer.sql import literal, literals
from eventlog.indexer.views import typed
from eventlog.log.reader import Block

_READ = {name: kind for name, kind in CONTENT.items() if name != "extra"}
_DEFAULTS = {"audit_level": "coalesce(audit_level, 'turn')", "schema_version": "coalesce(schema_version, 1)"}
_CONTENT = ", ".join(f"{_DEFAULTS[name]} AS {name}" if name in _DEFAULTS else name for name in _READ)
#: A proven line has no field that eventlog does not know, and so none of these.
_PLACED = {"s": "INTEGER", "o": "BIGINT", "n": "BIGINT"}


def _struct(columns: dict[str, str]) -> str:
    return ", ".join(f"{name}: {literal(kind)}" for name, kind in columns.items())


#: DuckDB reads twice this at a time: small enough for its threads to share the work of a part.
_OBJECT_BYTES = 1024 * 1024
_BRACE = ord("{")
_HIGHEST = "g"  # above any id, as text


class _Taken(NamedTuple):
    segment: str
    event_type: str
    offset: int
    length: int
    #: With the places.
    size_bytes: int


class Bulk:
    """Takes blocks whose every line is an event; to be closed."""

    def __init__(self) -> None:
        self._lines = MemoryFile()
        #: Those of lines that were not taken are among them, perhaps.
        self.ids: set[str] = set()
        self._taken: list[_Taken] = []
        #: Segments as the places name them, from 1 on: their names would be half of the text.
        self._numbers: dict[str, int] = {}
        self.events = Counter[str]()
        self.lowest, self.highest = _HIGHEST, ""
        self._longest = 0

    def add(self, segment: str, event_type: str, block: Block) -> int:
        """Take a block of a segment; return how many lines that were, 0 where they must be looked at one by one."""
        proof = prove(block, event_type)
        if proof is None:
            return 0
        number = self._numbers.setdefault(segment, len(self._numbers) + 1)
        placed = _placed(number, block, proof.lengths)
        if placed is None:
            return 0
        ids = proof.event_ids
        expected = len(self.ids) + len(ids)
        self.ids.update(ids)
        if len(self.ids) < expected:
            return 0  # one stands there twice; the others stay noted, which may only cost a later block the same
        self.lowest, self.highest = min(self.lowest, *ids), max(self.highest, *ids)
        self._longest = max(self._longest, *proof.lengths)
        self._lines.write(placed)
        self._taken.append(_Taken(segment, event_type, block.offset, block.length, len(placed)))
        self.events[segment] += len(ids)
        return len(ids)

    @property
    def size_bytes(self) -> int:
        """The size of what was taken."""
        return sum(each.size_bytes for each in self._taken)

    @property
    def event_types(self) -> frozenset[str]:
        """The event types of what was taken."""
        return frozenset(each.event_type for each in self._taken)

    @property
    def rows(self) -> str:
        """A FROM clause: the columns of an event and its place. DuckDB may refuse to read it."""
        place = f"[{literals(self._numbers)}][s] AS segment, o AS line_offset, n AS line_length"
        return f"(SELECT {_CONTENT}, NULL::JSON AS extra, {place} FROM {self._read(_PLACED | _READ)})"

    def _read(self, columns: dict[str, str]) -> str:
        return (
            f"read_json({literal(self._lines.finished())}, format = 'newline_delimited', auto_detect = false, "
            f"maximum_object_size = {max(self._longest, _OBJECT_BYTES) + 1024}, columns = {{{_struct(columns)}}})"
        )

    def sample(self, event_type: str) -> typed.Sample | None:
        """Lend a FROM clause of some events of a type; None where there are none here."""
        start = 0
        for each in self._taken:
            if each.event_type == event_type:
                lines = self._lines.read(each.size_bytes, start).split(b"\n")[: typed.SAMPLE_ROWS]
                return as_table(lines, _struct({"event_type": "VARCHAR", "payload": "JSON"}))
            start += each.size_bytes
        return None

    def blocks(self) -> Iterator[tuple[str, str, Block]]:
        """Give back what was taken: segment, event type and block."""
        start = 0
        for each in self._taken:
            data = _without_places(self._lines.read(each.size_bytes, start))
            yield each.segment, each.event_type, Block(each.offset, each.length, data)
            start += each.size_bytes

    def clear(self) -> None:
        """Make room for others; the memory is used again."""
        self._lines.clear()
        self.ids.clear()
        self._taken.clear()
        self._numbers.clear()
        self.events.clear()
        self.lowest, self.highest = _HIGHEST, ""
        self._longest = 0

    def close(self) -> None:
        """Let go of the memory."""
        self._lines.close()


@contextmanager
def bulks(count: int) -> Iterator[list[Bulk]]:
    """Lend some, for the length of the block."""
    made = [Bulk() for _ in range(count)]
    try:
        yield made
    finally:
        for each in made:
            each.close()


def _placed(number: int, block: Block, lengths: list[int]) -> bytes | None:
    """Return the lines of a block, each with its place; None where one does not begin with its object."""
    data = block.data
    ends = list(accumulate(lengths))
    starts = [0, *ends[:-1]]
    if set(map(data.__getitem__, starts)) != {_BRACE}:
        return None
    place = b'{"s":%d,"o":%%d,"n":%%d,' % number
    places = map(place.__mod__, zip(accumulate(lengths, initial=block.offset), lengths, strict=False))
    lines = [data[start + 1 : end] for start, end in zip(starts, ends, strict=True)]
    return b"".join(chain.from_iterable(zip(places, lines, strict=True)))


def _without_places(data: bytes) -> bytes:
    lines = data.split(b"\n")[:-1]
    return b"".join(b"{%b\n" % line.split(b",", len(_PLACED))[-1] for line in lines)
