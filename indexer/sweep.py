"""Sweeps: which segments may have lines that are not indexed yet.

A thorough sweep lists the log and compares every size. With 100,000 segments that takes seconds, so a watching indexer
makes quick sweeps in between, of the likely segments:

    new segments, in folders whose modification time has changed
    the newest unsealed segments of each type: writers adopt no others
    segments that grew since the last thorough sweep, or whose last line is not complete

A quick sweep misses an old segment whose owner wakes up after a long pause; the next thorough sweep sees it. Thorough
sweeps take at most 1/200 of the time, but there is at least one a minute. In a small log every sweep is thorough.
"""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from eventlog.log import layout
from eventlog.log.layout import Listing, SegmentFile, SkippedEntry
from eventlog.log.pruned import PRUNED_EVENT
from eventlog.log.sealed_or_pruned import SEAL_EVENT
from eventlog.log.segment import is_owned

#: Thorough sweeps take at most one part in this many of the time.
_SHARE = 200
_THOROUGH_WAIT_MAX_S = 60.0
_RETRY_UNREADABLE_S = 30.0
#: If a thorough sweep takes no longer than this, every sweep is thorough.
_CHEAP_S = 0.002
#: A writer looks at this many segments before it creates a new one.
_NEWEST = 16
_LATEST = 64
#: A folder may change again within one tick of the clock that sets its modification time.
_TICK_NS = 1_000_000_000


def is_spooled(segment: SegmentFile) -> bool:
    """Return whether mode `db_only` may delete a segment: neither sealed ones, nor those of seals and prunings."""
    return not segment.sealed and segment.event_type not in (SEAL_EVENT, PRUNED_EVENT)


class _Seen(NamedTuple):
    """A segment when it was last looked at: its size in bytes, and whether all of it is indexed."""

    size: int
    complete: bool
    #: None if another indexer looked at it.
    mtime_ns: int | None = None


