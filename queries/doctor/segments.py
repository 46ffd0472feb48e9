"""Checks of the log: what is in it, what crashes left, who writes, and whether the clock is right."""

from __future__ import annotations

import collections
import ctypes
import os
import time
from collections.abc import Iterator
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
from eventlog.queries.doctor.snapshot import LOOKED_INTO_MAX, Scene
from eventlog.queries.text.units import size

_MANY_SEGMENTS, _SMALL_BYTES = 1000, 64 * 1024
_MANY_TORN, _TORN_SHOWN = 10, 5
_ODD_SHOWN = 10
_WRITERS_SHOWN = 20
#: Of control events from the future, so many are named.
_TOLD_MAX = 5
_AHEAD_S = 60.0
_EARLIEST_S = 1_704_067_200.0  # 2024-01-01
_LAST_EVENTS_OF = 50
_BLOCK_BYTES = 64 * 1024
_TIME_ERROR = 5


def oddities(scene: Scene) -> Iterator[Finding]:
    """What is in the log and is not read."""
    odd = scene.listing.skipped
    for each in odd[:_ODD_SHOWN]:
        yield warning(
            f"{scene.shown(each.path)} is left alone: {each.reason}",
            "move it out of the log, or name it right",
            each.path,
        )
    if len(odd) > _ODD_SHOWN:
        yield warning(f"and {len(odd) - _ODD_SHOWN:,} more like these", "eventlog status names them all", scene.log)
    if not odd:
        yield ok("nothing in the log but segments")


def segments(scene: Scene) -> Iterator[Finding]:
    """How many there are, and how many have lost their writer."""
    found = scene.listing.segments
    orphans = collections.Counter(each.event_type for each in scene.unowned)
    empty = sum(not each.size for each in scene.unowned)
    passed_over = f"; {scene.passed_over:,} older ones were not opened" if scene.passed_over else ""
    of_types = ", ".join(f"{name} {count:,}" for name, count in orphans.most_common(5))
    more = ", …" if len(orphans) > 5 else ""
    yield ok(
        f"{len(found):,} ({size(sum(each.size for each in found))}), {sum(each.sealed for each in found):,} sealed; "
        f"{len(scene.unowned):,} unsealed without a writer{f' ({of_types}{more})' if of_types else ''}, "
        f"{empty:,} of them empty{passed_over}"
    )
    counts, sizes = collections.Counter[str](), collections.Counter[str]()
    for each in found:
        counts[each.event_type] += 1
        sizes[each.event_type] += each.size
    for name, count in counts.items():
        if count > _MANY_SEGMENTS and sizes[name] < count * _SMALL_BYTES:
            yield warning(
                f"{name} has {count:,} segments of {size(sizes[name] // count)} on average; each sweep looks at all",
                "let fewer processes write at a time, and more per process (emit TYPE - reads many lines); "
                "torn lines and full segments are not continued either",
                scene.log / name,
            )


def torn_tails(scene: Scene) -> Iterator[Finding]:
    """Lines whose writers died inside them."""
    torn = [each for each in scene.unowned if each.size and _is_torn(each)]
    what_to_do = "nothing: the indexer puts them into quarantine, and nobody appends behind them"
    for each in torn[:_TORN_SHOWN]:
        start, end = _torn_line(each.path)
        if start is not None and start < end:
            yield note(
                f"{scene.shown(each.path)} ends in {end - start:,} bytes of a line that begins at byte {start:,}",
                what_to_do,
                each.path,
            )
    if len(torn) > _MANY_TORN:
        yield warning(
            f"{len(torn):,} segments end in torn lines (the first {_TORN_SHOWN} are shown)",
            "find out what kills the writers, or fills the disk",
            scene.log,
        )
    elif len(torn) > _TORN_SHOWN:
        yield note(
            f"{len(torn):,} segments end in torn lines (the first {_TORN_SHOWN} are shown)", what_to_do, scene.log
        )
    elif not torn:
        only = f" (the newest {LOOKED_INTO_MAX:,} looked at)" if scene.passed_over else ""
        yield ok(f"none{only}")


def _is_torn(segment: SegmentFile) -> bool:
    """Look at the last byte. Somebody may have adopted the segment since it was found without an owner."""
    with held_still(segment.path) as still:
        return still and _bytes_before(segment.path, None, 1) not in (b"\n", b"")


def _torn_line(path: Path) -> tuple[int | None, int]:
    """Return where the last, torn line begins (None: not within the longest line allowed), and its end."""
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
    """Read what stands before an offset (None: the end); nothing where the file cannot be read."""
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


def writers(scene: Scene) -> Iterator[Finding]:
    """Who owns segments now."""
    named = scene.writers
    for pid, owned in sorted(named.items())[:_WRITERS_SHOWN]:
        types = sorted({each.event_type for each in owned})
        yield ok(f"{lock.process_name(pid)} has {len(owned):,} open: {several(types)}")
    if len(named) > _WRITERS_SHOWN:
        yield ok(f"and {len(named) - _WRITERS_SHOWN:,} more processes")
    if scene.nameless:
        yield ok(
            f"{len(scene.nameless):,} held by processes that cannot be named from here (in another container?): "
            f"{several(scene.shown(each.path) for each in scene.nameless)}"
        )
    if not named and not scene.nameless:
        yield ok("nobody has a segment open")


def clock(scene: Scene) -> Iterator[Finding]:
    """Segments sort by the clock, and are left by their age."""
    wrong = list(_clock(scene))
    yield from wrong or [ok(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(scene.now_s)))]


def _clock(scene: Scene) -> Iterator[Finding]:
    if scene.now_s < _EARLIEST_S:
        yield problem(
            f"it says {time.strftime('%Y-%m-%d', time.gmtime(scene.now_s))}, before there was an eventlog",
            "set it (is there a battery, or a time server?): new segments sort before the old ones",
        )
    horizon = scene.now_s + _AHEAD_S
    ahead = [each for each in scene.listing.segments if (layout.created_s(each.name) or 0) > horizon]
    if ahead:
        yield warning(
            f"{len(ahead):,} segments were created in the future: {several(scene.shown(each.path) for each in ahead)}",
            "check the clocks of all who write here; it went back, or one is ahead. No event is lost, "
            "but these sort last and are not left for their age until then",
            ahead[-1].path,
        )
    newest = list({each.event_type: each for each in scene.listing.segments}.values())[:_LAST_EVENTS_OF]
    late = [each for each in newest if _last_event_s(each) > horizon]
    if late:
        yield note(
            f"the last events of {several(each.event_type for each in late)} carry times in the future",
            "in order if they were given so; else check the clock",
            late[0].path,
        )
    for text in clocks.warnings(scene.root)[:_TOLD_MAX]:
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
        pass  # no event, or not to be read: that is for other checks
    return 0.0


def _is_unsynchronised() -> bool:
    """Ask Linux; elsewhere nothing is known."""
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    # A struct timex full of zeros asks for nothing to be set; the buffer is larger than any.
    return adjtimex is not None and adjtimex(ctypes.create_string_buffer(1024)) == _TIME_ERROR
