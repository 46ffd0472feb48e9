"""Rows that only the old index has are carried over into the index that a replay has built from the log.

| the log's file of a segment   | rows of the old index that are carried over                               |
| ----------------------------- | ------------------------------------------------------------------------- |
| is gone                       | all, under its name: from now on only the index has them                  |
| cannot be read                | all, with the checkpoint: reading continues there when it is possible     |
| is another file               | those that are in no segment, under a name of their own (load/versions)   |

Files are compared by content, not by name and size: first the number of rows of each segment and the sum of their
hashes, then, only where these differ, the ids.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import duckdb
import msgspec

from eventlog.indexer.index import schema
from eventlog.indexer.load import copies, loader
from eventlog.indexer.load.staging import as_table
from eventlog.indexer.load.versions import ROWS_DIGEST, VERSION

_TABLES = ("event_rows", "conflicts")


class Carried(NamedTuple):
    """How many events only the old index had though their segments were not released, by the fate of the segments."""

    deleted: int = 0
    unreadable: int = 0
    replaced: int = 0

    @property
    def events(self) -> int:
        return sum(self)


def carry(connection: duckdb.DuckDBPyConnection, present: Collection[str], unreadable: Collection[str]) -> Carried:
    """Carry over rows from the attached database `live` that the log does not have; return their numbers.

    `present` are the names of all segments in the log, `unreadable` of those that could not be read.
    """
    readable = list(set(present) - set(unreadable))
    connection.execute(CREATE_GONE, [readable])
    deleted = _count(connection, COUNT_DELETED, [list(unreadable)])
    cut_short = _count(connection, COUNT_OF_SEGMENTS, [list(unreadable)])
    connection.begin()
    _carry_gone(connection)
    connection.execute(RELEASE_OTHERS, [list(present)])
    replaced = _carry_replaced(connection)
    copies.mark_all(connection)
    connection.commit()
    return Carried(deleted, cut_short, replaced)


def carry_released(connection: duckdb.DuckDBPyConnection, limits: Mapping[str, int]) -> None:
    """Carry over the rows of released segments from `live`, up to an offset for each segment name."""
    rows = (msgspec.json.encode({"name": name, "upto": upto}) for name, upto in limits.items())
    with as_table(rows, "name: 'VARCHAR', upto: 'BIGINT'") as table:
        connection.execute(CREATE_GONE_OF_RELEASED.format(rows=table))
    connection.begin()
    _carry_gone(connection)
    copies.mark_all(connection)
    connection.commit()


def _carry_gone(connection: duckdb.DuckDBPyConnection) -> None:
    if not _count(connection, COUNT_GONE):
        return
    for table in _TABLES:
        names = _live_columns(connection, table)
        connection.execute(CREATE_BATCH_OF_GONE.format(columns=names, table=table))
        loader.merge_batch(connection)
    connection.execute(DELETE_REJECTED_OF_GONE)
    connection.execute(CARRY_REJECTED_OF_GONE)
    connection.execute(DELETE_SEGMENTS_OF_GONE)
    connection.execute(CARRY_SEGMENTS_OF_GONE)
    connection.execute(FILL_TORN_BYTES)


def _carry_replaced(connection: duckdb.DuckDBPyConnection) -> int:
    """Carry over rows of segments of which the log has another file; return how many."""
    lacking = find_lacking(connection)
    if not lacking:
        return 0
    names = _live_columns(connection, "event_rows").replace("segment,", "version AS segment,")
    connection.execute(CREATE_RENAMED)
    connection.execute(CREATE_BATCH_OF_LACKING.format(columns=names))
    loader.merge_batch(connection)
    connection.execute(CARRY_REJECTED_OF_RENAMED)
    connection.execute(DELETE_SEGMENTS_OF_RENAMED)
    connection.execute(CARRY_SEGMENTS_OF_RENAMED)
    connection.execute(FILL_TORN_BYTES)
    return lacking


def find_lacking(connection: duckdb.DuckDBPyConnection) -> int:
    """Put events that only the old index has into the temporary table `lacking`; return how many."""
    connection.execute(CREATE_DIFFERING)
    if not _count(connection, COUNT_DIFFERING):
        return 0
    connection.execute(CREATE_LACKING)
    return _count(connection, COUNT_LACKING)


def _count(connection: duckdb.DuckDBPyConnection, query: str, parameters: list[list[str]] | None = None) -> int:
    row = connection.execute(query, parameters).fetchone()
    return int(row[0] or 0) if row else 0


def _live_columns(connection: duckdb.DuckDBPyConnection, table: str) -> str:
    """Return today's columns for a SELECT from the live index; NULL for those that an older schema does not have."""
    names = {row[0] for row in connection.execute(SELECT_LIVE_COLUMNS, [table]).fetchall()}
    columns = schema.CONTENT | schema.POSITION
    return ", ".join(name if name in names else f"NULL::{kind} AS {name}" for name, kind in columns.items())


