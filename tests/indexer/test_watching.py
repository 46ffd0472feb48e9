"""Watching: notifications, sweeps, polling, and the end."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from eventlog.config import Config
from eventlog.indexer.indexer import Counted, Indexer
from eventlog.indexer.load import loader
from eventlog.indexer.replay import Progress
from eventlog.indexer.watch import rest_s, watch
from eventlog.log import layout
from eventlog.record.recorder import Recorder
from tests.indexer.support import COUNT, line, rows, segment, wait_for


@pytest.mark.parametrize("poll", [False, True])
def test_a_watching_indexer_follows_the_log(root: Path, poll: bool) -> None:
    """New types, new segments, and what was there before; stopping indexes what is left."""
    segment(root, line(1))
    stop = threading.Event()
    thread = threading.Thread(target=watch, args=(Indexer(root), stop), kwargs={"poll": poll, "say": print})
    thread.start()
    try:
        recorder = Recorder(Config(root=str(root), segment_max_bytes=4096))
        wait_for(root, COUNT, [(1, 1)])
        recorder.emit_many("new.type", [{"n": n, "pad": "x" * 500} for n in range(50)])
        wait_for(root, COUNT, [(51, 51)])
        recorder.emit("t", {"last": True})
        recorder.shutdown()
    finally:
        stop.set()
        thread.join()
    assert rows(root, COUNT) == [(52, 52)]


def test_under_load_nobody_waits_for_a_notification(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is enough to index all that a busy producer writes, and what is finished is sealed meanwhile."""

    def wake_once(folder: Path, stop: threading.Event, **named: object) -> Iterator[None]:
        yield
        stop.wait(30)

    def look(sealer: object) -> None:
        looks.append(sealer)

    looks: list[object] = []
    monkeypatch.setattr("eventlog.indexer.watch._wakes", wake_once)
    monkeypatch.setattr("eventlog.indexer.watch._Sealer.seal_now_and_then", look)
    recorder = Recorder(Config(root=str(root), strict=True))
    recorder.emit("t", {"n": 0})
    stop = threading.Event()
    thread = threading.Thread(target=watch, args=(Indexer(root), stop), kwargs={"say": print})
    thread.start()
    try:
        for number in range(1, 300):
            recorder.emit("t", {"n": number})
            time.sleep(0.002)
        wait_for(root, COUNT, [(300, 300)])
    finally:
        stop.set()
        thread.join()
        recorder.shutdown()
    assert len(looks) > 3


@pytest.mark.parametrize(
    ("batch_s", "events", "expected"),
    [(0.03, 1, 0.029), (0.03, 20, 0.01), (0.03, 1000, 0.005), (0.03, 0, 0.03), (5.0, 10, 0.1), (0.0, 0, 0.005)],
)
def test_a_batch_of_few_events_is_followed_by_a_longer_rest(batch_s: float, events: int, expected: float) -> None:
    """So that a trickle of events does not take a whole core."""
    assert rest_s(batch_s, events) == pytest.approx(expected)


