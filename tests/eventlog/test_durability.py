"""What survives what: policies, group commit, failed syncs, and segments that vanish."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import eventlog as obs
from eventlog.durability import Durability
from eventlog.errors import WriteFailed
from eventlog.log.writer import Writer
from tests.conftest import lines_of

LINE = b'{"n":%d}\n'


def writer(
    root: Path,
    durability: Durability = Durability.WRITTEN,
    *,
    max_bytes: int = 2**26,
    sync_interval_s: float = 0,
    on_failure: Callable[[BaseException], None] = lambda _: None,
) -> Writer:
    return Writer(
        root,
        segment_max_bytes=max_bytes,
        segment_max_age_s=3600,
        durability=durability,
        sync_interval_s=sync_interval_s,
        on_failure=on_failure,
    )


class Disk:
    """Stands between the writer and fdatasync: remembers what was synced, and fails on demand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.real = os.fdatasync
        self.syncs = 0
        self.failures = 0
        self.durable: dict[str, int] = {}  # name of the file → bytes that a power cut would leave
        self.delay_s = 0.0
        monkeypatch.setattr(os, "fdatasync", self.fdatasync)

    def fdatasync(self, fd: int) -> None:
        self.syncs += 1
        size = os.fstat(fd).st_size
        time.sleep(self.delay_s)
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EIO, "Input/output error")
        self.real(fd)
        name = os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
        self.durable[name] = max(size, self.durable.get(name, 0))

    def lines(self, root: Path, event_type: str = "t") -> set[bytes]:
        """The lines that a power cut would leave."""
        return {
            line
            for path in (root / "log" / event_type).glob("*.jsonl")
            for line in path.read_bytes()[: self.durable.get(path.name, 0)].splitlines()
        }


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """The disk, under observation."""
    return Disk(monkeypatch)


def test_written_does_not_wait_for_the_disk(root: Path, disk: Disk) -> None:
    """Until flush is called."""
    made = writer(root)
    for n in range(10):
        made.write("t", LINE % n)
    assert disk.syncs == 0
    made.flush()
    assert disk.lines(root) == {b'{"n":%d}' % n for n in range(10)}


def test_synced_means_that_a_power_cut_leaves_it(root: Path, disk: Disk) -> None:
    """At the moment when write returns."""
    made = writer(root, Durability.SYNCED)
    for n in range(10):
        made.write("t", LINE % n)
        assert b'{"n":%d}' % n in disk.lines(root)


