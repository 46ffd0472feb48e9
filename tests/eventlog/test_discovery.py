"""Where the files of a program lie: several folders, links, and what cannot be read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from eventlog.cli.main import run as run_here
from eventlog.importers import discovery
from eventlog.importers.claude_code import default_folders
from tests.conftest import Run, lines_of

LINE = '{"type":"user","sessionId":"s","uuid":"%s","message":{"role":"user","content":"x"}}\n'


def make(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text or LINE % path.stem)
    return path


def found(folder: Path) -> list[str]:
    """The paths of what is found, relative to the folder; nothing may be unreadable."""
    unreadable: list[str] = []
    files = [path.relative_to(folder).as_posix() for path in discovery.files_below(folder, ("*.jsonl",), unreadable)]
    assert unreadable == []
    return files


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    """Also where two lead to one folder, or one leads back."""
    make(tmp_path / "elsewhere/a.jsonl")
    projects = tmp_path / "projects"
    make(projects / "own/b.jsonl")
    for name in ("first", "second"):
        (projects / name).symlink_to(tmp_path / "elsewhere")
    (projects / "own/back").symlink_to(projects)
    (projects / "nowhere").symlink_to(tmp_path / "gone")
    (projects / "circle").symlink_to(projects / "circle")
    assert found(projects) == ["first/a.jsonl", "own/b.jsonl"]
    (tmp_path / "linked").symlink_to(projects)
    assert found(tmp_path / "linked") == ["first/a.jsonl", "own/b.jsonl"]


def test_links_to_files_are_not_followed(tmp_path: Path) -> None:
    """Nor is anything but a regular file read."""
    make(tmp_path / "elsewhere/a.jsonl")
    projects = tmp_path / "projects"
    make(projects / "b.jsonl")
    make(projects / "b.txt")
    (projects / "c.jsonl").symlink_to(tmp_path / "elsewhere/a.jsonl")
    os.mkfifo(projects / "d.jsonl")
    (projects / "e.jsonl").mkdir()
    assert found(projects) == ["b.jsonl"]


def test_a_link_to_a_folder_of_somebody_else_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They could let us read what we would not have looked at."""
    make(tmp_path / "elsewhere/a.jsonl")
    make(tmp_path / "projects/b.jsonl")
    (tmp_path / "projects/linked").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert found(tmp_path / "projects") == ["b.jsonl"]


CONFIGURED = {
    "nothing": ({}, [".claude/projects", ".config/claude/projects"]),
    "XDG": ({"XDG_CONFIG_HOME": "{home}/x"}, [".claude/projects", "x/claude/projects"]),
    "one folder": ({"CLAUDE_CONFIG_DIR": "{home}/c"}, ["c/projects"]),
    "a list": ({"CLAUDE_CONFIG_DIR": "{home}/c, {home}/d,"}, ["c/projects", "d/projects"]),
    "an empty text": ({"CLAUDE_CONFIG_DIR": ""}, [".claude/projects", ".config/claude/projects"]),
}


@pytest.mark.parametrize("case", CONFIGURED)
def test_where_transcripts_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """All places are looked at, and those that do not exist are passed over."""
    settings, expected = CONFIGURED[case]
    for name in ("CLAUDE_CONFIG_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value.format(home=tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folders() == [tmp_path / path for path in expected]


def test_by_default_all_places_are_imported(
    run: Run, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is enough; none is an error."""
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run("import", "claude-code").returncode == 1
    make(tmp_path / ".config/claude/projects/p/a.jsonl")
    assert run("import", "claude-code").returncode == 0
    make(tmp_path / ".claude/projects/p/b.jsonl")
    assert run("import", "claude-code").returncode == 0
    assert len(lines_of(root, "claude_code")) == 2


def test_what_cannot_be_read_is_named_and_the_rest_is_imported(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder, and a file; the command fails."""
    projects = tmp_path / "projects"
    make(projects / "good/a.jsonl")
    make(projects / "locked/b.jsonl")
    locked = make(projects / "good/c.jsonl")
    real_scan, real_open = os.scandir, Path.open

    def scan(path: Any) -> Any:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return real_scan(path)

    def open_(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(path, *arguments, **options)

    monkeypatch.setattr(os, "scandir", scan)
    monkeypatch.setattr(Path, "open", open_)
    assert run_here(["import", "claude-code", str(projects), "--root", str(root)]) == 1
    said = capsys.readouterr().err
    assert len(lines_of(root, "claude_code")) == 1
    assert f"{projects / 'locked'}: cannot be read: Permission denied" in said
    assert f"{locked}: cannot be opened: Permission denied" in said
    assert "2 files or folders failed; the rest is done" in said
