"""The fair lock: readers, writers, programs that do not use it, forked children."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import pytest

from eventlog.errors import IndexBusy, IndexFailed
from eventlog.indexer import replay
from eventlog.indexer.index import index_file, lock
from eventlog.indexer.indexer import Indexer
from eventlog.log import segment as segments_module
from eventlog.log.segment import Segment
from tests.indexer.support import COUNT, index, line, rows, segment


def test_readers_share_and_a_writer_is_alone(root: Path) -> None:
    """Whoever comes too late is told who holds the index, within the bound."""
    segment(root, line(1))
    index(root)
    with index_file.reading(root, timeout_s=5), index_file.reading(root, timeout_s=5):
        started = time.monotonic()
        with (
            pytest.raises(IndexBusy, match=rf"held for 0.2 s by pid {os.getpid()} \("),
            index_file.writing(root, timeout_s=0.2),
        ):
            pass
        assert 0.15 < time.monotonic() - started < 3
    with (
        index_file.writing(root, timeout_s=5),
        pytest.raises(IndexBusy, match="The log is not affected"),
        index_file.reading(root, timeout_s=0.1),
    ):
        pass


def test_whoever_waits_gets_its_turn_when_the_other_lets_go(root: Path) -> None:
    """And one that gave up does not hold on to it later."""
    root.mkdir()
    order: list[str] = []

    def take(who: str, exclusive: bool, timeout_s: float) -> None:
        try:
            with lock.fair_lock(root, exclusive=exclusive, timeout_s=timeout_s):
                order.append(who)
        except IndexBusy:
            order.append(f"{who} gave up")

    with lock.fair_lock(root, exclusive=False, timeout_s=1):
        impatient = threading.Thread(target=take, args=("impatient writer", True, 0.05))
        impatient.start()
        impatient.join()
        writer = threading.Thread(target=take, args=("writer", True, 10))
        writer.start()
        while not lock.holders(root / "index.turn"):
            time.sleep(0.005)
        reader = threading.Thread(target=take, args=("reader", False, 10))
        reader.start()
        time.sleep(0.05)
        order.append("let go")
    writer.join()
    reader.join()
    assert order == ["impatient writer gave up", "let go", "writer", "reader"]


def test_a_foreign_program_that_holds_the_file_is_waited_for_and_named(root: Path) -> None:
    """It knows nothing of turns."""
    segment(root, line(1))
    index(root)
    program = (
        "import duckdb, sys, time\n"
        f"c = duckdb.connect({str(index_file.index_path(root))!r})\nprint('ready', flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        with pytest.raises(IndexBusy, match=f"pid {process.pid}"), index_file.reading(root, timeout_s=0.3):
            pass
        threading.Timer(0.3, process.kill).start()
        assert rows(root, COUNT) == [(1, 1)]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_two_indexers_on_one_root_do_not_disturb_each_other(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that listed the log before the other went further sees no change where there is none."""
    path = segment(root, line(1))
    slow, fast = Indexer(root), Indexer(root)
    slow.catch_up()
    with path.open("ab") as file:
        file.write(line(2))
    stale = slow._sweep.thorough()
    with path.open("ab") as file:
        file.write(line(3))
    fast.catch_up()
    with monkeypatch.context() as patch:
        patch.setattr(slow._sweep, "thorough", iter([stale]).__next__)
        slow.catch_up()
    assert rows(root, COUNT) == [(3, 3)]


def test_a_forked_child_does_not_hold_on_to_the_index(root: Path) -> None:
    """Whatever the parent held at the moment of the fork: the gate, a segment, a replay."""
    path = segment(root, line(1))
    index(root)
    ready, done = os.pipe()
    with index_file.writing(root), segments_module.held_still(path):
        pid = os.fork()
        if pid == 0:
            os.close(done)
            os.read(ready, 1)
            os._exit(0)
    try:
        with index_file.writing(root, timeout_s=1):
            pass
        owner = Segment.adopt(path)
        assert owner is not None
        owner.close()
    finally:
        os.close(done)
        os.close(ready)
        os.waitpid(pid, 0)


def test_nobody_adopts_a_segment_whose_tail_is_being_judged(root: Path) -> None:
    """What is read as torn must not be a line that a new owner is writing."""
    path = segment(root, line(1))
    with segments_module.held_still(path) as still:
        assert still
        assert Segment.adopt(path) is None
    owner = Segment.adopt(path)
    assert owner is not None
    with segments_module.held_still(path) as still:
        assert not still
    owner.close()


def test_a_holder_that_cannot_be_seen_is_still_a_holder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another container, /proc/locks does not show it; the file's lock does."""
    segment(root, line(1))
    index(root)
    path = str(index_file.index_path(root))
    program = f"import duckdb, time\nc = duckdb.connect({path!r})\nprint(1, flush=True)\ntime.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    monkeypatch.setattr(lock, "holders", lambda path: [])
    try:
        with pytest.raises(IndexBusy, match="another process"):
            Indexer(root, timeout_s=0.2).catch_up()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert list(root.glob("*broken*")) == []


def test_an_index_that_cannot_be_opened_for_want_of_something_is_not_broken(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many open files, for one: the file is sound, and stays."""
    segment(root, line(1))
    index(root)

    def fail(*arguments: object, **named: object) -> None:
        raise duckdb.IOException("IO Error: Cannot open file: Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(duckdb, "connect", fail)
        with pytest.raises(IndexFailed, match="cannot be opened here, though it seems sound: IO Error: Cannot open"):
            Indexer(root, timeout_s=0.1).catch_up()
    assert list(root.glob("*broken*")) == []
    assert rows(root, COUNT) == [(1, 1)]


def test_an_index_that_may_not_be_written_is_not_waited_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only file system does not pass by itself."""
    segment(root, line(1))
    index(root)

    def refuse(*arguments: object, **options: object) -> None:
        raise duckdb.IOException("Cannot open file: Read-only file system")

    monkeypatch.setattr(duckdb, "connect", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    started = time.monotonic()
    with pytest.raises(IndexFailed, match="Read-only file system"), index_file.writing(root, timeout_s=60):
        pass
    assert time.monotonic() - started < 30


def test_the_index_is_for_its_owner_alone(root: Path) -> None:
    """Like the log: it holds the same."""
    segment(root, line(1))
    index(root)
    assert index_file.index_path(root).stat().st_mode & 0o777 == 0o600
    replay.replay(root)
    assert index_file.index_path(root).stat().st_mode & 0o777 == 0o600