def test_a_new_name_is_synced_before_the_first_synced_line_is_acknowledged(
    root: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the file might vanish entirely."""
    synced: list[str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    made = writer(root, Durability.SYNCED)
    made.write("t", LINE % 1)
    assert synced == [str(root / "log/t"), str(root / "log"), str(root), str(root.parent)]
    made.write("t", LINE % 2)
    assert len(synced) == 4


def test_many_waiters_share_one_sync(root: Path, disk: Disk) -> None:
    """Group commit: while one sync runs, the other 15 threads get ready for the next one."""
    disk.delay_s = 0.002
    made = writer(root, Durability.SYNCED)

    def work(thread: int) -> None:
        for n in range(20):
            made.write("t", b'{"n":"%d-%d"}\n' % (thread, n))

    threads = [threading.Thread(target=work, args=(each,)) for each in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(disk.lines(root)) == 320
    assert disk.syncs < 80  # 40 where nothing else runs


def test_the_background_syncs_within_its_interval(root: Path, disk: Disk) -> None:
    """Nobody calls flush."""
    made = writer(root, sync_interval_s=0.05)
    for n in range(3):
        made.write("t", LINE % n)
        made.write("u", LINE % n)
        deadline = time.monotonic() + 10
        while b'{"n":%d}' % n not in disk.lines(root) or b'{"n":%d}' % n not in disk.lines(root, "u"):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_the_background_thread_ends_when_idle_and_comes_back(root: Path, disk: Disk) -> None:
    """An agent that waits for days is not woken every second."""
    made = writer(root, sync_interval_s=0.01)
    made.write("t", LINE % 0)
    thread = made._syncer
    assert thread is not None
    thread.join(10)
    assert not thread.is_alive()
    assert made._syncer is None
    made.write("t", LINE % 1)
    assert made._syncer is not None


def test_a_writer_that_is_dropped_takes_its_thread_along(root: Path) -> None:
    """The thread does not keep it alive."""
    made = writer(root, sync_interval_s=0.01)
    made.write("t", LINE % 0)
    thread = made._syncer
    assert thread is not None
    del made
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("durability", Durability)
def test_rotation_leaves_nothing_unsynced(root: Path, disk: Disk, durability: Durability) -> None:
    """Flush covers the segments that were left, too."""
    made = writer(root, durability, max_bytes=40)
    for n in range(30):
        made.write("t", LINE % n)
    made.flush()
    assert disk.lines(root) == {b'{"n":%d}' % n for n in range(30)}


def test_descriptors_stay_few_when_segments_rotate_faster_than_they_are_synced(root: Path, disk: Disk) -> None:
    """What was left is synced by then, and closed."""
    made = writer(root, max_bytes=10)
    for n in range(200):
        made.write("t", LINE % n)
    held = [name for fd in os.listdir("/proc/self/fd") if (name := _target(fd)).startswith(str(root))]
    assert len(held) <= 20
    assert len(disk.lines(root)) >= 180


def _target(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""


@pytest.mark.parametrize("durability", Durability)
def test_after_a_failed_sync_the_lines_are_written_anew_elsewhere(
    root: Path, disk: Disk, durability: Durability
) -> None:
    """The file that failed is never synced again, since that would report a success that is none."""
    made = writer(root, durability)
    made.write("t", LINE % 0)
    made.flush()
    disk.failures = 1
    for n in (1, 2):
        made.write("t", LINE % n)
    made.flush()
    made.write("t", LINE % 3)
    made.flush()
    first, second = sorted((root / "log/t").iterdir())
    assert disk.durable[first.name] == len(LINE % 0)
    assert disk.lines(root) == {b'{"n":%d}' % n for n in range(4)}
    assert LINE % 3 not in first.read_bytes()
    assert LINE % 0 not in second.read_bytes()
    assert made.failed_syncs == 1


def test_lines_too_many_to_remember_are_read_back(root: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded; the page cache still has them."""
    monkeypatch.setattr("eventlog.log.segment._REMEMBERED_MAX_BYTES", 50)
    made = writer(root)
    for n in range(30):
        made.write("t", LINE % n)
    disk.failures = 1
    made.flush()
    assert disk.lines(root) == {b'{"n":%d}' % n for n in range(30)}


def test_a_disk_that_syncs_nothing_is_said_and_tried_again(root: Path, disk: Disk) -> None:
    """Nothing is acknowledged as safe meanwhile, and all of it is when the disk is back."""
    made = writer(root, Durability.SYNCED)
    disk.failures = 10**6
    for n in range(3):
        with pytest.raises(WriteFailed, match=r"log/t: cannot be synced \(Input/output error\)"):
            made.write("t", LINE % n)
    assert disk.lines(root) == set()
    disk.failures = 0
    made.write("t", LINE % 3)
    assert disk.lines(root) == {b'{"n":%d}' % n for n in range(4)}


def test_a_failure_in_the_background_is_told_and_mended_later(root: Path, disk: Disk) -> None:
    """By then each line is safe, however often it was written."""
    told: list[BaseException] = []
    made = writer(root, sync_interval_s=0.01, on_failure=told.append)
    disk.failures = 4
    made.write("t", LINE % 0)
    deadline = time.monotonic() + 10
    while disk.lines(root) != {b'{"n":0}'}:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(told) == 1
    assert "cannot be synced" in str(told[0])


@pytest.mark.parametrize("durability", Durability)
def test_events_outlive_the_deletion_of_the_segment_they_are_written_to(root: Path, durability: Durability) -> None:
    """`rm -rf log` under a running agent: what it emits from then on is not written into nowhere."""
    made = writer(root, durability)
    made.write("t", LINE % 0)
    made.flush()
    shutil.rmtree(root / "log")
    made.write("t", LINE % 1)
    made.flush()
    assert lines_of(root, "t") == [b'{"n":1}']


def test_a_batch_that_fails_halfway_counts_only_what_is_synced(
    root: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the batch wrote before is acknowledged, and safe."""
    monkeypatch.setattr("eventlog.log.stream._WRITE_MAX_BYTES", 100)
    made = writer(root, Durability.SYNCED)
    real, budget = os.write, [2]

    def write(fd: int, data: bytes) -> int:
        if not budget[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        budget[0] -= 1
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(WriteFailed) as caught:
        made.write("t", b"".join(LINE % n for n in range(100)))
    assert 0 < caught.value.lines_written < 100
    assert disk.lines(root) == {b'{"n":%d}' % n for n in range(caught.value.lines_written)}


def test_a_segment_that_took_nothing_leaves_no_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is not littered with empty files."""
    made = writer(root)

    def write(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(WriteFailed):
        made.write("t", LINE % 0)
    assert list((root / "log/t").iterdir()) == []


def test_an_interrupt_between_a_short_write_and_its_cut_glues_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C may come anywhere: the segment is left as it is."""
    made = writer(root)
    made.write("t", LINE % 0)
    real = os.write

    def interrupted(fd: int, data: bytes) -> int:
        real(fd, data[:4])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            made.write("t", LINE % 1)
    made.write("t", LINE % 2)
    first, second = sorted((root / "log/t").iterdir())
    assert first.read_bytes() == LINE % 0 + b'{"n"'
    assert second.read_bytes() == LINE % 2


def test_the_policy_is_a_setting(root: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """In code and in the environment; emit returns an id only for what is safe."""
    obs.configure(root=root, durability="synced")
    assert obs.emit("t", {"n": 1})
    assert len(disk.lines(root)) == 1
    disk.failures = 10**6
    assert obs.emit("t", {"n": 2}) is None
    assert obs.stats().lost == 1
    assert obs.stats().failed_syncs >= 1
    disk.failures = 0
    monkeypatch.setenv("EVENTLOG_DURABILITY", "synced")
    obs.configure(root=root)
    event_id = obs.emit("t", {"n": 3})
    assert event_id is not None
    assert any(event_id.encode() in line for line in disk.lines(root))
    with pytest.raises(obs.ConfigError, match="it is one of written, synced"):
        obs.configure(durability="always")
