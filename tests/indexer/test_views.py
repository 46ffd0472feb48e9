"""Views of the index: texts that DuckDB parses when they are queried, by whatever program."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventlog.config import Config
from eventlog.format.builtin import RunFinished, RunStarted, Step
from eventlog.format.schemas import RESERVED
from eventlog.importers import sources
from eventlog.indexer import replay
from eventlog.indexer.index import index_file
from eventlog.indexer.index.schema import query_of, view
from eventlog.indexer.indexer import Indexer
from eventlog.indexer.views import projections
from eventlog.record.recorder import Recorder
from tests.indexer.support import index, line, segment

OURS = [*projections.views(), "quarantine", "event_types"]


@pytest.fixture(scope="module")
def empty_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an index without events, of which the views read all sources."""
    root = tmp_path_factory.mktemp("root")
    index(root)
    with duckdb.connect(str(index_file.index_path(root))) as connection:
        projections.read_sources(connection, sources.event_types())
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
        connection.execute("CREATE MACRO query(text) AS TABLE SELECT 'a decoy' AS one")
        connection.execute("CREATE TEMP MACRO query(text) AS TABLE SELECT 'another' AS one")
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
    full = projections.views(sources.event_types())
    if name in full:
        assert made == full[name].strip()


def test_a_part_that_wants_one_type_wants_nothing_else(empty_index: Path) -> None:
    """A store of one workspace scans one type for it: what an OR lets in as well would be missing."""
    with duckdb.connect(str(empty_index), read_only=True) as connection:
        definitions = connection.execute("SELECT sql FROM duckdb_views() WHERE NOT internal").fetchall()
    queries = [found for (definition,) in definitions if (found := query_of(definition))]
    assert len(queries) == len(OURS)
    assert any("WHERE event_type = 'run_started'" in query for query in queries)
    wanted = [condition for query in queries for condition in _OF_ONE_TYPE.findall(query)]
    assert len(wanted) > len(OURS)
    assert not [each for each in wanted if re.search(r"\bOR\b|\bIS\s+NOT\s+TRUE\b", each, re.IGNORECASE)]


#: The condition on a type and what else stands in its WHERE clause: up to the end of the query, or the next clause.
_OF_ONE_TYPE = re.compile(
    r"WHERE\s+(event_type\s*=\s*'[a-z_]+'(?:[^()]|\([^()]*\))*?)(?=\)|\b(?:GROUP|ORDER|UNION|WINDOW|LIMIT)\b|$)",
    re.DOTALL,
)


def _read(root: Path) -> set[str]:
    """The event types of sources that the calls of models are read from."""
    with duckdb.connect(str(index_file.index_path(root)), read_only=True) as connection:
        ((definition,),) = connection.execute("SELECT sql FROM duckdb_views() WHERE view_name = 'llm_calls'").fetchall()
    query = query_of(definition) or ""
    return {each for each in sources.event_types() if f"event_type = '{each}'" in query}


def test_views_read_a_source_from_its_first_event_on(tmp_path: Path) -> None:
    """Whether an indexer goes on or is another one, and after a replay, of what only the index has as well."""
    kept = segment(tmp_path, line(1))
    index(tmp_path)
    assert _read(tmp_path) == set()
    gone = segment(tmp_path, line(2, "codex"), event_type="codex")
    index(tmp_path)
    assert _read(tmp_path) == {"codex"}
    indexer = Indexer(tmp_path)
    indexer.catch_up()
    segment(tmp_path, line(3, "claude_code"), event_type="claude_code")
    indexer.catch_up()
    assert _read(tmp_path) == {"claude_code", "codex"}
    gone.unlink()
    replay.replay(tmp_path)
    assert _read(tmp_path) == {"claude_code", "codex"}
    assert kept.exists()


def test_no_event_type_has_the_name_of_a_view() -> None:
    """Its view would take the place of ours."""
    assert {*OURS, "events"} <= RESERVED


def test_to_make_a_view_binds_nothing(tmp_path: Path) -> None:
    """DuckDB knows the columns of a view that it has bound: each would take as long as a question."""
    recorder = Recorder(Config(root=str(tmp_path), strict=True))
    recorder.emit(Step(name="look"))
    recorder.shutdown()
    index(tmp_path)
    with duckdb.connect(str(index_file.index_path(tmp_path)), read_only=True) as connection:
        bound = connection.execute(
            "SELECT view_name FROM duckdb_views() WHERE NOT internal AND column_count IS NOT NULL"
        ).fetchall()
    assert bound in ([], [("events",)])  # which the indexer may have asked itself


def test_an_answer_does_not_depend_on_what_a_slash_means(tmp_path: Path) -> None:
    """A view is parsed with the settings of whoever asks."""
    recorder = Recorder(Config(root=str(tmp_path), strict=True))
    for event, moment in ((RunStarted(name="r"), "2026-03-01T10:00:00.000000Z"),
                          (RunFinished(status="ok"), "2026-03-01T10:00:00.001500Z")):  # fmt: skip
        recorder.emit(event, run_id="r", timestamp=moment)
    recorder.shutdown()
    index(tmp_path)
    with duckdb.connect(str(index_file.index_path(tmp_path)), read_only=True) as connection:
        connection.execute("SET integer_division = true")
        assert connection.execute("SELECT duration_ms FROM runs").fetchone() == (1.5,)


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
        "CREATE VIEW v AS SELECT * FROM query('SELECT 1');",
        "CREATE VIEW v AS SELECT * FROM \"system\".main.query('SELECT 1') LIMIT 1;",
        "CREATE TABLE v AS SELECT * FROM \"system\".main.query('SELECT 1');",
        "CREATE VIEW v AS SELECT * FROM \"system\".main.query('A') UNION ALL SELECT * FROM \"system\".main.query('B');",
        "",
    ],
)
def test_what_is_no_view_of_ours_has_no_query(definition: str) -> None:
    assert query_of(definition) is None
