"""Checks of the log: its segments, torn lines, writers, and the clock."""

from __future__ import annotations

import collections
import ctypes
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from eventlog.errors import EventlogError
from eventlog.format import envelope, timestamps
from eventlog.format.envelope import MAX_LINE_BYTES
from eventlog.indexer.index import lock
from eventlog.log import clock as clocks
from eventlog.log import layout, reader
from eventlog.log.layout import SegmentFile
from eventlog.log.segment import held_still
from eventlog.queries.doctor.finding import Finding, note, ok, problem, several, warning
from eventlog.queries.doctor.snapshot import OPENED_MAX, RootSnapshot
from eventlog.queries.text.units import size

_MANY_SEGMENTS, _SMALL_BYTES = 1000, 64 * 1024
_MANY_TORN, _TORN_SHOWN = 10, 5
_SKIPPED_SHOWN = 10
_WRITERS_SHOWN = 20
#: Control events from the future that are named.
_FUTURE_SHOWN = 5
_AHEAD_S = 60.0
_EARLIEST_S = 1_704_067_200.0  # 2024-01-01
_LAST_EVENTS_OF = 50
_BLOCK_BYTES = 64 * 1024
_TIME_ERROR = 5


def skipped_entries(snapshot: RootSnapshot) -> Iterator[Finding]:
    """Entries of the log folder that are no segments, and are skipped."""
    skipped = snapshot.listing.skipped
    for entry in skipped[:_SKIPPED_SHOWN]:
        yield warning(
            f"{snapshot.shown(entry.path)} is left alone: {entry.reason}",
            "move it out of the log, or name it right",
            entry.path,
        )
    if len(skipped) > _SKIPPED_SHOWN:
        yield warning(
            f"and {len(skipped) - _SKIPPED_SHOWN:,} more like these", "eventlog status names them all", snapshot.log
        )
    if not skipped:
        yield ok("nothing in the log but segments")


def segments(snapshot: RootSnapshot) -> Iterator[Finding]:
    """The number of segments, and of unsealed ones without a writer."""
    listed = snapshot.listing.segments
    orphans = collections.Counter(segment.event_type for segment in snapshot.unowned)
    empty = sum(not segment.size for segment in snapshot.unowned)
    passed_over = f"; {snapshot.passed_over:,} older ones were not opened" if snapshot.passed_over else ""
    of_types = ", ".join(f"{name} {count:,}" for name, count in orphans.most_common(5))
    more = ", …" if len(orphans) > 5 else ""
    yield ok(
        f"{len(listed):,} ({size(sum(segment.size for segment in listed))}), "
        f"{sum(segment.sealed for segment in listed):,} sealed; "
        f"{len(snapshot.unowned):,} unsealed without a writer{f' ({of_types}{more})' if of_types else ''}, "
        f"{empty:,} of them empty{passed_over}"
    )
    counts, sizes = collections.Counter[str](), collections.Counter[str]()
    for segment in listed:
        counts[segment.event_type] += 1
        sizes[segment.event_type] += segment.size
    for name, count in counts.items():
        if count > _MANY_SEGMENTS and sizes[name] < count * _SMALL_BYTES:
            yield warning(
                f"{name} has {count:,} segments of {size(sizes[name] // count)} on average; each sweep looks at all",
                "let fewer processes write at a time, and more per process (emit TYPE - reads many lines); "
                "torn lines and full segments are not continued either",
                snapshot.log / name,
            )


def torn_tails(snapshot: RootSnapshot) -> Iterator[Finding]:
    """Incomplete last lines, whose writers were killed."""
    torn = [segment for segment in snapshot.unowned if segment.size and _is_torn(segment)]
    advice = "nothing: the indexer puts them into quarantine, and nobody appends behind them"
    for segment in torn[:_TORN_SHOWN]:
        start, end = _torn_line(segment.path)
        if start is not None and start < end:
            yield note(
                f"{snapshot.shown(segment.path)} ends in {end - start:,} bytes of a line that begins at byte {start:,}",
                advice,
                segment.path,
            )
    if len(torn) > _MANY_TORN:
        yield warning(
            f"{len(torn):,} segments end in torn lines (the first {_TORN_SHOWN} are shown)",
            "find out what kills the writers, or fills the disk",
            snapshot.log,
        )
    elif len(torn) > _TORN_SHOWN:
        yield note(
            f"{len(torn):,} segments end in torn lines (the first {_TORN_SHOWN} are shown)", advice, snapshot.log
        )
    elif not torn:
        only = f" (the newest {OPENED_MAX:,} looked at)" if snapshot.passed_over else ""
        yield ok(f"none{only}")


