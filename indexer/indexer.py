"""The indexer: sweeps the log for new lines and indexes them, batch by batch.

It never trusts a notification. A sweep compares sizes (eventlog.indexer.sweep), and a segment that has grown is read
from its checkpoint on. The index file is open only during a batch, so that readers get the lock in between.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import msgspec

from eventlog.config import Config
from eventlog.errors import IndexFailed, SegmentUnreadable
from eventlog.format import envelope, ids, timestamps
from eventlog.format.control import Role
from eventlog.indexer.alarm import ALARM_EVENT, Alarm
from eventlog.indexer.index import checkpoint, index_file, schema
from eventlog.indexer.index.engine import Engine, Overwritten
from eventlog.indexer.index.index_file import (
    DEFAULT_TIMEOUT_S,
    HURRIED_BYTES_PER_S,
    BrokenIndex,
    IndexReplaced,
)
from eventlog.indexer.load import versions
from eventlog.indexer.load.batch import BATCH_BYTES, BatchResult, SegmentChanged, in_order, index_batch
from eventlog.indexer.load.cache import IndexCache
from eventlog.indexer.replay import Progress, rebuild, remarks
from eventlog.indexer.sweep import Sweep, is_spooled
from eventlog.indexer.views import projections, sources
from eventlog.log import layout
from eventlog.log.layout import SegmentFile
from eventlog.log.segment import is_owned, remove_if_finished

_logger = logging.getLogger("eventlog.indexer")
_LARGE_BATCH_BYTES = 4 * 1024 * 1024
#: The largest batch while somebody watches a progress bar. With smaller ones, indexing takes noticeably longer.
_SHOWN_BATCH_BYTES = 64 * 1024 * 1024
#: A hurried indexer looks at the clock this often in its time, if it goes as fast as that.
_HURRIED_BATCHES = 4
#: A segment that ends in a torn line is released when nobody has written to it for this long.
_TORN_WAIT_NS = 60 * 1_000_000_000
#: If another process overwrites the index, wait until its file has not changed for this long, and at most that long.
_QUIET_S, _OVERWRITING_MAX_S = 0.5, 5.0
#: A DuckDB error that passes by itself makes the index suspect, and it is rebuilt. That takes at most one part in this
#: many of the time.
_REBUILDING_PART, _REBUILDING_REST_S = 10, 2.0
#: While there is nothing to index: seconds between checks of an index that others have written to.
_CHECK_S = 1.0
#: And of one that seems unchanged: a copy in its place may look just like it.
_CHECK_UNCHANGED_S = 5.0


class Counted(msgspec.Struct):
    """What a run of the indexer did: events indexed, lines quarantined, bytes read."""

    events: int = 0
    rejected: int = 0
    bytes: int = 0


class _NeedsRebuild(Exception):
    """The index has to be rebuilt; the message says why."""


class Indexer:
    """Keeps the index of one root up to date with its log. Use it from one thread.

    With `release`, segments are deleted once all their rows are committed (mode `db_only`). `timeout_s` is how long to
    wait for the lock. `say` gets warnings, and `progress` bytes done and total while the index is rebuilt.

    With `within_s` it is hurried, because a reader waits for it: `catch_up` ends after the batch in which that time is
    over, and keeps what it has. It repairs nothing, and rebuilds an index of an older version only if that is quick;
    it raises IndexFailed and leaves the index as it is.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        release: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        within_s: float = math.inf,
        say: Callable[[str], None] = _logger.warning,
        progress: Progress | None = None,
    ) -> None:
        self.root = Path(root)
        self.releases = release
        self._timeout_s = timeout_s
        self._within_s = within_s
        self._say = say
        self._progress = progress
        self._engine = Engine()
        self._sweep = Sweep(self.root, release=release, say=say)
        self._index_inode: int | None = None
        self._index_id: tuple[int | None, str] | None = None
        self._cache = IndexCache()
        #: Bytes of the log in the index when this indexer last held the lock; it never has fewer.
        self._indexed_bytes = 0
        #: Bytes that this call of `catch_up` has to index, those it has indexed included.
        self._to_index = 0
        self._checked_s = 0.0
        self._may_rebuild_at_s = 0.0

    def catch_up(self, progress: Progress | None = None) -> Counted:
        """Index all lines that the log has now. Raises IndexBusy and IndexFailed.

        Lines written meanwhile may wait for the next call, so this ends under steady load, too. `progress` gets bytes
        done and total, if there is much to do.
        """
        return self._index_all(self._sweep.thorough, progress)

    def keep_up(self) -> Counted:
        """Like `catch_up`, but look most often only at segments that are likely to have grown."""
        return self._index_all(self._sweep.quick)

    @property
    def _is_hurried(self) -> bool:
        return self._within_s < math.inf

    def _batch_bytes(self, progress: Progress | None) -> int:
        hurried = self._within_s * HURRIED_BYTES_PER_S / _HURRIED_BATCHES
        return int(min(BATCH_BYTES, hurried, math.inf if progress is None else _SHOWN_BATCH_BYTES))

    def _index_all(self, find: Callable[[], list[SegmentFile]], progress: Progress | None = None) -> Counted:
        counted, deadline = Counted(), time.monotonic() + self._within_s
        self._to_index = 0
        self._forget_if_replaced()
        waiting = in_order(find())
        while waiting or self._index_inode is None:
            try:
                left = self._index_some(waiting, counted, progress)
            except duckdb.Error as error:  # most likely a full disk; the batch is rolled back
                path, reason = index_file.index_path(self.root), index_file.reason_of(error)
                if self._is_hurried or not (self._replace_damaged(reason) or self._rebuild_suspect(error)):
                    raise IndexFailed(f"{path} could not be written: {reason}. The log is not affected") from error
                left = None
            except Overwritten as error:
                if self._is_hurried:
                    raise
                self._rebuild_overwritten(str(error))
                left = None
            if counted.bytes and time.monotonic() >= deadline:
                break
            waiting = in_order(self._sweep.thorough()) if left is None else left
        if progress is not None and counted.bytes > _LARGE_BATCH_BYTES:
            progress(counted.bytes, counted.bytes)
        return counted

    def _index_some(
        self, waiting: list[SegmentFile], counted: Counted, progress: Progress | None
    ) -> list[SegmentFile] | None:
        """Index one batch; return the segments that are left, or None if the log has to be swept again."""
        inode = index_file.inode_of(index_file.index_path(self.root))
        try:
            with index_file.writing(self.root, timeout_s=self._timeout_s, engine=self._engine) as connection:
                if self._index_inode is None or not self._engine.is_unchanged:
                    self._cache.clear()
                    self._prepare(connection)
                    waiting = self._recall_if_replaced(connection, waiting)
                # Of a segment that is indexed in part, the sweep knows its size only.
                self._to_index = max(self._to_index, counted.bytes + self._sweep.lag_bytes(waiting))
                if progress is not None and self._to_index > _LARGE_BATCH_BYTES:
                    progress(counted.bytes, self._to_index)
                limit = self._batch_bytes(progress)
                result = (
                    index_batch(connection, waiting, cache=self._cache, max_bytes=limit) if waiting else BatchResult()
                )
                if self.releases:
                    self._release_segments(connection, result)
        except SegmentChanged as error:
            self._alarm(error)
            self._retire(error)
            return None
        except _NeedsRebuild as error:
            self._rebuild_version(str(error), inode)
            return None
        except (IndexReplaced, checkpoint.Moved):
            self._sweep.forget()
            return None
        except BrokenIndex as error:
            self._replace_broken(error, inode)
            return None
        for name, reason in result.unreadable.items():
            self._sweep.note_unreadable(name, reason)
        for name, file in result.files.items():
            self._sweep.note_indexed(file, result.segments[name].indexed_offset)
        self._engine.wrote(result.events)
        if result.bytes > _LARGE_BATCH_BYTES:
            self._engine.close()  # frees the memory of a large batch
        self._indexed_bytes += result.bytes
        counted.events += result.events
        counted.rejected += result.rejected
        counted.bytes += result.bytes
        return self._left(waiting, result)

    @staticmethod
    def _left(waiting: list[SegmentFile], result: BatchResult) -> list[SegmentFile]:
        """Return the segments that a batch did not index up to their listed size."""
        left = waiting[result.next :]
        mark = result.segments.get(left[0].name) if left else None
        return left[1:] if mark is not None and mark.indexed_offset >= left[0].size else left

    def _wait_until_quiet(self) -> None:
        """Wait up to 5 seconds until the index file has not changed for half a second: a copy may be in progress."""
        path, give_up_s = index_file.index_path(self.root), time.monotonic() + _OVERWRITING_MAX_S
        while time.monotonic() < give_up_s:
            try:
                if abs(time.time() - path.stat().st_ctime) >= _QUIET_S:
                    return
            except FileNotFoundError:
                return
            time.sleep(_QUIET_S / 10)

    def _forget_if_replaced(self) -> None:
        """Forget what was indexed if the index was deleted or replaced; check now and then for an overwritten one.

        An older copy may have been written over the index in place. To see that, the index has to be opened, though
        there is nothing new to index.
        """
        path, now_s = index_file.index_path(self.root), time.monotonic()
        inode = index_file.inode_of(path)
        if inode is None and self._index_inode is not None:
            self._say("the index is gone; rebuilding it from the log")
            self._engine.forget()
            self._indexed_bytes = 0
        elif inode is not None and self._index_inode is not None and inode != self._index_inode:
            self._wait_until_quiet()  # it may be a copy in progress
            inode = index_file.inode_of(path)
        if inode != self._index_inode:
            self._sweep.forget()
            self._index_inode = self._index_id = None
        elif now_s - self._checked_s >= (_CHECK_UNCHANGED_S if self._engine.seems_unchanged(path) else _CHECK_S):
            self._checked_s = now_s
            self._index_inode = None

    def _recall_if_replaced(
        self, connection: duckdb.DuckDBPyConnection, waiting: list[SegmentFile]
    ) -> list[SegmentFile]:
        """Read the checkpoints of an index that is another one than before; return the segments that lag.

        Reading them is faster than opening every segment. Raises Overwritten if the index has fewer bytes than before.
        """
        self._index_inode = index_file.inode_of(index_file.index_path(self.root))
        ((indexed_bytes,),) = connection.execute(SUM_OF_OFFSETS).fetchall()
        if indexed_bytes < self._indexed_bytes:
            raise Overwritten(
                f"{index_file.index_path(self.root)} is an older copy of the index: it has {indexed_bytes:,} of "
                f"{self._indexed_bytes:,} bytes that were indexed"
            )
        self._indexed_bytes = indexed_bytes
        # A new file may have the inode of a deleted one, and a backup has the identity of the original.
        expected, self._index_id = self._index_id, (self._index_inode, schema.identity(connection))
        if self._index_id == expected:
            return waiting
        self._sweep.recall(connection.execute(SELECT_OFFSETS).fetchall())
        if expected is not None:  # replaced while this indexer waited for the lock: it may be an older one
            return in_order(self._sweep.thorough())
        self._check_tails(connection)
        return [segment for segment in waiting if self._sweep.is_lagging(segment)]

    def _check_tails(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Compare the newest segments with their checkpoints. Raises SegmentChanged.

        After a power cut the index may be ahead of the log, and a segment may have its old size but other bytes. No
        sweep would notice that.
        """
        newest = (*self._sweep.likely, *self._sweep.latest)
        likely = {segment.name: segment for segment in newest if not segment.archived}
        done = [segment for segment in likely.values() if not self._sweep.is_lagging(segment)]
        marks = checkpoint.read(connection, [segment.name for segment in done])
        for segment in done:
            mark = marks.get(segment.name)
            if mark is None:  # it was unreadable so far
                continue
            try:
                reason = checkpoint.difference(mark, segment.path, segment.size)
            except SegmentUnreadable as error:
                self._sweep.note_unreadable(segment.name, str(error))
                continue
            if reason is not None:
                raise SegmentChanged(segment, mark.indexed_offset, reason)

    def _prepare(self, connection: duckdb.DuckDBPyConnection) -> None:
        version = schema.version(connection)
        if version is None:
            self._indexed_bytes = 0
            connection.begin()
            projections.create(connection)
            connection.commit()
        elif version == -1:
            raise index_file.broken(index_file.index_path(self.root), "it is a DuckDB file, but not an eventlog index")
        elif version > schema.SCHEMA_VERSION:
            raise IndexFailed(
                f"{index_file.index_path(self.root)} was written by a newer eventlog (schema {version}, "
                f"this one knows {schema.SCHEMA_VERSION}); upgrade, or delete the file and run: eventlog index"
            )
        elif version < schema.SCHEMA_VERSION:
            raise _NeedsRebuild(
                f"the index was written by an older eventlog (schema {version}, now {schema.SCHEMA_VERSION}); "
                "rebuilding it from the log"
            )
        elif lacking := sources.lacking(connection):
            raise _NeedsRebuild(f"the index was made without the source {lacking[0]}; rebuilding it from the log")

    def _rebuild_version(self, reason: str, inode: int | None) -> None:
        """Rebuild an index of an earlier version."""
        if self._is_hurried and not self._is_quickly_rebuilt():
            raise IndexFailed(f"{reason} takes a while; try: eventlog index")
        self._rebuild(reason, inode)

    def _replace_broken(self, error: BrokenIndex, inode: int | None) -> None:
        """Set an index aside that cannot be opened, and make a new one."""
        if self._is_hurried:
            raise error
        aside = index_file.set_aside(self.root, inode, timeout_s=self._timeout_s)
        if aside is not None:
            self._rebuild(f"{error}. It was set aside as {aside.name}; rebuilding from the log", None)

    def _is_quickly_rebuilt(self) -> bool:
        """Return whether a rebuild, which reads the log and copies what only the old index has, fits into the time."""
        read = sum(segment.size for segment in layout.list_log(self.root).segments)
        copied = index_file.index_path(self.root).stat().st_size
        return read + copied <= self._within_s * HURRIED_BYTES_PER_S

    def _replace_damaged(self, reason: str) -> bool:
        """Set the index aside and rebuild it if its file is certainly damaged; return whether it is."""
        inode = index_file.inode_of(index_file.index_path(self.root))
        self._engine.close()
        if not index_file.is_damaged(index_file.index_path(self.root)):
            return False
        aside = index_file.set_aside(self.root, inode, timeout_s=self._timeout_s)
        if aside is not None:
            self._rebuild(
                f"the index is damaged: {reason}. It was set aside as {aside.name}; rebuilding from the log", None
            )
        return True

    def _rebuild_suspect(self, error: duckdb.Error) -> bool:
        """Rebuild an index that can be read again after a read error: it may be a mix of two files; return whether."""
        reason, started_s = str(error), time.monotonic()
        is_write_error = any(word in reason.lower() for word in ("space", "write", "permission"))
        if isinstance(error, duckdb.OutOfMemoryException) or is_write_error or started_s < self._may_rebuild_at_s:
            return False
        self._rebuild_overwritten(f"the index could not be used: {index_file.reason_of(error)}")
        now_s = time.monotonic()
        self._may_rebuild_at_s = now_s + max((now_s - started_s) * _REBUILDING_PART, _REBUILDING_REST_S)
        return True

    def _rebuild_overwritten(self, reason: str) -> None:
        """Rebuild an index that another program wrote to; rows that the log does not have are carried over.

        It gets a new file, so a program that goes on writing does so to a file that is no longer the index.
        """
        path = index_file.index_path(self.root)
        self._engine.close()
        self._wait_until_quiet()
        try:
            self._rebuild(f"{reason}; rebuilding it from the log", index_file.inode_of(path))
        except duckdb.Error as error:
            raise IndexFailed(f"{path} could not be rebuilt: {index_file.reason_of(error)}") from error

    def _rebuild(self, reason: str, inode: int | None) -> None:
        """Rebuild the index, unless its inode has changed by then: another indexer has rebuilt it."""
        self._say(reason)
        done = rebuild(self.root, inode=inode, progress=self._progress, timeout_s=self._timeout_s)
        self._engine.forget()
        self._cache.clear()
        self._sweep.forget()
        self._index_inode = self._index_id = None
        self._indexed_bytes = 0
        if done is None:
            return
        for unreadable in done.unreadable:
            self._say(f"left out for now: {unreadable}")
        for remark in remarks(done):
            self._say(remark)

    def _retire(self, error: SegmentChanged) -> None:
        """Move the rows of the earlier file to a segment of their own; the new file is read from its first byte."""
        name = error.segment.name
        self._cache.clear()
        file = layout.refreshed(error.segment)
        self._sweep.forget_segment(name)
        if file is None:
            return
        try:
            with index_file.writing(self.root, timeout_s=self._timeout_s, engine=self._engine) as connection:
                is_ours = schema.version(connection) == schema.SCHEMA_VERSION  # else it was replaced meanwhile
                version = versions.retire(connection, file) if is_ours else None
        except SegmentUnreadable as unreadable:
            self._sweep.note_unreadable(name, str(unreadable))
            return
        if version is not None:
            self._say(
                f"{error}; an alarm was logged. The rows that it had are kept as segment {version}, and the file "
                "that is there now is read from its beginning"
            )

    def _alarm(self, error: SegmentChanged) -> None:
        """Log an `index_alarm` event, before anything is changed.

        Its id is derived from its content, so two indexers that notice the same change log one event.
        """
        segment = error.segment
        payload = envelope.encode_payload(
            Alarm(
                segment=segment.name,
                segment_type=segment.event_type,
                indexed_offset=error.offset,
                size=segment.size,
                reason=error.reason,
            )
        )
        moment_ns = segment.mtime_ns
        event_id = ids.derived_id(moment_ns // 1000, ALARM_EVENT, bytes(payload))
        from eventlog.record.recorder import Recorder  # noqa: PLC0415 - it takes as long to load as to index one event

        recorder = Recorder(Config(root=str(self.root), strict=True), role=Role.MAINTENANCE)
        recorder.record(
            [
                envelope.Envelope(
                    event_id=event_id,
                    event_type=ALARM_EVENT,
                    timestamp=timestamps.from_ns(moment_ns),
                    payload=payload,
                )
            ]
        )
        recorder.shutdown()

    def _release_segments(self, connection: duckdb.DuckDBPyConnection, result: BatchResult) -> None:
        """Delete finished segments, after the index has marked them as released and is synced.

        A crash in between leaves a file that is marked as released. The next sweep deletes it, or reads on if a writer
        has adopted it.
        """
        finished = [
            (file, mark)
            for name, file in result.files.items()
            if _is_still_spooled(file)
            and (mark := result.segments[name]).indexed_offset == file.size > 0
            and not _may_go_on(file, mark)
            and not is_owned(file.path)
        ]
        for _, mark in finished:
            mark.released = True
        connection.begin()
        checkpoint.write(connection, [mark for _, mark in finished])
        connection.commit()
        connection.execute("CHECKPOINT")
        for file, mark in finished:
            if _is_still_spooled(file):
                remove_if_finished(file.path, mark.indexed_offset)


def _may_go_on(file: SegmentFile, mark: checkpoint.Checkpoint) -> bool:
    """Return whether the rest of a torn line may still arrive, in a file that would be deleted by then."""
    return mark.torn_bytes > 0 and abs(time.time_ns() - file.mtime_ns) < _TORN_WAIT_NS


def _is_still_spooled(file: SegmentFile) -> bool:
    """Return whether a segment may still be released: it may have been sealed since it was listed."""
    now = layout.refreshed(file)
    return now is not None and is_spooled(now)


SUM_OF_OFFSETS = "SELECT coalesce(sum(indexed_offset), 0)::BIGINT FROM segments"
SELECT_OFFSETS = "SELECT name, indexed_offset FROM segments"
