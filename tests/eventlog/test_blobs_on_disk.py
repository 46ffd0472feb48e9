"""Chunks as files: written once, synced before the lines that name them, and whole after a kill."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventlog.config import Config
from eventlog.durability import Durability
from eventlog.errors import WriteFailed
from eventlog.log import blobs
from eventlog.log.blob_store import BlobStore
from eventlog.record.recorder import Recorder
from tests.eventlog.chunks import CHUNK, files, payloads, text

# -- on disk -----------------------------------------------------------------------------------


def test_chunks_are_for_their_owner_alone(recorder: Recorder, root: Path) -> None:
    """Prompts and secrets end up there; and what never changes is read-only."""
    recorder.emit("t", {"p": text(100_000)})
    for path in [root / "blobs", *(root / "blobs").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o400), path


def test_a_chunk_that_is_there_is_not_written_again(recorder: Recorder, root: Path) -> None:
    """By the same process or by another one; but one that was lost or damaged is, when it comes again."""
    recorder.emit("t", {"p": text(100_000)})
    before = {each.path: each.path.stat().st_ino for each in blobs.list_blobs(root)}
    recorder.emit("t", {"p": text(100_000)})
    another = Recorder(Config(root=str(root), strict=True))
    another.emit("t", {"p": text(100_000)})
    another.shutdown()
    assert {each.path: each.path.stat().st_ino for each in blobs.list_blobs(root)} == before
    lost, damaged, _ = before
    lost.unlink()
    damaged.chmod(0o600)
    damaged.write_bytes(b"\0" * CHUNK)  # as a power cut may leave it
    recorder.emit("t", {"p": text(100_000)})
    assert lost.exists()
    third = Recorder(Config(root=str(root), strict=True))
    third.emit("t", {"p": text(100_000)})
    third.shutdown()
    assert [json.loads(blobs.resolve(root, each)) for each in payloads(root, "t")] == [{"p": text(100_000)}] * 5


def _file(root: Path) -> None:
    root.mkdir()
    (root / "blobs").write_text("in the way")


def _link(root: Path) -> None:
    (root / "elsewhere").mkdir(parents=True)
    (root / "blobs").symlink_to(root / "elsewhere")


def _file_in_the_making(root: Path) -> None:
    (root / "blobs").mkdir(parents=True)
    (root / "blobs/tmp").write_text("in the way")


@pytest.mark.parametrize("obstacle", [_file, _link, _file_in_the_making])
def test_what_cannot_be_kept_apart_stays_in_its_event(
    recorder: Recorder, root: Path, obstacle: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is lost, also where emit is strict; it is said, and no link is followed."""
    obstacle(root)
    assert recorder.emit("t", {"p": text(100_000)})
    assert json.loads(payloads(root, "t")[0]) == {"p": text(100_000)}
    assert "a large field stays in its event instead" in caplog.text
    assert not [*(root / "elsewhere").glob("*/*")]
    assert recorder.flush()
    assert recorder.stats().lost == 0


@pytest.mark.parametrize("failing", ["open", "write", "rename"])
def test_a_full_disk_keeps_the_field_in_its_event(
    recorder: Recorder, root: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """Whichever step is refused; nothing half-written is left."""
    real = getattr(os, failing)

    def refused(*arguments: Any, **more: Any) -> Any:
        if failing != "write" and "blobs" not in str(arguments[0]):
            return real(*arguments, **more)
        if failing == "write" and len(arguments[1]) != CHUNK:
            return real(*arguments, **more)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, refused)
        assert recorder.emit("t", {"p": text(100_000)})
    assert json.loads(payloads(root, "t")[0]) == {"p": text(100_000)}
    assert files(root) == {}
    assert recorder.emit("t", {"p": text(100_000)})
    assert len(files(root)) == 3


def test_what_a_crash_left_in_the_making_is_cleared_away(root: Path) -> None:
    """After a day; somebody may be writing what is younger."""
    folder = root / "blobs" / "tmp"
    folder.mkdir(parents=True)
    for name in ("old", "young"):
        (folder / name).write_bytes(b"x")
    os.utime(folder / "old", (0, 0))
    BlobStore(root, min_bytes=1).put(b"chunk")
    assert [path.name for path in folder.iterdir()] == ["young"]


