"""A circuit breaker: a disk that is full or dead is not asked again for every event.

closed     every write is tried
open       after some failures in a row: nothing is tried until a moment comes …
probing    … at which one write is let through. It closes the breaker, or the wait doubles.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from eventlog.process import locks

_FAILURES_TO_OPEN = 5
_WAIT_MIN_S, _WAIT_MAX_S = 0.1, 5.0
_TURN_TIMEOUT_S = 1.0


class Breaker:
    """Decides whether to try. Threads may share it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = locks.Lock()
        #: How many tries in a row have failed by now.
        self.failures = 0
        self._next_probe = 0.0
        #: Why the last try failed.
        self.cause = ""

    @property
    def is_open(self) -> bool:
        """Whether writing is suspended."""
        return self.failures >= _FAILURES_TO_OPEN

    def allows(self) -> bool:
        """Say whether to try now. While the breaker is open, one caller per wait is told yes."""
        if self.failures < _FAILURES_TO_OPEN:
            return True
        with locks.held(self._lock, _TURN_TIMEOUT_S):
            now = self._clock()
            if now < self._next_probe:
                return False
            self._next_probe = now + self._wait_s()
            return True

    def failed(self, cause: str) -> None:
        """A try has failed."""
        with locks.held(self._lock, _TURN_TIMEOUT_S):
            self.cause = cause
            self.failures += 1
            self._next_probe = self._clock() + self._wait_s()

    def succeeded(self) -> None:
        """A try has worked."""
        self.failures = 0

    def _wait_s(self) -> float:
        doubled = min(self.failures - _FAILURES_TO_OPEN, 10)
        return min(_WAIT_MIN_S * 2.0**doubled, _WAIT_MAX_S)
