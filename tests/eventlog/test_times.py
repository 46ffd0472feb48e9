"""Times of other programs: one reading, or a refusal that says why; never a time that nobody meant."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.errors import InvalidEvent
from eventlog.format import timestamps
from eventlog.format.foreign_times import UNITS, Times
from eventlog.importers.claude_code import ClaudeCode
from eventlog.importers.jsonl import Jsonl
from tests.conftest import lines_of
from tests.eventlog.test_importers import import_, payloads

NOON = "2026-01-15T12:30:45.000000Z"
READ: list[tuple[object, str]] = [
    # RFC 3339 and ISO 8601
    ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999999Z"),
    ("1990-12-31T15:59:60-08:00", "1990-12-31T23:59:59.999999Z"),
    ("2015-07-01T01:59:60.5+02:00", "2015-06-30T23:59:59.999999Z"),
    ("2026-01-15T12:30:45z", NOON),
    ("2026-01-15t12:30:45.5z", "2026-01-15T12:30:45.500000Z"),
    ("2026-01-15 12:30:45,250", "2026-01-15T12:30:45.250000Z"),
    ("2026-01-15T12:30:45.123456789+02:00", "2026-01-15T10:30:45.123456Z"),
    ("1937-01-01T12:00:27.87+00:20", "1937-01-01T11:40:27.870000Z"),
    ("2026-01-15T24:00:00Z", "2026-01-16T00:00:00.000000Z"),
    ("20260115T123045Z", NOON),
    ("2026-W03-4", "2026-01-15T00:00:00.000000Z"),
    ("  2026-01-15_12:30:45  ", NOON),
    # others without doubt
    ("2026-01-15T12:30:45UTC", NOON),
    ("2026-01-15 12:30:45 +0000 UTC", NOON),
    ("2026-01-15 13:30:45.25 +0100 CET m=+0.012345", "2026-01-15T12:30:45.250000Z"),
    ("2026-01-15 18:00:45 +0530 +0530", NOON),
    ("2026-01-15T13:30:45+01:00[Europe/Paris]", NOON),
    ("2026/01/15 12:30:45", NOON),
    ("Thu, 15 Jan 2026 12:30:45 +0000", NOON),
    ("15 jan 2026 12:30:45 gmt", NOON),
    ("15/Jan/2026:13:30:45 +0100", NOON),
    ("[15/Jan/2026:12:30:45 +0000]", NOON),
    ("Thu Jan 15 12:30:45 2026", NOON),
    ("Thu Jan  5 12:30:45 UTC 2026", "2026-01-05T12:30:45.000000Z"),
    ("Thu Jan 15 2026 13:30:45 GMT+0100 (Central European Standard Time)", NOON),
    # numbers
    (1768480245, NOON),
    (1768480245.25, "2026-01-15T12:30:45.250000Z"),
    ("1768480245.123456", "2026-01-15T12:30:45.123456Z"),
    (1768480245000, NOON),
    (1768480245000000, NOON),
    (1768480245000000000, NOON),
    (134129538450000000, NOON),
    (13412953845000000, NOON),
    (315532800, "1980-01-01T00:00:00.000000Z"),
    ("20260115", "2026-01-15T00:00:00.000000Z"),
    (20260115, "2026-01-15T00:00:00.000000Z"),
    ("20260115123045", NOON),
    (20260115123045250, "2026-01-15T12:30:45.250000Z"),
]


@pytest.mark.parametrize(("value", "expected"), READ, ids=str)
def test_a_time_with_one_reading_is_read(value: object, expected: str) -> None:
    """Numbers may be texts."""
    assert timestamps.to_text(Times().read(value)) == expected
    if isinstance(value, int):
        assert timestamps.to_text(Times().read(str(value))) == expected


REFUSED: list[tuple[object, str]] = [
    (0, "no unit"),
    (10_000, "no unit"),
    (46037.52, "no unit"),
    (-1768480245, "no unit"),
    (315532799, "no unit"),
    (1e40, "no unit"),
    ("202601151230", "no unit"),
    ("202601151230455", "no unit"),
    ("20261345", "no unit"),
    ("19700101", "no unit"),
    (620000000000000000, "nanoseconds of 1989-08-24 or .NET ticks of 1965-09-14"),
    ("639040770450000000", "nanoseconds of 1990-04-02 or .NET ticks of 2026-01-15; say which by --time-format ns or"),
    (660000000000000000, "nanoseconds of 1990-11-30 or .NET ticks of 2092-06-15"),
    ("01/02/2026 12:30", "day and month cannot be told apart"),
    ("15.01.2026", "day and month cannot be told apart"),
    ("2026-01-15T12:30:45 CET", "not ISO 8601"),
    ("2026-01-15 12:30:45 PM", "not ISO 8601"),
    ("2026-01-15-08:00", "not ISO 8601"),
    ("2026-01-15T12:30:61Z", "second must be"),
    ("2026-02-30", "day is out of range"),
    ("0001-01-01T00:00:00+01:00", "before the year 1"),
    ("x" * 1_000_000, "too long"),
    ("", "not ISO 8601"),
    (True, "a text or a number"),
    (None, "a text or a number"),
    ({"$date": 1768480245000}, "a text or a number"),
]


@pytest.mark.parametrize(("value", "reason"), REFUSED, ids=lambda each: str(each)[:40])
def test_what_has_none_or_two_is_refused_with_the_reason(value: object, reason: str) -> None:
    """It is never 1970, and never a guess."""
    with pytest.raises(ValueError, match=reason.replace(".", r"\.")):
        Times().read(value)
    assert timestamps.from_foreign(value) is None


@pytest.mark.parametrize(
    ("format_", "zone", "value", "expected"),
    [
        ("dotnet", None, 639040770450000000, NOON),
        ("ns", None, 639040770450000000, "1990-04-02T07:19:30.450000Z"),
        ("s", None, -5, "1969-12-31T23:59:55.000000Z"),
        ("ms", None, "1000.5", "1970-01-01T00:00:01.000500Z"),
        ("iso", None, 20260115, "2026-01-15T00:00:00.000000Z"),
        ("%d/%m/%Y %H:%M:%S", "Europe/Berlin", "15/01/2026 13:30:45", NOON),
        ("%d/%m/%Y %H:%M:%S %z", "Europe/Berlin", "15/01/2026 12:30:45 +0000", NOON),
        ("%Y%m%d%H", None, 2026011512, "2026-01-15T12:00:00.000000Z"),
        (None, "Europe/Berlin", "2026-01-15 13:30:45", NOON),
        (None, "Europe/Berlin", "2026-07-15 14:30:45", "2026-07-15T12:30:45.000000Z"),
        (None, "Europe/Berlin", "2026-01-15T12:30:45Z", NOON),
        (None, "Europe/Berlin", "20260115133045", NOON),
        (None, "Europe/Berlin", "Thu Jan 15 13:30:45 2026", NOON),
        (None, "Europe/Berlin", 1768480245, NOON),
        # the clock is put back at 3:00: the first of both 2:30
        (None, "Europe/Berlin", "2026-10-25 02:30:00", "2026-10-25T00:30:00.000000Z"),
        # the clock is put forward at 2:00: half an hour behind that is 3:30
        (None, "Europe/Berlin", "2026-03-29 02:30:00", "2026-03-29T01:30:00.000000Z"),
    ],
)
def test_what_somebody_says_decides(format_: str | None, zone: str | None, value: object, expected: str) -> None:
    """The format, also of times that would not be likely; the zone, where a time says none."""
    assert timestamps.to_text(Times(format_, zone).read(value)) == expected


@pytest.mark.parametrize(
    ("format_", "zone", "reason"),
    [
        ("seconds", None, "use one of s, ms"),
        ("%d.%m. %H:%M", None, "no year"),
        ("%Y", None, "needs a year, a month and a day"),
        ("%Y-%m-%d %I:%M", None, "for %I also %p"),
        ("%Y-%m-%d %Z", None, "%Z reads no zone"),
        ("%Y-%Q", None, "cannot be read"),
        (None, "Mars/Olympus", "is not known"),
        (None, "Europe", "is not known"),
        (None, "../../etc/passwd", "is not known"),
        (None, "", "is not known"),
    ],
)
def test_a_format_or_zone_that_reads_nothing_is_refused_first(
    format_: str | None, zone: str | None, reason: str
) -> None:
    """Before any line is read."""
    with pytest.raises(InvalidEvent, match=reason):
        Times(format_, zone)


def test_a_value_that_does_not_fit_the_format_is_refused() -> None:
    """Although it would be read without one."""
    for format_, value in (("s", "2026-01-15"), ("iso", 1768480245), ("%d/%m/%Y", "2026-01-15"), ("dotnet", 10**30)):
        with pytest.raises(ValueError, match=r"."):
            Times(format_).read(value)


MOMENTS = st.datetimes(datetime(1980, 1, 1), datetime(2199, 12, 31, 23, 59, 59))


@given(moment=MOMENTS, unit=st.sampled_from(list(UNITS)), as_text=st.booleans())
def test_the_number_of_any_moment_is_read_right_or_refused(moment: datetime, unit: str, as_text: bool) -> None:
    """In each unit; refused are only nanoseconds and .NET's ticks."""
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    number = (moment - UNITS[unit].since) // timedelta(seconds=1) * UNITS[unit].per_second
    value = str(number) if as_text else number
    assert Times(unit).read(value) == moment
    assert timestamps.from_foreign(value) == moment or (
        timestamps.from_foreign(value) is None and unit in ("ns", "dotnet")
    )


