"""One SELECT that anybody may have written: its rows as Python objects, as a table of Arrow or pandas, or in a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

from eventlog.errors import QueryFailed
from eventlog.indexer.sql import literal
from eventlog.queries.access import fitting, isolation, sandbox
from eventlog.queries.access.reader import IndexReader
from eventlog.queries.access.result import Result, need

Format = Literal["json", "jsonl", "csv", "parquet"]
Params = Sequence[Any] | dict[str, Any]

_TIME = "TIMESTAMPFORMAT '%Y-%m-%dT%H:%M:%S.%fZ'"
_FORMATS: dict[str, str] = {
    "json": f"FORMAT json, ARRAY true, {_TIME}",
    "jsonl": f"FORMAT json, {_TIME}",
    "csv": f"FORMAT csv, HEADER true, {_TIME}",
    "parquet": "FORMAT parquet, COMPRESSION zstd",
}
# The statement stands in lines of its own: it may end with a comment.
_COPY = "COPY (SELECT * FROM (\n{statement}\n){limit}) TO {path} ({format}, USE_TMP_FILE false)"


_TABLES_MAX = 100_000


def rows(
    reader: IndexReader,
    query: str,
    params: Params | None,
    *,
    row_limit: int,
    timeout_s: float | None,
    exact: bool = False,
) -> Result:
    """Run a query in this process and return at most `row_limit` of its rows. Raises QueryFailed."""
    with reader.untrusted(query, timeout_s=timeout_s) as (connection, statement):
        asked = fitting.fit(connection, statement, params, "rows").statement if exact else statement
        cursor = sandbox.execute(connection, asked, params)
        described = cursor.description or []
        fetched = cursor.fetchmany(row_limit + 1)
    columns = [column[0] for column in described]
    return Result(columns, [str(column[1]) for column in described], fetched[:row_limit], len(fetched) > row_limit)


class Select:
    """`store.sql(query)` returns rows; `store.sql.arrow`, `.pandas` and `.copy` return or write them in other forms.

    A query is one SELECT (also WITH, SHOW, DESCRIBE, SUMMARIZE, EXPLAIN). It sees the index and nothing else, and is
    stopped after its time. One that this process could not stop runs in a process of its own (`isolation`), where
    a ReadStore answers it through the methods `sql`, `arrow`, `pandas` and `copy`.
    All raise QueryFailed where the query is refused, fails or takes too long, IndexFailed and IndexBusy.
    """

    def __init__(self, reader: IndexReader) -> None:
        self._reader = reader

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._reader.scope()})"

    def __call__(
        self,
        query: str,
        params: Params | None = None,
        *,
        row_limit: int = 100_000,
        timeout_s: float | None = None,
        exact: bool = False,
    ) -> Result:
        """Run one SELECT, with `params` for its `?` or `$name`; return at most `row_limit` rows.

        `store.sql("SELECT count(*) AS n FROM events").dicts()` is `[{"n": 3}]`. TIMESTAMPs are UTC without a zone.
        `timeout_s` replaces the store's. With `exact`, what Python has no type for is text: nanoseconds, and intervals
        (a timedelta has no months).
        """
        if question := self._reader.isolated("sql", timeout_s, query, params, row_limit=row_limit, exact=exact):
            return cast("Result", isolation.ask(question))
        return rows(self._reader, query, params, row_limit=row_limit, timeout_s=timeout_s, exact=exact)

    def tables(self) -> list[str]:
        """Return the names of all that a query may read: `["alerts", "events", "llm_costs", …]`."""
        shown = rows(self._reader, "SHOW TABLES", None, row_limit=_TABLES_MAX, timeout_s=None)
        return sorted({str(name) for (name,) in shown.rows} | self._reader.on_demand)

    def arrow(self, query: str, params: Params | None = None) -> Any:
        """Run one SELECT; return all rows as a `pyarrow.Table`. Raises MissingExtra without pyarrow."""
        need("pyarrow")
        if question := self._reader.isolated("arrow", None, query, params):
            return isolation.ask(question)
        with self._reader.untrusted(query) as (connection, statement):
            fitted = fitting.fit(connection, statement, params, "arrow")
            return connection.sql(fitted.statement, params=params).to_arrow_table()

    def pandas(self, query: str, params: Params | None = None) -> Any:
        """Run one SELECT; return all rows as a `pandas.DataFrame`. Raises MissingExtra without pandas."""
        need("pandas")
        if question := self._reader.isolated("pandas", None, query, params):
            return isolation.ask(question)
        with self._reader.untrusted(query) as (connection, statement):
            fitted = fitting.fit(connection, statement, params, "pandas")
            frame = sandbox.execute(connection, fitted.statement, params).df()
        for number in fitted.numbers:
            column = frame.iloc[:, number]
            frame.isetitem(number, type(column)(list(map(fitting.whole_numbers, column)), dtype=object))
        return frame

    def copy(
        self,
        query: str,
        path: str | Path,
        format_: Format,
        params: Params | None = None,
        *,
        row_limit: int | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Write the rows of one SELECT to a file; return how many. The file appears when it is whole.

        `format_` is json, jsonl, csv or parquet: `store.copy("FROM runs", "runs.parquet", "parquet")`.
        """
        if question := self._reader.isolated("copy", timeout_s, query, str(path), format_, params, row_limit=row_limit):
            return int(isolation.ask(question))
        limit = "" if row_limit is None else f" LIMIT {int(row_limit)}"
        target = Path(os.path.realpath(path))
        # A device or a pipe is written to as it is; a file appears when it is whole.
        is_file = target.is_file() or not target.exists()
        part = target.with_name(f".{target.name}.{os.getpid()}-{os.urandom(4).hex()}.part") if is_file else target
        if not target.parent.is_dir():
            raise QueryFailed(f"there is no folder {target.parent} to write {target.name} to")
        try:
            if is_file:  # before DuckDB, which would let everybody read it
                os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            with self._reader.untrusted(query, timeout_s=timeout_s, may_write=part) as (connection, statement):
                source = fitting.fit(connection, statement, params, format_).statement
                copy = _COPY.format(statement=source, limit=limit, path=literal(str(part)), format=_FORMATS[format_])
                ((written,),) = sandbox.execute(connection, copy, params).fetchall()
            if is_file:
                part.replace(target)
        except OSError as error:
            raise QueryFailed(f"{target} cannot be written: {error.strerror}") from error
        finally:
            if is_file:
                part.unlink(missing_ok=True)
        return int(written)
