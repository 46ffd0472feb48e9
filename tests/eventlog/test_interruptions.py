"""What may come in the middle of a write: handlers and finalizers that emit, Ctrl-C, forks, a disk that hangs."""

from __future__ import annotations

import errno
import fcntl
import gc
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import eventlog as obs
from eventlog.durability import Durability
from eventlog.errors import WriteFailed
from eventlog.log import segment
from eventlog.log.segment import Segment
from eventlog.log.writer import Writer
from tests.conftest import lines_of
from tests.eventlog.test_durability import LINE, Disk, writer


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """The disk, under observation."""
    return Disk(monkeypatch)


def open_below(root: Path) -> int:
    """How many descriptors this process has below a root."""
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{fd}").startswith(str(root))
        except OSError:
            continue
    return count


def once(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, what: Callable[[], object]) -> None:
    """Have `what` done in the middle of the next call, as a signal handler would do it."""
    real = getattr(module, name)

    def interrupted(*arguments: Any) -> Any:
        monkeypatch.setattr(module, name, real)
        what()
        return real(*arguments)

    monkeypatch.setattr(module, name, interrupted)


def test_a_handler_that_emits_between_a_short_write_and_its_cut_loses_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its line goes to a segment of its own, not behind the torn one."""
    made, real, calls = writer(root), os.write, [0]
    made.write("t", LINE % 0)

    def short(fd: int, data: bytes) -> int:
        calls[0] += 1
        return real(fd, data[:4] if calls[0] == 1 else data)

    monkeypatch.setattr(os, "write", short)
    once(monkeypatch, os, "lseek", lambda: made.write("t", LINE % 1))
    made.write("t", LINE % 2)
    assert sorted(lines_of(root, "t")) == [b'{"n":%d}' % n for n in range(3)]


@pytest.mark.parametrize("moment", [(fcntl, "flock"), (os, "write"), (os, "lstat"), (os, "mkdir")])
def test_what_a_handler_emits_while_a_segment_is_opened_is_synced_too(
    root: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, moment: tuple[Any, str]
) -> None:
    """Flush covers it, and all descriptors are closed in the end."""
    made = writer(root)
    once(monkeypatch, *moment, lambda: made.write("t", LINE % 1))
    made.write("t", LINE % 2)
    made.write("t", LINE % 3)
    made.flush()
    assert disk.lines(root) == {b'{"n":%d}' % n for n in (1, 2, 3)}
    made.close()
    assert open_below(root) == 0


@pytest.mark.parametrize("durability", Durability)
def test_a_handler_that_emits_in_the_middle_of_a_sync_is_safe(
    root: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, durability: Durability
) -> None:
    """Even where that sync then fails."""
    made = writer(root, durability)
    once(monkeypatch, os, "fdatasync", lambda: made.write("t", LINE % 1))
    made.write("t", LINE % 2)
    disk.failures = 1
    once(monkeypatch, os, "fdatasync", lambda: made.write("t", LINE % 3))
    made.write("t", LINE % 4)
    made.flush()
    assert disk.lines(root) == {b'{"n":%d}' % n for n in (1, 2, 3, 4)}


def test_signal_handlers_that_emit_anywhere_lose_nothing(root: Path) -> None:
    """A timer that fires all the time, while segments rotate and syncs run."""
    obs.configure(root=root, segment_max_bytes=4096, sync_interval_s=0.002)
    ids: list[str | None] = []
    before = signal.signal(signal.SIGALRM, lambda *_: ids.append(obs.emit("t", {"pad": "h" * 200})))
    try:
        for n in range(400):
            signal.setitimer(signal.ITIMER_REAL, (n % 40 + 1) * 0.00001)
            ids.append(obs.emit("t", {"pad": "x" * 200}))
            if n % 50 == 49:
                assert obs.flush()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    obs.shutdown()
    assert None not in ids
    assert sorted(json.loads(line)["event_id"] for line in lines_of(root, "t")) == sorted(map(str, ids))
    assert open_below(root) == 0


def test_finalizers_that_emit_lose_nothing(root: Path) -> None:
    """The collector may run one at any allocation."""

    class Cycle:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            ids.append(obs.emit("t", {"final": True}))

    ids: list[str | None] = []
    obs.configure(root=root, segment_max_bytes=4096, durability="synced")
    threshold = gc.get_threshold()
    gc.set_threshold(5)
    try:
        for n in range(100):
            Cycle()
            ids.append(obs.emit("t", {"n": n}))
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert len(ids) == 200
    assert None not in ids
    assert {json.loads(line)["event_id"] for line in lines_of(root, "t")} == set(ids)


def test_a_loss_that_a_handler_counts_in_the_middle_of_counting_is_not_lost(root: Path) -> None:
    """Each step of the count is one that nothing can come between."""
    made = obs.recorder()._drops
    before = signal.signal(signal.SIGALRM, lambda *_: made.add("t", 1, "full", reported=False))
    try:
        for n in range(3000):
            signal.setitimer(signal.ITIMER_REAL, (n % 10 + 1) * 0.000002)
            made.add("t", 1, "full", reported=False)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    report = made.next_report(None, None)
    assert report is not None
    assert json.loads(bytes(report.payload))["count"] == made.total
    made.reported(report)


class Interrupter:
    """Raises KeyboardInterrupt at the n-th line that eventlog's write path runs."""

    def __init__(self, when: int) -> None:
        self.left = when

    def trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.endswith(("stream.py", "segment.py", "writer.py", "bounded.py", "drops.py")):
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self.trace