FORMS = [
    "%Y-%m-%dT%H:%M:%S{}", "%Y-%m-%d %H:%M:%S {}", "%Y/%m/%d %H:%M:%S{}", "%Y%m%dT%H%M%S{}", "%d/%b/%Y:%H:%M:%S {}",
    "%a, %d %b %Y %H:%M:%S {}", "%a %b %d %H:%M:%S {} %Y", "%a %b %d %Y %H:%M:%S GMT{}", "%Y-%m-%d %H:%M:%S {} CEST",
]  # fmt: skip


@given(moment=MOMENTS, form=st.sampled_from(FORMS), minutes=st.integers(-14 * 60, 14 * 60))
def test_the_text_of_any_moment_is_read_right(moment: datetime, form: str, minutes: int) -> None:
    """With any offset of whole minutes."""
    local = moment.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=minutes)))
    assert Times().read(local.strftime(form.format("%z"))) == local


@given(value=st.one_of(st.text(), st.text("0123456789-:T.Z+ ", max_size=30), st.integers(), st.floats()))
def test_any_value_is_a_time_or_refused(value: object) -> None:
    """Nothing else happens; and what is written as digits lies in the range that is likely."""
    found = timestamps.from_foreign(value)
    if found is not None and (isinstance(value, int | float) or str(value).isdecimal()):
        assert 1980 <= found.year < 2200


