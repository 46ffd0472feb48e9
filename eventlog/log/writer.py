"""The write path: lines to the segments of their type, as durable as configured (docs/decisions/0010-durability.md).

| policy    | when `write` returns, the lines survive | how                                       |
| --------- | --------------------------------------- | ----------------------------------------- |
| `written` | a kill of the process                   | one write(2); a thread syncs every second |
| `synced`  | a power cut                             | … and one fdatasync for all who wait      |
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from eventlog.durability import Durability
from eventlog.errors import WriteFailed
from eventlog.log.descriptors import Descriptors
from eventlog.log.stream import Stream
from eventlog.process import threads

_SYNC_DELAY_MAX_S = 10.0
#: The syncing thread ends when nothing was written for this many intervals.
_IDLE_ROUNDS = 5
#: Bound at import: a program under test may replace time.sleep by a function that returns at once.
_sleep = time.sleep


#: Called with the event type of lines that were written again, the reason, and the number of lost lines.
OnRewrite = Callable[[str, str, int], None]


class SyncHook(Protocol):
    """Syncs files that lines refer to. A writer calls it before it syncs the lines."""

    @property
    def is_synced(self) -> bool:
        """Whether all its files would survive a power cut."""

    def sync(self) -> None:
        """Make them survive one. Raises WriteFailed."""


class Writer:
    """Appends lines to the log under one root. Threads may share it; it is a `Sink`.

    `before_sync` syncs what the lines refer to. `on_failure` is called with the error of a background sync that failed
    even after the lines were written again; later rounds try again, less and less often. `on_rewrite` is called when
    lines were written again. Without `adopts`, it continues no segment of an earlier writer. With `releases`, an
    indexer deletes segments that nobody owns.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        segment_max_bytes: int,
        segment_max_age_s: float,
        durability: Durability = Durability.WRITTEN,
        sync_interval_s: float = 0.0,
        on_failure: Callable[[BaseException], None] = lambda _: None,
        before_sync: SyncHook | None = None,
        adopts: bool = True,
        releases: bool = False,
        on_rewrite: OnRewrite = lambda _type, _reason, _lost: None,
    ) -> None:
        self.root = Path(os.path.abspath(root))  # the program may change its working directory
        self._max_bytes = segment_max_bytes
        self._max_age_s = segment_max_age_s
        self._synced = durability is Durability.SYNCED
        self._interval_s = sync_interval_s
        self._on_failure = on_failure
        self._before_sync = before_sync
        self._adopts = adopts
        self._releases = releases
        self._on_rewrite = on_rewrite
        self._descriptors = Descriptors()
        self._streams: dict[str, Stream] = {}
        self._syncer: threading.Thread | None = None
        self._next_sync_s = 0.0
        #: How many unexpected errors the syncing thread has survived.
        self.background_errors = 0

    def write(self, event_type: str, data: bytes) -> None:
        """Append complete lines of one event type. Raises WriteFailed, naming the file."""
        stream = self._streams.get(event_type) or self._stream(event_type)
        try:
            position = stream.append(data)
        except WriteFailed as error:
            if self._synced and error.bytes_written:
                self._sync_rest(stream, error)
            raise
        if self._synced:
            stream.sync_to(position)
        elif self._syncer is None and self._interval_s:
            self._start_syncer()

    def flush(self) -> None:
        """Return when everything written so far would survive a power cut. Raises WriteFailed."""
        failure = None
        streams = [(stream, stream.appended) for stream in list(self._streams.values())]
        if self._before_sync is not None:  # the files that these lines refer to were stored before them
            try:
                self._before_sync.sync()
            except WriteFailed as error:
                failure = error
        for stream, position in streams:
            try:
                stream.sync_to(position)
            except WriteFailed as error:
                failure = error
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Sync and close all segments. The next write opens others. Raises WriteFailed."""
        try:
            self.flush()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close all segments without a sync."""
        for stream in list(self._streams.values()):
            with contextlib.suppress(WriteFailed):  # a thread hangs in it; the lock ends with the process
                stream.abandon()

    def after_fork(self) -> None:
        """In a forked child: forget the parent's segments and thread, and replace locks."""
        self._syncer = None
        self._descriptors.after_fork()
        for stream in self._streams.values():
            stream.after_fork()

    @property
    def segments_opened(self) -> int:
        """How many segments were created or adopted."""
        return sum(stream.segments_opened for stream in list(self._streams.values()))

    @property
    def failed_syncs(self) -> int:
        """How many syncs the operating system has refused."""
        return sum(stream.failed_syncs for stream in list(self._streams.values()))

    def _stream(self, event_type: str) -> Stream:
        made = Stream(
            self.root,
            event_type,
            segment_max_bytes=self._max_bytes,
            segment_max_age_s=self._max_age_s,
            adopts=self._adopts,
            descriptors=self._descriptors,
            checks_file=not self._synced and not self._interval_s,
            releases=self._releases,
            on_rewrite=partial(self._on_rewrite, event_type),
        )
        return self._streams.setdefault(event_type, made)

    def _sync_rest(self, stream: Stream, error: WriteFailed) -> None:
        """Sync the first part of a batch that failed halfway: only synced lines count as written."""
        try:
            stream.sync_to(stream.appended)
        except WriteFailed:
            error.bytes_written = error.lines_written = 0

    # -- in the background -------------------------------------------------------------

    def _start_syncer(self) -> None:
        thread = threading.Thread(
            target=_sync_regularly, args=(weakref.ref(self), self._interval_s), name="eventlog-sync"
        )
        self._syncer = thread
        if not threads.start(thread):
            self._syncer = None  # the next write tries again
            self._sync_without_thread()

    def _sync_without_thread(self) -> None:
        """Sync in the thread that writes, once per interval."""
        now_s = time.monotonic()
        if now_s >= self._next_sync_s and not sys.is_finalizing():
            self._next_sync_s = now_s + self._interval_s
            self._sync_once()

    def _is_synced(self) -> bool:
        if self._before_sync is not None and not self._before_sync.is_synced:
            return False
        return all(stream.synced >= stream.appended for stream in list(self._streams.values()))

    def _sync_once(self) -> bool:
        """Sync; return whether that worked. Never raises: nothing above the syncing thread would catch it."""
        try:
            self.flush()
        except WriteFailed as error:
            self._report(error)
            return False
        except BaseException as error:  # noqa: BLE001 - later rounds try again, whatever it was
            self.background_errors += 1
            self._report(error)
            return False
        return True

    def _report(self, error: BaseException) -> None:
        try:
            self._on_failure(error)
        except BaseException:  # noqa: BLE001 - the agent's code, such as a logging handler
            self.background_errors += 1

    def _may_end(self) -> bool:
        """Let the thread end, unless another thread has written something in the meantime."""
        self._syncer = None
        if self._is_synced():
            return True
        if self._syncer is None:
            self._syncer = threading.current_thread()
        return self._syncer is not threading.current_thread()


def _sync_regularly(reference: weakref.ref[Writer], interval_s: float) -> None:
    """Sync every `interval_s` until the writer is gone or idle. Nothing else ends the thread."""
    delay_s, idle = interval_s, 0
    while True:
        _sleep(delay_s)
        writer = reference()
        if writer is None:
            return
        try:
            idle = idle + 1 if writer._is_synced() else 0
            delay_s = interval_s if writer._sync_once() else min(delay_s * 2, max(interval_s, _SYNC_DELAY_MAX_S))
            if idle >= _IDLE_ROUNDS and writer._may_end():
                return
        except BaseException:  # noqa: BLE001 - no memory, say: the next round tries again
            writer.background_errors += 1
        del writer
