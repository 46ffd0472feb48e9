"""Settings: four places, one order, no unknown names."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import eventlog as obs
from eventlog import config
from eventlog.config import Config, Mode, trust
from eventlog.durability import Durability
from eventlog.errors import ConfigError

#: Each setting: a value for each place, as the environment has it, and the same as Config has it.
VALUES: dict[str, list[tuple[str, Any, Any]]] = {
    "root": [(path, path, path) for path in ("/1", "/2", "/3", "/4")],
    "mode": [(mode.value, mode.value, mode) for mode in (Mode.DUAL, Mode.DB_ONLY, Mode.OFF, Mode.DUAL)],
    "url": [(f"http://{name}", f"http://{name}", f"http://{name}") for name in "abcd"],
    "key": [(f"evk_{name}", f"evk_{name}", f"evk_{name}") for name in "abcd"],
    "segment_max_bytes": [(str(size), size, size) for size in (5001, 5002, 5003, 5004)],
    "catch_up_s": [(str(time), time, time) for time in (0.0, 1.5, 2.5, 3.5)],
    "import_agents": [("false", False, False), ("true", True, True)] * 2,
    "keep_answers": [("false", False, False), ("true", True, True)] * 2,
    "segment_max_age_s": [(str(age), age, age) for age in (1.5, 2.5, 3.5, 4.5)],
    "durability": [("synced", "synced", Durability.SYNCED), ("written", "written", Durability.WRITTEN)] * 2,
    "budget_usd_per_day": [(str(usd), usd, usd) for usd in (1.5, 2.5, 3.5, 4.5)],
    "budget_usd_per_month": [(str(usd), usd, usd) for usd in (10.5, 20.5, 30.5, 40.5)],
    "sync_interval_s": [(str(age), age, age) for age in (1.5, 2.5, 3.5, 4.5)],
    "workspace": [(name, name, name) for name in "abcd"],
    "agent": [(name, name, name) for name in "abcd"],
    "strict": [("true", True, True), ("false", False, False)] * 2,
    "redact": [("false", False, False), ("true", True, True)] * 2,
    "blob_min_bytes": [(str(size), size, size) for size in (5001, 5002, 5003, 5004)],
}
DEFAULTS = Config(root="")
#: The places, the strongest first.
PLACES = ("code", "environment", "user", "project")


def set_in(places: Iterable[str], name: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Set a setting in some places, to another value in each; return the environment and what code sets."""
    values = dict(zip(PLACES, VALUES[name], strict=True))
    for place, path in (("user", Path(".config/eventlog/eventlog.toml")), ("project", Path("eventlog.toml"))):
        if place in places:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name} = {json.dumps(values[place][1])}\n")
    environ = {config._VARIABLES[name]: values["environment"][0]} if "environment" in places else {}
    return environ, {name: values["code"][1]} if "code" in places else {}


@pytest.mark.parametrize("trusted", [False, True], ids=["stranger", "trusted"])
@pytest.mark.parametrize("weakest", range(len(PLACES)), ids=PLACES)
@pytest.mark.parametrize("strongest", range(len(PLACES)), ids=PLACES)
@pytest.mark.parametrize("name", VALUES)
def test_the_strongest_place_wins(name: str, strongest: int, weakest: int, trusted: bool) -> None:
    """Code, environment, the user's file, the project's file; of the last one names only, unless it is trusted."""
    places = PLACES[strongest : weakest + 1]
    environ, code = set_in(places, name)
    if trusted and Path("eventlog.toml").exists():
        trust.add({}, Path.cwd(), Path("eventlog.toml").read_bytes())
    counts = [place for place in places if place != "project" or trusted or name in ("workspace", "agent")]
    resolved = config.resolve(environ, code)
    by_default = str(Path.home() / ".local/state/eventlog") if name == "root" else getattr(DEFAULTS, name)
    expected = VALUES[name][PLACES.index(counts[0])][2] if counts else by_default
    assert getattr(resolved.config, name) == expected
    assert resolved.problems == []
    assert bool(resolved.left_out) == ("project" in places and "project" not in counts)


def test_the_table_of_values_has_every_setting() -> None:
    """But for the one that only code sets, and the table that only files have."""
    assert {*VALUES, "operator", "server"} == set(Config.__struct_fields__)


def test_the_root_by_default_and_by_xdg() -> None:
    """`~/.local/state/eventlog`, or below XDG_STATE_HOME."""
    assert config.load({}).root == str(Path.home() / ".local/state/eventlog")
    assert config.load({"XDG_STATE_HOME": "/x"}).root == "/x/eventlog"
    assert config.load({"EVENTLOG_DIR": "rel"}).root == str(Path.cwd() / "rel")
    assert config.load({"EVENTLOG_DIR": "~/log"}).root == str(Path.home() / "log")


def user_file() -> Path:
    """The user's own file, whose folder is there."""
    path = Path.home() / ".config/eventlog/eventlog.toml"
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize(
    ("toml", "code", "mode", "root"),
    [
        ("", {}, Mode.OFF, ""),
        ('root = "/file"\nmode = "file_only"', {}, Mode.OFF, ""),
        ("", {"mode": "dual"}, Mode.OFF, ""),
        ("", {"root": "/code"}, Mode.FILE_ONLY, "/code"),
    ],
)
def test_an_empty_eventlog_dir_turns_emitting_off(toml: str, code: dict[str, Any], mode: Mode, root: str) -> None:
    """It is the switch of whoever starts the program: only a root in code is stronger."""
    user_file().write_text(toml)
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
            "it is one of file_only, remote, dual, db_only, off",
        ),
        ({"EVENTLOG_SEGMENT_MAX_BYTES": "many"}, "", {}, "EVENTLOG_SEGMENT_MAX_BYTES='many' is not a number"),
        ({"EVENTLOG_SEGMENT_MAX_BYTES": "1"}, "", {}, "`int` >= 4096"),
        ({"EVENTLOG_STRICT": "perhaps"}, "", {}, "neither true nor false"),
        ({}, "wrokspace = 'x'", {}, ".config/eventlog/eventlog.toml; did you mean workspace?"),
        ({}, "mode = ", {}, "eventlog.toml cannot be read as TOML"),
        ({}, "operator = true", {}, "this can be set in code only"),
        ({}, "strict = 1", {}, "Expected `bool`, got `int`"),
        ({"EVENTLOG_CONFIG": "/nowhere.toml"}, "", {}, "names /nowhere.toml, which does not exist"),
        ({}, "", {"rooot": "x"}, "unknown setting 'rooot' in configure(); did you mean root?"),
    ],
)
def test_what_is_wrong_is_named_with_the_nearest_right_thing(
    environ: dict[str, str], toml: str, code: dict[str, Any], reason: str
) -> None:
    """The place, the key, and a suggestion."""
    user_file().write_text(toml)
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
        ({}, "root = '../other'\nrot = 'x'", "home/.config/other"),
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
    user_file().write_text(toml)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert (obs.emit("t") is not None) == (root is not None)
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("log")] == ([Path(root, "log")] if root else [])
