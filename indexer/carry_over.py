"""What only the old index has is carried over into the one that a replay has built from the log.

| in the old index, a segment           | what is carried                                                      |
| ------------------------------------- | -------------------------------------------------------------------- |
| that the log has not (any more)       | all of it, under its name: from now on the index is its only home    |
| that is there and cannot be read      | all of it, with its checkpoint: it is read on when that works again   |
| of which the log has another file     | the rows that are in no segment, under a name of their own (versions) |

What the log has is told by content, not by name and length: the two indexes are compared by the number of
rows of each segment and a sum of their hashes, and only where these differ by the ids themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import duckdb
import msgspec

from eventlog.indexer.index import schema
from eventlog.indexer.load import loader
from eventlog.indexer.load.staging import as_table
from eventlog.indexer.load.versions import ROWS_DIGEST, VERSION

_TABLES = ("events", "conflicts")


class Carried(NamedTuple):
    """Events that only the old index had, though nobody had released them: by what became of their segments."""

    deleted: int = 0
    unreadable: int = 0
    replaced: int = 0

    @property
    def events(self) -> int:
        return sum(self)


def carry(connection: duckdb.DuckDBPyConnection, present: Collection[str], unreadable: Collection[str]) -> Carried:
    """Carry over from the attached database `live` what the log, with the segments that are present, has not."""
    readable = list(set(present) - set(unreadable))
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE gone AS SELECT name, NULL::BIGINT AS upto FROM live.segments "
        "WHERE name NOT IN (SELECT unnest(?::VARCHAR[]))",
        [readable],
    )
    deleted = _count(
        connection,
        "SELECT sum(events) FROM live.segments SEMI JOIN gone USING (name) "
        "WHERE NOT released AND name NOT IN (SELECT unnest(?::VARCHAR[]))",
        [list(unreadable)],
    )
    cut_short = _count(
        connection,
        "SELECT sum(events) FROM live.segments WHERE name IN (SELECT unnest(?::VARCHAR[]))",
        [list(unreadable)],
    )
    connection.begin()
    _carry_gone(connection)
    connection.execute(
        "UPDATE segments SET released = true WHERE name NOT IN (SELECT unnest(?::VARCHAR[]))", [list(present)]
    )
    replaced = _carry_replaced(connection)
    connection.commit()
    return Carried(deleted, cut_short, replaced)


def carry_released(connection: duckdb.DuckDBPyConnection, limits: Mapping[str, int]) -> None:
    """Carry over the segments that are released, up to the limits: their truth is the old index alone."""
    rows = (msgspec.json.encode({"name": name, "upto": upto}) for name, upto in limits.items())
    with as_table(rows, "name: 'VARCHAR', upto: 'BIGINT'") as table:
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE gone AS "
            f"FROM {table} SEMI JOIN (FROM live.segments WHERE released) USING (name)"
        )
    connection.begin()
    _carry_gone(connection)
    connection.commit()


def _carry_gone(connection: duckdb.DuckDBPyConnection) -> None:
    here = "JOIN gone ON gone.name = old.segment WHERE upto IS NULL OR line_offset < upto"
    if not _count(connection, "SELECT count(*) FROM gone"):
        return
    for table in _TABLES:
        names = _live_columns(connection, table)
        connection.execute(f"CREATE OR REPLACE TEMP TABLE batch AS SELECT {names} FROM live.{table} old {here}")
        loader.merge_batch(connection)
    connection.execute("DELETE FROM rejected WHERE segment IN (SELECT name FROM gone)")
    connection.execute(f"INSERT INTO rejected BY NAME SELECT old.* FROM live.rejected old {here}")
    connection.execute("DELETE FROM segments WHERE name IN (SELECT name FROM gone)")
    connection.execute("INSERT INTO segments BY NAME FROM live.segments SEMI JOIN gone USING (name)")
    connection.execute("UPDATE segments SET torn_bytes = 0 WHERE torn_bytes IS NULL")  # of an older schema


def _carry_replaced(connection: duckdb.DuckDBPyConnection) -> int:
    """Carry the rows of segments of which the log has another file; return how many there are."""
    lacking = find_lacking(connection)
    if not lacking:
        return 0
    names = _live_columns(connection, "events").replace("segment,", "version AS segment,")
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE renamed AS
        SELECT old.name, {VERSION} AS version
        FROM live.segments old JOIN (SELECT segment AS name, {ROWS_DIGEST} FROM live.events GROUP BY 1) USING (name)
        WHERE old.name IN (SELECT segment FROM lacking)
        """
    )
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE batch AS SELECT {names} FROM live.events old "
        f"JOIN renamed ON renamed.name = old.segment SEMI JOIN lacking ON {loader.same_event('old', 'lacking')}"
    )
    loader.merge_batch(connection)
    connection.execute(
        """
        INSERT INTO rejected BY NAME
        SELECT old.* REPLACE (version AS segment) FROM live.rejected old JOIN renamed ON renamed.name = old.segment
        WHERE NOT EXISTS (FROM rejected new WHERE (new.segment, new.line_offset, new.length, new.raw)
            = (old.segment, old.line_offset, old.length, old.raw))
        """
    )
    connection.execute("DELETE FROM segments WHERE name IN (SELECT version FROM renamed)")
    connection.execute(
        """
        INSERT INTO segments BY NAME
        SELECT old.* REPLACE (version AS name, true AS released) FROM live.segments old JOIN renamed USING (name)
        """
    )
    connection.execute("UPDATE segments SET torn_bytes = 0 WHERE torn_bytes IS NULL")
    return lacking


def find_lacking(connection: duckdb.DuckDBPyConnection) -> int:
    """Put into the temporary table `lacking` the events that only the old index has; return how many there are."""
    digests = f"SELECT segment, {ROWS_DIGEST}"
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE differing AS SELECT segment FROM ({digests} FROM live.events GROUP BY segment)
        ANTI JOIN ({digests} FROM event_rows GROUP BY segment) USING (segment, row_count, row_sum)
        """
    )
    if not _count(connection, "SELECT count(*) FROM differing"):
        return 0
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE lacking AS SELECT segment, workspace, event_id
        FROM live.events old SEMI JOIN differing USING (segment)
        ANTI JOIN event_rows ON {loader.same_event("old", "event_rows")}
        """
    )
    return _count(connection, "SELECT count(*) FROM lacking")


def _count(connection: duckdb.DuckDBPyConnection, query: str, parameters: list[list[str]] | None = None) -> int:
    row = connection.execute(query, parameters).fetchone()
    return int(row[0] or 0) if row else 0


def _live_columns(connection: duckdb.DuckDBPyConnection, table: str) -> str:
    """Today's columns as the live index has them: one of an older schema may lack some."""
    found = connection.execute(
        "SELECT column_name FROM duckdb_columns() WHERE database_name = 'live' AND table_name = ?", [table]
    ).fetchall()
    there = {row[0] for row in found}
    wanted = schema.CONTENT | schema.POSITION
    return ", ".join(name if name in there else f"NULL::{kind} AS {name}" for name, kind in wanted.items())