def _is_torn(segment: SegmentFile) -> bool:
    """Return whether the last byte is no newline, and no writer has adopted the segment since the snapshot."""
    with held_still(segment.path) as still:
        return still and _bytes_before(segment.path, None, 1) not in (b"\n", b"")


def _torn_line(path: Path) -> tuple[int | None, int]:
    """Return the (start, end) of the torn last line; the start is None if the line is longer than allowed."""
    end = os.stat(path).st_size
    start = end
    while start > 0 and end - start <= MAX_LINE_BYTES:
        block = _bytes_before(path, start, _BLOCK_BYTES)
        newline = block.rfind(b"\n")
        if newline >= 0:
            return start - len(block) + newline + 1, end
        if not block:
            return None, end
        start -= len(block)
    return (0 if start == 0 else None), end


def _bytes_before(path: Path, offset: int | None, count: int) -> bytes:
    """Return the bytes before an offset (None: the end); nothing if the file cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return b""
    try:
        end = os.fstat(fd).st_size if offset is None else offset
        start = max(end - count, 0)
        return os.pread(fd, end - start, start)
    finally:
        os.close(fd)


def writers(snapshot: RootSnapshot) -> Iterator[Finding]:
    """The processes that have segments open."""
    named = snapshot.writers
    for pid, owned in sorted(named.items())[:_WRITERS_SHOWN]:
        types = sorted({segment.event_type for segment in owned})
        yield ok(f"{lock.process_name(pid)} has {len(owned):,} open: {several(types)}")
    if len(named) > _WRITERS_SHOWN:
        yield ok(f"and {len(named) - _WRITERS_SHOWN:,} more processes")
    if snapshot.nameless:
        yield ok(
            f"{len(snapshot.nameless):,} held by processes that cannot be named from here (in another container?): "
            f"{several(snapshot.shown(segment.path) for segment in snapshot.nameless)}"
        )
    if not named and not snapshot.nameless:
        yield ok("nobody has a segment open")


def clock(snapshot: RootSnapshot) -> Iterator[Finding]:
    """The clock decides the order of segments, and when a segment is old enough for a new one."""
    findings = list(_clock(snapshot))
    yield from findings or [ok(timestamps.stamped(datetime.fromtimestamp(snapshot.now_s, UTC)))]


def _clock(snapshot: RootSnapshot) -> Iterator[Finding]:
    if snapshot.now_s < _EARLIEST_S:
        yield problem(
            f"it says {time.strftime('%Y-%m-%d', time.gmtime(snapshot.now_s))}, before there was an eventlog",
            "set it (is there a battery, or a time server?): new segments sort before the old ones",
        )
    horizon = snapshot.now_s + _AHEAD_S
    ahead = [segment for segment in snapshot.listing.segments if (layout.created_s(segment.name) or 0) > horizon]
    if ahead:
        yield warning(
            f"{len(ahead):,} segments were created in the future: "
            f"{several(snapshot.shown(segment.path) for segment in ahead)}",
            "check the clocks of all who write here; it went back, or one is ahead. No event is lost, "
            "but these sort last and are not left for their age until then",
            ahead[-1].path,
        )
    newest = list({segment.event_type: segment for segment in snapshot.listing.segments}.values())[:_LAST_EVENTS_OF]
    late = [segment for segment in newest if _last_event_s(segment) > horizon]
    if late:
        yield note(
            f"the last events of {several(segment.event_type for segment in late)} carry times in the future",
            "in order if they were given so; else check the clock",
            late[0].path,
        )
    for text in clocks.warnings(snapshot.root)[:_FUTURE_SHOWN]:
        yield warning(text, "check the clock of whoever recorded it, and record it again")
    if _is_unsynchronised():
        yield note(
            "the kernel says that nothing keeps it right",
            "run a time service (chrony, systemd-timesyncd), unless a host does so for this machine",
        )


def _last_event_s(segment: SegmentFile) -> float:
    try:
        for line in reader.last_lines(segment, 1):
            return timestamps.parse(envelope.decode(line.data).envelope.timestamp).timestamp()
    except EventlogError:
        pass  # invalid or unreadable, which other checks report
    return 0.0


def _is_unsynchronised() -> bool:
    """Return whether Linux says that its clock is not synchronised; False on other systems."""
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    # A struct timex of zeros changes nothing; the buffer is larger than any version of it.
    return adjtimex is not None and adjtimex(ctypes.create_string_buffer(1024)) == _TIME_ERROR
