"""Writing the lines of one event type to its segments.

    append → the open segment | a new one when it is full, old or faulty
    sync_to → every segment synced up to a position | its lines written again to another segment

A position is the number of bytes that a stream has appended. After `append` returns position p, everything
before p survives a kill of the process, and after `sync_to(p)` a power cut.

Group commit: the first thread in `sync_to` syncs all that was appended until then.
The others wait for the end of that sync, not for its lock, which a fast thread would take
again before they wake: most find themselves covered, and one of the rest syncs for the rest.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from eventlog.errors import WriteFailed
from eventlog.log import layout
from eventlog.log.descriptors import EXHAUSTED, Descriptors
from eventlog.log.sealed_or_pruned import was_sealed_or_pruned
from eventlog.log.segment import Segment
from eventlog.process import locks

#: One `write(2)` is not kill-safe when huge, and readers see it half done.
_WRITE_MAX_BYTES = 1024 * 1024
#: At most this many segments are tried for adoption: a new segment is always right, too.
_ADOPT_MAX_TRIES = 16
_TRIES = 3
#: A thread that hangs in the kernel must not block all others for ever.
_TURN_TIMEOUT_S = 5.0
_SYNC_TIMEOUT_S = 30.0
_BUSY = "another thread has been writing"
#: A thread that waits for a sync checks again after this long: an interrupt may have kept it from being woken.
_WAKE_S = 1.0
#: Beyond this many segments that wait for their last sync, append syncs them itself: they hold descriptors.
_LEFT_MAX = 16
#: Without syncs in the background, which check the file each time, append checks it this often.
_CHECK_S = 1.0
#: Bound at import: a program under test may replace time.time.
_now_s = time.time

#: Called with the reason why lines were written again, and the number of lost lines.
OnRewrite = Callable[[str, int], None]


class Stream:
    """Appends to, and syncs, the segments of one event type. Threads may share it.

    Without `adopts`, it continues no segment of an earlier writer. With `checks_file`, `append` checks once a second
    that the file is still there. With `releases`, an indexer deletes segments that nobody owns.
    """

    def __init__(
        self,
        root: Path,
        event_type: str,
        *,
        segment_max_bytes: int,
        segment_max_age_s: float,
        adopts: bool = True,
        descriptors: Descriptors | None = None,
        checks_file: bool = True,
        releases: bool = False,
        on_rewrite: OnRewrite = lambda _reason, _lost: None,
    ) -> None:
        self._root = root
        self._event_type = event_type
        self._folder = layout.log_folder(root) / event_type
        self._max_bytes = segment_max_bytes
        self._max_age_s = segment_max_age_s
        self._adopts = adopts
        self._descriptors = descriptors or Descriptors()
        self._checks_file = checks_file
        self._releases = releases
        self._is_damaged = False
        self._on_rewrite = on_rewrite
        self._open: Segment | None = None
        self._left: list[Segment] = []
        # Paths of segments that this stream left, full or faulty: it must not adopt them again.
        self._given_up: set[Path] = set()
        # Reentrant: a signal handler or a finalizer may emit in the middle of an emit.
        self._append_lock, self._sync_lock = locks.Lock(), locks.Lock()
        #: Released when the running sync ends. A bare lock, since signal handlers may run at any point.
        self._sync_gate = _closed_gate()
        self._in_append = False
        self.appended = self.synced = 0
        self.segments_opened = self.failed_syncs = 0

    # -- appending ---------------------------------------------------------------------

    def append(self, data: bytes) -> int:
        """Append complete lines; return the position behind them, in bytes. Raises WriteFailed."""
        lock = self._append_lock  # as in `locks.held`
        nested = locks.is_owned(lock)
        try:
            try:
                if not (nested or lock.acquire(False) or locks.acquire(lock, _TURN_TIMEOUT_S)):
                    raise self._too_late(_TURN_TIMEOUT_S, _BUSY)
                self._append(data)
                position = self.appended
            finally:
                if not nested and locks.is_owned(lock):
                    lock.release()
        finally:
            if not nested and locks.is_owned(lock):
                lock.release()
        if self._left and (self._is_damaged or len(self._left) > _LEFT_MAX):
            self._is_damaged = False
            with contextlib.suppress(WriteFailed):  # the next sync raises it
                self._sync_if_free(position)
        return position

    def _append(self, data: bytes) -> None:
        if self._in_append:
            self._append_nested(data)
            return
        try:
            self._in_append = True
            self._append_lines(data)
        finally:
            self._in_append = False

    def _append_nested(self, data: bytes) -> None:
        """Append to another segment, since this very thread is in the middle of appending.

        A signal handler or a finalizer may emit at any point: between a short write and its
        cut, say, or while a segment is being opened.
        """
        interrupted = self._open
        try:
            self._open = None
            self._append_lines(data)
        finally:
            self._leave()
            self._open = interrupted

    def _append_lines(self, data: bytes) -> None:
        """Append part by part, to as many segments as it takes. Raises WriteFailed."""
        written = tries = 0
        while written < len(data):
            part = data if len(data) <= _WRITE_MAX_BYTES and not written else _part(data, written)
            tries += 1
            try:
                appended = self._segment_for(len(part)).append(part)
            except OSError as error:
                path = self._open.path if self._open else self._folder
                if error.errno not in EXHAUSTED or not self._descriptors.give_way():
                    self._is_damaged = self._checks_file  # no sync in the background would write its lines again
                    self._leave()
                if tries == _TRIES:
                    reason = f"{path}: {error.strerror or error}; {len(part)} bytes not written"
                    raise _failed(reason, data, written) from error
                continue
            except BaseException:  # an interrupt, perhaps between a short write and its cut
                self._leave()
                raise
            written += appended
            self.appended += appended  # without a call: a signal handler that emits could come in the middle of one
            if appended == len(part):
                tries = 0
                continue
            self._leave()  # a short write: never append behind it
            if tries == _TRIES:
                left = len(part) - appended
                raise _failed(f"{self._folder}: no space for {left} bytes; free some or move the root", data, written)

    def _segment_for(self, size: int) -> Segment:
        segment = self._open
        if segment is not None and not self._is_full(segment, size):
            if not segment.at_rest:
                return segment
            if segment.wake():
                self._descriptors.opened(self)
                return segment
        self._leave()
        self._open = (self._adopts and self._adopt(size)) or Segment.create(self._folder)
        self.segments_opened += 1
        self._descriptors.opened(self)
        return self._open

    def _is_full(self, segment: Segment, size: int) -> bool:
        if segment.size and segment.size + size > self._max_bytes:
            return True
        now_s = _now_s()
        if self._checks_file and not 0 <= now_s - segment.checked_s < _CHECK_S:
            segment.checked_s = now_s
            if segment is self._open:
                segment.check_file()
        return now_s - segment.created_s > self._max_age_s

    def _adopt(self, size: int) -> Segment | None:
        listed = layout.list_type(self._root, self._event_type)
        candidates = [file for file in listed if not file.sealed and file.path not in self._given_up]
        for candidate in reversed(candidates[-_ADOPT_MAX_TRIES:]):
            segment = Segment.adopt(candidate.path)
            if segment is None:
                continue
            if not self._is_full(segment, size) and not was_sealed_or_pruned(self._root, candidate.name):
                return segment
            segment.drop()
        return None

    def _leave(self) -> None:
        """Stop appending to the open segment. It stays locked until it is synced."""
        segment, self._open = self._open, None
        if segment is None:
            return
        if segment.size == 0:
            segment.remove()
            segment.drop()
            return
        self._given_up.add(segment.path)
        self._left.append(segment)

    # -- syncing -----------------------------------------------------------------------

    def sync_to(self, position: int) -> None:
        """Return when everything before a position would survive a power cut.

        Raises WriteFailed: the lines are in the log, and a power cut may lose them.
        """
        give_up_s = None
        while self.synced < position:
            gate = self._sync_gate  # read it before trying the lock, or the end of the sync could be missed
            if self._sync_if_free(position):
                return
            now_s = time.monotonic()
            give_up_s = give_up_s or now_s + _SYNC_TIMEOUT_S
            if now_s >= give_up_s:
                raise self._too_late(_SYNC_TIMEOUT_S, "a sync has been running")
            if gate.acquire(timeout=min(give_up_s - now_s, _WAKE_S)):
                gate.release()  # for the next one who waits

    def _sync_if_free(self, position: int) -> bool:
        """Sync unless another thread does, or hangs in it; return whether this one did. Raises WriteFailed."""
        acquired = False
        try:
            with locks.held(self._sync_lock, 0) as acquired:
                if acquired and self.synced < position:
                    self._sync()
        finally:
            if acquired:  # wake those who wait for this sync, now that the lock is free for one of them
                next_gate = _closed_gate()
                ended, self._sync_gate = self._sync_gate, next_gate  # without a call: each gate is opened once
                ended.release()
        return acquired

    def _sync(self) -> None:
        failure: OSError | None = None
        for _ in range(_TRIES):
            target, failure = self._sync_all()
            if failure is None:
                self.synced = max(self.synced, target)
                return
        reason = failure and (failure.strerror or failure)
        raise WriteFailed(f"{self._folder}: cannot be synced ({reason}); the disk may be failing") from failure

    def _sync_all(self) -> tuple[int, OSError | None]:
        """Sync every segment; return the position up to which all is synced, and the last failure."""
        with self._held(self._append_lock, _TURN_TIMEOUT_S, _BUSY):
            target, left, current = self.appended, list(self._left), self._open
            if current is not None:
                current.check_foreign_bytes()
        failure = None
        for segment in [*left, *([current] if current else [])]:
            try:
                segment.sync()
            except OSError as error:
                failure = error
                if error.errno in EXHAUSTED:  # no sync was tried
                    self._descriptors.give_way()
                    continue
                self.failed_syncs += 1
                self._write_again(segment, error)
            else:
                # The current segment may have been left in the meantime, with lines that this sync did not cover.
                if segment is current:
                    continue
            self._close(segment)
        return target, failure

    def _write_again(self, segment: Segment, error: OSError) -> None:
        """Write the lines that a failed sync may have lost to another segment. Raises WriteFailed.

        They may then be in the log twice. The index has one row for them: they carry the same event ids.
        """
        with self._held(self._append_lock, _TURN_TIMEOUT_S, _BUSY):
            if segment is self._open:
                self._leave()
            lines, lost = segment.unsynced()
            if lines:
                self._append(lines)
        self._close(segment)
        count = lines.count(b"\n")
        self._on_rewrite(f"{segment.path}: {error.strerror or error}; its last {count} lines were written again", lost)

    def _close(self, segment: Segment) -> None:
        with contextlib.suppress(ValueError):  # another thread has closed it
            self._left.remove(segment)
        with contextlib.suppress(TimeoutError):  # a sync hangs in there
            segment.close()

    # -- the end -----------------------------------------------------------------------

    @property
    def descriptors(self) -> int:
        """How many segments are open."""
        return sum(not segment.at_rest for segment in self._segments())

    def rest(self) -> bool:
        """Close all segments unless a thread appends; return whether none is open. Later syncs still cover them."""
        if locks.is_owned(self._append_lock):  # this very thread is appending
            return False
        with locks.held(self._append_lock, 0) as acquired:
            rested = [self._rested(segment) for segment in self._segments()] if acquired else [False]
        return all(rested)

    def _rested(self, segment: Segment) -> bool:
        if self._releases:  # the indexer may delete it as soon as nobody owns it, so sync it first
            try:
                segment.sync()
            except OSError:
                return False
        return segment.rest()

    def _segments(self) -> list[Segment]:
        current = self._open
        return [*self._left, *([current] if current else [])]

    def abandon(self) -> None:
        """Close all segments without a sync. The next append opens others. Raises WriteFailed where a thread hangs."""
        with self._held(self._append_lock, _TURN_TIMEOUT_S, _BUSY):
            segments = self._segments()
            self._open, self._left = None, []
            self._given_up.clear()
        for segment in segments:
            with contextlib.suppress(TimeoutError):
                segment.close()

    def after_fork(self) -> None:
        """In a forked child: forget the parent's segments, and replace locks that its threads may hold."""
        self._open, self._left, self._in_append = None, [], False
        self._given_up.clear()
        self._append_lock, self._sync_lock, self._sync_gate = locks.Lock(), locks.Lock(), _closed_gate()
        self.synced = self.appended  # the parent syncs what the parent wrote

    @contextmanager
    def _held(self, lock: locks.Lock, timeout_s: float, reason: str) -> Iterator[None]:
        with locks.held(lock, timeout_s) as acquired:
            if not acquired:
                raise self._too_late(timeout_s, reason)
            yield

    def _too_late(self, timeout_s: float, reason: str) -> WriteFailed:
        return WriteFailed(f"{self._folder}: {reason} for {timeout_s:g} s; the disk may be failing")


def _closed_gate() -> threading.Lock:
    gate = threading.Lock()
    gate.acquire()
    return gate


def _part(data: bytes, start: int) -> bytes:
    """Return the lines from offset `start` on that go into one write: one long line, or as many as fit."""
    end = data.rfind(b"\n", start, start + _WRITE_MAX_BYTES) + 1
    return data[start : end or data.index(b"\n", start) + 1]


def _failed(reason: str, data: bytes, written: int) -> WriteFailed:
    error = WriteFailed(reason)
    error.bytes_written, error.lines_written = written, data.count(b"\n", 0, written)
    return error
