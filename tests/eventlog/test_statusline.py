"""`eventlog statusline`: one line and exit code 0, whatever it is given; and its entry in Claude Code's settings."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventlog.cli import claude_settings
from eventlog.short import statusline
from tests.conftest import Run

SESSION: dict[str, Any] = {
    "hook_event_name": "Status",
    "session_id": "5f2a",
    "cwd": "/home/ada/engine",
    "model": {"id": "claude-opus-4-8", "display_name": "Opus 4.8"},
    "workspace": {"current_dir": "/home/ada/engine", "project_dir": "/home/ada/engine"},
    "cost": {"total_cost_usd": 0.4171, "total_duration_ms": 45000, "total_lines_added": 3},
    "context_window": {"context_window_size": 200000, "used_percentage": 26, "remaining_percentage": 74},
    "rate_limits": {"five_hour": {"used_percentage": 41.7, "resets_at": 1781290000}},
}
LINE = "Opus 4.8 · context 26% · $0.42 session · 5-hour limit 42%"


def shown(stdin: bytes | None, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """What the command of the settings file prints."""
    command = shlex.split(claude_settings.command("statusline", None))
    return subprocess.run(
        [*command, *arguments],
        input=stdin,
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
        timeout=30,
    )


def with_(name: str, value: object) -> bytes:
    return json.dumps({**SESSION, name: value}).encode()


def without(*names: str) -> bytes:
    return json.dumps({name: value for name, value in SESSION.items() if name not in names}).encode()


_NO_AMOUNTS: tuple[object, ...] = ("0.42", -1, True, None, [], {}, 1e300)
INPUTS: dict[str, tuple[bytes, str]] = {
    "a session": (json.dumps(SESSION).encode(), LINE),
    "over several lines": (json.dumps(SESSION, indent=2).encode() + b"\n", LINE),
    "a byte order mark": (b"\xef\xbb\xbf" + json.dumps(SESSION).encode(), LINE),
    "no subscription": (without("rate_limits"), "Opus 4.8 · context 26% · $0.42 session"),
    "before the first answer": (
        json.dumps({**SESSION, "context_window": {"used_percentage": None}, "cost": None}).encode(),
        "Opus 4.8 · 5-hour limit 42%",
    ),
    "tokens instead of a percentage": (
        with_("context_window", {"context_window_size": 200000, "current_usage": {
            "input_tokens": 10000, "cache_creation_input_tokens": 10000, "cache_read_input_tokens": 80000}}),
        LINE.replace("26%", "50%"),
    ),
    "an id alone": (with_("model", {"id": "claude-opus-4-8"}), LINE.replace("Opus 4.8", "claude-opus-4-8")),
    "a control sequence": (with_("model", {"display_name": "\x1b[31mO\npus"}), LINE.replace("Opus 4.8", "�[31mO�pus")),
    "a long name": (with_("model", {"display_name": "x" * 500}), LINE.replace("Opus 4.8", "x" * 39 + "…")),
    "an unpaired surrogate": (with_("model", {"display_name": "\ud800"}), LINE.replace("Opus 4.8", "�")),
    "nothing spent": (with_("cost", {"total_cost_usd": 0}), LINE.replace("$0.42", "$0.00")),
    "less than a cent": (with_("cost", {"total_cost_usd": 0.00123}), LINE.replace("$0.42", "$0.0012")),
    "hardly anything": (with_("cost", {"total_cost_usd": 1e-9}), LINE.replace("$0.42", "under $0.0001")),
    "thousands": (with_("cost", {"total_cost_usd": 1234.5}), LINE.replace("$0.42", "$1,234.50")),
    **{
        f"a cost that is {value!r}": (with_("cost", {"total_cost_usd": value}), LINE.replace("$0.42 session · ", ""))
        for value in _NO_AMOUNTS
    },
    "objects that are none": (
        json.dumps({"model": "x", "cost": 1, "context_window": [], "rate_limits": "x"}).encode(), "eventlog"
    ),
    "infinity": (b'{"model": {"id": "m"}, "cost": {"total_cost_usd": 1e999}}', "m"),
    "NaN": (b'{"model": {"id": "m"}, "cost": {"total_cost_usd": NaN}}', "eventlog"),
    "an endless number": (b'{"cost": {"total_cost_usd": ' + b"9" * 9999 + b"}}", "eventlog"),
    "nothing": (b"", "eventlog"),
    "a torn object": (json.dumps(SESSION).encode()[:-5], "eventlog"),
    "two objects": (b"{} {}", "eventlog"),
    "a list": (b"[1]", "eventlog"),
    "no JSON": (b"hello", "eventlog"),
    "no text": (bytes(range(256)), "eventlog"),
    "deep": (b'{"a":' * 100_000, "eventlog"),
}  # fmt: skip


@pytest.mark.parametrize("case", INPUTS)
def test_one_line_and_no_error_for_any_input(case: str) -> None:
    """There is no root, and nothing is made."""
    stdin, line = INPUTS[case]
    done = shown(stdin)
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, f"{line}\n", b"")
    assert not list(Path.home().iterdir())


def test_the_command_says_the_same(run: Run) -> None:
    """As one would try it in a shell."""
    done = run("statusline", stdin=json.dumps(SESSION))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{LINE}\n", "")


@pytest.mark.parametrize("text", ["mode = 'dual'", "not toml", "agent = 'x'", "root = '/dev/null/x'"])
@pytest.mark.parametrize("name", ["eventlog.toml", ".config/eventlog/eventlog.toml"])
def test_settings_of_any_kind_are_no_error(name: str, text: str) -> None:
    """They can name another root, so they are read; what is wrong in them is not told here."""
    path = Path.home() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    done = shown(json.dumps(SESSION).encode())
    assert (done.returncode, done.stdout.decode()) == (0, f"{LINE}\n")


@pytest.mark.parametrize("sent", [b"", b"{", json.dumps(SESSION).encode()])
def test_an_input_that_stays_open_is_not_waited_for(sent: bytes) -> None:
    """A whole object is shown; for the rest of one, a second is enough."""
    command = shlex.split(claude_settings.command("statusline", None))
    began_s = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(sent)
        process.stdin.flush()
        said = process.stdout.read().decode()
        assert process.wait(10) == 0
        process.stdin.close()
    assert said == (f"{LINE}\n" if len(sent) > 1 else "eventlog\n")
    assert time.monotonic() - began_s < 8


@pytest.mark.parametrize("redirection", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "> /dev/full", "< /dev/null", "| true"])
def test_closed_descriptors_are_no_error(redirection: str) -> None:
    """Nor a reader that is gone."""
    command = f"set -o pipefail; {claude_settings.command('statusline', None)} {redirection}"
    done = subprocess.run(["bash", "-c", command], input=b"", capture_output=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")


def test_hardly_anything_is_loaded() -> None:
    """A prompt waits for this: no JSON module, no regular expressions, no types."""
    program = (
        "import posix as os, sys\nended = os._exit\n"
        "def end(code):\n"
        "    heavy = {'os', 're', 'json', 'typing', 'enum', 'msgspec', 'collections'} & set(sys.modules)\n"
        "    sys.stderr.write(' '.join(sorted(heavy)))\n"
        "    sys.stderr.flush(); ended(code)\n"
        "os._exit = end\n"
    )
    path = str(Path(claude_settings.__file__).parents[1] / "__main__.py")
    program += f"sys.argv = [{path!r}, 'statusline']\n__file__ = {path!r}\nexec(open(__file__).read())\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], input=b"{}", capture_output=True, check=False, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"eventlog\n", b"")


# -- today -----------------------------------------------------------------------------------


def today(root: Path, **changes: object) -> None:
    """Write the file as `eventlog cost` does."""
    root.mkdir(exist_ok=True)
    content = {"day": time.strftime("%Y-%m-%d"), "cost_usd": "4.930000000000000000", "calls": 3, "unpriced_calls": 0}
    (root / statusline.TODAY_FILE).write_text(json.dumps({**content, **changes}))


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({}, " · $4.93 today"),
        ({"unpriced_calls": 2}, " · $4.93+ today"),
        ({"cost_usd": "0"}, " · $0.00 today"),
        ({"day": "2020-01-01"}, ""),
        ({"cost_usd": None}, ""),
        ({"cost_usd": []}, ""),
    ],
)
def test_what_today_cost_comes_from_a_small_file(changes: dict[str, object], part: str, root: Path) -> None:
    """One of another day, or one that is broken, is not shown."""
    today(root, **changes)
    done = shown(json.dumps(SESSION).encode(), EVENTLOG_DIR=str(root))
    assert done.stdout.decode() == LINE.replace(" session", f" session{part}") + "\n"


@pytest.mark.parametrize("kind", ["fifo", "folder", "link", "torn"])
def test_anything_may_stand_in_its_place(kind: str, root: Path) -> None:
    """A FIFO is not waited for, and a link is not followed."""
    root.mkdir()
    path = root / statusline.TODAY_FILE
    make: dict[str, Callable[[], object]] = {
        "fifo": lambda: os.mkfifo(path), "folder": path.mkdir, "link": lambda: path.symlink_to("/dev/zero"),
        "torn": lambda: path.write_text('{"day":'),
    }  # fmt: skip
    make[kind]()
    done = shown(json.dumps(SESSION).encode(), EVENTLOG_DIR=str(root))
    assert (done.returncode, done.stdout.decode()) == (0, f"{LINE}\n")


def test_a_root_that_may_not_be_written_to_is_no_error(root: Path) -> None:
    """Nor is one that is a file."""
    root.write_text("")
    assert shown(json.dumps(SESSION).encode(), EVENTLOG_DIR=str(root)).stdout.decode() == f"{LINE}\n"


# -- in the settings -------------------------------------------------------------------------


def test_it_is_written_into_the_settings_and_taken_out_again(run: Run) -> None:
    """The rest of the file stays, to the byte; and what stands there prints the line."""
    path = Path.home() / ".claude/settings.json"
    path.parent.mkdir()
    path.write_text('{\n    "model": "opus"   ,\n    "hooks": {}\n}')
    before = path.read_bytes()
    assert run("statusline", "install").returncode == 0
    settings = json.loads(path.read_text())
    assert settings["model"] == "opus"
    assert settings["statusLine"]["type"] == "command"
    done = subprocess.run(
        settings["statusLine"]["command"],
        shell=True,
        input=json.dumps(SESSION),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{LINE}\n"
    installed = path.read_bytes()
    assert "already" in run("statusline", "install").stdout
    assert path.read_bytes() == installed
    assert run("statusline", "uninstall").returncode == 0
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["settings.json"]


def test_another_status_line_stays(run: Run) -> None:
    """It is named, and neither installing nor uninstalling touches it."""
    path = Path.home() / ".claude/settings.json"
    path.parent.mkdir()
    path.write_text('{"statusLine": {"type": "command", "command": "mine.sh"}}')
    before = path.read_bytes()
    done = run("statusline", "install")
    assert done.returncode == 2
    assert "mine.sh" in done.stderr
    assert "no status line" in run("statusline", "uninstall").stdout
    assert path.read_bytes() == before
