"""Limits of untrusted SQL: read-only, no files, no network, bounded time and memory.

Four fences, each of which stops most attempts alone:

1. The index is opened read-only.
2. DuckDB's access to anything outside the index is switched off, and the setting is locked (`harden`).
3. Only a single SELECT or EXPLAIN is accepted, no part of which writes (`check`).
4. It must not call functions that run text as SQL, read files, or crash the process (`check`).

DuckDB itself must reach the index and its temporary files, and would read them for a query too. So a query cannot name
files: functions in place of tables must be on a list, and a name with a dot must be that of a table, because DuckDB
would look for a file otherwise (`expect_tables`).
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import resource
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import msgspec

from eventlog.errors import InvalidEvent, QueryFailed
from eventlog.format import envelope
from eventlog.indexer.sql import literal
from eventlog.queries.access.confinement import QUERIES, path_of
from eventlog.queries.access.functions import FUNCTIONS, OF_THE_DATABASE, TABLE_FUNCTIONS, TAME

STUCK_S = 2.0
_AGAIN_S = 0.05
#: Address space of the process besides the data of a query: libraries and threads.
_PROCESS_BYTES = 2 * 1024**3
_ALLOWED = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
_EXPLAIN = re.compile(r"\s*explain\s+(analyze\s+)?(\(\s*(analyze|format)\b[^)]*\)\s*)?", re.IGNORECASE)
#: They run or plan text as SQL, and that text may be computed by the query itself.
_RUN_TEXT = frozenset({"query", "query_table", "json_execute_serialized_sql", "json_serialize_plan"})
_NAME = re.compile(r"\w+")
#: `recurring.name` is a recursive WITH, not a table in a schema.
_RECURRING = "recurring"
_PLAIN = FUNCTIONS | TABLE_FUNCTIONS
#: They join several values into one. Nested in subqueries, each argument but one may double the size.
_JOINING = frozenset({"||", "concat", "concat_ws", "list_value", "row", "struct_pack"})
_JOINED_MAX = 8
#: DuckDB does not interrupt planning either. That takes long for many nodes, and for nested parts that stand for many
#: columns or rows: each level of `SELECT *, *` doubles the columns.
_MOST = {"nodes": 5_000, "STAR": 12, "BASE_TABLE": 24}
_IN_PLACE_OF_TABLES = TABLE_FUNCTIONS | OF_THE_DATABASE
_PARSE = "SELECT json_serialize_sql(?::VARCHAR)"
_TABLES_AND_VIEWS = (
    "SELECT lower(view_name) FROM duckdb_views() UNION ALL SELECT lower(table_name) FROM duckdb_tables()"
)


class Checked(NamedTuple):
    """A query that may run: its text, its parse tree, and the names of its tables (in lower case)."""

    statement: str
    tree: dict[str, Any]
    tables: frozenset[str]
    #: Tables whose names could be those of files: with a schema, or with a dot. Their last parts.
    dotted: frozenset[str]
    #: The tree of an EXPLAIN is that of what it explains.
    is_explain: bool
    #: A time limit stops it: none of its calls takes long or makes a large value (functions.TAME).
    is_tame: bool
    #: It leaves no trace in the DuckDB instance: plain table names, and functions of their arguments only.
    is_plain: bool


def harden(
    connection: duckdb.DuckDBPyConnection,
    root: Path,
    *,
    may_open: Sequence[Path] = (),
    may_list: Sequence[Path] = (),
    memory_bytes: int | None = None,
) -> None:
    """Switch off DuckDB's access to files and network for all of its connections, for good.

    The files `may_open`, and all in the folders `may_list`, stay open.

    Sets the limits of memory (half of the machine's, 4 GiB at most, or less) and of temporary files as well, and locks
    the settings.
    """
    if may_open:
        connection.execute("SET GLOBAL allowed_paths = ?", [[str(path) for path in may_open]])
    if may_list:
        connection.execute("SET GLOBAL allowed_directories = ?", [[f"{path}/" for path in may_list]])
    connection.execute(
        f"SET GLOBAL memory_limit = '{min(memory_bytes or _memory_limit_bytes(), _memory_limit_bytes())}B'"
    )
    # Spilled data must leave room on the disk for the log.
    connection.execute(f"SET GLOBAL max_temp_directory_size = '{shutil.disk_usage(root).free // 10}B'")
    with contextlib.suppress(duckdb.CatalogException):  # a build without ICU knows no zones
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
    connection.execute("SET GLOBAL python_enable_replacements = false")
    connection.execute("SET GLOBAL allow_persistent_secrets = false")  # its error names the home folder
    connection.execute("SET GLOBAL enable_external_access = false")
    connection.execute("SET GLOBAL lock_configuration = true")


def bound_process() -> None:
    """Limit the memory of the whole process; for one that exists for a single query.

    DuckDB's own limit does not count the values that one call makes, such as `list_sum(range(3e8))` or
    `repeat('x', 1e8)` over many rows. With this limit they fail as out of memory, and the kernel kills no process.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = _memory_limit_bytes() + _PROCESS_BYTES
    with contextlib.suppress(OSError, ValueError):  # systems without such a limit
        resource.setrlimit(resource.RLIMIT_AS, (soft if hard < 0 else min(soft, hard), hard))


def _memory_limit_bytes() -> int:
    """Return half of the machine's memory, 4 GiB at most."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(total // 2, 4 * 1024**3)


def check(connection: duckdb.DuckDBPyConnection, query: str) -> Checked:
    """Parse a query and check that it is one SELECT (or EXPLAIN) that calls allowed functions. Raises QueryFailed.

    The connection, hardened before, only parses it. (`duckdb.extract_statements` would start a second DuckDB for that,
    which is neither hardened nor cheap.)
    """
    if not query.strip().strip(";").strip():
        raise QueryFailed("the query is empty; try: SELECT * FROM event_types")
    try:
        statements = connection.extract_statements(query)
    except duckdb.Error as error:
        raise failed(error) from None
    if len(statements) != 1:
        raise QueryFailed(f"one statement at a time, not {len(statements)}; the index is read-only")
    statement = statements[0]
    try:
        kind = statement.type
    except ValueError:  # DuckDB has this kind, its Python module has not
        raise QueryFailed("this statement is refused: use SELECT, WITH, SHOW, DESCRIBE, SUMMARIZE or EXPLAIN") from None
    if kind not in _ALLOWED:
        raise QueryFailed(
            f"{kind.name} is refused: the index is read-only and derived from the log; "
            "use SELECT, WITH, SHOW, DESCRIBE, SUMMARIZE or EXPLAIN"
        )
    checked = str(statement.query).strip().rstrip(";")
    tree = _parsed(connection, checked)
    is_explain = kind is duckdb.StatementType.EXPLAIN or _EXPLAIN.match(checked) is not None
    return _check_nodes(checked, tree, is_explain)


def _parsed(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, Any]:
    text = _EXPLAIN.sub("", query, count=1) if _EXPLAIN.match(query) else query
    ((tree_text,),) = connection.execute(_PARSE, [text]).fetchall()
    try:
        tree: dict[str, Any] = msgspec.json.decode(tree_text)
    except RecursionError:
        raise QueryFailed("the query is nested too deep; use WITH to take it apart") from None
    if tree["error"]:
        raise QueryFailed(f"the query cannot be checked, so it is refused: {tree['error_message']}")
    return tree


def _check_nodes(statement: str, tree: dict[str, Any], is_explain: bool) -> Checked:
    """Check all nodes of a parse tree. Raises QueryFailed where one writes, or calls a function that is refused.

    An operator that is called by its quoted name, `"="({'a': 1}, 'x')`, gets arguments that DuckDB has not converted,
    and crashes the process.
    """
    tables, dotted = set(), set()
    is_plain = True
    for node in _nodes(tree):
        kind = node.get("type")
        if isinstance(kind, str) and kind.endswith("_NODE") and kind not in QUERIES:
            statement_type = kind.removesuffix("_NODE").removesuffix("_QUERY")
            raise QueryFailed(
                f"{statement_type} is refused, in a WITH as well: the index is read-only and derived from the log"
            )
        if "function_name" in node:
            name, is_operator = node["function_name"], node.get("is_operator")
            if name.lower() in _RUN_TEXT or not (is_operator or _NAME.fullmatch(name)):
                raise QueryFailed(f"a call of {name!r} is refused; write out what it would run")
            is_plain &= is_operator or name.lower() in _PLAIN
        if node.get("type") == "TABLE_FUNCTION":
            name = node["function"].get("function_name", "")
            if name.lower() not in _IN_PLACE_OF_TABLES:
                raise QueryFailed(f"{name!r} is refused in place of a table: a query sees the index, and no files")
        if "table_name" in node:
            tables.add(node["table_name"].lower())
            path = path_of(node)
            if "." in node["table_name"] or (len(path) > 1 and path[0].lower() != _RECURRING):
                dotted.add(node["table_name"].lower())
            is_plain &= _NAME.fullmatch(node["table_name"]) is not None and len(path_of(node)) <= 1
    return Checked(statement, tree, frozenset(tables), frozenset(dotted), is_explain, _is_tame(tree), is_plain)


def _is_tame(tree: dict[str, Any]) -> bool:
    streamed: set[int] = set()  # functions in place of tables, which make row after row
    counts: Counter[str] = Counter()
    joined = 0
    for node in _nodes(tree):  # parents first
        kind = str(node.get("type"))
        counts.update(("nodes", kind))
        if kind == "TABLE_FUNCTION":
            streamed.add(id(node["function"]))
        if "function_name" not in node:
            continue
        name = node["function_name"].lower()
        if name in _JOINING:
            joined += max(len(node.get("arguments", ())) - 1, 1)
        elif id(node) not in streamed and name not in TAME and not node.get("is_operator"):
            return False
    is_small = joined <= _JOINED_MAX and all(counts[kind] <= most for kind, most in _MOST.items())
    return is_small and not (joined and counts["RECURSIVE_CTE_NODE"])  # each step may double a value


def expect_tables(connection: duckdb.DuckDBPyConnection, checked: Checked) -> None:
    """Raise QueryFailed where a name with a dot is not that of a table or view: DuckDB would look for a file."""
    if not checked.dotted:
        return
    missing = checked.dotted - {row[0] for row in connection.execute(_TABLES_AND_VIEWS).fetchall()}
    if missing:
        raise QueryFailed(f"there is no table or view {min(missing)!r}; try: SHOW TABLES")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


class OverTime(QueryFailed):
    """A query was stopped at its time limit."""


def over_time(timeout_s: float) -> OverTime:
    """Return the error for a query that was stopped."""
    return OverTime(f"the query was stopped after {timeout_s:g} s; narrow it, or allow more time")


_NO_TABLE = re.compile(
    r'(?:Catalog Error: )?Table with name "?([^\s"]+)"? does not exist!(\n?Did you mean "([^"]+)"[^\n]*)?'
)
#: Tables of DuckDB's own.
_SYSTEM = re.compile(r"(?:.*\.)?(?:pg_|duckdb_|sqlite_|pragma_|information_schema)")


def failed(error: Exception) -> QueryFailed:
    """Return the error for a query that DuckDB refused, with DuckDB's message, which points at the position.

    A table that is not there is an event type of which nothing is indexed.
    """
    return QueryFailed(_NO_TABLE.sub(_no_events, str(error).strip(), count=1) or type(error).__name__)


def _no_events(match: re.Match[str]) -> str:
    """Return what is to be said of a missing table; DuckDB's hint only where it is near, and no table of its own."""
    name, hint, proposed = match[1], match[2] or "", match[3] or ""
    is_near = bool(difflib.get_close_matches(name, [proposed], cutoff=0.7)) and not _SYSTEM.match(proposed)
    then = hint if is_near else ""
    try:
        envelope.check_event_type(name)
    except InvalidEvent:
        return f"there is no table or view {name}; try: SHOW TABLES{then}"
    return (
        f"there is no table or view {name}; events whose type has no schema are in events alone, try: "
        f"FROM events WHERE event_type = {literal(name)}; all tables: SHOW TABLES{then}"
    )


def _start(timer: threading.Timer) -> None:
    timer.daemon = True
    try:
        if sys.is_finalizing():  # Python 3.11 would wait for it for ever
            raise RuntimeError("the interpreter is ending")
        timer.start()
    except RuntimeError as error:
        raise QueryFailed(f"no thread can be started to limit the query's time: {error}") from None


@contextmanager
def time_limit(
    connection: duckdb.DuckDBPyConnection, timeout_s: float, on_stuck: Callable[[QueryFailed], None] | None = None
) -> Iterator[None]:
    """Stop what runs in the block after `timeout_s` seconds. Raises QueryFailed, also for DuckDB's errors.

    DuckDB checks for an interruption between chunks of rows, so a single call that makes a huge value runs to its end
    (see `isolation`). `on_stuck` is called on another thread, `STUCK_S` seconds later: a process that exists for this
    query alone can then exit.
    """
    expired, over = threading.Event(), threading.Event()
    error_then = over_time(timeout_s)

    def expire() -> None:
        expired.set()
        with suppress(duckdb.ConnectionException):  # closed in the meantime, by whoever had it
            connection.interrupt()
            while not over.wait(_AGAIN_S):  # an interruption between two statements stops neither
                connection.interrupt()

    timers = [threading.Timer(timeout_s, expire)]
    if on_stuck is not None:
        timers.append(threading.Timer(timeout_s + STUCK_S, on_stuck, [error_then]))
    for timer in timers:
        _start(timer)
    try:
        yield
    except duckdb.Error as error:
        if expired.is_set():
            raise error_then from None
        raise failed(error) from None
    except MemoryError:
        raise QueryFailed("the answer does not fit into memory; narrow it, or export it to a file") from None
    else:
        if expired.is_set():
            raise error_then
    finally:
        over.set()
        for timer in timers:
            timer.cancel()


def execute(
    connection: duckdb.DuckDBPyConnection, query: str, params: Sequence[Any] | dict[str, Any] | None
) -> duckdb.DuckDBPyConnection:
    """Execute with parameters, if any."""
    return connection.execute(query, params) if params else connection.execute(query)
