"""What is in a backup is no proof of itself: it is read again where asked, and blobs that lines name are looked for."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from eventlog.config import Config
from eventlog.log import blobs, layout
from eventlog.log.blob_store import BlobStore
from eventlog.maintenance.archiving import archive_sealed
from eventlog.maintenance.backup import Done, backup
from eventlog.maintenance.sealing import seal
from eventlog.maintenance.verification import verify
from eventlog.record.recorder import Recorder
from tests.conftest import Run
from tests.eventlog.backups import Place, emit, events, restored
from tests.eventlog.chunks import text
from tests.eventlog.test_blob_states import STATES

Damage = Callable[[Path], object]


def checked(root: Path, place: Place, share: float = 1.0, said: list[str] | None = None) -> Done:
    return backup(root, place.open(), say=(said if said is not None else []).append, check_share=share)


def emit_large(root: Path, *numbers: int) -> None:
    recorder = Recorder(Config(root=str(root), strict=True))
    for number in numbers:
        recorder.emit("large", {"n": number, "p": text(70_000) + str(number)})
    recorder.shutdown()


def backed_up(root: Path, place: Place) -> Done:
    return backup(root, place.open(), say=print)


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def folder_in_its_place(path: Path) -> None:
    path.unlink()
    (path / "in").mkdir(parents=True)
    (path / "in" / "more").write_text("x")


def pipe_in_its_place(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link_in_its_place(path: Path) -> None:
    path.rename(path.with_name("x"))
    path.symlink_to("x")


ROT: dict[str, Damage] = {
    "a changed bit": flipped,
    "cut off": cut_off,
    "empty": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
}
IN_FOLDERS: dict[str, Damage] = {
    "a folder": folder_in_its_place,
    "a pipe": pipe_in_its_place,
    "a link": link_in_its_place,
}


# -- blobs that lines name -------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
def test_a_line_whose_blob_is_nowhere_fails_the_backup_until_it_is_there(
    root: Path, tmp_path: Path, state: str
) -> None:
    """Everything else is copied, and it is said by each run; not that the segment is backed up."""
    place = Place(str(tmp_path / "backup"), tmp_path / "backup")
    emit_large(root, 1)
    emit(root, "t", 1)
    victim = blobs.list_blobs(root)[0]
    right = victim.path.read_bytes()
    STATES[state](victim.path)
    for _ in range(2):
        done = backed_up(root, place)
        (failure,) = done.failures
        assert f"byte 0: this line names the blob {victim.sha256}" in failure
        assert done.copied + done.present >= 2
    announced = {each["segment"] for payload in events(root) for each in payload["segments"]}
    assert {path.stem for path in (root / "log/t").iterdir()} <= announced
    assert not {path.stem for path in (root / "log/large").iterdir()} & announced
    BlobStore(root, min_bytes=1).put(right)
    assert backed_up(root, place).failures == []
    new = tmp_path / "new"
    assert restored(new, place).failures == []
    assert verify(new).findings == []


@pytest.mark.parametrize("state", STATES)
def test_a_blob_that_the_backup_has_may_be_damaged_in_the_root(root: Path, tmp_path: Path, state: str) -> None:
    """A restore mends it, whatever stands in its place."""
    place = Place(str(tmp_path / "backup"), tmp_path / "backup")
    emit_large(root, 1)
    assert backed_up(root, place).failures == []
    STATES[state](blobs.list_blobs(root)[0].path)
    emit_large(root, 2)
    assert backed_up(root, place).failures == []
    assert restored(root, place).failures == []
    assert verify(root).findings == []


def test_a_backup_copies_a_blob_that_it_cannot_list(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Since a line names it."""
    place = Place(str(tmp_path / "backup"), tmp_path / "backup")
    emit_large(root, 1)
    monkeypatch.setattr(blobs, "list_blobs", lambda _: [])
    done = backed_up(root, place)
    assert (done.blobs_copied, done.failures) == (len(list((root / "blobs").glob("??/*"))), [])


