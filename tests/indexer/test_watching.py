"""Watching: hints, sweeps, falling back, ending."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from eventlog.config import Config
from eventlog.recorder import Recorder
from indexer.indexer import Counted, Indexer
from indexer.watch import watch
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


def test_watching_falls_back_to_looking_where_there_are_no_notifications(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch limit of the machine is no reason to stop."""
    import watchfiles

    def fail(*arguments: object, **named: object) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(watchfiles, "watch", fail)
    monkeypatch.setattr("indexer.watch.SWEEP_S", 0.05)
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


def test_catching_up_ends_while_somebody_keeps_writing(root: Path) -> None:
    """Something new was there after every batch, so `index --watch` could not be stopped."""
    path = segment(root, line(1))
    numbers = iter(range(2, 10**6))

    class Busy(Indexer):
        def _step(self, counted: Counted) -> bool:
            with path.open("ab") as file:
                file.write(line(next(numbers)))
            return super()._step(counted)

    assert Busy(root).catch_up().events == 2
