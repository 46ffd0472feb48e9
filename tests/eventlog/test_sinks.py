"""One contract over every sink, and what the recorder owes a sink that fails."""

from __future__ import annotations

import io
import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import eventlog as obs
from eventlog.log.writer import Writer
from eventlog.process import locks
from eventlog.record.sinks import MemorySink, Sink, StreamSink
from tests.conftest import lines_of

Made = tuple[Sink, Callable[[], list[bytes]]]


def memory(root: Path) -> Made:
    sink = MemorySink()
    return sink, lambda: sink.lines


def stream(root: Path) -> Made:
    buffer = io.BytesIO()
    return StreamSink(buffer), lambda: buffer.getvalue().splitlines()


def writer(root: Path) -> Made:
    made = Writer(root, segment_max_bytes=10_000, segment_max_age_s=60)
    return made, lambda: lines_of(root, "t")


@pytest.fixture(params=[memory, stream, writer])
def sink(request: pytest.FixtureRequest, root: Path) -> Made:
    make: Callable[[Path], Made] = request.param
    return make(root)


def test_lines_arrive_in_order_each_once(sink: Made) -> None:
    """One call may bring several lines."""
    to, lines = sink
    to.write("t", b'{"n":0}\n')
    to.write("t", b'{"n":1}\n{"n":2}\n')
    to.flush()
    assert lines() == [b'{"n":0}', b'{"n":1}', b'{"n":2}']


def test_flush_and_close_may_be_called_at_any_time_and_twice(sink: Made) -> None:
    """What was written stays readable."""
    to, lines = sink
    to.flush()
    to.write("t", b"{}\n")
    for _ in range(2):
        to.flush()
        to.close()
    assert lines() == [b"{}"]


def test_threads_may_share_a_sink(sink: Made) -> None:
    """Lines stay whole."""
    to, lines = sink
    expected = {b'{"thread":%d,"n":%d,"pad":"%b"}' % (t, n, b"x" * 50) for t in range(4) for n in range(100)}

    def work(t: int) -> None:
        for n in range(100):
            to.write("t", b'{"thread":%d,"n":%d,"pad":"%b"}\n' % (t, n, b"x" * 50))

    threads = [threading.Thread(target=work, args=(t,)) for t in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    to.flush()
    assert len(lines()) == 400
    assert set(lines()) == expected


class Failing:
    """A subscriber with a bad day."""

    def write(self, event_type: str, data: bytes) -> None:
        raise ValueError("no")

    def flush(self) -> None:
        raise ValueError("no")

    def close(self) -> None:
        raise ValueError("no")


def test_a_failing_sink_hurts_neither_the_log_nor_other_sinks(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is counted, and logged once."""
    obs.configure(root=root)
    good = MemorySink()
    obs.add_sink(Failing())
    obs.add_sink(good)
    with caplog.at_level(logging.WARNING, "eventlog"):
        ids = [obs.emit("t") for _ in range(3)]
    assert len(lines_of(root, "t")) == 3
    assert [event.event_id for event in good.events] == ids
    assert (obs.stats().emitted, obs.stats().lost, obs.stats().sink_errors) == (3, 0, 3)
    assert len(caplog.records) == 1
    assert "a sink failed: ValueError: no" in caplog.text


def test_a_removed_sink_gets_nothing_more(root: Path) -> None:
    """Removing one that is not there is fine."""
    obs.configure(root=root)
    sink = MemorySink()
    obs.add_sink(sink)
    obs.emit("a")
    obs.remove_sink(sink)
    obs.remove_sink(sink)
    obs.emit("b")
    assert [event.event_type for event in sink.events] == ["a"]


def test_capture_keeps_events_in_memory_and_writes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where emitting is turned off; afterwards all is as before."""
    monkeypatch.setenv("EVENTLOG_DIR", "")
    with obs.capture() as captured, obs.context(run_id="r"):
        event_id = obs.emit("t", {"n": 1})
    (event,) = captured.events
    assert (event.event_id, event.event_type, event.run_id, event.data()) == (event_id, "t", "r", {"n": 1})
    assert captured.of_type("other") == []
    assert (len(captured), [each.event_id for each in captured], repr(captured)) == (1, [event_id], "<MemorySink: t>")
    assert obs.emit("t") is None
    assert len(captured.events) == 1
    assert not root.exists()


def test_a_sink_added_before_anything_else_gets_each_line_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although it is what makes the recorder."""
    monkeypatch.setenv("EVENTLOG_DIR", str(root))
    sink = MemorySink()
    obs.add_sink(sink)
    obs.emit("t")
    assert len(sink.lines) == 1


class Closing(MemorySink):
    """Remembers that it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


def test_sinks_stay_open_when_the_configuration_changes(root: Path) -> None:
    """They are closed at the end."""
    sink = Closing()
    obs.add_sink(sink)
    obs.configure(root=root)
    obs.emit("t")
    assert (len(sink.lines), sink.closed) == (1, False)
    obs.shutdown()
    assert sink.closed


def test_a_forked_child_is_not_stuck_on_a_sinks_lock(root: Path) -> None:
    """Another thread of the parent was inside the sink."""
    obs.configure(root=root)
    sinks = (MemorySink(), StreamSink(io.BytesIO()))
    for each in sinks:
        obs.add_sink(each)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with sinks[0]._lock, sinks[1]._lock:
            held.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        os._exit(0 if obs.emit("t") else 1)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_signal_handler_may_emit_wherever_the_program_is(root: Path) -> None:
    """Inside stats(), inside a sink, inside a write."""
    obs.configure(root=root)
    sink = MemorySink()
    obs.add_sink(sink)
    obs.emit("t")
    recorder = obs.recorder()
    stream = recorder._writer._streams["t"]
    with recorder._count_lock, sink._lock, locks.held(stream._sync_lock, 1), locks.held(stream._append_lock, 1):
        assert obs.emit("t")
        assert obs.flush()
    assert len(sink.lines) == 2
