"""Checks of the index, opened as any reader does, within a few seconds."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from eventlog.cli.text import counted
from eventlog.errors import IndexBusy, IndexFailed, QueryFailed
from eventlog.format.timestamps import naive_utc
from eventlog.indexer.alarm import ALARM_EVENT
from eventlog.indexer.index import index_file, lock
from eventlog.indexer.index.index_file import BrokenIndex
from eventlog.indexer.sql import ident, literal
from eventlog.indexer.views import typed
from eventlog.log import layout
from eventlog.queries.access.reader import IndexReader
from eventlog.queries.doctor.finding import Finding, note, ok, problem, several, warning
from eventlog.queries.doctor.snapshot import RootSnapshot
from eventlog.queries.text.units import size
from eventlog.record.drops import DROPPED_EVENT

_WAIT_S = 3.0
_QUERY_S = 5.0
_SEGMENTS_MAX = 2_000_000
_BEHIND_BYTES = 256 * 1024**2
_LARGE_BYTES = 256 * 1024**2
_BAD_PART = 0.01
_RECENT = datetime.timedelta(days=7)
_LOCK_FILES = ("index.turn", "index.gate")
_IDS_MAX = 3
_COUNTS = "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM quarantine)"
_SEGMENTS = f"SELECT name, event_type, indexed_offset, released FROM segments LIMIT {_SEGMENTS_MAX}"
_SPECIAL = """
    SELECT event_type, count(*), sum(TRY_CAST(payload ->> 'count' AS BIGINT)), max(timestamp)
    FROM events WHERE event_type IN (?, ?) GROUP BY event_type
"""
_STARTED_AGAIN = f"""
    SELECT count(*), (min(run_id, {_IDS_MAX}))::VARCHAR[], max(last) FROM (
        SELECT run_id, max(timestamp) AS last FROM events
        WHERE event_type = 'run_started' AND run_id IS NOT NULL GROUP BY workspace, run_id HAVING count(*) > 1
    )
