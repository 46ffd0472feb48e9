"""What comes back of each type from each format: the same value, a text of it, or an error; never another value."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.errors import QueryFailed
from eventlog.queries.store import ReadStore
from tests.conftest import Run
from tests.queries.recordings import record

BIG = 2**53 + 1
FORMATS = ("csv", "json", "jsonl", "parquet", "arrow", "pandas", "rows", "exact rows")
AT = datetime(2026, 1, 15, 12, 0, 0, 123456)
NS = "2026-01-15 12:00:00.123456789"
ISO_NS = "2026-01-15T12:00:00.123456789Z"
HALF_PAST_TWO = timezone(timedelta(hours=2, minutes=30))
SPAN = "1 month 2 days 00:00:03.000004"


class Refused:
    """Stands for an error."""


class Types:
    """What is expected of a value: `plain` of all formats but those that are named. Of JSON, the same as text is."""

    def __init__(self, sql: str, plain: Any, **others: Any) -> None:
        self.sql, self.plain, self.others = sql, plain, others

    def of(self, format_: str) -> Any:
        name = format_.replace("exact rows", "exact")
        by = {"jsonl": "json", "exact": "rows"}
        return self.others.get(name, self.others.get(by.get(name, name), self.plain))


TYPES: dict[str, Types] = {
    "BOOLEAN": Types("true", True, csv="true"),
    "TINYINT": Types("-1::TINYINT", -1, csv="-1"),
    "BIGINT": Types(f"{BIG}::BIGINT", BIG, csv=str(BIG)),
    "UBIGINT": Types(f"{2**64 - 1}::UBIGINT", 2**64 - 1, csv=str(2**64 - 1)),
    "HUGEINT": Types(f"{BIG}::HUGEINT", BIG, csv=str(BIG)),
    "sum of integers": Types(f"(SELECT sum(n) FROM (VALUES ({BIG - 1}), (1)) t(n))", BIG, csv=str(BIG)),
    "UHUGEINT": Types(f"{BIG}::UHUGEINT", BIG, csv=str(BIG)),
    "HUGEINT of 39 digits": Types(
        f"{2**127 - 1}::HUGEINT", 2**127 - 1, csv=str(2**127 - 1), parquet=Refused, arrow=Refused
    ),
    "UHUGEINT of 39 digits": Types(
        f"{2**128 - 1}::UHUGEINT", 2**128 - 1, csv=str(2**128 - 1), parquet=Refused, arrow=Refused
    ),
    "BIGNUM": Types(f"{10**44 + 1}::BIGNUM", str(10**44 + 1), json=10**44 + 1, pandas=10**44 + 1),
    "FLOAT": Types("1.5::FLOAT", 1.5, csv="1.5"),
    "DOUBLE": Types("0.1::DOUBLE", 0.1, csv="0.1"),
    "DOUBLE, infinite": Types("'inf'::DOUBLE", math.inf, csv="inf", json=None),
    "DECIMAL": Types("1.10::DECIMAL(38,18)", Decimal("1.1"), csv="1.100000000000000000", json=1.1, pandas=1.1),
    "DECIMAL without decimals": Types(f"{BIG}::DECIMAL(38,0)", Decimal(BIG), csv=str(BIG), json=BIG),
    "VARCHAR": Types("'é\"' || chr(10) || ','", 'é"\n,'),
    "BLOB": Types(r"'\xAA\x00b'::BLOB", b"\xaa\x00b", csv=r"\xAA\x00b", json=r"\xAA\x00b"),
    "BIT": Types("'10101'::BIT", "10101"),
    "UUID": Types(
        "'01a1fc0e-90e7-7614-b5c5-39cd6cbb2847'::UUID", "01a1fc0e-90e7-7614-b5c5-39cd6cbb2847",
        parquet=UUID("01a1fc0e-90e7-7614-b5c5-39cd6cbb2847"), pandas=UUID("01a1fc0e-90e7-7614-b5c5-39cd6cbb2847"),
        rows=UUID("01a1fc0e-90e7-7614-b5c5-39cd6cbb2847"),
    ),
    "ENUM": Types("'a'::ENUM('a', 'b')", "a"),
    "DATE": Types("DATE '2026-01-15'", date(2026, 1, 15), csv="2026-01-15", json="2026-01-15",
                  pandas=datetime(2026, 1, 15)),
    "TIME": Types("TIME '12:00:00.123456'", AT.time(), csv="12:00:00.123456", json="12:00:00.123456"),
    "TIME_NS": Types("'12:00:00.123456789'::TIME_NS", "12:00:00.123456789", rows=AT.time(), exact="12:00:00.123456789",
                     parquet=AT.time(), arrow=AT.time()),
    "TIME WITH TIME ZONE": Types(
        "'12:00:00.123456+02:30'::TIMETZ", "12:00:00.123456+02:30", rows=time(12, 0, 0, 123456, tzinfo=HALF_PAST_TWO)
    ),
    "TIMESTAMP": Types(f"'{AT}'::TIMESTAMP", AT, csv=f"{AT.isoformat()}Z", json=f"{AT.isoformat()}Z"),
    "TIMESTAMP_S": Types("'2026-01-15 12:00:00'::TIMESTAMP_S", datetime(2026, 1, 15, 12),
                         csv="2026-01-15T12:00:00.000000Z", json="2026-01-15T12:00:00.000000Z"),
    "TIMESTAMP_MS": Types("'2026-01-15 12:00:00.123'::TIMESTAMP_MS", datetime(2026, 1, 15, 12, 0, 0, 123000),
                          csv="2026-01-15T12:00:00.123000Z", json="2026-01-15T12:00:00.123000Z"),
    "TIMESTAMP_NS": Types(f"TIMESTAMP_NS '{NS}'", NS, csv=ISO_NS, json=ISO_NS, rows=AT, exact=NS),
    "TIMESTAMP WITH TIME ZONE": Types(
        "'2026-01-15 14:00:00.123456+02'::TIMESTAMPTZ", AT.replace(tzinfo=UTC), csv=f"{AT.isoformat()}Z",
        json=f"{AT.isoformat()}Z",
    ),
    "INTERVAL": Types(
        f"INTERVAL '{SPAN}'", SPAN, rows=timedelta(days=32, seconds=3, microseconds=4), exact=SPAN,
        arrow=(1, 2, 3_000_004_000), pandas=timedelta(days=32, seconds=3, microseconds=4),
    ),
    "list": Types(f"[{BIG}::HUGEINT, NULL]", [BIG, None], csv=f"[{BIG}, NULL]"),
    "list of lists": Types(f"[[{BIG}::HUGEINT], NULL, []]", [[BIG], None, []], csv=f"[[{BIG}], NULL, []]"),
    "array": Types(f"[1, {BIG}]::HUGEINT[2]", [1, BIG], csv=f"[1, {BIG}]"),
    "struct": Types(f"{{'a': {BIG}::HUGEINT, 'q\"': 1}}", {"a": BIG, 'q"': 1}, csv=f"{{'a': {BIG}, 'q\"': 1}}"),
    "struct in a list in a struct": Types(
        f"{{'l': [{{'a': {BIG}::HUGEINT}}]}}", {"l": [{"a": BIG}]}, csv=f"{{'l': [{{'a': {BIG}}}]}}"
    ),
    "map": Types(f"MAP {{'k': {BIG}::HUGEINT}}", {"k": BIG}, csv=f"{{k={BIG}}}"),
    "nanoseconds in a struct": Types(
        f"{{'t': TIMESTAMP_NS '{NS}'}}", {"t": NS}, csv=f"{{'t': '{NS}'}}", json={"t": ISO_NS}, rows={"t": AT},
        exact={"t": NS}, parquet=f"{{'t': '{NS}'}}",
    ),
    "infinity in a list": Types("['inf'::DOUBLE, 1]", [math.inf, 1.0], csv="[inf, 1.0]", json=[None, 1.0]),
    "union": Types("union_value(n := 2)::UNION(n INTEGER, s VARCHAR)", 2, csv="2", json={"n": 2},
                   parquet={"element1": 0, "n": 2, "s": None}),
    "union with a HUGEINT": Types(
        f"union_value(n := {BIG})::UNION(n HUGEINT, s VARCHAR)", BIG, csv=str(BIG), json={"n": BIG}, parquet=str(BIG),
        arrow=str(BIG),
    ),
    "JSON": Types(
        f"'{{\"n\": {10**30}}}'::JSON", f'{{"n": {10**30}}}', json={"n": 10**30}, csv=f'{{"n": {10**30}}}'
    ),
    "VARIANT": Types("{'a': 1}::VARIANT", {"a": 1}, csv="{'a': 1}", arrow='{"a":1}'),
    "NULL": Types("NULL::HUGEINT", None, csv=""),
    "NULL of a struct": Types("NULL::STRUCT(a HUGEINT)", None, csv=""),
    "NULL of a map": Types("NULL::MAP(VARCHAR, HUGEINT)", None, csv=""),
    "NULL of a list": Types("NULL::HUGEINT[]", None, csv=""),
}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ReadStore:
    root = tmp_path_factory.mktemp("exports") / "root"
    record(root, (datetime(2026, 1, 1, tzinfo=UTC), "note", {}))
    return ReadStore(root)


def exported(store: ReadStore, format_: str, folder: Path, sql: str) -> Any:
    """The value of a query of one row and one column, as its readers find it in a format."""
    path = folder / f"rows.{format_}"
    query = f"SELECT {sql} AS v"
    if format_ in ("csv", "json", "jsonl", "parquet"):
        store.copy(query, path, format_)  # type: ignore[arg-type]  # narrowed by the tuple
    match format_:
        case "csv":
            with duckdb.connect() as connection:  # the one that tests share may have a result that nobody fetched
                return connection.read_csv(str(path), all_varchar=True).fetchall()[0][0] or ""
        case "json":
            return json.loads(path.read_bytes())[0]["v"]
        case "jsonl":
            return json.loads(path.read_bytes())["v"]
        case "parquet":
            text = duckdb.execute(f"SELECT v::VARCHAR, typeof(v), v FROM '{path}'").fetchall()[0]
            return text[0] if "TIMESTAMP_NS" in text[1] else text[2]
        case "arrow":
            return store.sql.arrow(query).column(0)[0].as_py()
        case "pandas":
            return store.sql.pandas(query).v[0]
        case "rows":
            return store.sql(query).rows[0][0]
    return store.sql(query, exact=True).rows[0][0]


def plain(value: Any) -> Any:
    """A value without the classes of a library: numbers as Decimal, times as text to the nanosecond."""
    if hasattr(value, "isoformat") and hasattr(value, "nanosecond"):  # of pandas
        return str(value) if value.nanosecond else plain(value.to_pydatetime())
    if type(value).__name__ == "Timedelta":
        return value.to_pytimedelta()
    if type(value).__name__ == "MonthDayNano":
        return plain(list(value))
    if isinstance(value, bytearray):
        return bytes(value)
    if type(value).__module__ == "numpy" or hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | Decimal):
        return Decimal(value)
    if isinstance(value, list | tuple) and value and isinstance(value[0], tuple):
        return {key: plain(each) for key, each in value}  # a map of Arrow
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return value


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("name", TYPES)
def test_what_comes_back(store: ReadStore, tmp_path: Path, name: str, format_: str) -> None:
    """Of each type from each format, as docs/read-store.md says."""
    if format_ in ("arrow", "pandas"):
        pytest.importorskip("pyarrow" if format_ == "arrow" else "pandas")
    expected = TYPES[name].of(format_)
    if expected is Refused:
        with pytest.raises(QueryFailed, match="Could not cast value"):
            exported(store, format_, tmp_path, TYPES[name].sql)
        return
    found = exported(store, format_, tmp_path, TYPES[name].sql)
    if expected is None and format_ == "pandas":
        assert pytest.importorskip("pandas").isna(found)
        return
    assert plain(found) == plain(expected), type(found)
    assert isinstance(plain(found), str) == isinstance(expected, str)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-(10**38) + 1, 10**38 - 1), min_size=1, max_size=5), st.sampled_from(["parquet", "pandas"]))
def test_whole_numbers_come_back(store: ReadStore, numbers: list[int], format_: str) -> None:
    """All that have 38 digits; alone, in a list, and as their sum where it has as many."""
    query = f"SELECT unnest([{', '.join(f'{number}::HUGEINT' for number in numbers)}]) AS v"
    path = store.root / "numbers.parquet"
    if format_ == "parquet":
        store.copy(query, path, "parquet")
        found = [int(value) for (value,) in duckdb.connect().read_parquet(str(path)).fetchall()]
    else:
        found = store.sql.pandas(query).v.tolist()
    assert sorted(found) == sorted(numbers)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1 AS a, 2::HUGEINT AS a", 'SELECT 1::HUGEINT AS "q""x" -- a comment', "SHOW TABLES", "DESCRIBE runs",
        "WITH x AS (SELECT 1::HUGEINT AS v) FROM x", "SELECT 1::HUGEINT AS v WHERE false", "VALUES (1::HUGEINT), (2)",
        "SELECT row(1::HUGEINT, 2) AS r",
    ],
)  # fmt: skip
@pytest.mark.parametrize("format_", ["csv", "json", "parquet", "arrow", "pandas", "exact rows"])
def test_any_statement_can_be_exported(store: ReadStore, tmp_path: Path, query: str, format_: str) -> None:
    """With the names that it gives its columns, and all of its rows."""
    plain_rows = store.sql(query)
    count: dict[str, Callable[[], int]] = {
        "arrow": lambda: int(store.sql.arrow(query).num_rows), "pandas": lambda: len(store.sql.pandas(query)),
        "exact rows": lambda: len(store.sql(query, exact=True).rows),
    }  # fmt: skip
    copied: Callable[[], int] = lambda: store.copy(query, tmp_path / "rows", format_)  # type: ignore[arg-type]  # noqa: E731
    assert count.get(format_, copied)() == len(plain_rows.rows)
    assert store.sql(query, exact=True).columns == plain_rows.columns


def test_a_query_that_fails_says_why(store: ReadStore, tmp_path: Path) -> None:
    """In its own words, whatever was looked at before."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for ask in (
        lambda: store.copy("SELECT nope", folder / "x", "parquet"), lambda: store.sql("SELECT nope", exact=True),
        lambda: store.sql.arrow("SELECT nope"),
    ):  # fmt: skip
        with pytest.raises(QueryFailed, match='column "nope" was not found'):
            ask()
    assert list(folder.iterdir()) == []


def test_parameters_are_bound_in_what_is_written_otherwise(store: ReadStore, tmp_path: Path) -> None:
    """By position and by name."""
    store.copy("SELECT ?::HUGEINT AS v", tmp_path / "v.parquet", "parquet", [BIG])
    assert duckdb.connect().read_parquet(str(tmp_path / "v.parquet")).fetchall() == [(Decimal(BIG),)]
    assert store.sql.pandas("SELECT $n::HUGEINT AS v", {"n": BIG}).v.tolist() == [BIG]


def test_a_table_shows_all_of_a_value(run: Run, root: Path) -> None:
    """Nanoseconds, and months as months."""
    record(root, (datetime(2026, 1, 1, tzinfo=UTC), "note", {}))
    shown = run("sql", f"SELECT TIMESTAMP_NS '{NS}' AS t, INTERVAL '{SPAN}' AS i, {BIG}::HUGEINT AS n").stdout
    assert f"|{NS} | {SPAN} | {BIG}|" in shown.replace("  ", " ")
