"""Indexing beside an import: a process of its own indexes what is appended while more is read.

    import ──lines──→ log ──→ this process ──→ index
      └──────────── the end of its input: stop ──↑

Importing is Python and indexing is DuckDB, so on two cores both take hardly longer than one of them.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import duckdb

from eventlog.errors import EventlogError
from eventlog.indexer.indexer import Indexer

#: Pause between two batches: a commit takes some tens of milliseconds, however little it has.
_PAUSE_S = 0.25
#: How long to wait for a batch that has begun; the process is killed then, and the batch begun anew.
_END_S = 60.0


@contextmanager
def indexing(root: str) -> Iterator[None]:
    """Have a process index a root for as long as the `with` block runs; what it leaves is for the next `catch_up`.

    Whatever goes wrong there is not said: the next `catch_up` meets it as well.
    """
    command = [sys.executable, "-P", "-c", "from eventlog.indexer.beside import main; main()", root]
    path = os.pathsep.join(part for part in sys.path if part)
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        )
    except OSError:  # no more processes
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.communicate(timeout=_END_S)
        child.kill()
        child.wait()


def main() -> NoReturn:
    """Index until the input ends, or indexing fails."""
    indexer = Indexer(sys.argv[1], say=lambda _: None)
    with contextlib.suppress(EventlogError, OSError, duckdb.Error, KeyboardInterrupt):
        while not select.select([0], [], [], _PAUSE_S)[0]:
            indexer.catch_up()
    os._exit(0)
