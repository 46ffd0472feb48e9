"""Lines of others stand in the log once: whatever their files are called, and whenever an import is cut off."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from eventlog.config import Config
from eventlog.errors import ImportFailed
from eventlog.format.control import Role
from eventlog.importers.engine import Imported, Importer, follow
from eventlog.importers.jsonl import Jsonl
from eventlog.importers.positions import FILE_NAME
from eventlog.record.recorder import Recorder
from tests.conftest import lines_of
from tests.eventlog.test_importers import import_, importer_of


def _import(root: Path, *paths: Path, **options: Any) -> Imported:
    return import_(root, *paths, format_=Jsonl(type_="t", **options))


def _logged(root: Path) -> list[Any]:
    return [json.loads(line)["payload"] for line in lines_of(root, "t")]


def _ids(root: Path) -> list[str]:
    return [json.loads(line)["event_id"] for line in lines_of(root, "t")]


def _write(path: Path, *numbers: int, mode: str = "w") -> Path:
    with path.open(mode) as file:
        file.writelines(f'{{"n":{number}}}\n' for number in numbers)
    return path


# -- names -----------------------------------------------------------------------------------


def _compress(path: Path) -> None:
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def _rename(log: Path) -> None:
    log.rename(log.with_name("app.log.1"))


def _rename_and_compress(log: Path) -> None:
    _rename(log)
    _compress(log.with_name("app.log.1"))


def _rename_by_date(log: Path) -> None:
    log.rename(log.with_name("app-20260105.log"))


def _copy_and_truncate(log: Path) -> None:
    shutil.copy(log, log.with_name("app.log.1"))
    os.truncate(log, 0)


def _copy_and_truncate_and_compress(log: Path) -> None:
    _copy_and_truncate(log)
    _compress(log.with_name("app.log.1"))


ROTATIONS: list[Callable[[Path], None]] = [
    _rename, _rename_and_compress, _rename_by_date, _copy_and_truncate, _copy_and_truncate_and_compress
]  # fmt: skip


@pytest.mark.parametrize("rotate", ROTATIONS)
@pytest.mark.parametrize("new", [(1,), (1, 1), (1, 1, 1), (1, 1, 1, 1), (2,)])
def test_equal_lines_of_two_generations_are_two_events(
    root: Path, tmp_path: Path, rotate: Callable[[Path], None], new: tuple[int, ...]
) -> None:
    """And what was written to the old one after the last import is read first."""
    log = _write(tmp_path / "app.log", 1, 1, 1)
    assert _import(root, log).events == 3
    _write(log, 7, mode="a")
    rotate(log)
    _write(log, *new, mode="a")
    assert _import(root, log).events == 1 + len(new)
    assert _logged(root) == [{"n": n} for n in (1, 1, 1, 7, *new)]
    assert len(set(_ids(root))) == len(_ids(root))
    assert _import(root, *sorted(tmp_path.glob("app*"))).events == 0


def test_generations_between_two_imports_are_read_in_their_order(root: Path, tmp_path: Path) -> None:
    """Also those that never were imported under their own name."""
    log = _write(tmp_path / "app.log", 1)
    _import(root, log)
    for age, number in ((1, 2), (2, 3)):
        for old in range(age - 1, 0, -1):
            log.with_name(f"app.log.{old}").rename(log.with_name(f"app.log.{old + 1}"))
        log.rename(log.with_name("app.log.1"))
        _write(log, number)
        os.utime(log, ns=(0, 10**18 + age))
    os.utime(log.with_name("app.log.2"), ns=(0, 10**18))
    os.utime(log.with_name("app.log.1"), ns=(0, 10**18 + 1))
    assert _import(root, log).events == 2
    assert _logged(root) == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert _import(root, log, *tmp_path.glob("app.log.*")).events == 0


@pytest.mark.parametrize("when", ["as before", "now"])
def test_a_generation_that_nobody_saw_is_read_whatever_its_inode(root: Path, tmp_path: Path, when: str) -> None:
    """It may be that of a file that is gone; and the former one may have been compressed after it was written."""
    gone = _write(tmp_path / "other.log", 5)
    log = _write(tmp_path / "app.log", 1)
    _import(root, gone, log)
    gone.unlink()
    first, second = tmp_path / "app.log.2.gz", tmp_path / "app.log.1"
    times = log.stat()
    log.rename(second)
    _write(log, 2)
    first.write_bytes(gzip.compress(second.read_bytes()))
    log.rename(second)
    _write(log, 3)
    if when == "as before":
        os.utime(first, ns=(times.st_atime_ns, times.st_mtime_ns))
    inode = f"{second.stat().st_dev}:{second.stat().st_ino}"
    with sqlite3.connect(root / FILE_NAME) as connection:
        connection.execute("UPDATE sources SET file = ? WHERE path = ?", [inode, str(gone)])
    connection.close()
    assert _import(root, log).events == 2
    assert _logged(root)[2:] == [{"n": 2}, {"n": 3}]
    assert _import(root, log, first, second).events == 0


@pytest.mark.parametrize("size", [1, 2000])
def test_a_log_that_was_moved_is_known_by_its_content(root: Path, tmp_path: Path, size: int) -> None:
    """As the same file anywhere, else by its first 4 KiB; short ones are all alike."""
    log = _write(tmp_path / "app.log", *range(size))
    _import(root, log)
    moved = tmp_path / "elsewhere" / "other.log"
    moved.parent.mkdir()
    shutil.copy(log, moved)
    log.unlink()
    assert _import(root, moved).events == (1 if size == 1 else 0)
    renamed = moved.with_name("third.log")
    moved.rename(renamed)
    _write(renamed, -1, mode="a")
    assert _import(root, renamed).events == 1


def test_a_copy_of_a_log_that_is_still_there_is_another_one(root: Path, tmp_path: Path) -> None:
    """Two devices may say the same."""
    log = _write(tmp_path / "a.log", *range(2000))
    copy = Path(shutil.copy(log, tmp_path / "b.log"))
    assert _import(root, log, copy).events == 4000
    assert _import(root, log, copy).events == 0
    assert len(set(_ids(root))) == 4000


@pytest.mark.parametrize("edit", ["shorter", "changed", "longer", "sorted"])
def test_an_edited_file_adds_what_is_new(root: Path, tmp_path: Path, edit: str) -> None:
    """Most of its lines are known: it is the same log, written anew by an editor."""
    path = _write(tmp_path / "f.jsonl", *range(50))
    _import(root, path)
    changed = {
        "shorter": [*range(10), *range(20, 50)], "changed": [99, *range(1, 50)], "longer": [99, *range(50), 98],
        "sorted": [*range(49, -1, -1)],
    }[edit]  # fmt: skip
    new = _write(tmp_path / "new", *changed)
    new.rename(path)
    assert _import(root, path).events == len(set(changed) - set(range(50)))
    assert len(_logged(root)) == len(set(_ids(root)))
    assert _import(root, path).events == 0


def test_a_log_that_was_cut_off_is_a_new_one(root: Path, tmp_path: Path) -> None:
    """What its writer cut away is lost; what it wrote after that is not, though it is the same again."""
    log = _write(tmp_path / "app.log", 1, 1, 1)
    _import(root, log)
    os.truncate(log, 0)
    _write(log, 1, 1)
    assert _import(root, log).events == 2


# -- the positions ---------------------------------------------------------------------------


def test_without_its_file_positions_are_those_of_the_log(root: Path, tmp_path: Path) -> None:
    """A root whose log was restored goes on where it was, and repeated lines keep their numbers."""
    log = _write(tmp_path / "app.log", 1, 2, 1)
    _import(root, log)
    for path in root.glob(FILE_NAME + "*"):
        path.unlink()
    _write(log, 1, mode="a")
    assert _import(root, log).events == 1
    assert len(set(_ids(root))) == 4


def test_what_an_older_log_lacks_is_imported_again(root: Path, tmp_path: Path) -> None:
    """The file with the positions may be younger than the log beside it."""
    log = _write(tmp_path / "app.log", 1)
    _import(root, log)
    shutil.copytree(root / "log", tmp_path / "backup")
    _write(log, 2, mode="a")
    _import(root, log)
    shutil.rmtree(root / "log")
    shutil.copytree(tmp_path / "backup", root / "log")
    assert _import(root, log).events == 1
    assert _logged(root) == [{"n": 1}, {"n": 2}]


def test_after_a_reboot_positions_are_checkpoints(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut may have taken the last lines from the log, and not from the file with the positions."""
    log = _write(tmp_path / "app.log", 1)
    with importer_of(root, Jsonl(type_="t")) as importer:
        importer.run(log, following=True)  # without a checkpoint
    shutil.rmtree(root / "log")
    monkeypatch.setattr("eventlog.importers.positions._BOOT_ID", tmp_path / "none")
    assert _import(root, log).events == 1
    assert _import(root, log).events == 0