def test_a_kill_between_chunk_and_line_leaves_a_log_that_reads(root: Path) -> None:
    """A chunk without a line is no harm, and the next emit uses it."""
    program = f"""
        import os, signal
        import eventlog as obs
        obs.configure(root={str(root)!r}, strict=True)
        obs.emit("t", {{"n": 1}})
        obs.recorder()._writer.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        obs.emit("t", {{"p": "x" * 100_000}})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert payloads(root, "t") == [b'{"n":1}']
    before = {each.path: each.path.stat().st_ino for each in blobs.list_blobs(root)}
    assert len(before) == 2  # the first, and two of the same bytes
    recorder = Recorder(Config(root=str(root), strict=True))
    recorder.emit("t", {"p": "x" * 100_000})
    recorder.shutdown()
    assert {each.path: each.path.stat().st_ino for each in blobs.list_blobs(root)} == before
    assert json.loads(blobs.resolve(root, payloads(root, "t")[1])) == {"p": "x" * 100_000}


def test_whatever_a_kill_interrupts_every_line_has_its_chunks(root: Path) -> None:
    """Killed ten times in the middle of it all."""
    program = f"""
        import eventlog as obs, os
        obs.configure(root={str(root)!r}, strict=True)
        for n in range(10**9):
            obs.emit("t", {{"p": os.urandom(40_000).hex()}})
            print(n, flush=True)
    """
    for after in range(10):
        child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        for _ in range(after * 3 + 1):
            child.stdout.readline()
        child.kill()
        child.wait(timeout=60)
        child.stdout.close()
    stored = payloads(root, "t")
    assert len(stored) >= sum(after * 3 + 1 for after in range(10))
    for payload in stored:
        assert len(json.loads(blobs.resolve(root, payload))["p"]) == 80_000
    assert all(hashlib.sha256(each.path.read_bytes()).hexdigest() == each.sha256 for each in blobs.list_blobs(root))


def test_threads_and_forked_children_share_the_chunks(recorder: Recorder, root: Path) -> None:
    """Each chunk is there once, and each event is whole."""

    def emit_some() -> None:
        for n in range(10):
            recorder.emit("t", {"p": text(70_000 + n * 10_000)})

    threads = [threading.Thread(target=emit_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            emit_some()
            status = 0 if recorder.flush() else 2
        finally:
            os._exit(status)
    for thread in threads:
        thread.join(60)
    assert os.waitpid(child, 0)[1] == 0
    assert recorder.flush()
    read_back = sorted(len(json.loads(blobs.resolve(root, each))["p"]) for each in payloads(root, "t"))
    assert read_back == sorted([70_000 + n * 10_000 for n in range(10)] * 5)
    assert len(files(root)) == len(msgspec.json.encode(text(160_000))) // CHUNK


# -- durable -----------------------------------------------------------------------------------


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files and folders in the order in which they were synced."""
    found: list[str] = []

    def noted(fd: int, real: Any) -> None:
        found.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        real(fd)

    for name in ("fsync", "fdatasync"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda fd, real=real: noted(fd, real))
    return found


def test_flush_syncs_chunks_before_the_lines_that_name_them(root: Path, synced: list[str]) -> None:
    """Their files, and the folders that have their names; and not again the next time."""
    recorder = Recorder(Config(root=str(root), strict=True, sync_interval_s=0))
    recorder.emit("t", {"p": text(70_000)})
    assert synced == []
    assert recorder.flush()
    hashes = [each.sha256 for each in blobs.list_blobs(root)]
    last_of_blobs = max(synced.index(name) for name in [*hashes, *(name[:2] for name in hashes), "blobs"])
    first_of_log = next(n for n, name in enumerate(synced) if name.endswith(".jsonl"))
    assert last_of_blobs < first_of_log
    synced.clear()
    assert recorder.flush()
    assert synced == []
    recorder.shutdown()


def test_synced_durability_has_chunks_on_disk_before_emit_returns(root: Path, synced: list[str]) -> None:
    """Also those that another process may have written a moment ago."""
    config = Config(root=str(root), strict=True, durability=Durability.SYNCED, sync_interval_s=0)
    for _ in range(2):
        recorder = Recorder(config)
        recorder.emit("t", {"p": text(70_000)})
        hashes = {each.sha256 for each in blobs.list_blobs(root)}
        # A new chunk is synced under the name that it has then.
        assert sum(len(name) in (16, 64) for name in synced) == len(hashes) == 2
        assert {name[:2] for name in hashes} | {"blobs"} <= set(synced)
        synced.clear()
        recorder.shutdown()


