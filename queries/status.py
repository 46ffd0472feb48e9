"""The state of a root: what the log holds, how far the index is, and who holds it.

segments in the log ──┐
                      ├─→ State: each segment with its lag ──→ Status: also without an index, or one that is busy
rows of `segments` ───┘
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from eventlog.errors import IndexBusy, IndexFailed, InvalidEvent
from eventlog.format import envelope, timestamps
from eventlog.indexer.alarm import ALARM_EVENT
from eventlog.indexer.index import index_file, lock
from eventlog.indexer.sql import literal
from eventlog.log import layout, reader
from eventlog.log.layout import SegmentFile
from eventlog.queries.access.reader import IndexReader
from eventlog.queries.rows import rows_as_dicts
from eventlog.record.drops import DROPPED_EVENT

#: How many lagging segments are read to find the line that waits longest.
_LAG_SAMPLES_MAX = 1000


class SegmentState(msgspec.Struct, frozen=True, kw_only=True):
    """A segment: what the log holds and how far the index is. Lag is in bytes."""

    name: str
    event_type: str
    size_bytes: int
    indexed_offset: int
    lines: int
    events: int
    rejected: int
    sealed: bool
    released: bool
    lag_bytes: int


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What the index holds at one moment.

    `rows` are those of the view `events`. `copies` counts lines that a program copied from another session, and
    `conflicts` lines with the id of an earlier one and other content: neither is a row of `events`.
    `dropped` sums up what producers could not write and reported later (`events_dropped`);
    `alarms` counts segments that were not as the indexer left them (`index_alarm`).
    """

    segments: list[SegmentState]
    rows: int
    copies: int
    conflicts: int
    quarantined: int
    dropped: int
    alarms: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What `eventlog status` shows. Sizes in bytes, lag in bytes and seconds; None is "not known": there is no index.

    `index` is ok, busy, none, or what is wrong with it. `events` counts lines of the log that are events, `rows` those
    of the view `events`: without `copies` and `conflicts` (see State) and lines that came again with the same content.
    """

    root: str
    segments: int
    log_bytes: int
    oddities: list[str]
    index: str
    index_bytes: int
    events: int | None
    rows: int | None
    copies: int | None
    conflicts: int | None
    quarantined: int | None
    dropped: int | None
    alarms: int | None
    lag_bytes: int | None
    lag_s: float | None
    held_by: list[str]


TOTALS = f"""
    SELECT (SELECT count(*) FROM events) AS rows,
           (SELECT count(*) FROM copies) AS copies,
           (SELECT count(*) FROM conflicts) AS conflicts,
           (SELECT count(*) FROM quarantine) AS quarantined,
           (SELECT coalesce(sum(TRY_CAST(payload ->> 'count' AS BIGINT)), 0)
            FROM events WHERE event_type = {literal(DROPPED_EVENT)}) AS dropped,
           (SELECT count(*) FROM events WHERE event_type = {literal(ALARM_EVENT)}) AS alarms
"""
SEGMENTS = f"SELECT {', '.join(name for name in SegmentState.__struct_fields__ if name != 'lag_bytes')} FROM segments"


def state(connection: duckdb.DuckDBPyConnection, root: Path) -> State:
    """Return what the index holds, and the lag of every segment that the log or the index knows."""
    (totals,) = rows_as_dicts(connection.execute(TOTALS))
    indexed = rows_as_dicts(connection.execute(SEGMENTS))
    return State(segments=_segments(root, {row["name"]: row for row in indexed}), **totals)


def _segments(root: Path, indexed: dict[str, dict[str, Any]]) -> list[SegmentState]:
    files = layout.list_log(root).segments
    segments = dict(indexed)
    for file in files:
        segment = segments.setdefault(
            file.name,
            {"event_type": file.event_type, "name": file.name, "released": False}
            | dict.fromkeys(("indexed_offset", "lines", "events", "rejected"), 0),
        )
        segment |= {"size_bytes": max(file.size, segment.get("size_bytes", 0)), "sealed": file.sealed}
    in_log = {file.name for file in files}
    states = [
        SegmentState(
            **segment,
            lag_bytes=max(segment["size_bytes"] - segment["indexed_offset"], 0) if name in in_log else 0,
        )
        for name, segment in segments.items()
    ]
    return sorted(states, key=lambda segment: (segment.event_type, segment.name))


def status(root: str | Path, *, wait_s: float = 5.0) -> Status:
    """Look at a root. Works without an index, and while somebody else holds it; then most numbers are None."""
    listing = layout.list_log(root)
    path = index_file.index_path(root)
    held_by = lock.index_holders(root)
    indexed: State | None = None
    try:
        with IndexReader(root, wait_s=wait_s).trusted() as connection:
            indexed = state(connection, Path(root))
        condition = "ok"
    except IndexBusy:
        condition = "busy"
    except IndexFailed as error:
        condition = "none" if not path.exists() else str(error)
    lagging = [segment for segment in indexed.segments if segment.lag_bytes and not segment.released] if indexed else []
    return Status(
        root=str(root),
        segments=len(listing.segments),
        log_bytes=sum(segment.size for segment in listing.segments),
        oddities=[_text(f"{entry.path}: {entry.reason}") for entry in listing.skipped],
        index=condition,
        index_bytes=path.stat().st_size if path.exists() else 0,
        events=sum(segment.events for segment in indexed.segments) if indexed else None,
        rows=indexed.rows if indexed else None,
        copies=indexed.copies if indexed else None,
        conflicts=indexed.conflicts if indexed else None,
        quarantined=indexed.quarantined if indexed else None,
        dropped=indexed.dropped if indexed else None,
        alarms=indexed.alarms if indexed else None,
        lag_bytes=sum(segment.lag_bytes for segment in lagging) if indexed else None,
        lag_s=_lag_s(lagging, {segment.name: segment for segment in listing.segments}) if indexed else None,
        held_by=held_by,
    )


def _text(text: str) -> str:
    """File names may be any bytes; what is shown is Unicode."""
    return text.encode("utf-8", "backslashreplace").decode()


def _lag_s(lagging: list[SegmentState], files: dict[str, SegmentFile]) -> float:
    """Return for how long the longest waiting line has waited.

    A line waits since it was written: not before its event happened, nor before its segment
    was created (an imported event may be years old).
    """
    now = time.time()
    waits = [0.0]
    for segment in lagging[:_LAG_SAMPLES_MAX]:
        file = files.get(segment.name)
        line = file and reader.read_line_at(file.path, segment.indexed_offset)
        if not line:
            continue
        try:
            moment = timestamps.parse(envelope.decode(line).envelope.timestamp).timestamp()
        except InvalidEvent:
            moment = 0.0
        waits.append(now - max(moment, layout.created_s(segment.name) or 0.0))
    return round(max(waits), 3)
