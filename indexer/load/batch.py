"""Indexing one batch: new lines become rows, and their checkpoints move, in one transaction per part.

    segments + checkpoints → parts → rows + checkpoints, committed together, part by part

A crash undoes the transaction, and the same lines are read again. While DuckDB stores one part, the next one is read
and validated.
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
from eventlog.indexer.load import copies, loader, versions
from eventlog.indexer.load.bulk import BlockBuffer, block_buffers
from eventlog.indexer.load.cache import IndexCache
from eventlog.indexer.load.loader import Rejected, Slice, Staged
from eventlog.log import layout, zst
from eventlog.log.layout import SegmentFile
from eventlog.log.reader import OVERSIZED_KEPT_BYTES, Block, read_blocks, unreadable
from eventlog.log.segment import held_still

BATCH_BYTES = 128 * 1024 * 1024
#: Bytes per part, and so per transaction. Much smaller parts make many small row groups and leave a core idle; larger
#: ones take more memory and leave less to read while one is stored.
PART_BYTES = 224 * 1024 * 1024
#: Lines per part that are validated one by one: they take far more memory than their bytes.
PART_LINES = 200_000
#: Segments per batch, so that many tiny ones do not make a huge batch.
BATCH_SEGMENTS = 4096


class SegmentChanged(Exception):
    """A segment is not the file that was indexed before; `reason` is one of `checkpoint.difference`."""

    def __init__(self, segment: SegmentFile, offset: int, reason: str) -> None:
        super().__init__(f"{segment.path}: {reason} (indexed up to byte {offset:,}, size now {segment.size:,})")
        self.segment = segment
        self.offset = offset
        self.reason = reason


class BatchResult(msgspec.Struct):
    """What a batch did. The dictionaries are by segment name."""

    #: The checkpoint of each segment of the batch, after it.
    segments: dict[str, Checkpoint] = {}
    #: The file of each segment, as it was when it was read.
    files: dict[str, SegmentFile] = {}
    #: Why a segment could not be read. The others are indexed nevertheless.
    unreadable: dict[str, str] = {}
    #: The position in the list of segments to continue from.
    next: int = 0
    events: int = 0
    rejected: int = 0
    bytes: int = 0


class _Progress(msgspec.Struct):
    """How far a segment was read by the end of a part."""

    file: SegmentFile
    offset: int
    #: The bytes before the offset, as they were read: the checkpoint stores their hash. Without a torn tail, which may
    #: still change.
    tail: bytes
    lines: int = 0
    torn_bytes: int = 0
    #: The offset of a torn tail that is in quarantine and is read again.
    reread_from: int | None = None


class _Part(msgspec.Struct):
    """Lines of some segments: validated blocks, `slices` to be validated line by line, and torn tails."""

    blocks: BlockBuffer
    slices: list[Slice] = []
    torn: list[Rejected] = []
    #: By segment name.
    progress: dict[str, _Progress] = {}
    size_bytes: int = 0
    is_last: bool = False

    def advance(self, segment: SegmentFile, offset: int, tail: bytes) -> _Progress:
        """Note that a segment was read up to an offset, and the bytes before it."""
        progress = self.progress.setdefault(segment.name, _Progress(segment, offset, tail))
        progress.offset, progress.tail = offset, tail
        return progress

    def add(self, segment: SegmentFile, block: Block, tail: bytes) -> None:
        """Add the next block of a segment; `tail` are the last bytes up to its end."""
        buffered, rest = self.blocks.add(segment.name, segment.event_type, block)
        if rest:
            self.slices.append(Slice(segment.name, segment.event_type, rest))
        self.size_bytes += block.length
        self.advance(segment, block.offset + block.length, tail).lines += buffered + len(rest)

    def add_torn_tail(self, segment: SegmentFile, torn: Rejected, tail: bytes) -> None:
        """Add the torn tail of a segment; `tail` are the bytes before it."""
        self.torn.append(torn)
        self.advance(segment, torn.offset + torn.length, tail).torn_bytes = torn.length

    @property
    def is_full(self) -> bool:
        return self.size_bytes >= PART_BYTES or sum(len(part.lines) for part in self.slices) >= PART_LINES

    @property
    def has_schemas(self) -> bool:
        return any(progress.file.event_type == SCHEMA_EVENT for progress in self.progress.values())

    def fall_back_to_lines(self) -> None:
        """Have every line validated one by one."""
        self.slices += [Slice(name, kind, list(block.lines())) for name, kind, block in self.blocks.blocks()]
        self.blocks.clear()


def index_batch(
    connection: duckdb.DuckDBPyConnection,
    segments: Iterable[SegmentFile],
    *,
    cache: IndexCache | None = None,
    limits: Mapping[str, int] | None = None,
    max_bytes: int = BATCH_BYTES,
) -> BatchResult:
    """Index new lines of the first BATCH_SEGMENTS segments, up to about `max_bytes`, in one transaction per part.

    `cache` is kept up to date; clear it after an error. `limits` maps a segment's name to the offset at which to stop
    (verification replays up to where the live index is); a segment without one is not read.
    Raises SegmentChanged if a checkpoint does not match its file, and duckdb.Error.
    """
    segments = list(segments)[:BATCH_SEGMENTS]
    cache = cache or IndexCache()
    cache.load_checkpoints(connection, [segment.name for segment in segments])
    unreadable = _check_returned(connection, segments, cache)
    with block_buffers(2) as buffers:
        reader = _PartReader(segments, cache.checkpoints, limits, max_bytes, buffers)
        reader.unreadable |= unreadable
        result = BatchResult()
        with contextlib.closing(_read_ahead(reader.parts())) as parts:
            for part in parts:
                _store(connection, part, cache, result)
    result.unreadable, result.next = reader.unreadable, reader.next
    return result


def _check_returned(
    connection: duckdb.DuckDBPyConnection, segments: list[SegmentFile], cache: IndexCache
) -> dict[str, str]:
    """Compare released segments whose file is back with their rows: the file may be deleted again by its checkpoint.

    Returns the reasons why some could not be read, by name. Raises SegmentChanged if a line has no row.
    """
    unreadable = {}
    for segment in segments:
        mark = cache.checkpoints.get(segment.name)
        file = layout.refreshed(segment) if mark is not None and mark.released else None
        if mark is None or file is None:
            continue
        try:
            if versions.is_other(connection, mark, file):
                raise SegmentChanged(file, mark.indexed_offset, "it is not the file that was indexed")
        except (SegmentUnreadable, MissingExtra) as error:
            unreadable[segment.name] = str(error)
    return unreadable


def in_order(segments: Iterable[SegmentFile]) -> list[SegmentFile]:
    """Return segments in the best order to index them in.

    Schemas first, since the columns of a type depend on its schema. Then one segment of each type: the fewer rows the
    index has, the less a new column costs (docs/decisions/0014). Then from old to new: ids are ordered by time, so
    the index seldom has an id that comes next.
    """
    by_name = sorted(segments, key=lambda segment: segment.name)
    first = {segment.event_type: segment.name for segment in reversed(by_name)}
    return sorted(
        by_name,
        key=lambda segment: (segment.event_type != SCHEMA_EVENT, first[segment.event_type] != segment.name),
    )


# -- reading ---------------------------------------------------------------------------------


class _PartReader:
    """Reads segments from their checkpoints on, and yields new lines in parts.

    `next` is the position in the list to continue from; `unreadable` has the reasons for segments that were left out.
    """

    def __init__(
        self,
        segments: list[SegmentFile],
        checkpoints: Mapping[str, Checkpoint],
        limits: Mapping[str, int] | None,
        max_bytes: int,
        buffers: Iterable[BlockBuffer],
    ) -> None:
        self._segments = segments
        self._checkpoints = checkpoints
        self._limits = limits
        self._buffers = cycle(buffers)
        self._left_bytes = max_bytes
        self._part = self._new_part()
        self.next = len(segments)
        self.unreadable: dict[str, str] = {}

    def parts(self) -> Iterator[_Part]:
        """Yield parts; the last one has `is_last`, and may be empty.

        Buffers are reused: a part stays valid until two more have been requested (double buffering).
        """
        for position, listed in enumerate(self._segments):
            # The listing may be older than the lock that is held now, and another indexer may have been here: look
            # again.
            segment = layout.refreshed(listed)
            if segment is None or segment.name in self.unreadable:
                continue
            if self._part.has_schemas and segment.event_type != SCHEMA_EVENT:
                yield self._part  # the columns of a type depend on its schema
                self._part = self._new_part()
            try:
                for block, tail in self._read(segment):
                    self._part.add(segment, block, tail)
                    self._left_bytes -= block.length
                    if self._part.is_full:
                        yield self._part
                        self._part = self._new_part()  # only when the next part is requested: see there
            except (SegmentUnreadable, MissingExtra) as error:
                self.unreadable[segment.name] = str(error)
            if self._left_bytes <= 0:
                self.next = position  # there may be more in this one
                break
        self._part.is_last = True
        yield self._part

    def _new_part(self) -> _Part:
        """Start a part, in the buffer of the one before the last, which must have been stored."""
        blocks = next(self._buffers)
        blocks.clear()
        return _Part(blocks=blocks)

    def _read(self, segment: SegmentFile) -> Iterator[tuple[Block, bytes]]:
        """Yield new blocks of a segment, each with the last bytes up to its end; add a torn tail to the part."""
        mark = self._checkpoints.get(segment.name) or Checkpoint(segment.name, segment.event_type)
        limit = None if self._limits is None else self._limits.get(segment.name, 0)
        size = segment.size if limit is None else min(limit, segment.size)
        tail = self._start(segment, mark, size)
        if tail is None:
            return
        offset = mark.complete_offset
        for block in read_blocks(segment.path, offset, end=limit, max_bytes=self._left_bytes):
            offset = block.offset + block.length
            tail = _tail_after(segment, tail, block)
            yield block, tail
        if offset < size and self._left_bytes > 0:
            with held_still(segment.path) as still:
                if still or limit is not None:
                    # Its owner is gone, and no writer can adopt it now. So what is there is final: read lines that
                    # were being written a moment ago, and what is left is a torn tail.
                    for block in read_blocks(segment.path, offset, end=limit):
                        offset = block.offset + block.length
                        tail = _tail_after(segment, tail, block)
                        yield block, tail
                    torn = _torn_tail(segment, offset, limit)
                    if torn is not None:
                        self._part.add_torn_tail(segment, torn, tail)

    def _start(self, segment: SegmentFile, mark: Checkpoint, size: int) -> bytes | None:
        """Compare a segment with its checkpoint; return the bytes before that, or None if there is nothing new.

        Raises SegmentChanged if those bytes have changed, and SegmentUnreadable.
        """
        offset, is_read = mark.complete_offset, size == mark.indexed_offset
        if size < offset:
            raise SegmentChanged(segment, mark.indexed_offset, checkpoint.SHORTER)
        tail = b""
        # An archive can only be read from its start, so read it only if it has something new.
        if offset and not (is_read and segment.archived):
            before = checkpoint.read_tail(segment.path, offset)
            if before is None:  # deleted since it was listed
                return None
            tail = before
            if checkpoint.hash_of(tail) != mark.tail_hash:
                raise SegmentChanged(segment, mark.indexed_offset, checkpoint.OTHER_BYTES)
        if is_read:
            self._part.advance(segment, mark.indexed_offset, tail).torn_bytes = mark.torn_bytes
            return None
        if segment.archived:  # its checksum comes last: trust no line before it was compared
            _check(segment)
        progress = self._part.advance(segment, offset, tail)
        if mark.torn_bytes:  # more bytes have arrived: read the torn tail again with them
            progress.reread_from = offset
        return tail


def _tail_after(segment: SegmentFile, tail: bytes, block: Block) -> bytes:
    """Return the last bytes before the end of a block; `tail` are those before the block.

    From memory: by the time the part is stored, the file may be another one.
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
    """Read the next part in a thread while the caller works on this one; a single part needs no thread."""
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


