"""A log that cannot be written: the agent goes on, and every drop is counted and reported."""

from __future__ import annotations

import errno
import json
import logging
import os
from pathlib import Path
from typing import Never

import pytest

import eventlog as obs
from eventlog.errors import WriteFailed, WritingSuspended
from eventlog.record import breaker
from eventlog.record.breaker import Breaker
from tests.conftest import lines_of


class Full:
    """A disk that takes nothing while `full` is set, and counts who asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self.asked = 0
        self.real = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, fd: int, data: bytes) -> int:
        if self.full:
            self.asked += 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.real(fd, data)


class Raising:
    """What raises when it is called or iterated over."""

    def __call__(self, *_: object) -> Never:
        raise OSError("not now")

    __iter__ = __call__


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Full:
    """A disk that can be filled."""
    return Full(monkeypatch)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock for breakers that stands still until it is set."""
    now = [0.0]
    monkeypatch.setattr(breaker.Breaker.__init__, "__defaults__", (lambda: now[0],))
    return now


def told(root: Path) -> list[dict[str, object]]:
    return [json.loads(line)["payload"] for line in lines_of(root, "events_dropped")]


def test_a_breaker_opens_after_failures_in_a_row_and_probes_ever_less_often() -> None:
    """0.1 s, doubling to 5 s; the first success closes it."""
    now = [0.0]
    made = Breaker(lambda: now[0])
    for _ in range(4):
        made.failed("full")
        assert made.allows()
    made.succeeded()
    for _ in range(5):
        assert made.allows()
        made.failed("full")
    waits = []
    for _ in range(8):
        assert not made.allows()
        start = now[0]
        while not made.allows():
            now[0] += 0.01
        assert not made.allows()  # one probe at a time
        made.failed("full")
        waits.append(round(now[0] - start, 1))
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    made.succeeded()
    assert made.allows()


def test_a_full_disk_is_not_asked_for_every_event(root: Path, disk: Full, clock: list[float]) -> None:
    """Emit returns None at once, and each event counts as lost."""
    obs.configure(root=root)
    disk.full = True
    assert [obs.emit("t", {"n": n}) for n in range(1000)] == [None] * 1000
    assert disk.asked <= 5 * 3
    assert obs.stats().lost == 1000
    assert obs.stats().suspended


def test_what_was_lost_is_told_when_writing_works_again(root: Path, disk: Full, clock: list[float]) -> None:
    """In one event, with number, types, times and cause; then no more."""
    obs.configure(root=root, agent="a1")
    assert obs.emit("t", {"n": 0})
    disk.full = True
    for n in range(20):
        obs.emit("t" if n % 4 else "u", {"n": n})
    obs.emit_many("v", [{}] * 3)
    disk.full = False
    assert obs.emit("t", {"n": 20}) is None  # not yet: the breaker waits
    clock[0] += 60
    assert obs.emit("t", {"n": 21})
    assert obs.emit("t", {"n": 22})
    (report,) = told(root)
    assert report["count"] == 24
    assert report["event_types"] == {"t": 16, "u": 5, "v": 3}
    assert "No space left on device" in str(report["cause"])
    assert report["pid"] == os.getpid()
    assert str(report["since"]) <= str(report["until"])
    assert json.loads(lines_of(root, "events_dropped")[0])["agent"] == "a1"
    stats = obs.stats()
    assert (stats.emitted, stats.lost, stats.suspended) == (3, 24, False)


def test_what_was_lost_is_told_at_the_end_at_the_latest(root: Path, disk: Full) -> None:
    """Nothing else is emitted any more."""
    obs.configure(root=root)
    disk.full = True
    obs.emit("t")
    disk.full = False
    obs.shutdown()
    assert [report["count"] for report in told(root)] == [1]


def test_a_report_that_cannot_be_written_is_kept(root: Path, disk: Full) -> None:
    """And what is lost until then is told beside it."""
    obs.configure(root=root)
    disk.full = True
    obs.emit("t")
    obs.shutdown()
    obs.emit("t")
    disk.full = False
    obs.shutdown()
    obs.shutdown()
    assert sum(int(str(report["count"])) for report in told(root)) == 2


@pytest.mark.parametrize("part", ["ids.new_id", "timestamps.from_ns", "envelope.encode_payload", "os.getpid"])
def test_a_report_that_cannot_be_put_together_is_kept(
    root: Path, disk: Full, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """No randomness, no clock, no memory: what was lost before, and since, is told later, once."""
    obs.configure(root=root)
    disk.full = True
    obs.emit("t")
    disk.full = False
    with monkeypatch.context() as broken:
        broken.setattr(f"eventlog.record.drops.{part}", Raising())
        obs.recorder()._report_drops()
    obs.emit_many("u", Raising())
    assert obs.emit("t")
    obs.shutdown()
    assert sum(int(str(report["count"])) for report in told(root)) == obs.stats().lost == 2


def test_strict_raises_and_leaves_the_telling_to_the_caller(root: Path, disk: Full, clock: list[float]) -> None:
    """First the operating system's error, then that it is not asked any more."""
    obs.configure(root=root, strict=True)
    disk.full = True
    for _ in range(5):
        with pytest.raises(WriteFailed, match="No space left on device"):
            obs.emit("t")
    with pytest.raises(WritingSuspended, match=r"suspended, since it keeps failing: .*No space left on device"):
        obs.emit("t")
    disk.full = False
    clock[0] += 60
    assert obs.emit("t")
    assert told(root) == []
    assert obs.stats().lost == 6


def test_the_agents_log_gets_the_cause_once(root: Path, disk: Full, caplog: pytest.LogCaptureFixture) -> None:
    """Not once per event."""
    obs.configure(root=root)
    disk.full = True
    with caplog.at_level(logging.WARNING, "eventlog"):
        for _ in range(100):
            obs.emit("t")
    (message,) = [record.getMessage() for record in caplog.records]
    assert "No space left on device" in message
    assert "1 lost" in message


def test_a_forked_child_tells_only_of_its_own_losses(root: Path, disk: Full) -> None:
    """The parent tells of the parent's."""
    obs.configure(root=root)
    disk.full = True
    obs.emit("t")
    pid = os.fork()
    if pid == 0:
        ok = obs.stats().lost == 0 and not obs.recorder()._drops.pending
        os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    disk.full = False
    obs.shutdown()
    assert [report["count"] for report in told(root)] == [1]


def test_the_first_thing_said_of_a_root_that_is_none_counts_the_event(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not that its schema was not logged: nothing is recorded at all."""
    path = tmp_path / "afile"
    path.touch()
    obs.configure(root=path)
    with caplog.at_level(logging.WARNING), obs.run("nightly"):
        pass
    said = caplog.messages[0]
    assert "schema" not in said
    assert "1 lost" in said
    assert str(path) in said
