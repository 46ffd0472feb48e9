"""Processes that exist to be killed.

They are forked from a server that has everything imported: starting an interpreter takes
longer than most of them live.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from multiprocessing.process import BaseProcess
from typing import Any

from faults.campaign import Plan

_LIFE_MAX_S = 900

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["eventlog", "indexer.cli", "queries.store", "faults.oracle"])


def start(target: Callable[..., object], *arguments: Any) -> ForkServerProcess:
    """Run a module-level function in a process of its own."""
    process = _context.Process(target=_live, args=(target, arguments), daemon=True)
    process.start()
    return process


def _live(target: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    signal.alarm(_LIFE_MAX_S)  # a campaign that is killed itself leaves nothing behind for ever
    target(*arguments)


def pipe() -> tuple[Any, Any]:
    """Return the reading and the writing end of a pipe to hand to a child."""
    return _context.Pipe(duplex=False)


def kill(process: BaseProcess) -> None:
    """SIGKILL, and wait for the end."""
    process.kill()
    process.join()


def finish(process: BaseProcess, what: str, timeout_s: float = 120) -> None:
    """Wait for a child that should end well."""
    process.join(timeout_s)
    ended = process.exitcode
    if ended is None:
        kill(process)
    Plan.check(ended == 0, f"{what}: {'not done in time' if ended is None else f'exit code {ended}, see above'}")


@contextmanager
def running(target: Callable[..., object], *arguments: Any) -> Iterator[ForkServerProcess]:
    """Keep a child for the length of the block, then kill it."""
    process = start(target, *arguments)
    try:
        yield process
    finally:
        kill(process)


def wait_until(condition: Callable[[], object], what: str, timeout_s: float) -> float:
    """Return how long it took for the condition to hold; a broken promise where it took too long."""
    started = time.monotonic()
    while not condition():
        Plan.check(time.monotonic() - started < timeout_s, f"{what}: not within {timeout_s:g} s")
        time.sleep(0.01)
    return time.monotonic() - started
