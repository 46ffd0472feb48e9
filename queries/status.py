"""The state of a root in one look: what the log holds, how far the index is, who is in the way."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from eventlog.errors import IndexBusy, IndexFailed, InvalidEvent
from eventlog.format import envelope, timestamps
from eventlog.indexer.index import index_file, lock
from eventlog.log import layout, reader
from eventlog.log.layout import SegmentFile
from eventlog.queries.store import ReadStore, SegmentState, State

#: Of how many lagging segments the first waiting event is looked at.
_LAG_SAMPLES_MAX = 1000


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What `eventlog status` shows. Sizes in bytes; None is "not known", for want of an index."""

    root: str
    segments: int
    log_bytes: int
    oddities: list[str]
    index: str
    index_bytes: int
    events: int | None
    rows: int | None
    quarantined: int | None
    dropped: int | None
    alarms: int | None
    lag_bytes: int | None
    lag_s: float | None
    held_by: list[str]


def status(root: str | Path, *, wait_s: float = 5.0) -> Status:
    """Look at a root. Works without an index, and while somebody else holds it."""
    listing = layout.list_log(root)
    path = index_file.index_path(root)
    held_by = lock.index_holders(root)
    state: State | None = None
    try:
        state = ReadStore(root, wait_s=wait_s).state()
        found = "ok"
    except IndexBusy:
        found = "busy"
    except IndexFailed as error:
        found = "none" if not path.exists() else str(error)
    lagging = [each for each in state.segments if each.lag_bytes and not each.released] if state else []
    return Status(
        root=str(root),
        segments=len(listing.segments),
        log_bytes=sum(segment.size for segment in listing.segments),
        oddities=[_text(f"{entry.path}: {entry.reason}") for entry in listing.skipped],
        index=found,
        index_bytes=path.stat().st_size if path.exists() else 0,
        events=sum(each.events for each in state.segments) if state else None,
        rows=state.rows if state else None,
        quarantined=state.quarantined if state else None,
        dropped=state.dropped if state else None,
        alarms=state.alarms if state else None,
        lag_bytes=sum(each.lag_bytes for each in lagging) if state else None,
        lag_s=_lag_s(lagging, {each.name: each for each in listing.segments}) if state else None,
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
    for state in lagging[:_LAG_SAMPLES_MAX]:
        file = files.get(state.name)
        line = file and reader.read_line_at(file.path, state.indexed_offset)
        if not line:
            continue
        try:
            moment = timestamps.parse(envelope.decode(line).envelope.timestamp).timestamp()
        except InvalidEvent:
            moment = 0.0
        waits.append(now - max(moment, layout.created_s(state.name) or 0.0))
    return round(max(waits), 3)