def test_a_backup_made_before_lines_were_looked_at_is_looked_at_once(root: Path, tmp_path: Path) -> None:
    """Its manifests do not say that the blobs are there."""
    place = Place(str(tmp_path / "backup"), tmp_path / "backup")
    emit_large(root, 1)
    assert backed_up(root, place).failures == []
    for path in (place.folder / "manifests").iterdir():
        path.write_bytes(path.read_bytes().replace(b',"blobs":true', b""))
    victim = blobs.list_blobs(root)[0]
    victim.path.unlink()
    for path in place.folder.glob(f"blobs/*/{victim.sha256}"):
        path.unlink()
    assert len(backed_up(root, place).failures) == 1


@pytest.mark.parametrize("kind", [*IN_FOLDERS, "a dangling link"])
def test_what_stands_in_a_segments_place_fails_a_backup_that_has_no_copy(root: Path, tmp_path: Path, kind: str) -> None:
    """The others are copied, and a backup that has the segment is complete."""
    place = Place(str(tmp_path / "backup"), tmp_path / "backup")
    emit(root, "t", 1)
    emit(root, "u", 1)
    seal(root)
    assert backed_up(root, place).failures == []
    (path,) = (root / "log/t").iterdir()
    if kind == "a dangling link":
        path.unlink()
        path.symlink_to("nowhere")
    else:
        IN_FOLDERS[kind](path)
    assert backed_up(root, place).failures == []
    done = backed_up(root, Place(str(tmp_path / "other"), tmp_path / "other"))
    (failure,) = done.failures
    assert str(path) in failure
    assert list((tmp_path / "other/log/u").iterdir())


# -- objects that have rotted ----------------------------------------------------------


def filled(root: Path) -> None:
    """Segments plain, sealed and archived, and blobs."""
    emit(root, "a", 1, 2)
    seal(root)
    archive_sealed(root)
    emit(root, "b", *range(40), pad=500)
    emit_large(root, 1)
    seal(root, ["b"])


def objects(place: Place) -> list[Path]:
    return sorted(path for folder in ("log", "blobs") for path in place.folder.glob(f"{folder}/*/*"))


@pytest.mark.parametrize("rot", ROT)
def test_what_has_rotted_is_found_and_copied_again(root: Path, tmp_path: Path, place: Place, rot: str) -> None:
    """Every object of the backup, one after the other; a run without the check does not look at their bytes."""
    filled(root)
    backed_up(root, place)
    for victim in objects(place):
        ROT[rot](victim)
        if rot != "gone":
            assert backed_up(root, place).failures == []
        said: list[str] = []
        done = checked(root, place, said=said)
        assert (done.failures, done.still_damaged) == ([], 0)
        assert done.damaged == (0 if rot == "gone" and "blobs" in victim.parts else 1)
        assert checked(root, place).damaged == 0
    new = tmp_path / "new"
    assert restored(new, place).failures == []
    assert verify(new).findings == []


@pytest.mark.parametrize("rot", IN_FOLDERS)
def test_what_is_no_file_any_more_is_stored_again(root: Path, tmp_path: Path, rot: str) -> None:
    """And holds nobody up. A restore says which objects it could not read, and brings the others."""
    place = Place(str(tmp_path / "backup"), tmp_path / "backup")
    filled(root)
    backed_up(root, place)
    count = len(objects(place))
    for number, victim in enumerate(objects(place)):
        IN_FOLDERS[rot](victim)
        part = restored(tmp_path / f"part{number}", place)
        assert len(part.failures) == (0 if rot == "a folder" and "blobs" in victim.parts else 1)
        assert checked(root, place).failures == []
        assert len([path for path in objects(place) if path.is_file() and not path.is_symlink()]) >= count
    new = tmp_path / "new"
    assert restored(new, place).failures == []
    assert verify(new).findings == []


def test_what_the_root_does_not_have_any_more_is_said_by_each_check(root: Path, place: Place, run: Run) -> None:
    """A segment that was pruned, and a chunk that was lost since: the exit code is 1 until another copy is found."""
    filled(root)
    backed_up(root, place)
    segment = next(path for path in objects(place) if "/log/a/" in str(path))
    chunk = next(path for path in objects(place) if "blobs" in path.parts)
    before = {path: path.read_bytes() for path in (segment, chunk)}
    for path in before:
        flipped(path)
    for path in (*(root / "log/a").iterdir(), blobs.path_of(root, chunk.name)):
        path.unlink()
    for _ in range(2):
        done = checked(root, place)
        assert (done.damaged, done.still_damaged) == (2, 2)
        assert len(done.failures) == 2
        assert any(segment.name in failure for failure in done.failures)
        assert any(chunk.name in failure for failure in done.failures)
    for path, data in before.items():
        path.write_bytes(data)
    done = checked(root, place)
    assert (done.damaged, done.failures) == (0, [])


