"""Backup and restore: the way there and back, many hosts, and what is there already."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventlog.errors import MaintenanceBusy
from eventlog.indexer.replay import replay
from eventlog.log import layout, zst
from eventlog.log.segment import RESTORED_MODE, Segment
from eventlog.maintenance import backup as backing
from eventlog.maintenance import backup_log, manifest
from eventlog.maintenance.backup import Done, backup
from eventlog.maintenance.backup_log import BACKED_UP_EVENT
from eventlog.maintenance.restore import Restored, restore
from eventlog.maintenance.sealing import seal
from eventlog.maintenance.verification import verify
from tests.eventlog.backups import Place, backed_up, emit, events, only, restored, tree

NAME = "20260131T120000123456Z-0a1b2c3d4e5f6071"


# -- the way there and back ------------------------------------------------------------------


def test_a_restored_log_is_the_same_and_replays_to_the_same_content(root: Path, tmp_path: Path, place: Place) -> None:
    """Bytes, modes, torn tail, empty segments; and the content hash of the index."""
    emit(root, "many", *range(40), pad=900)
    emit(root, "torn", 1)
    with only(root, "torn").open("ab") as file:
        file.write(b'{"event_id": "torn')
    emit(root, "sealed", 1)
    only(root, "sealed").chmod(0o400)
    Segment.create(root / "log" / "empty").close()
    assert len(list((root / "log/many").iterdir())) > 5
    assert backed_up(root, place).failures == []
    assert backed_up(root, place).copied == 1  # the event that says what was backed up
    new = tmp_path / "new"
    found = restored(new, place)
    assert (found.failures, found.restored) == ([], len(tree(root)))
    assert tree(new) == tree(root)
    assert {path.stat().st_mode & 0o7777 for path in (new / "log").glob("*/*")} == {RESTORED_MODE}
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
    monkeypatch.setattr(backup_log, "_SEGMENTS_PER_EVENT", 2)
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
    only(root, "t").chmod(0o400)
    assert backed_up(root, place).copied == 1
    assert len(place.objects("t")) == 1
    restored(tmp_path / "new", place)
    assert only(tmp_path / "new", "t").stat().st_mode & 0o777 == 0o400
    count = len(place.files())
    backed_up(root, place)
    assert len(place.files()) == count


def test_a_log_that_cannot_be_written_is_backed_up_all_the_same(root: Path, tmp_path: Path, place: Place) -> None:
    """A rescued disk, mounted read-only. It is only not recorded in the log."""
    emit(root, "a", 1, 2)
    (root / "log" / BACKED_UP_EVENT).write_text("in the way")
    said: list[str] = []
    assert backed_up(root, place, said).copied == 1
    assert [each for each in said if each.startswith("the log cannot record that it is backed up")]
    assert restored(tmp_path / "new", place).restored == 1


def test_a_copy_from_before_the_seal_comes_back_sealed_where_the_seal_does(
    root: Path, tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backup was killed between the two; a writer would go on behind the sealed end."""
    emit(root, "a", 1, 2)
    backed_up(root, place)
    seal(root)

    class Killed(BaseException):
        pass

    def killed(*arguments: object, **more: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(backing._Run, "update", killed)
        with pytest.raises(Killed):
            backed_up(root, place)
    new = tmp_path / "new"
    restored(new, place)
    emit(new, "a", 3)
    assert verify(new).findings == []


def archived(root: Path) -> Path:
    """Archive the segment of type `t`; return where it is now."""
    plain = only(root, "t")
    path = zst.archived_path(plain)
    zst.compress(plain, path, level=3)
    path.chmod(0o400)
    plain.unlink()
    return path


def test_an_archived_segment_is_copied_as_it_is_stored(root: Path, tmp_path: Path, place: Place) -> None:
    """And comes back archived and sealed."""
    emit(root, "t", *range(5))
    data = only(root, "t").read_bytes()
    path = archived(root)
    assert backed_up(root, place).copied_bytes == path.stat().st_size
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
    """A copy that is written to beside the original: both come back, and it is said."""
    emit(root, "t", 1)
    backed_up(root, place)
    other = tmp_path / "other"
    shutil.copytree(root, other)
    emit(root, "t", 2)
    emit(other, "t", 3, 4)
    said: list[str] = []
    backed_up(root, place, said)
    backed_up(other, place, said)
    assert [each.split(" does not begin with ")[0] for each in said] == [str(only(other, "t"))]
    both = {only(root, "t").read_bytes(), only(other, "t").read_bytes()}
    assert {path.read_bytes() for path in place.objects("t")} == both
    found = restored(tmp_path / "new", place)
    assert found.failures == []
    (said_of,) = found.renamed
    longer, shorter = sorted((tmp_path / "new/log/t").iterdir(), key=lambda path: -path.stat().st_size)
    assert said_of.endswith(f"the other copy is restored as {shorter.stem}")
    assert longer.read_bytes() == only(other, "t").read_bytes()
    assert shorter.read_bytes() == only(root, "t").read_bytes()
    assert restored(tmp_path / "new", place).renamed == []


def test_only_what_has_the_same_bytes_is_recorded_as_backed_up(root: Path, tmp_path: Path, place: Place) -> None:
    """The copy may be another host's, of a log that went on in another way to the same size."""
    emit(root, "t", 1)
    other = tmp_path / "other"
    shutil.copytree(root, other)
    path = only(other, "t")
    path.write_bytes(path.read_bytes().replace(b'"n":1', b'"n":2'))
    backed_up(root, place)
    done = backed_up(other, place)
    assert done.failures == []
    (said,) = done.differing
    assert said.startswith(f"{path} has other bytes than the copy of the same size that {place.text} has of it: ")
    assert {each.read_bytes() for each in place.objects("t")} == {only(root, "t").read_bytes(), path.read_bytes()}
    (event,) = events(other)
    assert [each["sha256"] for each in event["segments"]] == [hashlib.sha256(path.read_bytes()).hexdigest()]


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
        put, delete, finish = inner.put, inner.delete, inner.finish
        listed = 0

        def get(self, key: str) -> Iterator[bytes]:
            return inner.get(key)

        def list(self, folder: str) -> list[str]:
            self.listed += 1
            return ["manifests/gone.jsonl"] * (self.listed < 3) + inner.list(folder)

    stale = Stale()
    assert len(manifest.read(stale).segments()) == 1
    assert stale.listed == 3


# -- what is there already -------------------------------------------------------------------

LINES = [b'{"n":1}\n', b'{"n":2}\n', b'{"n":3}\n']
DIFFERS = "the log has other bytes than the backup, and they stay; the backup's are restored as "
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
        LINES[2] * 3, LINES[2] * 3, False, DIFFERS
    ),
    "different and longer": (
        LINES[2] * 4, LINES[2] * 4, False, DIFFERS
    ),
    "different and shorter": (
        LINES[2], LINES[2], False, DIFFERS
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
    assert [each.startswith(f"t/{path.stem}: {message}") for each in found.failures] == ([True] if message else [])
    if message == DIFFERS:  # beside it, once
        beside = layout.segment_path(new, "t", found.failures[0].rpartition(" ")[2])
        assert beside.read_bytes() == b"".join(LINES)
        assert restored(new, place).failures == found.failures
        assert len(list(path.parent.iterdir())) == 2
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
        list, put, delete, finish = inner.list, inner.put, inner.delete, inner.finish

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
        list, put, delete, finish = inner.list, inner.put, inner.delete, inner.finish

        def get(self, key: str) -> Iterator[bytes]:
            if key.startswith("log/"):
                with pytest.raises(
                    MaintenanceBusy, match=f"{tmp_path}/new: another restore is at work; wait for its end"
                ):
                    restored(tmp_path / "new", place)
            return inner.get(key)

    assert restore(tmp_path / "new", Nosy()).restored == 1