def test_watching_falls_back_to_looking_where_there_are_no_notifications(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch limit of the machine is no reason to stop."""
    import watchfiles

    def fail(*arguments: object, **named: object) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(watchfiles, "watch", fail)
    monkeypatch.setattr("eventlog.indexer.watch.SWEEP_S", 0.05)
    said: list[str] = []
    stop = threading.Event()
    thread = threading.Thread(target=watch, args=(Indexer(root), stop), kwargs={"say": said.append})
    thread.start()
    segment(root, line(1))
    wait_for(root, COUNT, [(1, 1)])
    stop.set()
    thread.join()
    assert "no file notifications" in said[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_watching_command_ends_on_a_signal(root: Path, number: signal.Signals) -> None:
    """With exit code 0, all indexed, and the file closed."""
    segment(root, line(1))
    process = subprocess.Popen(
        [sys.executable, "-m", "eventlog", "index", "--watch", "--root", str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_for(root, COUNT, [(1, 1)])
    segment(root, line(2))
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert b"Traceback" not in err
    assert rows(root, COUNT) == [(2, 2)]


def test_a_log_that_cannot_be_read_for_a_moment_does_not_end_the_watch(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No rights, no descriptors: what passes by itself is said, and waited out."""
    segment(root, line(1))
    stop, real, said = threading.Event(), layout.list_log, list[str]()
    answers = iter([PermissionError(errno.EACCES, "Permission denied", "log/t")])

    def listing(*arguments: Any, **options: Any) -> layout.Listing:
        for error in answers:
            raise error
        stop.set()
        return real(*arguments, **options)

    monkeypatch.setattr(layout, "list_log", listing)
    monkeypatch.setattr("eventlog.indexer.watch.SWEEP_S", 0.01)
    watch(Indexer(root), stop, poll=True, say=said.append)
    assert said == ["[Errno 13] Permission denied: 'log/t'; trying again"]
    assert rows(root, COUNT) == [(1, 1)]


def test_an_index_that_cannot_be_written_for_a_moment_does_not_end_the_watch(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: it goes on by itself once there is room."""
    segment(root, line(1))
    stop, real, said = threading.Event(), loader.store, list[str]()
    answers = iter([duckdb.IOException("IO Error: No space left on device")])

    def store(*arguments: Any) -> None:
        for error in answers:
            raise error
        stop.set()
        real(*arguments)

    monkeypatch.setattr(loader, "store", store)
    monkeypatch.setattr("eventlog.indexer.watch.SWEEP_S", 0.01)
    watch(Indexer(root), stop, poll=True, say=said.append)
    assert said == [
        f"{root}/index.duckdb could not be written: IO Error: No space left on device. "
        "The log is not affected; trying again"
    ]
    assert rows(root, COUNT) == [(1, 1)]


def test_what_is_finished_is_sealed_by_the_way(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the seals are indexed; what may still be continued is not sealed."""
    monkeypatch.setattr("eventlog.indexer.watch.SEAL_S", 0.05)
    monkeypatch.setattr("eventlog.indexer.watch.SWEEP_S", 0.05)
    old = segment(root, line(1))
    young = segment(root, line(2), name=layout.new_segment_name(time.time_ns()))
    stop = threading.Event()
    thread = threading.Thread(target=watch, args=(Indexer(root), stop), kwargs={"say": print, "poll": True})
    thread.start()
    try:
        query = "SELECT payload ->> 'segment' FROM events WHERE event_type = 'segment_sealed'"
        wait_for(root, query, [(old.stem,)])
    finally:
        stop.set()
        thread.join()
    assert not old.stat().st_mode & 0o222
    assert young.stat().st_mode & 0o200


def test_released_segments_are_not_sealed_first(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are about to go, and so is the chain's sense."""
    monkeypatch.setattr("eventlog.indexer.watch.SEAL_S", 0.01)
    monkeypatch.setattr("eventlog.indexer.watch.SWEEP_S", 0.05)
    segment(root, line(1))
    stop = threading.Event()
    indexer = Indexer(root, release=True)
    thread = threading.Thread(target=watch, args=(indexer, stop), kwargs={"say": print, "poll": True})
    thread.start()
    try:
        wait_for(root, "SELECT released FROM segments", [(True,)])
        stop.wait(0.3)
    finally:
        stop.set()
        thread.join()
    assert layout.list_log(root).segments == []


def test_catching_up_ends_while_somebody_keeps_writing(root: Path) -> None:
    """Something new was there after every batch, so `index --watch` could not be stopped."""
    path = segment(root, line(1))
    numbers = iter(range(2, 10**6))

    class Busy(Indexer):
        def _index_some(
            self, waiting: list[layout.SegmentFile], counted: Counted, progress: Progress | None
        ) -> list[layout.SegmentFile] | None:
            with path.open("ab") as file:
                file.write(line(next(numbers)))
            return super()._index_some(waiting, counted, progress)

    assert Busy(root).catch_up().events == 2
