"""One batch: what new lines say, and how far that got, in one transaction.

    segments + checkpoints → slices → rows + checkpoints, committed together

A crash anywhere leaves the transaction undone, and the same lines are read again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

import duckdb
import msgspec

from eventlog import archive, log
from eventlog.errors import MissingExtra, SegmentUnreadable
from eventlog.log import SegmentFile
from eventlog.reader import OVERSIZED_KEPT_BYTES, Line, read_lines, unreadable
from eventlog.segment import held_still
from indexer import checkpoint, loader
from indexer.checkpoint import Checkpoint
from indexer.loader import Rejected, Slice

BATCH_BYTES = 32 * 1024 * 1024
#: Segments looked at in one transaction, so that many tiny ones do not make a huge batch.
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
    changed: list[Checkpoint] = []
    next: int = 0
    events: int = 0
    rejected: int = 0
    bytes: int = 0


def index_batch(
    connection: duckdb.DuckDBPyConnection,
    segments: Iterable[SegmentFile],
    *,
    limits: Mapping[str, int] | None = None,
    max_bytes: int = BATCH_BYTES,
) -> Done:
    """Index what is new in the segments, up to about `max_bytes`, in one transaction.

    `limits` gives the byte at which to stop in each segment (a replay up to where the live
    index is). Raises SegmentChanged where a checkpoint no longer fits its file.
    """
    asked = list(segments)[:BATCH_SEGMENTS]
    known = checkpoint.read(connection, [each.name for each in asked])
    done = Done(next=len(asked))
    slices: list[Slice] = []
    torn: list[Rejected] = []
    for position, listed in enumerate(asked):
        # The listing may be older than the turn that is held now, and another indexer may
        # have been further in between: look again.
        segment = log.refreshed(listed)
        if segment is None:
            continue
        mark = known.get(segment.name) or Checkpoint(segment.name, segment.event_type)
        limit = None if limits is None else limits.get(segment.name, 0)
        try:
            part, tail = _read(segment, mark, limit, max_bytes - done.bytes)
        except (SegmentUnreadable, MissingExtra) as error:
            done.unreadable[segment.name] = str(error)
            continue
        done.segments[segment.name] = mark
        done.files[segment.name] = segment
        if part:
            slices.append(Slice(segment.name, segment.event_type, part))
        if tail is not None:
            torn.append(tail)
        done.bytes += sum(line.length for line in part)
        if done.bytes >= max_bytes:
            done.next = position  # there may be more in this one
            break
    checked = loader.check(connection, slices)
    _account(done, checked.events, [*checked.rejected, *torn])
    connection.begin()
    try:
        loader.store(connection, checked._replace(rejected=[*checked.rejected, *torn]))
        checkpoint.write(connection, done.changed)
        connection.commit()
    except BaseException:
        with contextlib.suppress(
            duckdb.Error
        ):  # a commit that failed has undone itself, or the whole database is closed
            connection.rollback()
        raise
    return done


def _read(
    segment: SegmentFile, mark: Checkpoint, limit: int | None, max_bytes: int
) -> tuple[list[Line], Rejected | None]:
    """Read the new lines of a segment and move its checkpoint; with a dead one's torn tail."""
    size = segment.size if limit is None else min(limit, segment.size)
    if size < mark.indexed_offset:
        raise SegmentChanged(segment, mark.indexed_offset, "it is shorter than what was indexed")
    if size == mark.indexed_offset:
        return [], None
    if mark.indexed_offset and checkpoint.tail_hash(segment.path, mark.indexed_offset) != mark.tail_hash:
        raise SegmentChanged(segment, mark.indexed_offset, "the bytes before the indexed offset are not the same")
    if segment.archived:  # whose checksum comes last: no line of it is believed before
        _check(segment)
    mark.released = False  # a released segment with new bytes was adopted in the meantime
    lines = list(read_lines(segment.path, mark.indexed_offset, end=limit, max_bytes=max_bytes))
    tail = None
    if _move(mark, lines) < size and sum(line.length for line in lines) < max_bytes:
        with held_still(segment.path) as still:
            if still or limit is not None:
                # Its owner is gone, and nobody can adopt it now: what is there is final, and
                # all of it is seen, whatever was in the middle of being written before.
                more = list(read_lines(segment.path, mark.indexed_offset, end=limit))
                _move(mark, more)
                lines += more
                tail = _torn_tail(segment, mark, limit)
    mark.size_bytes = max(segment.size, mark.indexed_offset)
    mark.sealed = segment.sealed
    mark.lines += len(lines)
    return lines, tail


def _check(segment: SegmentFile) -> None:
    try:
        archive.check(segment.path)
    except OSError as error:
        raise unreadable(segment.path, error) from error


def _move(mark: Checkpoint, lines: list[Line]) -> int:
    if lines:
        mark.indexed_offset = lines[-1].offset + lines[-1].length
    return mark.indexed_offset


def _torn_tail(segment: SegmentFile, mark: Checkpoint, limit: int | None) -> Rejected | None:
    offset = mark.indexed_offset
    now = log.refreshed(segment)
    size = 0 if now is None else now.size if limit is None else limit
    if now is None or size <= offset:
        return None
    try:
        with archive.open_segment(now.path) as file:
            raw = file.pread(min(size - offset, OVERSIZED_KEPT_BYTES), offset)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(now.path, error) from error
    mark.indexed_offset = size
    return Rejected(segment.name, offset, size - offset, "torn tail: its writer died inside this line", raw)


def _account(done: Done, events: Mapping[str, int], rejected: list[Rejected]) -> None:
    """Complete the checkpoints of the segments that were read."""
    for name, count in events.items():
        done.segments[name].events += count
        done.events += count
    for each in rejected:
        done.segments[each.segment].rejected += 1
        done.rejected += 1
    for name in {*events, *(each.segment for each in rejected)}:
        mark = done.segments[name]
        mark.tail_hash = checkpoint.tail_hash(done.files[name].path, mark.indexed_offset)
        done.changed.append(mark)
