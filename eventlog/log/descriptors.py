"""The number of segments that a writer holds open, and which it closes first.

A program may emit hundreds of event types, and each has a segment. The program needs its descriptors for files
and connections, so a writer uses only a part of its limit, which is read again with each opened segment. The
least recently used segments are closed first; when the program runs out of descriptors, half of them are.

Closing a segment loses nothing (Resting in eventlog.log.segment): it is synced later, and opened again for the
next line.
"""

from __future__ import annotations

import errno
import resource
from typing import Protocol

from eventlog.process import locks

#: Error numbers of a process, or a machine, without free descriptors.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE})
LIMIT_MAX, _MIN = 128, 4
#: A writer uses one in so many of the descriptors that the process may open.
SHARE = 8
_HIGH_MAX = 512


class Holder(Protocol):
    """Something that holds descriptors: a stream."""

    appended: int

    @property
    def descriptors(self) -> int:
        """How many descriptors it holds."""

    def rest(self) -> bool:
        """Close them; return whether it holds none now. It keeps them while it is in use."""


class Descriptors:
    """The holders of one writer, least recently opened first. Threads may share it."""

    def __init__(self) -> None:
        self._lock = locks.Lock()
        #: What each holder had appended at the last check: one that has appended more since was used.
        self._marks: dict[Holder, int] = {}

    def opened(self, holder: Holder) -> None:
        """Register a holder that has just opened a descriptor; close others where the total exceeds `limit()`."""
        self._marks.pop(holder, None)
        self._marks[holder] = holder.appended
        over = sum(holder.descriptors for holder in list(self._marks)) - limit()
        if over > 0:
            self._close(over)

    def give_way(self) -> bool:
        """Close half of all descriptors, since the process has none left; return whether any was closed."""
        return self._close(len(self._marks) // 2 + 1) > 0

    def after_fork(self) -> None:
        """In a forked child, which holds no segments: replace the lock, which a vanished thread may hold."""
        self._lock = locks.Lock()
        self._marks.clear()

    def _close(self, count: int) -> int:
        """Try to close `count` descriptors; return how many were closed."""
        closed = 0
        if locks.is_owned(self._lock):  # a signal handler, in the middle of this method
            return 0
        with locks.held(self._lock, 0) as acquired:
            for in_turn in (True, False) if acquired else ():
                for holder, mark in list(self._marks.items()):
                    if closed >= count:
                        return closed
                    if in_turn and holder.appended != mark:
                        self._marks.pop(holder, None)
                        self._marks[holder] = holder.appended
                        continue
                    held = holder.descriptors
                    if holder.rest():
                        self._marks.pop(holder, None)
                        closed += held
        return closed


def limit() -> int:
    """Return how many descriptors segments may use: an eighth of the process's limit, from 4 to 128."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return LIMIT_MAX if soft == resource.RLIM_INFINITY else max(_MIN, min(LIMIT_MAX, soft // SHARE))


def high() -> int:
    """Return the lowest descriptor number for segments: 512, or half of a smaller limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _HIGH_MAX if soft == resource.RLIM_INFINITY else min(soft // 2, _HIGH_MAX)
