"""Times are shown and read in one zone, and days are those of the same: in any zone, where clocks change, too."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventlog.errors import QueryFailed
from eventlog.format import builtin, timestamps
from eventlog.queries import zones
from eventlog.queries.store import ReadStore
from tests.conftest import Run
from tests.queries.calls import TOKENS, call, recorded
from tests.queries.recordings import record

ZONES = (
    "UTC", "America/New_York", "Asia/Kolkata", "Asia/Tokyo", "Australia/Lord_Howe", "Europe/Dublin",
    "Africa/Casablanca", "America/Sao_Paulo", "Pacific/Apia", "Pacific/Chatham",
)  # fmt: skip
NEW_YORK = ZoneInfo("America/New_York")
#: In New York 2026-11-01 has 25 hours: at 06:00 UTC it is one o'clock once more.
CLOCKS_GO_BACK = datetime(2026, 11, 1, 6, tzinfo=UTC)

moments = st.datetimes(datetime(1990, 1, 3), datetime(2059, 12, 20), timezones=st.just(UTC))


@pytest.fixture(params=ZONES)
def here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ZoneInfo]:
    """This machine is in a zone."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield ZoneInfo(request.param)
    monkeypatch.undo()
    time.tzset()


# -- one time --------------------------------------------------------------------------------


@given(moments, st.sampled_from(ZONES))
@example(CLOCKS_GO_BACK - timedelta(minutes=30), "America/New_York")
@example(CLOCKS_GO_BACK + timedelta(minutes=30), "America/New_York")
def test_what_is_shown_is_read_as_the_same_time(moment: datetime, name: str) -> None:
    """To the microsecond, also in the hour that comes twice."""
    zone = timestamps.zone_named(name)
    assert timestamps.read(timestamps.shown(moment, zone, timespec="microseconds"), zone) == moment


