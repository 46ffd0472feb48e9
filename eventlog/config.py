"""Settings from the environment, from eventlog.toml, and from code; the later ones override the earlier ones.

| setting            | environment                | meaning                                          |
| ------------------ | -------------------------- | ------------------------------------------------ |
| root               | EVENTLOG_DIR               | folder of log and index; "" turns emitting off   |
| mode               | EVENTLOG_MODE              | file_only, dual, db_only, off                    |
| segment_max_bytes  | EVENTLOG_SEGMENT_MAX_BYTES | a new segment begins at this size                |
| segment_max_age_s  | EVENTLOG_SEGMENT_MAX_AGE_S | … and at this age                                |
| durability         | EVENTLOG_DURABILITY        | what an emitted event survives: written, synced  |
| sync_interval_s    | EVENTLOG_SYNC_INTERVAL_S   | seconds between syncs in the background; 0: none |
| workspace          | EVENTLOG_WORKSPACE         | for events whose context names none              |
| agent              | EVENTLOG_AGENT             | for events whose context names none              |
| strict             | EVENTLOG_STRICT            | emit raises instead of counting and logging      |
| redact             | EVENTLOG_REDACT            | secrets are redacted before writing              |
| blob_min_bytes     | EVENTLOG_BLOB_MIN_BYTES    | payloads from this size on: large fields go to blobs; 0: never |
| operator           | (in code only)             | may write operator events (eventlog.format.control) |

The file is `EVENTLOG_CONFIG`, else `./eventlog.toml` if it exists. `EVENTLOG_DIR=""` turns eventlog off for
whoever starts the program: only a root set in code overrides it (docs/decisions/0007-configuration-order.md).
"""

from __future__ import annotations

import difflib
import enum
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from eventlog.durability import Durability
from eventlog.errors import ConfigError
from eventlog.process import root_files

SEGMENT_MAX_BYTES = 64 * 1024 * 1024
SEGMENT_MAX_AGE_S = 24 * 3600.0
BLOB_MIN_BYTES = 64 * 1024


