"""Times as other programs write them: read where there is one reading, else refused with a reason.

A number is read by the one unit that puts it between 1980 and 2200. Of epochs in seconds, ms, µs and ns, of FILETIME,
of WebKit's time and of dates written as digits no two fit one number. Only .NET's ticks and nanoseconds do: what may
be either is refused, until somebody says which. A number below 10,000 counts something, such as the lines of a test:
it says no time, and costs no event.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo

from eventlog.errors import InvalidEvent
from eventlog.format import iso8601

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FROM, _TO = datetime(1980, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


class Unit(NamedTuple):
    """What a number of a time may count: its parts of a second since a year."""

    text: str
    per_second: int
    since: datetime = _EPOCH
    #: From when on a number is taken for it.
    begins: datetime = _FROM

    def moment(self, value: float) -> datetime:
        """Return the time of a number. Raises OverflowError."""
        whole, part = divmod(value, self.per_second)
        return self.since + timedelta(seconds=int(whole), microseconds=round(part * 10**6 / self.per_second))

    def numbers(self) -> tuple[int, int]:
        """Return the first number that is a likely time in this unit, and the first behind them."""
        first, end = ((each - self.since) // timedelta(seconds=1) for each in (self.begins, _TO))
        return first * self.per_second, end * self.per_second


#: By the names that `--time-format` takes. The range of ticks begins early: rather a refusal than a wrong year.
UNITS = {
    "s": Unit("seconds", 1),
    "ms": Unit("milliseconds", 10**3),
    "us": Unit("microseconds", 10**6),
    "ns": Unit("nanoseconds", 10**9),
    "dotnet": Unit(".NET ticks", 10**7, datetime(1, 1, 1, tzinfo=UTC), datetime(1965, 1, 1, tzinfo=UTC)),
    "filetime": Unit("FILETIME", 10**7, datetime(1601, 1, 1, tzinfo=UTC)),
    "webkit": Unit("WebKit's microseconds", 10**6, datetime(1601, 1, 1, tzinfo=UTC)),
}
_RANGES = [(*unit.numbers(), name) for name, unit in UNITS.items()]
_NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?")
_COUNTERS_END = 10_000
_TEXT_MAX_CHARS = 100
_DIGITS = re.compile(r"([0-9]{8})(?:([0-9]{6})([0-9]{3})?)?")

_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})"
_TIME = r"(?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?)"
_ZONE = r"(?P<zone>[+-][0-9]{4}|UTC?|GMT|Z)"
_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        # RFC 2822: Thu, 15 Jan 2026 12:30:45 +0000
        rf"(?:{_DAY}, ?)?(?P<date>[0-9]{{1,2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME}(?: {_ZONE})?(?: \([A-Z]+\))?",
        # Apache: 15/Jan/2026:12:30:45 +0000
        rf"\[?(?P<date>[0-9]{{2}})/{_MONTH}/(?P<year>[0-9]{{4}}):{_TIME} {_ZONE}\]?",
        # C and `date`: Thu Jan 15 12:30:45 UTC 2026
        rf"{_DAY} {_MONTH} {{1,2}}(?P<date>[0-9]{{1,2}}) {_TIME}(?: {_ZONE})? (?P<year>[0-9]{{4}})",
        # JavaScript: Thu Jan 15 2026 12:30:45 GMT+0000 (Coordinated Universal Time)
        rf"{_DAY} {_MONTH} (?P<date>[0-9]{{2}}) (?P<year>[0-9]{{4}}) {_TIME} GMT(?P<zone>[+-][0-9]{{4}})(?: \(.*\))?",
    )
)
#: A zone's name behind an offset adds nothing: Go's `+0100 CET m=+0.01`, Java's `+01:00[Europe/Paris]`.
_NAMED_OFFSET = re.compile(
    r"(?P<time>.*:[0-9.]+ [+-][0-9]{4}) (?:[A-Z]{1,5}|[+-][0-9]{2,4})(?: m=[+-][0-9.]+)?"
    r"|(?P<other>.*:[0-9.]+(?:Z|[+-][0-9]{2}:[0-9]{2}))\[[A-Za-z0-9_/+-]+\]"
)
_DAY_OR_MONTH = re.compile(r"[0-9]{1,2}[/.-][0-9]{1,2}[/.-][0-9]{2,4}\b.*")


class Times:
    """How the times of one import are read.

    `format_` is a name of UNITS, `iso`, or a format of `strptime`; without it, the reading is found by the value.
    `zone` is the IANA name of the zone of times without an offset: UTC, if not given. Raises InvalidEvent for a wrong
    one.
    """

    def __init__(self, format_: str | None = None, zone: str | None = None) -> None:
        self._zone = UTC if zone is None else _zone(zone)
        self._read = self._any if format_ is None else self._reader(format_)

    def read(self, value: object) -> datetime:
        """Return the time that a value of a foreign line says; 1970-01-01 is "not known".

        Raises ValueError with the reason if it is no time.
        """
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError("a time is a text or a number")  # noqa: TRY004 - what a line holds is no mistake of a program
        if isinstance(value, str) and len(value) > _TEXT_MAX_CHARS:
            raise ValueError("it is too long for a time")
        try:
            return self._read(value)
        except OverflowError:
            raise ValueError("it is before the year 1 or after the year 9999") from None

    def _reader(self, format_: str) -> Callable[[float | str], datetime]:
        if format_ in UNITS:
            unit = UNITS[format_]
            return lambda value: unit.moment(_number(value))
        if format_ == "iso":
            return lambda value: iso8601.parse(str(value), self._zone)
        _check_strptime(format_)
        return lambda value: iso8601.in_utc(datetime.strptime(str(value), format_), self._zone)

    def _any(self, value: float | str) -> datetime:
        if isinstance(value, str) and not _NUMBER.fullmatch(value):
            return _of_text(value.strip(), self._zone)
        return self._of_number(value)

    def _of_number(self, value: float | str) -> datetime:
        number = _number(value)
        names = [name for first, end, name in _RANGES if first <= number < end]
        if len(names) == 1:  # no date of digits is in any of the ranges
            return UNITS[names[0]].moment(number)
        date = _of_digits(str(value), self._zone)
        if date is not None:
            return date
        if 0 < number < _COUNTERS_END:
            return _EPOCH
        if not names:
            raise ValueError(f"no unit puts it between {_FROM.year} and {_TO.year}; name one by --time-format")
        readings = " or ".join(f"{UNITS[name].text} of {UNITS[name].moment(number):%Y-%m-%d}" for name in names)
        raise ValueError(f"it may be {readings}; say which by --time-format {' or '.join(names)}")


_times = Times()


def time_of(value: object) -> datetime | None:
    """Return the time that a value says, if it has one reading; else None."""
    try:
        found = _times.read(value)
    except ValueError:
        return None
    return None if found == _EPOCH else found


def _number(value: float | str) -> float:
    if not isinstance(value, str):
        return value
    if not _NUMBER.fullmatch(value):
        raise ValueError("it is not a number")
    return float(value) if "." in value else int(value)


def _of_digits(digits: str, zone: tzinfo) -> datetime | None:
    """Return the time of 20260115, 20260115123045 or 20260115123045250; None for other digits."""
    match = _DIGITS.fullmatch(digits)
    if match is None:
        return None
    date, time_, ms = match.groups()
    try:
        moment = iso8601.parse(f"{date}T{time_ or '000000'}.{ms or '0'}", zone)
    except ValueError:
        return None
    return moment if _FROM.year <= int(date[:4]) < _TO.year else None


def _of_text(text: str, zone: tzinfo) -> datetime:
    try:
        return iso8601.parse(text, zone)
    except ValueError as error:
        named = _NAMED_OFFSET.fullmatch(text)
        if named is not None:
            return iso8601.parse(named["time"] or named["other"], zone)
        for form in _FORMS:
            match = form.fullmatch(text)
            if match is not None:
                return iso8601.parse(_as_iso(match), zone)
        reason = "day and month cannot be told apart" if _DAY_OR_MONTH.fullmatch(text) else str(error)
        raise ValueError(f"{reason}; describe the format, as by --time-format '%d/%m/%Y %H:%M'") from None


def _as_iso(match: re.Match[str]) -> str:
    month = _MONTHS.index(match["month"].lower()) + 1
    zone = match["zone"] or ""
    offset = zone if zone[:1] in ("", "+", "-") else "Z"
    return f"{match['year']}-{month:02}-{int(match['date']):02}T{match['time']}{offset}"


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, KeyError, ValueError):
        raise InvalidEvent(
            f"time zone {name!r} is not known; use an IANA name such as Europe/Berlin (the package tzdata has them)"
        ) from None


def _check_strptime(format_: str) -> None:
    """Refuse a format that says too little, by a time written and read again. Raises InvalidEvent."""
    names = ", ".join([*UNITS, "iso"])
    if "%" not in format_:
        raise InvalidEvent(f"time format {format_!r} is not known; use one of {names}, or one of strptime with %Y")
    if "%Z" in format_:
        raise InvalidEvent("time format: %Z reads no zone; use %z for an offset, else write the name and --time-zone")
    if not re.search("%[YyGcx]", format_):
        raise InvalidEvent(f"time format {format_!r} has no year; use %Y")
    written = datetime(2026, 11, 25, 13, 30, 45, tzinfo=UTC)
    try:
        read = datetime.strptime(written.strftime(format_), format_)
    except ValueError as error:
        raise InvalidEvent(f"time format {format_!r} cannot be read: {error}") from None
    if read.date() != written.date() or read.hour not in (0, 13):
        raise InvalidEvent(f"time format {format_!r} needs a year, a month and a day, and for %I also %p")
