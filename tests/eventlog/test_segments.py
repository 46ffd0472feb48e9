"""Segments on disk: naming, rotation, adoption, and what a short write leaves."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from eventlog.config import Config
from eventlog.errors import WriteFailed
from eventlog.log import layout, segment
from eventlog.log.segment import Segment
from eventlog.log.writer import Writer
from eventlog.record.recorder import Recorder
from tests.conftest import lines_of

LINE = b'{"n":%d}\n'


def writer(root: Path, *, max_bytes: int = 64 * 1024 * 1024, max_age_s: float = 3600) -> Writer:
    return Writer(root, segment_max_bytes=max_bytes, segment_max_age_s=max_age_s)


def segments(root: Path, event_type: str = "t") -> list[Path]:
    return sorted((root / "log" / event_type).iterdir())


def test_a_segment_is_named_by_its_creation_and_64_random_bits(root: Path) -> None:
    """Names sort by creation and say when that was."""
    before = time.time()
    names = [layout.new_segment_name(time.time_ns()) for _ in range(3)]
    assert all(re.fullmatch(r"\d{8}T\d{12}Z-[0-9a-f]{16}", name) for name in names)
    assert names == sorted(names)
    created = layout.created_s(names[0])
    assert created is not None
    assert before - 0.001 <= created <= time.time()
    assert layout.created_s("20261399T000000000000Z-0123456789abcdef") is None


def test_folders_are_for_their_owner_alone(root: Path) -> None:
    """Logs hold prompts."""
    writer(root).write("t", LINE % 1)
    assert [(path.stat().st_mode & 0o777) for path in (root, root / "log", root / "log/t", *segments(root))] == [
        0o700,
        0o700,
        0o700,
        0o600,
    ]


def test_rotation_by_size(root: Path) -> None:
    """A segment is left before a line would take it over the limit; a longer line gets its own."""
    made = writer(root, max_bytes=100)
    for i in range(30):
        made.write("t", LINE % i)
    made.write("t", b'{"long":"' + b"x" * 200 + b'"}\n')
    made.write("t", LINE % 99)
    sizes = [path.stat().st_size for path in segments(root)]
    assert all(size <= 100 for size in sizes if size < 200)
    assert len([size for size in sizes if size > 200]) == 1
    assert len(lines_of(root, "t")) == 32


def test_rotation_by_age(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock decides, at the next write."""
    made = writer(root, max_age_s=60)
    made.write("t", LINE % 1)
    made.write("t", LINE % 2)
    now = time.time()
    monkeypatch.setattr("eventlog.log.stream._now_s", lambda: now + 61)
    made.write("t", LINE % 3)
    assert [path.read_bytes().count(b"\n") for path in segments(root)] == [2, 1]


def test_a_huge_batch_is_split_at_line_ends(root: Path) -> None:
    """No write is huge unless a line is, and all arrive in order."""
    lines = [b'{"n":%d,"x":"%b"}\n' % (i, b"x" * (i * 977 % 200_000)) for i in range(60)]
    writer(root).write("t", b"".join(lines))
    assert b"".join(path.read_bytes() for path in segments(root)) == b"".join(lines)


def test_processes_in_turn_share_a_segment(root: Path) -> None:
    """A hook that runs once per event does not leave a file per event."""
    for i in range(20):
        made = writer(root)
        made.write("t", LINE % i)
        made.close()
    assert len(segments(root)) == 1
    assert len(lines_of(root, "t")) == 20


def _emit_once(root: str, n: int) -> None:
    recorder = Recorder(Config(root=root, strict=True))
    recorder.emit("t", {"n": n})
    recorder.shutdown()


def test_processes_at_once_never_share_one(root: Path) -> None:
    """Each holds its own while it lives; the number of files stays near that of the processes."""
    with multiprocessing.get_context("fork").Pool(6) as pool:
        pool.starmap(_emit_once, [(str(root), n) for n in range(300)])
    assert sorted(json.loads(line)["payload"]["n"] for line in lines_of(root, "t")) == list(range(300))
    assert len(segments(root)) <= 12


def _adoptable(root: Path, content: bytes) -> Path:
    folder = root / "log" / "t"
    made = Segment.create(folder)
    made.close()
    made.path.write_bytes(content)
    return made.path


