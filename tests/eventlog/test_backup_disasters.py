"""Backup and restore, killed, damaged, full and in the middle of everything."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eventlog.config import Config
from eventlog.errors import BackupFailed
from eventlog.log.segment import RESTORED_MODE
from eventlog.maintenance import manifest
from eventlog.maintenance.backup import backup
from eventlog.maintenance.destination import open_destination
from eventlog.maintenance.restore import Restored, restore
from eventlog.record.recorder import Recorder
from tests.conftest import PROJECT
from tests.eventlog.backups import Place, backed_up, emit, events, only, restored, tree

NAME = "20260131T120000123456Z-0a1b2c3d4e5f6071"


# -- disasters -------------------------------------------------------------------------------

CHILD = """
import os, signal, sys
from eventlog.maintenance import backup, manifest
from eventlog.maintenance.destination import open_destination
from eventlog.maintenance.restore import restore

verb, root, place, left = sys.argv[1], sys.argv[2], open_destination(sys.argv[3]), int(sys.argv[4])
backup.FLUSH_SEGMENTS = 2
manifest._MERGE_AT = 3
steps = 0

def step():
    global steps
    steps += 1
    if steps == left:
        os.kill(os.getpid(), signal.SIGKILL)

def stepping(blocks):
    for block in blocks:
        step()
        yield block

class Dying:
    name = place.name
    def put(self, key, blocks):
        step()
        place.put(key, stepping(blocks))
        step()
    def get(self, key):
        return stepping(place.get(key))
    def list(self, folder):
        return place.list(folder)
    def delete(self, key):
        step()
        place.delete(key)
    def finish(self):
        step()
        place.finish()

if verb == "backup":
    backup.backup(root, Dying(), say=print)
else:
    restore(root, Dying())
