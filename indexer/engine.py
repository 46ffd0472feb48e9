"""DuckDB as the writer of an index uses it: an instance that files are attached to for a batch.

To make an instance takes longer than most batches, so an indexer keeps one. An instance has
threads, and a forked child that has inherited one without its threads crashes when it ends: idle
ones are closed before a fork, and made anew when they are needed again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from eventlog import forks

CONFIG = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
_NAME = "eventlog_index"
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
    """An instance to write index files with, one file at a time. Threads take turns."""

    def __init__(self) -> None:
        self._instance: duckdb.DuckDBPyConnection | None = None
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._in_use = threading.Lock()
        _living.add(self)

    def attach(self, path: Path, *, wal: bool = True) -> duckdb.DuckDBPyConnection:
        """Open a file read-write, or make it; `detach` it, or `close` the engine. Raises duckdb.Error.

        Without a write-ahead log what was committed is safe when the file is detached, and not before.
        """
        self._in_use.acquire()
        try:
            if self._instance is None:
                self._instance = _new_instance(path)
            self._connection = self._instance.cursor()
            self._connection.execute(f"SET max_vacuum_tasks = {_MERGES if wal else 0}")
            options = f"ROW_GROUP_SIZE {_ROW_GROUP_ROWS}" + ("" if wal else ", RECOVERY_MODE no_wal_writes")
            self._connection.execute(f"ATTACH {quoted(path)} AS {_NAME} ({options})")
            self._connection.execute(f"USE {_NAME}")
        except BaseException:
            self.close()
            raise
        return self._connection

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


def _new_instance(path: Path) -> duckdb.DuckDBPyConnection:
    instance = duckdb.connect(config=dict(CONFIG))
    # What does not fit goes to disk, beside the file; by default it would be the current folder.
    instance.execute(f"SET temp_directory = {quoted(spill_path(path))}")
    instance.execute(f"SET write_buffer_row_group_memory_limit = '{_BUFFER_BYTES}B'")
    return instance


@contextmanager
def new_file(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Make a file that nobody else knows yet; it is whole, and let go of, when the block ends."""
    engine = Engine()
    connection = engine.attach(path, wal=False)
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
