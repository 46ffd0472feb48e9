"""The indexer: sweeps the log for what is new and indexes it, batch by batch.

It never trusts a notification. A sweep compares sizes (eventlog.indexer.sweep); whatever is longer
than what was seen is read on from its checkpoint. The index file is open only during a
batch, so that readers get their turn.
"""

from __future__ import annotations

import logging
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
from eventlog.indexer.index.index_file import DEFAULT_TIMEOUT_S, BrokenIndex, IndexReplaced
from eventlog.indexer.load import versions
from eventlog.indexer.load.batch import BatchResult, SegmentChanged, in_order, index_batch
from eventlog.indexer.load.cache import IndexCache
from eventlog.indexer.replay import Progress, rebuild, remarks
from eventlog.indexer.sweep import Sweep, is_spooled
from eventlog.indexer.views import projections, sources
from eventlog.log import layout
from eventlog.log.layout import SegmentFile
from eventlog.log.segment import is_owned, remove_if_finished
from eventlog.record.recorder import Recorder

_logger = logging.getLogger("eventlog.indexer")
_LARGE_BATCH_BYTES = 4 * 1024 * 1024
#: A segment that ends in a torn line is released when nobody has written to it for so long.
_TORN_WAIT_NS = 60 * 1_000_000_000
#: An index that somebody writes another one over is left alone until its file has been quiet for so long.
_QUIET_S, _OVERWRITING_MAX_S = 0.5, 5.0
#: Errors of DuckDB that pass by themselves make the index suspect: rebuilding it for them takes one part in so many
#: of the time, at most.
_REBUILDING_PART, _REBUILDING_REST_S = 10, 2.0
#: An index that others have written to is looked at this often, at most, while nothing else is to be done.
_LOOK_S = 1.0
#: And one that seems to be as it was left, this often: what was put in its place may look just like it.
_LOOK_ANYWAY_S = 5.0


class Counted(msgspec.Struct):
    """What a run of the indexer did."""

    events: int = 0
    rejected: int = 0
    bytes: int = 0


class _NeedsRebuild(Exception):
    """The index is of no use as it is; the message says why."""


