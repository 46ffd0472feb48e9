"""What somebody sees who has just installed it: `eventlog` alone, and `eventlog cost` beside coding agents."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT, Run
from tests.terminals import in_terminal

TRANSCRIPTS = PROJECT / "fixtures/claude-code"
ROLLOUT = {"timestamp": "2026-01-05T10:00:00Z", "type": "session_meta", "payload": {"id": "r", "cwd": "/home/ada"}}


def seen(*arguments: str, **environment: str) -> str:
    """What somebody sees who is neither a test nor CI."""
    return in_terminal(*arguments, **{"CI": "", "PYTEST_CURRENT_TEST": "", "PYTEST_VERSION": "", **environment})


@pytest.fixture
def home() -> Path:
    """The home of somebody who uses Claude Code."""
    home = Path.home()
    shutil.copytree(TRANSCRIPTS, home / ".claude/projects/engine")
    return home


def lines(shown: str) -> list[str]:
    """What stands in the terminal, without its escape sequences and what a progress bar wrote over."""
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.replace("\r\n", "\n"))
    return [line.rpartition("\r")[2].rstrip() for line in plain.split("\n")]


def log_of(home: Path) -> Path:
    return home / ".local/state/eventlog/log"


# -- eventlog cost ---------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["cost"], ["cost", "monthly"], ["sessions"]], ids=" ".join)
def test_one_command_gives_the_answer(command: list[str], home: Path) -> None:
    """It says once what it reads and how to switch that off, in lines that fit; and never again."""
    shown = lines(seen(*command))
    assert "  Claude Code: 3 transcripts in" in "\n".join(shown)
    assert any("EVENTLOG_IMPORT_AGENTS=false" in line for line in shown)
    assert any("import_agents = false" in line for line in shown)
    assert any("main" in line if command == ["sessions"] else "$" in line for line in shown)
    assert log_of(home).parent.stat().st_mode & 0o777 == 0o700
    again = lines(seen(*command))
    assert again == shown[-len(again) :]
    assert "import" not in "\n".join(again)


def test_what_was_said_since_is_in_the_next_answer(home: Path) -> None:
    """Once, although it is asked for often; from an agent that is new, too."""
    seen("sessions")
    line = json.loads((TRANSCRIPTS / "main.jsonl").read_text().splitlines()[1])
    line |= {"sessionId": "later", "uuid": "11111111-0000-4000-8000-000000000000"}
    (home / ".claude/projects/engine/later.jsonl").write_text(json.dumps(line) + "\n")
    for _ in range(2):
        assert "\n".join(lines(seen("sessions"))).count("later") == 1
    rollout = home / ".codex/sessions/2026/01/05/rollout-2026-01-05T10-00-00-r.jsonl"
    rollout.parent.mkdir(parents=True)
    rollout.write_text(json.dumps(ROLLOUT) + "\n")
    shown = "\n".join(lines(seen("sessions")))
    assert "  Codex: 1 " in shown
    assert "Claude Code:" not in shown


NOT_ASKED = {
    "a root on the command line": (["--root", "other"], {}),
    "a root in the environment": ([], {"EVENTLOG_DIR": "other"}),
    "a workspace": (["--workspace", "acme"], {}),
    "switched off": ([], {"EVENTLOG_IMPORT_AGENTS": "false"}),
    "in a test": ([], {"PYTEST_CURRENT_TEST": "test_x"}),
    "in CI": ([], {"CI": "true"}),
    "turned off": ([], {"EVENTLOG_MODE": "off"}),
    "a root on the command line, whatever the setting is": (["--root", "other"], {"EVENTLOG_IMPORT_AGENTS": "true"}),
    "a root in the environment, whatever the setting is": (
        [], {"EVENTLOG_DIR": "other", "EVENTLOG_IMPORT_AGENTS": "true"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NOT_ASKED)
def test_nothing_is_imported_where_it_is_not_asked_for(case: str, home: Path) -> None:
    """Nothing is read, written or said."""
    options, environment = NOT_ASKED[case]
    for root in (home / "other", log_of(home).parent):
        root.mkdir(parents=True)
    shown = seen("cost", *options, **environment)
    assert "Claude Code" not in shown
    assert not (home / "other/log").exists()
    assert not log_of(home).exists()


def cost(**environment: str) -> subprocess.CompletedProcess[str]:
    """`eventlog cost --json` in a pipe."""
    command = [sys.executable, "-m", "eventlog", "cost", "--json"]
    env = {"HOME": str(Path.home()), "PATH": "/usr/bin:/bin", **environment}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)


def test_without_a_terminal_it_is_done_only_if_it_is_set(home: Path) -> None:
    """By a variable or in a file; a script gets what is in the log."""
    log_of(home).parent.mkdir(parents=True)
    assert cost().returncode == 1
    assert not log_of(home).exists()
    done = cost(EVENTLOG_IMPORT_AGENTS="true")
    assert json.loads(done.stdout)["total"]["calls"] == 5
    file = home / ".config/eventlog/eventlog.toml"
    file.parent.mkdir(parents=True)
    file.write_text("import_agents = false\n")
    assert "EVENTLOG" not in cost().stderr
    file.write_text(f'import_agents = true\nroot = "{home / "mine"}"\n')
    assert json.loads(cost().stdout)["total"]["calls"] == 5
    assert (home / "mine/log").exists()


def test_an_import_that_fails_costs_no_answer(home: Path) -> None:
    """What is in the log is shown, with a line that says what is wrong."""
    seen("cost")
    (log_of(home).parent / "imports.sqlite").unlink()
    (log_of(home).parent / "imports.sqlite").mkdir()
    (home / ".claude/projects/engine/later.jsonl").write_text("{}\n")
    shown = seen("cost")
    assert "note: what is new of coding agents was not imported: " in shown
    assert "$" in shown


def test_files_of_another_program_are_passed_over(home: Path) -> None:
    """They would be events that no view reads."""
    (home / ".claude/projects/engine/other.jsonl").write_text(json.dumps(ROLLOUT) + "\n")
    seen("cost")
    assert b"session_meta" not in b"".join(path.read_bytes() for path in log_of(home).rglob("*.jsonl"))


# -- eventlog --------------------------------------------------------------------------------


def test_without_anything_recorded_it_says_how_to_begin(run: Run) -> None:
    """To each kind of user, in lines that fit a terminal."""
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Nothing is recorded yet (in ")
    for word in ("obs.run(", "eventlog import", "eventlog demo", "eventlog sql", "eventlog doctor", "eventlog --help"):
        assert word in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines()[1:])
    shown = seen()
    assert "eventlog cost        what they did and cost" in shown


def test_coding_agents_that_are_there_are_named(home: Path) -> None:
    """Nothing is imported by that."""
    shown = seen()
    assert "eventlog cost        what Claude Code did and cost" in shown
    assert not log_of(home).exists()


def test_with_something_recorded_it_says_what_is_there(run: Run) -> None:
    """Counted, with what is not indexed yet; and how to see it."""
    run("emit", "run_started", '{"name": "nightly"}', "--run-id", "r", "--session-id", "s")
    run("emit", "note")
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"\d events, 1 run, 1 session, the newest .* ago, in .*/root\.\n", done.stdout)
    for word in ("eventlog runs", "eventlog sessions", "eventlog cost", "eventlog search", "eventlog doctor"):
        assert word in done.stdout


def test_it_says_something_whatever_the_index_is(run: Run, root: Path) -> None:
    """Exit code 0: it is no question."""
    run("emit", "note")
    (root / "index.duckdb").mkdir()
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"Events of 1 type, \d+ bytes, in .*/root\.\n", done.stdout)


@pytest.mark.parametrize("setting", [{"EVENTLOG_DIR": ""}, {"EVENTLOG_MODE": "off"}], ids=str)
def test_it_says_that_eventlog_is_turned_off(setting: dict[str, str], run: Run) -> None:
    """And by what."""
    done = run(**setting)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("eventlog is turned off (")


def test_options_of_every_command_may_stand_alone(run: Run) -> None:
    """`eventlog --no-pager`."""
    assert run("--no-pager").stdout == run().stdout
    assert run("--help").stdout.startswith("Usage: ")


# -- eventlog index --------------------------------------------------------------------------


def test_indexing_much_shows_progress(run: Run, root: Path) -> None:
    """In a terminal, up to the end; nothing in a pipe."""
    run("emit", "note", "-", stdin=('{"text": "' + "x" * 50_000 + '"}\n') * 200)
    shown = seen("index", "--root", str(root))
    assert "indexing" in shown
    assert "100%" in shown
    (root / "index.duckdb").unlink()
    assert run("index").stderr == ""
