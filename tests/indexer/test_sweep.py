"""Sweeping: what a thorough sweep finds, and what quick sweeps find in between."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

import duckdb
import pytest

from eventlog.config import Config
from eventlog.errors import IndexFailed
from eventlog.indexer import replay, sweep
from eventlog.indexer.index import index_file
from eventlog.indexer.indexer import Indexer
from eventlog.indexer.sweep import Sweep
from eventlog.indexer.views import projections
from eventlog.log.segment import Segment
from eventlog.record.recorder import Recorder
from tests.indexer.support import COUNT, index, line, name, rows, segment


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make thorough sweeps as rare as in a very large log, and few segments the newest."""
    monkeypatch.setattr(sweep, "_CHEAP_S", -1)
    monkeypatch.setattr(sweep, "_SHARE", 10**9)
    monkeypatch.setattr(sweep, "_NEWEST", 2)


@pytest.mark.usefixtures("seldom")
def test_a_quick_sweep_finds_new_segments_and_new_types(root: Path) -> None:
    """Also those that appear within the tick in which their folder was looked at."""
    segment(root, line(1))
    indexer = Indexer(root)
    for n in range(2, 6):
        indexer.keep_up()
        segment(root, line(n))
        segment(root, line(100 + n, f"t{n}"), event_type=f"t{n}")
    indexer.keep_up()
    assert rows(root, COUNT) == [(9, 9)]


@pytest.mark.usefixtures("seldom")
def test_a_quick_sweep_finds_what_grows(root: Path) -> None:
    """The newest segments, those that grew before, and those that wait for the end of a line."""
    paths = [segment(root, line(n), name=name(n)) for n in range(9)]
    torn = segment(root, line(10) + b'{"half', name=name(10))
    owner = Segment.create(root / "log/u")
    owner.append(line(11, "u"))
    for n in range(2):
        segment(root, line(12 + n), name=name(12 + n))
    indexer = Indexer(root)
    indexer.keep_up()
    with paths[0].open("ab") as file:
        file.write(line(20))
    indexer.catch_up()
    with paths[0].open("ab") as file:
        file.write(line(21))
    owner.append(line(22, "u"))
    indexer.keep_up()
    owner.close()
    indexer.keep_up()
    assert torn.exists()
    assert rows(root, COUNT) == [(16, 16)]
    assert rows(root, "SELECT count(*) FROM quarantine") == [(1,)]


@pytest.mark.usefixtures("seldom")
def test_an_old_segment_that_wakes_up_is_found_by_a_thorough_sweep(root: Path) -> None:
    """A quick one has no reason to look at it."""
    paths = [segment(root, line(n), name=name(n)) for n in range(9)]
    indexer = Indexer(root)
    indexer.keep_up()
    with paths[0].open("ab") as file:
        file.write(line(20))
    assert indexer.keep_up().events == 0
    assert indexer.catch_up().events == 1


@pytest.mark.usefixtures("seldom")
def test_a_copy_of_a_segment_is_no_segment_in_a_quick_sweep_either(root: Path) -> None:
    """Its name is taken."""
    path = segment(root, line(1))
    indexer = Indexer(root)
    indexer.keep_up()
    segment(root, line(2), line(3), event_type="u", name=path.stem)
    assert indexer.keep_up().events == 0
    assert rows(root, COUNT) == [(1, 1)]


def test_a_small_log_is_swept_thoroughly_every_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is gained by less."""
    monkeypatch.setattr(sweep, "_CHEAP_S", 10.0)  # whatever else this machine has to do
    paths = [segment(root, line(n)) for n in range(80)]
    indexer = Indexer(root)
    indexer.keep_up()
    with paths[0].open("ab") as file:
        file.write(line(100))
    assert indexer.keep_up().events == 1


def test_an_up_to_date_index_is_not_read_segment_by_segment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or starting over 100,000 segments would take a minute."""
    for n in range(5):
        segment(root, line(n))
    index(root)
    monkeypatch.setattr("eventlog.log.layout.refreshed", lambda _: pytest.fail("a segment was looked at"))
    assert Indexer(root).catch_up().events == 0