class Indexer:
    """Keeps the index of one root up with its log. Use from one thread.

    With `release`, segments are deleted once all their rows are committed (mode db_only).
    """

    def __init__(
        self,
        root: str | Path,
        *,
        release: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        say: Callable[[str], None] = _logger.warning,
        progress: Progress | None = None,
    ) -> None:
        self.root = Path(root)
        self.releases = release
        self._timeout_s = timeout_s
        self._say = say
        self._progress = progress
        self._engine = Engine()
        self._sweep = Sweep(self.root, release=release, say=say)
        self._index_inode: int | None = None
        self._index_id: tuple[int | None, str] | None = None
        self._cache = IndexCache()
        #: At least so many bytes were indexed when this indexer last had its turn.
        self._reach = 0
        self._looked_at_s = 0.0
        self._may_rebuild_at_s = 0.0

    def catch_up(self) -> Counted:
        """Index what the log holds now. Raises IndexBusy, IndexFailed.

        What is written meanwhile may be left for the next call: under steady load there is
        always more, and this has an end.
        """
        return self._index_all(self._sweep.thorough)

    def keep_up(self) -> Counted:
        """Like `catch_up`, but most often look only where something new is likely."""
        return self._index_all(self._sweep.quick)

    def _index_all(self, find: Callable[[], list[SegmentFile]]) -> Counted:
        counted = Counted()
        self._forget_if_replaced()
        waiting = in_order(find())
        while waiting or self._index_inode is None:
            try:
                left = self._index_some(waiting, counted)
            except duckdb.Error as error:  # a full disk, most likely; the batch is undone
                path, reason = index_file.index_path(self.root), index_file.reason_of(error)
                if not self._replace_damaged(reason) and not self._rebuild_suspect(error):
                    raise IndexFailed(f"{path} could not be written: {reason}. The log is not affected") from error
                left = None
            except Overwritten as error:
                self._rebuild_overwritten(str(error))
                left = None
            waiting = in_order(self._sweep.thorough()) if left is None else left
        return counted

    def _index_some(self, waiting: list[SegmentFile], counted: Counted) -> list[SegmentFile] | None:
        """Index one batch; return what is left to do, or None where the index was made anew."""
        inode = index_file.inode_of(index_file.index_path(self.root))
        try:
            with index_file.writing(self.root, timeout_s=self._timeout_s, engine=self._engine) as connection:
                if self._index_inode is None or not self._engine.is_as_left:
                    self._cache.clear()
                    self._prepare(connection)
                    waiting = self._recall_if_replaced(connection, waiting)
                done = index_batch(connection, waiting, cache=self._cache) if waiting else BatchResult()
                if self.releases:
                    self._release_segments(connection, done)
        except SegmentChanged as error:
            self._alarm(error)
            self._retire(error)
            return None
        except _NeedsRebuild as error:
            self._rebuild(str(error), inode)
            return None
        except (IndexReplaced, checkpoint.Moved):
            self._sweep.forget()
            return None
        except BrokenIndex as error:
            aside = index_file.set_aside(self.root, inode, timeout_s=self._timeout_s)
            if aside is not None:
                self._rebuild(f"{error}. It was set aside as {aside.name}; rebuilding from the log", None)
            return None
        for name, reason in done.unreadable.items():
            self._sweep.could_not_read(name, reason)
        for name, file in done.files.items():
            self._sweep.saw(file, done.segments[name].indexed_offset)
        self._engine.wrote(done.events)
        if done.bytes > _LARGE_BATCH_BYTES:
            self._engine.close()  # which gives back the memory that it took
        self._reach += done.bytes
        counted.events += done.events
        counted.rejected += done.rejected
        counted.bytes += done.bytes
        return self._left(waiting, done)

    @staticmethod
    def _left(waiting: list[SegmentFile], done: BatchResult) -> list[SegmentFile]:
        """What a batch did not get to. A segment that is indexed as far as it was listed is done."""
        left = waiting[done.next :]
        mark = done.segments.get(left[0].name) if left else None
        return left[1:] if mark is not None and mark.indexed_offset >= left[0].size else left

    def _wait_until_quiet(self) -> None:
        """While somebody may still write to the index, it is not to be used; waits for some seconds at most."""
        path, give_up_s = index_file.index_path(self.root), time.monotonic() + _OVERWRITING_MAX_S
        while time.monotonic() < give_up_s:
            try:
                if abs(time.time() - path.stat().st_ctime) >= _QUIET_S:
                    return
            except FileNotFoundError:
                return
            time.sleep(_QUIET_S / 10)

    def _forget_if_replaced(self) -> None:
        """The operator may have deleted or replayed the index: then all is to be looked at anew.

        Or written an older copy over it, in place: to see that, the index is opened though nothing is new.
        """
        path, now_s = index_file.index_path(self.root), time.monotonic()
        inode = index_file.inode_of(path)
        if inode is None and self._index_inode is not None:
            self._say("the index is gone; making it anew from the log")
            self._engine.forget()
            self._reach = 0
        elif inode is not None and self._index_inode is not None and inode != self._index_inode:
            self._wait_until_quiet()  # it may be a copy in progress
            inode = index_file.inode_of(path)
        if inode != self._index_inode:
            self._sweep.forget()
            self._index_inode = self._index_id = None
        elif now_s - self._looked_at_s >= (_LOOK_ANYWAY_S if self._engine.left_alone(path) else _LOOK_S):
            self._looked_at_s = now_s
            self._index_inode = None

    def _recall_if_replaced(
        self, connection: duckdb.DuckDBPyConnection, waiting: list[SegmentFile]
    ) -> list[SegmentFile]:
        """Learn from another index how far it is, rather than open every segment to see; return what lags.

        Raises Overwritten where it has less than was indexed.
        """
        self._index_inode = index_file.inode_of(index_file.index_path(self.root))
        ((reach,),) = connection.execute("SELECT coalesce(sum(indexed_offset), 0)::BIGINT FROM segments").fetchall()
        if reach < self._reach:
            raise Overwritten(
                f"{index_file.index_path(self.root)} is an older copy of the index: it has {reach:,} of "
                f"{self._reach:,} bytes that were indexed"
            )
        self._reach = reach
        # A new file may have the inode of a deleted one, and a backup has the identity of the original.
        expected, self._index_id = self._index_id, (self._index_inode, schema.identity(connection))
        if self._index_id == expected:
            return waiting
        self._sweep.recall(connection.execute("SELECT name, indexed_offset FROM segments").fetchall())
        if expected is not None:  # replaced while this one waited for its turn: it may be an older one
            return in_order(self._sweep.thorough())
        self._check_tails(connection)
        return [each for each in waiting if self._sweep.is_lagging(each)]

    def _check_tails(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Look whether what was indexed last is still there. Raises SegmentChanged.

        After a power cut the index may be ahead of the log, and a file as long as before, with
        other bytes: nothing would make anybody look at it again.
        """
        likely = {each.name: each for each in (*self._sweep.likely, *self._sweep.latest) if not each.archived}
        done = [each for each in likely.values() if not self._sweep.is_lagging(each)]
        marks = checkpoint.read(connection, [each.name for each in done])
        for segment in done:
            mark = marks.get(segment.name)
            if mark is None:  # it could not be read so far
                continue
            try:
                reason = checkpoint.difference(mark, segment.path, segment.size)
            except SegmentUnreadable as error:
                self._sweep.could_not_read(segment.name, str(error))
                continue
            if reason is not None:
                raise SegmentChanged(segment, mark.indexed_offset, reason)

    def _prepare(self, connection: duckdb.DuckDBPyConnection) -> None:
        found = schema.version(connection)
        if found is None:
            self._reach = 0
            connection.begin()
            projections.create(connection)
            connection.commit()
        elif found == -1:
            raise index_file.broken(index_file.index_path(self.root), "it is a DuckDB file, but not an eventlog index")
        elif found > schema.SCHEMA_VERSION:
            raise IndexFailed(
                f"{index_file.index_path(self.root)} was written by a newer eventlog (schema {found}, "
                f"this one knows {schema.SCHEMA_VERSION}); upgrade, or delete the file and run: eventlog index"
            )
        elif found < schema.SCHEMA_VERSION:
            raise _NeedsRebuild(
                f"the index was written by an older eventlog (schema {found}, now {schema.SCHEMA_VERSION}); "
                "rebuilding it from the log"
            )
        elif lacking := sources.lacking(connection):
            raise _NeedsRebuild(f"the index was made without the source {lacking[0]}; rebuilding it from the log")

    def _replace_damaged(self, reason: str) -> bool:
        """Set the index aside and make it anew where it is certain that its file is damaged; say whether it was."""
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
        """Rebuild an index that is readable again after an error of reading it: it may be a mixture of two files."""
        reason, started_s = str(error), time.monotonic()
        is_of_writing = any(each in reason.lower() for each in ("space", "write", "permission"))
        if isinstance(error, duckdb.OutOfMemoryException) or is_of_writing or started_s < self._may_rebuild_at_s:
            return False
        self._rebuild_overwritten(f"the index could not be used: {index_file.reason_of(error)}")
        now_s = time.monotonic()
        self._may_rebuild_at_s = now_s + max((now_s - started_s) * _REBUILDING_PART, _REBUILDING_REST_S)
        return True

    def _rebuild_overwritten(self, why: str) -> None:
        """Rebuild an index that somebody else wrote to. What it has and the log has not is carried over.

        Once for each time that this is seen; whoever still writes does so to a file that is none any more.
        """
        path = index_file.index_path(self.root)
        self._engine.close()
        self._wait_until_quiet()
        try:
            self._rebuild(f"{why}; rebuilding it from the log", index_file.inode_of(path))
        except duckdb.Error as error:
            raise IndexFailed(f"{path} could not be rebuilt: {index_file.reason_of(error)}") from error

    def _rebuild(self, why: str, inode: int | None) -> None:
        """Build the index anew, unless another indexer does so while this one waits for the file of `inode`."""
        self._say(why)
        done = rebuild(self.root, inode=inode, progress=self._progress, timeout_s=self._timeout_s)
        self._engine.forget()
        self._cache.clear()
        self._sweep.forget()
        self._index_inode = self._index_id = None
        self._reach = 0
        if done is None:
            return
        for reason in done.unreadable:
            self._say(f"left out for now: {reason}")
        for remark in remarks(done):
            self._say(remark)

    def _retire(self, error: SegmentChanged) -> None:
        """Keep the rows of the earlier file, and have the one that is there read from its first byte."""
        name = error.segment.name
        self._cache.clear()
        file = layout.refreshed(error.segment)
        self._sweep.doubt(name)
        if file is None:
            return
        try:
            with index_file.writing(self.root, timeout_s=self._timeout_s, engine=self._engine) as connection:
                is_ours = schema.version(connection) == schema.SCHEMA_VERSION  # or it was replaced meanwhile
                version = versions.retire(connection, file) if is_ours else None
        except SegmentUnreadable as unreadable:
            self._sweep.could_not_read(name, str(unreadable))
            return
        if version is not None:
            self._say(
                f"{error}; an alarm was logged. The rows that it had are kept as segment {version}, and the file "
                "that is there now is read from its beginning"
            )

    def _alarm(self, error: SegmentChanged) -> None:
        """Log what was found, before anything is done about it.

        The same finding by two indexers, or twice, has the same id and is one event.
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

    def _release_segments(self, connection: duckdb.DuckDBPyConnection, done: BatchResult) -> None:
        """Delete finished segments: first say so in the index, durably, and only then delete.

        A crash in between leaves a file that the index calls released; it is deleted, or
        read on if somebody adopted it, at the next sweep.
        """
        finished = [
            (file, mark)
            for name, file in done.files.items()
            if _is_still_spooled(file)
            and (mark := done.segments[name]).indexed_offset == file.size > 0
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
    """Say whether the rest of a torn line may be on its way: it would go into a file that is deleted."""
    return mark.torn_bytes > 0 and abs(time.time_ns() - file.mtime_ns) < _TORN_WAIT_NS


def _is_still_spooled(file: SegmentFile) -> bool:
    """Somebody may have sealed it since it was listed."""
    now = layout.refreshed(file)
    return now is not None and is_spooled(now)
