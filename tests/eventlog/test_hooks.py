"""`eventlog hooks`: editing the settings of Claude Code without harm, and recording what its hooks are told."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.cli import claude_settings, json_edit
from eventlog.cli.claude_settings import EVENTS
from eventlog.record.redaction.tokens import TOKENS
from tests.conftest import Run, lines_of

PATH = ".claude/settings.json"


def settings_path() -> Path:
    path = Path.home() / PATH
    path.parent.mkdir(exist_ok=True)
    return path


# -- the settings file -----------------------------------------------------------------------

FILES = {
    "an empty object": "{}",
    "with a newline": "{}\n",
    "open": "{\n}\n",
    "other settings": '{\n  "model": "opus",\n  "permissions": {"allow": ["Bash(ls:*)"]}\n}\n',
    "in one line": '{"model":"opus","env":{"A":"1"}}',
    "tabs": '{\n\t"model": "opus"\n}\n',
    "four spaces, no end": '{\n    "model": "opus"\n}',
    "Windows": '{\r\n  "model": "opus",\r\n  "hooks": {\r\n    "Stop": []\r\n  }\r\n}\r\n',
    "a byte order mark": '\ufeff{\n  "model": "opus"\n}\n',
    "odd spaces": '  {  "model"  :  "opus"  ,\n\n "n" : [ 1 ,2 ] }  \n\n',
    "escapes": '{\n  "m\\u006fdel": "\\ud83d\\ude00 ü é",\n  "path": "C:\\\\x"\n}\n',
    "no hooks": '{\n  "hooks": {}\n}\n',
    "no hooks of an event": '{\n  "hooks": {\n    "Stop": [],\n    "PreToolUse": [ ]\n  }\n}\n',
    "hooks of others": """{
  "hooks": {
    "PreToolUse": [
      {
        "matcher": "Bash",
        "hooks": [{"type": "command", "command": "guard.sh", "timeout": 5}]
      }
    ],
    "WorktreeCreate": [{"hooks": [{"type": "command", "command": "make-tree"}]}]
  },
  "model": "opus"
}
""",
    "hooks in one line": '{"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "x \'y"}]}], "Setup": [1]}}',
    "a repeated name": '{"hooks": {"Stop": []}, "hooks": {"Stop": [{"hooks": []}]}}',
}


@pytest.mark.parametrize("name", FILES)
def test_installing_adds_hooks_and_uninstalling_leaves_the_file_as_it_was(name: str, run: Run) -> None:
    """To the byte; installing twice does nothing more, and what was there keeps its place."""
    path = settings_path()
    path.write_bytes(FILES[name].encode())
    path.chmod(0o640)
    before = json.loads(FILES[name].removeprefix("\ufeff"))

    done = run("hooks", "install", "claude-code")
    assert (done.returncode, done.stderr) == (0, "")
    installed = path.read_bytes()
    settings = json.loads(installed.decode().removeprefix("\ufeff"))
    for event in EVENTS:
        *others, ours = settings["hooks"][event]
        assert others == before.get("hooks", {}).get(event, [])
        (hook,) = ours["hooks"]
        assert (hook["type"], hook["async"]) == ("command", True)
        assert shlex.split(hook["command"])[1:3] == ["-I", "-S"]
    others = {event: groups for event, groups in before.get("hooks", {}).items() if event not in EVENTS}
    assert {event: settings["hooks"][event] for event in others} == others
    assert {key: value for key, value in settings.items() if key != "hooks"} == {
        key: value for key, value in before.items() if key != "hooks"
    }
    assert path.stat().st_mode & 0o777 == 0o640
    assert (path.parent / "settings.json.before-eventlog").read_bytes() == FILES[name].encode()

    assert "already" in run("hooks", "install", "claude-code").stdout
    assert path.read_bytes() == installed
    assert f"{len(EVENTS)} hooks in {path}" in run("hooks", "list").stdout

    assert run("hooks", "uninstall", "claude-code").returncode == 0
    assert path.read_bytes() == FILES[name].encode()
    assert [each.name for each in path.parent.iterdir()] == ["settings.json"]
    assert "no hooks" in run("hooks", "uninstall", "claude-code").stdout


@pytest.mark.parametrize("name", FILES)
def test_without_its_copy_the_file_means_the_same_again(name: str, run: Run) -> None:
    """Somebody may have deleted it, or changed the settings since."""
    path = settings_path()
    path.write_bytes(FILES[name].encode())
    run("hooks", "install", "claude-code")
    (path.parent / "settings.json.before-eventlog").unlink()
    run("hooks", "uninstall", "claude-code")
    if path.exists():
        assert claude_settings._meaning(path.read_text()) == claude_settings._meaning(FILES[name])
    else:
        assert claude_settings._meaning(FILES[name]) == {}


def test_what_was_changed_since_stays(run: Run) -> None:
    """Hooks and settings of others that came later, in our groups too."""
    path = settings_path()
    path.write_text('{\n  "model": "opus"\n}\n')
    run("hooks", "install", "claude-code")
    settings = json.loads(path.read_text())
    settings["theme"] = "dark"
    settings["hooks"]["Stop"][0]["hooks"].append({"type": "command", "command": "bell"})
    settings["hooks"]["Setup"] = [{"hooks": []}]
    path.write_text(json.dumps(settings, indent=2))
    run("hooks", "uninstall", "claude-code")
    assert json.loads(path.read_text()) == {
        "model": "opus",
        "hooks": {"Stop": [{"hooks": [{"type": "command", "command": "bell"}]}], "Setup": [{"hooks": []}]},
        "theme": "dark",
    }


def test_without_a_file_there_is_one_and_then_none(run: Run) -> None:
    """In a new home."""
    assert run("hooks", "install", "claude-code").returncode == 0
    path = Path.home() / PATH
    assert set(json.loads(path.read_text())) == {"hooks"}
    assert run("hooks", "uninstall", "claude-code").returncode == 0
    assert not list(path.parent.iterdir())


def test_hooks_and_status_line_come_and_go_in_any_order(run: Run) -> None:
    """The copy is that of before the first of them."""
    path = settings_path()
    path.write_text('{ "model": "opus" }')
    for order in (("hooks", "statusline"), ("statusline", "hooks")):
        for command in ("hooks", "statusline"):
            run(command, "install", *(["claude-code"] if command == "hooks" else []))
        for command in order:
            assert path.read_text() != '{ "model": "opus" }'
            run(command, "uninstall", *(["claude-code"] if command == "hooks" else []))
        assert path.read_text() == '{ "model": "opus" }'


def test_hooks_of_another_installation_are_replaced(run: Run) -> None:
    """Such as those of an environment that is gone."""
    path = settings_path()
    old = {"type": "command", "command": "'/old env/bin/python' -I -S '/old env/lib/eventlog/__main__.py' hook"}
    path.write_text(json.dumps({"hooks": {"Stop": [{"hooks": [old]}]}}))
    run("hooks", "install", "claude-code")
    text = path.read_text()
    assert "old env" not in text
    assert len(json.loads(text)["hooks"]["Stop"]) == 1


def test_a_project_has_its_own_file(run: Run) -> None:
    """Below the current folder; a root that was given is in the command."""
    done = run("hooks", "install", "claude-code", "--project", "--root", "some root")
    assert done.returncode == 0
    path = Path.cwd() / PATH
    (hook,) = json.loads(path.read_text())["hooks"]["Stop"][0]["hooks"]
    assert shlex.split(hook["command"])[-2:] == ["--root", str(Path.cwd() / "some root")]
    assert "version control" in done.stderr


def test_the_folder_of_claude_code_is_found(run: Run, tmp_path: Path) -> None:
    """As it is configured; and a link to the file stays a link."""
    folder, real = tmp_path / "config", tmp_path / "dotfiles.json"
    folder.mkdir()
    real.write_text("{}")
    (folder / "settings.json").symlink_to(real)
    assert run("hooks", "install", "claude-code", CLAUDE_CONFIG_DIR=str(folder)).returncode == 0
    assert (folder / "settings.json").is_symlink()
    assert "hooks" in json.loads(real.read_text())


BROKEN = {
    "no JSON": (b'{"model": "opus",}', "is not JSON: "),
    "a comment": (b'{\n  // mine\n  "model": "opus"\n}', "is not JSON: "),
    "empty": (b"", "is not JSON: "),
    "no text": (b"\xff\xfe{\0}\0", "is not JSON: "),
    "NaN": (b'{"n": NaN}', "is not JSON: NaN"),
    "a list": (b"[]", "is not an object of JSON"),
    "hooks that are none": (b'{"hooks": []}', "`hooks` is not an object of lists"),
    "an event that is none": (b'{"hooks": {"Stop": {}}}', "`hooks` is not an object of lists"),
    "deep": (b'{"a":' * 100_000, "is not JSON: "),
}


@pytest.mark.parametrize(
    "command",
    [
        ["hooks", "install", "claude-code"],
        ["hooks", "uninstall", "claude-code"],
        ["statusline", "install"],
        ["hooks", "list"],
    ],
)
@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_cannot_be_edited_is_left_alone(name: str, command: list[str], run: Run) -> None:
    """And named, with what is wrong."""
    path = settings_path()
    data, fact = BROKEN[name]
    path.write_bytes(data)
    done = run(*command)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {path}")
    assert fact in done.stderr
    assert path.read_bytes() == data
    assert len(list(path.parent.iterdir())) == 1


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), _JSON, max_size=4), st.sampled_from([None, 0, 1, 4, "\t"]), _JSON)
def test_what_is_added_can_be_removed(before: dict[str, Any], indent: Any, value: Any) -> None:
    """In any layout; the rest stays to the character."""
    text = json.dumps(before, indent=indent)
    more = json_edit.added(text, 0, value, "new name")
    assert json.loads(more) == {**before, "new name": value}
    entry = json_edit.member(more, 0, "new name")
    assert entry is not None
    less = json_edit.removed(more, 0, entry)
    assert json.loads(less) == before
    assert less == text or not before


# -- recording -------------------------------------------------------------------------------

EVENT = {
    "session_id": "5f2a", "transcript_path": "/home/ada/.claude/projects/-home-ada/5f2a.jsonl", "cwd": "/home/ada",
    "hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_input": {"command": "ls"}, "tool_use_id": "toolu_1",
}  # fmt: skip


def hook(stdin: bytes, root: Path, *, start: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command of the settings file as Claude Code does."""
    env = {**os.environ, "EVENTLOG_DIR": str(root), **environment}
    command = f"{start}{claude_settings.command('hook', None)}"
    return subprocess.run(command, shell=True, input=stdin, env=env, capture_output=True, check=False, timeout=60)


