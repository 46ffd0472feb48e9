"""Timestamps in the log: RFC 3339, UTC, microseconds, `Z`, such as `2026-01-02T03:04:05.000000Z`.

They have a fixed width of 27 characters, so that they sort as text.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, date, datetime, timedelta, tzinfo

from eventlog.errors import QueryFailed
from eventlog.format import iso8601

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: The timestamp of imported events whose source has no time. It must not depend on when or in which order
#: something was imported, or a second import would add rows.
UNKNOWN = "1970-01-01T00:00:00.000000Z"

#: A duration in milliseconds that is negative, or longer than this (about 30 years), is a mistake in the log: it is
#: left out of what is computed from durations, and moves no event.
MS_MAX = 1e12

#: Years 0001 to 9999, as in Python; RFC 3339 also has year 0.
PATTERN = r"^(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-([0-2][0-9]|3[01])T([01][0-9]|2[0-3])(:[0-5][0-9]){2}\.[0-9]{6}Z\Z"


#: The last formatted second, up to its decimal point: many events fall into one second.
_last_second = (0, UNKNOWN[:20])


def from_ns(time_ns: int) -> str:
    """Format nanoseconds since the epoch; digits below a microsecond are cut off."""
    global _last_second
    second, rest_ns = divmod(time_ns, 1_000_000_000)
    cached, text = _last_second
    if second != cached:
        # Not by datetime: Python 3.13.0 crashes in its arithmetic while the interpreter ends.
        year, month, day, hour, minute, seconds, *_ = time.gmtime(second)
        text = f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{seconds:02}."
        _last_second = second, text  # in one assignment, since threads share it
    return f"{text}{rest_ns // 1000:06d}Z"


def utc(moment: datetime) -> datetime:
    """Return a time in UTC, with its zone. One without a zone is UTC already."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def in_zone(moment: datetime, zone: tzinfo | None = None) -> datetime:
    """Return a time in a zone, by default that of this machine; in UTC where the calendar of the zone ends before."""
    moment = utc(moment)
    try:
        return moment.astimezone(zone)
    except (OverflowError, ValueError, OSError):
        return moment


def shown(moment: datetime, zone: tzinfo | None = None, *, timespec: str = "seconds") -> str:
    """Return a time for people, in a zone, by default that of this machine: `2026-01-31 12:00:00`, in UTC with a Z.

    Where the clocks go back, an hour comes twice: its times have their offset, so that `read` understands each.
    """
    there = in_zone(moment, zone)
    if zone is not UTC and _comes_twice(there, zone):
        return there.isoformat(sep=" ", timespec=timespec)
    return there.replace(tzinfo=None).isoformat(sep=" ", timespec=timespec) + ("Z" if zone is UTC else "")


def stamped(moment: datetime, zone: tzinfo | None = None, *, timespec: str = "seconds") -> str:
    """Return a time as `shown` does, with its offset, for where it stands alone: `2026-01-31 12:00:00+01:00`."""
    return (
        shown(moment, zone, timespec=timespec)
        if zone is UTC
        else in_zone(moment, zone).isoformat(sep=" ", timespec=timespec)
    )


def offset(moment: datetime, zone: tzinfo | None = None) -> str:
    """Return the offset of a zone from UTC at a time: `+01:00`."""
    there = in_zone(moment, zone)
    return there.isoformat().removeprefix(there.replace(tzinfo=None).isoformat())


def midnight(day: date, zone: tzinfo | None = None) -> datetime:
    """Return the time at which a day begins in a zone; where its clocks have no such time, what comes in its place."""
    start = datetime(day.year, day.month, day.day)
    there = start.astimezone() if zone is None else start.replace(tzinfo=zone)
    return in_zone(there, zone)


def zone_named(name: str) -> tzinfo:
    """Return the zone of a name, such as `Europe/Berlin` or `UTC`. Raises QueryFailed for an unknown one."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415 - programs that only write need none

    try:
        return UTC if name.upper() in ("UTC", "Z") else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise QueryFailed(
            f"unknown time zone {name!r}; use a name such as Europe/Berlin, America/New_York, UTC"
        ) from None


def _comes_twice(there: datetime, zone: tzinfo | None) -> bool:
    clock = there.replace(tzinfo=None)
    try:
        first, second = (
            (clock.replace(fold=fold).astimezone() if zone is None else clock.replace(fold=fold, tzinfo=zone))
            for fold in (0, 1)
        )
        return first.utcoffset() != second.utcoffset()
    except (OverflowError, ValueError, OSError):
        return False


class _Here(tzinfo):
    """The zone of this machine, whatever it is called."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return None if moment is None else moment.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, _: datetime | None) -> None:
        return None

    def tzname(self, _: datetime | None) -> None:
        return None


_HERE = _Here()


def read(text: str, zone: tzinfo | None = None) -> datetime:
    """Read a time that a person wrote, in UTC: one that names no zone is of this one, by default of this machine.

    Raises ValueError.
    """
    try:
        return parse(text.upper(), _HERE if zone is None else zone)
    except (OverflowError, OSError) as error:  # the calendar of this machine ends before
        raise ValueError(str(error)) from None


def naive_utc(moment: datetime) -> datetime:
    """Return a time in UTC, without its zone: the form in which DuckDB stores and compares it."""
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def to_text(moment: datetime) -> str:
    """Format a datetime; one without a time zone is taken as UTC."""
    return naive_utc(moment).isoformat(timespec="microseconds") + "Z"


parse = iso8601.parse


def to_us(moment: datetime) -> int:
    """Return microseconds since the epoch, without rounding."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


_AGE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhdw])")
_AGE_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def age_s(text: str) -> float | None:
    """Return an age like 90s, 15m, 2h, 7d or 4w in seconds; None for any other text."""
    match = _AGE.fullmatch(text)
    return float(match[1]) * _AGE_UNITS_S[match[2]] if match else None


def from_foreign(value: object) -> datetime | None:
    """Return the time that a value of another program says (eventlog.format.foreign_times); None if it says none.

    Never raises.
    """
    from eventlog.format import foreign_times  # noqa: PLC0415 - for importers; its expressions take time to compile

    return foreign_times.time_of(value)
