"""What one expects of any command: completion, colours, one style of errors, JSON, exit codes for monitoring."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

from eventlog.cli.main import COMMANDS, _globals_first, existing_root
from eventlog.cli.main import root as group
from eventlog.errors import ConfigError
from tests.conftest import Run
from tests.terminals import in_terminal

# -- colours and pages -----------------------------------------------------------------------

COLOURS: dict[str, tuple[list[str], dict[str, str], bool]] = {
    "by default": ([], {}, True),
    "NO_COLOR": ([], {"NO_COLOR": "1"}, False),
    "an empty NO_COLOR": ([], {"NO_COLOR": ""}, True),
    "a dumb terminal": ([], {"TERM": "dumb"}, False),
    "never": (["--color", "never"], {}, False),
    "always": (["--color=always"], {"NO_COLOR": "1"}, True),
}


@pytest.mark.parametrize("command", ["tail", "search", "doctor"])
@pytest.mark.parametrize("case", COLOURS)
def test_colours_are_as_asked_for(case: str, command: str, root: Path, run: Run) -> None:
    """By options, which may stand behind the command, and by variables; and none in a pipe."""
    options, environment, is_coloured = COLOURS[case]
    run("emit", "note", '{"text": "needle"}', "--agent", "a")
    run("index")
    arguments = [command, *(["needle"] if command == "search" else []), "--root", str(root)]
    assert ("\x1b[" in in_terminal(*arguments, *options, **environment)) == is_coloured


def test_a_pipe_has_colours_only_if_they_are_asked_for(run: Run) -> None:
    """For `less -R`, say."""
    run("emit", "note")
    assert "\x1b" not in run("doctor").stdout
    assert "\x1b[" in run("--color", "always", "doctor").stdout


def test_no_pager_is_obeyed(root: Path, run: Run, tmp_path: Path) -> None:
    """Before the command and behind it."""
    run("emit", "note", json.dumps({str(n): n for n in range(60)}))
    run("index")
    event_id = json.loads(run("tail").stdout)["event_id"]
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho PAGED\ncat\n")
    pager.chmod(0o755)
    show = ["show", event_id, "--root", str(root)]
    assert "PAGED" in in_terminal(*show, PAGER=str(pager))
    for arguments in ([*show, "--no-pager"], ["--no-pager", *show]):
        shown = in_terminal(*arguments, PAGER=str(pager))
        assert "PAGED" not in shown
        assert event_id in shown


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["runs", "--debug"], ["--debug", "runs"]),
        (["runs", "--color", "never", "--json"], ["--color", "never", "runs", "--json"]),
        (["search", "--color=never", "x"], ["--color=never", "search", "x"]),
        (["search", "--", "--debug"], ["search", "--", "--debug"]),
        (["runs", "--color"], ["--color", "runs"]),
    ],
)
def test_options_of_every_command_come_first(arguments: list[str], expected: list[str]) -> None:
    """But for what follows `--`."""
    assert _globals_first(arguments) == expected


# -- completion ------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_printed(shell: str, run: Run) -> None:
    """By the command, and by the variable that click has for it."""
    printed = run("completion", shell)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert f"_EVENTLOG_COMPLETE={shell}_complete" in printed.stdout
    assert run(_EVENTLOG_COMPLETE=f"{shell}_source").stdout.strip() == printed.stdout.strip()


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("eventlog se", ["sessions", "search", "service", "serve", "seal"]),
        ("eventlog alerts li", ["list"]),
        ("eventlog tail --fo", ["--follow"]),
    ],
)
def test_words_are_completed(words: str, completed: list[str], run: Run) -> None:
    """Commands, their commands, and options."""
    done = run(_EVENTLOG_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(words.count(" ")))
    assert [line.partition(",")[2] for line in done.stdout.splitlines()] == completed


def test_bash_completes() -> None:
    """The script is what bash takes."""
    script = (
        'eval "$(eventlog completion bash)"; COMP_WORDS=(eventlog doct); COMP_CWORD=1; '
        '_eventlog_completion eventlog; echo "${COMPREPLY[@]}"'
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("doctor\n", "")


# -- help and errors -------------------------------------------------------------------------


def groups() -> dict[str, click.Group]:
    """The groups of commands by their names."""
    context = click.Context(group)
    found = {name: group.get_command(context, name) for name in COMMANDS}
    return {"": group} | {name: each for name, each in found.items() if isinstance(each, click.Group)}


@pytest.mark.parametrize(
    "name", ["", "import", "cost", "alerts", "export", "quarantine", "hooks", "statusline", "service"]
)
def test_each_command_has_one_line_of_help(name: str) -> None:
    """In 80 columns, and nothing is cut."""
    shown = groups()[name]
    context = click.Context(shown, info_name="eventlog", terminal_width=80)
    listed = shown.get_help(context).split("Commands:\n")[1].splitlines()
    assert [line.split()[0] for line in listed] == shown.list_commands(context)
    assert not [line for line in listed if "..." in line or len(line) > 80]


def test_every_group_is_looked_at() -> None:
    """By the test above."""
    assert set(groups()) == {
        "",
        "import",
        "cost",
        "alerts",
        "export",
        "quarantine",
        "hooks",
        "statusline",
        "keys",
        "service",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs", "--frm"], "error: no such option '--frm'; try: eventlog runs --help\n"),
        (["emit"], "error: missing argument 'TYPE'; try: eventlog emit --help\n"),
        (["seal", "--type", "nope"], "error: the log has no events of type nope; there are: t\n"),
        (["archive", "--type", "nope"], "error: the log has no events of type nope; there are: t\n"),
        (["prune", "--type", "nope"], "error: the log has no events of type nope; there are: t\n"),
        (["runs", "--color", "blue"],
         "error: invalid value for '--color': 'blue' is not one of 'auto', 'always', 'never'; try: eventlog --help\n"),
    ],
)  # fmt: skip
def test_errors_have_one_style(arguments: list[str], message: str, run: Run) -> None:
    """Ours and click's: one line, and what to try."""
    run("emit", "t")
    done = run(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


def test_hints_repeat_the_root_that_was_given(run: Run, tmp_path: Path) -> None:
    """Quoted where a shell needs it; one from the environment applies anyway."""
    root = str(tmp_path / "my root")
    run("emit", "t", "--root", root)
    hint = f"eventlog index --root '{root}'"
    shown = run("runs", "--no-index", "--root", root).stderr
    assert shown == f"error: there is no index at {root}/index.duckdb; try: {hint}\n"
    assert f"index        none; try: {hint}\n" in run("status", "--root", root).stdout
    assert "there is no folder" in run("runs").stderr
    run("index", "--root", root)
    assert run("show", "x", "--root", root).stderr.count(f"--root '{root}'") == 3
    run("backup", str(tmp_path / "backup"), "--root", root)
    new = str(tmp_path / "new root")
    assert run("restore", str(tmp_path / "backup"), "--root", new).stderr == f"next: eventlog replay --root '{new}'\n"


@contextmanager
def as_nobody() -> Iterator[None]:
    """The superuser has all rights."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_folder_without_rights_is_not_called_missing() -> None:
    """Neither the root, nor one above it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as above:
        root = Path(above, "root")
        root.mkdir(mode=0o300)
        Path(above).chmod(0o755)
        with as_nobody(), pytest.raises(ConfigError, match=f"{root}: permission denied: uid .* may not read it"):
            existing_root(str(root))
        Path(above).chmod(0o600)
        with as_nobody(), pytest.raises(ConfigError, match="may not read a folder above it"):
            existing_root(str(root))
        Path(above).chmod(0o700)


# -- for programs ----------------------------------------------------------------------------


def test_what_maintenance_did_as_json(run: Run, tmp_path: Path) -> None:
    """Each in its own struct; sizes are what is on disk."""
    (tmp_path / "x.jsonl").write_text('{"a": "' + "x" * 5000 + '"}\n')
    imported = json.loads(run("import", "jsonl", str(tmp_path / "x.jsonl"), "--type", "t", "--json").stdout)
    assert (imported["sources"], imported["lines"], imported["events"], imported["rejected"]) == (1, 1, 1, 0)
    indexed = json.loads(run("index", "--json").stdout)
    assert (indexed["events"], indexed["rejected"]) == (2, 0)
    sealed = json.loads(run("seal", "--json").stdout)
    assert (sealed["segments"], sealed["head"].partition(":")[0]) == (2, str(len(sealed["seals"]) + 1))
    archived = json.loads(run("archive", "--json").stdout)
    assert archived["bytes_after"] < archived["bytes_before"]
    would = json.loads(run("backup", str(tmp_path / "backup"), "--json", "--dry-run").stdout)
    copied = json.loads(run("backup", str(tmp_path / "backup"), "--json").stdout)
    assert would["copied_bytes"] == copied["copied_bytes"]
    assert copied["copied_bytes"] < archived["bytes_before"]
    assert copied["failures"] == []
    run("index")
    pruned = json.loads(run("prune", "--older-than", "0s", "--type", "t", "--json").stdout)
    (segment,) = pruned["pruned"]
    assert 0 < pruned["disk_bytes"][segment["segment"]] < segment["size_bytes"]
    restored = json.loads(run("restore", str(tmp_path / "backup"), "--json").stdout)
    assert (restored["restored"], restored["restored_bytes"]) == (1, pruned["disk_bytes"][segment["segment"]])
    assert json.loads(run("doctor", "--json").stdout)[0]["check"] == "settings"


@pytest.mark.parametrize(
    ("is_indexed", "max_lag", "code", "word"),
    [
        (True, "60s", 0, ""),
        (False, "1h", 0, ""),
        (False, "0s", 1, "behind, more than 0 s"),
        (True, "soon", 2, "not a length"),
    ],
)
def test_status_tells_monitoring_of_a_lag(is_indexed: bool, max_lag: str, code: int, word: str, run: Run) -> None:
    """By its exit code, and in words."""
    run("emit", "t")
    assert run("status", "--max-lag", "1h").returncode == 1, "there is no index"
    run("index")
    if not is_indexed:
        run("emit", "t")
    done = run("status", "--max-lag", max_lag)
    assert done.returncode == code
    assert word in done.stderr


def test_watching_is_quiet_and_asks_whether_a_missing_root_is_meant(tmp_path: Path) -> None:
    """Nothing is printed but problems; a folder that is not there is one."""
    root = tmp_path / "mistyped"
    process = subprocess.Popen(
        [sys.executable, "-m", "eventlog", "index", "--watch", "--quiet", "--root", str(root)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stderr.readline() == (
        f"warning: there is no folder {root} yet; is the name right? Waiting for its first event\n"
    )
    assert process.stderr.readline() == f"watching {root}; stop with Ctrl-C\n"
    subprocess.run(
        [sys.executable, "-m", "eventlog", "emit", "t", "--root", str(root)], check=True, capture_output=True
    )
    give_up_s = time.monotonic() + 30
    while not (root / "index.duckdb").exists() and time.monotonic() < give_up_s:
        time.sleep(0.05)
    process.terminate()
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")


def test_a_bucket_without_credentials_is_refused_at_once(run: Run) -> None:
    """Instead of asking a service that only Amazon's machines have."""
    pytest.importorskip("obstore")
    run("emit", "t")
    environment = {name: "" for name in os.environ if name.startswith("AWS_")}
    done = run("backup", "s3://bucket/x", **environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: s3://bucket/x: there are no credentials; set AWS_ACCESS_KEY_ID")
