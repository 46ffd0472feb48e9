"""What stands in the columns of typed views: values as they were emitted, and nothing that nobody wrote."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import duckdb
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog as obs
from eventlog.config import Config
from eventlog.format import schemas
from eventlog.indexer import replay
from eventlog.indexer.views import projections, typed, values
from eventlog.record.recorder import Recorder
from tests.indexer.support import index, line, rows, segment

DECIMAL = "DECIMAL(38,12)"
HALF_PAST_TWO = dt.timezone(dt.timedelta(hours=2, minutes=30))


class Level(enum.Enum):
    LOW = "low"


class Size(enum.IntEnum):
    LARGE = 3


class Inner(msgspec.Struct):
    x: int


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    tricks: int


class Point(TypedDict):
    x: int


class Pair(NamedTuple):
    a: int
    b: str


KEY = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
#: Each type of msgspec: an annotation, a value, the type of its column, and what stands there.
TYPES: dict[str, tuple[Any, Any, str, Any]] = {
    "bool": (bool, False, "BOOLEAN", False),
    "int": (int, -7, "HUGEINT", -7),
    "int above 64 bits": (int, 10**30, "HUGEINT", 10**30),
    "int as large as u64": (int, 2**64 - 1, "HUGEINT", 2**64 - 1),
    "int within bounds": (Annotated[int, msgspec.Meta(ge=0, le=5)], 5, "HUGEINT", 5),
    "float": (float, 0.1, "DOUBLE", 0.1),
    "float that is whole": (float, 2.0, "DOUBLE", 2.0),
    "str": (str, "12e4", "VARCHAR", "12e4"),
    "str with quotes": (str, '"é\\\n', "VARCHAR", '"é\\\n'),
    "bytes": (bytes, b"\0a", "VARCHAR", base64.b64encode(b"\0a").decode()),
    "bytearray": (bytearray, bytearray(b"b"), "VARCHAR", "Yg=="),
    "datetime": (dt.datetime, dt.datetime(2026, 1, 2, 3, 4, 5, 6), "TIMESTAMP", dt.datetime(2026, 1, 2, 3, 4, 5, 6)),
    "datetime in UTC": (
        Annotated[dt.datetime, msgspec.Meta(tz=True)], dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC), "TIMESTAMP",
        dt.datetime(2026, 1, 2, 3),
    ),
    "datetime elsewhere": (
        dt.datetime, dt.datetime(2026, 1, 2, 1, 30, tzinfo=HALF_PAST_TWO), "TIMESTAMP", dt.datetime(2026, 1, 1, 23),
    ),
    "datetime without a zone": (
        Annotated[dt.datetime, msgspec.Meta(tz=False)], dt.datetime(1, 1, 1), "TIMESTAMP", dt.datetime(1, 1, 1),
    ),
    "date": (dt.date, dt.date(2026, 1, 2), "DATE", dt.date(2026, 1, 2)),
    "time": (dt.time, dt.time(3, 4, 5, 6), "TIME", dt.time(3, 4, 5, 6)),
    "time in UTC": (Annotated[dt.time, msgspec.Meta(tz=True)], dt.time(3, tzinfo=dt.UTC), "TIME", dt.time(3)),
    "time elsewhere": (dt.time, dt.time(1, 30, tzinfo=HALF_PAST_TWO), "TIME", dt.time(23)),
    "time without a zone": (Annotated[dt.time, msgspec.Meta(tz=False)], dt.time(3), "TIME", dt.time(3)),
    "timedelta": (dt.timedelta, dt.timedelta(days=1, seconds=2.5), "VARCHAR", "P1DT2.5S"),
    "UUID": (uuid.UUID, KEY, "UUID", KEY),
    "Decimal": (decimal.Decimal, decimal.Decimal("12.30"), DECIMAL, decimal.Decimal("12.30")),
    "Decimal with an exponent": (decimal.Decimal, decimal.Decimal("1E-7"), DECIMAL, decimal.Decimal("1E-7")),
    "Decimal of a declared unit": (
        Annotated[decimal.Decimal, msgspec.Meta(extra_json_schema={"multipleOf": 1e-18})],
        decimal.Decimal("0.000000000000000001"), "DECIMAL(38,18)", decimal.Decimal("1E-18"),
    ),
    "Enum": (Level, Level.LOW, "VARCHAR", "low"),
    "IntEnum": (Size, Size.LARGE, "HUGEINT", 3),
    "Literal of texts": (Literal["a", "b"], "b", "VARCHAR", "b"),
    "Literal of integers": (Literal[1, 2], 2, "HUGEINT", 2),
    "Literal of a text and None": (Literal["a", None], "a", "VARCHAR", "a"),
    "Literal of both": (Literal["a", 1], 1, "JSON", "1"),
    "list": (list[int], [1, 2], "JSON", "[1,2]"),
    "tuple": (tuple[int, str], (1, "a"), "JSON", '[1,"a"]'),
    "set": (set[int], {1}, "JSON", "[1]"),
    "frozenset": (frozenset[str], frozenset({"a"}), "JSON", '["a"]'),
    "dict": (dict[str, float], {"a": 1.5}, "JSON", '{"a":1.5}'),
    "Struct": (Inner, Inner(1), "JSON", '{"x":1}'),
    "union of Structs": (Cat | Dog, Dog(2), "JSON", '{"type":"Dog","tricks":2}'),
    "TypedDict": (Point, {"x": 1}, "JSON", '{"x":1}'),
    "NamedTuple": (Pair, Pair(1, "b"), "JSON", '[1,"b"]'),
    "Any": (Any, "a", "JSON", '"a"'),
    "Raw": (msgspec.Raw, msgspec.Raw(b"[1]"), "JSON", "[1]"),
    "None": (None, None, "JSON", "null"),
    "optional": (int | None, 5, "HUGEINT", 5),
    "optional that is None": (dt.datetime | None, None, "TIMESTAMP", None),
    "UnsetType": ((int | msgspec.UnsetType, msgspec.UNSET), msgspec.UNSET, "HUGEINT", None),
    "union of numbers": (int | float, 2**53 + 1, "JSON", str(2**53 + 1)),
    "union of int and str": (int | str, "1", "JSON", '"1"'),
}  # fmt: skip
EVENT_TYPES = {name: f"case{number}" for number, name in enumerate(TYPES)}


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "_by_name", {})
    monkeypatch.setattr(schemas, "_by_struct", {})


def emit(root: Path, *events: msgspec.Struct) -> None:
    recorder = Recorder(Config(root=str(root), strict=True))
    for event in events:
        recorder.emit(event)
    recorder.shutdown()


def define(name: str = "t", version: int = 1, *, omit_defaults: bool = False, **fields: Any) -> Any:
    """Register a Struct; a field is a type, or a type and a default."""
    listed = [(field, *(kind if isinstance(kind, tuple) else (kind,))) for field, kind in fields.items()]
    struct = msgspec.defstruct("T", listed, module=__name__, omit_defaults=omit_defaults, kw_only=True)
    return obs.event(name, version=version)(struct)


# -- every type ------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["promoted", "from payloads"], name="everything")
def _everything(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with an event of each type, its field read from a promoted column or from the payload."""
    root = tmp_path_factory.mktemp("types") / "root"
    if request.param == "from payloads":
        for event_type in EVENT_TYPES.values():
            segment(root, line(1, event_type, workspace="other"), event_type=event_type)
        index(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schemas, "_by_name", {})
        patch.setattr(schemas, "_by_struct", {})
        emit(root, *(define(EVENT_TYPES[name], x=kind)(x=value) for name, (kind, value, *_) in TYPES.items()))
    index(root)
    return root


