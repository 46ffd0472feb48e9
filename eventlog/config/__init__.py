"""Settings from code, environment, the user's file and the project's file; the first of these that has one wins.

| setting            | environment                | meaning                                          |
| ------------------ | -------------------------- | ------------------------------------------------ |
| root               | EVENTLOG_DIR               | folder of log and index; "" turns emitting off   |
| mode               | EVENTLOG_MODE              | file_only, remote, dual, db_only, off            |
| url                | EVENTLOG_URL               | where a server is (mode remote)                  |
| key                | EVENTLOG_KEY               | an API key of it, with the scope ingest          |
| segment_max_bytes  | EVENTLOG_SEGMENT_MAX_BYTES | a new segment begins at this size                |
| segment_max_age_s  | EVENTLOG_SEGMENT_MAX_AGE_S | … and at this age                                |
| durability         | EVENTLOG_DURABILITY        | what an emitted event survives: written, synced  |
| sync_interval_s    | EVENTLOG_SYNC_INTERVAL_S   | seconds between syncs in the background; 0: none |
| workspace          | EVENTLOG_WORKSPACE         | for events whose context names none              |
| agent              | EVENTLOG_AGENT             | for events whose context names none              |
| strict             | EVENTLOG_STRICT            | emit raises instead of counting and logging      |
| redact             | EVENTLOG_REDACT            | secrets are redacted before writing              |
| blob_min_bytes     | EVENTLOG_BLOB_MIN_BYTES    | payloads from this size on: large fields go to blobs; 0: never |
| catch_up_s         | EVENTLOG_CATCH_UP_S        | seconds for which a command that reads may index first what is new |
| import_agents      | EVENTLOG_IMPORT_AGENTS     | whether `cost` and `sessions` first import from coding agents |
| keep_answers       | EVENTLOG_KEEP_ANSWERS      | commands keep answers (docs/decisions/0045)      |
| budget_usd_per_day   | EVENTLOG_BUDGET_USD_PER_DAY   | what `eventlog cost` compares the spending with  |
| budget_usd_per_month | EVENTLOG_BUDGET_USD_PER_MONTH | … of a month                                     |
| server             | (in files only)            | limits of `eventlog serve` (eventlog.config.server) |
| operator           | (in code only)             | may write operator events (eventlog.format.control) |

The user's file is `~/.config/eventlog/eventlog.toml` (by XDG_CONFIG_HOME), the project's is `./eventlog.toml`;
EVENTLOG_CONFIG names one file that is read in place of both. A project's file may set `workspace` and `agent`, and
everything else once the user trusts that folder: it comes with whatever was cloned, and must not switch a recorder
off, move its log or unmask secrets (docs/decisions/0007-configuration-order.md).
"""

from __future__ import annotations

import difflib
import enum
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from eventlog.config import files, project
from eventlog.config.server import Limits
from eventlog.durability import Durability
from eventlog.errors import ConfigError
from eventlog.process.guards import message_of, shown

SEGMENT_MAX_BYTES = 64 * 1024 * 1024
SEGMENT_MAX_AGE_S = 24 * 3600.0
BLOB_MIN_BYTES = 64 * 1024
CATCH_UP_S = 0.5


class Mode(enum.Enum):
    """What happens to an event after emit."""

    FILE_ONLY = "file_only"
    REMOTE = "remote"
    DUAL = "dual"
    DB_ONLY = "db_only"
    OFF = "off"


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one recorder: sizes in bytes, times in seconds."""

    root: str
    mode: Mode = Mode.FILE_ONLY
    url: str | None = None
    key: str | None = None
    segment_max_bytes: Annotated[int, msgspec.Meta(ge=4096, le=2**40)] = SEGMENT_MAX_BYTES
    segment_max_age_s: Annotated[float, msgspec.Meta(gt=0)] = SEGMENT_MAX_AGE_S
    durability: Durability = Durability.WRITTEN
    sync_interval_s: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    workspace: str | None = None
    agent: str | None = None
    strict: bool = False
    redact: bool = True
    blob_min_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**40)] = BLOB_MIN_BYTES
    catch_up_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = CATCH_UP_S
    #: None: for people at a terminal, into the default root.
    import_agents: bool | None = None
    keep_answers: bool = True
    budget_usd_per_day: Annotated[float, msgspec.Meta(gt=0, le=1e12)] | None = None
    budget_usd_per_month: Annotated[float, msgspec.Meta(gt=0, le=1e12)] | None = None
    server: Limits = Limits()
    operator: bool = False


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings amount to.

    `origins` says where each setting that is not a default comes from. `problems` are mistakes in code, environment
    and the user's file; what they concern is left out of `config`. `left_out` says what of the project's file does not
    count, which is nobody's mistake here.
    """

    config: Config
    origins: dict[str, str]
    problems: list[str]
    left_out: list[str]

    def wants_agents(self, *, is_watched: bool) -> bool:
        """Say whether a question about coding agents first imports what they wrote (docs/decisions/0037).

        `is_watched`: somebody sees what is printed. A root that was chosen for this command gets nothing by itself.
        """
        origin = self.origins["root"]
        if self.config.mode is Mode.OFF or origin in (_VARIABLES["root"], _CODE_SOURCE):
            return False
        chosen = self.config.import_agents
        return origin == _DEFAULT_SOURCE and is_watched if chosen is None else chosen

    def checked(self) -> Config:
        """Return the settings. Raises ConfigError if there is a mistake in them."""
        if self.problems:
            raise ConfigError(self.problems[0])
        return self.config