print(steps)
"""


def child(verb: str, root: Path, place: Place, left: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD, verb, str(root), place.text, str(left)],
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )  # fmt: skip


def steps_of(done: subprocess.CompletedProcess[str]) -> int:
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


@pytest.mark.slow
def test_a_backup_that_is_killed_anywhere_loses_nothing_and_goes_on(root: Path, tmp_path: Path, place: Place) -> None:
    """At each step: what had been verified can be restored at once, and the next run completes the rest."""
    emit(root, "t", *range(12), pad=900)
    emit(root, "grown", 1)
    backed_up(root, place)
    before = tree(root)
    emit(root, "grown", 2)
    emit(root, "u", *range(12), pad=900)
    shutil.copytree(place.folder, tmp_path / "first")
    log_first = tmp_path / "log"
    shutil.copytree(root, log_first)

    def again() -> None:
        for kept, made in ((tmp_path / "first", place.folder), (log_first, root)):
            shutil.rmtree(made)
            shutil.copytree(kept, made)

    steps = steps_of(child("backup", root, place, -1))
    assert steps > 20
    segments = len(tree(root))
    for left in range(1, steps + 1, 1 if place.text.startswith("/") else 4):
        again()
        assert child("backup", root, place, left).returncode == -signal.SIGKILL
        new = tmp_path / f"new{left}"
        assert restored(new, place).failures == []
        back = tree(new)
        assert all(back[name].startswith(data) for name, data in before.items() if "backed_up" not in name)
        copied_before = {path: path.stat().st_mtime_ns for path in place.objects("u")}
        named = {key for copies in manifest.read(place.open()).segments() for key in [copies[0].key]}
        done = backed_up(root, place)
        assert (done.failures, done.present >= len(named) - 1) == ([], True)
        for path, written in copied_before.items():  # what was verified is not sent again
            assert path.stat().st_mtime_ns == written or path.relative_to(place.folder).as_posix() not in named
        backed_up(root, place)
        assert restored(new, place).failures == []
        assert tree(new) == tree(root)
        assert len(tree(root)) == segments
        finished = {path.stem for path in (root / "log").rglob("*.jsonl") if "backed_up" not in str(path)}
        assert {each["segment"] for event in events(root) for each in event["segments"]} == finished
        shutil.rmtree(new)


def test_a_restore_that_is_killed_anywhere_goes_on(root: Path, tmp_path: Path, place: Place) -> None:
    """And what is there by then is whole."""
    emit(root, "t", *range(12), pad=900)
    backed_up(root, place)
    backed_up(root, place)
    new = tmp_path / "new"
    steps = steps_of(child("restore", new, place, -1))
    for left in range(1, steps + 1, 1 if place.text.startswith("/") else 2):
        shutil.rmtree(new)
        assert child("restore", new, place, left).returncode == -signal.SIGKILL
        whole = tree(new) if (new / "log").exists() else {}
        assert whole.items() <= tree(root).items()
        assert {path.stat().st_mode & 0o7777 for path in new.glob("log/*/*")} <= {RESTORED_MODE}  # nobody adopts one
        assert restored(new, place).present == len(whole)
        assert tree(new) == tree(root)
        assert sorted(path.name for path in new.iterdir()) == ["log", "restore.lock"]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a flipped bit": (flip, " is damaged: its SHA-256 is not what it was when it was backed up, and nothing of it "),
    "a missing object": (Path.unlink, ": there is no log/t/"),
    "an object cut short": (lambda path: os.truncate(path, 10), " is damaged: its SHA-256 "),
    "an object that is longer": (lengthen, " is longer than it was when it was backed up"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damage_in_the_destination_is_found(root: Path, tmp_path: Path, place: Place, case: str) -> None:
    """And named; everything else is restored."""
    damage, message = DAMAGES[case]
    emit(root, "t", *range(12), pad=900)
    backed_up(root, place)
    victim = place.objects("t")[1]
    damage(victim)
    new = tmp_path / "new"
    found = restored(new, place)
    assert found.restored == len(place.objects("t")) - (victim.exists())
    (failure,) = found.failures
    assert failure.startswith(f"t/{victim.name.split('.')[0]}: ")
    assert message in failure
    assert sorted(path.stem for path in (new / "log/t").iterdir()) == sorted(
        path.stem for path in (root / "log/t").iterdir() if path.stem != victim.name.split(".")[0]
    )


def test_a_torn_manifest_costs_only_its_torn_line(root: Path, tmp_path: Path, place: Place) -> None:
    """A restore says what is wrong; a backup copies what is not named any more."""
    emit(root, "t", *range(12), pad=900)
    segments = len(tree(root))
    backed_up(root, place)
    (path,) = (place.folder / "manifests").iterdir()
    os.truncate(path, path.stat().st_size - 20)
    found = restored(tmp_path / "new", place)
    assert found.restored == segments - 1
    assert found.failures == [
        f"{place.text}/manifests/{path.name}, line {segments} is damaged: Input data was truncated; "
        "segments that only it names are not restored"
    ]
    said: list[str] = []
    assert backed_up(root, place, said).copied == 2  # that segment, and the event of the first run
    assert f"/manifests/{path.name}, line {segments} is damaged: Input data was truncated. " in said[0]
    assert restored(tmp_path / "new", place).restored == 2
    assert tree(tmp_path / "new").items() <= tree(root).items()


ENTRY: dict[str, Any] = {
    "event_type": "t", "segment": NAME, "size_bytes": 2, "stored_bytes": 2,
    "sha256": hashlib.sha256(b"{}").hexdigest(), "stored_sha256": hashlib.sha256(b"{}").hexdigest(),
}  # fmt: skip

HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "a type that leads out": ({"event_type": "../../x"}, "'../../x' is not an event type"),
    "an absolute type": ({"event_type": "/etc"}, "'/etc' is not an event type"),
    "a type with a newline": ({"event_type": "t\n"}, "'t\\n' is not an event type"),
    "a type of dots": ({"event_type": ".."}, "'..' is not an event type"),
    "a segment that leads out": ({"segment": f"../../{NAME}"}, f"'../../{NAME}' is not the name of a segment"),
    "a segment of another name": ({"segment": "index.duckdb"}, "'index.duckdb' is not the name of a segment"),
    "a hash that leads out": (
        {"stored_sha256": "../" * 20 + "abcd"},
        r"Expected `str` matching regex '^[0-9a-f]{64}\\Z' - at `$.stored_sha256`",
    ),
    "a negative size": ({"stored_bytes": -1}, "Expected `int` >= 0 - at `$.stored_bytes`"),
    "a lie about what it is": ({"stored_bytes": 3}, "it is not archived, and yet stored otherwise than it is"),
    "a number for a name": ({"segment": 7}, "Expected `str`, got `int` - at `$.segment`"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_manifest_writes_nothing_outside_the_log(tmp_path: Path, case: str) -> None:
    """Its line is refused, and the others are restored."""
    change, reason = HOSTILE[case]
    folder = tmp_path / "hostile"
    (folder / "manifests").mkdir(parents=True)
    (folder / "log" / "t").mkdir(parents=True)
    good = {**ENTRY, "segment": NAME.replace("6071", "6072")}
    for name in (NAME, good["segment"]):
        (folder / "log" / "t" / f"{name}.{ENTRY['sha256']}.jsonl").write_bytes(b"{}")
    lines = [json.dumps(ENTRY | change), json.dumps(good)]
    (folder / "manifests" / "m.jsonl").write_text("\n".join(lines) + "\n")
    new = tmp_path / "a" / "b" / "new"
    found = restore(new, open_destination(str(folder)))
    assert found.restored == 1
    assert found.failures == [
        f"{folder}/manifests/m.jsonl, line 1 is damaged: {reason}; segments that only it names are not restored"
    ]
    assert list(tree(new)) == [f"log/t/{good['segment']}.jsonl"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "home", "hostile"]


def test_a_manifest_without_end_is_not_read_into_memory(tmp_path: Path) -> None:
    """One line of many megabytes."""
    (tmp_path / "x" / "manifests").mkdir(parents=True)
    (tmp_path / "x" / "manifests" / "m.jsonl").write_bytes(b"x" * 20_000_000)
    (damage,) = manifest.read(open_destination(str(tmp_path / "x"))).damages
    assert damage == ("manifests/m.jsonl, line 1", "the line is too long")


def test_a_folder_in_the_log_that_is_a_link_is_not_followed(root: Path, tmp_path: Path) -> None:
    """Nor is a link in the backup."""
    place = Place(str(tmp_path / "backup"), tmp_path / "backup")
    emit(root, "t", 1)
    backed_up(root, place)
    new, outside = tmp_path / "new", tmp_path / "outside"
    (new / "log").mkdir(parents=True)
    outside.mkdir()
    (new / "log" / "t").symlink_to(outside)
    (failure,) = restored(new, place).failures
    assert failure.endswith("/new/log/t is a symbolic link, which eventlog does not follow")
    assert list(outside.iterdir()) == []
    (copy,) = place.objects("t")
    copy.rename(tmp_path / "copy")
    copy.symlink_to(tmp_path / "copy")
    (failure,) = restored(tmp_path / "other", place).failures
    assert "Too many levels of symbolic links" in failure
    copy.unlink()
    os.mkfifo(copy)
    (failure,) = restored(tmp_path / "other", place).failures
    assert "is not a regular file" in failure


def test_a_full_destination_is_named_and_the_run_goes_on_later(root: Path, tmp_path: Path) -> None:
    """What had been verified counts; a file that did not fit is not there."""
    emit(root, "a", *range(6), pad=900)
    emit(root, "b", 1, pad=60_000)
    emit(root, "c", 1)
    folder = tmp_path / "backup"
    full = subprocess.run(
        [sys.executable, "-m", "eventlog", "backup", str(folder), "--root", str(root)],
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "PYTHONPATH": str(PROJECT)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )  # fmt: skip
    assert (full.returncode, full.stdout) == (1, "")
    assert re.fullmatch(
        rf"error: {folder}: cannot store log/b/\S+\.jsonl: File too large; "
        r"check the folder, its permissions and the free space\n",
        full.stderr,
    )
    assert list((folder / "tmp").iterdir()) == []
    place = Place(str(folder), folder)
    assert len(manifest.read(place.open()).segments()) == len(place.objects())
    assert backed_up(root, place).copied == 2
    assert restored(tmp_path / "new", place).failures == []


def test_a_full_disk_while_restoring_is_named(root: Path, tmp_path: Path) -> None:
    """What was restored stays; nothing half is left."""
    emit(root, "a", 1)
    emit(root, "b", 1, pad=60_000)
    place = Place(str(tmp_path / "backup"), tmp_path / "backup")
    backed_up(root, place)
    new = tmp_path / "new"
    full = subprocess.run(
        [sys.executable, "-m", "eventlog", "restore", place.text, "--root", str(new)],
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "PYTHONPATH": str(PROJECT)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )  # fmt: skip
    assert full.returncode == 1
    assert full.stderr == (
        f"error: {new}/restore.partial: cannot be written: File too large; check permissions and free space, and run "
        "the same again: what was restored stays\n"
    )
    assert sorted(path.name for path in new.iterdir()) == ["log", "restore.lock"]
    assert restored(new, place) == Restored(restored=1, restored_bytes=only(root, "b").stat().st_size, present=1)


def test_an_object_that_reads_back_differently_does_not_count(root: Path, place: Place) -> None:
    """A place that loses bits is found when it does."""
    emit(root, "t", 1)
    inner = place.open()

    class Flipping:
        name = inner.name
        list, delete, get, finish = inner.list, inner.delete, inner.get, inner.finish

        def put(self, key: str, blocks: Iterable[bytes]) -> None:
            inner.put(key, blocks)
            flip(place.folder / key)

    with pytest.raises(BackupFailed, match=r"does not read back as it was sent \(\d+ of \d+ bytes\)"):
        backup(root, Flipping(), say=print)
    assert manifest.read(inner).segments() == []
    assert events(root) == []
    assert backed_up(root, place).copied == 1
    assert list(inner.get(manifest.read(inner).segments()[0][0].key)) == [only(root, "t").read_bytes()]


def test_a_place_that_does_not_delete_keeps_what_is_superfluous(root: Path, tmp_path: Path, place: Place) -> None:
    """As one should that is to survive its user; the backup is good all the same."""
    inner = place.open()

    class Keeping:
        name = inner.name
        list, put, get, finish = inner.list, inner.put, inner.get, inner.finish

        def delete(self, key: str) -> None:
            raise BackupFailed("the server answers AccessDenied")

    said: list[str] = []
    for number in range(3):
        emit(root, "t", number)
        assert backup(root, Keeping(), say=said.append).failures == []
    assert len(place.objects("t")) == 3
    assert "superfluous objects stay where they are: the server answers AccessDenied" in said
    assert restored(tmp_path / "new", place).failures == []
    assert only(tmp_path / "new", "t").read_bytes() == only(root, "t").read_bytes()


def test_producers_go_on_during_a_backup(root: Path, tmp_path: Path, place: Place) -> None:
    """They rotate, and finished segments are deleted meanwhile; what was backed up is whole lines."""
    recorder = Recorder(Config(root=str(root), strict=True, segment_max_bytes=4096))
    inner, numbers = place.open(), itertools.count()
    kept: dict[str, bytes] = {}

    def produce(count: int) -> None:
        for number in itertools.islice(numbers, count):
            recorder.emit("t", {"n": number, "pad": "x" * 500})
            if number % 20 == 19:
                oldest = min((root / "log/t").iterdir())
                kept[oldest.name] = oldest.read_bytes()
                oldest.unlink()

    class Busy:
        name = inner.name
        list, delete, finish = inner.list, inner.delete, inner.finish

        def put(self, key: str, blocks: Iterable[bytes]) -> None:
            produce(2)
            inner.put(key, blocks)

        def get(self, key: str) -> Iterator[bytes]:
            produce(1)
            return inner.get(key)

    for _ in range(6):
        produce(30)
        assert backup(root, Busy(), say=print).failures == []
    recorder.shutdown()
    backed_up(root, place)
    new = tmp_path / "new"
    assert restored(new, place).failures == []
    here = {path.name: path.read_bytes() for path in (root / "log/t").iterdir()}
    back = {path.name: path.read_bytes() for path in (new / "log/t").iterdir()}
    assert len(kept) >= 5
    assert here.items() <= back.items()
    for name, data in back.items():
        assert (kept | here)[name].startswith(data)
        assert data.endswith(b"\n")


def test_a_segment_that_vanishes_is_passed_over(root: Path, place: Place) -> None:
    """Between the look and the copy."""
    emit(root, "a", 1)
    emit(root, "b", 1)
    inner = place.open()

    class Deleting:
        name = inner.name
        list, get, delete, finish = inner.list, inner.get, inner.delete, inner.finish

        def put(self, key: str, blocks: Iterable[bytes]) -> None:
            inner.put(key, blocks)
            for path in (root / "log" / "b").iterdir():
                path.unlink()

    said: list[str] = []
    assert backup(root, Deleting(), say=said.append).copied == 1
    assert [each.split("/")[-1].partition(" ")[2] for each in said] == [
        "was deleted in the meantime (released, pruned or archived); skipped"
    ]
    assert [each["segment"] for each in events(root)[0]["segments"]] == [only(root, "a").stem]


@pytest.mark.parametrize("earlier", [False, True], ids=["never copied", "copied before"])
@pytest.mark.parametrize("opening", range(1, 8))
def test_a_segment_may_be_pruned_at_any_moment(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opening: int, earlier: bool
) -> None:
    """Before the first, second, … time that the backup opens it: no failure, and no claim to have its blobs."""
    place = open_destination(str(tmp_path / "place"))
    recorder = Recorder(Config(root=str(root), strict=True, blob_min_bytes=8192))
    recorder.emit("large", {"text": "x" * 50_000})
    recorder.emit("small", {"n": 1})
    recorder.shutdown()
    if earlier:  # without its blobs, so that they are looked for
        with monkeypatch.context() as without:
            without.setattr("eventlog.maintenance.blob_copies.Copier.copy", lambda *_: "not today")
            backup(root, place, say=lambda _: None)
    segment, openings, real = only(root, "large"), itertools.count(1), os.open

    def deleting(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path) == str(segment) and next(openings) == opening:
            segment.unlink()
            shutil.rmtree(root / "blobs")
        return real(path, *arguments, **options)

    with monkeypatch.context() as beside:
        beside.setattr(os, "open", deleting)
        done = backup(root, place, say=lambda _: None)
    assert done.failures == []
    entries = manifest.read(place).copies("large", segment.stem)
    assert all(not entry.blobs or list((tmp_path / "place").rglob("blobs/*/*")) for entry in entries)


def test_a_segment_that_cannot_be_read_costs_no_other(
    root: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named, and the exit code says so."""
    emit(root, "a", 1)
    emit(root, "b", 1)
    bad = only(root, "a")
    open_ = os.open

    def refusing(path: Any, *arguments: Any, **options: Any) -> int:
        if path == bad:
            raise PermissionError(13, "Permission denied", str(path))
        return open_(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refusing)
    done = backed_up(root, place)
    assert (done.copied, done.failures) == (
        1, [f"{bad}: cannot be read: Permission denied; check its permissions and the disk"],
    )  # fmt: skip
