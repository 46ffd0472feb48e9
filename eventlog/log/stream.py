"""The lines of one event type, from the process that writes them.

    append → the open segment | a fresh one when it is full, old or faulty
    sync_to → every segment synced up to a position | its lines written anew elsewhere

A stream counts the bytes that it has appended: after `append` returns position p, everything
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
#: Looking for a segment to adopt stops after this many: a new one is always right, too.
_ADOPT_MAX_TRIES = 16
_TRIES = 3
#: A thread that hangs in the kernel must not take all others with it.
_TURN_TIMEOUT_S = 5.0
_SYNC_TIMEOUT_S = 30.0
_BUSY = "another thread has been writing"
#: Who waits for a sync looks again after this long, should an interrupt have kept it from saying that it ended.
_LOOK_AGAIN_S = 1.0
#: Segments that were left and wait for their sync are descriptors that stay open.
_LEFT_MAX = 16
#: Where nobody syncs in the background, which looks each time, a look at whether the file is still there is this old.
_LOOK_S = 1.0
#: Taken now: a program under test may put something else in its place.
_now_s = time.time

#: Is told why lines were written again, and how many were lost.
OnRewrite = Callable[[str, int], None]


class Stream:
    """Appends to, and syncs, the segments of one event type. Threads may share it."""

    def __init__(
        self,
        root: Path,
        event_type: str,
        *,
        segment_max_bytes: int,
        segment_max_age_s: float,
        adopts: bool = True,
        descriptors: Descriptors | None = None,
        looks: bool = True,
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
        self._looks = looks
        self._releases = releases
        self._is_damaged = False
        self._on_rewrite = on_rewrite
        self._open: Segment | None = None
        self._left: list[Segment] = []
        # Names that this stream gave up, full or faulty: it must not adopt them again.
        self._given_up: set[Path] = set()
        # Reentrant: a signal handler or a finalizer may emit in the middle of an emit.
        self._append_lock, self._sync_lock = locks.Lock(), locks.Lock()
        #: A gate that opens when the sync that runs has ended. A bare lock: handlers may come at any point.
        self._sync_gate = _closed()
        self._in_append = False
        self.appended = self.synced = 0
        self.segments_opened = self.failed_syncs = 0

    # -- appending ---------------------------------------------------------------------

    def append(self, data: bytes) -> int:
        """Append complete lines; return the position behind them. Raises WriteFailed."""
        lock = self._append_lock  # as in `locks.held`
        nested = lock.is_owned()
        try:
            try:
                if not (nested or lock.acquire(False) or locks.acquire(lock, _TURN_TIMEOUT_S)):
                    raise self._too_late(_TURN_TIMEOUT_S, _BUSY)
                self._append(data)
                position = self.appended
            finally:
                if not nested and lock.is_owned():
                    lock.release()
        finally:
            if not nested and lock.is_owned():
                lock.release()
        if self._left and (self._is_damaged or len(self._left) > _LEFT_MAX):
            self._is_damaged = False
            with contextlib.suppress(WriteFailed):  # whoever settles next is told
                self._sync_if_free(position)
        return position

    def _append(self, data: bytes) -> None:
        if self._in_append:
            self._append_apart(data)
            return
        try:
            self._in_append = True
            self._append_lines(data)
        finally:
            self._in_append = False

    def _append_apart(self, data: bytes) -> None:
        """Append to a segment of its own, since this very thread is in the middle of appending.

        A signal handler or a finalizer may emit at any point: after a short write, say, and
        before its cut, or while a segment is being opened.
        """
        interrupted = self._open
        try:
            self._open = None
            self._append_lines(data)
        finally:
            self._leave()
            self._open = interrupted

    def _append_lines(self, data: bytes) -> None:
        """Append part by part, to as many segments as it takes."""
        written = tries = 0
        while written < len(data):
            part = data if len(data) <= _WRITE_MAX_BYTES and not written else _part(data, written)
            tries += 1
            try:
                kept = self._segment_for(len(part)).append(part)
            except OSError as error:
                place = self._open.path if self._open else self._folder
                if error.errno not in EXHAUSTED or not self._descriptors.give_way():
                    self._is_damaged = self._looks  # nobody in the background would find what is to be written again
                    self._leave()
                if tries == _TRIES:
                    reason = f"{place}: {error.strerror or error}; {len(part)} bytes not written"
                    raise _failed(reason, data, written) from error
                continue
            except BaseException:  # an interrupt, perhaps between a short write and its cut
                self._leave()
                raise
            written += kept
            self.appended += kept  # with no call in it, which a signal handler that emits could interrupt
            if kept == len(part):
                tries = 0
                continue
            self._leave()  # a short write: never append behind it
            if tries == _TRIES:
                left = len(part) - kept
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
        if self._looks and not 0 <= now_s - segment.looked_s < _LOOK_S:
            segment.looked_s = now_s
            if segment is self._open:
                segment.look()
        return now_s - segment.created_s > self._max_age_s

    def _adopt(self, size: int) -> Segment | None:
        listed = layout.list_type(self._root, self._event_type)
        candidates = [each for each in listed if not each.sealed and each.path not in self._given_up]
        for candidate in reversed(candidates[-_ADOPT_MAX_TRIES:]):
            segment = Segment.adopt(candidate.path)
            if segment is None:
                continue
            if not self._is_full(segment, size) and not was_sealed_or_pruned(self._root, candidate.name):
                return segment
            segment.drop()
        return None

    def _leave(self) -> None:
        """Append to the open segment no more. It stays locked until it is synced."""
        segment, self._open = self._open, None
        if segment is None:
            return
        if segment.size == 0:
            segment.remove()
            segment.drop()
            return
        self._given_up.add(segment.path)
        self._left.append(segment)

    # -- settling ----------------------------------------------------------------------

    def sync_to(self, position: int) -> None:
        """Return when all that was appended before a position would survive a power cut.

        Raises WriteFailed: the lines are in the log, and may not be there after a power cut.
        """
        give_up_s = None
        while self.synced < position:
            syncing = self._sync_gate  # taken before the look at who is at it, or its end could be missed
            if self._sync_if_free(position):
                return
            now_s = time.monotonic()
            give_up_s = give_up_s or now_s + _SYNC_TIMEOUT_S
            if now_s >= give_up_s:
                raise self._too_late(_SYNC_TIMEOUT_S, "a sync has been running")
            if syncing.acquire(timeout=min(give_up_s - now_s, _LOOK_AGAIN_S)):
                syncing.release()  # for the next one who waits

    def _sync_if_free(self, position: int) -> bool:
        """Settle, unless somebody is at it, or hangs in it; say whether so. Raises WriteFailed."""
        mine = False
        try:
            with locks.held(self._sync_lock, 0) as mine:
                if mine and self.synced < position:
                    self._sync()
        finally:
            if mine:  # those who wait for this sync go on, now that the lock is free for one of them
                next_one = _closed()
                ended, self._sync_gate = self._sync_gate, next_one  # with no call in it: each gate is opened once
                ended.release()
        return mine

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
        """Sync every segment; return the position that is covered, and the last failure."""
        with self._turn(self._append_lock, _TURN_TIMEOUT_S, _BUSY):
            target, left, current = self.appended, list(self._left), self._open
            if current is not None:
                current.look_for_others()
        failure = None
        for segment in [*left, *([current] if current else [])]:
            try:
                segment.sync()
            except OSError as error:
                failure = error
                if error.errno in EXHAUSTED:  # nothing was tried
                    self._descriptors.give_way()
                    continue
                self.failed_syncs += 1
                self._write_anew(segment, error)
            else:
                # The current one may have been left meanwhile, with lines that this sync did not see.
                if segment is current:
                    continue
            self._let_go(segment)
        return target, failure

    def _write_anew(self, segment: Segment, error: OSError) -> None:
        """Take the lines that a failed sync may have lost to a fresh segment. Raises WriteFailed.

        They may then be in the log twice, which is one row: they carry the same ids.
        """
        with self._turn(self._append_lock, _TURN_TIMEOUT_S, _BUSY):
            if segment is self._open:
                self._leave()
            lines, lost = segment.unsynced()
            if lines:
                self._append(lines)
        self._let_go(segment)
        count = lines.count(b"\n")
        self._on_rewrite(f"{segment.path}: {error.strerror or error}; its last {count} lines were written again", lost)

    def _let_go(self, segment: Segment) -> None:
        with contextlib.suppress(ValueError):  # let go of by another thread
            self._left.remove(segment)
        with contextlib.suppress(TimeoutError):  # a sync hangs in there
            segment.close()

    # -- the end -----------------------------------------------------------------------

    @property
    def descriptors(self) -> int:
        """How many segments are open."""
        return sum(not each.at_rest for each in self._segments())

    def rest(self) -> bool:
        """Close all segments, unless somebody is at it; say whether none is open. They are synced all the same."""
        if self._append_lock.is_owned():  # this very thread is appending
            return False
        with locks.held(self._append_lock, 0) as mine:
            rested = [self._rested(each) for each in self._segments()] if mine else [False]
        return all(rested)

    def _rested(self, segment: Segment) -> bool:
        if self._releases:  # what nobody owns may be deleted once it is indexed, and could not be synced later
            try:
                segment.sync()
            except OSError:
                return False
        return segment.rest()

    def _segments(self) -> list[Segment]:
        current = self._open
        return [*self._left, *([current] if current else [])]

    def abandon(self) -> None:
        """Let go of all segments without a sync. The next append opens others."""
        with self._turn(self._append_lock, _TURN_TIMEOUT_S, _BUSY):
            segments = self._segments()
            self._open, self._left = None, []
            self._given_up.clear()
        for segment in segments:
            with contextlib.suppress(TimeoutError):
                segment.close()

    def after_fork(self) -> None:
        """Start afresh in a child: own segments, and locks that no vanished thread holds."""
        self._open, self._left, self._in_append = None, [], False
        self._given_up.clear()
        self._append_lock, self._sync_lock, self._sync_gate = locks.Lock(), locks.Lock(), _closed()
        self.synced = self.appended  # what the parent wrote is the parent's to sync

    @contextmanager
    def _turn(self, lock: locks.Lock, timeout_s: float, what: str) -> Iterator[None]:
        with locks.held(lock, timeout_s) as mine:
            if not mine:
                raise self._too_late(timeout_s, what)
            yield

    def _too_late(self, timeout_s: float, what: str) -> WriteFailed:
        return WriteFailed(f"{self._folder}: {what} for {timeout_s:g} s; the disk may be failing")


def _closed() -> threading.Lock:
    gate = threading.Lock()
    gate.acquire()
    return gate


def _part(data: bytes, start: int) -> bytes:
    """Return the lines from a place on that go into one write: one long line, or as many as fit."""
    end = data.rfind(b"\n", start, start + _WRITE_MAX_BYTES) + 1
    return data[start : end or data.index(b"\n", start) + 1]


def _failed(reason: str, data: bytes, written: int) -> WriteFailed:
    error = WriteFailed(reason)
    error.bytes_written, error.lines_written = written, data.count(b"\n", 0, written)
    return error