def test_an_index_that_is_replaced_while_the_indexer_waits_is_looked_at_anew(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be an older one, out of a backup."""
    first = segment(root, line(1))
    index(root)
    path = index_file.index_path(root)
    backup = path.read_bytes()
    with first.open("ab") as file:
        file.write(line(2))
    indexer = Indexer(root)
    indexer.catch_up()
    segment(root, line(3))
    real = Sweep.quick

    def quick(self: Sweep) -> object:
        found = real(self)
        restored = path.with_suffix(".new")
        restored.write_bytes(backup)
        restored.replace(path)
        return found

    monkeypatch.setattr(Sweep, "quick", quick)
    indexer.keep_up()
    assert rows(root, COUNT) == [(3, 3)]


def test_an_index_that_is_replaced_by_one_with_its_inode_is_found_out(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File systems give the number of a deleted file to the next one."""
    monkeypatch.setattr(index_file, "inode_of", lambda path: 1 if path.exists() else None)
    for n in range(3):
        segment(root, line(n))
    indexer = Indexer(root)
    indexer.catch_up()
    index_file.index_path(root).unlink()
    with index_file.writing(root) as connection:
        projections.create(connection)
    segment(root, line(3))
    indexer.catch_up()
    assert rows(root, COUNT) == [(4, 4)]


@pytest.mark.parametrize("part", [0.1, 0.5, 1.0])
def test_an_index_with_an_older_one_written_over_it_is_rebuilt(root: Path, part: float) -> None:
    """Over all of it or its beginning: DuckDB may see no damage, and the checkpoints may say more than there is."""
    said: list[str] = []
    indexer = Indexer(root, say=said.append)
    path = index_file.index_path(root)
    segment(root, line(0))
    indexer.catch_up()
    older = path.read_bytes()
    for n in range(1, 5):
        segment(root, line(n))
        indexer.catch_up()
    with path.open("r+b") as file:
        file.write(older[: int(len(older) * part)])
    segment(root, line(5))
    indexer.keep_up()
    assert rows(root, COUNT) == [(6, 6)]
    assert len([each for each in said if "rebuilding it from the log" in each]) == 1
    assert all("it was kept as" in each for each in said[1:])  # where it could not be read
    Indexer(root).catch_up()
    assert rows(root, COUNT) == [(6, 6)]
    assert replay.replay(root).digest.events == 6


def test_an_index_that_could_not_be_read_for_a_moment_is_rebuilt_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a mixture of two files by now. An error that comes again is not answered by rebuilding each time."""
    said: list[str] = []
    indexer = Indexer(root, say=said.append)
    segment(root, line(0))
    indexer.catch_up()
    with index_file.writing(root) as connection:
        connection.execute("DELETE FROM event_rows")

    def fail(*_: object, **__: object) -> None:
        raise duckdb.IOException("Could not read enough bytes from file")

    with monkeypatch.context() as patch:
        patch.setattr("eventlog.indexer.indexer.index_batch", fail)
        segment(root, line(1))
        indexer._index_inode = None
        with contextlib.suppress(IndexFailed):
            indexer.catch_up()
        segment(root, line(2))
        with pytest.raises(IndexFailed):
            indexer.catch_up()
    assert len([each for each in said if "rebuilding it from the log" in each]) == 1
    indexer.catch_up()
    assert rows(root, COUNT) == [(3, 3)]


def test_catching_up_ends_while_producers_go_on(root: Path) -> None:
    """Under steady load there is always more; that is for the next call."""
    stop = threading.Event()

    def produce() -> None:
        recorder = Recorder(Config(root=str(root)))
        while not stop.is_set():
            recorder.emit("t", {})
            time.sleep(0.001)
        recorder.shutdown()

    producer = threading.Thread(target=produce)
    producer.start()
    indexing = threading.Thread(target=Indexer(root).catch_up, daemon=True)
    indexing.start()
    indexing.join(20)
    ended = not indexing.is_alive()
    stop.set()
    producer.join()
    indexing.join()
    assert ended
