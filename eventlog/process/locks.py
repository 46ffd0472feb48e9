"""Locks that are waited for within a bound, and that an interrupt does not leave locked.

`held` is the way to hold one. `Stream.append`, which runs for every event, spells it out,
since a generator costs ten times what the lock does.
"""

from __future__ import annotations

import _thread
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: A reentrant lock.
Lock = _thread.RLock

#: Say whether the calling thread holds a lock. A note of the holder, made beside the lock, could be missing: Ctrl-C may
#: come between the two. Only the lock itself knows, and only under a private name, which threading.Condition asks as
#: well. Not as a method of a subclass: for those, Python's calls are slower, and every event makes three.
is_owned: Callable[[Lock], bool] = _thread.RLock._is_owned  # type: ignore[attr-defined]  # not in typeshed


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
    nested = is_owned(lock)
    try:
        try:
            # First without a timeout: with one, Python reads the clock, which costs more than the lock.
            yield nested or lock.acquire(blocking=False) or acquire(lock, timeout_s)
        finally:
            if not nested and is_owned(lock):
                lock.release()
    finally:  # Ctrl-C may come at any point, the lines above included
        if not nested and is_owned(lock):
            lock.release()
