"""Fills the search index beside an indexer, in a thread of `eventlog index --watch`."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from eventlog.indexer.search.filler import ROWS_MIN, fill
from eventlog.process import threads

#: Others may write to the index as well: how often to look, in seconds.
_LOOK_S = 60.0
_END_S = 10.0


class BackgroundFiller:
    """Covers rows soon after they were indexed, and works half of the time at most while there are many.

    Call `add` after each batch, and `stop` at the end.
    """

    def __init__(self, root: str | Path) -> None:
        self._root = root
        self._rows = 0
        self._is_due = threading.Event()
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="eventlog-search-index")
        threads.start(self._thread)

    def add(self, rows: int) -> None:
        """Say that so many rows were indexed."""
        self._rows += rows
        if self._rows >= ROWS_MIN:
            self._rows = 0
            self._is_due.set()

    def stop(self) -> None:
        """End after the step that is being done, waiting up to 10 seconds."""
        self._is_ending.set()
        self._is_due.set()
        if self._thread.ident is not None:
            self._thread.join(_END_S)

    def _run(self) -> None:
        while not self._is_ending.is_set():
            self._is_due.clear()
            started_s = time.monotonic()
            if fill(self._root, within_s=0):
                self._is_ending.wait(time.monotonic() - started_s)
            else:
                self._is_due.wait(_LOOK_S)
