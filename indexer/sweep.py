"""Which segments may hold something that is not indexed yet.

A thorough sweep lists the log and compares every size. That takes seconds where there are
100,000 segments, so a watching indexer makes quick ones in between, of what is likely:

    new segments, in folders whose time has changed
    the newest segments of each type that are not sealed: writers adopt no others
    segments that grew since the last thorough sweep, or whose last line has no end yet

What that misses (an old segment whose owner wakes up after a long pause) waits for the next
thorough sweep. Those take a two-hundredth of the time, or more where there would be none for a minute; in a small
log every sweep is one.
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
from eventlog.log.segment import is_owned
from eventlog.maintenance.sealing import SEAL_EVENT

_SHARE = 200
_THOROUGH_WAIT_MAX_S = 60.0
_RETRY_UNREADABLE_S = 30.0
#: A thorough sweep that costs no more than this may be made every time.
_CHEAP_S = 0.002
#: As many as a writer looks at before it makes a new one.
_NEWEST = 16
_LATEST = 64
#: A folder may change again within one tick of the clock that stamps it.
_TICK_NS = 1_000_000_000


def is_spooled(segment: SegmentFile) -> bool:
    """Say whether mode `db_only` may delete a segment: not one that was sealed, nor what tells of such."""
    return not segment.sealed and segment.event_type not in (SEAL_EVENT, PRUNED_EVENT)


class _Seen(NamedTuple):
    """What the last look at a segment found: its size, whether all of it is indexed, and when it was written to.

    The time is not known of what another indexer looked at.
    """

    size: int
    complete: bool
    mtime_ns: int | None = None


class Sweep:
    """Remembers what was seen of each segment of a root, and finds those that lag.

    With `release`, finished segments count as lagging until they are deleted.
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
        #: The segments that were written to last, of those that the last thorough sweep saw.
        self.latest: list[SegmentFile] = []
        self._unreadable: dict[str, float] = {}  # name → when to try again

    def forget(self) -> None:
        """Everything is to be looked at anew: the index is another one."""
        self._seen.clear()
        self._next_thorough = 0.0

    def doubt(self, name: str) -> None:
        """A segment is to be looked at anew: its file is another one."""
        self._seen.pop(name, None)
        self._next_thorough = 0.0

    def recall(self, offsets: Iterable[tuple[str, int]]) -> None:
        """Take over how far an index has got, by segment name."""
        self._seen = {name: _Seen(offset, complete=True) for name, offset in offsets}

    def saw(self, segment: SegmentFile, indexed_offset: int) -> None:
        """Note how far a segment is indexed, as it was when that was done."""
        self._unreadable.pop(segment.name, None)
        if segment.name in self._seen:
            self._grown.add(segment.name)
            self._likely[segment.name] = segment
        self._seen[segment.name] = _Seen(segment.size, indexed_offset >= segment.size, segment.mtime_ns)

    def could_not_read(self, name: str, reason: str) -> None:
        """Leave a segment alone for a while; say so the first time."""
        if name not in self._unreadable:
            self._say(f"left out for now: {reason}")
        self._unreadable[name] = time.monotonic() + _RETRY_UNREADABLE_S

    def thorough(self) -> list[SegmentFile]:
        """Look at every segment."""
        started = time.thread_time()
        self._folder_times = self._stable_times()  # before the listing, so that nothing falls between
        segments = self._report(layout.list_log(self._root)).segments
        self._likely = {each.name: each for each in self._chosen(segments)}
        self.latest = heapq.nlargest(_LATEST, segments, key=lambda each: each.mtime_ns)
        self._grown.clear()
        found = [each for each in segments if self.is_lagging(each)]
        cost_s = time.thread_time() - started
        wait_s = min(cost_s * _SHARE, _THOROUGH_WAIT_MAX_S) if cost_s > _CHEAP_S else 0
        self._next_thorough = time.monotonic() + wait_s
        return found

    @property
    def likely(self) -> list[SegmentFile]:
        """The segments that may have been written to most recently, as the last sweep saw them."""
        return list(self._likely.values())

    def quick(self) -> list[SegmentFile]:
        """Look at those that are likely to have grown; at all of them when it is time again."""
        if time.monotonic() >= self._next_thorough:
            return self.thorough()
        times = self._stable_times()
        changed = [name for name, moment in times.items() if moment != self._folder_times.get(name)]
        self._folder_times = times
        new = self._report(layout.list_log(self._root, changed, skip=self._seen)).segments if changed else []
        self._likely |= {each.name: each for each in new}
        now = {name: layout.refreshed(each) for name, each in self._likely.items()}
        self._likely = {name: each for name, each in now.items() if each is not None}
        return [each for each in self._likely.values() if self.is_lagging(each)]

    def is_lagging(self, segment: SegmentFile) -> bool:
        """Say whether a segment may hold something new."""
        if self._unreadable.get(segment.name, 0) > time.monotonic():
            return False
        seen = self._seen.get(segment.name)
        # Of the same size and yet written to: another file may have come in its place.
        if seen is None or seen.size != segment.size or seen.mtime_ns not in (segment.mtime_ns, None):
            return True
        if seen.mtime_ns is None:
            self._seen[segment.name] = seen._replace(mtime_ns=segment.mtime_ns)
        # All that could be read has been. Only the end of its owner changes that: then there
        # is a torn tail to account for, or a finished segment to release.
        return ((self._release and is_spooled(segment)) or not seen.complete) and not is_owned(segment.path)

    def _chosen(self, segments: list[SegmentFile]) -> Iterator[SegmentFile]:
        for _, group in groupby(segments, key=lambda each: each.event_type):
            yield from [each for each in group if not each.sealed][-_NEWEST:]
        for each in segments:
            seen = self._seen.get(each.name)
            if each.name in self._grown or (seen is not None and not seen.complete):
                yield each

    def _report(self, listing: Listing) -> Listing:
        for entry in listing.skipped:
            if entry not in self._reported_skips:
                self._reported_skips.add(entry)
                self._say(f"left alone: {str(entry.path)!r}: {entry.reason}")
        return listing

    def _stable_times(self) -> dict[str, int]:
        """Return when each folder last changed; -1, which equals nothing, where that was just now."""
        try:
            with os.scandir(layout.log_folder(self._root)) as entries:
                times = {entry.name: entry.stat(follow_symlinks=False).st_mtime_ns for entry in entries}
        except FileNotFoundError:
            return {}
        now = time.time_ns()
        return {name: moment if now - moment > _TICK_NS else -now for name, moment in times.items()}