@pytest.mark.parametrize("durability", Durability)
def test_an_interrupt_at_any_line_leaves_a_writer_that_works(
    root: Path, monkeypatch: pytest.MonkeyPatch, durability: Durability
) -> None:
    """For this thread and for others: no lock stays held, nothing acknowledged is lost, nothing is glued."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _: None)  # hundreds of them, and no power cut
    when, interrupted = 0, True
    while interrupted:
        when += 1
        obs.configure(root=root / str(when), segment_max_bytes=4096, durability=durability, sync_interval_s=0)
        ids = [obs.emit("t", {"pad": "x" * 3000})]
        interrupter, interrupted = Interrupter(when), False
        sys.settrace(interrupter.trace)
        try:
            obs.emit("t", {"pad": "y" * 3000})
            obs.flush()
        except KeyboardInterrupt:
            interrupted = True
        finally:
            sys.settrace(None)
        other = threading.Thread(target=lambda: ids.append(obs.emit("t", {"other": 1})))  # noqa: B023 - joined below
        other.start()
        other.join(20)
        ids.append(obs.emit("t", {"n": 2}))
        assert obs.flush()
        found = [json.loads(line)["event_id"] for line in lines_of(root / str(when), "t")]
        assert len(ids) == 3, when
        assert set(ids) <= set(found), when
    assert when > 50


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_at_any_call_reaches_the_program(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also at the end of segments that others had filled: Python throws away what is raised in a finalizer."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _: None)
    calls = when = 0

    def trace(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += 1
        if calls == when:
            raise KeyboardInterrupt

    interrupted = True
    while interrupted:
        when, calls, interrupted = when + 1, 0, False
        others, made = (writer(root / str(when), max_bytes=1) for _ in range(2))
        for n in range(3):
            others.write("t", LINE % n)
        others.close()
        sys.settrace(trace)
        try:
            made.write("t", LINE % 3)
            made.close()
        except KeyboardInterrupt:
            interrupted = True
        finally:
            sys.settrace(None)
        made.abandon()
        assert interrupted == (calls >= when), f"call {when} was interrupted, and nobody was told"
    assert when > 100


def test_a_hanging_sync_does_not_hold_up_who_only_writes(
    root: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many segments wait for their sync by now."""
    released, hanging = threading.Event(), threading.Event()
    real = os.fdatasync

    def hang(fd: int) -> None:
        hanging.set()
        released.wait(30)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", hang)
    made = writer(root, max_bytes=10)
    made.write("t", LINE % 0)
    syncing = threading.Thread(target=made.flush)
    syncing.start()
    assert hanging.wait(10)
    started = time.monotonic()
    for n in range(1, 60):
        made.write("t", LINE % n)
    assert time.monotonic() - started < 10
    released.set()
    syncing.join()
    made.flush()
    assert disk.lines(root) == {b'{"n":%d}' % n for n in range(60)}