def payloads(root: Path) -> list[Any]:
    return [json.loads(line)["payload"] for line in lines_of(root, "agent_hook")]


def test_hooks_are_recorded(root: Path) -> None:
    """The first by the full way, which makes the log, and later ones by the short way; with their session."""
    for n in range(3):
        done = hook(json.dumps({**EVENT, "n": n}).encode(), root)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert payloads(root) == [{**EVENT, "n": n} for n in range(3)]
    assert {json.loads(line)["session_id"] for line in lines_of(root, "agent_hook")} == {"5f2a"}


@pytest.mark.parametrize("count", [1, 2])
def test_a_secret_in_a_hook_is_redacted(count: int, root: Path) -> None:
    """In a prompt, in a command, in an answer: nothing of it is in any file below the root."""
    token = next(token.example for token in TOKENS if token.prefix == "ghp_")
    for _ in range(count):
        for part in (
            {"prompt": f"use {token}"},
            {"tool_input": {"command": f"curl -H 'Authorization: Bearer {token}' x"}},
        ):
            assert hook(json.dumps({**EVENT, **part}).encode(), root).returncode == 0
    assert len(payloads(root)) == 2 * count
    for path in root.rglob("*"):
        assert not path.is_file() or token.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(EVENT, indent=2), json.dumps({**EVENT, "prompt": "a\nb\t\\ \u2028 😀"}), json.dumps({"n": 10**30}),
        json.dumps({**EVENT, "prompt": "x" * 300_000}), json.dumps({**EVENT, "session_id": None}), "{}",
        json.dumps({**EVENT, "session_id": "a\0b"}),
        json.dumps({**EVENT, "prompt": "say -- or --help = 'it'"}), "\ufeff" + json.dumps(EVENT),
    ],
)  # fmt: skip
def test_any_object_is_recorded(text: str, root: Path) -> None:
    """As it is, first and later."""
    for count in (1, 2):
        assert hook(text.encode(), root).returncode == 0
        lines = lines_of(root, "agent_hook")
        assert len(lines) == count
        if len(text) < 100_000:  # larger ones are kept beside the log
            assert json.loads(lines[-1])["payload"] == json.loads(text.removeprefix("\ufeff"))


