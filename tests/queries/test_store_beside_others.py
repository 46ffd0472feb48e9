"""A store beside others: writers, threads, and programs that died in the middle of a batch or a checkpoint."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

from eventlog.config import Config
from eventlog.errors import IndexBusy, QueryFailed
from eventlog.indexer.index import index_file
from eventlog.indexer.indexer import Indexer
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder
from tests.conftest import PROJECT
from tests.queries.forty import forty_events


@pytest.fixture
def store(root: Path) -> ReadStore:
    """40 events of two types, one every ten minutes, two at each moment."""
    return forty_events(root)


def test_a_reader_waits_for_the_writer_and_gives_up_in_time(store: ReadStore, root: Path) -> None:
    """Its turn comes when the writer lets go; past the bound it is told who holds the index."""
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with index_file.writing(root):
            entered.set()
            leave.wait(20)

    writer = threading.Thread(target=hold)
    writer.start()
    entered.wait(20)
    with pytest.raises(IndexBusy, match="pid"):
        ReadStore(root, wait_s=0.1).counts()
    threading.Timer(0.2, leave.set).start()
    assert ReadStore(root, wait_s=20).counts()
    writer.join()


def test_threads_may_share_a_store(store: ReadStore, tmp_path: Path) -> None:
    """Whatever they do at the same time."""
    failures: list[BaseException] = []

    def work(n: int) -> None:
        try:
            for k in range(5):
                assert store.copy("FROM events", tmp_path / f"{n}.csv", "csv") == 40
                assert store.sql("SELECT ?", [n * k]).rows == [(n * k,)]
                with pytest.raises(QueryFailed):
                    store.sql(f"FROM read_csv('{tmp_path}/{1 - n}.csv.part')")
        except BaseException as error:  # noqa: BLE001 - handed to the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_an_index_that_this_process_holds_otherwise_is_busy_and_not_broken(store: ReadStore, root: Path) -> None:
    """A notebook that opened it by hand."""
    with duckdb.connect(str(index_file.index_path(root))):
        with pytest.raises(IndexBusy):
            ReadStore(root, wait_s=0.1).counts()
        with pytest.raises(IndexBusy):
            Indexer(root, timeout_s=0.1).catch_up()
    assert store.counts()
    assert list(root.glob("*broken*")) == []


@pytest.mark.parametrize(("where", "seen"), [("engine.Engine.detach", 41), ("checkpoint.write", 40)])
def test_a_batch_counts_once_it_is_committed(store: ReadStore, root: Path, where: str, seen: int) -> None:
    """A reader right after a crash sees all of it or nothing, and the next run of the indexer has the event."""
    recorder = Recorder(Config(root=str(root)))
    recorder.emit("late")
    recorder.shutdown()
    code = (
        "import os\nfrom eventlog.indexer.index import checkpoint, engine\n"
        "from eventlog.indexer.indexer import Indexer\n"
        f"{where} = lambda *_, **__: os.kill(os.getpid(), 9)\n"
        f"Indexer({str(root)!r}).catch_up()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, timeout=60, check=False)
    assert done.returncode == -9, done.stderr
    assert not any(each.exists() for each in index_file.wal_paths(index_file.index_path(root)))
    assert sum(count.events for count in store.counts()) == seen
    Indexer(root).catch_up()
    assert sum(count.events for count in store.counts()) == 41


def test_a_write_ahead_log_of_somebody_elses_is_read_and_played(store: ReadStore, root: Path) -> None:
    """A program that is not ours died while it had the index open."""
    path = index_file.index_path(root)
    code = (
        f"import duckdb, os\nmine = duckdb.connect({str(path)!r})\n"
        "mine.execute('CREATE TABLE mine AS SELECT 7 AS i')\nos._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)
    assert index_file.wal_paths(path)[0].exists()
    assert store.sql("SELECT i FROM mine").rows == [(7,)]
    recorder = Recorder(Config(root=str(root)))
    recorder.emit("late")
    recorder.shutdown()
    Indexer(root).catch_up()
    assert not any(each.exists() for each in index_file.wal_paths(path))
    assert store.sql("SELECT i, (SELECT count(*) FROM events) FROM mine").rows == [(7, 41)]


@pytest.mark.parametrize("moment", ["before_truncate", "before_header", "after_free_list_write"])
def test_an_index_of_which_the_writer_died_in_a_checkpoint_is_read(store: ReadStore, root: Path, moment: str) -> None:
    """Its log says that a checkpoint was under way, so DuckDB looks for the log of that as well."""
    path = index_file.index_path(root)
    code = (
        f"import duckdb, os\nmine = duckdb.connect({str(path)!r})\nmine.execute('CREATE TABLE mine AS SELECT 7 AS i')\n"
        f"mine.execute(\"SET debug_checkpoint_abort = '{moment}'\")\n"
        "try: mine.execute('CHECKPOINT')\nexcept duckdb.Error: os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == 9
    assert index_file.wal_paths(path)[0].exists()
    assert store.sql("SELECT i, (SELECT count(*) FROM events) FROM mine").rows == [(7, 40)]
    Indexer(root).catch_up()
    assert store.sql("SELECT i FROM mine").rows == [(7,)]