"""


class _Facts(NamedTuple):
    """The results of the queries."""

    events: int
    quarantined: int
    #: name → (event type, indexed offset, released)
    segments: dict[str, tuple[str, int, bool]]
    #: event type → (number of events, sum of their `count`, time of the last)
    special: dict[str, tuple[int, int | None, datetime.datetime]]
    #: Run ids that were started more than once in a workspace: their number, some of them, the last start.
    started_again: tuple[int, list[str], datetime.datetime | None]


def index(snapshot: RootSnapshot) -> Iterator[Finding]:
    """The index can be opened, is of this version, and is up to date."""
    path = index_file.index_path(snapshot.root)
    if not path.exists():
        yield note("there is none", "eventlog index makes it from the log")
        return
    if not all((snapshot.root / name).exists() for name in _LOCK_FILES):  # opening it would create them
        yield note(
            "not looked into: it has no lock files, so it was not made here or never used",
            "eventlog status opens it",
            path,
        )
        return
    try:
        facts = _facts(snapshot.root)
    except IndexBusy:
        holders = several(lock.index_holders(snapshot.root)) or "another process"
        yield warning(
            f"not looked into: held for {_WAIT_S:g} s by {holders}",
            "wait for it, or stop it; new events are in the log meanwhile",
            path,
        )
    except BrokenIndex as error:
        yield problem(
            f"it cannot be opened: {str(error.__cause__ or error).splitlines()[0]}",
            "eventlog index sets it aside and makes a new one from the log "
            "(rows whose segments mode db_only deleted are only in the file set aside)",
            path,
        )
    except IndexFailed as error:
        yield problem(
            str(error), "eventlog index, which rebuilds an older one; a newer one needs the newer eventlog", path
        )
    else:
        yield ok(f"{counted(facts.events, 'event')}, {size(path.stat().st_size)}", path)
        yield from _progress(snapshot, facts)
        yield from _gone(snapshot, facts)
        yield from _bulk(snapshot, facts, path)
        yield from _quarantine(facts)
        yield from _special(snapshot, facts)
        yield from _started_again(snapshot, facts)
        yield from _unfit(snapshot.root)


def _facts(root: Path) -> _Facts:
    with IndexReader(root, wait_s=_WAIT_S).trusted(timeout_s=_QUERY_S) as connection:
        ((events, quarantined),) = connection.execute(_COUNTS).fetchall()
        segments = connection.execute(_SEGMENTS).fetchall()
        special = connection.execute(_SPECIAL, [ALARM_EVENT, DROPPED_EVENT]).fetchall()
        ((count, ids, last),) = connection.execute(_STARTED_AGAIN).fetchall()
    return _Facts(
        events,
        quarantined,
        {name: (event_type, offset, released) for name, event_type, offset, released in segments},
        {name: (count, total, last) for name, count, total, last in special},
        (count, ids or [], last),
    )


def _progress(snapshot: RootSnapshot, facts: _Facts) -> Iterator[Finding]:
    behind = {}
    shrunk = []
    for segment in snapshot.listing.segments:
        offset = facts.segments[segment.name][1] if segment.name in facts.segments else 0
        if segment.size > offset:
            behind[segment.name] = segment.size - offset
        elif segment.size < offset and _size(segment.path) < offset:  # the listing is older than the index
            shrunk.append(segment)
    lag = sum(behind.values())
    if behind:
        level = warning if lag > _BEHIND_BYTES else note
        yield level(
            f"{size(lag)} in {len(behind):,} of {len(snapshot.listing.segments):,} segments are not indexed yet",
            "eventlog index; to stay up to date: eventlog index --watch, or mode dual",
        )
    else:
        yield ok("up to date with the log")
    if shrunk:
        yield warning(
            f"{counted(len(shrunk), 'segment')} shorter than what was indexed: "
            f"{several(snapshot.shown(segment.path) for segment in shrunk)}",
            "find out who changes the log; the next eventlog index raises an alarm, and keeps the rows that it has",
            shrunk[0].path,
        )


def _gone(snapshot: RootSnapshot, facts: _Facts) -> Iterator[Finding]:
    there = {segment.name for segment in snapshot.listing.segments}
    closed = {path.name for path in snapshot.closed}
    missing = [
        layout.segment_path(snapshot.root, event_type, name)
        for name, (event_type, _, released) in facts.segments.items()
        if not released and name not in there and event_type not in closed
    ]
    gone = [path for path in missing if not os.path.lexists(path) and not os.path.lexists(f"{path}.zst")]
    if gone and snapshot.log not in snapshot.closed:
        yield warning(
            f"{len(gone):,} indexed segments are no longer in the log: "
            f"{several(snapshot.shown(path) for path in gone)}",
            "bring them back if you can: their rows stay until the next replay, and are gone after it",
            gone[0],
        )


def _bulk(snapshot: RootSnapshot, facts: _Facts, path: Path) -> Iterator[Finding]:
    held = path.stat().st_size
    logged = sum(segment.size for segment in snapshot.listing.segments)
    kept_by_index_alone = any(released for _, _, released in facts.segments.values())
    if held > max(_LARGE_BYTES, 2 * logged) and not kept_by_index_alone:
        yield note(
            f"{size(held)} for a log of {size(logged)}", "eventlog replay writes it afresh, without the gaps", path
        )


def _quarantine(facts: _Facts) -> Iterator[Finding]:
    if not facts.quarantined:
        return
    level = warning if facts.quarantined > _BAD_PART * facts.events else note
    yield level(
        f"{counted(facts.quarantined, 'line')} in quarantine, beside {counted(facts.events, 'event')}",
        "eventlog quarantine list says why; what an import rejected: eventlog quarantine retry",
    )


def _special(snapshot: RootSnapshot, facts: _Facts) -> Iterator[Finding]:
    now = naive_utc(datetime.datetime.fromtimestamp(snapshot.now_s, datetime.UTC))
    if ALARM_EVENT in facts.special:
        count, _, last = facts.special[ALARM_EVENT]
        yield (warning if now - last < _RECENT else note)(
            f"{counted(count, 'alarm')}: the log was changed behind the indexer's back, "
            f"last at {last:%Y-%m-%d %H:%M} UTC",
            f"{_payloads(ALARM_EVENT)} says where",
        )
    if DROPPED_EVENT in facts.special:
        _, total, last = facts.special[DROPPED_EVENT]
        yield (warning if now - last < _RECENT else note)(
            f"{counted(total or 0, 'event')} could not be written and {'is' if total == 1 else 'are'} lost, "
            f"last reported at {last:%Y-%m-%d %H:%M} UTC",
            f"{_payloads(DROPPED_EVENT)} says which and why",
        )


def _payloads(event_type: str) -> str:
    return f'eventlog sql "SELECT payload FROM events WHERE event_type = {literal(event_type)}"'


def _started_again(snapshot: RootSnapshot, facts: _Facts) -> Iterator[Finding]:
    count, ids, last = facts.started_again
    if last is None:
        return
    now = naive_utc(datetime.datetime.fromtimestamp(snapshot.now_s, datetime.UTC))
    yield (warning if now - last < _RECENT else note)(
        f"{count:,} run {'id was' if count == 1 else 'ids were'} started more than once in a workspace, last at "
        f"{last:%Y-%m-%d %H:%M} UTC: {several(ids)}",
        "give each run an id of its own (obs.run without run_id makes one); eventlog runs shows ×2 beside them, "
        "and their steps, tokens and errors are counted as those of one run",
    )


def _unfit(root: Path) -> Iterator[Finding]:
    try:
        with IndexReader(root, wait_s=_WAIT_S).trusted(timeout_s=_QUERY_S) as connection:
            counts = typed.count_unfit(connection)
    except (QueryFailed, IndexBusy):
        yield note(
            f"not looked for values that do not fit their columns: that takes more than {_QUERY_S:g} s",
            "eventlog sql 'SELECT unfit, count(*) FROM … WHERE unfit IS NOT NULL GROUP BY ALL' counts those of a type",
        )
        return
    for event_type, events in counts.items():
        yield note(
            f"{counted(events, 'event')} of {event_type} with values that do not fit their columns, which are NULL",
            f"eventlog sql 'SELECT unfit, count(*) FROM {ident(event_type)} "
            "WHERE unfit IS NOT NULL GROUP BY ALL' shows them",
        )


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
