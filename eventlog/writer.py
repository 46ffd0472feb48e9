"""The one write path: lines in, segments of the right type out.

The writer keeps one open segment per event type, decides when to leave it for a new one,
and adopts the segments of processes that are gone, so that a hook which runs once per
event does not leave a file per event.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from eventlog import log
from eventlog.errors import WriteFailed
from eventlog.segment import Segment

#: One `write(2)` is not kill-safe when huge, and readers see it half done.
_WRITE_MAX_BYTES = 1024 * 1024
#: Looking for a segment to adopt stops after this many: a new one is always right, too.
_ADOPT_MAX_TRIES = 16
_WRITE_TRIES = 3


class Writer:
    """Appends lines to the log under one root. Threads may share it; it is a `Sink`."""

    def __init__(self, root: str | Path, *, segment_max_bytes: int, segment_max_age_s: float) -> None:
        self.root = Path(root)
        self._max_bytes = segment_max_bytes
        self._max_age_s = segment_max_age_s
        self._open: dict[str, Segment] = {}
        # Segments that this writer gave up, full or faulty: it must not adopt them again.
        self._left: set[Path] = set()
        # Reentrant: a signal handler or a finalizer may emit in the middle of an emit.
        self._lock = threading.RLock()
        self.segments_opened = 0

    def write(self, event_type: str, data: bytes) -> None:
        """Append complete lines of one event type. Raises WriteFailed, naming the file."""
        written = 0
        with self._lock:
            try:
                for part in _parts(data):
                    for kept in self._append(event_type, part):
                        written += kept
            except WriteFailed as error:
                error.bytes_written = written
                error.lines_written = data.count(b"\n", 0, written)
                raise

    def flush(self) -> None:
        """Return when all that was written would survive a power cut. Raises WriteFailed."""
        with self._lock:
            for event_type, segment in list(self._open.items()):
                try:
                    segment.sync()
                except WriteFailed:
                    self._leave(event_type)
                    raise

    def close(self) -> None:
        """Sync and let go of all segments. The next write opens others."""
        with self._lock:
            try:
                self.flush()
            finally:
                self.abandon()

    def abandon(self) -> None:
        """Let go of all segments without a sync: what a forked child does with inherited ones.

        The parent's lock lives on in the parent's own descriptors.
        """
        with self._lock:
            for event_type in list(self._open):
                self._leave(event_type)
            self._left.clear()

    def after_fork(self) -> None:
        """Start afresh in a child: own segments, and a lock that no vanished thread holds."""
        self._lock = threading.RLock()
        self.abandon()

    def _append(self, event_type: str, data: bytes) -> Iterator[int]:
        """Append one part, yielding how many bytes each segment kept."""
        for attempt in range(_WRITE_TRIES):
            try:
                segment = self._segment_for(event_type, len(data))
                kept = segment.append(data)
            except OSError as error:
                place = self._open[event_type].path if event_type in self._open else log.log_folder(self.root)
                self._leave(event_type)
                if attempt + 1 == _WRITE_TRIES:
                    raise WriteFailed(f"{place}: {error.strerror or error}; {len(data)} bytes not written") from error
                continue
            yield kept
            data = data[kept:]
            if not data:
                return
            self._leave(event_type)  # a short write: never append behind it
        raise WriteFailed(f"{log.log_folder(self.root)}: no space for {len(data)} bytes; free some or move the root")

    def _segment_for(self, event_type: str, size: int) -> Segment:
        segment = self._open.get(event_type)
        if segment is not None and self._is_full(segment, size):
            self._leave(event_type)
            segment = None
        if segment is None:
            folder = log.log_folder(self.root) / event_type
            segment = self._adopt(event_type, size) or Segment.create(folder)
            self._open[event_type] = segment
            self.segments_opened += 1
        return segment

    def _is_full(self, segment: Segment, size: int) -> bool:
        if segment.size and segment.size + size > self._max_bytes:
            return True
        return time.time() - segment.created_s > self._max_age_s

    def _adopt(self, event_type: str, size: int) -> Segment | None:
        listed = log.list_type(self.root, event_type)
        candidates = [each for each in listed if not each.sealed and each.path not in self._left]
        for candidate in reversed(candidates[-_ADOPT_MAX_TRIES:]):
            segment = Segment.adopt(candidate.path)
            if segment is None:
                continue
            if not self._is_full(segment, size):
                return segment
            segment.close()
        return None

    def _leave(self, event_type: str) -> None:
        segment = self._open.pop(event_type, None)
        if segment is not None:
            self._left.add(segment.path)
            with contextlib.suppress(OSError):  # nothing written is at stake in a close
                segment.close()


def _parts(data: bytes) -> list[bytes]:
    """Split at line ends so that each part but a single long line is at most the maximum."""
    if len(data) <= _WRITE_MAX_BYTES:
        return [data]
    parts, start = [], 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + _WRITE_MAX_BYTES) + 1
        if end <= start:
            end = data.index(b"\n", start) + 1
        parts.append(data[start:end])
        start = end
    return parts
