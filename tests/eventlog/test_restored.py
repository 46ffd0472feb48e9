"""What came back from a backup, or by hand: nobody continues it, and nothing is overwritten or lost."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventlog.errors import BackupFailed
from eventlog.indexer import retention
from eventlog.indexer.indexer import Indexer
from eventlog.log import layout
from eventlog.log.sealed_or_pruned import was_sealed_or_pruned
from eventlog.maintenance import sealing, verification
from eventlog.maintenance.backup import backup
from eventlog.maintenance.folder import Folder
from eventlog.maintenance.restore import restore
from tests.eventlog.backups import Place, emit, only


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(str(tmp_path / "backup"), tmp_path / "backup")


def back_up(root: Path, place: Place) -> None:
    assert backup(root, place.open(), say=lambda _: None).failures == []


def pruned(root: Path) -> None:
    """Index, seal, and prune all that may go."""
    Indexer(root).catch_up()
    sealing.seal(root)
    Indexer(root).catch_up()
    assert retention.prune(root, 0, ["t"]).pruned


def lines(root: Path, event_type: str = "t") -> int:
    return sum(each.path.read_bytes().count(b"\n") for each in layout.list_type(root, event_type))


def test_a_restored_segment_is_never_continued(root: Path, tmp_path: Path, place: Place) -> None:
    """Whoever writes begins another one, also where nothing was ever sealed."""
    emit(root, "t", 1, 2)
    back_up(root, place)
    new = tmp_path / "new"
    restore(new, place.open())
    before = only(new, "t").read_bytes()
    emit(new, "t", 3)
    one, other = sorted(path.read_bytes() for path in (new / "log/t").iterdir())
    assert before in (one, other)
    assert lines(new) == 3
    assert verification.verify(new).findings == []


def test_a_copy_that_is_shorter_than_what_was_pruned_comes_under_another_name(root: Path, place: Place) -> None:
    """What was sealed stays as it was sealed; the copy's lines are there, once, however often it is restored."""
    emit(root, "t", 1, 2, 3)
    back_up(root, place)
    emit(root, "t", 4, 5)
    name = only(root, "t").stem
    pruned(root)
    for restored in (1, 0):
        done = restore(root, place.open())
        assert (done.failures, done.restored) == ([], restored)
        assert len(done.renamed) == restored
    (file,) = layout.list_type(root, "t")
    assert file.name != name
    assert file.name.partition("-")[0] == name.partition("-")[0]
    assert verification.verify(root).findings == []
    said: list[str] = []
    Indexer(root, say=said.append).catch_up()
    assert said == []


def test_the_whole_of_what_was_pruned_comes_back_under_its_name(root: Path, place: Place) -> None:
    """With the mode of a sealed one; a shorter copy that is there already stays beside it."""
    emit(root, "t", 1)
    back_up(root, place)
    emit(root, "t", 2)
    later = Place(f"{place.text} later", place.folder.with_name("later"))
    Indexer(root).catch_up()
    sealing.seal(root)
    name = only(root, "t").stem
    back_up(root, later)
    pruned_files = retention.prune(root, 0, ["t"])
    assert pruned_files.pruned or pruned_files.retained
    if not layout.exists(root, "t", name):
        restore(root, place.open())
        assert not layout.exists(root, "t", name)
    restore(root, later.open())
    path = layout.segment_path(root, "t", name)
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert verification.verify(root).findings == []


def test_a_file_that_appears_during_a_restore_is_not_overwritten(root: Path, tmp_path: Path, place: Place) -> None:
    """Somebody copies the same log by hand at that moment."""
    emit(root, "t", 1)
    back_up(root, place)
    path = only(root, "t")
    target = tmp_path / "new" / path.relative_to(root)
    inner = place.open()

    class Slow:
        name = inner.name
        list, put, delete, finish = inner.list, inner.put, inner.delete, inner.finish

        def get(self, key: str) -> Iterator[bytes]:
            if key.startswith("log/t/"):
                target.parent.mkdir(parents=True)
                target.write_bytes(b"somebody's\n")
            return inner.get(key)

    (failure,) = restore(tmp_path / "new", Slow()).failures
    assert failure.endswith("was created in the meantime; run the same again")
    assert target.read_bytes() == b"somebody's\n"


def test_a_copy_that_is_shorter_than_what_is_pruned_during_the_restore_comes_under_another_name(
    root: Path, place: Place
) -> None:
    """Seals and prunings are looked at once more when the copy is about to get its name."""
    emit(root, "a", 0)
    emit(root, "t", 1, 2, 3)
    back_up(root, place)
    emit(root, "t", 4, 5)
    only(root, "a").unlink()
    name = only(root, "t").stem
    inner = place.open()

    class Slow:
        name = inner.name
        list, put, delete, finish = inner.list, inner.put, inner.delete, inner.finish

        def get(self, key: str) -> Iterator[bytes]:
            if key.startswith("log/a/"):
                pruned(root)
            return inner.get(key)

    done = restore(root, Slow())
    assert (done.failures, done.restored, len(done.renamed)) == ([], 2, 1)
    (file,) = layout.list_type(root, "t")
    assert file.name != name
    assert verification.verify(root).findings == []


def test_a_copy_that_is_fetched_while_its_segment_is_sealed_and_pruned_comes_under_another_name(
    root: Path, place: Place
) -> None:
    """The copy of the segment itself takes long; it was shorter than what the log had."""
    emit(root, "t", 1, 2, 3)
    back_up(root, place)
    path = only(root, "t")
    short, name = path.read_bytes(), path.stem
    emit(root, "t", 4, 5)
    whole = path.read_bytes()
    path.unlink()
    inner = place.open()

    class Slow:
        name = inner.name
        list, put, delete, finish = inner.list, inner.put, inner.delete, inner.finish

        def get(self, key: str) -> Iterator[bytes]:
            if key.startswith("log/t/") and not path.exists() and not list_pruned():
                path.write_bytes(whole)
                pruned(root)
            return inner.get(key)

    def list_pruned() -> bool:
        return bool(layout.list_type(root, "segment_pruned"))

    done = restore(root, Slow())
    assert (done.failures, done.restored, len(done.renamed)) == ([], 1, 1)
    (file,) = layout.list_type(root, "t")
    assert (file.name != name, file.path.read_bytes()) == (True, short)
    assert verification.verify(root).findings == []


def test_a_writable_copy_of_what_was_sealed_is_not_continued(root: Path, tmp_path: Path) -> None:
    """A folder that was copied back by hand: its look alone says nothing."""
    emit(root, "t", 1)
    shutil.copytree(root / "log/t", tmp_path / "t")
    emit(root, "t", 2)
    name = only(root, "t").stem
    sealing.seal(root)
    assert was_sealed_or_pruned(root, name)
    path = only(root, "t")
    path.unlink()
    shutil.copyfile(tmp_path / "t" / path.name, path)
    path.chmod(0o644)
    emit(root, "t", 3)
    assert path.read_bytes() == (tmp_path / "t" / path.name).read_bytes()
    assert len(layout.list_type(root, "t")) == 2


def test_one_that_nothing_says_is_closed_is_continued(root: Path) -> None:
    """As ever, beside others that were sealed."""
    emit(root, "t", 1)
    sealing.seal(root)
    emit(root, "t", 2)
    emit(root, "t", 3)
    assert len(layout.list_type(root, "t")) == 2
    with pytest.raises(BackupFailed):
        restore(root, Folder(root.parent / "nowhere"))
