"""`segments_backed_up` events: the log says which finished segments a destination has, so that they may be deleted.

What was logged is read from the log, not remembered: a run that was killed leaves nothing to repair.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from eventlog.config import Config
from eventlog.format.control import Role
from eventlog.log import reader
from eventlog.record.recorder import Recorder

BACKED_UP_EVENT = "segments_backed_up"
_SEGMENTS_PER_EVENT = 1000


class BackedUpSegment(msgspec.Struct, frozen=True):
    """A finished segment with a verified copy. `sha256` and `size_bytes` are of its uncompressed bytes."""

    segment: str
    sha256: str
    size_bytes: int


class SegmentsBackedUp(msgspec.Struct, frozen=True):
    """Payload of `segments_backed_up`: these segments can be restored from the destination."""

    destination: str
    segments: list[BackedUpSegment]


def log_copies(root: str | Path, segments: list[BackedUpSegment], destination: str) -> None:
    """Record that a destination has these segments. Raises WriteFailed where the log cannot be written."""
    if not segments:
        return
    recorder = Recorder(Config(root=str(root), strict=True), role=Role.MAINTENANCE)
    try:
        for start in range(0, len(segments), _SEGMENTS_PER_EVENT):
            part = segments[start : start + _SEGMENTS_PER_EVENT]
            recorder.emit(BACKED_UP_EVENT, SegmentsBackedUp(destination, part))
    finally:
        recorder.shutdown()


def read_copies(root: str | Path) -> Iterator[tuple[str, BackedUpSegment]]:
    """Yield (destination, segment) for each copy that the log names, oldest first. Raises SegmentUnreadable."""
    for _, event in reader.read_events(root, BACKED_UP_EVENT):
        with contextlib.suppress(msgspec.MsgspecError):
            backed_up = msgspec.json.decode(event.payload, type=SegmentsBackedUp)
            for segment in backed_up.segments:
                yield backed_up.destination, segment
