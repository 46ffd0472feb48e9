"""Rows of queries as structs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import duckdb
import msgspec
import pytest

from eventlog.format.timestamps import naive_utc, utc
from eventlog.queries.rows import rows_as, rows_as_dicts


class _Count(msgspec.Struct):
    name: str
    count: int
    last: datetime | None = None


def test_columns_are_passed_to_the_fields_of_their_names() -> None:
    """In any order; times are UTC, and a field with a default may be missing."""
    query = "SELECT 3 AS count, TIMESTAMP '2026-01-02 03:04:05' AS last, 'a' AS name"
    assert rows_as(_Count, duckdb.execute(query)) == [_Count("a", 3, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))]
    assert rows_as(_Count, duckdb.execute("SELECT 'a' AS name, 3 AS count")) == [_Count("a", 3)]


@pytest.mark.parametrize("query", ["SELECT 'a' AS name", "SELECT 'a' AS name, 1 AS count, 2 AS more"])
def test_columns_that_do_not_match_the_fields_are_refused(query: str) -> None:
    """Too few and too many."""
    with pytest.raises(TypeError):
        rows_as(_Count, duckdb.execute(query))


def test_rows_can_be_read_in_parts() -> None:
    """Each call goes on where the last one stopped."""
    cursor = duckdb.connect().execute("SELECT i AS n FROM range(3) numbers(i)")
    assert rows_as_dicts(cursor, rows_max=2) == [{"n": 0}, {"n": 1}]
    assert rows_as_dicts(cursor, rows_max=2) == [{"n": 2}]
    assert rows_as_dicts(cursor, rows_max=2) == []


def test_a_time_without_a_zone_is_utc() -> None:
    """Both ways."""
    naive, aware = datetime(2026, 1, 2, 12), datetime(2026, 1, 2, 13, tzinfo=timezone(timedelta(hours=1)))
    assert naive_utc(naive) == naive_utc(aware) == naive
    assert utc(naive) == utc(aware) == datetime(2026, 1, 2, 12, tzinfo=UTC)
    assert utc(aware).tzinfo is UTC
