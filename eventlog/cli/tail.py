"""`eventlog tail`: the newest events, straight from the log, with or without an index."""

from __future__ import annotations

import functools
import heapq
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import tzinfo
from itertools import accumulate
from typing import NamedTuple
from unicodedata import east_asian_width

import click

from eventlog.cli.main import awaited_root, existing_root, root_option, say
from eventlog.cli.text import harmless_json, printable
from eventlog.cli.times import moment, since_option, until_option, zone_of, zone_options
from eventlog.errors import InvalidEvent, QueryFailed
from eventlog.format import envelope, timestamps
from eventlog.format.envelope import AUDIT_LEVELS, AuditLevel, Envelope
from eventlog.importers import sources
from eventlog.log import layout, reader, times
from eventlog.log.reader import Located

#: Of the id of a session; any unique prefix names it.
_ID_CHARS = 8


class _Wanted(NamedTuple):
    """A filter of events: timestamps from `start` on and before `end`, the workspace (None for any), the levels."""

    start: str | None
    end: str | None
    workspace: str | None
    levels: tuple[AuditLevel, ...]

    def has(self, event: Envelope) -> bool:
        return (
            (self.start is None or event.timestamp >= self.start)
            and (self.end is None or event.timestamp < self.end)
            and (self.workspace is None or event.workspace == self.workspace)
            and event.audit_level in self.levels
        )


class _Entry(NamedTuple):
    timestamp: str
    segment: str
    offset: int
    line: bytes
    event: Envelope


@click.command()
@click.argument("event_types", metavar="[TYPE]...", nargs=-1)
@click.option("-f", "--follow", is_flag=True, help="Keep printing new events as they are written.")
@since_option
@until_option
@click.option(
    "-n",
    "--lines",
    default=None,
    type=click.IntRange(0, 1_000_000),
    help="Print at most this many; 10, or all with --since.",
)
@click.option("--workspace", metavar="W", help="Only events whose envelope names this workspace.")
@click.option(
    "--audit-level",
    type=click.Choice(AUDIT_LEVELS),
    default=AUDIT_LEVELS[0],
    help="Only events of this level, or of a higher one.",
)
@zone_options
@click.option("--json", "as_json", is_flag=True, help="Print whole lines as logged (the default when piped).")
@root_option
def tail(
    event_types: tuple[str, ...],
    follow: bool,
    since: str | None,
    until: str | None,
    lines: int | None,
    workspace: str | None,
    audit_level: AuditLevel,
    utc: bool,
    time_zone: str | None,
    as_json: bool,
    root: str | None,
) -> None:
    """Print the newest events, straight from the log.

    Oldest first; no index is needed.

    \b
    Example:
      eventlog tail llm_call tool_call --follow
      eventlog tail --since 15m | jq .payload
    """
    folder = awaited_root(root) if follow else existing_root(root)
    for name in event_types:
        envelope.check_event_type(name)
    types = event_types or None
    zone = zone_of(utc, time_zone)
    wanted = _Wanted(moment(since, zone), moment(until, zone), workspace, envelope.levels_from(audit_level))
    if wanted.start is not None and wanted.end is not None and wanted.start >= wanted.end:
        raise QueryFailed(f"--since {since} is not before --until {until}; nothing can match")
    is_pretty = sys.stdout.isatty() and not as_json
    show = functools.partial(_show_pretty, zone=zone) if is_pretty else _show_json
    follower = reader.Follower(folder, types) if follow else None
    count = lines if lines is not None else None if since or until else 10
    segments = layout.list_log(folder, types).segments
    if follower is not None:  # show up to where following begins, and no line twice
        ends = follower.offsets
        segments = [file._replace(size=ends[file.name]) for file in segments if file.name in ends]
    if types and not segments:
        there = ", ".join(sorted({file.event_type for file in layout.list_log(folder).segments})) or "none"
        others = "" if workspace is not None else f"; there are: {there}"
        say(f"no events of type {', '.join(types)}{others}")
    latest = times.latest_sealed(folder, segments)
    for entry in _select(segments, latest, wanted, count):
        show(entry)
    if follower is not None:
        sys.stdout.flush()
        for located in follower.follow():
            new = _entry(located, wanted)
            if new is not None:
                show(new)
                sys.stdout.flush()


