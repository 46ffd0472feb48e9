"""A chunk's name is no content: whatever stands in its place, verification says so and a writer mends it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from eventlog.config import Config
from eventlog.log import blob_store, blobs
from eventlog.log.blob_store import BlobStore
from eventlog.maintenance.verification import verify
from eventlog.record.recorder import Recorder
from tests.eventlog.chunks import payloads, text

VALUE = {"p": text(100_000)}


def emit(root: Path, **more: object) -> None:
    recorder = Recorder(Config(root=str(root), strict=True))
    recorder.emit("t", VALUE | more)
    recorder.shutdown()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    path.unlink()
    here = os.open(path.parent, os.O_RDONLY)  # the name of a socket may not be long
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"/proc/self/fd/{here}/{path.name}")
    finally:
        os.close(here)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "more").write_text("inside")


def a_link_to_the_right_bytes(path: Path) -> None:
    path.rename(path.with_name("right"))
    path.symlink_to("right")


def a_link_to_other_bytes(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"x" * path.stat().st_size)
    path.unlink()
    path.symlink_to(other)


def a_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def a_link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def written(data: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.chmod(0o600)
        path.write_bytes(data(path.read_bytes()))

    return write


def in_place(path: Path) -> None:
    """As a failing disk does: same inode, same size, same time of writing."""
    found = path.stat()
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"Z")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    path.chmod(0o400)


STATES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "a pipe": a_pipe,
    "a socket": a_socket,
    "a folder": a_folder,
    "a link to the right bytes": a_link_to_the_right_bytes,
    "a link to other bytes": a_link_to_other_bytes,
    "a dangling link": a_dangling_link,
    "a link to itself": a_link_to_itself,
    "empty": written(lambda _: b""),
    "cut off": written(lambda data: data[: len(data) // 2]),
    "longer": written(lambda data: data + b"x"),
    "other bytes of the size": written(lambda data: b"x" * len(data)),
    "a changed byte": in_place,
}


@pytest.mark.parametrize("state", STATES)
def test_verify_names_the_chunk_and_a_line_that_names_it(root: Path, state: str) -> None:
    """Whatever stands there, and without waiting for anybody."""
    emit(root)
    assert verify(root).findings == []
    victim = blobs.list_blobs(root)[1]
    STATES[state](victim.path)
    findings = verify(root).findings
    assert {each.event_type for each in findings} == ({"t"} if state == "missing" else {"blobs", "t"})
    assert all(victim.sha256 in each.detail for each in findings)


@pytest.mark.parametrize("same_process", [True, False], ids=["same process", "another process"])
@pytest.mark.parametrize("state", STATES)
def test_a_writer_mends_the_chunk_that_it_has_the_bytes_of(root: Path, state: str, same_process: bool) -> None:
    """An event emitted after the damage is readable, and with it those before; what stood there is set aside."""
    recorder = Recorder(Config(root=str(root), strict=True))
    recorder.emit("t", VALUE)
    if not same_process:
        recorder.shutdown()
        recorder = Recorder(Config(root=str(root), strict=True))
    victim = blobs.list_blobs(root)[1]
    STATES[state](victim.path)
    recorder.emit("t", VALUE)
    assert recorder.flush()
    recorder.shutdown()
    assert verify(root).findings == []
    assert [json.loads(blobs.resolve(root, each)) for each in payloads(root, "t")] == [VALUE] * 2
    aside = root / "blobs/damaged"
    assert [each.name[:64] for each in aside.iterdir()] == [victim.sha256] if state != "missing" else not aside.exists()


@pytest.mark.parametrize("state", STATES)
def test_a_chunk_damaged_before_its_sync_does_not_keep_the_others_from_theirs(root: Path, state: str) -> None:
    """Nor does it hold a flush up."""
    recorder = Recorder(Config(root=str(root), strict=True, sync_interval_s=0))
    recorder.emit("t", VALUE)
    STATES[state](blobs.list_blobs(root)[1].path)
    assert recorder.flush()
    assert recorder._blobs.is_synced
    recorder.shutdown()


def test_a_chunk_that_nobody_has_touched_is_read_once_by_a_process(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later events look only at inode and times: a growing prompt is not read again with each turn."""
    emit(root)
    monkeypatch.setattr(blob_store, "_TICK_NS", 0)
    store = BlobStore(root, min_bytes=1)
    chunk = blobs.list_blobs(root)[0].path.read_bytes()
    store.put(chunk)
    monkeypatch.setattr(blob_store, "read_file", lambda _: pytest.fail("read again"))
    store.put(chunk)


@pytest.mark.parametrize("folder", ["blobs", "blobs/??"])
def test_a_folder_of_chunks_that_became_a_link_is_not_followed(root: Path, tmp_path: Path, folder: str) -> None:
    """Nor is one that is a file now; the lines that name its chunks are findings."""
    emit(root)
    path = next(each for each in sorted(root.glob(folder)) if each.name != "tmp")
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    findings = verify(root).findings
    assert findings
    assert all("is a link, which eventlog does not follow" in each.detail for each in findings)
    path.unlink()
    path.write_text("in the way")
    assert {each.event_type for each in verify(root).findings} == {"t"}


def test_writers_that_meet_a_damaged_chunk_at_one_moment_leave_it_right(root: Path) -> None:
    """None takes away what another has put there: each event stays readable all the time."""
    emit(root)
    good = blobs.list_blobs(root)[0]
    chunk = good.path.read_bytes()
    stores = [BlobStore(root, min_bytes=1) for _ in range(4)]
    for _ in range(20):
        in_place(good.path)
        together = threading.Barrier(len(stores))

        def put(store: BlobStore, together: threading.Barrier = together) -> None:
            together.wait()
            store.put(chunk)
            assert blobs.read(root, good.sha256) == chunk

        threads = [threading.Thread(target=put, args=(store,)) for store in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert blobs.read(root, good.sha256) == chunk


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
def test_a_chunk_that_may_not_be_read_is_a_finding(root: Path, tmp_path: Path) -> None:
    """By somebody who is not root, to whom modes mean nothing."""
    emit(root)
    victim = blobs.list_blobs(root)[1]
    victim.path.chmod(0)
    for path in (root, *root.rglob("*")):
        os.chown(path, 65534, 65534)
    for folder in tmp_path.parents:
        if folder.stat().st_mode & 0o005 != 0o005 and str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    tmp_path.chmod(0o755)
    program = (
        "import sys; from eventlog.maintenance.verification import verify\n"
        "print(*(each.detail for each in verify(sys.argv[1]).findings), sep='\\n')"
    )
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", program, str(root)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "Permission denied" in done.stderr and "python" in done.stderr:
        pytest.skip("nobody may not run this Python")
    assert done.stdout.count("cannot be read: Permission denied") == 2, done.stderr
