"""One batch: what new lines say, and how far that got, in one transaction.

    segments + checkpoints → parts of them → rows + checkpoints, committed together, part by part

A crash anywhere leaves the transaction undone, and the same lines are read again. While DuckDB
stores one part, the next one is read and proven.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

import duckdb
import msgspec

from eventlog.errors import MissingExtra, SegmentUnreadable
from eventlog.format.schemas import SCHEMA_EVENT
from eventlog.indexer.index import checkpoint
from eventlog.indexer.index.checkpoint import Checkpoint
from eventlog.indexer.load import loader, versions
from eventlog.indexer.load.bulk import Bulk, bulks
from eventlog.indexer.load.cache import Known
from eventlog.indexer.load.loader import Checked, Rejected, Slice
from eventlog.log import layout, zst
from eventlog.log.layout import SegmentFile
from eventlog.log.reader import OVERSIZED_KEPT_BYTES, Block, read_blocks, unreadable
from eventlog.log.segment import held_still

BATCH_BYTES = 128 * 1024 * 1024
#: One transaction. Much smaller ones make many small row groups, and leave a core idle; larger ones take more memory,
#: and leave less to read while one is stored.
PART_BYTES = 224 * 1024 * 1024
#: Lines that are looked at one by one take far more memory than their bytes.
PART_LINES = 200_000
#: Segments looked at in one batch, so that many tiny ones do not make a huge one.
BATCH_SEGMENTS = 4096


class SegmentChanged(Exception):
    """A segment is not the file that was indexed before."""

    def __init__(self, segment: SegmentFile, offset: int, what: str) -> None:
        super().__init__(f"{segment.path}: {what} (indexed up to byte {offset:,}, size now {segment.size:,})")
        self.segment = segment
        self.offset = offset
        self.what = what


class Done(msgspec.Struct):
    """What a batch did.

    `segments` maps each segment it looked at to its checkpoint now, and `files` to the file
    as it was then. `unreadable` maps those that could not be read to the reason: the others
    are indexed all the same. `next` is the position, in the list that was given, to go on from.
    """

    segments: dict[str, Checkpoint] = {}
    files: dict[str, SegmentFile] = {}
    unreadable: dict[str, str] = {}
    next: int = 0
    events: int = 0
    rejected: int = 0
    bytes: int = 0


class _Reached(msgspec.Struct):
    """How far the reading of a segment got by the end of a part."""

    file: SegmentFile
    offset: int
    #: The last bytes before the offset, as they were read: what the checkpoint is to be recognised by.
    #: Not those of a torn tail, which may still change.
    tail: bytes
    lines: int = 0
    torn_bytes: int = 0
    #: Where a torn tail began that was put into quarantine earlier, and is read again.
    reread_from: int | None = None


class _Part(msgspec.Struct):
    """Lines of some segments: proven ones in `bulk`, others in `slices`, torn tails in `torn`."""

    bulk: Bulk
    slices: list[Slice] = []
    torn: list[Rejected] = []
    reached: dict[str, _Reached] = {}
    size_bytes: int = 0
    is_last: bool = False

    def reach(self, segment: SegmentFile, offset: int, tail: bytes) -> _Reached:
        """Note that a segment was read up to an offset."""
        reached = self.reached.setdefault(segment.name, _Reached(segment, offset, tail))
        reached.offset, reached.tail = offset, tail
        return reached

    def add(self, segment: SegmentFile, block: Block, tail: bytes) -> None:
        """Take a block, the next one of its segment, which ends in `tail`."""
        lines = self.bulk.add(segment.name, segment.event_type, block)
        if not lines:
            self.slices.append(Slice(segment.name, segment.event_type, list(block.lines())))
            lines = len(self.slices[-1].lines)
        self.size_bytes += block.length
        self.reach(segment, block.offset + block.length, tail).lines += lines

    def add_torn_tail(self, segment: SegmentFile, torn: Rejected, tail: bytes) -> None:
        """Take what is left at the end of a segment, behind the bytes that end in `tail`."""
        self.torn.append(torn)
        self.reach(segment, torn.offset + torn.length, tail).torn_bytes = torn.length

    @property
    def is_full(self) -> bool:
        return self.size_bytes >= PART_BYTES or sum(len(each.lines) for each in self.slices) >= PART_LINES

    @property
    def has_schemas(self) -> bool:
        return any(each.file.event_type == SCHEMA_EVENT for each in self.reached.values())

    def distrust(self) -> None:
        """Have every line looked at one by one."""
        self.slices += [Slice(name, kind, list(block.lines())) for name, kind, block in self.bulk.blocks()]
        self.bulk.clear()


def index_batch(
    connection: duckdb.DuckDBPyConnection,
    segments: Iterable[SegmentFile],
    *,
    known: Known | None = None,
    limits: Mapping[str, int] | None = None,
    max_bytes: int = BATCH_BYTES,
) -> Done:
    """Index what is new in the segments, up to about `max_bytes`, in one transaction per part.

    `known` is kept up to date, and is of no use after an error. `limits` gives the byte at which to
    stop in each segment (a replay up to where the live index is).
    Raises SegmentChanged where a checkpoint no longer fits its file.
    """
    asked = list(segments)[:BATCH_SEGMENTS]
    known = known or Known()
    known.read_marks(connection, [each.name for each in asked])
    unreadable = _check_returned(connection, asked, known)
    with bulks(2) as lent:
        reading = _Reading(asked, known.marks, limits, max_bytes, lent)
        reading.unreadable |= unreadable
        done = Done()
        with contextlib.closing(_read_ahead(reading.parts())) as parts:
            for part in parts:
                _store(connection, part, known, done)
    done.unreadable, done.next = reading.unreadable, reading.next
    return done


def _check_returned(connection: duckdb.DuckDBPyConnection, asked: list[SegmentFile], known: Known) -> dict[str, str]:
    """Look at all of a file that the log has again: it may be deleted once more, on the word of its checkpoint.

    Returns which could not be read, and why. Raises SegmentChanged where one has lines that are no rows.
    """
    unreadable = {}
    for each in asked:
        mark = known.marks.get(each.name)
        file = layout.refreshed(each) if mark is not None and mark.released else None
        if mark is None or file is None:
            continue
        try:
            if versions.is_other(connection, mark, file):
                raise SegmentChanged(file, mark.indexed_offset, "it is not the file that was indexed")
        except (SegmentUnreadable, MissingExtra) as error:
            unreadable[each.name] = str(error)
    return unreadable


def in_order(segments: Iterable[SegmentFile]) -> list[SegmentFile]:
    """Return segments in the order that is best to read them in.

    Schemas first, and then one segment of each type: what a type's first rows become depends on
    its schema, and to make columns for them costs the less the fewer rows there are. Then the
    oldest: ids are ordered by time, so the index has most often met none that are about to come.
    """
    by_name = sorted(segments, key=lambda each: each.name)
    first = {each.event_type: each.name for each in reversed(by_name)}
    return sorted(by_name, key=lambda each: (each.event_type != SCHEMA_EVENT, first[each.event_type] != each.name))


# -- reading ---------------------------------------------------------------------------------


class _Reading:
    """Reads segments on from their checkpoints, and hands out what is new in parts.

    `next` is the position in the list to go on from, and `unreadable` says what could not be read.
    """

    def __init__(
        self,
        segments: list[SegmentFile],
        known: Mapping[str, Checkpoint],
        limits: Mapping[str, int] | None,
        max_bytes: int,
        lent: Iterable[Bulk],
    ) -> None:
        self._segments = segments
        self._known = known
        self._limits = limits
        self._bulks = cycle(lent)
        self._room = max_bytes
        self._part = self._new_part()
        self.next = len(segments)
        self.unreadable: dict[str, str] = {}

    def parts(self) -> Iterator[_Part]:
        """Yield parts; the last one says that it is.

        A part is valid until the one after the next is asked for: while one is stored, one more is read.
        """
        for position, listed in enumerate(self._segments):
            # The listing may be older than the turn that is held now, and another indexer may
            # have been further in between: look again.
            segment = layout.refreshed(listed)
            if segment is None or segment.name in self.unreadable:
                continue
            if self._part.has_schemas and segment.event_type != SCHEMA_EVENT:
                yield self._part  # what a type's first rows become depends on its schema
                self._part = self._new_part()
            try:
                for block, tail in self._read(segment):
                    self._part.add(segment, block, tail)
                    self._room -= block.length
                    if self._part.is_full:
                        yield self._part
                        self._part = self._new_part()  # not before it is asked for: see there
            except (SegmentUnreadable, MissingExtra) as error:
                self.unreadable[segment.name] = str(error)
            if self._room <= 0:
                self.next = position  # there may be more in this one
                break
        self._part.is_last = True
        yield self._part

    def _new_part(self) -> _Part:
        """Begin another part, in the memory of the one before the last: that one must have been stored."""
        bulk = next(self._bulks)
        bulk.clear()
        return _Part(bulk=bulk)

    def _read(self, segment: SegmentFile) -> Iterator[tuple[Block, bytes]]:
        """Yield what is new in a segment, each block with the last bytes up to its end, and
        account for a torn tail at the end of the segment."""
        mark = self._known.get(segment.name) or Checkpoint(segment.name, segment.event_type)
        limit = None if self._limits is None else self._limits.get(segment.name, 0)
        size = segment.size if limit is None else min(limit, segment.size)
        tail = self._begin(segment, mark, size)
        if tail is None:
            return
        offset = mark.settled_offset
        for block in read_blocks(segment.path, offset, end=limit, max_bytes=self._room):
            offset = block.offset + block.length
            tail = _tail_behind(segment, tail, block)
            yield block, tail
        if offset < size and self._room > 0:
            with held_still(segment.path) as still:
                if still or limit is not None:
                    # Its owner is gone, and nobody can adopt it now: what is there is final, and
                    # all of it is seen, whatever was in the middle of being written before.
                    for block in read_blocks(segment.path, offset, end=limit):
                        offset = block.offset + block.length
                        tail = _tail_behind(segment, tail, block)
                        yield block, tail
                    torn = _torn_tail(segment, offset, limit)
                    if torn is not None:
                        self._part.add_torn_tail(segment, torn, tail)

    def _begin(self, segment: SegmentFile, mark: Checkpoint, size: int) -> bytes | None:
        """Note that a segment is looked at; return the last bytes before its checkpoint, None where nothing is new.

        Raises SegmentChanged where those bytes are others by now, and SegmentUnreadable.
        """
        offset, is_read = mark.settled_offset, size == mark.indexed_offset
        if size < offset:
            raise SegmentChanged(segment, mark.indexed_offset, "it is shorter than what was indexed")
        tail = b""
        # An archive is read from its front: only where there is something new in it.
        if offset and not (is_read and segment.archived):
            found = checkpoint.read_tail(segment.path, offset)
            if found is None:  # deleted since it was looked at
                return None
            tail = found
            if checkpoint.hash_of(tail) != mark.tail_hash:
                what = "the bytes before the indexed offset are not the same"
                raise SegmentChanged(segment, mark.indexed_offset, what)
        if is_read:
            self._part.reach(segment, mark.indexed_offset, tail).torn_bytes = mark.torn_bytes
            return None
        if segment.archived:  # whose checksum comes last: no line of it is believed before
            _check(segment)
        reached = self._part.reach(segment, offset, tail)
        if mark.torn_bytes:  # what stands behind the last line is judged anew, as a whole
            reached.reread_from = offset
        return tail


def _tail_behind(segment: SegmentFile, tail: bytes, block: Block) -> bytes:
    """Return the last bytes before the end of a block, of which those before it are known.

    As they were read: the file may be another one by the time that this is stored.
    """
    if block.oversized:
        return checkpoint.read_tail(segment.path, block.offset + block.length) or b""
    return (tail + block.data)[-checkpoint.TAIL_BYTES :]


def _check(segment: SegmentFile) -> None:
    try:
        zst.check(segment.path)
    except OSError as error:
        raise unreadable(segment.path, error) from error


def _torn_tail(segment: SegmentFile, offset: int, limit: int | None) -> Rejected | None:
    now = layout.refreshed(segment)
    size = 0 if now is None else now.size if limit is None else limit
    if now is None or size <= offset:
        return None
    try:
        with zst.open_segment(now.path) as file:
            raw = file.pread(min(size - offset, OVERSIZED_KEPT_BYTES), offset)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(now.path, error) from error
    return Rejected(segment.name, offset, size - offset, "torn tail: its writer died inside this line", raw)


def _read_ahead(parts: Iterator[_Part]) -> Generator[_Part]:
    """Have the next part read while one is at work on this one; a single part needs no thread."""
    part = next(parts)
    if part.is_last:
        yield part
        return
    with ThreadPoolExecutor(1, thread_name_prefix="eventlog-read") as pool:
        while not part.is_last:
            try:
                upcoming = pool.submit(next, parts)
            except RuntimeError:  # the interpreter is ending, and starts no more threads
                yield part
                part = next(parts)
            else:
                yield part
                part = upcoming.result()
        yield part


# -- storing ---------------------------------------------------------------------------------


def _store(connection: duckdb.DuckDBPyConnection, part: _Part, known: Known, done: Done) -> None:
    """Commit a part, and with it how far its segments were read."""
    checked = loader.check(connection, part.slices)
    again = {name: each.reread_from for name, each in part.reached.items() if each.reread_from is not None}
    connection.begin()
    try:
        loader.take_back(connection, again)
        loader.store(connection, part.bulk, checked._replace(rejected=[*checked.rejected, *part.torn]), known)
        before = {name: mark.indexed_offset for name in part.reached if (mark := known.marks.get(name)) is not None}
        changed = _account(part, checked, known.marks, done)
        moved = {each.name: before[each.name] for each in changed if before.get(each.name)}
        checkpoint.write(connection, changed, expected=moved)
        connection.commit()
    except loader.Refused:
        loader.undo(connection, known)
        if not part.bulk.events:
            raise
        part.distrust()
        _store(connection, part, known, done)
    except BaseException:
        # A commit that failed has undone itself, or the whole database is closed.
        known.forget_columns()
        known.forget_views()
        with contextlib.suppress(duckdb.Error):
            connection.rollback()
        raise


def _account(part: _Part, checked: Checked, known: dict[str, Checkpoint], done: Done) -> list[Checkpoint]:
    """Move the checkpoints of the segments that were read; return those that moved."""
    events = part.bulk.events + Counter(checked.events)
    rejected = Counter(each.segment for each in (*checked.rejected, *part.torn))
    moved = []
    for name, reached in part.reached.items():
        mark = known.setdefault(name, Checkpoint(name, reached.file.event_type))
        done.segments[name], done.files[name] = mark, reached.file
        again = reached.reread_from is not None
        if reached.offset == mark.indexed_offset and not again:
            continue
        mark.indexed_offset = reached.offset
        mark.torn_bytes = reached.torn_bytes
        mark.size_bytes = max(reached.file.size, reached.offset)
        mark.lines += reached.lines
        mark.events += events[name]
        mark.rejected += rejected[name] - again
        mark.sealed = reached.file.sealed
        mark.released = False  # a released segment with new bytes was adopted in the meantime
        mark.tail_hash = checkpoint.hash_of(reached.tail)
        moved.append(mark)
    done.events += events.total()
    done.rejected += rejected.total()
    done.bytes += part.size_bytes
    return moved
