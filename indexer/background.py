"""The indexer as a thread of the process that emits (modes `dual` and `db_only`)."""

from __future__ import annotations

import logging
import threading

from eventlog.indexer.indexer import Indexer
from eventlog.indexer.watch import watch
from eventlog.process import threads
from eventlog.process.guards import message_of

_logger = logging.getLogger("eventlog.indexer")
#: Pause between attempts while indexing fails: doubled each time.
_DELAY_MIN_S, _DELAY_MAX_S = 1.0, 30.0


class BackgroundIndexer:
    """Runs `watch` in a daemon thread, until `stop` is called.

    Errors are counted in `errors` and logged; the thread tries again.
    """

    def __init__(self, root: str, *, release: bool) -> None:
        self.errors = 0
        self._stop = threading.Event()
        self._indexer = Indexer(root, release=release)
        self._thread = threading.Thread(target=self._run, name="eventlog-indexer")
        if not threads.start(self._thread):
            _say("no thread can be started to index events; they are in the log, and can be indexed later")

    def stop(self, timeout_s: float) -> None:
        """Index the rest and end the thread, waiting up to `timeout_s` seconds. What is left stays in the log."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        delay_s = _DELAY_MIN_S
        while True:
            errors = self.errors
            try:
                watch(self._indexer, self._stop, say=_say)
            except BaseException as error:  # noqa: BLE001 - nobody is above this thread
                self.errors += 1
                _say(f"indexing failed; the log is unharmed, trying again: {message_of(error)}")
            delay_s = _DELAY_MIN_S if self.errors == errors else min(delay_s * 2, _DELAY_MAX_S)
            if self._stop.is_set() or self._stop.wait(delay_s):
                return


def _say(message: str) -> None:
    try:
        _logger.warning(message)
    except BaseException:  # noqa: BLE001 - a log handler of the agent; nobody is above this thread
        return


def start(root: str, *, release: bool) -> BackgroundIndexer:
    """Start a thread that indexes a root; with `release`, it deletes segments that are indexed (mode `db_only`)."""
    return BackgroundIndexer(root, release=release)