# -- statements ------------------------------------------------------------------------------

# `live` is the old index. Temporary tables: `gone`, segments to be carried over, up to an offset if there is one;
# `differing`, segments with other rows than in the old index; `lacking`, events that only the old index has; `renamed`,
# the names of their versions; `batch`, rows for `loader.merge_batch`.

_OF_GONE = "JOIN gone ON gone.name = old.segment WHERE upto IS NULL OR line_offset < upto"
CREATE_GONE = """
CREATE OR REPLACE TEMP TABLE gone AS
SELECT name, NULL::BIGINT AS upto FROM live.segments WHERE name NOT IN (SELECT unnest(?::VARCHAR[]))
"""
CREATE_GONE_OF_RELEASED = """
CREATE OR REPLACE TEMP TABLE gone AS
FROM {rows} SEMI JOIN (FROM live.segments WHERE released) USING (name)
"""
COUNT_GONE = "SELECT count(*) FROM gone"
COUNT_DELETED = """
SELECT sum(events) FROM live.segments SEMI JOIN gone USING (name)
WHERE NOT released AND name NOT IN (SELECT unnest(?::VARCHAR[]))
"""
COUNT_OF_SEGMENTS = "SELECT sum(events) FROM live.segments WHERE name IN (SELECT unnest(?::VARCHAR[]))"
RELEASE_OTHERS = "UPDATE segments SET released = true WHERE name NOT IN (SELECT unnest(?::VARCHAR[]))"
CREATE_BATCH_OF_GONE = f"CREATE OR REPLACE TEMP TABLE batch AS SELECT {{columns}} FROM live.{{table}} old {_OF_GONE}"
DELETE_REJECTED_OF_GONE = "DELETE FROM rejected WHERE segment IN (SELECT name FROM gone)"
CARRY_REJECTED_OF_GONE = f"INSERT INTO rejected BY NAME SELECT old.* FROM live.rejected old {_OF_GONE}"
DELETE_SEGMENTS_OF_GONE = "DELETE FROM segments WHERE name IN (SELECT name FROM gone)"
CARRY_SEGMENTS_OF_GONE = "INSERT INTO segments BY NAME FROM live.segments SEMI JOIN gone USING (name)"
#: An index of an older schema has no such column.
FILL_TORN_BYTES = "UPDATE segments SET torn_bytes = 0 WHERE torn_bytes IS NULL"
CREATE_RENAMED = f"""
CREATE OR REPLACE TEMP TABLE renamed AS
SELECT old.name, {VERSION} AS version
FROM live.segments old JOIN (SELECT segment AS name, {ROWS_DIGEST} FROM live.event_rows GROUP BY 1) USING (name)
WHERE old.name IN (SELECT segment FROM lacking)
"""
CREATE_BATCH_OF_LACKING = f"""
CREATE OR REPLACE TEMP TABLE batch AS
SELECT {{columns}} FROM live.event_rows old
JOIN renamed ON renamed.name = old.segment SEMI JOIN lacking ON {loader.same_event("old", "lacking")}
"""
CARRY_REJECTED_OF_RENAMED = """
INSERT INTO rejected BY NAME
SELECT old.* REPLACE (version AS segment) FROM live.rejected old JOIN renamed ON renamed.name = old.segment
WHERE NOT EXISTS (FROM rejected new WHERE (new.segment, new.line_offset, new.length, new.raw)
    = (old.segment, old.line_offset, old.length, old.raw))
"""
DELETE_SEGMENTS_OF_RENAMED = "DELETE FROM segments WHERE name IN (SELECT version FROM renamed)"
CARRY_SEGMENTS_OF_RENAMED = """
INSERT INTO segments BY NAME
SELECT old.* REPLACE (version AS name, true AS released) FROM live.segments old JOIN renamed USING (name)
"""
_DIGESTS = f"SELECT segment, {ROWS_DIGEST}"
CREATE_DIFFERING = f"""
CREATE OR REPLACE TEMP TABLE differing AS
SELECT segment FROM ({_DIGESTS} FROM live.event_rows GROUP BY segment)
ANTI JOIN ({_DIGESTS} FROM event_rows GROUP BY segment) USING (segment, row_count, row_sum)
"""
COUNT_DIFFERING = "SELECT count(*) FROM differing"
CREATE_LACKING = f"""
CREATE OR REPLACE TEMP TABLE lacking AS
SELECT segment, workspace, event_id
FROM live.event_rows old SEMI JOIN differing USING (segment)
ANTI JOIN event_rows ON {loader.same_event("old", "event_rows")}
"""
COUNT_LACKING = "SELECT count(*) FROM lacking"
SELECT_LIVE_COLUMNS = "SELECT column_name FROM duckdb_columns() WHERE database_name = 'live' AND table_name = ?"
