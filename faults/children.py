"""Child processes that are meant to be killed.

They are forked from a server that has everything imported: starting an interpreter takes longer than most of them live.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from faults.campaign import Plan
from faults.pace import Deadline

_LIFE_MAX_S = 900
_AT_A_TIME = 2

T = TypeVar("T")
R = TypeVar("R")

#: An exit code is read once, from a pipe. Starting a child looks for others that have ended, and where
#: one thread does so while another asks for the code, both read, and the later one makes it 255.
_codes = threading.Lock()

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["eventlog", "eventlog.indexer.cli", "eventlog.queries.store", "faults.oracle"])


def start(target: Callable[..., object], *arguments: Any) -> ForkServerProcess:
    """Run a module-level function in a process of its own."""
    process = _context.Process(target=_live, args=(target, arguments), daemon=True)
    with _codes:
        process.start()
    return process


def _live(target: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    signal.alarm(_LIFE_MAX_S)  # a campaign that is killed itself leaves nothing behind for ever
    target(*arguments)


@contextmanager
def hearing(target: Callable[..., object], *arguments: Any) -> Iterator[tuple[ForkServerProcess, Ear]]:
    """Run a child whose last parameter is a connection, and receive its messages; kill it at the end of the block."""
    receiving, sending = _context.Pipe(duplex=False)
    with receiving:
        process = start(target, *arguments, sending)
        sending.close()
        try:
            yield process, Ear(receiving)
        finally:
            kill(process)


class Ear:
    """The receiving end of a child's connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def next(self, timeout_s: float = 120) -> Any:
        """Return the child's next message, or, as a text, how the child ended instead."""
        deadline = Deadline(timeout_s)
        try:
            while not self._connection.poll(max(timeout_s - deadline.elapsed_s, 0.2)):
                if deadline.has_passed():
                    return f"nothing within {timeout_s:g} s"
            return self._connection.recv()
        except EOFError:
            return "it ended without a word; its traceback stands above"


def side_by_side(function: Callable[[T], R], shares: Iterable[T]) -> list[R]:
    """Call a function, which mostly waits for children, for a few shares at a time."""
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        return list(pool.map(function, shares))


def kill(process: BaseProcess) -> None:
    """SIGKILL, and wait for the end."""
    process.kill()
    ended(process, None)


def ended(process: BaseProcess, timeout_s: float | None) -> int | None:
    """Wait for the end of a child; return its exit code, or None if it goes on."""
    deadline = Deadline(timeout_s or 0)
    left_s = timeout_s
    while not wait([process.sentinel], left_s) and not deadline.has_passed():
        left_s = 0.2
    with _codes:
        return process.exitcode


def finish(process: BaseProcess, what: str, timeout_s: float = 120) -> None:
    """Wait for a child that should succeed."""
    code = ended(process, timeout_s)
    if code is None:
        kill(process)
    Plan.check(code == 0, f"{what}: {'not done in time' if code is None else f'exit code {code}, see above'}")


@contextmanager
def running(target: Callable[..., object], *arguments: Any) -> Iterator[ForkServerProcess]:
    """Run a child for the length of the block, then kill it."""
    process = start(target, *arguments)
    try:
        yield process
    finally:
        kill(process)


def wait_until(condition: Callable[[], object], what: str, timeout_s: float) -> float:
    """Return how many seconds it took until the condition held. Raises FaultFound if it took too long."""
    deadline = Deadline(timeout_s)
    while not condition():
        Plan.check(not deadline.has_passed(), f"{what}: not within {timeout_s:g} s")
        time.sleep(0.01)
    return deadline.elapsed_s
