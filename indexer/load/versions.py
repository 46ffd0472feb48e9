"""When the log's file is not the one that was indexed: the rows of the earlier version stay.

The name of a segment does not tell its bytes. A shorter copy comes back from a backup and is continued, an
old folder is copied over the log, a power cut takes the end of a file. What was indexed may then be in no
file any more, and its ids were acknowledged:

    segment N in the index, another file N in the log
        → the rows of N are given the name N~<version>, whose only home is the index (`released`)
        → N has no checkpoint any more, and is read from its first byte

Lines that both files have are one event, at its smaller place: in N. What is left at N~<version> are the
rows that only the earlier file had. Replays carry them over as they do those of pruned segments.

A version is named by what it holds, so that the same one gets the same name however often files are exchanged.
"""

from __future__ import annotations

from pathlib import Path

import duckdb
import msgspec

from eventlog.errors import InvalidEvent
from eventlog.format import envelope
from eventlog.indexer.index import checkpoint
from eventlog.indexer.index.checkpoint import Checkpoint
from eventlog.indexer.load import loader
from eventlog.indexer.load.staging import as_table
from eventlog.indexer.sql import literal
from eventlog.log.layout import SegmentFile
from eventlog.log.reader import read_lines
from eventlog.log.zst import open_segment

#: Between the name of a segment and that of its version. No segment's name has it.
MARK = "~"
#: What tells the rows of one segment from those of another, in SQL: how many they are, and the sum of their hashes.
ROWS_DIGEST = "count(*) AS row_count, sum(hash(workspace, event_id)) AS row_sum"
#: The name of a version, in SQL, where `old` is a row of `segments` with its digest.
VERSION = (
    f"old.name || {literal(MARK)} || "
    "left(md5(concat_ws(':', old.indexed_offset, old.tail_hash, row_count, row_sum)), 16)"
)

_QUARANTINED_TOGETHER = 1000
_EVENTS_TOGETHER = 100_000


def retire(connection: duckdb.DuckDBPyConnection, file: SegmentFile) -> str | None:
    """Keep what was indexed of an earlier file under a name of its own; return that name.

    None where the index and the file fit by now: another indexer was here. Raises SegmentUnreadable.
    """
    mark = checkpoint.read(connection, [file.name]).get(file.name)
    if mark is None or not is_other(connection, mark, file):
        return None
    row = connection.execute(
        f"""
        SELECT {VERSION} FROM segments old, (SELECT {ROWS_DIGEST} FROM event_rows WHERE segment = $name)
        WHERE old.name = $name
        """,
        {"name": file.name},
    ).fetchone()
    assert row is not None
    version = str(row[0])
    connection.begin()
    for table in ("event_rows", "conflicts", "rejected"):
        connection.execute(f"UPDATE {table} SET segment = ? WHERE segment = ?", [version, file.name])
    _drop_what_comes_again(connection, version, file)
    connection.execute("DELETE FROM segments WHERE name IN (?, ?)", [file.name, version])
    mark.name, mark.released = version, True
    checkpoint.write(connection, [mark])
    connection.commit()
    return version


def is_other(connection: duckdb.DuckDBPyConnection, mark: Checkpoint, file: SegmentFile) -> bool:
    """Say whether a file is another one than was indexed, by its end; one that came back, by all of its lines."""
    if checkpoint.difference(mark, file.path, file.size) is not None:
        return True
    return mark.released and _has_other_lines(connection, mark, file.path)


def _has_other_lines(connection: duckdb.DuckDBPyConnection, mark: Checkpoint, path: Path) -> bool:
    """Say whether a file has an event, before the indexed offset, that is no row."""
    events: list[bytes] = []
    for line in read_lines(path, end=mark.settled_offset):
        try:
            found = envelope.decode(line.data).envelope
        except InvalidEvent:
            continue
        events.append(msgspec.json.encode({"workspace": found.workspace, "event_id": found.event_id}))
        if len(events) >= _EVENTS_TOGETHER:
            if _lacks(connection, events):
                return True
            events.clear()
    return bool(events) and _lacks(connection, events)


def _lacks(connection: duckdb.DuckDBPyConnection, events: list[bytes]) -> bool:
    with as_table(events, "workspace: 'VARCHAR', event_id: 'UUID'") as table:
        lacking = (
            f"SELECT 1 FROM {table} found ANTI JOIN event_rows ON {loader.same_event('found', 'event_rows')} LIMIT 1"
        )
        return connection.execute(lacking).fetchone() is not None


def _drop_what_comes_again(connection: duckdb.DuckDBPyConnection, version: str, file: SegmentFile) -> None:
    """Of the quarantine of a version, only what the file does not have is kept: the rest is about to be read again."""
    found = connection.execute("SELECT line_offset, length, raw FROM rejected WHERE segment = ?", [version])
    again: list[int] = []
    with open_segment(file.path) as opened:
        while some := found.fetchmany(_QUARANTINED_TOGETHER):
            again += [
                offset
                for offset, length, raw in some
                if offset + length <= file.size and opened.pread(len(raw), offset) == raw
            ]
    connection.execute(
        "DELETE FROM rejected WHERE segment = ? AND line_offset IN (SELECT unnest(?::BIGINT[]))", [version, again]
    )
