"""The tables of the index. docs/schema.md describes them for people who query.

The content of the index depends on the bytes of the log and on nothing else: no insertion times, no counters that
depend on the order of arrival. So a replay can be compared with the live index, row for row (docs/decisions/0001).
"""

from __future__ import annotations

import os
import re

import duckdb

from eventlog.indexer.sql import literal, unquote
from eventlog.version import __version__

#: Increase it whenever a table, a view or the meaning of a column changes: an index with another number is rebuilt from
#: the log.
SCHEMA_VERSION = 22

#: Envelope columns, in order, with their DuckDB types. Together they are the content of an event.
CONTENT = {
    "event_id": "UUID",
    "event_type": "VARCHAR",
    "timestamp": "TIMESTAMP",
    "run_id": "VARCHAR",
    "request_id": "VARCHAR",
    "session_id": "VARCHAR",
    "parent_event_id": "VARCHAR",
    "cycle": "BIGINT",
    "turn_number": "BIGINT",
    "audit_level": "VARCHAR",
    "workspace": "VARCHAR",
    "agent": "VARCHAR",
    "schema_version": "INTEGER",
    "payload": "JSON",
    "extra": "JSON",
}
#: The position of an event's line in the log.
POSITION = {"segment": "VARCHAR", "line_offset": "BIGINT", "line_length": "BIGINT"}

#: Whether an event is a line that a program copied from another session (eventlog.indexer.load.copies); NULL if not.
COPIED = {"copied": "BOOLEAN"}

SEGMENTS = {
    "name": "VARCHAR",
    "event_type": "VARCHAR",
    "size_bytes": "BIGINT",
    "indexed_offset": "BIGINT",
    "lines": "BIGINT",
    "events": "BIGINT",
    "rejected": "BIGINT",
    "sealed": "BOOLEAN",
    "released": "BOOLEAN",
    "tail_hash": "VARCHAR",
    "torn_bytes": "BIGINT",
}
REJECTED = {
    "segment": "VARCHAR",
    "line_offset": "BIGINT",
    "length": "BIGINT",
    "reason": "VARCHAR",
    "raw": "BLOB",
}


def columns(*parts: dict[str, str]) -> str:
    """Return the names of columns for a SELECT: `event_id, event_type, …`."""
    return ", ".join(name for part in parts for name in part)


def _ddl(*parts: dict[str, str]) -> str:
    # zstd for documents: DuckDB's default compression takes longer to write, and more space.
    compressed = {"payload": " USING COMPRESSION zstd"}
    return ", ".join(f"{name} {kind}{compressed.get(name, '')}" for part in parts for name, kind in part.items())


#: `event_rows` also has promoted columns (eventlog.indexer.views.typed); the views `events` and `copies` hide them.
_EVENT_ROWS = "CREATE TABLE event_rows ({});"
_TABLES = f"""
CREATE VIEW events WITH (DEFER_BINDING) AS SELECT {columns(CONTENT, POSITION)} FROM event_rows WHERE copied IS NULL;
CREATE VIEW copies WITH (DEFER_BINDING) AS SELECT {columns(CONTENT, POSITION)} FROM event_rows WHERE copied;
CREATE TABLE conflicts ({_ddl(CONTENT, POSITION)});
CREATE TABLE rejected ({_ddl(REJECTED)});
CREATE TABLE segments ({_ddl(SEGMENTS)});
CREATE TABLE index_meta (key VARCHAR, value VARCHAR);
"""
_QUARANTINE = f"""
SELECT segment, line_offset, length, reason, raw, NULL::UUID AS event_id FROM rejected
UNION ALL
SELECT segment, line_offset, line_length,
       'conflict: an earlier line has the same event_id and other content',
       encode(to_json(struct_pack({", ".join(f"{name} := {name}" for name in CONTENT)}))::VARCHAR),
       event_id
FROM conflicts
UNION ALL
SELECT segment, line_offset, line_length,
       'import: ' || coalesce(payload ->> 'reason', 'no reason given'),
       coalesce(TRY(from_base64(payload ->> 'raw_base64')), encode(payload ->> 'raw'), encode(payload::VARCHAR)),
       event_id
FROM (SELECT * FROM events WHERE event_type = 'import_rejected') AS record
ANTI JOIN (
    SELECT workspace, TRY_CAST(payload ->> 'rejected' AS UUID) AS recovered_id
    FROM events WHERE event_type = 'import_recovered'
) AS recovered
  ON record.event_id = recovered_id AND record.workspace IS NOT DISTINCT FROM recovered.workspace
"""
_EVENT_TYPES = """
SELECT event_type, count(*) AS events, min(timestamp) AS first, max(timestamp) AS last
FROM events GROUP BY event_type
"""
_VIEW = re.compile(r"""CREATE VIEW \w+ AS SELECT \* FROM "system"\.main\.query\('((?:[^']|'')*)'\);""")