class _Layer(NamedTuple):
    """Settings from one place, which is `source` in messages. Its relative root counts from `folder`, else from here.

    `name` is what doctor calls it; None: each setting has a variable of its own. `folder` None is the current folder.
    """

    source: str
    settings: Mapping[str, Any]
    name: str | None = None
    folder: Path | None = None


#: Neither the environment nor a file may set this: an agent may be able to change both.
_ONLY_IN_CODE = frozenset({"operator"})
#: A table of its own, which no variable holds.
_ONLY_IN_FILES = frozenset({"server"})
#: At most this many messages about a project's file: it may have any number of unknown settings.
_TOLD_MAX = 3
_VARIABLES = {"root": "EVENTLOG_DIR"} | {
    name: f"EVENTLOG_{name.upper()}"
    for name in Config.__struct_fields__
    if name != "root" and name not in _ONLY_IN_CODE | _ONLY_IN_FILES
}
_ENVIRONMENT = {variable: name for name, variable in _VARIABLES.items()}
_FILE_VARIABLE = "EVENTLOG_CONFIG"
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}
_DEFAULT_SOURCE, _ENVIRONMENT_SOURCE, _CODE_SOURCE = "the default", "the environment", "configure()"


def default_root(environ: Mapping[str, str]) -> str:
    """Return the root without configuration: `$XDG_STATE_HOME/eventlog`, else `~/.local/state/eventlog`."""
    state = environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(state, "eventlog")


def load(environ: Mapping[str, str] | None = None, /, **code: Any) -> Config:
    """Return the settings from all places. Raises ConfigError with the source and the key."""
    return resolve(environ, code).checked()


def resolve(environ: Mapping[str, str] | None = None, code: Mapping[str, Any] | None = None) -> Resolved:
    """Return the settings from all places, with what is wrong in them. Raises nothing for what they say."""
    environ = os.environ if environ is None else environ
    problems: list[str] = []
    found = None if environ.get(_FILE_VARIABLE) else project.read(environ, frozenset(Config.__struct_fields__))
    left_out = [] if found is None else found.left_out
    of_project = None if found is None else _Layer(str(found.path), found.settings, str(found.path), found.path.parent)
    layers = [
        _Layer("the defaults", {"root": default_root(environ)}, _DEFAULT_SOURCE),
        of_project,
        _user_layer(environ, problems),
        _Layer(_ENVIRONMENT_SOURCE, _from_environment(environ, problems)),
        _Layer(_CODE_SOURCE, _plain(code or {}), _CODE_SOURCE),
    ]
    settings: dict[str, Any] = {"root": ""}
    origins: dict[str, str] = {}
    for layer in filter(None, layers):
        for name, value in layer.settings.items():
            try:
                settings[name] = _usable(name, value, layer)
                origins[name] = layer.name or _VARIABLES[name]
            except ConfigError as error:
                (left_out if layer is of_project else problems).append(str(error))
    if settings["root"] == "":
        settings["mode"] = Mode.OFF.value
    config = msgspec.convert(settings, Config)
    return Resolved(config=config, origins=origins, problems=problems, left_out=left_out[:_TOLD_MAX])


