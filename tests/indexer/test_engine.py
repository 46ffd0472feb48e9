"""The DuckDB instance that an indexer keeps: for one file at a time, and never for a forked child."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

from indexer import replay
from indexer.engine import Engine, new_file
from indexer.indexer import Indexer
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


def test_many_small_batches_do_not_pile_up(root: Path) -> None:
    """Each commit makes a row group of its own; where nobody merges them, a query reads them all."""
    path = segment(root, line(0))
    indexer = Indexer(root)
    for number in range(1, 40):
        with path.open("ab") as file:
            file.write(line(number))
        indexer.catch_up()
    groups = "SELECT count(DISTINCT row_group_id) FROM pragma_storage_info('event_rows')"
    assert rows(root, groups)[0][0] <= 8


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
from indexer.engine import Engine
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