NOT_ADOPTED = ["torn", "owned", "sealed", "full", "old", "symlink", "foreign name"]


@pytest.mark.parametrize("why", NOT_ADOPTED)
def test_what_is_not_adopted(root: Path, tmp_path: Path, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torn tail, a living owner, a seal, size, age, a link: a new segment is always right."""
    path = _adoptable(root, LINE % 0 if why != "torn" else LINE % 0 + b'{"to')
    before = path.read_bytes()
    max_bytes, now = 1000, time.time()
    holder = path.open("rb")
    if why == "owned":
        fcntl.flock(holder, fcntl.LOCK_EX)
    elif why == "sealed":
        path.chmod(0o444)
    elif why == "full":
        max_bytes = 10
    elif why == "old":
        monkeypatch.setattr("eventlog.log.stream._now_s", lambda: now + 7200)
    elif why == "symlink":
        target = path.rename(tmp_path / "elsewhere")
        path.symlink_to(target)
    elif why == "foreign name":
        path = path.rename(path.with_name("mine.jsonl"))
    with holder:
        writer(root, max_bytes=max_bytes).write("t", LINE % 1)
    assert path.read_bytes() == before
    assert len(segments(root)) == 2


@pytest.mark.parametrize("content", [b"", LINE % 0, b"not even json\n"])
def test_what_is_adopted(root: Path, content: bytes) -> None:
    """Nothing can be glued to an empty file or behind a newline."""
    path = _adoptable(root, content)
    writer(root).write("t", LINE % 1)
    assert segments(root) == [path]
    assert path.read_bytes() == content + LINE % 1


def test_a_segment_that_was_deleted_before_the_lock_is_not_adopted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise events would go into a file that has no name any more."""
    path = _adoptable(root, LINE % 0)
    real = fcntl.flock

    def unlink_first(fd: int, kind: int) -> None:
        path.unlink(missing_ok=True)
        real(fd, kind)

    monkeypatch.setattr(fcntl, "flock", unlink_first)
    assert Segment.adopt(path) is None


def test_a_short_write_is_cut_back_and_the_rest_goes_to_a_fresh_segment(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line is torn, none is doubled, none is glued to another."""
    made = writer(root)
    made.write("t", LINE % 0)
    real, budget = os.write, [20]

    def short(fd: int, data: bytes) -> int:
        if budget:
            return real(fd, data[: budget.pop()])
        return real(fd, data)

    monkeypatch.setattr(os, "write", short)
    made.write("t", b"".join(LINE % i for i in range(1, 6)))
    monkeypatch.undo()
    made.write("t", LINE % 6)
    first, second = segments(root)
    assert first.read_bytes() == b"".join(LINE % i for i in range(3))
    assert second.read_bytes() == b"".join(LINE % i for i in range(3, 7))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_write_that_fails_is_tried_on_a_fresh_segment(root: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Once may pass; for good it is WriteFailed, with the place and the cause; later it works again."""
    made = writer(root)
    made.write("t", LINE % 0)
    real, failures = os.write, [1]

    def failing(fd: int, data: bytes) -> int:
        if failures[0]:
            failures[0] -= 1
            raise OSError(code, os.strerror(code))
        return real(fd, data)

    monkeypatch.setattr(os, "write", failing)
    made.write("t", LINE % 1)
    failures[0] = 1000
    with pytest.raises(WriteFailed) as caught:
        made.write("t", LINE % 2)
    assert os.strerror(code) in str(caught.value)
    assert str(root) in str(caught.value)
    failures[0] = 0
    made.write("t", LINE % 3)
    assert sorted(lines_of(root, "t")) == [b'{"n":0}', b'{"n":1}', b'{"n":3}']


def test_flush_syncs_files_and_their_folders(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new name is durable only when its folder is; what is synced already is left alone."""
    calls: list[str] = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: calls.append("file"))
    monkeypatch.setattr(os, "fsync", lambda fd: calls.append("folder"))
    made = writer(root)
    made.write("t", LINE % 0)
    made.flush()
    made.flush()
    made.write("t", LINE % 1)
    made.flush()
    assert calls == ["file", *["folder"] * 4, "file"]  # type, log, root, and where the root is


def test_is_owned_tells_a_living_owner(root: Path) -> None:
    """Also of another process, until it dies."""
    program = (
        "import eventlog as obs, sys, time\n"
        f"obs.configure(root={str(root)!r})\nobs.emit('t')\nprint('ready', flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    (path,) = segments(root)
    assert segment.is_owned(path)
    assert Segment.adopt(path) is None
    process.kill()
    process.wait()
    process.stdout.close()
    assert not segment.is_owned(path)
    assert not segment.is_owned(root / "nowhere")


def test_remove_if_finished_spares_what_grew_or_is_owned(root: Path) -> None:
    """The size that was indexed must be the size that is deleted."""
    path = _adoptable(root, LINE % 0)
    assert not segment.remove_if_finished(path, 1)
    owner = Segment.adopt(path)
    assert owner is not None
    assert not segment.remove_if_finished(path, 8)
    owner.close()
    assert segment.remove_if_finished(path, 8)
    assert not path.exists()
    assert segment.remove_if_finished(path, 8)


ODDITIES = {
    "a file beside the folders": ("file", "not a folder"),
    "a folder that is no type": ("Folder/x.jsonl", "the name is not an event type"),
    "a folder with a newline": ("a\nb/x.jsonl", "the name is not an event type"),
    "a foreign file": ("t/notes.txt", "the name is not that of a segment"),
    "a foreign name": ("t/mine.jsonl", "the name is not that of a segment"),
    "an impossible date": ("t/20269999T000000000000Z-0123456789abcdef.jsonl", "the name is not that of a segment"),
}


@pytest.mark.parametrize("case", ODDITIES)
def test_odd_things_in_the_log_are_reported_and_left_alone(root: Path, case: str) -> None:
    """Neither read nor deleted nor followed."""
    place, reason = ODDITIES[case]
    path = root / "log" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x\n")
    listing = layout.list_log(root)
    assert listing.segments == []
    assert [each.reason for each in listing.skipped] == [reason]


def test_symlinks_are_never_followed(root: Path, tmp_path: Path) -> None:
    """Neither a linked folder nor a linked segment, for reading or for writing."""
    made = writer(root)
    made.write("t", LINE % 1)
    made.close()
    (path,) = segments(root)
    (root / "log/linked").symlink_to(path.parent)
    path.with_name(layout.new_segment_name(time.time_ns()) + ".jsonl").symlink_to(path)
    listing = layout.list_log(root)
    assert [each.path for each in listing.segments] == [path]
    assert [each.reason for each in listing.skipped] == ["a symbolic link, not followed"] * 2
    with pytest.raises(WriteFailed, match="symbolic link"):
        writer(root).write("linked", LINE % 2)


def test_a_segment_that_cannot_be_opened_counts_as_owned(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without descriptors its writer was once taken for dead, and a line in the making for a torn one."""
    owner = writer(root)
    owner.write("t", LINE % 1)
    (path,) = segments(root)

    def no_descriptors(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", no_descriptors)
        assert segment.is_owned(path)
        assert not segment.remove_if_finished(path, path.stat().st_size)
    owner.close()
    assert not segment.is_owned(path)
    assert not segment.is_owned(root / "nowhere")


@pytest.mark.parametrize("remembered_max_bytes", [2**14, 2**24], ids=["lines-forgotten", "lines-remembered"])
def test_a_sync_beside_appends_changes_no_answer(
    root: Path, monkeypatch: pytest.MonkeyPatch, remembered_max_bytes: int
) -> None:
    """A sync takes lines off the list of those that are not synced, while the writer counts or copies them."""
    monkeypatch.setattr("eventlog.log.segment._REMEMBERED_MAX_BYTES", remembered_max_bytes)
    monkeypatch.setattr(Segment, "_sync", lambda _: None)  # so that most of the time lines are taken off
    owned = Segment.create(root / "log" / "t")
    over = threading.Event()

    def sync() -> None:
        while not over.is_set():
            owned.sync()

    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    syncing = threading.Thread(target=sync)
    syncing.start()
    try:
        for _ in range(50):
            for _ in range(2000):
                assert owned.append(b"{}\n") == 3
            lines, _ = owned.unsynced()
            assert lines == b"{}\n" * (len(lines) // 3)
    finally:
        over.set()
        syncing.join(60)
        sys.setswitchinterval(interval_s)
    owned.sync()
    assert owned.unsynced() == (b"", 0)
    owned.close()
