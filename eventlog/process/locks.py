"""Locks that are waited for within a bound, and that an interrupt does not leave locked.

`held` is the way to hold one. `Stream.append`, which runs for every event, spells it out,
since a generator costs ten times what the lock does.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, cast


class Lock(Protocol):
    """A reentrant lock that says whether this thread has it.

    A note of who has it could be interrupted before it is made, so the lock itself is asked.
    """

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...
    def release(self) -> None: ...
    def _is_owned(self) -> bool: ...  # what threading.Condition asks


def lock() -> Lock:
    """Return a lock that nobody has."""
    return cast(Lock, threading.RLock())


def comes(lock: Lock, timeout_s: float) -> bool:
    """Wait for a lock that another thread has; say whether to go on.

    While the interpreter is finalized no other thread runs again: what it holds is nobody's.
    """
    return sys.is_finalizing() or lock.acquire(timeout=timeout_s)


@contextmanager
def held(lock: Lock, timeout_s: float) -> Iterator[bool]:
    """Hold a lock for the length of the block, if it comes in time; yields whether so.

    A thread that holds it already goes on at once: a signal handler may be what runs here.
    """
    nested = lock._is_owned()
    try:
        try:
            # Without a timeout at first: with one, Python looks at the clock, which costs more than the lock.
            yield nested or lock.acquire(blocking=False) or comes(lock, timeout_s)
        finally:
            if not nested and lock._is_owned():
                lock.release()
    finally:  # Ctrl-C may come at any point, the lines above included
        if not nested and lock._is_owned():
            lock.release()