@pytest.mark.parametrize("name", TYPES)
def test_each_type_has_its_column(everything: Path, name: str) -> None:
    """The value as it was emitted, and nothing is said not to fit; docs/schema.md has the table."""
    _, _, kind, expected = TYPES[name]
    query = f"SELECT x, typeof(x), unfit FROM {EVENT_TYPES[name]} WHERE workspace IS NULL"
    assert rows(everything, query) == [(expected, kind, None)]


# -- what does not fit -----------------------------------------------------------------------

#: The JSON of a value, and the kind of a column in which it is none.
MISFITS = [
    (json, kind)
    for kind, texts in {
        "HUGEINT": (
            "1.5", "2.5", '"12"', '"12e4"', '"1_000"', '" 7 "', "true", "[1]", '{"a":1}', "1e-7", "1e18", "1e400",
            str(2**127), "12345678901234567.5",
        ),
        "BIGINT": (str(2**63), "0.5", '"1"'),
        "DOUBLE": ('"1.5"', '"nan"', '"inf"', '"Infinity"', "true", "1e400", "-1e400", "[]"),
        "BOOLEAN": ('"no"', '"f"', '"1"', '"yes"', '"true"', "0", "1", "[true]"),
        "TIMESTAMP": (
            '"2024"', '"2024-01-02"', '"epoch"', '"infinity"', '"2024-1-2T3:4:5Z"', '"2024-01-02T03:04Z"',
            '"2024-01-02T24:00:00Z"', '"2024-01-02T23:59:60Z"', '"2024-02-30T00:00:00Z"', '"0000-01-01T00:00:00Z"',
            '"2024-01-02T03:04:05 America/New_York"', '"0001-01-01T00:00:00+10:00"', '"9999-12-31T23:59:59-10:00"',
            '"2024-01-02T03:04:05Z and more"', "1700000000", "true",
        ),
        "DATE": (
            '"2024"', '"2024-1-2"', '"20240102"', '"2024/01/02"', '"2024-01-02 and more"', '"2024-02-30"',
            '"2024-01-02T00:00:00Z"', '"infinity"', "20240102",
        ),
        "TIME": ('"03:04"', '"3:4:5"', '"24:00:00"', '"23:59:60"', '"03:04:05 pm"', "30405"),
        "UUID": ('"6ba7b810"', "12345678901234567890123456789012", "1234567890123456789012345678901234"),
        DECIMAL: (
            '"0.0000000000001"', '"1E-13"', '"1.23456789012345E-1"', '"1E+30"', '"123456789012345678901234567"',
            '"nan"', '"Infinity"', '"1,5"', '""', "0.30000000000000004", "true",
        ),
    }.items()
    for json in texts
]  # fmt: skip
#: Those in another spelling than ours that fit all the same.
FITS: list[tuple[str, str, Any]] = [
    ("2.0", "HUGEINT", 2),
    ("-0.0", "HUGEINT", 0),
    ("1e3", "BIGINT", 1000),
    ("3", "DOUBLE", 3.0),
    (str(2**70), "DOUBLE", 2.0**70),
    ('"2024-01-02 03:04:05"', "TIMESTAMP", dt.datetime(2024, 1, 2, 3, 4, 5)),
    ('"2024-01-02t03:04:05.1234567z"', "TIMESTAMP", dt.datetime(2024, 1, 2, 3, 4, 5, 123456)),
    ('"2024-01-02T03:04:05.5-0530"', "TIMESTAMP", dt.datetime(2024, 1, 2, 8, 34, 5, 500000)),
    ('"03:04:05.5-05:30"', "TIME", dt.time(8, 34, 5, 500000)),
    (f'"{KEY.hex.upper()}"', "UUID", KEY),
    ("12.5", DECIMAL, decimal.Decimal("12.5")),
    ("7", DECIMAL, decimal.Decimal(7)),
    ('"1E+3"', DECIMAL, decimal.Decimal(1000)),
    ('"-1.50E-11"', DECIMAL, decimal.Decimal("-1.5E-11")),
    ('"0E-20"', DECIMAL, decimal.Decimal(0)),
    ('"1.50000000000000000000"', DECIMAL, decimal.Decimal("1.5")),
    ("1.5", "VARCHAR", "1.5"),
    ("true", "VARCHAR", "true"),
    ('{"a":1}', "VARCHAR", '{"a":1}'),
]


