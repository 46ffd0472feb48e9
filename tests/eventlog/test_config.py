"""Settings: three places, one order, no unknown names."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import eventlog as obs
from eventlog import config
from eventlog.config import Mode
from eventlog.errors import ConfigError


def test_the_environment_is_weaker_than_the_file_and_the_file_than_code(tmp_path: Path) -> None:
    """Each setting on its own."""
    Path("eventlog.toml").write_text('workspace = "file"\nagent = "file"\n')
    environ = {"EVENTLOG_WORKSPACE": "env", "EVENTLOG_AGENT": "env", "EVENTLOG_MODE": "off", "EVENTLOG_DIR": "/e"}
    found = config.load(environ, agent="code")
    assert (found.mode, found.root, found.workspace, found.agent) == (Mode.OFF, "/e", "file", "code")


def test_the_root_by_default_and_by_xdg() -> None:
    """`~/.local/state/eventlog`, or below XDG_STATE_HOME."""
    assert config.load({}).root == str(Path.home() / ".local/state/eventlog")
    assert config.load({"XDG_STATE_HOME": "/x"}).root == "/x/eventlog"
    assert config.load({"EVENTLOG_DIR": "rel"}).root == str(Path.cwd() / "rel")
    assert config.load({"EVENTLOG_DIR": "~/log"}).root == str(Path.home() / "log")


@pytest.mark.parametrize(
    ("toml", "code", "mode", "root"),
    [
        ("", {}, Mode.OFF, ""),
        ('root = "/file"\nmode = "file_only"', {}, Mode.OFF, ""),
        ("", {"root": "/code"}, Mode.FILE_ONLY, "/code"),
    ],
)
def test_an_empty_eventlog_dir_turns_emitting_off(toml: str, code: dict[str, Any], mode: Mode, root: str) -> None:
    """It is the switch of whoever starts the program: only a root in code is stronger."""
    Path("eventlog.toml").write_text(toml)
    found = config.load({"EVENTLOG_DIR": ""}, **code)
    assert (found.mode, found.root) == (mode, root)


def test_all_settings_from_the_environment() -> None:
    """Numbers and truth values are read from text."""
    found = config.load(
        {"EVENTLOG_SEGMENT_MAX_BYTES": "8192", "EVENTLOG_SEGMENT_MAX_AGE_S": "1.5", "EVENTLOG_STRICT": "yes"}
    )
    assert (found.segment_max_bytes, found.segment_max_age_s, found.strict) == (8192, 1.5, True)


@pytest.mark.parametrize(
    ("environ", "toml", "code", "reason"),
    [
        ({"EVENTLOG_MOD": "off"}, "", {}, "unknown environment variable EVENTLOG_MOD; did you mean EVENTLOG_MODE?"),
        (
            {"EVENTLOG_MODE": "fast"},
            "",
            {},
            "mode = 'fast' in the environment: Invalid enum value 'fast' - at `$.mode`; "
            "it is one of file_only, dual, db_only, off",
        ),
        ({"EVENTLOG_SEGMENT_MAX_BYTES": "many"}, "", {}, "EVENTLOG_SEGMENT_MAX_BYTES='many' is not a number"),
        ({"EVENTLOG_SEGMENT_MAX_BYTES": "1"}, "", {}, "`int` >= 4096"),
        ({"EVENTLOG_STRICT": "perhaps"}, "", {}, "neither true nor false"),
        ({}, "wrokspace = 'x'", {}, "unknown setting 'wrokspace' in eventlog.toml; did you mean workspace?"),
        ({}, "mode = ", {}, "eventlog.toml cannot be read as TOML"),
        ({}, "strict = 1", {}, "Expected `bool`, got `int`"),
        ({"EVENTLOG_CONFIG": "/nowhere.toml"}, "", {}, "names /nowhere.toml, which does not exist"),
        ({}, "", {"rooot": "x"}, "unknown setting 'rooot' in configure(); did you mean root?"),
    ],
)
def test_what_is_wrong_is_named_with_the_nearest_right_thing(
    environ: dict[str, str], toml: str, code: dict[str, Any], reason: str
) -> None:
    """The place, the key, and a suggestion."""
    Path("eventlog.toml").write_text(toml)
    with pytest.raises(ConfigError) as caught:
        config.load(environ, **code)
    assert reason in str(caught.value)


def test_a_bad_variable_does_not_stop_an_agent_or_lose_its_events(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without configure(), the defaults apply under the given root, and the log says so."""
    monkeypatch.setenv("EVENTLOG_DIR", str(root))
    monkeypatch.setenv("EVENTLOG_MODUS", "x")
    with caplog.at_level(logging.ERROR, "eventlog"):
        assert obs.emit("t") is not None
    assert (root / "log/t").is_dir()
    assert "did you mean EVENTLOG_MODE?" in caplog.text


def test_configure_takes_effect_at_once_and_can_be_repeated(tmp_path: Path) -> None:
    """Events go to the root of the moment; sinks stay."""
    sink = obs.MemorySink()
    obs.add_sink(sink)
    for name in ("a", "b"):
        obs.configure(root=tmp_path / name, mode=Mode.FILE_ONLY)
        obs.emit("t", {"to": name})
        assert (tmp_path / name / "log/t").is_dir()
    assert [event.data()["to"] for event in sink.events] == ["a", "b"]


@pytest.mark.parametrize(
    ("environ", "toml", "root"),
    [
        ({}, "rot = 'x'", "home/.local/state/eventlog"),
        ({"XDG_STATE_HOME": "xdg", "EVENTLOG_MODUS": "x"}, "", "home/xdg/eventlog"),
        ({"EVENTLOG_DIR": "dir", "EVENTLOG_MODE": "fast"}, "", "home/dir"),
        ({"EVENTLOG_MODE": "off", "EVENTLOG_MODUS": "x"}, "", None),
        ({"EVENTLOG_DIR": "", "EVENTLOG_MODUS": "x"}, "", None),
    ],
)
def test_a_broken_configuration_keeps_where_and_whether_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], toml: str, root: str | None
) -> None:
    """Nothing is raised into the agent, whatever the mistake."""
    Path("eventlog.toml").write_text(toml)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert (obs.emit("t") is not None) == (root is not None)
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("log")] == ([Path(root, "log")] if root else [])
