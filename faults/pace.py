"""How slow this machine is now: a busy machine gets more time, instead of failing."""

from __future__ import annotations

import os
import tempfile
import time

_LOOPS, _LOOPS_S = 1_000_000, 0.1
_SYNCS, _SYNCS_S = 20, 0.1
_SLOWNESS_MAX = 20.0

_at_start = 1.0


def slowness() -> float:
    """Measure how many times longer fixed work takes than on a quiet machine: 1 to 20. Takes 0.1 s there."""
    ratio = max(_loop_s() / _LOOPS_S, _sync_s() / _SYNCS_S)
    return min(max(ratio, 1.0), _SLOWNESS_MAX)


def note_slowness() -> float:
    """Measure at the start of a fault; its waits may take that many times longer until the next one."""
    global _at_start
    _at_start = slowness()
    return _at_start


def took_too_long(elapsed_s: float, bound_s: float) -> bool:
    """Return whether something took longer than its bound, although the machine was quiet enough.

    The machine is measured again only if the bound has passed, so waits that end in time cost nothing.
    """
    return elapsed_s > bound_s * _at_start and elapsed_s > bound_s * slowness()


class Deadline:
    """A bound on a wait, in seconds of a quiet machine."""

    def __init__(self, bound_s: float) -> None:
        self.bound_s = bound_s
        self._started = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the wait began."""
        return time.monotonic() - self._started

    def has_passed(self) -> bool:
        """Return whether the wait has taken too long, at the speed of this machine."""
        return took_too_long(self.elapsed_s, self.bound_s)


def _loop_s() -> float:
    started, total = time.perf_counter(), 0
    for number in range(_LOOPS):
        total += number * number
    return time.perf_counter() - started


def _sync_s() -> float:
    with tempfile.TemporaryFile() as file:
        started = time.perf_counter()
        for _ in range(_SYNCS):
            os.write(file.fileno(), b"x" * 512)
            os.fdatasync(file.fileno())
        return time.perf_counter() - started
