"""Other bytes under the same name, of the same size: a backup copies them beside the others, says so, and has both."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from eventlog.config import Config
from eventlog.errors import BackupFailed
from eventlog.log import zst
from eventlog.maintenance import manifest
from eventlog.maintenance.archiving import archive_sealed
from eventlog.maintenance.backup import Done, backup
from eventlog.maintenance.folder import Folder
from eventlog.maintenance.restore import restore
from eventlog.maintenance.sealing import seal
from eventlog.record.recorder import Recorder
from tests.eventlog.backups import Place, backed_up, emit, only, restored

Edit = Callable[[Path], None]


def other_bytes(path: Path) -> bytes:
    return path.read_bytes().replace(b'"n":1', b'"n":7')


def in_place(path: Path) -> None:
    """The same inode, size, mode and time of writing."""
    data, found = other_bytes(path), path.stat()
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.write(data)
    path.chmod(found.st_mode & 0o777)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def by_rename(path: Path) -> None:
    """Another file in its place, with the times of the first."""
    new = path.with_name("new")
    new.write_bytes(other_bytes(path))
    shutil.copystat(path, new)
    new.replace(path)


EDITS: dict[str, Edit] = {"in place": in_place, "by rename": by_rename}


def long_and_sealed(root: Path) -> None:
    emit(root, "t", 1, *range(2, 40), pad=200)
    seal(root)


def short(root: Path) -> None:
    emit(root, "t", 1, *range(2, 40), pad=20)


LOGS: dict[str, Callable[[Path], None]] = {"not sealed": short, "sealed": long_and_sealed}


@pytest.mark.parametrize("log", LOGS)
@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_segment_is_copied_beside_the_other(
    root: Path, tmp_path: Path, place: Place, edit: str, log: str
) -> None:
    """Both come back, in a new root and where one of them still is."""
    LOGS[log](root)
    backed_up(root, place)
    path = min((root / "log/t").iterdir())
    before = path.read_bytes()
    EDITS[edit](path)
    after = path.read_bytes()
    assert (len(before), before != after) == (len(after), True)
    said: list[str] = []
    done = backed_up(root, place, said)
    assert [each.split(" has other bytes than the copy of the same size ")[0] for each in done.differing] == [str(path)]
    assert done.differing[0] in said
    assert done.failures == []
    assert {before, after} <= {each.read_bytes() for each in place.objects("t")}
    assert backed_up(root, place).differing == []  # said once, when it is copied

    new = tmp_path / "new"
    first = restored(new, place)
    assert (first.failures, len(first.renamed)) == ([], 1)
    assert {before, after} <= {each.read_bytes() for each in (new / "log/t").iterdir()}
    if log == "sealed":
        assert (new / "log/t" / path.name).read_bytes() == before
    count = len(list((new / "log/t").iterdir()))
    assert restored(new, place).renamed == []
    assert len(list((new / "log/t").iterdir())) == count

    again = restore(root, place.open())
    assert {before, after} <= {each.read_bytes() for each in (root / "log/t").iterdir()}
    assert path.read_bytes() == after
    assert len(again.failures) == (log == "sealed")  # what was sealed does not have its name
    assert len(list((root / "log/t").iterdir())) == count


def test_the_first_version_put_back_is_there_already(root: Path, place: Place) -> None:
    emit(root, "t", 1)
    backed_up(root, place)
    path = only(root, "t")
    before = path.read_bytes()
    in_place(path)
    backed_up(root, place)
    path.write_bytes(before)
    done = backed_up(root, place)
    assert done.differing == []
    assert len(place.objects("t")) == 2


def test_a_dry_run_counts_it_as_missing(root: Path, tmp_path: Path) -> None:
    emit(root, "t", 1)
    place = Folder(tmp_path / "backup")
    for _ in range(2):
        backup(root, place, say=lambda _: None)
    in_place(only(root, "t"))
    assert backup(root, place, say=lambda _: None, dry_run=True).copied == 1


def without_stamps(folder: Path) -> None:
    """As an older version has written them."""
    for path in (folder / "manifests").iterdir():
        lines = [msgspec.json.decode(line, type=manifest.Entry) for line in path.read_bytes().splitlines()]
        path.write_bytes(b"".join(msgspec.json.encode(msgspec.structs.replace(e, stamp="")) + b"\n" for e in lines))


def test_an_unchanged_root_is_not_read_again(root: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest without stamps costs one reading; so does a file that was archived or given other rights."""
    read: list[Path] = []
    blocks = zst.blocks

    def counted(path: Path, size: int | None = None) -> object:
        read.append(path)
        return blocks(path, size)

    long_and_sealed(root)
    backed_up(root, place)
    backed_up(root, place)
    monkeypatch.setattr(zst, "blocks", counted)
    count = len(list((root / "log").glob("*/*")))
    backed_up(root, place)
    assert read == []
    without_stamps(place.folder)
    assert backed_up(root, place) == Done(present=count)
    assert len(read) == count
    read.clear()
    backed_up(root, place)
    assert read == []
    assert archive_sealed(root).refused == []
    read.clear()
    assert backed_up(root, place).differing == []
    assert len(read) == len(list((root / "log").glob("*/*.zst")))


