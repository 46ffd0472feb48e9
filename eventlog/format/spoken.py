"""Times as people write them: `2026-01-31 12:00`, `2h`, `yesterday`, `monday`, `last week`, `2026-W05`.

A day, a week and a month mean their beginning. They are those of a zone, also where its clocks change.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo

from eventlog.format import timestamps

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTH = re.compile(r"([0-9]{4})-([0-9]{2})")
_WEEK = re.compile(r"([0-9]{4})-w([0-9]{2})")
#: For errors and help.
UNDERSTOOD = (
    "ISO 8601 (2026-01-31, 2026-01-31 12:00, 2026-01, 2026-W05), an age (90s, 15m, 2h, 7d, 4w), now, today, yesterday, "
    "a day of the week (monday), this week, last week, this month, last month"
)


def moves(text: str) -> bool:
    """Say whether a text names another moment each time that it is read: an age, or now. A day lasts as long as one."""
    words = " ".join(text.lower().split())
    return words == "now" or timestamps.age_s(words.removesuffix(" ago")) is not None


def read(text: str, zone: tzinfo | None, now: datetime) -> datetime:
    """Return the moment that a text names, in UTC; of `zone` (None: that of this machine) where it names no zone.

    A day of the week is the last one of its name, today included. Raises ValueError, also for a day that no calendar
    has.
    """
    words = " ".join(text.lower().split())
    age_s = timestamps.age_s(words.removesuffix(" ago"))
    try:
        if age_s is not None:
            return now - timedelta(seconds=age_s)
        if words == "now":
            return now
        day = _day(words, timestamps.in_zone(now, zone).date())
        return timestamps.read(text, zone) if day is None else timestamps.midnight(day, zone).astimezone(UTC)
    except OverflowError as error:
        raise ValueError(str(error)) from None


def _day(words: str, today: date) -> date | None:
    """Return the day with which something begins, seen from today; None for what is none of these words."""
    month, week = _MONTH.fullmatch(words), _WEEK.fullmatch(words)
    if month:
        return date(int(month[1]), int(month[2]), 1)
    if week:
        return date.fromisocalendar(int(week[1]), int(week[2]), 1)
    if words in _WEEKDAYS:
        return today - timedelta(days=(today.weekday() - _WEEKDAYS.index(words)) % 7)
    this_week, this_month = today - timedelta(days=today.weekday()), today.replace(day=1)
    return {
        "today": today,
        "yesterday": today - timedelta(days=1),
        "this week": this_week,
        "last week": this_week - timedelta(days=7),
        "this month": this_month,
        "last month": (this_month - timedelta(days=1)).replace(day=1),
    }.get(words)