class Mode(enum.Enum):
    """What happens to an event after emit."""

    FILE_ONLY = "file_only"
    DUAL = "dual"
    DB_ONLY = "db_only"
    OFF = "off"


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one recorder: sizes in bytes, times in seconds."""

    root: str
    mode: Mode = Mode.FILE_ONLY
    segment_max_bytes: Annotated[int, msgspec.Meta(ge=4096, le=2**40)] = SEGMENT_MAX_BYTES
    segment_max_age_s: Annotated[float, msgspec.Meta(gt=0)] = SEGMENT_MAX_AGE_S
    durability: Durability = Durability.WRITTEN
    sync_interval_s: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    workspace: str | None = None
    agent: str | None = None
    strict: bool = False
    redact: bool = True
    blob_min_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**40)] = BLOB_MIN_BYTES
    operator: bool = False


#: Neither the environment nor a file may set this: an agent may be able to change both.
_ONLY_IN_CODE = frozenset({"operator"})
_ENVIRONMENT = {"EVENTLOG_DIR": "root"} | {
    f"EVENTLOG_{name.upper()}": name
    for name in Config.__struct_fields__
    if name != "root" and name not in _ONLY_IN_CODE
}
_FILE_VARIABLE = "EVENTLOG_CONFIG"
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}


def default_root(environ: Mapping[str, str]) -> str:
    """Return the root without configuration: `$XDG_STATE_HOME/eventlog`, else `~/.local/state/eventlog`."""
    state = environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(state, "eventlog")


def load(environ: Mapping[str, str] | None = None, /, **code: Any) -> Config:
    """Return the settings from environment, file and code. Raises ConfigError with the source and the key."""
    environ = os.environ if environ is None else environ
    layers = {
        "the environment": {"root": default_root(environ), **_from_environment(environ)},
        "the file": _from_file(environ),
        "configure()": _checked_names(_plain(code), "configure()"),
    }
    for source, layer in layers.items():
        _check(source, layer)
    settings: dict[str, Any] = {}
    for layer in layers.values():
        settings |= layer
    switched_off = layers["the environment"]["root"] == ""
    if settings["root"] == "" or (switched_off and "root" not in code):
        settings |= {"root": "", "mode": "off"}
    config = msgspec.convert(settings, Config)
    root = os.path.abspath(os.path.expanduser(config.root)) if config.root else ""
    if root.encode("utf-8", "replace").decode() != root:
        raise ConfigError(f"root {root!r} is not UTF-8, which DuckDB needs; choose another")
    return msgspec.structs.replace(config, root=root)


def load_for_agent() -> tuple[Config, str | None]:
    """Return (settings, problem) for the first emit of a program that never called `configure`. Never raises.

    A typing error in a variable must neither raise inside of an agent nor lose its events. Then the
    defaults apply, with EVENTLOG_DIR and EVENTLOG_MODE=off from the environment; `problem` is the message, else None.
    """
    try:
        return load(), None
    except Exception as error:  # noqa: BLE001 - also a working directory that is gone
        problem = str(error) if isinstance(error, ConfigError) else f"the configuration cannot be read: {error}"
        root = os.path.expanduser(os.environ.get("EVENTLOG_DIR", default_root(os.environ)))
        if root == "" or os.environ.get("EVENTLOG_MODE") == Mode.OFF.value:
            return Config(root="", mode=Mode.OFF), problem
        try:
            return Config(root=os.path.abspath(root)), problem
        except OSError:  # relative to a working directory that is gone
            root = default_root(os.environ)
            return (Config(root=root) if os.path.isabs(root) else Config(root="", mode=Mode.OFF)), problem


def _check(source: str, layer: Mapping[str, Any]) -> None:
    """Raise ConfigError for a value that cannot be used, with its name and source."""
    for name, value in layer.items():
        try:
            msgspec.convert({"root": "", name: value}, Config)
        except msgspec.ValidationError as error:
            choices = {"mode": Mode, "durability": Durability}.get(name)
            hint = f"; it is one of {', '.join(choice.value for choice in choices)}" if choices else ""
            raise ConfigError(f"{name} = {value!r} in {source}: {error}{hint}") from None


def _plain(code: Mapping[str, Any]) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        return (
            value.value
            if isinstance(value, Mode | Durability)
            else os.fspath(value)
            if isinstance(value, Path)
            else value
        )

    return {key: plain(value) for key, value in code.items()}


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    variables = [*_ENVIRONMENT, _FILE_VARIABLE]
    settings = {}
    for variable, text in environ.items():
        if not variable.startswith("EVENTLOG_") or variable == _FILE_VARIABLE:
            continue
        if variable not in _ENVIRONMENT:
            raise ConfigError(f"unknown environment variable {variable}{_nearest(variable, variables)}")
        settings[_ENVIRONMENT[variable]] = _typed(variable, text)
    return settings


def _typed(variable: str, text: str) -> Any:
    name = _ENVIRONMENT[variable]
    try:
        if name in ("segment_max_bytes", "blob_min_bytes"):
            return int(text)
        if name in ("segment_max_age_s", "sync_interval_s"):
            return float(text)
    except ValueError:
        raise ConfigError(f"{variable}={text!r} is not a number") from None
    if name not in ("strict", "redact"):
        return text
    if text.lower() not in _TRUE | _FALSE:
        raise ConfigError(f"{variable}={text!r} is neither true nor false")
    return text.lower() in _TRUE


def _from_file(environ: Mapping[str, str]) -> dict[str, Any]:
    named = environ.get(_FILE_VARIABLE)
    path = Path(named or "eventlog.toml")
    try:
        with open(path, "rb", opener=root_files.without_waiting) as file:
            settings = tomllib.load(file)
    except FileNotFoundError:
        if named:
            raise ConfigError(f"{_FILE_VARIABLE} names {path}, which does not exist") from None
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from None
    for name in sorted(_ONLY_IN_CODE & settings.keys()):
        raise ConfigError(f"{name} in {path}: this can be set in code only, by eventlog.configure({name}=…); remove it")
    return _checked_names(settings, str(path))


def _checked_names(settings: dict[str, Any], source: str) -> dict[str, Any]:
    for name in settings:
        if name not in Config.__struct_fields__:
            raise ConfigError(f"unknown setting {name!r} in {source}{_nearest(name, Config.__struct_fields__)}")
    return settings


def _nearest(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(names)}"
