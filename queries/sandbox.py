"""Running other people's SQL: read-only, without files or network, within limits.

Three fences, each enough alone for most attempts: the index is opened read-only; DuckDB's
access to anything outside it is switched off and the switch is locked; and only a single
SELECT or EXPLAIN is let through.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from eventlog.errors import QueryFailed

STUCK_S = 2.0
_ALLOWED = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


def harden(connection: duckdb.DuckDBPyConnection, *, may_write: Path | None = None) -> None:
    """Close a connection's ways out, for good; only the file `may_write` stays reachable."""
    if may_write is not None:
        connection.execute("SET allowed_paths = [?]", [str(may_write)])
    connection.execute(f"SET memory_limit = '{_memory_limit_bytes()}B'")
    with contextlib.suppress(duckdb.CatalogException):  # a build without ICU knows no zones
        connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _memory_limit_bytes() -> int:
    """Half of the machine's memory, 4 GiB at most: a query must not take the machine down."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(total // 2, 4 * 1024**3)


def check(query: str) -> str:
    """Return the query if it is one SELECT (or EXPLAIN); raise QueryFailed saying what it is."""
    if not query.strip().strip(";").strip():
        raise QueryFailed("the query is empty; try: SELECT * FROM event_types")
    try:
        statements = duckdb.extract_statements(query)
    except duckdb.Error as error:
        raise failed(error) from None
    if len(statements) != 1:
        raise QueryFailed(f"one statement at a time, not {len(statements)}; the index is read-only")
    statement = statements[0]
    if statement.type not in _ALLOWED:
        raise QueryFailed(
            f"{statement.type.name} is refused: the index is read-only and derived from the log; "
            "use SELECT, WITH, SHOW, DESCRIBE, SUMMARIZE or EXPLAIN"
        )
    return str(statement.query).strip().rstrip(";")


def failed(error: Exception) -> QueryFailed:
    """Make the error for a query that DuckDB refused, in its words: they point at the place."""
    return QueryFailed(str(error).strip() or type(error).__name__)


@contextmanager
def time_limit(
    connection: duckdb.DuckDBPyConnection, timeout_s: float, on_stuck: Callable[[QueryFailed], None] | None = None
) -> Iterator[None]:
    """Stop what runs in the block after `timeout_s`. Raises QueryFailed, also for DuckDB's errors.

    DuckDB looks at an interruption between chunks of rows, so a single call that makes a huge
    value runs to its end. `on_stuck` is called, on another thread, `STUCK_S` later: a process
    that exists for this query alone can then end itself.
    """
    expired = threading.Event()
    error_then = QueryFailed(f"the query was stopped after {timeout_s:g} s; narrow it, or allow more time")

    def expire() -> None:
        expired.set()
        connection.interrupt()

    timers = [threading.Timer(timeout_s, expire)]
    if on_stuck is not None:
        timers.append(threading.Timer(timeout_s + STUCK_S, on_stuck, [error_then]))
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield
    except duckdb.Error as error:
        if expired.is_set():
            raise error_then from None
        raise failed(error) from None
    finally:
        for timer in timers:
            timer.cancel()


def execute(
    connection: duckdb.DuckDBPyConnection, query: str, params: Sequence[Any] | dict[str, Any] | None
) -> duckdb.DuckDBPyConnection:
    """Execute with parameters, if any."""
    return connection.execute(query, params) if params else connection.execute(query)
