"""How a reader gets at the index: in its turn, read-only, hardened, and only for as long as a question takes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from eventlog.errors import IndexBusy, IndexFailed, QueryFailed
from indexer import index_file, schema
from queries import sandbox


class Opening:
    """What a ReadStore opens its index with. Raises IndexFailed where there is none, IndexBusy past `wait_s`.

    SQL is stopped after `timeout_s`; see `sandbox.time_limit` for what `on_stuck` is for.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        workspace: str | None = None,
        wait_s: float = 30.0,
        timeout_s: float = 60.0,
        on_stuck: Callable[[QueryFailed], None] | None = None,
    ) -> None:
        self.root = Path(root)
        self.workspace = workspace
        self._on_stuck = on_stuck
        self._wait_s = wait_s
        self._timeout_s = timeout_s

    @contextmanager
    def _asked(
        self, query: str, timeout_s: float | None, *, may_write: Path | None = None
    ) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
        """Open the index for a query of somebody else's, checked and within limits."""
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        with self._open(may_write=may_write) as connection, sandbox.time_limit(connection, limit_s, self._on_stuck):
            yield connection, sandbox.check(connection, query)

    @contextmanager
    def _within_limits(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the index for a question of our own that may take long."""
        with self._open() as connection, sandbox.time_limit(connection, self._timeout_s, self._on_stuck):
            yield connection

    @contextmanager
    def _open(self, *, may_write: Path | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        with (
            _one_at_a_time(self.root, self._wait_s),
            index_file.reading(self.root, timeout_s=self._wait_s) as connection,
        ):
            sandbox.harden(connection, self.root, may_write=may_write)
            found = schema.version(connection)
            if found != schema.SCHEMA_VERSION:
                raise IndexFailed(
                    f"{index_file.index_path(self.root)} has schema {found}, this eventlog reads "
                    f"{schema.SCHEMA_VERSION}; try: eventlog index (it rebuilds an older one from the log)"
                )
            yield connection


_locks: dict[str, threading.Lock] = {}


@contextmanager
def _one_at_a_time(root: Path, wait_s: float) -> Iterator[None]:
    """Let threads of this process in one by one; processes read side by side.

    Connections of one process to one file share a DuckDB instance, and so its settings: the
    file that one thread may write would be open to all, or to none.
    """
    lock = _locks.setdefault(str(root.absolute()), threading.Lock())
    if not lock.acquire(timeout=wait_s):
        raise IndexBusy(f"other threads of this process read {root} for over {wait_s:g} s; allow more time")
    try:
        yield
    finally:
        lock.release()
