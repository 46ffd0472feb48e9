"""A store keeps a DuckDB for its questions: none learns of another, and nobody is in anybody's way."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import duckdb
import pytest

from eventlog.errors import IndexBusy, IndexFailed, QueryFailed
from eventlog.indexer import replay
from eventlog.indexer.index import index_file
from eventlog.queries.access import reader, sandbox
from eventlog.queries.store import ReadStore
from tests.conftest import PROJECT
from tests.indexer.support import index, line, segment

COUNT = "SELECT count(*) FROM events"
#: With it, a query has a DuckDB of its own.
SETTING = " WHERE current_setting('TimeZone') = 'UTC'"


@pytest.fixture
def store(root: Path) -> ReadStore:
    """Three events."""
    segment(root, b"".join(map(line, range(3))))
    index(root)
    return ReadStore(root)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """With what arguments each DuckDB was made."""
    calls: list[tuple[Any, ...]] = []
    real = duckdb.connect

    def connect(*arguments: Any, **named: Any) -> duckdb.DuckDBPyConnection:
        calls.append(arguments)
        return real(*arguments, **named)

    monkeypatch.setattr(duckdb, "connect", connect)
    return calls


def test_many_questions_take_one_duckdb(store: ReadStore, made: list[tuple[Any, ...]]) -> None:
    """Of any kind, and after errors of the query's own."""
    for _ in range(3):
        assert store.sql(COUNT).rows == [(3,)]
        assert len(store.events().events) == 3
        assert store.counts()[0].events == 3
    assert len(made) == 1


def test_after_an_error_it_is_made_anew(store: ReadStore, made: list[tuple[Any, ...]]) -> None:
    """In whatever state the old one was left."""
    for _ in range(2):
        with pytest.raises(QueryFailed, match="nowhere"):
            store.sql("SELECT * FROM nowhere")
        assert store.sql(COUNT).rows == [(3,)]
    assert len(made) == 3


