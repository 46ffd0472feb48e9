"""Descriptors that a forked child must not keep, and objects that are to know of a fork.

An flock belongs to the open file, which a child shares: a child that slept on would hold its
parent's lock for as long as it lives. Whoever holds a lock for a moment says so here.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

_open: set[int] = set()

T = TypeVar("T")


def hold(fd: int) -> int:
    """Have children close this descriptor, until `let_go`."""
    _open.add(fd)
    return fd


def keep(fd: int) -> int:
    """Have children close this descriptor no longer."""
    _open.discard(fd)
    return fd


def let_go(fd: int) -> None:
    """Close a descriptor, and with it give up its lock; once, whatever a Ctrl-C interrupts."""
    if fd in _open:
        try:
            _open.discard(fd)
        finally:
            os.close(fd)


@contextmanager
def held(fd: int) -> Iterator[int]:
    """Hold a descriptor for the length of the block."""
    hold(fd)
    try:
        yield fd
    finally:
        let_go(fd)


class Living(Generic[T]):
    """The objects of a kind that still exist.

    Not a WeakSet: that runs Python code when an object goes, and Python throws away what is raised in
    there. A Ctrl-C that came in that moment, at the end of a segment say, would be lost, and the
    program would go on.
    """

    def __init__(self) -> None:
        self._references: dict[int, weakref.ref[T]] = {}

    def add(self, each: T) -> None:
        """Count an object in. Whatever was at its address before is gone, and out."""
        self._references[id(each)] = weakref.ref(each)

    def discard(self, each: T) -> None:
        """Count an object out before it goes."""
        self._references.pop(id(each), None)

    def __iter__(self) -> Iterator[T]:
        for reference in self._references.copy().values():
            each = reference()
            if each is not None:
                yield each


def _close_in_child() -> None:
    for fd in _open:
        with contextlib.suppress(OSError):
            os.close(fd)
    _open.clear()


os.register_at_fork(after_in_child=_close_in_child)
