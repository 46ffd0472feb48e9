"""Locks that are waited for within a bound, and that an interrupt does not leave locked.

`held` is the way to hold one. `Stream.append`, which runs for every event, spells it out,
since a generator costs ten times what the lock does.
"""

from __future__ import annotations

import _thread
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Lock(_thread.RLock):  # type: ignore[misc]  # final in typeshed alone
    """A reentrant lock that says whether this thread holds it.

    A note of the holder, made beside the lock, could be missing: Ctrl-C may come between the two. Only the lock
    itself knows, and only under a private name, which threading.Condition asks as well. `threading.RLock` cannot
    be subclassed: up to Python 3.12 it is a function.
    """

    __slots__ = ()

    #: Whether the calling thread holds the lock.
    is_owned = _thread.RLock._is_owned  # type: ignore[attr-defined]  # not in typeshed


def acquire(lock: Lock, timeout_s: float) -> bool:
    """Wait for a lock that another thread holds; return whether to go on.

    While the interpreter is finalized no other thread runs again, so that what it holds need not be waited for.
    """
    return sys.is_finalizing() or lock.acquire(timeout=timeout_s)


@contextmanager
def held(lock: Lock, timeout_s: float) -> Iterator[bool]:
    """Hold a lock for the length of the block; yield whether it was acquired within `timeout_s`.

    A thread that holds it already goes on at once: a signal handler may be what runs here.
    """
    nested = lock.is_owned()
    try:
        try:
            # First without a timeout: with one, Python reads the clock, which costs more than the lock.
            yield nested or lock.acquire(blocking=False) or acquire(lock, timeout_s)
        finally:
            if not nested and lock.is_owned():
                lock.release()
    finally:  # Ctrl-C may come at any point, the lines above included
        if not nested and lock.is_owned():
            lock.release()
