"""The indexer as a thread of the process that emits (modes `dual` and `db_only`)."""

from __future__ import annotations

import logging
import threading

from indexer.indexer import Indexer
from indexer.watch import watch

_logger = logging.getLogger("eventlog.indexer")


class BackgroundIndexer:
    """Runs `watch` in a daemon thread. `stop` indexes what is left and ends it."""

    def __init__(self, root: str, *, release: bool) -> None:
        self._stop = threading.Event()
        self._indexer = Indexer(root, release=release)
        self._thread = threading.Thread(target=self._run, name="eventlog-indexer", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the thread within a bound. What it did not get to stays in the log for the next one."""
        self._stop.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            try:
                watch(self._indexer, self._stop, say=_logger.warning)
            except Exception:
                _logger.exception("indexing failed; the log is unharmed, trying again")
            if self._stop.is_set() or self._stop.wait(1.0):
                return


def start(root: str, *, release: bool) -> BackgroundIndexer:
    """Start indexing a root in the background; with `release`, delete what is indexed."""
    return BackgroundIndexer(root, release=release)
