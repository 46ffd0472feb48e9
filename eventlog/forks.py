"""Descriptors that a forked child must not keep.

An flock belongs to the open file, which a child shares: a child that slept on would hold its
parent's lock for as long as it lives. Whoever holds a lock for a moment says so here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

_open: set[int] = set()


def hold(fd: int) -> int:
    """Have children close this descriptor, until `let_go`."""
    _open.add(fd)
    return fd


def let_go(fd: int) -> None:
    """Close a descriptor, and with it give up its lock."""
    _open.discard(fd)
    os.close(fd)


@contextmanager
def held(fd: int) -> Iterator[int]:
    """Hold a descriptor for the length of the block."""
    hold(fd)
    try:
        yield fd
    finally:
        let_go(fd)


def _close_in_child() -> None:
    for fd in _open:
        with contextlib.suppress(OSError):
            os.close(fd)
    _open.clear()


os.register_at_fork(after_in_child=_close_in_child)