class Sweep:
    """Remembers the size of each segment of a root, and finds those that lag behind the log.

    With `release`, finished segments count as lagging until they are deleted. `say` gets warnings.
    """

    def __init__(self, root: Path, *, release: bool, say: Callable[[str], None]) -> None:
        self._root = root
        self._release = release
        self._say = say
        self._seen: dict[str, _Seen] = {}
        self._likely: dict[str, SegmentFile] = {}
        self._grown: set[str] = set()
        self._folder_times: dict[str, int] = {}
        self._next_thorough = 0.0
        self._reported_skips: set[SkippedEntry] = set()
        #: The segments of the last thorough sweep that were written to last.
        self.latest: list[SegmentFile] = []
        self._unreadable: dict[str, float] = {}  # name → when to try again

    def forget(self) -> None:
        """Look at all segments again: the index is another one."""
        self._seen.clear()
        self._next_thorough = 0.0

    def forget_segment(self, name: str) -> None:
        """Look at a segment again: its file is another one."""
        self._seen.pop(name, None)
        self._next_thorough = 0.0

    def recall(self, offsets: Iterable[tuple[str, int]]) -> None:
        """Take over the indexed offsets of an index: pairs of segment name and offset."""
        self._seen = {name: _Seen(offset, complete=True) for name, offset in offsets}

    def note_indexed(self, segment: SegmentFile, indexed_offset: int) -> None:
        """Remember that a segment is indexed up to `indexed_offset`. `segment` is its state when it was read."""
        self._unreadable.pop(segment.name, None)
        if segment.name in self._seen:
            self._grown.add(segment.name)
            self._likely[segment.name] = segment
        self._seen[segment.name] = _Seen(segment.size, indexed_offset >= segment.size, segment.mtime_ns)

    def note_unreadable(self, name: str, reason: str) -> None:
        """Leave a segment out for 30 seconds; warn the first time."""
        if name not in self._unreadable:
            self._say(f"left out for now: {reason}")
        self._unreadable[name] = time.monotonic() + _RETRY_UNREADABLE_S

    def thorough(self) -> list[SegmentFile]:
        """Look at every segment; return those that lag."""
        started = time.thread_time()
        self._folder_times = self._stable_times()  # before the listing, so that no change is missed
        segments = self._report(layout.list_log(self._root)).segments
        self._likely = {segment.name: segment for segment in self._chosen(segments)}
        self.latest = heapq.nlargest(_LATEST, segments, key=lambda segment: segment.mtime_ns)
        self._grown.clear()
        lagging = [segment for segment in segments if self.is_lagging(segment)]
        cost_s = time.thread_time() - started
        wait_s = min(cost_s * _SHARE, _THOROUGH_WAIT_MAX_S) if cost_s > _CHEAP_S else 0
        self._next_thorough = time.monotonic() + wait_s
        return lagging

    @property
    def likely(self) -> list[SegmentFile]:
        """The segments that may have been written to most recently, as of the last sweep."""
        return list(self._likely.values())

    def quick(self) -> list[SegmentFile]:
        """Look at the likely segments, or at all when a thorough sweep is due; return those that lag."""
        if time.monotonic() >= self._next_thorough:
            return self.thorough()
        times = self._stable_times()
        changed = [name for name, moment in times.items() if moment != self._folder_times.get(name)]
        self._folder_times = times
        new = self._report(layout.list_log(self._root, changed, skip=self._seen)).segments if changed else []
        self._likely |= {segment.name: segment for segment in new}
        now = {name: layout.refreshed(segment) for name, segment in self._likely.items()}
        self._likely = {name: segment for name, segment in now.items() if segment is not None}
        return [segment for segment in self._likely.values() if self.is_lagging(segment)]

    def is_lagging(self, segment: SegmentFile) -> bool:
        """Return whether a segment may have lines that are not indexed, or is to be released."""
        if self._unreadable.get(segment.name, 0) > time.monotonic():
            return False
        seen = self._seen.get(segment.name)
        # Same size, but written to: another file may have replaced it.
        if seen is None or seen.size != segment.size or seen.mtime_ns not in (segment.mtime_ns, None):
            return True
        if seen.mtime_ns is None:
            self._seen[segment.name] = seen._replace(mtime_ns=segment.mtime_ns)
        # All complete lines are indexed. Once its owner ends, a torn tail goes to quarantine, or the file is released.
        return ((self._release and is_spooled(segment)) or not seen.complete) and not is_owned(segment.path)

    def lag_bytes(self, segments: Iterable[SegmentFile]) -> int:
        """Return about how many bytes of some segments are not indexed."""
        sizes = ((segment.size, self._seen.get(segment.name)) for segment in segments)
        return sum(max(size - (seen.size if seen else 0), 0) for size, seen in sizes)

    def _chosen(self, segments: list[SegmentFile]) -> Iterator[SegmentFile]:
        for _, group in groupby(segments, key=lambda segment: segment.event_type):
            yield from [segment for segment in group if not segment.sealed][-_NEWEST:]
        for segment in segments:
            seen = self._seen.get(segment.name)
            if segment.name in self._grown or (seen is not None and not seen.complete):
                yield segment

    def _report(self, listing: Listing) -> Listing:
        for entry in listing.skipped:
            if entry not in self._reported_skips:
                self._reported_skips.add(entry)
                self._say(f"left alone: {str(entry.path)!r}: {entry.reason}")
        return listing

    def _stable_times(self) -> dict[str, int]:
        """Return the modification times of folders in ns; a negative one, equal to no other, for a change just now."""
        try:
            with os.scandir(layout.log_folder(self._root)) as entries:
                times = {entry.name: entry.stat(follow_symlinks=False).st_mtime_ns for entry in entries}
        except FileNotFoundError:
            return {}
        now = time.time_ns()
        return {name: moment if now - moment > _TICK_NS else -now for name, moment in times.items()}
