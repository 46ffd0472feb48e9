"""A log that is rotated at the very moment at which it is read: each line stands in ours once."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventlog.config import Config
from eventlog.importers import checkpoints, engine, identity
from eventlog.importers.content import Content
from eventlog.importers.engine import importing
from eventlog.importers.jsonl import Jsonl
from eventlog.importers.reading import Reading
from tests.conftest import lines_of


class Log:
    """A foreign log, all lines that were ever written to it, and those of it that stand in ours."""

    def __init__(self, root: Path, path: Path) -> None:
        self.root, self.path = root, path
        self.written: Counter[int] = Counter()

    def write(self, *numbers: int) -> None:
        with self.path.open("a") as file:
            file.writelines(json.dumps({"n": number, "noise": "x" * 100}) + "\n" for number in numbers)
        self.written.update(numbers)

    def generation(self, age: int, ending: str = "") -> Path:
        return self.path.with_name(f"{self.path.name}.{age}{ending}")

    def rename(self) -> None:
        """Move it on, and begin it anew."""
        for age in (2, 1):
            for ending in ("", ".gz"):
                if self.generation(age, ending).exists():
                    self.generation(age, ending).rename(self.generation(age + 1, ending))
        self.path.rename(self.generation(1))

    def cut(self) -> None:
        """Copy it, and cut it off."""
        shutil.copy2(self.path, self.generation(1))
        os.truncate(self.path, 0)

    def compress(self, age: int) -> None:
        plain, packed = self.generation(age), self.generation(age, ".gz")
        packed.write_bytes(gzip.compress(plain.read_bytes()))
        shutil.copystat(plain, packed)
        plain.unlink()

    def read(self) -> list[str]:
        """Import what is new; return what could not be read."""
        with importing(Config(root=str(self.root), strict=True), Jsonl(type_="foreign")) as importer:
            return importer.run(self.path).failures

    @property
    def logged(self) -> Counter[int]:
        return Counter(json.loads(each)["payload"]["n"] for each in lines_of(self.root, "foreign"))


@pytest.fixture
def log(root: Path, tmp_path: Path) -> Log:
    """A log of which some lines were read, and some not."""
    made = Log(root, tmp_path / "app.log")
    made.write(*range(100))
    made.read()
    made.write(*range(100, 150))
    return made


def once(act: Callable[[], None], monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, before: bool) -> None:
    """Do something once, before or after a function is called for the first time."""
    real = getattr(owner, name)
    done: list[bool] = []

    def called(*arguments: Any, **options: Any) -> Any:
        is_first = not done
        done.append(True)
        if is_first and before:
            act()
        answer = real(*arguments, **options)
        if is_first and not before:
            act()
        return answer

    monkeypatch.setattr(owner, name, called)


def test_cut_off_and_begun_anew_while_its_lines_are_read(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read then may be of either: it is read again, where it went."""

    def cut() -> None:
        log.cut()
        log.write(*range(1000, 1400))

    once(cut, monkeypatch, Reading, "next", before=True)
    log.read()
    log.read()
    assert log.logged == log.written


def test_cut_off_when_it_was_looked_for_what_stands_beside_it(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that there is a generation by then that nobody has seen."""
    log.rename()
    log.write(*range(200, 230))

    def cut() -> None:
        log.generation(1).rename(log.generation(2))
        log.cut()
        log.write(*range(300, 360))

    once(cut, monkeypatch, identity, "_new", before=True)
    log.read()
    log.read()
    assert log.logged == log.written


def test_a_log_that_always_begins_anew_is_given_up(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do; other logs are read all the same, and nothing of this one is noted."""
    numbers = iter(range(10_000, 20_000))

    def parts(content: Content, *arguments: Any, **options: Any) -> Any:
        os.truncate(log.path, 0)
        log.write(next(numbers))
        return real(content, *arguments, **options)

    real = identity.parts_of_log
    monkeypatch.setattr(engine, "parts_of_log", parts)
    assert log.read() == [f"{log.path}: begins anew each time it is looked at; try again later"]
    monkeypatch.undo()
    log.read()
    assert set(log.logged) == {*range(100), max(log.written)}


def test_compressed_generations_that_move_on_while_they_are_read(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one has the name then."""
    log.rename()
    log.write(*range(200, 230))
    log.generation(1).rename(log.generation(2))
    log.path.rename(log.generation(1))
    log.compress(2)
    log.write(*range(300, 310))

    def move_on() -> None:
        log.generation(2, ".gz").rename(log.generation(3, ".gz"))
        log.generation(1).rename(log.generation(2))
        log.compress(2)

    once(move_on, monkeypatch, Reading, "next", before=True)
    log.read()
    log.write(400)
    log.read()
    assert log.logged == log.written


def test_a_generation_that_is_being_renamed_is_looked_for_again(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing of the folder does not see it then."""
    log.rename()
    log.write(*range(200, 230))
    real = identity._family
    missed: list[Path] = []

    def family(path: Path) -> list[Path]:
        if len(missed) < 2:
            missed.append(path)
            return []
        return real(path)

    monkeypatch.setattr(identity, "_family", family)
    log.read()
    assert log.logged == log.written


def test_an_import_that_begins_while_another_notes_how_far_it_is(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes nothing for lost that was logged in the meantime."""
    other = threading.Thread(target=log.read)

    def read_beside() -> None:
        other.start()
        other.join(0.5)  # or it waits for us

    once(read_beside, monkeypatch, checkpoints, "read", before=False)
    log.read()
    other.join()
    log.read()
    assert log.logged == log.written


def test_an_archive_that_is_damaged_keeps_no_log_out(log: Log) -> None:
    """It begins like what was read, and cannot be compared to its end."""
    noise = os.urandom(200_000).hex()
    log.path.write_text(json.dumps({"n": 1}) + "\n")
    log.root = log.root.with_name("another")
    log.written = Counter([1])
    log.read()
    whole = gzip.compress(log.path.read_bytes() + noise.encode())
    log.generation(1, ".gz").write_bytes(whole[: len(whole) // 2])
    log.write(2)
    log.read()
    assert log.logged == log.written
