"""Fills the search index: rows of the index that no part covers become a part, and small parts become one.

    index ──a step of rows, copied while the index is held──→ memory ──words──→ a part
    the newest parts, while they are small ────────────────────────────────────→ one part

Nothing here is in the way of a batch or a replay: whoever searches reads the rows that no part covers one by one
(docs/decisions/0050). So parts are made when there is time, of at least ROWS_MIN rows each.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import duckdb
import msgspec

from eventlog.errors import EventlogError
from eventlog.indexer.index import index_file, schema
from eventlog.indexer.index.engine import Engine
from eventlog.indexer.search import parts, words
from eventlog.indexer.search.parts import Part, Parts, Span

#: Fewer rows than this are read one by one in no time.
ROWS_MIN = 4096
#: A step copies about so many rows, or bytes of lines, of the index. (A single line may be longer.)
_STEP_ROWS, _STEP_BYTES = 32_768, 32 * 1024 * 1024
#: Small parts that follow each other become one: so many of them, or with so many rows together.
_MERGED, _MERGED_ROWS = 8, 4 * _STEP_ROWS
#: From so many rows on, a part is not small.
_LARGE_ROWS = 2 * _STEP_ROWS
_MEMORY_BYTES = 1024**3
_THREADS = 2
#: How long to wait for somebody who holds the index, in a step.
_WAIT_S = 1.0
#: A row's number in all parts: that of its part, times this, and its number in the part.
_ROWS_OF_PART = 2**32

#: Called with the rows covered so far, and all rows.
Progress = Callable[[int, int], None]


class _Lag(NamedTuple):
    """Rows of a segment that no part covers: their number, and the bytes of their lines."""

    span: Span
    rows: int
    bytes: int


def fill(
    root: str | Path, *, within_s: float = math.inf, rows_min: int = ROWS_MIN, progress: Progress | None = None
) -> bool:
    """Cover rows of the index, step by step until the time is over; return whether there is more to do.

    Fewer than `rows_min` are left for later. Where another process fills, or nothing can be written, or the index is
    held or cannot be read, nothing is done and nothing raised: the search index is never needed.
    """
    deadline = time.monotonic() + within_s
    has_more = False
    with contextlib.suppress(EventlogError, OSError, duckdb.Error), parts.filling(root) as may_fill:
        has_more = may_fill
        while has_more:
            has_more = _step(Path(root), rows_min, progress)
            if time.monotonic() >= deadline:
                break
    return has_more


def _step(root: Path, rows_min: int, progress: Progress | None) -> bool:
    """Add a part, or make one of small ones; return whether there is more to do."""
    engine = Engine()
    try:
        with index_file.reading(root, timeout_s=_WAIT_S, engine=engine) as connection:
            connection.execute(SET_LIMITS)
            if schema.version(connection) != schema.SCHEMA_VERSION:
                return False
            identity = parts.identity(connection)
            usable = parts.read_parts(root, identity, parts.reaches(connection))
            lags = _lags(connection, usable)
            if progress is not None:
                covered = sum(part.rows for part in usable.in_order)
                progress(covered, covered + sum(lag.rows for lag in lags))
            is_worth_it = sum(lag.rows for lag in lags) >= max(rows_min, 1)
            spans = _chosen(connection, lags) if is_worth_it else []
            if spans:
                connection.execute(COPY_ROWS, _columns(spans))
        parts.remove_others(usable)
        number = parts.next_number(usable)
        with engine.beside(index_file.index_path(root)) as memory:
            if small := _small(usable):
                _merge(memory, usable, small, number)
                return True
            if spans:
                part = Part(version=parts.VERSION, identity=identity, number=number, rows=0, apart=0, spans=spans)
                _add(memory, usable, part)
            return bool(spans)
    finally:
        engine.close()


def _lags(connection: duckdb.DuckDBPyConnection, usable: Parts) -> list[_Lag]:
    """Return what no part covers, in the order of segments; the index is in use."""
    indexed = parts.reaches(connection)
    behind = [Span(name, start, *indexed[name]) for name, start in usable.behind.items()]
    counted = {name: (rows, size) for name, rows, size in connection.execute(COUNT_ROWS, _columns(behind)).fetchall()}
    return [_Lag(span, *counted.get(span.segment, (0, 0))) for span in behind]


def _chosen(connection: duckdb.DuckDBPyConnection, lags: list[_Lag]) -> list[Span]:
    """Return whole segments for a step, or the beginning of one that is larger."""
    spans: list[Span] = []
    rows = size = 0
    for lag in lags:
        rows, size = rows + lag.rows, size + lag.bytes
        if rows > _STEP_ROWS or size > _STEP_BYTES:
            return spans or [_beginning(connection, lag)]
        spans.append(lag.span)
    return spans


def _beginning(connection: duckdb.DuckDBPyConnection, lag: _Lag) -> Span:
    mean_bytes = lag.bytes // lag.rows
    rows = min(_STEP_ROWS, max(_STEP_BYTES // max(mean_bytes, 1), 1))
    next_row = connection.execute(SELECT_OFFSET, [lag.span.segment, lag.span.start, rows]).fetchone()
    return Span(lag.span.segment, lag.span.start, next_row[0]) if next_row else lag.span


def _columns(spans: list[Span]) -> list[list[str] | list[int]]:
    return [[span.segment for span in spans], [span.start for span in spans], [span.end for span in spans]]


def _add(memory: duckdb.DuckDBPyConnection, usable: Parts, part: Part) -> None:
    """Write a part of the rows that were copied."""
    base = part.number * _ROWS_OF_PART
    memory.execute(CREATE_DOCS.format(base=base))
    memory.execute(CREATE_PIECES)
    memory.execute(CREATE_WORDS_OF_PIECES)
    ((rows, apart),) = memory.execute(COUNT_DOCS).fetchall()
    parts.write(memory, usable, msgspec.structs.replace(part, rows=rows, apart=apart), SELECT_DOCS, SELECT_WORDS)


def _small(usable: Parts) -> list[Part]:
    """Return the newest parts while they are small, if there are many of them."""
    small: list[Part] = []
    for part in reversed(usable.in_order):
        if part.rows >= _LARGE_ROWS:
            break
        small.insert(0, part)
    are_many = len(small) >= _MERGED or sum(part.rows for part in small) >= _MERGED_ROWS
    return small if are_many and len(small) > 1 else []


def _merge(memory: duckdb.DuckDBPyConnection, usable: Parts, small: list[Part], number: int) -> None:
    """Write one part in place of several that follow each other."""
    spans: dict[str, Span] = {}
    shifted: list[tuple[Parts, int]] = []
    rows = 0
    for part in small:
        shifted.append((usable.only(part), (number - part.number) * _ROWS_OF_PART + rows))
        rows += part.rows
        for span in part.spans:
            before = spans.get(span.segment, span)
            spans[span.segment] = Span(span.segment, before.start, span.end, span.tail)
    merged = Part(
        version=parts.VERSION, identity=small[0].identity, number=number, rows=rows,
        apart=sum(part.apart for part in small), spans=list(spans.values()),
        replaces=[part.number for part in small],
    )  # fmt: skip
    docs = " UNION ALL ".join(SELECT_SHIFTED_DOCS.format(by=by, docs=part.docs) for part, by in shifted)
    all_words = " UNION ALL ".join(SELECT_SHIFTED_WORDS.format(by=by, words=part.words) for part, by in shifted)
    parts.write(memory, usable, merged, f"FROM ({docs}) ORDER BY doc", f"FROM ({all_words}) ORDER BY word, doc")
    for part in small:
        parts.remove(usable.path_of(part))


# -- statements ------------------------------------------------------------------------------

# `uncovered` are the rows of a step. A text is cut at spaces first: there are few different pieces, and only these are
# looked at letter by letter.

SET_LIMITS = f"""
SET GLOBAL memory_limit = '{_MEMORY_BYTES}B';
SET GLOBAL threads = {_THREADS};
SET GLOBAL preserve_insertion_order = false;
"""
_SPANS = 'SELECT unnest(?::VARCHAR[]) AS segment, unnest(?::BIGINT[]) AS "start", unnest(?::BIGINT[]) AS "end"'
_IN_SPANS = f'FROM event_rows JOIN ({_SPANS}) USING (segment) WHERE line_offset >= "start" AND line_offset < "end"'
COUNT_ROWS = f"SELECT segment, count(*), sum(line_length)::BIGINT {_IN_SPANS} GROUP BY segment"
SELECT_OFFSET = """
SELECT line_offset FROM event_rows WHERE segment = ? AND line_offset >= ? ORDER BY line_offset LIMIT 1 OFFSET ?
"""
COPY_ROWS = f"CREATE OR REPLACE TABLE memory.main.uncovered AS SELECT segment, line_offset, payload {_IN_SPANS}"
CREATE_DOCS = f"""
CREATE OR REPLACE TABLE docs AS
SELECT {{base}} + row_number() OVER (ORDER BY segment, line_offset) - 1 AS doc, segment, line_offset,
       {words.HAS_BLOBS} AS has_blobs, CASE WHEN NOT {words.HAS_BLOBS} THEN payload END AS payload
FROM uncovered
"""
CREATE_PIECES = f"""
CREATE OR REPLACE TABLE pieces AS
SELECT doc, piece, count(*) AS times
FROM (SELECT doc, unnest(string_split({words.TEXTS}, ' ')) AS piece FROM docs)
GROUP BY doc, piece
"""
CREATE_WORDS_OF_PIECES = f"""
CREATE OR REPLACE TABLE words_of_pieces AS
SELECT piece, unnest({words.words_of("piece")}) AS word FROM (SELECT DISTINCT piece FROM pieces)
"""
COUNT_DOCS = "SELECT count(*), count(*) FILTER (has_blobs) FROM docs"
SELECT_SHIFTED_DOCS = "SELECT doc + {by} AS doc, segment, line_offset, has_blobs FROM {docs}"
SELECT_SHIFTED_WORDS = "SELECT word, doc + {by} AS doc, times FROM {words}"
SELECT_DOCS = "SELECT doc, segment, line_offset, has_blobs FROM docs ORDER BY doc"
SELECT_WORDS = """
SELECT word, doc, least(sum(times), 65535)::USMALLINT AS times
FROM pieces JOIN words_of_pieces USING (piece) GROUP BY word, doc ORDER BY word, doc
"""