@pytest.mark.parametrize("value", [1, 0.5, "2", 9999])
def test_a_small_number_says_no_time_and_costs_no_event(root: Path, tmp_path: Path, value: object) -> None:
    """It counts something; 1970-01-01 is \"not known\"."""
    path = tmp_path / "f.jsonl"
    path.write_text(json.dumps({"at": value}) + "\n")
    assert import_(root, path, format_=Jsonl(type_="t", time_field="at")).rejected == 0
    assert [json.loads(line)["timestamp"] for line in lines_of(root, "t")] == [timestamps.UNKNOWN]
    assert timestamps.from_foreign(value) is None


def test_the_options_reach_the_import(root: Path, tmp_path: Path) -> None:
    """And a file is read again with other ones: they belong to what is known of it."""
    path = tmp_path / "f.jsonl"
    path.write_text(json.dumps({"at": 639040770450000000}) + "\n")
    assert import_(root, path, format_=Jsonl(type_="t", time_field="at")).rejected == 1
    assert "say which by --time-format ns or dotnet" in payloads(root, "import_rejected")[0]["reason"]
    assert import_(root, path, format_=Jsonl(type_="t", time_field="at", time_format="dotnet")).rejected == 0
    assert [json.loads(line)["timestamp"] for line in lines_of(root, "t")] == [NOON]


def test_keys_without_the_options_are_those_of_earlier_imports() -> None:
    """Else each file would be imported again."""
    assert Jsonl(type_="t", time_field="at").key == 'jsonl ["t",null,"at",null,null,null,null]'
    assert (
        Jsonl(type_="t", time_field="at", time_zone="UTC").key == 'jsonl ["t",null,"at",null,null,null,null,null,"UTC"]'
    )
    with pytest.raises(InvalidEvent, match="for a time field"):
        Jsonl(type_="t", time_format="s")


def test_a_transcript_with_an_unlikely_time_has_none() -> None:
    """Rather than one in 1970 or 1990."""
    made = [
        ClaudeCode().envelopes(json.dumps({"timestamp": at}).encode(), "s", 0)[0]
        for at in (5, 46037, 639040770450000000)
    ]
    assert {each.timestamp for each in made} == {timestamps.UNKNOWN}


def test_no_date_of_digits_is_a_number_of_any_unit() -> None:
    """So it does not matter which of both is looked for first."""
    ranges = [unit.numbers() for unit in UNITS.values()]
    for rest in ("0101", "1231", "0101000000", "1231235959", "0101000000000", "1231235959999"):
        dates = [int(f"{year}{rest}") for year in range(1980, 2200)]
        assert not [date for date in dates for first, end in ranges if first <= date < end]
