"""A circuit breaker: a full or dead disk is not tried again for every event.

closed     every write is tried
open       after five failures in a row nothing is tried for a while (0.1 s at first, 5 s at most)
probing    then one write is tried: it closes the breaker, or the wait doubles
"""

from __future__ import annotations

import time
from collections.abc import Callable

from eventlog.process import locks

_FAILURES_TO_OPEN = 5
_WAIT_MIN_S, _WAIT_MAX_S = 0.1, 5.0
_TURN_TIMEOUT_S = 1.0


class Breaker:
    """Decides whether a write is tried. Threads may share it. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = locks.Lock()
        #: How many tries in a row have failed.
        self.failures = 0
        self._next_probe = 0.0
        #: Why the last try failed.
        self.cause = ""

    @property
    def is_open(self) -> bool:
        """Whether writing is suspended."""
        return self.failures >= _FAILURES_TO_OPEN

    def allows(self) -> bool:
        """Say whether to try now. While the breaker is open, this is true for one caller per wait."""
        if self.failures < _FAILURES_TO_OPEN:
            return True
        with locks.held(self._lock, _TURN_TIMEOUT_S):
            now = self._clock()
            if now < self._next_probe:
                return False
            self._next_probe = now + self._wait_s()
            return True

    def failed(self, cause: str) -> None:
        """Record that a try failed, and why."""
        with locks.held(self._lock, _TURN_TIMEOUT_S):
            self.cause = cause
            self.failures += 1
            self._next_probe = self._clock() + self._wait_s()

    def succeeded(self) -> None:
        """Record that a try succeeded, which closes the breaker."""
        self.failures = 0

    def _wait_s(self) -> float:
        doubled = min(self.failures - _FAILURES_TO_OPEN, 10)
        return min(_WAIT_MIN_S * 2.0**doubled, _WAIT_MAX_S)
