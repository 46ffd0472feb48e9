"""What today cost: kept by `eventlog cost` in a small file, shown by `eventlog statusline`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from eventlog.cli import agents
from eventlog.short import statusline
from eventlog.short.statusline import TODAY_FILE
from tests.conftest import PROJECT, Run


def kept(root: Path) -> Any:
    path = root / TODAY_FILE
    return json.loads(path.read_text()) if path.exists() else None


@pytest.fixture
def calls(run: Run) -> Run:
    """A log with a call of today, one of long ago, and one without a price; indexed."""
    for call, timestamp in (
        ({"cost_usd": "1.25"}, []), ({"cost_usd": "7"}, ["--timestamp", "2026-01-02"]),
        ({"request_model": "nobody-knows", "uncached_input_tokens": 5}, []),
    ):  # fmt: skip
        assert run("emit", "llm_call", json.dumps(call), *timestamp).returncode == 0
    assert run("index").returncode == 0
    return run


@pytest.mark.parametrize("options", [[], ["--json"], ["daily", "--since", "2026-01-01"], ["daily", "--by", "model"]])
def test_the_cost_of_today_is_kept(options: list[str], calls: Run, root: Path) -> None:
    """By any report that has it."""
    assert calls("cost", *options).returncode == 0
    assert kept(root) == {
        "day": time.strftime("%Y-%m-%d"), "cost_usd": "1.25", "calls": 2, "unpriced_calls": 1,
    }  # fmt: skip
    assert (root / TODAY_FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "options",
    [["--workspace", "w"], ["--utc"], ["--time-zone", "Asia/Tokyo"], ["--until", "2026-02-01"], ["--since", "0s"]],
)
def test_a_report_of_something_else_keeps_nothing(options: list[str], calls: Run, root: Path) -> None:
    """Of one workspace, of days of another zone, of a part of today."""
    calls("cost", "daily", *options)
    assert kept(root) is None


def test_a_root_that_cannot_be_written_to_is_no_error(calls: Run, root: Path) -> None:
    """The answer is the same."""
    answer = calls("cost", "--json").stdout
    (root / TODAY_FILE).unlink()
    (root / TODAY_FILE).mkdir()
    done = calls("cost", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["total"] == json.loads(answer)["total"]


def test_the_status_line_asks_for_what_nobody_has_kept(calls: Run, root: Path) -> None:
    """And shows it at once, or on a slow machine the next time."""
    done = calls("statusline", stdin='{"model": {"id": "m"}}')
    assert (done.returncode, done.stderr) == (0, "")
    give_up_s = time.monotonic() + 30
    while kept(root) is None and time.monotonic() < give_up_s:
        time.sleep(0.1)
    assert calls("statusline", stdin='{"model": {"id": "m"}}').stdout == "m · $1.25+ today\n"


def test_what_claude_code_wrote_meanwhile_is_imported() -> None:
    """In the background, into the default root, once the user was told that this is done."""
    assert agents._INTRODUCED == statusline._INTRODUCED_FILE
    home = Path.home()
    root = home / ".local/state/eventlog"
    environ = {name: value for name, value in os.environ.items() if name != "EVENTLOG_DIR"}
    eventlog = [sys.executable, "-m", "eventlog"]
    subprocess.run([*eventlog, "emit", "note"], env=environ, check=True, capture_output=True, timeout=60)
    transcript = home / ".claude/projects/p/main.jsonl"
    transcript.parent.mkdir(parents=True)
    text = (PROJECT / "fixtures/claude-code/main.jsonl").read_text()
    transcript.write_text(text.replace("2026-01-05T10", time.strftime("%Y-%m-%dT00", time.gmtime())))

    def shown() -> str:
        command = [*eventlog, "statusline"]
        env = {**environ, "TZ": "UTC"}
        done = subprocess.run(command, env=env, input=b"{}", capture_output=True, check=True, timeout=60)
        return done.stdout.decode()

    def shows(*, other_than: tuple[str, ...]) -> str:
        give_up_s = time.monotonic() + 60
        while (text := shown()) in other_than and time.monotonic() < give_up_s:
            time.sleep(0.1)
        return text

    assert shows(other_than=("eventlog\n",)) == "$0.00 today\n"
    (root / agents._INTRODUCED).write_text("claude_code\n")
    # What was asked for before may still write its answer, so it is asked for until there is another one.
    for name in (statusline.TODAY_FILE, statusline._ASKED_FILE):
        (root / name).unlink(missing_ok=True)
    assert shows(other_than=("eventlog\n", "$0.00 today\n")).endswith(" today\n")
    assert kept(root)["calls"]
