"""Open runs say that they are alive, on one thread, which is there only as long as it has something to say."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import eventlog as obs
from eventlog.record import heartbeats
from eventlog.record.sinks import MemorySink
from tests.eventlog.runs import in_child, logged

NAME = "eventlog-heartbeat"


@pytest.fixture(autouse=True)
def _no_thread_of_another_test() -> Iterator[None]:
    heartbeats.stop_all()
    yield
    heartbeats.stop_all()


def threads() -> int:
    return sum(thread.name == NAME for thread in threading.enumerate())


class Signalling(MemorySink):
    """Says when heartbeats have come."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.reached = threading.Event()
        self._left = count

    def write(self, event_type: str, data: bytes) -> None:
        super().write(event_type, data)
        if event_type == "heartbeat":
            self._left -= 1
            if self._left <= 0:
                self.reached.set()


def test_open_runs_beat_on_one_thread(root: Path) -> None:
    """Each in its own context, at its own pace."""
    obs.configure(root=root)
    sink = Signalling(6)
    obs.add_sink(sink)
    with (
        obs.run("slow", heartbeat_s=3600), obs.run("a", agent="x", heartbeat_s=0.05) as one,
        obs.step("s"), obs.run("b", heartbeat_s=0.05) as two,
    ):  # fmt: skip
        assert sink.reached.wait(20)
        assert threads() == 1
    beats = sink.of_type("heartbeat")
    assert {beat.run_id for beat in beats} == {one.id, two.id}
    assert {beat.agent for beat in beats} == {"x"}
    assert {beat.parent_event_id for beat in beats} == {None}
    assert beats[0].data() == {"status": "running", "interval_s": 0.05}


def test_the_thread_ends_when_nothing_is_open() -> None:
    """It notices when it wakes."""
    beaten = threading.Event()
    heartbeats.start(1, beaten.set, 0.05)
    assert beaten.wait(20)
    heartbeats.stop(1)
    (thread,) = (thread for thread in threading.enumerate() if thread.name == NAME)
    thread.join(20)
    assert not thread.is_alive()
    beaten.clear()
    heartbeats.start(2, beaten.set, 0.05)
    assert beaten.wait(20)


def test_a_sooner_beat_wakes_the_thread() -> None:
    """That sleeps until a later one."""
    beaten = threading.Event()
    heartbeats.start(1, lambda: None, 3600)
    deadline = time.monotonic() + 20
    while heartbeats._wakes < time.monotonic() + 1000 and time.monotonic() < deadline:
        time.sleep(0.01)  # until the thread sleeps
    heartbeats.start(2, beaten.set, 0.05)
    assert beaten.wait(20)
    assert threads() == 1


@pytest.mark.parametrize("never_s", [float("inf"), 1e10, 10**400], ids=["inf", "centuries", "huge"])
def test_an_interval_beyond_any_clock_harms_no_other_run(never_s: float, root: Path) -> None:
    """The thread is shared: it waits for the sooner one, and lives on when that has ended."""
    obs.configure(root=root)
    sink = Signalling(2)
    obs.add_sink(sink)
    with obs.run("never", heartbeat_s=never_s):
        with obs.run("often", heartbeat_s=0.05):
            assert sink.reached.wait(20)
        deadline = time.monotonic() + 20
        while heartbeats._wakes < time.monotonic() + 1000 and time.monotonic() < deadline:
            time.sleep(0.01)  # until the thread waits for what is left
        time.sleep(0.05)
        assert threads() == 1
        with obs.run("again", heartbeat_s=0.05) as again:
            deadline = time.monotonic() + 20
            while again.id not in {beat.run_id for beat in sink.of_type("heartbeat")} and time.monotonic() < deadline:
                time.sleep(0.01)
    assert again.id in {beat.run_id for beat in sink.of_type("heartbeat")}


@pytest.mark.parametrize("heartbeat_s", [0, None, -1, "often", float("nan")])
def test_without_heartbeats_there_is_no_thread(heartbeat_s: float | None, root: Path) -> None:
    """Also where what was given is no number."""
    obs.configure(root=root)
    with obs.run("r", heartbeat_s=heartbeat_s):
        assert threads() == 0


def test_a_strict_recorder_that_cannot_write_does_not_end_the_thread(root: Path) -> None:
    """It goes on trying; what is lost is counted."""
    obs.configure(root=root, strict=True)
    with obs.run("r", heartbeat_s=0.05):
        (root / "log/heartbeat").write_text("in the way")
        deadline = time.monotonic() + 20
        while obs.stats().lost < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert obs.stats().lost >= 2
        assert threads() == 1


def test_a_process_ends_quietly_and_at_once_with_a_run_that_is_open(root: Path) -> None:
    """The thread is no reason to wait, and a forked child has none."""
    program = """
        import atexit, os, threading
        atexit.register(lambda: print(sum(t.name == "eventlog-heartbeat" for t in threading.enumerate())))
        import eventlog as obs
        from eventlog.record import heartbeats
        run = obs.run("r", heartbeat_s=0.05); run.__enter__()
        while not (os.path.isdir(os.environ["EVENTLOG_DIR"] + "/log/heartbeat")): threading.Event().wait(0.01)
        child = os.fork()
        if child == 0:
            assert not heartbeats._beating
            threading.Event().wait(0.3)
            os._exit(sum(t.name == "eventlog-heartbeat" for t in threading.enumerate()))
        assert os.waitpid(child, 0)[1] == 0
    """
    done = in_child(program, root)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
    assert logged(root, "heartbeat")
    assert len(logged(root, "run_finished")) == 1