@pytest.mark.parametrize("stdin", [b"", b"hello", b"[1]", b'{"a": ', b"\xff\xfe", b'{"a": NaN}'])
def test_what_is_no_object_is_dropped_without_a_word(stdin: bytes, root: Path) -> None:
    """The agent must not notice."""
    done = hook(stdin, root)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert not root.exists()


@pytest.mark.parametrize(
    "environment",
    [{"EVENTLOG_DIR": ""}, {"EVENTLOG_MODE": "off"}, {"EVENTLOG_MODE": "typo"}, {"EVENTLOG_DIR": "/dev/null/x"}],
)
def test_a_log_that_cannot_be_written_is_no_error(environment: dict[str, str], root: Path) -> None:
    """Turned off, set up wrongly, or in an impossible place."""
    done = hook(json.dumps(EVENT).encode(), root, **environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("start", ["exec <&-; ", "exec >&-; ", "exec 2>&-; ", "cd /; "])
def test_odd_surroundings_are_no_error(start: str, root: Path) -> None:
    """Nothing is printed, and the exit code is 0."""
    done = hook(json.dumps(EVENT).encode(), root, start=start)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_an_input_that_stays_open_is_not_waited_for(root: Path) -> None:
    """The object is whole: that is enough."""
    env = {**os.environ, "EVENTLOG_DIR": str(root)}
    began_s = time.monotonic()
    with subprocess.Popen(
        shlex.split(claude_settings.command("hook", None)), stdin=subprocess.PIPE, env=env
    ) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(EVENT).encode())
        process.stdin.flush()
        assert process.wait(20) == 0
    assert time.monotonic() - began_s < 15
    assert payloads(root) == [EVENT]


