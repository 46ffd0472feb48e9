"""`eventlog import agents`: every coding agent of this machine, from where it keeps its sessions."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import codex_lines
from tests.conftest import PROJECT, Run, lines_of

CLAUDE_CODE = PROJECT / "fixtures/claude-code"


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the agents keep their sessions; nothing is there yet."""
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "claude"))
    monkeypatch.setenv("CODEX_HOME", str(tmp_path / "codex"))
    return tmp_path


def _write_rollout(home: Path) -> None:
    folder = home / "sessions/2026/06/17"
    folder.mkdir(parents=True)
    lines = [codex_lines.meta(), codex_lines.turn()]
    name = f"rollout-2026-06-17T10-00-00-{codex_lines.PARENT}.jsonl"
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))


def _until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_all_agents_are_imported_each_event_once(homes: Path, root: Path, run: Run) -> None:
    """Nothing where there are none."""
    assert run("import", "agents").stdout == "0 files: 0 new events\n"
    shutil.copytree(CLAUDE_CODE, homes / "claude/projects")
    _write_rollout(homes / "codex")
    done = run("import", "agents")
    assert (done.returncode, done.stderr) == (0, "")
    imported = [lines_of(root, "claude_code"), lines_of(root, "codex")]
    assert all(imported)
    assert "0 new events" in run("import", "agents").stdout
    assert [lines_of(root, "claude_code"), lines_of(root, "codex")] == imported


def test_agents_that_come_later_are_followed(homes: Path, root: Path) -> None:
    """Until SIGTERM, after which the log says how far each file was read."""
    command = [sys.executable, "-m", "eventlog", "import", "agents", "--follow", "--root", str(root)]
    process = subprocess.Popen(command, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == "following; stop with Ctrl-C\n"
        shutil.copytree(CLAUDE_CODE, homes / "claude/projects")
        _until(lambda: len(lines_of(root, "claude_code")) > 0)
        _write_rollout(homes / "codex")
        _until(lambda: len(lines_of(root, "codex")) > 0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()
    assert lines_of(root, "import_checkpoint")
