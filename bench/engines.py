"""The same events in plain DuckDB and in SQLite, loaded and queried by hand. In child processes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: The envelope with the types that it has in our index; the payload as JSON.
COLUMNS = {
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
}


def lines_of(log: str | Path) -> str:
    """Return a FROM clause that reads a log with DuckDB's JSON reader."""
    files = sorted(map(str, Path(log).glob("*/*.jsonl")))
    columns = ", ".join(f"{name}: '{kind}'" for name, kind in COLUMNS.items())
    return f"SELECT * FROM read_json({files}, format = 'newline_delimited', columns = {{{columns}}})"


def load_with_duckdb(log: str, path: str) -> int:
    """Load a log into a new DuckDB file, default settings, checkpoint included; return the number of rows."""
    import duckdb

    with duckdb.connect(path) as connection:
        connection.execute(f"CREATE TABLE events AS {lines_of(log)}")
        connection.execute("CHECKPOINT")
        row = connection.execute("SELECT count(*) FROM events").fetchone()
    return int(row[0]) if row else 0


def count_rows(path: str) -> int:
    """Return the number of events in an index."""
    import duckdb

    with duckdb.connect(path, read_only=True) as connection:
        row = connection.execute("SELECT count(*) FROM events").fetchone()
    return int(row[0]) if row else 0


def load_with_sqlite(log: str, path: str) -> int:
    """Load a log into a new SQLite file with an index on (event_type, timestamp); return the number of rows."""
    import msgspec

    from eventlog.format.envelope import Envelope

    decoder = msgspec.json.Decoder(Envelope)

    def rows() -> Iterator[tuple[Any, ...]]:
        for file in sorted(Path(log).glob("*/*.jsonl")):
            with file.open("rb") as lines:
                for line in lines:
                    event = decoder.decode(line)
                    yield (
                        *(getattr(event, name) for name in COLUMNS if name != "payload"),
                        bytes(event.payload).decode(),
                    )

    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(f"CREATE TABLE events ({', '.join(COLUMNS)})")
    connection.executemany(f"INSERT INTO events VALUES ({', '.join('?' * len(COLUMNS))})", rows())
    connection.execute("CREATE INDEX by_type ON events (event_type, timestamp)")
    connection.execute("ANALYZE")
    connection.commit()
    (count,) = connection.execute("SELECT count(*) FROM events").fetchone()
    connection.close()
    return int(count)