@pytest.mark.parametrize("percent", [7, 10, 34, 50, 100])
def test_shares_take_turns_until_all_is_read(root: Path, tmp_path: Path, percent: int) -> None:
    """After as many runs as it takes, whatever was added meanwhile, and each about as much."""
    place = Place(str(tmp_path / "backup"), tmp_path / "backup")
    for number in range(30):
        emit(root, f"t{number}", number)
    backed_up(root, place)
    victims = random.Random(percent).sample([path for path in place.objects() if path.parent.name.startswith("t")], 8)
    for victim in victims:
        flipped(victim)
    runs = [checked(root, place, percent / 100) for _ in range(-(-100 // percent))]
    assert sum(done.damaged for done in runs) == len(victims)
    assert all(done.failures == [] for done in runs)
    assert max(done.checked for done in runs) <= len(objects(place))
    if percent < 50:
        assert max(done.checked for done in runs) < len(objects(place)) * 0.8


# -- manifests -------------------------------------------------------------------------

MANIFESTS: dict[str, Damage] = {
    "cut off": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "cut at a line": lambda path: path.write_bytes(b"".join(path.read_bytes().splitlines(True)[:1])),
    "empty": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
    "no JSON": lambda path: path.write_bytes(b"\xff" * 1000),
    "other hashes": lambda path: path.write_bytes(path.read_bytes().replace(b'_sha256":"', b'_sha256":"0')),
    "other sizes": lambda path: path.write_bytes(path.read_bytes().replace(b'_bytes":', b'_bytes":1')),
}


@pytest.mark.parametrize("pruned", [False, True], ids=["the log is there", "the log is gone"])
@pytest.mark.parametrize("damage", MANIFESTS)
def test_damaged_manifests_are_made_anew_from_the_objects(
    root: Path, tmp_path: Path, place: Place, damage: str, pruned: bool
) -> None:
    """Each object's key holds its hash: what no manifest names any more is taken up again."""
    filled(root)
    backed_up(root, place)
    for path in (place.folder / "manifests").iterdir():
        MANIFESTS[damage](path)
    if pruned:
        for file in layout.list_log(root).segments:
            file.path.unlink()
    done = checked(root, place)
    if damage in ("other hashes", "other sizes") and pruned:
        return  # then the lines that name what is not there stay, and are said
    assert done.failures == []
    new = tmp_path / "new"
    assert restored(new, place).failures == []
    assert {file.name for file in layout.list_log(new).segments} >= {
        path.name.partition(".")[0] for path in objects(place) if "log" in path.parts
    }
    assert verify(new).findings == []
    assert checked(root, place).failures == []


# -- on the command line ---------------------------------------------------------------


@pytest.mark.parametrize("words", ["--verify {}", "{} --verify", "--verify 50% {}", "{} --verify=100%"])
def test_the_command_reads_again(root: Path, tmp_path: Path, run: Run, words: str) -> None:
    """With a share or without, before or behind the place."""
    emit(root, "t", 1)
    place = str(tmp_path / "backup")
    assert run("backup", place).returncode == 0
    done = run("backup", *words.format(place).split(" "))
    assert done.returncode == 0, done.stderr
    assert "again (" in done.stdout
    assert ": all as stored" in done.stdout


def test_the_command_says_what_was_damaged(root: Path, tmp_path: Path, run: Run) -> None:
    """And ends with 1 where it could not be copied again."""
    emit(root, "t", 1)
    place = Place(str(tmp_path / "backup"), tmp_path / "backup")
    run("backup", place.text)
    flipped(place.objects("t")[0])
    done = run("backup", place.text, "--verify")
    assert done.returncode == 0
    assert "1 damaged, 1 copied again" in done.stdout
    assert "is damaged: its SHA-256 is not what it was when it was stored" in done.stderr
    flipped(place.objects("t")[0])
    (next((root / "log/t").iterdir())).unlink()
    done = run("backup", place.text, "--verify")
    assert done.returncode == 1
    assert "1 damaged, 0 copied again" in done.stdout
    assert run("backup", place.text, "--verify", "0%").returncode == 2
