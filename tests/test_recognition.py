"""Whose file it is: files of another program are refused by name, files of nobody are imported as ever."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from eventlog.cli.main import run as command
from eventlog.importers import sources
from eventlog.importers.recognition import Recognition
from eventlog.log.reader import read_events
from tests import toy_source

CLAUDE = {"type": "user", "uuid": "u1", "sessionId": "s1", "message": {"role": "user", "content": "hello"}}
CHAT = {"kind": "ask", "chat": "c1", "at": "2026-03-01T10:00:01Z", "text": "What is two and two?"}
NOBODYS = {"a": 1, "chat": "c1"}


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A toy whose files are called as those of Claude Code are."""
    monkeypatch.setattr(sources, "_registered", [])
    sources.register(
        msgspec.structs.replace(toy_source.SOURCE, patterns=("*.jsonl",), recognises=lambda line: "kind" in line)
    )


def write(path: Path, *lines: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("name", "lines", "advice"),
    [
        ("claude-code", [CHAT, CHAT], "this looks like Toy; try: eventlog import toy"),
        ("claude-code", [NOBODYS, CHAT], "this looks like Toy; try: eventlog import toy"),
        ("toy", [CLAUDE], "this looks like Claude Code; try: eventlog import claude-code"),
    ],
)
def test_a_file_of_another_program_is_refused_by_name(
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    lines: list[object],
    advice: str,
) -> None:
    """A file, or a folder of such files only: nothing is imported."""
    path = write(tmp_path / "logs" / "a.jsonl", *lines)
    for given in (path, path.parent):
        assert command(["import", name, str(given), "--root", str(root)]) == 1
        assert capsys.readouterr().err == f"error: nothing was imported; {path}: {advice} --root {root} {given}\n"
    assert not (root / "log").exists()


@pytest.mark.parametrize("lines", [[NOBODYS], [CHAT, CLAUDE], [CLAUDE, CHAT], [], [NOBODYS] * 10 + [CHAT]])
def test_what_the_asked_program_wrote_or_nobody_is_imported(root: Path, tmp_path: Path, lines: list[object]) -> None:
    """Its own line decides before those of others; only the first ten lines are looked at."""
    path = write(tmp_path / "logs" / "a.jsonl", *lines)
    assert command(["import", "claude-code", str(path), "--root", str(root)]) == 0
    assert len(list(read_events(root, "claude_code"))) == len(lines)


def test_in_a_mixed_folder_files_of_others_are_passed_over(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a line that says so; the rest is imported."""
    folder = tmp_path / "logs"
    write(folder / "a.jsonl", CHAT)
    write(folder / "b.jsonl", CLAUDE)
    write(folder / "c.jsonl", CHAT)
    assert command(["import", "claude-code", str(folder), "--root", str(root)]) == 0
    assert capsys.readouterr().err == (
        f"2 files of another program passed over; {folder / 'a.jsonl'}: "
        f"this looks like Toy; try: eventlog import toy --root {root} {folder / 'a.jsonl'}\n"
    )
    assert [msgspec.json.decode(event.payload) for _, event in read_events(root, "claude_code")] == [CLAUDE]


def test_a_file_is_looked_at_until_its_lines_show_whose_it_is(tmp_path: Path) -> None:
    """It may be empty when it is found first."""
    recognition = Recognition(next(source for source in sources.all_sources() if source.command == "claude-code"))
    path = write(tmp_path / "a.jsonl")
    assert recognition.other(path) is None
    write(path, CHAT)
    assert recognition.other(path) == sources._registered[0]


def test_a_source_that_fails_on_a_line_recognises_nothing(root: Path, tmp_path: Path) -> None:
    """A package of somebody else does not stop the import."""
    broken = msgspec.structs.replace(
        toy_source.SOURCE, name="broken", command="broken", event_types=("broken",), recognises=lambda line: line["no"]
    )
    sources.register(broken)
    path = write(tmp_path / "a.jsonl", NOBODYS)
    assert command(["import", "claude-code", str(path), "--root", str(root)]) == 0