@pytest.fixture(scope="module", name="connection")
def _connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """In another time zone: no answer may depend on it."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'America/New_York'")
        yield connection


def read(connection: duckdb.DuckDBPyConnection, json: str, kind: str) -> tuple[Any, str | None]:
    """Return a JSON value as a value of a column, and what is said to be unfit."""
    unfit = values.unfit({"x": ("json", values.of_json("json", kind))})
    query = f"""
        SELECT {values.field("x", kind)}, {unfit}
        FROM (SELECT payload, (payload -> '/x')::VARCHAR AS json FROM (SELECT ?::JSON AS payload))"""
    (row,) = connection.execute(query, [f'{{"x":{json}}}']).fetchall()
    return row


@pytest.mark.parametrize(("json", "kind"), MISFITS)
def test_what_does_not_fit_is_null_and_shown(connection: duckdb.DuckDBPyConnection, json: str, kind: str) -> None:
    """The JSON type decides, not what a text reads like; nothing is rounded."""
    value, unfit = read(connection, json, kind)
    assert value is None
    assert unfit is not None
    assert unfit.startswith('{"x":')


@pytest.mark.parametrize(("json", "kind", "expected"), FITS)
def test_what_fits_in_another_spelling(
    connection: duckdb.DuckDBPyConnection, json: str, kind: str, expected: object
) -> None:
    """A number without a fraction is whole however it is written; times are read in each form of RFC 3339."""
    assert read(connection, json, kind) == (expected, None)


_KINDS: dict[str, Any] = {
    "HUGEINT": int, "DOUBLE": float, "BOOLEAN": bool, "TIMESTAMP": dt.datetime, "DATE": dt.date, "TIME": dt.time,
    "UUID": uuid.UUID, DECIMAL: decimal.Decimal,
}  # fmt: skip
_ODD = st.sampled_from([json for json, *_ in (*MISFITS, *FITS)])
_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(),
    st.decimals(allow_nan=False, allow_infinity=False, places=3), st.uuids(), st.dates(),
    st.datetimes(timezones=st.sampled_from([None, dt.UTC, HALF_PAST_TWO])),
    st.times(timezones=st.sampled_from([None, dt.UTC, HALF_PAST_TWO])),
)  # fmt: skip


@given(json=_VALUES.map(lambda value: msgspec.json.encode(value).decode()) | _ODD, kind=st.sampled_from(list(_KINDS)))
def test_a_column_has_what_msgspec_reads_or_nothing(json: str, kind: str) -> None:
    """Whatever JSON stands in a field: the value that emit would take for this type, or NULL. NULL is always shown."""
    with duckdb.connect() as connection:
        value, unfit = read(connection, json, kind)
    assert (unfit is None) == (value is not None or json == "null")
    if value is None:
        return
    lenient = kind == "HUGEINT"  # 2.0 is a whole number here
    expected = msgspec.json.decode(json.encode(), type=float if lenient and "." in json else _KINDS[kind])
    if isinstance(expected, dt.datetime) and expected.tzinfo is not None:
        expected = expected.astimezone(dt.UTC).replace(tzinfo=None)
    if isinstance(expected, dt.time) and expected.tzinfo is not None:
        expected = dt.datetime.combine(dt.date(2000, 1, 2), expected).astimezone(dt.UTC).time()
    if isinstance(expected, dt.datetime | dt.time):
        assert abs(expected.microsecond - value.microsecond) <= 1  # msgspec rounds what is below a microsecond
        assert expected.replace(microsecond=0) == value.replace(microsecond=0)
    else:
        assert value == expected


# -- defaults --------------------------------------------------------------------------------


def of_t(root: Path, columns: str) -> list[tuple[Any, ...]]:
    return rows(root, f"SELECT {columns} FROM t ORDER BY timestamp, event_id")


def test_fields_that_were_left_out_have_their_defaults(root: Path) -> None:
    """Of each kind of column; an explicit null is no default, and a field without a default is NULL."""
    job = define(
        omit_defaults=True, name_=str, retries=(int, 0), ok=(bool, True), level=(Level, Level.LOW),
        since=(dt.date, dt.date(2026, 1, 2)), price=(decimal.Decimal, decimal.Decimal("1.5")), tags=(list[int], []),
        note=(str | None, "it's"), absent=(int | msgspec.UnsetType, msgspec.UNSET),
    )  # fmt: skip
    emit(root, job(name_="a"), job(name_="b", retries=2, ok=False, tags=[1], note=None))
    index(root)
    assert b"retries" not in next((root / "log" / "t").iterdir()).read_bytes().splitlines()[0]
    defaults = (0, True, "low", dt.date(2026, 1, 2), decimal.Decimal("1.5"), "[]", "it's", None, None)
    assert of_t(root, "retries, ok, level, since, price, tags, note, absent, unfit") == [
        defaults,
        (2, False, "low", dt.date(2026, 1, 2), decimal.Decimal("1.5"), "[1]", None, None, None),
    ]
    assert rows(root, "SELECT avg(retries), count(ok), count(*) FROM t") == [(1.0, 2, 2)]


def test_promoted_or_not_a_default_is_the_same(root: Path) -> None:
    """Also where the schema comes later than the rows, and after a replay."""
    segment(root, line(1, payload={}), line(2, payload={"n": None}), line(3, payload={"n": 5}))
    index(root)
    emit(root, define(n=(int, 7))())
    index(root)
    expected = [(7,), (None,), (5,), (7,)]
    assert of_t(root, "n") == expected
    replay.replay(root)
    assert of_t(root, "n") == expected


def test_a_default_is_that_of_its_version(root: Path) -> None:
    """A row of version 1 has no field of version 2, and keeps the default of its own."""
    emit(root, define(omit_defaults=True, n=(int, 1))())
    index(root)
    emit(root, define(version=2, omit_defaults=True, n=(int, 2), new=(int, 3))())
    index(root)
    expected = [(1, 1, None), (2, 2, 3)]
    assert of_t(root, "schema_version, n, new") == expected
    replay.replay(root)
    assert of_t(root, "schema_version, n, new") == expected


def test_a_default_that_not_all_schemas_of_a_version_have_is_none(root: Path) -> None:
    """Nobody can tell which of them a row is of."""
    emit(root, define(omit_defaults=True, n=(int, 1), m=(int, 5))())
    emit(root, define(omit_defaults=True, n=(int, 2), m=(int, 5), new=(int, 3))())
    index(root)
    assert of_t(root, "n, m, new") == [(None, 5, None)] * 2


def test_a_default_is_for_events_of_its_type_alone(root: Path) -> None:
    """Another type in the same batch has no such column."""
    emit(root, define(omit_defaults=True, n=(int, 1))(), define("other", omit_defaults=True, n=(int, 2))())
    index(root)
    found = rows(root, "SELECT \"t/n\", \"other/n\" FROM event_rows WHERE event_type IN ('t', 'other') ORDER BY 1")
    assert sorted(found, key=str) == [(1, None), (None, 2)]


# -- types that change -----------------------------------------------------------------------


def test_a_field_whose_type_changed_has_no_values_that_nobody_wrote(root: Path) -> None:
    """What does not fit the new type is NULL, and is found in `unfit`."""
    before = define(ref=str, qty=float, flag=str, day=str)
    emit(root, *(before(ref=r, qty=q, flag=f, day="2026-1-5") for r, q, f in (("12e4", 1.5, "no"), ("7", 2.0, "1"))))
    emit(root, define(version=2, ref=int, qty=int, flag=bool, day=dt.date)(ref=9, qty=3, flag=True, day=dt.date.min))
    index(root)
    expected = [
        (None, None, None, None, '{"ref":"12e4","qty":1.5,"flag":"no","day":"2026-1-5"}'),
        (None, 2, None, None, '{"ref":"7","flag":"1","day":"2026-1-5"}'),
        (9, 3, True, dt.date.min, None),
    ]
    assert of_t(root, "ref, qty, flag, day, unfit") == expected
    replay.replay(root)
    assert of_t(root, "ref, qty, flag, day, unfit") == expected


def test_unfit_is_a_name_that_a_field_may_have(root: Path) -> None:
    """Then the field has a prefix, as beside the columns of the envelope."""
    emit(root, define(unfit=int)(unfit=1))
    index(root)
    assert of_t(root, "payload_unfit, unfit") == [(1, None)]


def test_unfit_tells_of_all_fields_promoted_or_not(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit to promoted columns is no limit to what is shown."""
    monkeypatch.setattr(typed, "PROMOTED_MAX", len(projections.promoted()) + 1)
    define_by_hand = {"name": "t", "version": 1, "json_schema": {"properties": {"a": _INTEGER, "b": _INTEGER}}}
    segment(root, line(9, "event_schema", payload=define_by_hand), event_type="event_schema")
    segment(root, line(1, payload={"a": "x", "b": 1.5}), line(2, payload={"a": 1, "b": 2}))
    index(root)
    assert of_t(root, "a, b, unfit") == [(None, None, '{"a":"x","b":1.5}'), (1, 2, None)]


_INTEGER = {"type": "integer"}
