"""Reading times of ISO 8601 and RFC 3339, whole: with leap seconds, a small z, and what Python's own reader lacks."""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo

_ISO = (
    r"(?P<year>[0-9]{4})(?P<mark>[-/.]?)(?P<month>[0-9]{2})(?P=mark)(?P<day>[0-9]{2})"
    r"(?:[Tt _](?P<hour>[0-9]{2}):?(?P<minute>[0-9]{2})(?::?(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]+))?)?"
    r"(?: ?(?:(?P<utc>Z|z|UTC|GMT)"
    r"|(?P<offset>[+-](?P<hours>[0-9]{2}):?(?P<minutes>[0-9]{2})?(?::?(?P<seconds>[0-9]{2}))?)))?)?"
)
#: What stands between date and time in forms that Python reads, without liberties of its own.
_USUAL = frozenset("T ")


@functools.cache
def _expression() -> re.Pattern[str]:
    """Return the expression of ISO 8601, with a few liberties that leave no doubt: 2026/01/15, a space, UTC for Z.

    It is compiled at its first use: few programs have times of unusual forms.
    """
    return re.compile(_ISO)


def parse(text: str, zone: tzinfo = UTC) -> datetime:
    """Read an ISO 8601 or RFC 3339 time; one without an offset is in `zone`. Raises ValueError.

    A leap second, :60, is the last instant of :59. Digits below a microsecond are cut off. Of a local time that a zone
    has twice, the first is meant; one that it skips is as far behind the skipped hour's start as it says.
    """
    text = text.strip()
    try:
        if text[10:11] in _USUAL:
            return in_utc(datetime.fromisoformat(text), zone)
    except ValueError:
        pass  # a leap second, or a small z
    match = _expression().fullmatch(text)
    if match is None:
        if "W" not in text:  # the days of weeks: 2026-W03-4
            raise ValueError(f"{text!r} is not ISO 8601")
        return in_utc(datetime.fromisoformat(text), zone)
    return in_utc(_from_parts(match), zone)


def in_utc(moment: datetime, zone: tzinfo) -> datetime:
    """Return a time in UTC; one without an offset is in `zone`. Raises ValueError where the calendar ends."""
    try:
        return (moment.replace(tzinfo=zone) if moment.tzinfo is None else moment).astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{moment} is before the year 1 or after the year 9999 in UTC") from None


def _from_parts(match: re.Match[str]) -> datetime:
    year, month, day, hour, minute, second = (
        int(match[name] or 0) for name in ("year", "month", "day", "hour", "minute", "second")
    )
    microsecond = int((match["fraction"] or "")[:6].ljust(6, "0"))
    if second == 60:
        second, microsecond = 59, 999_999
    days = 0
    if (hour, minute, second, microsecond) == (24, 0, 0, 0):  # the end of a day
        hour, days = 0, 1
    moment = datetime(year, month, day, hour, minute, second, microsecond, _offset(match))
    return moment + timedelta(days=days)


def _offset(match: re.Match[str]) -> tzinfo | None:
    if match["offset"] is None:
        return None if match["utc"] is None else UTC
    hours, minutes, seconds = (int(match[name] or 0) for name in ("hours", "minutes", "seconds"))
    offset = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return timezone(-offset if match["offset"][0] == "-" else offset)
