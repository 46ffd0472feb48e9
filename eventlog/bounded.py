"""Locks that are waited for within a bound, and that an interrupt does not leave locked.

`held` is the way to hold one. What runs for every event spells it out, since a generator
costs ten times what the lock does:

    nested = is_mine(lock)
    try:
        try:
            if nested or take(lock, timeout_s):
                …
        finally:
            let_go(lock, nested)
    finally:
        let_go(lock, nested)
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held(lock: threading.RLock, timeout_s: float) -> Iterator[bool]:
    """Hold a lock for the length of the block, if it comes in time; yields whether so.

    A thread that holds it already goes on at once: a signal handler may be what runs here.
    """
    nested = is_mine(lock)
    try:
        try:
            yield nested or take(lock, timeout_s)
        finally:
            let_go(lock, nested)
    finally:  # Ctrl-C may come at any point, the line above included
        let_go(lock, nested)


def is_mine(lock: threading.RLock) -> bool:
    """Say whether this thread holds a lock."""
    # Asking the lock itself: a note of who holds it could be interrupted before it is made.
    return lock._is_owned()  # type: ignore[attr-defined, no-any-return]  # what threading.Condition asks


def take(lock: threading.RLock, timeout_s: float) -> bool:
    """Take a lock that is not mine, if it comes in time; say whether so."""
    # Without a timeout at first: with one, Python looks at the clock, which costs more than the lock.
    return lock.acquire(blocking=False) or lock.acquire(timeout=timeout_s)


def let_go(lock: threading.RLock, nested: bool) -> None:
    """Let go of a lock if this thread has it, and has it from here."""
    if not nested and is_mine(lock):
        lock.release()
