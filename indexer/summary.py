"""Sums up the batches of a watching indexer: a line now and then instead of one per batch."""

from __future__ import annotations

import time
from collections.abc import Callable

from eventlog.indexer.indexer import Counted

#: At most one report in this time, if nothing else is asked for.
EVERY_S = 10.0


class Summary:
    """Adds up batches, and reports the sum: the first batch at once, later ones every `every_s` seconds.

    `add` is called for each batch, also for one without new lines; then what is left is reported in time. `close`
    reports the rest.
    """

    def __init__(
        self,
        report: Callable[[Counted], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        every_s: float = EVERY_S,
    ) -> None:
        self._report = report
        self._every_s = every_s
        self._clock = clock
        self._sum = Counted()
        self._next_s = clock()

    def add(self, batch: Counted) -> None:
        """Add a batch; report what has come together, if it is time."""
        self._sum.events += batch.events
        self._sum.rejected += batch.rejected
        self._sum.bytes += batch.bytes
        if self._clock() >= self._next_s:
            self.close()

    def close(self) -> None:
        """Report what was not reported yet, if anything."""
        if self._sum.bytes:
            self._next_s = self._clock() + self._every_s
            done, self._sum = self._sum, Counted()
            self._report(done)
