"""The DuckDB instance that an indexer keeps: one file at a time, and never in a forked child."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from eventlog.indexer import replay
from eventlog.indexer.index import engine
from eventlog.indexer.index.engine import Engine, Overwritten, new_file
from eventlog.indexer.indexer import Indexer
from tests.conftest import PROJECT
from tests.indexer.support import index, line, rows, segment


def test_a_file_is_let_go_of_between_batches(tmp_path: Path) -> None:
    """Everything is in it, without a write-ahead log beside it, and anybody may open it."""
    path = tmp_path / "x.duckdb"
    engine = Engine()
    for number in range(3):
        connection = engine.attach(path)
        connection.execute("CREATE TEMP TABLE t AS SELECT 1")  # those of the last time are gone
        connection.execute("CREATE TABLE IF NOT EXISTS n (i INT)")
        connection.execute("INSERT INTO n VALUES (?)", [number])
        engine.detach()
        assert list(tmp_path.glob("x.*")) == [path]
        with duckdb.connect(str(path), read_only=True) as reader:
            assert reader.execute("SELECT count(*) FROM n").fetchone() == (number + 1,)
    engine.close()


def test_what_is_committed_is_in_the_file(tmp_path: Path) -> None:
    """Before it is let go of, without a log beside it: a copy of the file, as a crash would leave it, has it."""
    path = tmp_path / "x.duckdb"
    engine = Engine()
    connection = engine.attach(path)
    for number in range(2):
        connection.begin()
        connection.execute("CREATE TABLE IF NOT EXISTS n AS SELECT 0 AS i")
        connection.execute("INSERT INTO n VALUES (?)", [number])
        connection.commit()
        assert list(tmp_path.glob("x.*")) == [path]
        shutil.copy(path, tmp_path / "copy")
        with duckdb.connect(str(tmp_path / "copy"), read_only=True) as reader:
            assert reader.execute("SELECT count(*) FROM n").fetchone() == (number + 2,)
    engine.close()


def test_it_knows_whether_somebody_else_wrote(tmp_path: Path) -> None:
    """And a file from a copy of itself that is older, and from another one."""
    path, other = tmp_path / "x.duckdb", tmp_path / "y.duckdb"
    engine = Engine()

    def look(at: Path = path) -> tuple[bool, bytes | None]:
        connection = engine.attach(at)
        connection.execute("CREATE OR REPLACE TABLE n AS SELECT 1 AS i")
        engine.detach()
        return engine.is_unchanged, engine.file_id

    assert not look()[0]
    is_as_left, first = look()
    assert is_as_left
    assert first is not None
    shutil.copy(path, tmp_path / "older")
    engine.attach_read_only(path)
    assert engine.is_unchanged
    engine.detach()
    with duckdb.connect(str(path)) as writer:
        writer.execute("CREATE TABLE m AS SELECT 1 AS i")
    assert look() == (False, first)
    assert look() == (True, first)
    assert look(other)[1] != first
    assert look() == (False, first)
    shutil.copy(tmp_path / "older", path)
    with pytest.raises(Overwritten):
        look()
    engine.forget()
    assert look() == (False, first)
    engine.close()


def test_a_log_of_another_programs_is_not_taken_for_nothing(tmp_path: Path) -> None:
    """The file is as it was left, but what is in it is not: the log beside it is yet to be played."""
    path = tmp_path / "x.duckdb"
    engine = Engine()
    engine.attach(path).execute("CREATE TABLE n (i INT)")
    engine.detach()
    write = "import duckdb, os, sys; c = duckdb.connect(sys.argv[1]);c.execute('INSERT INTO n VALUES (1)'); os._exit(0)"
    subprocess.run([sys.executable, "-c", write, str(path)], timeout=60, check=True)
    assert path.with_name("x.duckdb.wal").exists()
    assert engine.attach(path).execute("SELECT count(*) FROM n").fetchone() == (1,)
    assert not engine.is_unchanged
    engine.close()


def test_row_groups_grow_with_what_was_written(tmp_path: Path) -> None:
    """Where there are rows for it: each row group costs every batch and every question."""
    path = tmp_path / "x.duckdb"
    engine = Engine()
    for number in range(36):
        connection = engine.attach(path)
        connection.execute("CREATE TABLE IF NOT EXISTS n (i INT)")
        connection.execute("INSERT INTO n SELECT unnest(range(2000))")
        engine.wrote(2000 if number < 35 else 0)
        engine.detach()
    with duckdb.connect(str(path), read_only=True) as reader:
        sizes = reader.execute("SELECT sum(count) FROM pragma_storage_info('n') WHERE segment_type = 'INTEGER'"
                               " GROUP BY row_group_id").fetchall()  # fmt: skip
    assert sum(size for (size,) in sizes) == 72_000
    assert max(size for (size,) in sizes) > 20_000
    assert len(sizes) <= 12
    engine.close()


def test_many_small_batches_do_not_pile_up(root: Path) -> None:
    """Each commit makes a row group of its own; where nobody merges them, a query reads them all."""
    path = segment(root, line(0))
    indexer = Indexer(root)
    for number in range(1, 60):
        with path.open("ab") as file:
            file.write(line(number))
        indexer.catch_up()
    groups = "SELECT count(DISTINCT row_group_id) FROM pragma_storage_info('event_rows')"
    assert rows(root, groups)[0][0] <= 12


def test_what_fails_is_let_go_of(tmp_path: Path) -> None:
    """And the next attempt starts afresh."""
    engine = Engine()
    (tmp_path / "bad").write_bytes(b"no database")
    for _ in range(2):
        with pytest.raises(duckdb.Error, match="not a valid DuckDB database"):
            engine.attach(tmp_path / "bad")
    engine.attach(tmp_path / "good").execute("CREATE TABLE t (i INT)")
    engine.detach()
    with pytest.raises(RuntimeError, match="halfway"), new_file(tmp_path / "new"):
        raise RuntimeError("halfway")
    with duckdb.connect(str(tmp_path / "new")):
        pass


FORKS = """
import os, sys, threading
from pathlib import Path
from eventlog.indexer.index.engine import Engine
engine = Engine()
busy = sys.argv[2] == "busy"
engine.attach(Path(sys.argv[1])).execute("CREATE TABLE t AS SELECT sum(i) FROM range(1000000) t(i)")
if not busy:
    engine.detach()
