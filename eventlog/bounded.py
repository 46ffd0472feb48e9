"""Locks that are waited for within a bound, and that an interrupt does not leave locked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held(lock: threading.RLock, timeout_s: float) -> Iterator[bool]:
    """Hold a lock for the length of the block, if it comes in time; yields whether so.

    A thread that holds it already goes on at once: a signal handler may be what runs here.
    """
    if _is_mine(lock):
        yield True
        return
    try:
        try:
            yield lock.acquire(timeout=timeout_s)
        finally:
            _release(lock)
    finally:  # Ctrl-C may come at any point, the line above included
        _release(lock)


def _release(lock: threading.RLock) -> None:
    if _is_mine(lock):
        lock.release()


def _is_mine(lock: threading.RLock) -> bool:
    # Asking the lock itself: a note of who holds it could be interrupted before it is made.
    return bool(lock._is_owned())  # type: ignore[attr-defined]  # what threading.Condition asks