def for_agent() -> Resolved:
    """Return the settings for the first emit of a program that never called `configure`. Never raises.

    A typing error in a variable must neither raise inside of an agent nor lose its events: what is wrong is left out.
    """
    try:
        return resolve()
    except Exception as error:  # noqa: BLE001 - no memory, or no room on the stack
        root = os.environ.get("EVENTLOG_DIR", default_root(os.environ))
        is_off = not os.path.isabs(root) or os.environ.get("EVENTLOG_MODE") == Mode.OFF.value
        config = Config(root="", mode=Mode.OFF) if is_off else Config(root=root)
        problem = f"the configuration cannot be read: {message_of(error)}"
        return Resolved(config=config, origins={}, problems=[problem], left_out=[])


def mistakes(path: Path, settings: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the settings of a file."""
    layer = _Layer(str(path), settings, str(path), path.parent)
    found = []
    for name, value in settings.items():
        try:
            _usable(name, value, layer)
        except ConfigError as error:
            found.append(str(error))
    return found


def _usable(name: str, value: Any, layer: _Layer) -> Any:
    """Return a value as Config takes it. Raises ConfigError for one that cannot be used, with its name and source."""
    if name not in Config.__struct_fields__:
        raise ConfigError(f"unknown setting {shown(name)} in {layer.source}{_nearest(name, Config.__struct_fields__)}")
    if name in _ONLY_IN_CODE and layer.source != _CODE_SOURCE:
        raise ConfigError(
            f"{name} in {layer.source}: this can be set in code only, by eventlog.configure({name}=…); remove it"
        )
    try:
        msgspec.convert({"root": "", name: value}, Config)
    except msgspec.ValidationError as error:
        choices = {"mode": Mode, "durability": Durability}.get(name)
        hint = f"; it is one of {', '.join(choice.value for choice in choices)}" if choices else ""
        raise ConfigError(f"{name} = {shown(value)} in {layer.source}: {error}{hint}") from None
    return _absolute(value, layer) if name == "root" and value else value


def _absolute(root: str, layer: _Layer) -> str:
    try:
        path = os.path.abspath(os.path.join(layer.folder or "", os.path.expanduser(root)))
    except OSError:
        raise ConfigError(f"root {root!r} in {layer.source} is relative, and the current folder is gone") from None
    if path.encode("utf-8", "replace").decode() != path:
        raise ConfigError(f"root {path!r} is not UTF-8, which DuckDB needs; choose another")
    return path


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


# -- the environment -------------------------------------------------------------------------


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    variables = [*_ENVIRONMENT, _FILE_VARIABLE]
    settings = {}
    for variable, text in sorted(environ.items()):
        if not variable.startswith("EVENTLOG_") or variable == _FILE_VARIABLE:
            continue
        try:
            if variable not in _ENVIRONMENT:
                raise ConfigError(f"unknown environment variable {variable}{_nearest(variable, variables)}")
            settings[_ENVIRONMENT[variable]] = _typed(variable, text)
        except ConfigError as error:
            problems.append(str(error))
    return settings


def _typed(variable: str, text: str) -> Any:
    name = _ENVIRONMENT[variable]
    try:
        if name in ("segment_max_bytes", "blob_min_bytes"):
            return int(text)
        if name.startswith("budget_") or name in ("segment_max_age_s", "sync_interval_s", "catch_up_s"):
            return float(text)
    except ValueError:
        raise ConfigError(f"{variable}={text!r} is not a number") from None
    if name not in ("strict", "redact", "import_agents", "keep_answers"):
        return text
    if text.lower() not in _TRUE | _FALSE:
        raise ConfigError(f"{variable}={text!r} is neither true nor false")
    return text.lower() in _TRUE


def _user_layer(environ: Mapping[str, str], problems: list[str]) -> _Layer | None:
    """Return the settings of the file that EVENTLOG_CONFIG names, else of the user's own file."""
    named = environ.get(_FILE_VARIABLE)
    path = Path(named) if named else files.user_file(environ)
    try:
        if path is None or (not named and files.is_out_of_reach(path)):
            return None
        content = files.read(path, files.USER_MAX_BYTES, follow=True)
        if content is None:
            if named:
                raise ConfigError(f"{_FILE_VARIABLE} names {path}, which does not exist")
            return None
        if not named and files.is_anybodys(content.status):
            raise ConfigError(f"{path}: others may write to it; look into it, and chmod 600 it, as its owner")
        return _Layer(str(path), files.parsed(path, content.data), str(path.absolute()), path.parent)
    except ConfigError as error:
        problems.append(str(error))
        return None


def _nearest(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(names)}"
