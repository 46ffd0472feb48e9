"""Indexing beside an import: a thread indexes what is appended while more is read.

    import ──lines──→ log ──→ thread ──→ index
      └──────── it is done: the rest ──↑

Importing is Python's work and indexing mostly DuckDB's, which lets go of the interpreter meanwhile, so on two cores
both take hardly longer than one of them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from eventlog.errors import EventlogError
from eventlog.process import threads

#: Pause between two batches: a commit takes some tens of milliseconds, however little it has.
_PAUSE_S = 0.2


@contextmanager
def indexing(root: str) -> Iterator[None]:
    """Index a root in a thread for as long as the `with` block runs, and what is left when it ends.

    Whatever goes wrong there is not said: the next `catch_up` meets it as well.
    """
    done = threading.Event()
    thread = threading.Thread(target=_index, args=(root, done), name="eventlog-beside", daemon=True)
    is_started = threads.start(thread)
    try:
        yield
    finally:
        done.set()
        if is_started:
            thread.join()


def _index(root: str, done: threading.Event) -> None:
    from eventlog.indexer.indexer import Indexer  # noqa: PLC0415 - beside the import, too

    indexer = Indexer(root, say=lambda _: None)
    with contextlib.suppress(EventlogError, OSError, duckdb.Error):
        while not done.wait(_PAUSE_S):
            indexer.catch_up()
        indexer.catch_up()
