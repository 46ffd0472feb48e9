"""The tables of the index. docs/schema.md describes them for those who query.

What is in the index is a function of the bytes of the log and of nothing else: no
insertion times, no counters that depend on the order of arrival. That is what lets a
replay be compared with the live index, row for row.
"""

from __future__ import annotations

import os
import re

import duckdb

from eventlog.indexer.sql import literal, unquote
from eventlog.version import __version__

#: Raise it whenever a table, a projection or the meaning of a column changes: indexes that
#: carry another number are rebuilt from the log.
SCHEMA_VERSION = 12

#: Envelope columns, in order, with their DuckDB types. Together they are an event's content.
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
    """Return a column list for a SELECT."""
    return ", ".join(name for part in parts for name in part)


def _ddl(*parts: dict[str, str]) -> str:
    # zstd on the documents: DuckDB's default choice costs more to write, and more space.
    compressed = {"payload": " USING COMPRESSION zstd"}
    return ", ".join(f"{name} {kind}{compressed.get(name, '')}" for part in parts for name, kind in part.items())


#: `event_rows` also has the typed columns (eventlog.indexer.views.typed); `events` is what there is to see of it.
_EVENT_ROWS = "CREATE TABLE event_rows ({});"
_TABLES = f"""
CREATE VIEW events WITH (DEFER_BINDING) AS SELECT {columns(CONTENT, POSITION)} FROM event_rows;
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
FROM events WHERE event_type = 'import_rejected'
"""
_EVENT_TYPES = """
SELECT event_type, count(*) AS events, min(timestamp) AS first, max(timestamp) AS last
FROM events GROUP BY event_type
"""
_VIEW = re.compile(r"""CREATE VIEW \w+ AS SELECT \* FROM "system"\.main\.query\('((?:[^']|'')*)'\);""")


def view(name: str, query: str) -> str:
    """Return what makes a view of ours.

    DuckDB keeps a view as a tree, which every batch and every question would read, and every batch write. This one is a
    text, which is parsed when somebody asks the view; and to make it looks at nothing.
    """
    # By its full name, since whoever asks may have a macro called `query`.
    return f"CREATE VIEW {name} WITH (DEFER_BINDING) AS FROM system.main.query({literal(query.strip())})"


def query_of(definition: str) -> str | None:
    """Return the query of a view of ours, of what DuckDB says that it is; None for one that `view` has not made."""
    found = _VIEW.fullmatch(definition)
    return unquote(found[1]) if found else None


def create_tables(connection: duckdb.DuckDBPyConnection, kept: dict[str, str]) -> None:
    """Make the tables in an empty database; `projections.create` does so, and adds the views.

    `kept` are the columns beside the payload that are there from the start, by their quoted names.
    """
    connection.execute(_EVENT_ROWS.format(_ddl(CONTENT, POSITION, kept)))
    connection.execute(_TABLES)
    connection.execute(view("quarantine", _QUARANTINE))
    connection.execute(view("event_types", _EVENT_TYPES))
    connection.execute(
        "INSERT INTO index_meta VALUES ('schema_version', ?), ('eventlog', ?), ('duckdb', ?), ('id', ?)",
        [str(SCHEMA_VERSION), __version__, duckdb.__version__, os.urandom(16).hex()],
    )


def identity(connection: duckdb.DuckDBPyConnection) -> str:
    """Return what tells this index from any other, also from one with the same inode; "" for an early one."""
    row = connection.execute("SELECT value FROM index_meta WHERE key = 'id'").fetchone()
    return str(row[0]) if row else ""


_HAS_TABLES = "SELECT count(*) > 0 FROM duckdb_tables() WHERE database_name = current_database()"


def version(connection: duckdb.DuckDBPyConnection) -> int | None:
    """Return the schema version of an index; None for an empty file; -1 for one that is not ours."""
    try:
        rows = connection.execute("SELECT value FROM index_meta WHERE key = 'schema_version'").fetchall()
    except (duckdb.CatalogException, duckdb.BinderException):  # no such table, or one of somebody else's
        # Asked only here: to list the tables costs ten times as much, and every question would pay for it.
        ((has_tables,),) = connection.execute(_HAS_TABLES).fetchall()
        return -1 if has_tables else None
    return int(rows[0][0]) if rows and str(rows[0][0]).isdigit() else -1
