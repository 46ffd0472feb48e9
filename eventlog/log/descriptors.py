"""How many segments a writer holds open: a bound, and who gives way.

A program may emit hundreds of event types, and each has a segment. The descriptors are the
program's, which needs them for files and connections: so only a part of what it may open is
used, the limit being asked for again with each segment that is opened, and those that were used
least recently are closed first. Out of descriptors, half of them are.

Closing one loses nothing (eventlog.log.segment): it is synced later, and opened again when there is
more for it.
"""

from __future__ import annotations

import errno
import resource
from typing import Protocol

from eventlog.process import locks

#: Errors of a program, or a machine, that has no descriptors left.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE})
_MAX, _MIN = 128, 4
#: One of so many that the process may open.
_SHARE = 8
_HIGH_MAX = 512


class Holder(Protocol):
    """What holds descriptors: a stream."""

    appended: int

    @property
    def descriptors(self) -> int:
        """How many it holds."""

    def rest(self) -> bool:
        """Close them; say whether it holds none now. It may be in the middle of something."""


class Descriptors:
    """The holders of one writer, the one that opened something least recently first. Threads may share it."""

    def __init__(self) -> None:
        self._lock = locks.Lock()
        #: What each had appended when it was looked at last: who has appended more since, was used.
        self._marks: dict[Holder, int] = {}

    def opened(self, holder: Holder) -> None:
        """Count in what has just opened something; others give way where that is too much."""
        self._marks.pop(holder, None)
        self._marks[holder] = holder.appended
        over = sum(each.descriptors for each in list(self._marks)) - limit()
        if over > 0:
            self._close(over)

    def give_way(self) -> bool:
        """Close half of what is open, since there are no descriptors left; say whether that closed any."""
        return self._close(len(self._marks) // 2 + 1) > 0

    def after_fork(self) -> None:
        """Start afresh in a child, which holds nothing, and where no thread is left that could let go of the lock."""
        self._lock = locks.Lock()
        self._marks.clear()

    def _close(self, count: int) -> int:
        """Close so many, if that is possible; return how many were closed."""
        closed = 0
        if self._lock.is_owned():  # a signal handler, in the middle of this
            return 0
        with locks.held(self._lock, 0) as mine:
            for in_turn in (True, False) if mine else ():
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
    """Return how many descriptors segments may take of what the process may open at this moment."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX if soft == resource.RLIM_INFINITY else max(_MIN, min(_MAX, soft // _SHARE))


def high() -> int:
    """Return a number from which on descriptors are opened that programs are not to meet."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _HIGH_MAX if soft == resource.RLIM_INFINITY else min(soft // 2, _HIGH_MAX)