@pytest.mark.parametrize("damage", [b"", b"nonsense" * 1000, None])
def test_a_damaged_file_of_positions_is_made_again(root: Path, tmp_path: Path, damage: bytes | None) -> None:
    """From the log; something else under its name is left alone."""
    log = _write(tmp_path / "app.log", 1)
    _import(root, log)
    for path in root.glob(FILE_NAME + "*"):
        path.unlink()
    if damage is None:
        (root / FILE_NAME).mkdir()
        with pytest.raises(ImportFailed, match="is a folder"):
            _import(root, log)
        return
    (root / FILE_NAME).write_bytes(damage)
    assert _import(root, log).events == 0


def test_two_imports_of_one_file_append_each_line_once(root: Path, tmp_path: Path) -> None:
    """They take turns: each goes on where the other one was."""
    log = _write(tmp_path / "app.log", 1)
    with importer_of(root, Jsonl(type_="t")) as one, importer_of(root, Jsonl(type_="t")) as other:
        for number in range(2, 8):
            for importer in (one, other) if number % 2 else (other, one):
                importer.run(log, following=True)
            _write(log, number, mode="a")
    assert sorted(each["n"] for each in _logged(root)) == [1, 2, 3, 4, 5, 6]


def test_another_import_is_waited_for_within_a_bound(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the error says what to look for."""
    monkeypatch.setattr("eventlog.importers.positions._WAIT_S", 0.1)
    log = _write(tmp_path / "app.log", 1)
    _import(root, log)
    other = sqlite3.connect(root / FILE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ImportFailed, match="another import into this root"):
        _import(root, log)
    other.close()


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the system does not count what a process reads")
def test_of_a_known_file_only_what_is_new_is_read(root: Path, tmp_path: Path) -> None:
    """However long it is already."""

    def read_bytes() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    log = tmp_path / "app.log"
    log.write_text("".join(f'{{"n":{number},"text":"{"x" * 1000}"}}\n' for number in range(8000)))
    _import(root, log)
    _write(log, *range(50), mode="a")
    before = read_bytes()
    assert _import(root, log).events == 50
    assert read_bytes() - before < 1_000_000


# -- following -------------------------------------------------------------------------------


def test_a_followed_file_is_read_to_its_end_after_it_was_moved(root: Path, tmp_path: Path) -> None:
    """Its writer has it open still, and writes on; also where the file was removed."""
    log = tmp_path / "app.log"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    writers = [_write(log, 1).open("a")]

    def write(number: int) -> None:
        writers[-1].write(f'{{"n":{number}}}\n')
        writers[-1].flush()

    def steps() -> Iterator[None]:
        log.rename(elsewhere / "old")
        yield
        write(2)
        yield
        writers.append(_write(log, 1).open("a"))
        yield
        write(3)
        writers[0].write('{"n":4}\n')
        writers[0].flush()
        yield
        write(5)
        log.unlink()
        yield
        write(6)
        _write(log, 1)
        yield

    rest = steps()
    with importer_of(root, Jsonl(type_="t")) as importer:
        list(follow(importer, lambda: [log], lambda: next(rest, rest) is None, print))
    for writer in writers:
        writer.close()
    assert sorted(each["n"] for each in _logged(root)) == [1, 1, 1, 2, 3, 4, 5, 6]
    assert len(set(_ids(root))) == 8


# -- anything, in any order ------------------------------------------------------------------


class Killed(BaseException):
    """An import ends here, as by SIGKILL: nothing after it runs."""


class Anything(RuleBasedStateMachine):
    """A log with its writer, its rotation, and imports that are cut off anywhere."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(os.environ["PYTEST_FOLDER"]) / os.urandom(8).hex()
        self.folder.mkdir()
        self.root, self.log = self.folder / "root", self.folder / "app.log"
        self.log.touch()
        self.written: Counter[str] = Counter()
        self.unread: str = ""

    @rule(number=st.integers(0, 2), count=st.integers(1, 4))
    def write(self, number: int, count: int) -> None:
        """Lines that are often equal."""
        self._write(f'{{"n":{number}}}\n' * count)

    @rule(number=st.integers(0, 2), cut=st.integers(1, 7))
    def write_half(self, number: int, cut: int) -> None:
        """A line in two parts, with an import between."""
        line = f'{{"n":{number}}}\n'
        self._append(line[:cut])
        self.run(kill_at=None)
        self._append(line[cut:])
        self.written[line.strip()] += 1

    @rule(kill_at=st.none() | st.integers(0, 3), following=st.booleans())
    def run_killed(self, kill_at: int | None, following: bool) -> None:
        """An import that ends before, or after, one of its writes to the log."""
        self.run(kill_at=kill_at, following=following)

    @rule(which=st.lists(st.sampled_from(ROTATIONS), min_size=1, max_size=3))
    def rotate(self, which: list[Callable[[Path], None]]) -> None:
        """Once after an import, or several times: then each generation begins with a line that is like no other."""
        if self.log.stat().st_size == 0:
            return
        if which[0] in (_copy_and_truncate, _copy_and_truncate_and_compress):
            self.run(kill_at=None)
        for number, rotate in enumerate(which):
            if number:
                self._write(f'{{"n":"{os.urandom(8).hex()}"}}\n')
            for old in sorted(self.folder.glob("app[.-]*"), reverse=True):
                if old != self.log:
                    old.rename(old.with_name(old.name.replace("app", "app.log.9" + os.urandom(3).hex(), 1)))
            rotate(self.log)
            self.log.touch()
        self.run(kill_at=None)

    def run(self, kill_at: int | None, *, following: bool = False) -> None:
        recorder = Recorder(Config(root=str(self.root), strict=True), role=Role.MAINTENANCE)
        calls = [0]

        def cut_off(write: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*arguments: Any) -> Any:
                calls[0] += 1
                if kill_at is not None and calls[0] * 2 - 1 > kill_at:
                    if kill_at % 2:
                        write(*arguments)
                    raise Killed
                return write(*arguments)

            return counted

        recorder.record_lines = cut_off(recorder.record_lines)  # type: ignore[method-assign]
        try:
            importer = Importer(recorder, Jsonl(type_="t"))
            try:
                importer.run(self.log, following=following)
            except Killed:
                pass
            finally:
                importer.close()
        finally:
            recorder.shutdown()

    def _write(self, text: str) -> None:
        self._append(text)
        self.written.update(text.splitlines())

    def _append(self, text: str) -> None:
        with self.log.open("a") as file:
            file.write(text)

    @invariant()
    def each_line_is_there_once(self) -> None:
        """After an import that was not cut off."""
        if not hasattr(self, "root"):
            return
        self.run(kill_at=None)
        lines = [json.dumps(each, separators=(",", ":")) for each in _logged(self.root)]
        assert Counter(lines) == self.written
        assert len(set(_ids(self.root))) == sum(self.written.values())


def test_anything_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log holds each line once, and the ids are those of so many events."""
    monkeypatch.setenv("PYTEST_FOLDER", str(tmp_path))
    machine = Anything.TestCase
    machine.settings = settings(
        max_examples=40, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
    )
    machine().runTest()
