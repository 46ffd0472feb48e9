"""Versions of a segment: if the log has another file under its name, the rows of the earlier file stay.

A file may be exchanged under the same name: a shorter copy is restored from a backup and continued, an old folder is
copied over the log, a power cut takes the end of a file. Then perhaps no file has the indexed lines any more, though
their ids were acknowledged (docs/decisions/0023):

    segment N in the index, another file N in the log
        → the rows of N move to the segment N~<version>, which only the index has (`released`)
        → N loses its checkpoint, and is read from its first byte

A line that both files have is one event, at its lower position: in N. What stays at N~<version> are the rows that only
the earlier file had. Replays carry them over like the rows of pruned segments.

The name of a version is a hash of its content, so the same content gets the same name however often files are
exchanged.
"""

from __future__ import annotations

import os
from pathlib import Path

import duckdb
import msgspec

from eventlog.errors import InvalidEvent
from eventlog.format import envelope
from eventlog.indexer.index import checkpoint, schema
from eventlog.indexer.index.checkpoint import Checkpoint
from eventlog.indexer.load import loader
from eventlog.indexer.load.staging import as_table
from eventlog.indexer.sql import literal
from eventlog.log.layout import SegmentFile
from eventlog.log.reader import read_lines
from eventlog.log.zst import open_segment

#: Between the name of a segment and that of its version. No segment's name has it.
MARK = "~"
#: Columns of a SELECT: how many rows a segment has, and the sum of their hashes.
ROWS_DIGEST = "count(*) AS row_count, sum(hash(workspace, event_id)) AS row_sum"
#: SQL expression for the name of a version; `old` is a row of `segments` with ROWS_DIGEST.
VERSION = (
    f"old.name || {literal(MARK)} || "
    "left(md5(concat_ws(':', old.indexed_offset, old.tail_hash, row_count, row_sum)), 16)"
)

#: Rows that are read, and events that are looked up, at one time.
_QUARANTINED_ROWS = 1000
_EVENTS_MAX = 100_000


def retire(connection: duckdb.DuckDBPyConnection, file: SegmentFile) -> str | None:
    """Move the rows of an earlier file to a segment of their own; return its name, as `<name>~0123456789abcdef`.

    Returns None if index and file match by now: another indexer was here. Raises SegmentUnreadable.
    """
    mark = checkpoint.read(connection, [file.name]).get(file.name)
    if mark is None or not is_other(connection, mark, file):
        return None
    row = connection.execute(NAME_OF_VERSION, {"name": file.name}).fetchone()
    assert row is not None
    version = str(row[0])
    connection.begin()
    for statement in (RENAME_EVENTS, RENAME_CONFLICTS, RENAME_REJECTED):
        connection.execute(statement, [version, file.name])
    _drop_what_comes_again(connection, version, file)
    connection.execute(DELETE_SEGMENTS, [file.name, version])
    mark.name, mark.released = version, True
    checkpoint.write(connection, [mark])
    connection.execute(DELETE_MOVED)
    connection.execute(INSERT_MOVED, [os.urandom(16).hex()])
    connection.commit()
    return version


def is_other(connection: duckdb.DuckDBPyConnection, mark: Checkpoint, file: SegmentFile) -> bool:
    """Return whether a file is not the one that was indexed, by the bytes before its checkpoint.

    A file that is back after its segment was released is compared by all of its lines. Raises SegmentUnreadable.
    """
    if checkpoint.difference(mark, file.path, file.size) is not None:
        return True
    return mark.released and _has_other_lines(connection, mark, file.path)


def _has_other_lines(connection: duckdb.DuckDBPyConnection, mark: Checkpoint, path: Path) -> bool:
    """Return whether a file has an event before the indexed offset that is not in the index."""
    events: list[bytes] = []
    for line in read_lines(path, end=mark.complete_offset):
        try:
            event = envelope.decode(line.data).envelope
        except InvalidEvent:
            continue
        events.append(msgspec.json.encode({"workspace": event.workspace, "event_id": event.event_id}))
        if len(events) >= _EVENTS_MAX:
            if _lacks(connection, events):
                return True
            events.clear()
    return bool(events) and _lacks(connection, events)


def _lacks(connection: duckdb.DuckDBPyConnection, events: list[bytes]) -> bool:
    with as_table(events, "workspace: 'VARCHAR', event_id: 'UUID'") as table:
        return connection.execute(ANY_NOT_INDEXED.format(rows=table)).fetchone() is not None


def _drop_what_comes_again(connection: duckdb.DuckDBPyConnection, version: str, file: SegmentFile) -> None:
    """Delete quarantined lines of a version that the new file has, too: they are about to be read again."""
    rejected = connection.execute(SELECT_REJECTED, [version])
    again: list[int] = []
    with open_segment(file.path) as opened:
        while rows := rejected.fetchmany(_QUARANTINED_ROWS):
            again += [
                offset
                for offset, length, raw in rows
                if offset + length <= file.size and opened.pread(len(raw), offset) == raw
            ]
    connection.execute(DELETE_REJECTED, [version, again])


NAME_OF_VERSION = f"""
SELECT {VERSION} FROM segments old, (SELECT {ROWS_DIGEST} FROM event_rows WHERE segment = $name)
WHERE old.name = $name
"""
RENAME_EVENTS = "UPDATE event_rows SET segment = ? WHERE segment = ?"
RENAME_CONFLICTS = "UPDATE conflicts SET segment = ? WHERE segment = ?"
RENAME_REJECTED = "UPDATE rejected SET segment = ? WHERE segment = ?"
DELETE_SEGMENTS = "DELETE FROM segments WHERE name IN (?, ?)"
DELETE_MOVED = f"DELETE FROM index_meta WHERE key = {literal(schema.MOVED_KEY)}"
INSERT_MOVED = f"INSERT INTO index_meta VALUES ({literal(schema.MOVED_KEY)}, ?)"
ANY_NOT_INDEXED = (
    f"SELECT 1 FROM {{rows}} line ANTI JOIN event_rows ON {loader.same_event('line', 'event_rows')} LIMIT 1"
)
SELECT_REJECTED = "SELECT line_offset, length, raw FROM rejected WHERE segment = ?"
DELETE_REJECTED = "DELETE FROM rejected WHERE segment = ? AND line_offset IN (SELECT unnest(?::BIGINT[]))"
