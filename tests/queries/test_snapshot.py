"""Snapshots: what a query sees, in a file that other tools open."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from eventlog.errors import IndexFailed, QueryFailed
from eventlog.queries.snapshot import STORAGE_VERSION
from eventlog.queries.store import ReadStore
from tests import pythons
from tests.conftest import Run
from tests.queries.calls import call, recorded


@pytest.fixture(name="store")
def _store(root: Path) -> ReadStore:
    """Calls of two workspaces and of none, with large numbers and odd texts."""
    calls = [
        call(
            f"2026-11-20T09:{n:02}:00Z", "claude-opus-4-5", 1000, 0, 0, 0, 500,
            n=2**60 + n, run_id=f"run-{n}", workspace=(None, "mine", "theirs-xyzzy")[n % 3],
        )
        for n in range(12)
    ]  # fmt: skip
    note = (
        "note",
        {"timestamp": "2026-11-20T09:00:00Z", "text": "höhe \u0000 \n 'quoted' \"twice\"", "workspace": "mine"},
    )
    recorded(root, *calls, note)
    return ReadStore(root)


def tables(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        names = connection.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main'").fetchall()
        return {name: connection.execute(f'FROM "{name}" ORDER BY ALL').fetchall() for (name,) in names}


@pytest.mark.parametrize("workspace", [None, "mine", "nobody's"])
def test_each_table_has_the_rows_of_its_view(store: ReadStore, tmp_path: Path, workspace: str | None) -> None:
    """Of the whole log, or of one workspace and nothing else; costs are the same decimals."""
    asked = ReadStore(store.root, workspace=workspace)
    made = asked.snapshot(tmp_path / "log.duckdb")
    written = tables(tmp_path / "log.duckdb")
    assert set(written) == set(made.tables)
    assert {"events", "runs", "sessions", "llm_costs"} <= set(written)
    assert written == {name: asked.sql(f'FROM "{name}" ORDER BY ALL').rows for name in written}
    assert {name: len(rows) for name, rows in written.items()} == made.tables
    assert made.tables["llm_calls"] == {None: 12, "mine": 4}.get(workspace, 0)
    if workspace is not None:
        assert "xyzzy" not in str(written)


def test_it_says_what_it_is(store: ReadStore, tmp_path: Path) -> None:
    """When it was made, by which price list, of whom; and costs are in it."""
    before = datetime.now(UTC).replace(tzinfo=None)
    made = ReadStore(store.root, workspace="mine").snapshot(tmp_path / "log.duckdb")
    with duckdb.connect(str(tmp_path / "log.duckdb"), read_only=True) as connection:
        ((at, _, _, prices, workspace),) = connection.execute("FROM eventlog.about").fetchall()
        ((cost,),) = connection.execute("SELECT sum(cost_usd) FROM llm_costs").fetchall()
        tags = connection.execute("SELECT tags FROM duckdb_databases() WHERE NOT internal").fetchall()
    assert before <= at <= datetime.now(UTC).replace(tzinfo=None)
    assert (prices, workspace) == (made.prices, "mine")
    assert prices.startswith("genai-prices ")
    assert cost == 4 * (1000 * Decimal(5) + 500 * Decimal(25)) / 1_000_000
    assert STORAGE_VERSION in str(tags)


def test_an_older_duckdb_reads_it(store: ReadStore, tmp_path: Path) -> None:
    """The one that people have."""
    if not pythons.OLDER_DUCKDB.is_dir():
        pytest.skip("no older DuckDB is installed: make pythons")
    made = store.snapshot(tmp_path / "log.duckdb")
    program = (
        "import duckdb, json, sys; c = duckdb.connect(sys.argv[1], read_only=True);"
        "found = c.execute(\"SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main'\").fetchall();"
        "print(json.dumps([duckdb.__version__, {n: len(c.execute(f'FROM \"{n}\"').fetchall()) for (n,) in found}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "log.duckdb"],
        env={**os.environ, "PYTHONPATH": str(pythons.OLDER_DUCKDB)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    version, counts = json.loads(done.stdout)
    assert version.startswith("1.")
    assert counts == made.tables


def test_a_file_is_replaced_when_the_new_one_is_whole(store: ReadStore, tmp_path: Path) -> None:
    """Only its owner may read it; what was there before stays until then, and nothing else is left."""
    path = tmp_path / "folder" / "log.duckdb"
    path.parent.mkdir()
    path.write_text("older")
    with pytest.raises(IndexFailed):
        ReadStore(tmp_path / "nowhere").snapshot(path)
    assert path.read_text() == "older"
    store.snapshot(path)
    assert len(tables(path)["llm_calls"]) == 12
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path, "there is no folder"),
        (lambda path: path.mkdir(parents=True), "is no file"),
        (lambda path: path.parent.write_text("x"), "there is no folder"),
    ],
    ids=["no folder", "a folder", "a file above it"],
)
def test_where_it_cannot_be_written(
    store: ReadStore, tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    """It says so, and leaves what is there."""
    path = tmp_path / "x" / "log.duckdb"
    make(path)
    with pytest.raises(QueryFailed, match=reason):
        store.snapshot(path)


def test_the_index_goes_on_while_it_is_read(store: ReadStore, tmp_path: Path) -> None:
    """A snapshot of before does not change, and the next one has what is new."""
    store.snapshot(tmp_path / "before.duckdb")
    recorded(store.root, ("note", {"timestamp": "2026-11-20T10:00:00Z", "text": "late"}))
    store.snapshot(tmp_path / "after.duckdb")
    assert [len(tables(tmp_path / f"{name}.duckdb")["events"]) for name in ("before", "after")] == [14, 15]


# -- the commands ----------------------------------------------------------------------------


def test_export_index(store: ReadStore, run: Run, tmp_path: Path) -> None:
    """It says what it wrote, for people and for programs."""
    done = run("export", "index", str(tmp_path / "log.duckdb"))
    assert done.returncode == 0
    assert "14 events" in done.stdout
    assert "genai-prices" in done.stdout
    made = json.loads(run("export", "index", str(tmp_path / "log.duckdb"), "--json").stdout)
    assert made["tables"]["llm_costs"] == 12
    assert made["bytes"] == (tmp_path / "log.duckdb").stat().st_size


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        (["llm_costs", "-o", "x.parquet"], 12), (["llm_calls", "-o", "X.CSV"], 12), (["sessions", "-o", "x.jsonl"], 0),
        (["llm_call", "note", "-o", "x.ndjson"], 13), (["llm_call", "-o", "x.json"], 12),
        (["llm_costs", "-o", "x.parquet", "--workspace", "mine"], 4),
        (["llm_costs", "-o", "odd.name", "--format", "parquet"], 12),
    ],
)  # fmt: skip
def test_export_of_types_and_views(store: ReadStore, run: Run, tmp_path: Path, arguments: list[str], rows: int) -> None:
    """In the format of the file's name."""
    at = arguments.index("-o") + 1
    path = tmp_path / arguments[at]
    done = run("export", *arguments[:at], str(path), *arguments[at + 1 :])
    assert (done.returncode, done.stderr) == (0, f"{rows} rows in {path}\n")
    assert path.exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nothing", "-o", "x.csv"], "no events of type nothing, and no view of that name"),
        (["runs", "llm_call", "-o", "x.csv"], "runs is a view; export it alone"),
        (["runs", "-o", "x.csv", "--audit-level", "turn"], "--audit-level is for events"),
        (["llm_call"], "the format of standard output is not known; use --format"),
        (["llm_call", "-o", "x.txt"], "the format of x.txt is not known; use --format"),
    ],
)
def test_what_cannot_be_exported(store: ReadStore, run: Run, arguments: list[str], reason: str) -> None:
    """The error says what can."""
    done = run("export", *arguments)
    assert done.returncode == 2
    assert reason in done.stderr


