"""Views of the index: texts that are parsed when they are asked, by whoever opens the file."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from indexer import index_file, projections
from indexer.schema import query_of, view
from tests.indexer.support import index

OURS = [*projections.VIEWS, "quarantine", "event_types"]


@pytest.fixture(scope="module")
def empty_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an index in which there is nothing."""
    root = tmp_path_factory.mktemp("root")
    index(root)
    return index_file.index_path(root)


@pytest.mark.parametrize("name", [*OURS, "events"])
def test_a_view_has_its_columns_for_duckdb_alone(empty_index: Path, name: str) -> None:
    """Nothing is looked at when it is made, so that it can be asked has to be seen here."""
    with duckdb.connect(str(empty_index), read_only=True) as connection:
        asked = connection.execute(f"FROM {name}").description or []
        known = connection.execute(
            "SELECT column_name FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index", [name]
        ).fetchall()
    assert len(asked) > 3
    assert [each[0] for each in asked] == [row[0] for row in known]


def test_a_view_is_found_whatever_the_file_is_called(empty_index: Path) -> None:
    """What it names is looked for where it is itself, under any name, with another database in use."""
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE event_rows (other INTEGER)")
        connection.execute(f"ATTACH '{empty_index}' AS elsewhere (READ_ONLY)")
        for name in OURS:
            assert connection.execute(f"SELECT count(*) FROM elsewhere.{name}").fetchone() == (0,)


@pytest.mark.parametrize("name", OURS)
def test_what_duckdb_says_of_a_view_gives_back_its_query(empty_index: Path, name: str) -> None:
    """A store of one workspace makes its own views of it."""
    with duckdb.connect(str(empty_index), read_only=True) as connection:
        ((definition,),) = connection.execute(
            "SELECT sql FROM duckdb_views() WHERE view_name = ? AND NOT internal", [name]
        ).fetchall()
        made = query_of(definition)
        assert made is not None
        assert connection.execute(made).fetchall() == []
    if name in projections.VIEWS:
        assert made == projections.VIEWS[name].strip()


def test_a_part_that_wants_one_type_wants_nothing_else(empty_index: Path) -> None:
    """A store of one workspace scans one type for it: what an OR lets in as well would be missing."""
    with duckdb.connect(str(empty_index), read_only=True) as connection:
        definitions = connection.execute("SELECT sql FROM duckdb_views() WHERE NOT internal").fetchall()
    queries = [found for (definition,) in definitions if (found := query_of(definition))]
    assert len(queries) == len(OURS)
    assert any("WHERE event_type = 'run_started'" in query for query in queries)
    assert not [query for query in queries if re.search(r"\bOR\b", query, re.IGNORECASE)]


@given(st.text(max_size=50).filter(lambda text: "\0" not in text and text == text.strip()))
@example("it''s')); DROP VIEW v; --")
@example("');\nCREATE VIEW x AS SELECT * FROM query('")
def test_any_text_comes_back_out_of_a_view(text: str) -> None:
    """Quotes, newlines, what ends a statement: a query is a text in a text."""
    query = f"SELECT 1 AS one /*{text.replace('*/', '')}*/"
    with duckdb.connect() as connection:
        connection.execute(view("v", query))
        ((definition,),) = connection.execute("SELECT sql FROM duckdb_views() WHERE view_name = 'v'").fetchall()
        assert query_of(definition) == query


@pytest.mark.parametrize(
    "definition",
    [
        "CREATE VIEW events AS SELECT event_id FROM event_rows;",
        "CREATE VIEW v AS SELECT * FROM query('SELECT 1') LIMIT 1;",
        "CREATE TABLE v AS SELECT * FROM query('SELECT 1');",
        "",
    ],
)
def test_what_is_no_view_of_ours_has_no_query(definition: str) -> None:
    assert query_of(definition) is None