def _select(
    segments: list[layout.SegmentFile], latest: Mapping[str, str], wanted: _Wanted, count: int | None
) -> list[_Entry]:
    """Return entries sorted by time: all in a range, or the newest `count`.

    Without a range it reads only the last lines of each segment, not the whole log; of imported segments all, since
    files are imported one after the other, and the newest line may stand anywhere. `latest` has timestamps that no
    event of a segment is later than. (The time of a file says nothing: events may be stamped ahead of the clock, and
    files may be copied.)
    """
    if count == 0:
        return []
    newest: list[_Entry] = []
    imported = sources.event_types()
    for segment in sorted(segments, key=lambda file: file.mtime_ns, reverse=True):
        is_full = count is not None and len(newest) >= count
        start = max(wanted.start or "", newest[0].timestamp if is_full else "")
        if segment.name in latest and latest[segment.name] < start:
            continue
        is_in_order = segment.event_type not in imported
        if count is not None and wanted.start is None and wanted.end is None and is_in_order:
            entries: Iterable[_Entry] = _last_entries(segment, count, wanted)
        else:
            entries = (entry for located in _lines_from(segment, start) if (entry := _entry(located, wanted)))
        for entry in entries:
            (heapq.heappush if count is None or len(newest) < count else heapq.heappushpop)(newest, entry)
    return sorted(newest)


def _last_entries(segment: layout.SegmentFile, count: int, wanted: _Wanted) -> list[_Entry]:
    """Return the last `count` wanted events of a segment, reading further back where lines are not wanted."""
    asked = count
    while True:
        lines = reader.last_lines(segment, asked)
        entries = [entry for located in lines if (entry := _entry(located, wanted))]
        if len(entries) >= count or len(lines) < asked:
            return entries[-count:]
        asked *= 4


def _lines_from(segment: layout.SegmentFile, start: str) -> Iterator[Located]:
    """Yield the lines of a segment, without blocks of which none has this timestamp or a later one."""
    for block in reader.read_blocks(segment.path, end=segment.size):
        if times.may_reach(block.data, start):
            for line in block.lines():
                yield Located(segment.event_type, segment.name, line.offset, line.data)


def _entry(located: Located, wanted: _Wanted) -> _Entry | None:
    """Decode a line; None for one that is no event (the index quarantines it) or not wanted."""
    try:
        event = envelope.decode(located.data).envelope
    except InvalidEvent:
        return None
    if not wanted.has(event):
        return None
    return _Entry(event.timestamp, located.segment, located.offset, located.data, event)


def _show_json(entry: _Entry) -> None:
    sys.stdout.buffer.write(harmless_json(entry.line) + b"\n")


def _show_pretty(entry: _Entry, *, zone: tzinfo | None) -> None:
    event = entry.event
    words = sources.preview(event.event_type, bytes(event.payload))
    if words is not None:
        _show_words(event, words, zone)
        return
    when = timestamps.stamped(timestamps.parse(event.timestamp), zone, timespec="microseconds")
    who = printable(" ".join(part for part in (event.agent, event.run_id or event.session_id) if part))
    payload = printable(bytes(event.payload).decode(errors="replace"))
    left = shutil.get_terminal_size().columns - len(f"{when}  {event.event_type}")
    who = _cut(f"  {who}" if who else "", left)
    payload = _cut(f"  {payload}", left - _width(who))
    click.echo(
        f"{click.style(when, dim=True)}  {click.style(event.event_type, fg='cyan')}"
        f"{click.style(who, fg='green') if who else ''}{payload}"
    )


def _show_words(event: Envelope, words: str, zone: tzinfo | None) -> None:
    """Print an imported line in words, on one line of the terminal."""
    moment = timestamps.shown(timestamps.parse(event.timestamp), zone)
    session = printable((event.session_id or "")[:_ID_CHARS]).ljust(_ID_CHARS)
    left = max(shutil.get_terminal_size().columns - len(moment) - len(session) - 4, 20)
    cut = _cut(printable(words), left)
    click.echo(f"{click.style(moment, dim=True)}  {click.style(session, fg='green')}  {cut}")


def _cut(text: str, columns: int) -> str:
    """Return a text that takes at most `columns` of a terminal; one that was cut ends in an ellipsis."""
    if 2 * len(text) <= columns or _width(text) <= columns:
        return text
    ends = accumulate(map(_width, text[:columns]))
    return text[: sum(end < columns for end in ends)] + "…" if columns > 0 else ""


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes at most: what combines with others is counted, too."""
    return len(text) if text.isascii() else len(text) + sum(east_asian_width(char) in "WF" for char in text)
