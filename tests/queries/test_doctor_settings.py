"""The doctor on settings, versions, and what is installed as eventlog."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import msgspec
import pytest

from eventlog import installation
from eventlog.config import Config
from eventlog.indexer.indexer import Indexer
from eventlog.queries.doctor import diagnose, settings
from eventlog.queries.doctor.finding import Finding, Level
from eventlog.record.recorder import Recorder


def of(check: str, findings: list[Finding]) -> list[tuple[str, str]]:
    return [(each.level.value, each.what) for each in findings if each.check == check]


def test_where_the_root_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default, the user's file, the environment, the command line: each stronger than the one before."""
    a, b, c = (str(tmp_path / name) for name in "abc")
    default = f"{os.environ['HOME']}/.local/state/eventlog"
    assert of("settings", diagnose()) == [("ok", f"root {default}, from the default; mode file_only")]
    user = Path.home() / ".config/eventlog/eventlog.toml"
    user.parent.mkdir(parents=True)
    user.write_text(f"root = '{b}'\nagent = 'a'\n")
    assert of("settings", diagnose()) == [
        ("ok", f"{user} sets root, agent"),
        ("ok", f"root {b}, from {user}; mode file_only"),
    ]
    monkeypatch.setenv("EVENTLOG_DIR", a)
    assert of("settings", diagnose()) == [
        ("ok", f"{user} sets agent"),
        ("ok", f"root {a}, from EVENTLOG_DIR; mode file_only"),
    ]
    assert of("settings", diagnose(c))[1:] == [("ok", f"root {c}, from --root; mode file_only")]


def test_what_a_projects_file_may_not_set() -> None:
    """And what it does set."""
    Path("eventlog.toml").write_text("mode = 'off'\nagent = 'a'\n")
    path = Path.cwd() / "eventlog.toml"
    left_out, sets, root = of("settings", diagnose())
    assert left_out[0] == "warning"
    assert left_out[1].startswith(f"{path} comes with the project and may only name things: mode left out")
    assert sets == ("ok", f"{path} sets agent")
    assert root[1].endswith("from the default; mode file_only")


def test_eventlog_turned_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No problem, and a log can be looked at all the same."""
    monkeypatch.setenv("EVENTLOG_DIR", "")
    findings = diagnose()
    assert of("settings", findings) == [("note", "eventlog is turned off here: nothing is recorded")]
    assert {each.check for each in findings} == {"settings", "versions", "sources"}
    assert of("root", diagnose(str(tmp_path)))
    monkeypatch.delenv("EVENTLOG_DIR")
    monkeypatch.setenv("EVENTLOG_MODE", "off")
    assert of("settings", diagnose())[0] == ("note", "mode is off: nothing is recorded")


def test_all_that_is_wrong_with_the_settings(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the first thing only; and the root that an agent would use is checked."""
    monkeypatch.setenv("EVENTLOG_DIR", str(root))
    monkeypatch.setenv("EVENTLOG_MODUS", "x")
    monkeypatch.setenv("EVENTLOG_STRICT", "perhaps")
    user = Path.home() / ".config/eventlog/eventlog.toml"
    user.parent.mkdir(parents=True)
    user.write_text("roof = 'x'\n")
    assert of("settings", diagnose()) == [
        ("problem", "unknown environment variable EVENTLOG_MODUS; did you mean EVENTLOG_MODE?"),
        ("problem", "EVENTLOG_STRICT='perhaps' is neither true nor false"),
        ("problem", f"unknown setting 'roof' in {user}; did you mean root?"),
        ("ok", f"root {root}, from EVENTLOG_DIR; mode file_only"),
    ]


def test_an_old_part_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what brings a new one."""
    versions = {"duckdb": "1.4.4", "msgspec": "0.20.0", "watchfiles": "1.0.0rc1", "zstandard": "0.23"}
    monkeypatch.setattr(metadata, "version", versions.__getitem__)
    found = [each for each in settings.versions() if each.level is not Level.OK]
    assert [(each.level.value, each.what, each.what_to_do) for each in found] == [
        (
            "problem",
            "duckdb 1.4.4 is too old for the index and all questions to it: 2.0 or newer is needed",
            "pip install --upgrade 'agent-eventlog[index]'",
        )
    ]


def _distribution(folder: Path, name: str, version: str, *files: str) -> None:
    """What pip leaves of a distribution in a folder of sys.path."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))


@pytest.mark.parametrize(("name", "file"), [("eventlog", "eventlog/admin.py"), ("django-log", "eventlog/__init__.py")])
def test_somebody_elses_eventlog(name: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is taken on the package index; what comes from there is not ours."""
    _distribution(tmp_path, name, "0.11.0", file)
    monkeypatch.syspath_prepend(tmp_path)
    fact = f"{name} 0.11.0, which is not agent-eventlog, is installed in {tmp_path}/eventlog"
    found = [each for each in settings.versions() if each.level is not Level.OK]
    assert [(each.level.value, each.what, each.what_to_do) for each in found] == [
        ("warning", f"{fact}: `import eventlog` may load it", f"pip uninstall {name}")
    ]
    monkeypatch.setattr(installation, "FOLDER", tmp_path / "eventlog")
    found = [each for each in settings.versions() if each.level is not Level.OK]
    assert [(each.level.value, each.what, each.what_to_do) for each in found] == [
        (
            "problem",
            f"{fact}, over its files",
            f"pip uninstall -y {name} && pip install --force-reinstall --no-deps agent-eventlog",
        )
    ]


def test_files_of_ours_that_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after `pip uninstall eventlog` of somebody else's. Compiled files come and go."""
    _distribution(tmp_path, "agent-eventlog", "0.1.0", "eventlog/__init__.py", "eventlog/__pycache__/a.cpython-311.pyc")
    monkeypatch.syspath_prepend(tmp_path)
    found = [each for each in settings.versions() if each.level is not Level.OK]
    assert [(each.level.value, each.what, each.what_to_do) for each in found] == [
        (
            "problem",
            "files of agent-eventlog are missing: eventlog/__init__.py",
            "pip install --force-reinstall --no-deps agent-eventlog",
        )
    ]


def test_a_machine_that_only_writes(root: Path) -> None:
    """Without DuckDB and watchfiles."""
    Recorder(Config(root=str(root), strict=True)).emit("t")
    Indexer(root).catch_up()
    code = (
        "import sys\nfor name in ('duckdb', 'watchfiles'): sys.modules[name] = None\n"
        f"sys.argv[1:] = ['doctor', '--json', '--root', {str(root)!r}]\nfrom eventlog.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    findings = msgspec.json.decode(done.stdout, type=list[Finding])
    assert of("index", findings) == [("note", "not looked into: DuckDB is not installed")]
    assert of("versions", findings)[0] == (
        "note",
        "not installed: duckdb (the index and all questions to it), watchfiles (index --watch)",
    )