def test_an_older_manifest_hides_no_edit(root: Path, place: Place) -> None:
    emit(root, "t", 1)
    backed_up(root, place)
    without_stamps(place.folder)
    in_place(only(root, "t"))
    assert len(backed_up(root, place).differing) == 1


# -- what stands in the place of `blobs` ---------------------------------------------------------


def a_file(path: Path) -> None:
    path.write_text("")


def a_link_to_a_folder(path: Path) -> None:
    (path.parent / "elsewhere").mkdir()
    path.symlink_to(path.parent / "elsewhere")


ODD: dict[str, Callable[[Path], object]] = {
    "a dangling link": lambda path: path.symlink_to(path.parent / "nothing"),
    "a link to a folder": a_link_to_a_folder,
    "a file": a_file,
    "a FIFO": os.mkfifo,
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", ["blobs", "of a chunk"])
@pytest.mark.parametrize("dry_run", [False, True])
def test_no_restore_ends_well_without_the_blobs(tmp_path: Path, odd: str, name: str, dry_run: bool) -> None:
    """The segments come back, and the failure names what stands there."""
    root, new, place = tmp_path / "root", tmp_path / "new", Folder(tmp_path / "backup")
    recorder = Recorder(Config(root=str(root), blob_min_bytes=2000))
    recorder.emit("t", {"text": "x" * 5000})
    recorder.shutdown()
    backup(root, place, say=lambda _: None)
    chunks = [path.relative_to(root) for path in (root / "blobs").glob("??/*") if len(path.name) == 64]
    stands = new / "blobs" if name == "blobs" else new / chunks[0].parent
    lost = [each for each in chunks if stands in (new / each).parents]
    stands.parent.mkdir(parents=True)
    ODD[odd](stands)
    done = restore(new, place, dry_run=dry_run)
    assert len(done.failures) == 1
    assert done.failures[0].startswith(f"{stands} is a ")
    assert (done.restored, done.blobs_restored) == (1, len(chunks) - len(lost))
    assert not list(new.glob("elsewhere/*"))
    if not dry_run:
        assert only(new, "t").read_bytes() == only(root, "t").read_bytes()


@pytest.mark.parametrize("name", ["blobs", "log", "manifests"])
@pytest.mark.parametrize("odd", ["a dangling link", "a file", "a FIFO"])
def test_a_destination_whose_folder_is_no_folder(tmp_path: Path, name: str, odd: str) -> None:
    """A link may lead to a disk that is not there: then nothing is taken for missing, and nothing for done."""
    root, place = tmp_path / "root", Folder(tmp_path / "backup")
    recorder = Recorder(Config(root=str(root), blob_min_bytes=2000))
    recorder.emit("t", {"text": "x" * 5000})
    recorder.shutdown()
    backup(root, place, say=lambda _: None)
    (place.path / name).rename(tmp_path / "moved")
    ODD[odd](place.path / name)
    with pytest.raises(BackupFailed, match=name):
        backup(root, place, say=lambda _: None)
    if name != "log":
        with pytest.raises(BackupFailed, match=name):
            restore(tmp_path / "new", place)


@pytest.mark.parametrize("odd", ODD)
def test_a_destination_whose_folder_of_a_chunk_is_no_folder(tmp_path: Path, odd: str) -> None:
    root, place = tmp_path / "root", Folder(tmp_path / "backup")
    recorder = Recorder(Config(root=str(root), blob_min_bytes=2000))
    recorder.emit("t", {"text": "x" * 5000})
    recorder.shutdown()
    backup(root, place, say=lambda _: None)
    folder = next((place.path / "blobs").iterdir())
    folder.rename(tmp_path / "moved")
    ODD[odd](folder)
    try:
        failures = restore(tmp_path / "new", place).failures
    except BackupFailed as error:
        failures = [str(error)]
    assert any(f"{folder} is " in each for each in failures)
