"""DuckDB as eventlog uses it: an instance that index files are attached to for a batch, or for a question.

To make an instance takes longer than most batches and questions, so an indexer keeps one, and so does
a reader. An instance has threads, and a forked child that has inherited one without its threads
crashes when it ends: idle ones are closed before a fork, and made anew when they are needed again.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import duckdb

from eventlog import forks

CONFIG = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
#: What the file is called while it is attached: as DuckDB would call a file `index.duckdb` itself.
_NAME = '"index"'
#: DuckDB compresses and writes a row group when it is full, with one thread. Those of its own size
#: (122,880 rows) are more than most batches, and with rows of kilobytes hundreds of megabytes. The last
#: ones are rewritten whenever there is something to merge, so their size is also the longest pause.
_ROW_GROUP_ROWS = 10_240
#: Full row groups wait for others to be compressed with, up to so much per thread. There is no limit to
#: the memory as a whole: 2,048 rows are looked at together, whatever their size, and that must not fail.
_BUFFER_BYTES = 64 * 1024**2

#: Every commit makes row groups of its own, and each checkpoint may merge this many times three of
#: them. Without that, queries slow down with every small batch; with DuckDB's own 100, the first
#: batch after a replay rewrites much of it. A new file is written in large parts, and not merged.
_MERGES = 1


class Engine:
    """An instance to which index files are attached, one at a time. Threads take turns.

    `make` makes it for a file, and it is made anew for another one, and once it is older than `max_age_s`.
    """

    def __init__(
        self, make: Callable[[Path], duckdb.DuckDBPyConnection] | None = None, *, max_age_s: float = math.inf
    ) -> None:
        self._make = make or _new_instance
        self._max_age_s = max_age_s
        self._made_at = 0.0
        self._made_for = Path()
        self._instance: duckdb.DuckDBPyConnection | None = None
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._in_use = threading.Lock()
        _living.add(self)

    def attach(self, path: Path) -> duckdb.DuckDBPyConnection:
        """Open a file read-write, or make it; `detach` it, or `close` the engine. Raises duckdb.Error.

        There is no write-ahead log: what was committed is safe when the file is detached, and not before.
        """
        return self._attached(path, f"ROW_GROUP_SIZE {_ROW_GROUP_ROWS}, RECOVERY_MODE no_wal_writes")

    def attach_read_only(self, path: Path) -> duckdb.DuckDBPyConnection:
        """Open a file read-only; `detach` it, or `close` the engine. Raises duckdb.Error."""
        return self._attached(path, "READ_ONLY")

    def _attached(self, path: Path, options: str) -> duckdb.DuckDBPyConnection:
        self._in_use.acquire()
        try:
            self._connection = self._connected(path)
            self._connection.execute(f"ATTACH {quoted(path)} AS {_NAME} ({options})")
            self._connection.execute(f"USE {_NAME}")
        except BaseException:
            self.close()
            raise
        return self._connection

    def _connected(self, path: Path) -> duckdb.DuckDBPyConnection:
        is_too_old = time.monotonic() - self._made_at > self._max_age_s
        if self._instance is None or self._made_for != path or is_too_old:
            self._drop_instance()
            self._instance = self._make(path)
            self._made_for, self._made_at = path, time.monotonic()
        return self._instance.cursor()

    @contextmanager
    def beside(self, path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
        """Lend a connection to the instance that files like this one are attached to, with none attached."""
        with self._in_use:
            connection = self._connected(path)
            try:
                yield connection
            finally:
                connection.close()

    def detach(self) -> None:
        """Let go of the file, after a checkpoint. Raises duckdb.Error; the file is let go of all the same."""
        assert self._connection is not None
        try:
            self._connection.execute("USE memory")
            self._connection.execute(f"DETACH {_NAME}")
        except BaseException:
            self.close()
            raise
        self._connection.close()  # and with it its temporary tables
        self._connection = None
        self._in_use.release()

    def close(self) -> None:
        """Let go of everything, in whatever state it is."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._drop_instance()
        if self._in_use.locked():
            self._in_use.release()

    def _drop_instance(self) -> None:
        instance, self._instance = self._instance, None
        if instance is not None:
            instance.close()

    def before_fork(self) -> None:
        """Leave nothing behind for the child, unless a batch is at work in another thread."""
        if self._in_use.acquire(blocking=False):
            self._drop_instance()
            self._in_use.release()

    def after_fork(self) -> None:
        """In a child: what was in use belongs to the parent's threads. To let go of it would crash."""
        _abandoned.append((self._instance, self._connection))
        self._instance = self._connection = None
        self._in_use = threading.Lock()


def _new_instance(path: Path, *, merges: int = _MERGES) -> duckdb.DuckDBPyConnection:
    instance = duckdb.connect(config=dict(CONFIG))
    # What does not fit goes to disk, beside the file; by default it would be the current folder.
    instance.execute(f"SET GLOBAL temp_directory = {quoted(spill_path(path))}")
    instance.execute(f"SET GLOBAL write_buffer_row_group_memory_limit = '{_BUFFER_BYTES}B'")
    instance.execute(f"SET GLOBAL max_vacuum_tasks = {merges}")
    return instance


@contextmanager
def new_file(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Make a file that nobody else knows yet; it is whole, and let go of, when the block ends."""
    engine = Engine(partial(_new_instance, merges=0))
    connection = engine.attach(path)
    try:
        yield connection
        engine.detach()
    finally:
        engine.close()


def spill_path(path: Path) -> Path:
    """Return where DuckDB puts what does not fit into memory."""
    return path.with_name(path.name + ".tmp")


def quoted(path: Path) -> str:
    """Return a path as SQL text."""
    return "'" + str(path).replace("'", "''") + "'"


_living = forks.Living[Engine]()
_abandoned: list[object] = []


def _before_fork() -> None:
    for each in _living:
        each.before_fork()


def _after_fork() -> None:
    for each in _living:
        each.after_fork()


os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
