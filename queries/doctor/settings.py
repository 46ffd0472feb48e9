"""Checks of the settings, and of the installed packages."""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

from eventlog import config, installation
from eventlog.config import Config, Mode
from eventlog.errors import ConfigError
from eventlog.importers import sources
from eventlog.queries.doctor.finding import Finding, note, ok, problem, several, warning
from eventlog.version import __version__

_PREFIX, _FILE, _ROOT = "EVENTLOG_", "EVENTLOG_CONFIG", "EVENTLOG_DIR"
_NO_FILE = {_FILE: os.devnull}

#: Package → its oldest supported version, what it is for, and what to install.
_PARTS = {
    "msgspec": ((0, 20), "everything", "msgspec"),
    "duckdb": ((2, 0), "the index and all questions to it", "agent-eventlog[index]"),
    "watchfiles": ((1, 0), "index --watch", "agent-eventlog[index]"),
    "zstandard": ((0, 23), "importing .zst files", "agent-eventlog[zstd]"),
}


def resolve_root(root: str | None) -> tuple[Path | None, list[Finding]]:
    """Return the root that applies, None if eventlog is off, and the findings about the settings.

    `root` is the one of the command line.
    """
    code = {} if root is None else {"root": root}
    findings = [problem(str(error), "correct it: commands refuse to run, and an agent goes on with the defaults")
             for error in _errors()]  # fmt: skip
    settings = _as_an_agent_would(root) if findings else config.load(**code)
    if not settings.root:
        findings.append(
            note(
                "eventlog is turned off here: nothing is recorded",
                f"set {_ROOT} (it is empty), or give --root DIR to look at a log all the same",
            )
        )
        return None, findings
    layer, overruled = _layer(root, bool(findings))
    if overruled is not None:
        findings.append(
            warning(
                f"{_ROOT} is {overruled}, but {_file_name()} says {settings.root}, which is stronger",
                "take one of them away",
            )
        )
    if settings.mode is Mode.OFF:
        findings.append(note("mode is off: nothing is recorded", "choose another mode if events are wanted"))
    findings.append(ok(f"root {settings.root}, from {layer}; mode {settings.mode.value}", Path(settings.root)))
    return Path(settings.root), findings


def _errors() -> Iterator[ConfigError]:
    """Yield the errors of all variables; `config.load` alone would stop at the first."""
    for variable in sorted(os.environ):
        if variable.startswith(_PREFIX) and variable != _FILE:
            yield from _error({**_NO_FILE, variable: os.environ[variable]})
    yield from _error({_FILE: os.environ[_FILE]} if _FILE in os.environ else {})


def _error(environ: dict[str, str]) -> Iterator[ConfigError]:
    try:
        config.load(environ)
    except ConfigError as error:
        yield error


def _as_an_agent_would(root: str | None) -> Config:
    if root is not None:
        return config.load(_NO_FILE, root=root)
    return config.load_for_agent()[0]


def _layer(root: str | None, broken: bool) -> tuple[str, str | None]:
    """Return where the root comes from, and the root of another setting that it overrides, if any."""
    environment = os.environ.get(_ROOT)
    if root is not None:
        return "--root", None
    if not broken:
        without = {name: text for name, text in os.environ.items() if name != _ROOT}
        from_file = config.load(without).root
        if from_file != config.load({**without, **_NO_FILE}).root:
            other = config.load({**_NO_FILE, _ROOT: environment}).root if environment else None
            return _file_name(), other if other != from_file else None
    return (_ROOT if environment else "the default"), None


def _file_name() -> str:
    return os.environ.get(_FILE) or "eventlog.toml"


def versions() -> Iterator[Finding]:
    """The installed packages: versions, and damage by other packages."""
    yield from _installation()
    have, lacking = [f"eventlog {__version__}", f"Python {platform.python_version()}"], []
    for name, (oldest, purpose, package) in _PARTS.items():
        if util.find_spec(name) is None:
            lacking.append(f"{name} ({purpose})")
            continue
        version = metadata.version(name)
        have.append(f"{name} {version}")
        if _numbers(version) < oldest:
            yield problem(
                f"{name} {version} is too old for {purpose}: {'.'.join(map(str, oldest))} or newer is needed",
                f"pip install --upgrade '{package}'",
            )
    if lacking:
        yield note(f"not installed: {several(lacking)}", "pip install 'agent-eventlog[all]', if you need it here")
    yield ok(", ".join(have))


def _installation() -> Iterator[Finding]:
    """Files of this package that another package has replaced or removed."""
    for other in installation.other_distributions():
        folder = Path(str(other.locate_file(installation.PACKAGE)))
        fact = f"{other.name} {other.version}, which is not {installation.DISTRIBUTION}, is installed in {folder}"
        if folder.resolve() == installation.FOLDER.resolve():
            yield problem(f"{fact}, over its files", installation.repair())
        else:
            yield warning(f"{fact}: `import eventlog` may load it", f"pip uninstall {other.name}")
    if lacking := installation.missing_files():
        yield problem(f"files of {installation.DISTRIBUTION} are missing: {several(lacking)}", installation.repair())


def installed_sources() -> Iterator[Finding]:
    """The sources of `eventlog import` and the views: which there are, and which cannot be loaded."""
    if util.find_spec("duckdb") is not None:
        left_out = importlib.import_module("eventlog.indexer.views.sources").left_out()
    else:
        left_out = sources.left_out()
    for entry_point in left_out:
        yield warning(entry_point.fact, entry_point.advice)
    yield ok(", ".join(source.name for source in sources.all_sources()))


def _numbers(version: str) -> tuple[int, ...]:
    """The first two parts of a version, as far as they are numbers."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
