"""The statements of access, of events and of the state of a root are bound by DuckDB, whatever is asked."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import duckdb
import pytest

from eventlog.queries import status
from eventlog.queries.access import checked_versions, confinement, sandbox
from eventlog.queries.access.reader import IndexReader
from eventlog.queries.events import lookup
from tests.indexer.support import index

CONDITIONS = ["true", "event_type IN (SELECT unnest(?))", "timestamp >= ?::TIMESTAMP", "run_id = ?::VARCHAR"]


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """An index without events."""
    root = tmp_path_factory.mktemp("root")
    index(root)
    with IndexReader(root).trusted() as reading:
        yield reading


def plan(connection: duckdb.DuckDBPyConnection, statement: str) -> str:
    return str(connection.execute(f"EXPLAIN {statement}", [None] * statement.count("?")).fetchall())


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_page_of_events_can_be_planned(connection: duckdb.DuckDBPyConnection, newest_first: bool) -> None:
    """With each condition that a caller may set."""
    assert "17" in plan(connection, lookup.page_query(CONDITIONS, 17, newest_first=newest_first))


@pytest.mark.parametrize("bucket", [None, *lookup.BUCKETS])
def test_counts_can_be_planned(connection: duckdb.DuckDBPyConnection, bucket: lookup.Bucket | None) -> None:
    """In every bucket, and in none."""
    for some in itertools.accumulate([condition] for condition in CONDITIONS):
        assert "count_star" in plan(connection, lookup.count_query(some, bucket))


@pytest.mark.parametrize(
    "statement",
    [
        lookup.BY_ID, status.TOTALS, status.SEGMENTS, sandbox._TABLES_AND_VIEWS, confinement._BUILT_IN,
        checked_versions._FUNCTIONS,
    ],
)  # fmt: skip
def test_a_fixed_statement_can_be_planned(connection: duckdb.DuckDBPyConnection, statement: str) -> None:
    """Its tables and columns exist."""
    assert plan(connection, statement)
