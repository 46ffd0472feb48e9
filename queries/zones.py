"""Days, weeks, months and hours of a time zone, in SQL and for people.

A zone is a `tzinfo`; None is that of this machine. DuckDB's own zones are an extension with a list of its own, and do
not know the zone of this machine: so a query gets the offsets of a zone as numbers, for each time between two of its
changes (from 1990 to 2060; earlier and later times have the first and the last of them).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo

from eventlog.format import timestamps
from eventlog.indexer.sql import literal

_FIRST, _LAST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2060, 1, 1, tzinfo=UTC)
#: No zone changes twice within so many days and back again.
_STEP = timedelta(days=8)
_SECOND = timedelta(seconds=1)


def bucket(unit: str, moment: str, zone: tzinfo | None) -> str:
    """Return SQL for the start of the day, week, month or hour that a UTC time is in; `started` makes a time of it.

    `moment` is SQL. The start of an hour is UTC, since an hour of the clock may come twice; the others are local.
    """
    if zone is UTC:
        return f"date_trunc({literal(unit)}, {moment})::TIMESTAMP"
    offset = _offset(moment, zone)
    start = f"date_trunc({literal(unit)}, {moment} + {offset})::TIMESTAMP"
    return f"{start} - {offset}" if unit == "hour" else start


def started(unit: str, start: datetime | str, zone: tzinfo | None) -> datetime:
    """Return the start that `bucket` has computed as a time with its zone.

    DuckDB gives texts for what Python has no time for: `0001-12-31 (BC)` begins with the year 1 here, and what comes
    after the year 9999 with its end.
    """
    if not isinstance(start, datetime):
        return (datetime.min if "BC" in start else datetime.max).replace(tzinfo=UTC)
    if zone is UTC or unit == "hour":
        return timestamps.in_zone(start.replace(tzinfo=UTC), zone)
    return timestamps.midnight(start.date(), zone)


def day_of(moment: datetime, zone: tzinfo | None) -> tuple[datetime, datetime]:
    """Return start and end of the day that a time is in, with their zone."""
    day = timestamps.in_zone(moment, zone).date()
    return timestamps.midnight(day, zone), timestamps.midnight(day + timedelta(days=1), zone)


def month_of(moment: datetime, zone: tzinfo | None) -> tuple[datetime, datetime]:
    """Return start and end of the month that a time is in, with their zone."""
    first = timestamps.in_zone(moment, zone).date().replace(day=1)
    return timestamps.midnight(first, zone), timestamps.midnight((first + timedelta(days=31)).replace(day=1), zone)


def _offset(moment: str, zone: tzinfo | None) -> str:
    """Return SQL for the offset of a zone from UTC at a UTC time."""
    changes = list(_changes(zone))
    (_, first), later = changes[0], changes[1:]
    # The latest first: most events are recent.
    branches = " ".join(
        f"WHEN {moment} >= TIMESTAMP {literal(f'{since:%Y-%m-%d %H:%M:%S}')} THEN {_microseconds(offset)}"
        for since, offset in reversed(later)
    )
    return (
        f"to_microseconds(CASE {branches} ELSE {_microseconds(first)} END)"
        if later
        else (f"to_microseconds({_microseconds(first)})")
    )


def _microseconds(offset: timedelta) -> int:
    return offset // timedelta(microseconds=1)


def _changes(zone: tzinfo | None) -> Iterator[tuple[datetime, timedelta]]:
    """Yield when each offset of a zone begins (UTC), in order, and the offset."""
    at, offset = _FIRST, _offset_at(_FIRST, zone)
    yield at, offset
    while at < _LAST:
        then = at + _STEP
        if (later := _offset_at(then, zone)) != offset:
            yield _first_with(later, at, then, zone), later
            offset = later
        at = then


def _first_with(offset: timedelta, before: datetime, after: datetime, zone: tzinfo | None) -> datetime:
    """Return the first second at which a zone has an offset that it has not at `before`, and has at `after`."""
    while after - before > _SECOND:
        middle = before + (after - before) // 2
        middle -= timedelta(microseconds=middle.microsecond)
        if middle <= before:
            break
        if _offset_at(middle, zone) == offset:
            after = middle
        else:
            before = middle
    return after


def _offset_at(moment: datetime, zone: tzinfo | None) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta(0)