def test_sql_knows_the_format_by_the_name(store: ReadStore, run: Run, tmp_path: Path) -> None:
    """As export does."""
    assert run("sql", "FROM llm_costs", "-o", str(tmp_path / "x.parquet")).returncode == 0
    assert duckdb.read_parquet(str(tmp_path / "x.parquet")).fetchall() == store.sql("FROM llm_costs").rows
    done = run("sql", "FROM llm_costs", "-o", str(tmp_path / "x"))
    assert done.returncode == 2
    assert "use --format" in done.stderr


# -- results in notebooks --------------------------------------------------------------------


def test_a_result_as_a_frame_and_as_a_table(store: ReadStore) -> None:
    """Without rounding: decimals, large integers beside gaps, times, repeated names, no rows."""
    query = """
        SELECT cost_usd, timestamp, event_id, 9007199254740993 AS big, NULL::BIGINT AS gap, timestamp AS "gap"
        FROM llm_costs ORDER BY timestamp LIMIT {}
    """
    result = store.sql(query.format(3) + " -- a comment")
    frame, table = result.df(), result.arrow()
    assert [str(column) for column in frame.columns] == [*result.columns]
    assert frame.iloc[0, 0] == result.rows[0][0]
    assert isinstance(frame.iloc[0, 0], Decimal)
    assert frame.big.tolist() == [9007199254740993] * 3
    assert table.column_names == result.columns
    assert table.num_rows == 3
    assert table.column(0).to_pylist() == [row[0] for row in result.rows]
    empty = store.sql(query.format(0))
    assert len(empty.df()) == 0
    assert empty.arrow().schema.types[:2] == table.schema.types[:2]


def test_a_result_in_a_notebook(store: ReadStore) -> None:
    """A table whose texts are texts, and what is left out is said."""
    shown = store.sql("SELECT '<script>' AS \"<b>\", NULL AS n FROM range(60)")._repr_html_()
    assert "<th>&lt;b&gt;</th>" in shown
    assert "<td>&lt;script&gt;</td><td></td>" in shown
    assert "<script>" not in shown
    assert shown.count("<tr>") == 51
    assert "and 10 more rows" in shown
    assert "more rows" not in store.sql("SELECT 1")._repr_html_()


def test_a_file_of_somebody_else_is_not_replaced(store: ReadStore, tmp_path: Path, run: Run) -> None:
    """Nor is another DuckDB file; an empty one is, and an earlier snapshot."""
    path = tmp_path / "mine.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE notes AS SELECT 1 AS n")
    refused = run("export", "index", str(path))
    assert (refused.returncode, refused.stderr.strip()) == (
        2, f"error: {path} is there, and is no snapshot of eventlog; name another file, or add --force to replace it",
    )  # fmt: skip
    assert tables(path) == {"notes": [(1,)]}
    assert run("export", "index", str(path), "--force").returncode == 0
    assert run("export", "index", str(path)).returncode == 0
    (tmp_path / "empty").touch()
    assert run("export", "index", str(tmp_path / "empty")).returncode == 0
    (tmp_path / "notes.zip").write_text("my notes")
    bundle = ("export", "bundle", "run-1", "-o", str(tmp_path / "notes.zip"))
    assert "is no bundle of eventlog" in run(*bundle).stderr
    assert [run(*bundle, *more).returncode for more in (["--force"], [])] == [0, 0]