def test_many_hooks_at_once_lose_nothing(root: Path) -> None:
    """A turn with parallel tools starts many."""
    env = {**os.environ, "EVENTLOG_DIR": str(root)}
    processes = []
    for n in range(10):
        process = subprocess.Popen(shlex.split(claude_settings.command("hook", None)), stdin=subprocess.PIPE, env=env)
        assert process.stdin is not None
        process.stdin.write(json.dumps({**EVENT, "n": n}).encode())
        process.stdin.close()
        processes.append(process)
    assert [process.wait(60) for process in processes] == [0] * 10
    assert sorted(each["n"] for each in payloads(root)) == list(range(10))


def test_a_package_in_the_current_folder_is_not_run(root: Path, tmp_path: Path) -> None:
    """A cloned project may have an `eventlog` of its own."""
    (tmp_path / "eventlog").mkdir()
    (tmp_path / "eventlog/__init__.py").write_text("raise SystemExit('not this one')")
    hook(json.dumps(EVENT).encode(), root, start=f"cd {shlex.quote(str(tmp_path))}; ")
    assert payloads(root) == [EVENT]


def test_the_python_of_the_command_is_this_one() -> None:
    """By its path: hooks run with whatever PATH there is."""
    python, *options, program, name = shlex.split(claude_settings.command("hook", None))
    assert (python, options, name) == (sys.executable, ["-I", "-S"], "hook")
    assert Path(program).is_absolute()
    assert Path(program).is_file()