def test_the_zone_of_this_machine_is_the_default(here: ZoneInfo) -> None:
    """For both; and each time of the day on which clocks change somewhere."""
    for quarter in range(4 * 30):
        moment = CLOCKS_GO_BACK - timedelta(hours=12) + timedelta(minutes=15 * quarter)
        assert timestamps.read(timestamps.shown(moment)) == moment
        assert timestamps.in_zone(moment).isoformat() == moment.astimezone(here).isoformat()


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2026-01-31 12:00", 17), ("2026-01-31T12:00:00", 17), ("2026-01-31 12:00Z", 12), ("2026-01-31 12:00 UTC", 12),
        ("2026-01-31 12:00 utc", 12), ("2026-01-31 12:00:00+01:00", 11), ("2026-01-31 12:00 +0100", 11),
        (" 2026-01-31 12:00 -05:00 ", 17), ("2026-01-31 12:00z", 12),
    ],
)  # fmt: skip
def test_a_time_may_say_its_zone(text: str, hour: int) -> None:
    """As other programs print it, too; otherwise it is of the zone that was asked for."""
    assert timestamps.read(text, NEW_YORK) == datetime(2026, 1, 31, hour, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "noon", "UTC", "2026-13-01", "2026-01-31 12:00 Mars", "2026-01-31 12:00+99:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """As a ValueError, whatever it is."""
    with pytest.raises(ValueError, match=r"."):
        timestamps.read(text)


def test_an_hour_that_comes_twice_is_shown_with_its_offset() -> None:
    """All others without, and UTC with a Z."""
    shown = [timestamps.shown(CLOCKS_GO_BACK + timedelta(hours=n), NEW_YORK) for n in (-2, -1, 0, 1)]
    assert shown == [
        "2026-11-01 00:00:00", "2026-11-01 01:00:00-04:00", "2026-11-01 01:00:00-05:00", "2026-11-01 02:00:00",
    ]  # fmt: skip
    assert timestamps.shown(CLOCKS_GO_BACK, UTC) == "2026-11-01 06:00:00Z"


def test_an_unknown_zone_says_what_to_try() -> None:
    """With examples."""
    for name in ("Mars/Olympus", "", "../../etc/passwd", "Europe"):
        with pytest.raises(QueryFailed, match=r"^unknown time zone .*; use a name such as Europe/Berlin"):
            timestamps.zone_named(name)


# -- days ------------------------------------------------------------------------------------


@given(st.lists(moments, min_size=1, max_size=40), st.sampled_from(ZONES), st.sampled_from(["day", "week", "month"]))
def test_days_are_those_of_the_calendar(times: list[datetime], name: str, unit: str) -> None:
    """Of the zone, as Python knows it."""
    zone = timestamps.zone_named(name)
    starts = bucketed(times, unit, name)
    for moment, start in zip(times, starts, strict=True):
        day = moment.astimezone(zone).date()
        first = {"day": day, "week": day - timedelta(days=day.weekday()), "month": day.replace(day=1)}[unit]
        assert start.date() == first, moment


@given(st.lists(moments, min_size=1, max_size=40), st.sampled_from(ZONES))
@example([CLOCKS_GO_BACK + timedelta(minutes=20 * n) for n in range(-6, 6)], "America/New_York")
def test_an_hour_is_an_hour_of_the_clock(times: list[datetime], name: str) -> None:
    """It begins when the clock does, less than an hour ago; the hour that comes twice is two hours."""
    for moment, start in zip(times, bucketed(times, "hour", name), strict=True):
        assert timedelta(0) <= moment - start < timedelta(hours=1)
        same_offset = moment.astimezone(start.tzinfo).utcoffset() == start.utcoffset()
        assert start.minute == 0 or not same_offset


def bucketed(times: list[datetime], unit: str, name: str) -> list[datetime]:
    zone = timestamps.zone_named(name)
    with duckdb.connect() as connection:
        sql = f"SELECT {zones.bucket(unit, 'moment', zone)} FROM (SELECT unnest(?::TIMESTAMP[]) AS moment)"
        rows = connection.execute(sql, [[moment.replace(tzinfo=None) for moment in times]]).fetchall()
    return [zones.started(unit, start, zone) for (start,) in rows]


#: Calls at the edges of the day of 25 hours, and their tokens.
EDGES = (
    ("2026-11-01T03:59:59Z", 1000), ("2026-11-01T04:00:00Z", 2000), ("2026-11-02T04:59:59Z", 4000),
    ("2026-11-02T05:00:00Z", 8000),
)  # fmt: skip
OF_NEW_YORK = {"2026-10-31": 1000, "2026-11-01": 6000, "2026-11-02": 8000}
OF_UTC = {"2026-11-01": 3000, "2026-11-02": 12000}


@pytest.mark.parametrize(
    ("options", "tz", "days"),
    [
        ((), "America/New_York", OF_NEW_YORK), (("--utc",), "America/New_York", OF_UTC),
        (("--time-zone", "America/New_York"), "Asia/Tokyo", OF_NEW_YORK), ((), "UTC", OF_UTC),
        (("--time-zone", "UTC"), "America/New_York", OF_UTC),
    ],
)  # fmt: skip
def test_cost_and_metrics_per_day(
    root: Path, run: Run, options: tuple[str, ...], tz: str, days: dict[str, int]
) -> None:
    """Of the zone of this machine, or of another one; in lists and as JSON."""
    recorded(root, *(call(at, "claude-opus-4-5", tokens) for at, tokens in EDGES))
    told = json.loads(run("cost", "daily", "--json", *options, TZ=tz).stdout)
    assert {row["start"][:10]: row[TOKENS[0]] for row in told["rows"]} == days
    figures = json.loads(run("metrics", "--json", *options, TZ=tz).stdout)
    assert {row["start"][:10]: row[TOKENS[0]] for row in figures} == days
    shown = run("cost", *options, TZ=tz).stdout
    assert all(f"|{day} " in shown for day in days)


def test_hours_that_come_twice_are_two(root: Path, run: Run) -> None:
    """Each with its offset; their calls are not added up."""
    recorded(root, *(call(f"2026-11-01T0{hour}:30:00Z", "m", 1) for hour in (4, 5, 6, 7)))
    shown = run("metrics", "hourly", "--time-zone", "America/New_York").stdout
    hours = [line.split("|")[1].strip() for line in shown.splitlines() if line.startswith("|2026")]
    assert hours == ["2026-11-01 00:00", "2026-11-01 01:00-04:00", "2026-11-01 01:00-05:00", "2026-11-01 02:00"]


def test_today_is_the_day_of_the_zone(root: Path) -> None:
    """Of 25 hours, so that the projection to its end is one for 25 hours."""
    recorded(
        root, call("2026-11-01T05:00:00Z", "m", 1, cost_usd="6"), call("2026-11-01T03:00:00Z", "m", 1, cost_usd="7")
    )
    today = ReadStore(root).costs(now=CLOCKS_GO_BACK, zone=NEW_YORK).today
    assert (today.day.isoformat(), today.elapsed_s) == ("2026-11-01T00:00:00-04:00", 7200)
    assert [today.cost_usd, today.usd_per_hour, today.projected_usd] == [Decimal(6), Decimal(3), Decimal(75)]


# -- commands --------------------------------------------------------------------------------

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("tz", ["America/New_York", "Asia/Tokyo", "UTC"])
@pytest.mark.parametrize("command", ["runs", "sessions", "requests", "search word", "tail"])
def test_a_time_that_is_shown_works_as_since(root: Path, run: Run, command: str, tz: str) -> None:
    """It finds the thing; a minute later does not. With --utc, times of UTC do."""
    envelope = {"run_id": "r", "session_id": "s", "request_id": "q"}
    record(root, (AT, builtin.RunStarted(name="word"), envelope))

    def found(moment: datetime, *options: str) -> bool:
        text = f"{moment:%Y-%m-%d %H:%M:%S}"
        return bool(json_lines(run(*command.split(), "--json", "--since", text, *options, TZ=tz).stdout))

    there = AT.astimezone(ZoneInfo(tz))
    assert (found(there), found(there + timedelta(minutes=1))) == (True, False)
    assert (found(AT, "--utc"), found(AT + timedelta(minutes=1), "--utc")) == (True, False)
    if command == "runs":
        assert f"{there:%Y-%m-%d %H:%M:%S}" in run("runs", TZ=tz).stdout


def json_lines(text: str) -> list[object]:
    """What was listed: the elements of an array, the hits of a search, or the lines of a log."""
    if text.startswith("["):
        return list(json.loads(text))
    lines = [json.loads(line) for line in text.splitlines()]
    return lines[0]["hits"] if lines and "hits" in lines[0] else lines


def test_one_zone_at_a_time(root: Path, run: Run) -> None:
    """And a known one."""
    record(root, (AT, "note", {}))
    both = run("cost", "--utc", "--time-zone", "Asia/Tokyo")
    assert (both.returncode, both.stdout) == (2, "")
    assert "use either --utc or --time-zone" in both.stderr
    unknown = run("metrics", "--time-zone", "Mars")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr.startswith("error: unknown time zone 'Mars'; use a name such as Europe/Berlin")