def test_a_hanging_write_costs_other_threads_a_bounded_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are told so, and the next ones not even asked."""
    monkeypatch.setattr("eventlog.log.stream._TURN_TIMEOUT_S", 0.05)
    released, hanging, real = threading.Event(), threading.Event(), os.write

    def hang(fd: int, data: bytes) -> int:
        hanging.set()
        released.wait(30)
        return real(fd, data)

    monkeypatch.setattr(os, "write", hang)
    obs.configure(root=root)
    stuck = threading.Thread(target=lambda: obs.emit("t"))
    stuck.start()
    assert hanging.wait(10)
    assert [obs.emit("t") for _ in range(200)] == [None] * 200
    assert "another thread has been writing for 0.05 s" in str(obs.stats().last_error)
    released.set()
    stuck.join()
    assert (obs.stats().emitted, obs.stats().lost) == (1, 200)


def test_a_segment_left_during_its_sync_is_synced_again(
    root: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was appended meanwhile was not covered by that sync."""
    made = writer(root, max_bytes=30)
    made.write("t", LINE % 0)

    def meanwhile() -> None:
        for n in range(1, 6):
            other = threading.Thread(target=made.write, args=("t", LINE % n))
            other.start()
            other.join()

    real = disk.fdatasync

    def fdatasync(fd: int) -> None:
        real(fd)  # covers the first line; the others come before the caller goes on
        monkeypatch.setattr(os, "fdatasync", real)
        meanwhile()

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    made.flush()
    made.flush()
    assert disk.lines(root) == {b'{"n":%d}' % n for n in range(6)}


@pytest.mark.parametrize(("number", "files"), [(errno.ENOLCK, 3), (errno.EWOULDBLOCK, 3 * segment._CREATE_TRIES)])
def test_a_file_system_without_locks_is_said_and_leaks_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int, files: int
) -> None:
    """Neither descriptors, nor files without end."""
    real = fcntl.flock

    def flock(fd: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    made = writer(root)
    with pytest.raises(WriteFailed):
        made.write("t", LINE % 0)
    assert open_below(root) == 0
    assert len(list((root / "log/t").iterdir())) <= files
    monkeypatch.setattr(fcntl, "flock", real)
    made.write("t", LINE % 1)
    assert lines_of(root, "t") == [b'{"n":1}']


def test_a_descriptor_is_closed_once_whatever_close_says(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second try might close the file that somebody else opened meanwhile."""
    made, real, closed = writer(root), os.close, []
    made.write("t", LINE % 0)

    def close(fd: int) -> None:
        closed.append(fd)
        real(fd)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", close)
        made.abandon()
        made.abandon()
    assert len(closed) == len(set(closed)) == 1


def test_a_child_forked_by_another_thread_in_the_middle_of_opening_keeps_no_lock(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise no one could continue or seal the segment until the child ends."""
    made, pids = writer(root), []

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(min(open_below(root), 100))
        pids.append(pid)

    once(monkeypatch, os, "lstat", fork)  # by now the segment is locked, and the stream does not know it yet
    made.write("t", LINE % 0)
    assert os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]) == 0


def test_a_writer_of_its_own_is_of_no_danger_in_a_forked_child(root: Path) -> None:
    """Its segments are closed there; it opens others."""
    made = Writer(root, segment_max_bytes=4096, segment_max_age_s=3600)
    made.write("t", LINE % 0)
    pid = os.fork()
    if pid == 0:
        try:
            made.write("t", LINE % 1)
        finally:
            os._exit(len(list((root / "log/t").iterdir())))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2
    assert sorted(lines_of(root, "t")) == [b'{"n":0}', b'{"n":1}']


def test_a_root_of_dot_can_be_synced_and_stays_where_it_was(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the program changes its folder to."""
    root.mkdir()
    monkeypatch.chdir(root)
    made = Writer(".", segment_max_bytes=4096, segment_max_age_s=3600, durability=Durability.SYNCED)
    made.write("t", LINE % 0)
    monkeypatch.chdir("/")
    made.write("u", LINE % 1)
    assert lines_of(root, "t") + lines_of(root, "u") == [b'{"n":0}', b'{"n":1}']


def test_a_report_of_losses_that_was_written_but_not_synced_is_told_once(
    root: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next try repeats its id, which is one row."""
    obs.configure(root=root, durability="synced")
    assert obs.emit("t")
    disk.failures = 6  # of the emit, and then of the report
    assert obs.emit("t") is None
    obs.recorder()._report_drops()
    obs.recorder()._report_drops()
    told = [json.loads(line) for line in lines_of(root, "events_dropped")]
    assert len({each["event_id"] for each in told}) == 1
    assert {each["payload"]["count"] for each in told} == {1}
    assert not obs.recorder()._drops.pending


def test_a_new_segment_is_never_shared_with_a_faster_adopter(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has the lock first keeps the file."""
    adopted: list[Segment | None] = []
    once(monkeypatch, fcntl, "flock", lambda: adopted.append(Segment.adopt(next((root / "log/t").iterdir()))))
    made = Segment.create(root / "log/t")
    assert adopted[0] is not None
    assert made.path != adopted[0].path
    made.close()
    adopted[0].close()
