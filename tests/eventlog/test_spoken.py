"""Times as people write them, in a zone, also on the days on which its clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventlog.cli import times
from eventlog.errors import QueryFailed
from eventlog.format import spoken, timestamps

BERLIN = ZoneInfo("Europe/Berlin")
#: A Wednesday.
NOW = datetime(2026, 2, 11, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("now", "2026-02-11 10:30"), ("today", "2026-02-11"), ("yesterday", "2026-02-10"),
        (" Yesterday ", "2026-02-10"),
        ("wednesday", "2026-02-11"), ("Tuesday", "2026-02-10"), ("thursday", "2026-02-05"), ("monday", "2026-02-09"),
        ("sunday", "2026-02-08"), ("this week", "2026-02-09"), ("last  week", "2026-02-02"),
        ("this month", "2026-02-01"), ("last month", "2026-01-01"), ("2h", "2026-02-11 08:30"),
        ("2h ago", "2026-02-11 08:30"), ("90s", "2026-02-11 10:28:30"), ("1d", "2026-02-10 10:30"),
        ("4w", "2026-01-14 10:30"), ("2026-01", "2026-01-01"), ("2026-W01", "2025-12-29"), ("2026-w07", "2026-02-09"),
        ("2026-02-11", "2026-02-11"), ("2026-02-11 10:30", "2026-02-11 10:30"),
        ("2026-02-11T09:30:00Z", "2026-02-11 10:30"), ("2026-02-11 10:30:00+01:00", "2026-02-11 10:30"),
    ],
)  # fmt: skip
def test_words_mean_a_time_of_the_zone(text: str, there: str) -> None:
    """A day is its beginning, a day of the week the last one, today included."""
    found = spoken.read(text, BERLIN, NOW)
    assert found == datetime.fromisoformat(there).replace(tzinfo=BERLIN)
    assert found.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("now", "text", "begins", "hours"),
    [
        ("2026-03-29T10:00:00Z", "today", "2026-03-28T23:00:00Z", 23),
        ("2026-03-30T10:00:00Z", "yesterday", "2026-03-28T23:00:00Z", 23),
        ("2026-10-25T10:00:00Z", "today", "2026-10-24T22:00:00Z", 25),
        ("2026-10-26T10:00:00Z", "sunday", "2026-10-24T22:00:00Z", 25),
        ("2026-03-29T23:30:00Z", "today", "2026-03-29T22:00:00Z", 24),
        ("2026-11-02T10:00:00Z", "last week", "2026-10-25T23:00:00Z", 24),
        ("2026-11-01T10:00:00Z", "last month", "2026-09-30T22:00:00Z", 24),
    ],
)
def test_days_on_which_clocks_change(now: str, text: str, begins: str, hours: int) -> None:
    """They have 23 and 25 hours, and begin at midnight of the zone."""
    found = spoken.read(text, BERLIN, datetime.fromisoformat(now))
    assert found == datetime.fromisoformat(begins)
    day = found.astimezone(BERLIN).date()
    assert timestamps.midnight(day + timedelta(days=1), BERLIN).astimezone(UTC) - found == timedelta(hours=hours)


@pytest.mark.parametrize(
    "text", ["", "noon", "tomorrow", "next week", "mon day", "2026-13", "2026-W54", "2026-02-30", "-2h", "2 fortnights"]
)
def test_an_unknown_word_says_what_is_understood(text: str) -> None:
    """All of it, in one error."""
    with pytest.raises(QueryFailed) as caught:
        times.moment(text)
    assert str(caught.value) == f"{text!r} is not a time; use {spoken.UNDERSTOOD}"
    for word in ("2026-01-31", "2h", "today", "yesterday", "monday", "last week", "last month"):
        assert word in spoken.UNDERSTOOD


moments = st.datetimes(datetime(1990, 1, 3), datetime(2059, 12, 20), timezones=st.just(UTC))


@given(moments, st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC"]))
@example(datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "Europe/Berlin")
@example(datetime(2026, 10, 25, 1, 30, tzinfo=UTC), "Europe/Berlin")
def test_a_time_that_stands_alone_is_read_in_any_zone(moment: datetime, name: str) -> None:
    """It says its offset, so that it may be pasted anywhere; in a column, in the zone of the column."""
    zone = timestamps.zone_named(name)
    text = timestamps.stamped(moment, zone, timespec="microseconds")
    assert spoken.read(text, ZoneInfo("Asia/Tokyo"), NOW) == moment
    assert text.endswith("Z" if zone is UTC else timestamps.offset(moment, zone))
    assert spoken.read(timestamps.shown(moment, zone, timespec="microseconds"), zone, NOW) == moment


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (0, "0s"), (59.9, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h"), (86_399, "23h"), (86_400, "1d"),
     (27 * 86_400, "27d"), (28 * 86_400, "4w"), (400 * 86_400, "57w")],
)  # fmt: skip
def test_an_age_that_is_shown_is_read(seconds: float, text: str) -> None:
    """By `--since`, which then has the thing in it."""
    from eventlog.queries.text import units

    assert units.age(seconds) == text
    assert timestamps.age_s(text) is not None
