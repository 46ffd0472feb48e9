"""Reads catch up with the log: what is new is indexed first, if that is quick; if not, an answer says what it lacks.

    sizes of the segments − offsets in the index = lag ──small──→ indexed, within a time
                                                       └─else───→ Behind: how much an answer lacks, and why

To look costs a listing of the log; the index is opened for writing only where there is something new. What goes wrong
with that stops no read: it answers from the index as it stands (docs/decisions/0037).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb
import msgspec

from eventlog.errors import EventlogError, IndexBusy, IndexFailed, SegmentUnreadable
from eventlog.indexer.index import index_file
from eventlog.indexer.index.index_file import HURRIED_BYTES_PER_S
from eventlog.log import layout, reader
from eventlog.log.layout import SegmentFile
from eventlog.log.segment import is_owned
from eventlog.queries.text.units import size

#: Called with the bytes done so far, and the total.
Progress = Callable[[int, int], None]
_TOO_MUCH = "indexing takes longer than a read may wait"


class Offsets(msgspec.Struct, frozen=True):
    """How far the index has each segment, by name; `ended` are those that are indexed to their end, and sealed."""

    by_name: Mapping[str, int] = {}
    ended: frozenset[str] = frozenset()


class Behind(msgspec.Struct, frozen=True):
    """What an answer lacks: `bytes` of the log, and why they are not indexed.

    `bytes` is None in a workspace, whose readers are not to know what others write.
    """

    bytes: int | None
    reason: str

    def __str__(self) -> str:
        lacks = "the newest events" if self.bytes is None else f"the newest {size(self.bytes)} of the log"
        return f"this answer is without {lacks}: {self.reason}; try: eventlog index"


def read_offsets(connection: duckdb.DuckDBPyConnection) -> Offsets:
    """Return how far the segments are indexed, from an index that is open."""
    rows = connection.execute(SELECT_OFFSETS).fetchall()
    return Offsets({name: offset for name, offset, _ in rows}, frozenset(name for name, _, ended in rows if ended))


SELECT_OFFSETS = "SELECT name, indexed_offset, sealed AND indexed_offset >= size_bytes FROM segments"


def lag_bytes(root: Path, offsets: Offsets) -> int:
    """Return how many bytes of the log are not indexed, without lines that somebody is writing at this moment."""
    segments = layout.list_log(root, skip=offsets.ended).segments
    lags = ((segment, segment.size - offsets.by_name.get(segment.name, 0)) for segment in segments)
    return sum(lag for segment, lag in lags if lag > 0 and not _is_being_written(segment, segment.size - lag))


def _is_being_written(segment: SegmentFile, offset: int) -> bool:
    """Return whether there is no more after an offset than the beginning of a line, and its writer lives."""
    try:
        return reader.read_line_at(segment.path, offset) is None and is_owned(segment.path)
    except (SegmentUnreadable, OSError):
        return False


def catch_up(
    root: Path,
    offsets: Callable[[], Offsets | None],
    *,
    within_s: float,
    say: Callable[[str], None],
    progress: Progress | None = None,
) -> Behind | None:
    """Index what is new in the log, for about `within_s` seconds at most; return what is left after that, if anything.

    `offsets` reads those of the index; it returns None where the index is of an earlier version. `say` gets the
    warnings of the indexer. Raises IndexFailed where there is no index, and it takes too long to make one.
    """
    path = index_file.index_path(root)
    try:
        before = offsets() if path.exists() else Offsets()
        if before is None:  # either this makes a current one of it, or the question says what to do
            _index(root, within_s, say, progress)
            return None
        lag = lag_bytes(root, before)
    except OSError as error:  # a folder of the log that may not be read
        return Behind(None, f"{error.filename}: {error.strerror or error}")
    if not path.exists() and not lag:
        raise IndexFailed(f"there is no index at {path}: nothing is recorded here yet; `eventlog` says how to begin")
    if not lag:
        return None
    reason = _TOO_MUCH if lag > within_s * HURRIED_BYTES_PER_S else _index(root, within_s, say, progress)
    if reason is None:
        return None
    if not path.exists():
        raise IndexFailed(f"there is no index at {path} of {size(lag)} of log: {reason}; try: eventlog index")
    after = offsets()
    left = lag if after is None else lag_bytes(root, after)
    return Behind(left, reason) if left else None


def behind_in_workspace(root: Path, offsets: Callable[[], Offsets | None]) -> Behind | None:
    """Return what answers about one workspace may lack, without a figure; nothing is indexed."""
    before = offsets() if index_file.index_path(root).exists() else None
    try:
        is_behind = before is not None and lag_bytes(root, before) > 0
    except OSError:
        return Behind(None, "the log cannot be read")
    return Behind(None, "a reader of one workspace indexes nothing") if is_behind else None


def _index(root: Path, within_s: float, say: Callable[[str], None], progress: Progress | None) -> str | None:
    """Index what is new; return the reason why some of it may be left."""
    path = index_file.index_path(root)
    if not all(os.access(file, os.W_OK, effective_ids=True) for file in (root, path) if file.exists()):
        return "the index is read-only here"
    from eventlog.indexer.indexer import Indexer  # noqa: PLC0415 - it takes longer than to see that nothing is new

    deadline = time.monotonic() + within_s
    try:
        Indexer(root, timeout_s=within_s, within_s=within_s, say=say).catch_up(progress)
    except IndexBusy:
        return "another process holds the index"
    except (EventlogError, OSError, duckdb.Error) as error:
        return str(error).removesuffix("; try: eventlog index")
    return _TOO_MUCH if time.monotonic() >= deadline else None