def _store(connection: duckdb.DuckDBPyConnection, part: _Part, cache: IndexCache, result: BatchResult) -> None:
    """Commit the rows of a part and the checkpoints of its segments; add it to the result."""
    staged = loader.stage(connection, part.slices)
    torn_before = {
        name: progress.reread_from for name, progress in part.progress.items() if progress.reread_from is not None
    }
    connection.begin()
    try:
        loader.delete_torn_tails(connection, torn_before)
        loader.store(connection, part.blocks, staged._replace(rejected=[*staged.rejected, *part.torn]), cache)
        before = {
            name: mark.indexed_offset for name in part.progress if (mark := cache.checkpoints.get(name)) is not None
        }
        starts = {
            name: 0 if (mark := cache.checkpoints.get(name)) is None else mark.complete_offset for name in part.progress
        }
        moved = _move_checkpoints(part, staged, cache.checkpoints, result)
        expected = {mark.name: before[mark.name] for mark in moved if before.get(mark.name)}
        checkpoint.write(connection, moved, expected=expected)
        copies.mark(connection, starts, part.blocks.event_types | staged.event_types)
        connection.commit()
    except loader.Refused:
        loader.roll_back(connection, cache)
        if not part.blocks.events:
            raise
        part.fall_back_to_lines()
        _store(connection, part, cache, result)
    except BaseException:
        # A failed commit has rolled itself back, or the whole database is closed.
        cache.forget_columns()
        cache.forget_views()
        with contextlib.suppress(duckdb.Error):
            connection.rollback()
        raise


def _move_checkpoints(
    part: _Part, staged: Staged, checkpoints: dict[str, Checkpoint], result: BatchResult
) -> list[Checkpoint]:
    """Move the checkpoints of the segments that were read, and count the part; return those that moved."""
    events = part.blocks.events + Counter(staged.events)
    rejected = Counter(line.segment for line in (*staged.rejected, *part.torn))
    moved = []
    for name, progress in part.progress.items():
        mark = checkpoints.setdefault(name, Checkpoint(name, progress.file.event_type))
        result.segments[name], result.files[name] = mark, progress.file
        is_reread = progress.reread_from is not None
        if progress.offset == mark.indexed_offset and not is_reread:
            continue
        mark.indexed_offset = progress.offset
        mark.torn_bytes = progress.torn_bytes
        mark.size_bytes = max(progress.file.size, progress.offset)
        mark.lines += progress.lines
        mark.events += events[name]
        mark.rejected += rejected[name] - is_reread
        mark.sealed = progress.file.sealed
        mark.released = False  # a released segment with new bytes was adopted in the meantime
        mark.tail_hash = checkpoint.hash_of(progress.tail)
        moved.append(mark)
    result.events += events.total()
    result.rejected += rejected.total()
    result.bytes += part.size_bytes
    return moved
