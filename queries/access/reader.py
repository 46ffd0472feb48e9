"""Opens the index for one question: read-only, hardened, and closed again when it is answered.

trusted SQL (a constant of this program)  ──→ the index, or the views of one workspace ──→ connection
untrusted SQL (anybody's)  ──→ checked ──→ confined ──→ stopped after a time limit ──→ connection and statement
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

from eventlog.errors import IndexBusy, IndexFailed, QueryFailed
from eventlog.indexer.index import index_file, schema
from eventlog.indexer.index.engine import CONFIG, Engine, spill_path
from eventlog.indexer.search import parts
from eventlog.indexer.search.parts import Parts
from eventlog.indexer.sql import literal
from eventlog.process import forks
from eventlog.process.forks import Phase
from eventlog.queries.access import freshness, isolation, sandbox
from eventlog.queries.access.freshness import Behind, Offsets, Progress
from eventlog.queries.access.workspace import HIDDEN, Workspace, configure, unguessable, without_hints

_logger = logging.getLogger("eventlog.queries")
#: Starting a DuckDB takes several times as long as most questions, so a reader reuses one. It is replaced after a time,
#: because its limits depend on the free space of the disk, and after a question that may have used much memory.
_INSTANCE_MAX_AGE_S = 60.0
_CHEAP_QUESTION_S = 0.5
#: Results of checks that are cached: a dashboard repeats its queries.
_CHECKED_MAX = 64
_CHECKED_CHARS_MAX = 10_000


#: Memory of DuckDB in a search; what does not fit goes to a file.
_SEARCH_BYTES = 160 * 1024**2


def _new_instance(root: Path, index: Path, *, for_search: bool = False) -> duckdb.DuckDBPyConnection:
    """Start a DuckDB in memory that can open the index of this root and no other file, or the search index as well."""
    instance = duckdb.connect(config=dict(CONFIG))
    instance.execute(f"SET GLOBAL temp_directory = {literal(str(spill_path(index)))}")
    real = index.resolve()
    # The WAL as well: an indexer that was killed in a commit leaves one, which DuckDB replays in memory.
    may_open = [opened for path in (index, real) for opened in (path, *index_file.wal_paths(path))]
    if for_search:
        sandbox.harden(instance, root, may_open=may_open, may_list=[parts.folder_of(root)], memory_bytes=_SEARCH_BYTES)
    else:
        sandbox.harden(instance, root, may_open=may_open)
    return instance


#: Tables and views that are made when a query mentions them: by name, the function that makes them on a connection.
OnDemand = Mapping[str, Callable[[duckdb.DuckDBPyConnection], None]]


class IndexReader:
    """Opens the index of one root for reading; `trusted` is for SQL of this program, `untrusted` for anybody's.

    Raises IndexFailed where there is no index, and IndexBusy when it is not free within `wait_s`.

    Untrusted SQL is stopped after `timeout_s`. A query whose calls DuckDB does not interrupt belongs into a process of
    its own (`isolated`, see `isolation`), which takes some tenths of a second more. A process that exists for one
    query alone, and bounds its memory, needs none: `on_stuck` ends it (`sandbox.time_limit`).

    With a `workspace`, answers are as if the log held its events and nothing else (see `workspace`). `on_demand` names
    tables that are made only when an untrusted query mentions them, such as `llm_costs`.

    With `catch_up_s`, each question first catches up with the log, for about so long at most (`catch_up`); a warning
    is logged when an answer begins to lack something.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        workspace: str | None = None,
        wait_s: float = 30.0,
        timeout_s: float = 60.0,
        on_stuck: Callable[[QueryFailed], None] | None = None,
        on_demand: OnDemand | None = None,
        catch_up_s: float | None = None,
    ) -> None:
        if workspace is not None and not isinstance(workspace, str):
            raise QueryFailed(f"the name of a workspace is a text, not {workspace!r}")
        self.root = Path(root)
        self.workspace = workspace
        self.timeout_s = timeout_s
        self._wait_s = wait_s
        self._on_stuck = on_stuck
        self._on_demand = on_demand or {}
        self._catch_up_s = catch_up_s
        self._is_behind = False
        self._engine = Engine(partial(_new_instance, self.root), max_age_s=_INSTANCE_MAX_AGE_S)
        self._search_engine = Engine(partial(_new_instance, self.root, for_search=True), max_age_s=_INSTANCE_MAX_AGE_S)
        self._file_id: bytes | None = None  # of an index with the right schema
        self._checked: dict[str, sandbox.Checked] = {}

    def scope(self) -> str:
        """Return the root, and the workspace if there is one, as arguments: `'runs', workspace='acme'`."""
        root = repr(str(self.root))
        return root if self.workspace is None else f"{root}, workspace={self.workspace!r}"

    @property
    def on_demand(self) -> frozenset[str]:
        """The names of the tables that are made when a query mentions them."""
        return frozenset(self._on_demand)

    def catch_up(
        self, within_s: float, *, say: Callable[[str], None] = _logger.warning, progress: Progress | None = None
    ) -> Behind | None:
        """Index what is new in the log, if that takes no longer than `within_s`; return what an answer lacks after it.

        A reader of one workspace indexes nothing: it does not learn how much others write. `say` gets warnings.
        Raises IndexBusy, and IndexFailed where there is no index and none is made.
        """
        if self.workspace is not None:
            return freshness.behind_in_workspace(self.root, self._offsets)
        return freshness.catch_up(self.root, self._offsets, within_s=within_s, say=say, progress=progress)

    def _offsets(self) -> Offsets | None:
        try:
            with _one_at_a_time(self.root, self._wait_s), self._hardened() as (connection, _):
                return freshness.read_offsets(connection)
        except EarlierSchema:
            return None

    def _catch_up_first(self) -> None:
        if self._catch_up_s is None:
            return
        behind = self.catch_up(self._catch_up_s)
        if behind is not None and not self._is_behind:
            _logger.warning("%s", behind)
        self._is_behind = behind is not None

    @contextmanager
    def untrusted(
        self, query: str, *, timeout_s: float | None = None, may_write: Path | None = None
    ) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
        """Open the index for a query that anybody may have written; yield a connection and the statement to run.

        The query is checked (`sandbox.check`), confined to the workspace if there is one, and stopped after
        `timeout_s` (None: the reader's). Raises QueryFailed where it is refused, fails or is stopped.
        """
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        checked = None
        with _one_at_a_time(self.root, self._wait_s):
            checked = self._checked.get(query)
            if checked is None and self.workspace is None and may_write is None:
                checked = self._check(query, limit_s)
            afresh = checked is None or not checked.is_plain
            with (
                self._hardened(may_write=may_write, afresh=afresh) as (connection, index),
                _hints_withheld(self._hidden(index)),
                sandbox.time_limit(connection, limit_s, self._on_stuck),
            ):
                checked = checked or sandbox.check(connection, query)
                statement = checked.statement
                if self.workspace is None:
                    sandbox.expect_tables(connection, checked)
                else:
                    statement = Workspace(connection, index, self.workspace).admit(checked, self._on_demand)
                self._provide(connection, checked.tables)
                yield connection, statement

    def isolated(
        self, method: str, timeout_s: float | None, *arguments: Any, **options: Any
    ) -> isolation.Question | None:
        """Return the call of a store's `method` for another process, if this one could not stop its query; else None.

        The first of the arguments is the query. A process that `on_stuck` may end is one already. It is asked before
        each untrusted query, and catches up with the log.
        """
        self._catch_up_first()
        if self._on_stuck is not None:
            return None
        query, limit_s = arguments[0], self.timeout_s if timeout_s is None else timeout_s
        with _one_at_a_time(self.root, self._wait_s), _hints_withheld(self._hidden()):
            checked = self._checked.get(query) or self._check(query, limit_s)
        if checked.is_tame:
            return None
        return isolation.Question(
            root=str(self.root), workspace=self.workspace, wait_s=self._wait_s, timeout_s=limit_s,
            method=method, arguments=arguments, options=options,
        )  # fmt: skip

    def _hidden(self, index: str = "") -> tuple[str, ...]:
        """Return the names that errors must not contain."""
        names = (index, str(self.root.absolute()))
        return () if self.workspace is None else tuple(filter(None, names))

    def _check(self, query: str, limit_s: float) -> sandbox.Checked:
        with (
            self._engine.beside(index_file.existing(self.root)) as parser,
            sandbox.time_limit(parser, limit_s, self._on_stuck),
        ):
            checked = sandbox.check(parser, query)
        if len(query) <= _CHECKED_CHARS_MAX:
            if len(self._checked) >= _CHECKED_MAX:
                self._checked.clear()
            self._checked[query] = checked
        return checked

    @contextmanager
    def trusted(
        self, *, views: Collection[str] | None = None, fenced: bool = True, timeout_s: float | None = None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the index for SQL that stands in this program; yield a connection.

        In a workspace it has the views of that workspace, and no other tables; naming the `views` that are read saves
        making the others. `fenced` is explained at Workspace. With `timeout_s`, the block is stopped after that time,
        and QueryFailed is raised, also for DuckDB's errors; so it is where the views of a workspace cannot be made.
        """
        self._catch_up_first()
        with _one_at_a_time(self.root, self._wait_s), self._hardened() as (connection, index):
            if self.workspace is not None:
                with _hints_withheld(self._hidden(index)), _query_failed():
                    Workspace(connection, index, self.workspace, fenced=fenced).make(views)
            if timeout_s is None:
                yield connection
            else:
                with sandbox.time_limit(connection, timeout_s, self._on_stuck):
                    yield connection

    @contextmanager
    def searching(
        self, *, views: Collection[str], is_retry: bool = False
    ) -> Iterator[tuple[duckdb.DuckDBPyConnection, Parts]]:
        """Open the index like `trusted`, without the fence and within the time limit of this reader, for a search.

        Yields the parts of the search index as well, whose files the connection may read. It has little memory, and
        what does not fit goes to a file. Where that is not enough, `is_retry` has as much as other questions.
        """
        self._catch_up_first()
        with (
            _one_at_a_time(self.root, self._wait_s),
            self._hardened(for_search=True, afresh=is_retry) as (connection, index),
        ):
            usable = parts.read_parts(self.root, parts.identity(connection), parts.reaches(connection))
            if self.workspace is not None:
                with _hints_withheld(self._hidden(index)), _query_failed():
                    Workspace(connection, index, self.workspace, fenced=False).make(views)
            with _hints_withheld(self._hidden(index)), sandbox.time_limit(connection, self.timeout_s, self._on_stuck):
                yield connection, usable

    @contextmanager
    def beside(self, path: Path) -> Iterator[tuple[duckdb.DuckDBPyConnection, list[str]]]:
        """Open the index beside a database file that statements may attach and write to.

        Yields a connection, and the names of all that a query may read, those on demand included. Raises QueryFailed
        for DuckDB's errors.
        """
        self._catch_up_first()
        with (
            _one_at_a_time(self.root, self._wait_s),
            _query_failed(),
            self._hardened(may_write=path, as_database=True) as (connection, index),
        ):
            if self.workspace is None:
                names = [row[0] for row in connection.execute(_VIEWS, [index]).fetchall() if row[0] not in HIDDEN]
            else:
                with _hints_withheld(self._hidden(index)):
                    workspace = Workspace(connection, index, self.workspace)
                    names = workspace.names()
                    workspace.make()
                    workspace.make(names)
            self._provide(connection, self._on_demand.keys())
            yield connection, sorted({*names, *self._on_demand})

    def _provide(self, connection: duckdb.DuckDBPyConnection, tables: Collection[str]) -> None:
        """Make the tables on demand that a query mentions."""
        for make in {self._on_demand[name] for name in self._on_demand.keys() & set(tables)}:
            make(connection)

    @contextmanager
    def _hardened(
        self,
        *,
        may_write: Path | None = None,
        as_database: bool = False,
        afresh: bool = False,
        for_search: bool = False,
    ) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
        """Open the index in the DuckDB that this reader reuses; yield a connection, and the name of the index in it.

        `afresh` uses a DuckDB for this question alone. So does a file that may be written to, and a workspace: there,
        the index is attached under a random name, as it is beside a file that is written to `as_database`.
        """
        index = "" if self.workspace is None and not as_database else unguessable()
        engine = None if index or may_write is not None or afresh else self._engine
        if engine is not None and for_search:
            engine = self._search_engine
        with index_file.reading(
            self.root, timeout_s=self._wait_s, attached_as=index or None, engine=engine
        ) as connection:
            if self.workspace is not None:
                configure(connection)
            if index:
                connection.execute(f"USE {index}")
            if engine is None:
                may_open = () if may_write is None else (may_write, *index_file.wal_paths(may_write))
                may_list = [parts.folder_of(self.root)] if for_search else []
                memory_bytes = _SEARCH_BYTES if for_search and not afresh else None
                sandbox.harden(connection, self.root, may_open=may_open, may_list=may_list, memory_bytes=memory_bytes)
            if engine is None or engine.file_id is None or engine.file_id != self._file_id:
                self._expect_schema(connection)
                self._file_id = None if engine is None else engine.file_id
            started = time.monotonic()
            yield connection, index
        if engine is not None and time.monotonic() - started > _CHEAP_QUESTION_S:
            engine.close()  # gives back its memory

    def _expect_schema(self, connection: duckdb.DuckDBPyConnection) -> None:
        version = schema.version(connection)
        if version != schema.SCHEMA_VERSION:
            is_earlier = version is None or 0 <= version < schema.SCHEMA_VERSION
            raise (EarlierSchema if is_earlier else IndexFailed)(
                f"{index_file.index_path(self.root)} has schema {version}, this eventlog reads "
                f"{schema.SCHEMA_VERSION}; try: eventlog index (it rebuilds an older one from the log)"
            )


class EarlierSchema(IndexFailed):
    """An earlier eventlog made the index, or nobody has filled it yet; the indexer makes a current one of it."""


@contextmanager
def _hints_withheld(hidden: tuple[str, ...]) -> Iterator[None]:
    """Remove names from errors that a reader of one workspace must not learn."""
    try:
        yield
    except QueryFailed as error:
        if not hidden:
            raise
        raise QueryFailed(without_hints(str(error), hidden)) from None


@contextmanager
def _query_failed() -> Iterator[None]:
    """Raise QueryFailed for DuckDB's errors."""
    try:
        yield
    except duckdb.Error as error:
        raise sandbox.failed(error) from None


_VIEWS = """
    SELECT view_name FROM duckdb_views() WHERE NOT internal AND database_name = $1
    UNION ALL SELECT table_name FROM duckdb_tables() WHERE NOT internal AND database_name = $1
"""
_locks: dict[str, threading.Lock] = {}


@contextmanager
def _one_at_a_time(root: Path, wait_s: float) -> Iterator[None]:
    """Let one thread of this process read at a time; other processes read concurrently.

    Connections of one process to one file share a DuckDB instance and its settings: a file that one thread may write
    to would be open to all of them.
    """
    lock = _locks.setdefault(os.path.realpath(root), threading.Lock())
    if not lock.acquire(timeout=wait_s):
        raise IndexBusy(f"other threads of this process read {root} for over {wait_s:g} s; allow more time")
    try:
        yield
    finally:
        lock.release()


# A thread that held one stayed behind in the parent.
forks.register(Phase.STATE, after_in_child=_locks.clear)