def view(name: str, query: str, *, replace: bool = False) -> str:
    """Return the CREATE VIEW statement for `query`; with `replace`, for a view that is there already.

    DuckDB stores a view as a parse tree, which every batch and every query would read, and every batch would write.
    This view stores `query` as a text, which DuckDB parses when the view is queried (docs/decisions/0022).
    """
    # The full name, since a user may have a macro called `query`.
    create = "CREATE OR REPLACE VIEW" if replace else "CREATE VIEW"
    return f"{create} {name} WITH (DEFER_BINDING) AS FROM system.main.query({literal(query.strip())})"


def query_of(definition: str) -> str | None:
    """Extract the query from the stored definition of a view; None if `view()` did not create it.

    `definition` is the column `sql` of `duckdb_views()`.
    """
    match = _VIEW.fullmatch(definition)
    return unquote(match[1]) if match else None


def create_tables(connection: duckdb.DuckDBPyConnection, promoted: dict[str, str]) -> None:
    """Create the tables in an empty database. (`projections.create` calls this and adds the other views.)

    `promoted` are the promoted columns of a new index: quoted names and their DuckDB types.
    """
    connection.execute(_EVENT_ROWS.format(_ddl(CONTENT, POSITION, COPIED, promoted)))
    connection.execute(_TABLES)
    connection.execute(view("quarantine", _QUARANTINE))
    connection.execute(view("event_types", _EVENT_TYPES))
    connection.execute(INSERT_META, [str(SCHEMA_VERSION), __version__, duckdb.__version__, os.urandom(16).hex()])


INSERT_META = "INSERT INTO index_meta VALUES ('schema_version', ?), ('eventlog', ?), ('duckdb', ?), ('id', ?)"
SELECT_ID = "SELECT value FROM index_meta WHERE key = 'id'"
#: The key of a random text that is there once rows were moved to another segment, and another one each time.
MOVED_KEY = "moved"
SELECT_VERSION = "SELECT value FROM index_meta WHERE key = 'schema_version'"
HAS_TABLES = "SELECT count(*) > 0 FROM duckdb_tables() WHERE database_name = current_database()"


def identity(connection: duckdb.DuckDBPyConnection) -> str:
    """Return the random id of an index, 32 hexadecimal digits; "" if it is older than these ids."""
    row = connection.execute(SELECT_ID).fetchone()
    return str(row[0]) if row else ""


def version(connection: duckdb.DuckDBPyConnection) -> int | None:
    """Return the schema version of an index; None for an empty file; -1 for a database that is not an index."""
    try:
        rows = connection.execute(SELECT_VERSION).fetchall()
    except (duckdb.CatalogException, duckdb.BinderException):  # no such table, or one of another program
        # Only here: listing the tables takes ten times as long, and every query would pay for it.
        ((has_tables,),) = connection.execute(HAS_TABLES).fetchall()
        return -1 if has_tables else None
    return int(rows[0][0]) if rows and str(rows[0][0]).isdigit() else -1