def test_it_is_not_kept_for_ever(root: Path, made: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its limits were set when it was made."""
    segment(root, line(0))
    index(root)
    made.clear()
    monkeypatch.setattr(reader, "_INSTANCE_MAX_AGE_S", -1.0)
    store = ReadStore(root)
    assert store.events().events[0].data() == {"n": 0}
    assert len(store.events().events) == 1
    assert len(made) == 2


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM duckdb_settings()",
        "EXPLAIN SELECT * FROM duckdb_logs()",
        "SELECT * FROM 'event_rows.x'",
        "SELECT count(*) FROM index.main.events",
    ],
)
def test_a_question_that_might_leave_a_trace_has_a_duckdb_of_its_own(
    store: ReadStore, made: list[tuple[Any, ...]], query: str
) -> None:
    """Whatever calls more than functions of their arguments, or names tables by more than a word.

    Such a call that is no table has a process of its own.
    """
    store.sql(COUNT)
    for number in (2, 3):
        with contextlib.suppress(QueryFailed):
            store.sql(query)
        assert len(made) == number
        assert store.sql(COUNT).rows == [(3,)]
        assert len(made) == number


def test_a_question_that_took_long_keeps_nothing(
    store: ReadStore, made: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have taken much memory."""
    monkeypatch.setattr(reader, "_CHEAP_QUESTION_S", 0.0)
    for number in (1, 2):
        assert store.sql(COUNT).rows == [(3,)]
        assert len(made) == number


WRITES = [
    "COPY (SELECT 'evil') TO '{index}' (FORMAT csv, USE_TMP_FILE false)",
    "COPY (SELECT 'evil') TO '{index}.wal' (FORMAT csv, USE_TMP_FILE false)",
    "COPY event_rows TO '{index}' (FORMAT parquet)",
    "INSERT INTO index_meta VALUES ('a', 'b') RETURNING *",
    "DELETE FROM segments RETURNING *",
    "UPDATE segments SET released = true RETURNING *",
]
AROUND = [
    "WITH x AS ({}) SELECT * FROM x",
    "SELECT (WITH x AS ({}) SELECT count(*) FROM x)",
    "WITH y AS (WITH x AS MATERIALIZED ({}) FROM x) SELECT * FROM y UNION SELECT 1",
    "EXPLAIN ANALYZE WITH x AS ({}) FROM x",
]


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("write", WRITES)
def test_what_writes_is_refused_wherever_it_stands(store: ReadStore, root: Path, write: str, around: str) -> None:
    """DuckDB lets a WITH hold what writes, and would write to the very file that it may open."""
    path = index_file.index_path(root)
    before = path.read_bytes()
    query = around.format(write.format(index=path))
    for asked in (store, ReadStore(root, workspace="w")):
        with pytest.raises(QueryFailed, match="refused"):
            asked.sql(query)
        with pytest.raises(QueryFailed, match="refused"):
            asked.copy(query, root / "out.csv", "csv")
    assert path.read_bytes() == before
    assert not any(each.exists() for each in index_file.wal_paths(path))
    assert store.sql(COUNT).rows == [(3,)]


def test_temporary_things_of_a_question_are_gone_after_it(store: ReadStore) -> None:
    """Costs are made as tables of the question's own."""
    for _ in range(2):
        assert store.sql("SELECT count(*) FROM llm_costs").rows == [(0,)]
        assert store.sql("SELECT count(*) FROM duckdb_tables() WHERE temporary").rows == [(0,)]


def test_an_index_made_anew_is_seen(store: ReadStore, root: Path) -> None:
    """It is another file under the same name."""
    assert store.sql(COUNT).rows == [(3,)]
    segment(root, line(9))
    replay.replay(root)
    assert store.sql(COUNT).rows == [(4,)]
    index_file.index_path(root).unlink()
    index(root)
    assert store.sql(COUNT).rows == [(4,)]


def test_an_index_of_another_version_is_noticed(store: ReadStore, root: Path) -> None:
    """By a store that has been reading the one before, which was of the right version."""
    path = index_file.index_path(root)
    assert store.sql(COUNT).rows == [(3,)]
    older = root / "older.duckdb"
    with duckdb.connect(str(older)) as connection:
        connection.execute(f"ATTACH '{path}' AS found (READ_ONLY)")
        connection.execute("COPY FROM DATABASE found TO older")
        connection.execute("UPDATE index_meta SET value = '3' WHERE key = 'schema_version'")
    older.replace(path)
    for _ in range(2):
        with pytest.raises(IndexFailed, match="has schema 3, this eventlog reads"):
            store.sql(COUNT)


def test_a_query_is_checked_once(store: ReadStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dashboard asks the same again and again. What is refused is refused each time, and memory has an end."""
    checked = []
    real = sandbox.check

    def check(connection: duckdb.DuckDBPyConnection, query: str) -> sandbox.Checked:
        checked.append(query)
        return real(connection, query)

    monkeypatch.setattr(sandbox, "check", check)
    for _ in range(3):
        assert store.sql(COUNT).rows == [(3,)]
        with pytest.raises(QueryFailed, match="UPDATE is refused"):
            store.sql("UPDATE events SET run_id = 'r'")
    assert checked.count(COUNT) == 1
    assert len(checked) == 4
    for number in range(200):
        assert store.sql(f"SELECT {number}").rows == [(number,)]
    assert store.sql(COUNT).rows == [(3,)]
    assert checked.count(COUNT) == 2


def test_a_relative_root_is_what_it_means_now(store: ReadStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program may go to another folder."""
    other = root.parent / "elsewhere" / root.name
    segment(other, line(5))
    index(other)
    relative = ReadStore(root.name)
    for folder, events in ((root.parent, 3), (other.parent, 1), (root.parent, 3)):
        monkeypatch.chdir(folder)
        assert relative.sql(COUNT).rows == [(events,)]


@pytest.mark.parametrize("name", ["~", "file:abc", "sqlite:foo", "s3:x", ":memory:", "a'b", "a*[b]"])
def test_a_root_of_any_name_is_the_folder_of_that_name(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is relative, and DuckDB would take it for something else; by every way in."""
    root.mkdir()
    monkeypatch.chdir(root)
    segment(Path(name), line(0, workspace="w"))
    index(Path(name))
    replay.replay(name)
    for store in (ReadStore(name), ReadStore(name, workspace="w")):
        assert store.sql(COUNT).rows == [(1,)]
        assert store.sql(COUNT + SETTING if store.workspace is None else COUNT).rows == [(1,)]
        assert store.copy("SELECT 1 AS a", "x.csv", "csv") == 1
    assert [path.name for path in root.iterdir() if path.name != "x.csv"] == [name]


def test_an_index_behind_a_link_is_refused(store: ReadStore, root: Path) -> None:
    """Who may write to the root could have any file of the operator's opened; with the file itself it goes on."""
    path, elsewhere = index_file.index_path(root), root.parent / "elsewhere.db"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    for query in (COUNT, COUNT + SETTING):
        with pytest.raises(IndexFailed, match="symbolic link"):
            store.sql(query)
    assert (path.is_symlink(), elsewhere.read_bytes()) == (True, before)
    elsewhere.replace(path)
    segment(root, line(7))
    index(root)
    assert store.sql(COUNT).rows == [(4,)]


def test_between_questions_the_index_belongs_to_everybody(store: ReadStore, root: Path) -> None:
    """Another process may write it, with or without taking turns."""
    for _ in range(2):
        assert store.sql(COUNT).rows == [(3,)]
        code = f"import duckdb; duckdb.connect({str(index_file.index_path(root))!r}).execute('CHECKPOINT')"
        subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


def test_a_lock_of_this_process_is_not_lost(store: ReadStore, root: Path) -> None:
    """To open and close a file that a notebook has open would let others write under its eyes."""
    path = index_file.index_path(root)
    code = f"import duckdb\ntry: duckdb.connect({str(path)!r})\nexcept duckdb.IOException: print('locked')"
    with duckdb.connect(str(path), read_only=True) as notebook:
        for opened in (store, ReadStore(root, workspace="w")):
            opened._reader._wait_s = 0.1
            with pytest.raises(IndexBusy, match=f"pid {os.getpid()}"):
                opened.sql(COUNT)
        done = subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True, text=True, check=True)
        assert done.stdout == "locked\n"
        assert notebook.execute(COUNT).fetchall() == [(3,)]
    assert store.sql(COUNT).rows == [(3,)]


def test_threads_of_one_store_each_get_their_answer(store: ReadStore) -> None:
    """One after the other."""
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(store.sql("SELECT ?", [n]).rows[0][0])) for n in range(20)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert sorted(found) == list(range(20))


def _said(code: str) -> str:
    """Run a program that forks; return what it printed. It has to end well."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_forked_child_and_its_parent_go_on_asking(root: Path) -> None:
    """A child has no threads of its parent's DuckDB, and must end all the same."""
    segment(root, line(0))
    index(root)
    code = f"""
import os, sys
from eventlog.queries.store import ReadStore
store = ReadStore({str(root)!r})
assert store.sql("{COUNT}").rows == [(1,)]
child = os.fork()
assert store.sql("{COUNT}").rows == [(1,)]
if child:
    assert os.waitpid(child, 0)[1] == 0
    assert store.sql("{COUNT}").rows == [(1,)]
    print("both")
"""
    assert _said(code) == "both\n"


def test_a_child_forked_in_the_middle_of_a_question_asks_for_itself(root: Path) -> None:
    """It has descriptors and locks of a thread that it has not."""
    segment(root, line(0))
    index(root)
    code = f"""
import os, threading
from eventlog.queries.access.reader import IndexReader
from eventlog.queries.store import ReadStore
root, begun, go_on = {str(root)!r}, threading.Event(), threading.Event()
def ask():
    with IndexReader(root).trusted():
        begun.set()
        assert go_on.wait(30)
thread = threading.Thread(target=ask)
thread.start()
assert begun.wait(30)
child = os.fork()
if child == 0:
    assert ReadStore(root, wait_s=5).sql("{COUNT}").rows == [(1,)]
    assert ReadStore(root, wait_s=5, workspace="w").sql("{COUNT}").rows == [(0,)]
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
go_on.set()
thread.join()
assert ReadStore(root, wait_s=5).sql("{COUNT}").rows == [(1,)]
print("all")
"""
    assert _said(code) == "all\n"