def test_the_background_syncs_chunks(root: Path) -> None:
    """Without anybody asking for it."""
    recorder = Recorder(Config(root=str(root), strict=True, sync_interval_s=0.01))
    recorder.emit("t", {"p": text(70_000)})
    syncer = recorder._writer._syncer
    assert syncer is not None
    syncer.join(30)
    assert not syncer.is_alive()
    assert recorder._blobs.is_synced
    recorder.shutdown()


def test_after_a_failed_sync_a_chunk_is_written_anew(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pages count as written, and are not: the same file is never synced a second time."""
    recorder = Recorder(Config(root=str(root), strict=False, sync_interval_s=0))
    recorder.emit("t", {"p": text(70_000)})
    before = {each.sha256: each.path.stat().st_ino for each in blobs.list_blobs(root)}
    victim = min(before)
    real, failed = os.fsync, []

    def failing(fd: int) -> None:
        if Path(os.readlink(f"/proc/self/fd/{fd}")).name == victim:
            failed.append(os.fstat(fd).st_ino)
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", failing)
    assert recorder.flush()
    after = {each.sha256: each.path.stat().st_ino for each in blobs.list_blobs(root)}
    assert failed == [before[victim]]
    assert after[victim] != before[victim]
    assert blobs.read(root, victim)
    recorder.shutdown()


def test_a_child_syncs_what_its_parent_has_written_and_not_synced(root: Path, synced: list[str]) -> None:
    """If it uses the same chunk: the parent may never come to it."""
    store = BlobStore(root, min_bytes=1)
    digest = store.put(b"chunk")
    store.after_fork()
    assert store.is_synced
    assert store.put(b"chunk") == digest
    assert not store.is_synced
    store.sync()
    assert digest in synced


def test_two_who_sync_do_not_disturb_each_other(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one waits, and finds that nothing is left."""
    store = BlobStore(root, min_bytes=1)
    store.put(b"chunk")
    real, inside, go_on = os.fsync, threading.Event(), threading.Event()

    def slow(fd: int) -> None:
        inside.set()
        assert go_on.wait(30)
        real(fd)

    monkeypatch.setattr(os, "fsync", slow)
    failures: list[BaseException] = []

    def sync() -> None:
        try:
            store.sync()
        except BaseException as error:  # noqa: BLE001 - of a thread, told to the test
            failures.append(error)

    first, second = threading.Thread(target=sync), threading.Thread(target=sync)
    first.start()
    assert inside.wait(30)
    second.start()
    second.join(0.1)
    assert second.is_alive()
    go_on.set()
    first.join(30)
    second.join(30)
    assert (failures, store.is_synced) == ([], True)


def test_flush_says_so_where_chunks_cannot_be_synced(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next one tries again."""
    store = BlobStore(root, min_bytes=1)
    store.put(b"chunk")

    def failing(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(WriteFailed, match="cannot be synced"):
            store.sync()
    assert not store.is_synced
    store.sync()
    assert store.is_synced


@pytest.mark.parametrize("deleted", ["a chunk", "all chunks", "all folders"])
def test_a_deleted_chunk_does_not_fail_each_flush_from_then_on(deleted: str, root: Path, synced: list[str]) -> None:
    """As a deleted segment does not; the others are synced, and it is written again when it comes again."""
    recorder = Recorder(Config(root=str(root), strict=True, sync_interval_s=0))
    recorder.emit("t", {"p": text(70_000)})
    lost, kept = (each.path for each in blobs.list_blobs(root))
    if deleted == "all folders":
        shutil.rmtree(root / "blobs")
    else:
        lost.unlink()
        if deleted == "all chunks":
            kept.unlink()
    assert recorder.flush()
    assert recorder._blobs.is_synced
    assert (kept.name in synced) is (deleted == "a chunk")
    recorder.emit("t", {"p": text(70_000)})
    assert recorder.flush()
    assert (lost.is_file(), kept.is_file(), lost.name in synced) == (True, True, True)
    recorder.shutdown()