child = os.fork()
if child == 0:
    engine.attach(Path(sys.argv[1] + ".child")).execute("CREATE TABLE t (i INT)")
    engine.detach()
    if busy:  # what its parent was at has no threads here, and is nothing to tidy up
        os._exit(0)
    sys.exit(0)
status = os.waitpid(child, 0)[1]
if busy:
    engine.detach()
engine.attach(Path(sys.argv[1])).execute("INSERT INTO t VALUES (1)")
engine.detach()
print(status)
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_a_forked_child_has_an_engine_of_its_own(tmp_path: Path, state: str) -> None:
    """One that inherited DuckDB's instance, without its threads, would crash when it ends."""
    command = [sys.executable, "-c", FORKS, str(tmp_path / "x.duckdb"), state]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr


def test_threads_take_turns(tmp_path: Path) -> None:
    """One file at a time."""
    engine, order = Engine(), list[str]()
    engine.attach(tmp_path / "a")

    def other() -> None:
        engine.attach(tmp_path / "b")
        order.append("b")
        engine.detach()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join(0.2)
    order.append("a")
    engine.detach()
    thread.join(10)
    assert order == ["a", "b"]


def test_a_replay_leaves_no_log_behind(root: Path) -> None:
    """It is written without one, and whole when it is put in place."""
    segment(root, line(1))
    index(root)
    replay.replay(root)
    assert not (root / "index.duckdb.wal").exists()
    assert rows(root, "SELECT count(*) FROM events") == [(1,)]


def test_a_replay_takes_so_much_memory_and_no_more_unless_it_must(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are too large for the limit come through all the same, once, and the limit is gone afterwards."""
    limits: list[str] = []
    real = engine.within_memory

    def within_memory(connection: duckdb.DuckDBPyConnection, work: Callable[[], object]) -> object:
        def noted() -> object:
            limits.append(connection.execute("SELECT current_setting('memory_limit')").fetchall()[0][0])
            return work()

        done = real(connection, noted)
        limits.append(connection.execute("SELECT current_setting('memory_limit')").fetchall()[0][0])
        return done

    monkeypatch.setattr(engine, "within_memory", within_memory)
    monkeypatch.setattr(engine, "_MEMORY_BYTES", 24 * 1024**2)
    segment(root, *(line(n, payload={"text": f"{n}" * 40_000}) for n in range(1000)))
    replay.replay(root)
    small, large = limits[0], limits[-1]
    assert small == "24.0 MiB"
    assert limits[:4] == [small, large, large, small]  # once more without; and then the digest
    assert rows(root, "SELECT count(*), sum(strlen(payload)) > 40000000 FROM events") == [(1000, True)]
    index(root)
    assert replay.verify(root).equal
