"""What a fork does to this process: one registry of hooks, and the order in which they run.

A forked child has its parent's memory and descriptors, but only one of its threads. A lock that another
thread held stays locked for ever. An flock belongs to the open file, which the child shares: a child that
sleeps on would hold its parent's lock for as long as it lives.

No other module calls os.register_at_fork. They register a hook (`register`), or a class whose living objects
have one (`Instances`), and name its phase. In the child the phases run in the order of `Phase`. In the parent,
before the fork, they run in reverse order, as hooks of os.register_at_fork do. Hooks of one phase do not depend
on each other. Where a hook raises, the others run all the same.
"""

from __future__ import annotations

import contextlib
import enum
import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Hook = Callable[[], object]
T = TypeVar("T")

_descriptors: set[int] = set()


class Phase(enum.IntEnum):
    """When a hook runs in a child: all hooks of a phase, then those of the next."""

    #: Close descriptors whose locks are the parent's. First, since the parent may wait for what the child holds.
    DESCRIPTORS = 1
    #: List the descriptors that are still shared with the parent. After DESCRIPTORS: a number that was closed may
    #: become a file of the child's own.
    INHERITED = 2
    #: Replace locks, and forget threads and random numbers, in modules that know nothing of recorders.
    STATE = 3
    #: Make recorders independent of the parent's: their segments are closed by now, and their ids are new.
    RECORDERS = 4


#: Only appended to, so that a fork at any moment runs all hooks that are registered.
_before: dict[Phase, list[Hook]] = {phase: [] for phase in Phase}
_after_in_child: dict[Phase, list[Hook]] = {phase: [] for phase in Phase}


def register(phase: Phase, *, before: Hook | None = None, after_in_child: Hook | None = None) -> None:
    """Run `before` in the parent before each fork, and `after_in_child` in each child. Any thread may call this."""
    if before is not None:
        _before[phase].append(before)
    if after_in_child is not None:
        _after_in_child[phase].append(after_in_child)


class Instances(Generic[T]):
    """The living objects of a class that have to do something at a fork.

    Not a WeakSet: that runs Python code when an object goes, and Python throws away what is raised in
    there. A Ctrl-C that came in that moment, at the end of a segment say, would be lost, and the
    program would go on.
    """

    def __init__(
        self,
        phase: Phase,
        *,
        before: Callable[[T], object] | None = None,
        after_in_child: Callable[[T], object] | None = None,
    ) -> None:
        self._references: dict[int, weakref.ref[T]] = {}
        register(
            phase,
            before=None if before is None else lambda: self._call(before),
            after_in_child=None if after_in_child is None else lambda: self._call(after_in_child),
        )

    def add(self, instance: T) -> None:
        """Add an object. It replaces a dead one that had the same address."""
        self._references[id(instance)] = weakref.ref(instance)

    def discard(self, instance: T) -> None:
        """Remove an object before it dies. One that is not there is fine."""
        self._references.pop(id(instance), None)

    def _call(self, method: Callable[[T], object]) -> None:
        for reference in self._references.copy().values():
            instance = reference()
            if instance is not None:
                method(instance)


def hold(fd: int) -> int:
    """Have children close this descriptor, until `let_go` or `keep`; return it."""
    _descriptors.add(fd)
    return fd


def keep(fd: int) -> int:
    """Have children no longer close this descriptor; return it."""
    _descriptors.discard(fd)
    return fd


def let_go(fd: int) -> None:
    """Close a descriptor, which releases its lock. Closes it once, even if a Ctrl-C arrives in the middle."""
    if fd in _descriptors:
        try:
            _descriptors.discard(fd)
        finally:
            os.close(fd)


@contextmanager
def held(fd: int) -> Iterator[int]:
    """Hold a descriptor for the length of the block; then close it."""
    hold(fd)
    try:
        yield fd
    finally:
        let_go(fd)


def _close_in_child() -> None:
    for fd in _descriptors:
        with contextlib.suppress(OSError):
            os.close(fd)
    _descriptors.clear()


register(Phase.DESCRIPTORS, after_in_child=_close_in_child)


def _in_order(hooks: dict[Phase, list[Hook]]) -> list[Hook]:
    """Return hooks phase by phase, and within a phase in order of registration."""
    return [hook for phase in Phase for hook in hooks[phase]]


def _run(hooks: Iterable[Hook]) -> None:
    """Run hooks in this order. Python prints what is raised at a fork; the stack has the rest run first."""
    with contextlib.ExitStack() as stack:
        for hook in reversed(list(hooks)):
            stack.callback(hook)


os.register_at_fork(
    before=lambda: _run(reversed(_in_order(_before))), after_in_child=lambda: _run(_in_order(_after_in_child))
)
