"""Proven lines on their way into the index: as DuckDB itself will read them.

The lines stand in one file in memory, byte for byte as in the log, and their places in another.
Both are read by DuckDB's own parallel readers and joined by event id, so no row is ever built in
Python. One id stands here once: a block that repeats one is not taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import NamedTuple

from eventlog.reader import Block
from indexer import typed
from indexer.proof import prove
from indexer.schema import CONTENT, PLACE
from indexer.staging import MemoryFile, as_table

_READ = {name: kind for name, kind in CONTENT.items() if name != "extra"}
_DEFAULTS = {"audit_level": "coalesce(audit_level, 'turn')", "schema_version": "coalesce(schema_version, 1)"}
_CONTENT = ", ".join(f"{_DEFAULTS.get(name, f'line.{name}')} AS {name}" for name in _READ)


def _struct(columns: dict[str, str]) -> str:
    return ", ".join(f"{name}: '{kind}'" for name, kind in columns.items())


#: DuckDB reads twice this at a time: small enough for its threads to share the work of a part.
_OBJECT_BYTES = 1024 * 1024
_HIGHEST = "g"  # above any id, as text


class _Taken(NamedTuple):
    segment: str
    event_type: str
    offset: int
    length: int


class Bulk:
    """Takes blocks whose every line is an event; to be closed."""

    def __init__(self) -> None:
        self._lines = MemoryFile()
        self._places = MemoryFile()
        self._ids: set[str] = set()
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
        ids = proof.event_ids
        expected = len(self._ids) + len(ids)
        self._ids.update(ids)
        if len(self._ids) < expected:
            return 0  # one stands there twice; the others stay noted, which may only cost a later block the same
        self.lowest, self.highest = min(self.lowest, *ids), max(self.highest, *ids)
        self._longest = max(self._longest, *proof.lengths)
        self._lines.write(block.data)
        offsets = accumulate(proof.lengths, initial=block.offset)
        number = self._numbers.setdefault(segment, len(self._numbers) + 1)
        row = f"%s,{number},%d,%d\n".__mod__
        self._places.write("".join(map(row, zip(ids, offsets, proof.lengths, strict=False))).encode())
        self._taken.append(_Taken(segment, event_type, block.offset, block.length))
        self.events[segment] += len(ids)
        return len(ids)

    @property
    def event_types(self) -> frozenset[str]:
        """The event types of what was taken."""
        return frozenset(each.event_type for each in self._taken)

    @property
    def places(self) -> str:
        """A FROM clause: event_id, segment, line_offset, line_length."""
        kinds = _struct({"event_id": "UUID", **PLACE, "segment": "INTEGER"})
        table = f"read_csv('{self._places.finished()}', auto_detect = false, header = false, columns = {{{kinds}}})"
        return f"(SELECT * REPLACE ({list(self._numbers)}[segment] AS segment) FROM {table})"

    @property
    def rows(self) -> str:
        """A FROM clause: the columns of an event and its place. DuckDB may refuse to read it."""
        lines = (
            f"read_json('{self._lines.finished()}', format = 'newline_delimited', auto_detect = false, "
            f"maximum_object_size = {max(self._longest, _OBJECT_BYTES) + 1024}, columns = {{{_struct(_READ)}}})"
        )
        return (
            f"(SELECT {_CONTENT}, NULL::JSON AS extra, segment, line_offset, line_length "
            f"FROM {lines} line JOIN {self.places} place ON place.event_id = line.event_id)"
        )

    def sample(self, event_type: str) -> typed.Sample | None:
        """Lend a FROM clause of some events of a type; None where there are none here."""
        start = 0
        for each in self._taken:
            if each.event_type == event_type:
                lines = self._lines.read(each.length, start).split(b"\n")[: typed.SAMPLE_ROWS]
                return as_table(lines, _struct({"event_type": "VARCHAR", "payload": "JSON"}))
            start += each.length
        return None

    def blocks(self) -> Iterator[tuple[str, str, Block]]:
        """Give back what was taken: segment, event type and block."""
        start = 0
        for each in self._taken:
            yield each.segment, each.event_type, Block(each.offset, each.length, self._lines.read(each.length, start))
            start += each.length

    def clear(self) -> None:
        """Make room for others; the memory is used again."""
        self._lines.clear()
        self._places.clear()
        self._ids.clear()
        self._taken.clear()
        self._numbers.clear()
        self.events.clear()
        self.lowest, self.highest = _HIGHEST, ""
        self._longest = 0

    def close(self) -> None:
        """Let go of the memory."""
        self._lines.close()
        self._places.close()


@contextmanager
def bulks(count: int) -> Iterator[list[Bulk]]:
    """Lend some, for the length of the block."""
    made = [Bulk() for _ in range(count)]
    try:
        yield made
    finally:
        for each in made:
            each.close()
