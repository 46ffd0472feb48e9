"""The indexer: sweeps the log for what is new and indexes it, batch by batch.

It never trusts a notification. A sweep lists the log and compares sizes; whatever is
longer than what was seen is read on from its checkpoint. The index file is open only
during a batch, so that readers get their turn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import duckdb
import msgspec

from eventlog import envelope, ids, log, timestamps
from eventlog.config import Config
from eventlog.errors import IndexFailed
from eventlog.log import Oddity, SegmentFile
from eventlog.recorder import Recorder
from eventlog.segment import is_owned, remove_if_finished
from indexer import checkpoint, index_file, projections, schema
from indexer.batch import Done, SegmentChanged, index_batch
from indexer.index_file import DEFAULT_TIMEOUT_S, BrokenIndex
from indexer.replay import Progress, replay

_logger = logging.getLogger("eventlog.indexer")

ALARM_EVENT = "index_alarm"


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of `index_alarm`: something in the log is not as the indexer left it."""

    segment: str
    segment_type: str
    indexed_offset: int
    size: int
    what: str


class _Seen(NamedTuple):
    """What the last look at a segment found: its size, and whether all of it is indexed."""

    size: int
    complete: bool


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
        self._release = release
        self._timeout_s = timeout_s
        self._say = say
        self._progress = progress
        self._seen: dict[str, _Seen] = {}
        self._index_inode: int | None = None
        self._oddities: set[Oddity] = set()
        self._alarms: set[str] = set()

    def catch_up(self) -> Counted:
        """Index what is there now, and what comes meanwhile as far as it is met. Raises IndexBusy, IndexFailed.

        Not until nothing is new: while somebody keeps writing, that would never be.
        """
        counted = Counted()
        while self._step(counted):
            pass
        return counted

    def _step(self, counted: Counted) -> bool:
        self._forget_if_replaced()
        inode = index_file.inode_of(index_file.index_path(self.root))
        lagging = self._sweep()
        if not lagging and self._index_inode is not None:
            return False
        try:
            with index_file.writing(self.root, timeout_s=self._timeout_s) as connection:
                self._prepare(connection)
                done = index_batch(connection, lagging)
                if self._release:
                    self._release_segments(connection, done)
            self._index_inode = index_file.inode_of(index_file.index_path(self.root))
        except SegmentChanged as error:
            self._alarm(error)
            self._rebuild(f"{error}; an alarm was logged and the index is rebuilt from the log")
            return True
        except _NeedsRebuild as error:
            self._rebuild(str(error))
            return True
        except BrokenIndex as error:
            aside = index_file.set_aside(self.root, inode, timeout_s=self._timeout_s)
            if aside is not None:
                self._rebuild(f"{error}. It was set aside as {aside.name}; rebuilding from the log")
            return True
        for name, file in done.files.items():
            self._seen[name] = _Seen(file.size, done.segments[name].indexed_offset >= file.size)
        counted.events += done.events
        counted.rejected += done.rejected
        counted.bytes += done.bytes
        return done.next < len(lagging)

    def _forget_if_replaced(self) -> None:
        """The operator may have deleted or replayed the index: then all is to be looked at anew."""
        inode = index_file.inode_of(index_file.index_path(self.root))
        if inode is None and self._index_inode is not None:
            self._say("the index is gone; making it anew from the log")
        if inode != self._index_inode:
            self._seen.clear()
            self._index_inode = None

    def _sweep(self) -> list[SegmentFile]:
        listing = log.list_log(self.root)
        for oddity in listing.oddities:
            if oddity not in self._oddities:
                self._oddities.add(oddity)
                self._say(f"left alone: {str(oddity.path)!r}: {oddity.reason}")
        return [each for each in listing.segments if self._is_lagging(each)]

    def _is_lagging(self, segment: SegmentFile) -> bool:
        seen = self._seen.get(segment.name)
        if seen is None or seen.size != segment.size:
            return True
        # All that could be read has been. Only the end of its owner changes that: then there
        # is a torn tail to account for, or a finished segment to release.
        return (self._release or not seen.complete) and not is_owned(segment.path)

    def _prepare(self, connection: duckdb.DuckDBPyConnection) -> None:
        found = schema.version(connection)
        if found is None:
            projections.create(connection)
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

    def _rebuild(self, why: str) -> None:
        self._say(why)
        replay(self.root, progress=self._progress, timeout_s=self._timeout_s)

    def _alarm(self, error: SegmentChanged) -> None:
        """Log what was found: the index is about to be rebuilt, and an alarm must survive that.

        The same finding by two indexers, or twice, has the same id and is one event.
        """
        segment = error.segment
        payload = envelope.encode_payload(
            Alarm(
                segment=segment.name,
                segment_type=segment.event_type,
                indexed_offset=error.offset,
                size=segment.size,
                what=error.what,
            )
        )
        moment_ns = segment.mtime_ns
        event_id = ids.derived_id(moment_ns // 1000, ALARM_EVENT, bytes(payload))
        if event_id in self._alarms:
            raise IndexFailed(f"{error}: found again right after a rebuild; look at who writes there") from None
        self._alarms.add(event_id)
        recorder = Recorder(Config(root=str(self.root), strict=True))
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

    def _release_segments(self, connection: duckdb.DuckDBPyConnection, done: Done) -> None:
        """Delete finished segments: first say so in the index, durably, and only then delete.

        A crash in between leaves a file that the index calls released; it is deleted, or
        read on if somebody adopted it, at the next sweep.
        """
        finished = [
            (file, mark)
            for name, file in done.files.items()
            if (mark := done.segments[name]).indexed_offset == file.size > 0 and not is_owned(file.path)
        ]
        for _, mark in finished:
            mark.released = True
        connection.begin()
        checkpoint.write(connection, [mark for _, mark in finished])
        connection.commit()
        connection.execute("CHECKPOINT")
        for file, mark in finished:
            remove_if_finished(file.path, mark.indexed_offset)
