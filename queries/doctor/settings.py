"""Checks of the settings, and of the installed packages."""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

from eventlog import config, installation
from eventlog.config import Mode
from eventlog.importers import sources
from eventlog.queries.doctor.finding import Finding, note, ok, problem, several, warning
from eventlog.version import __version__

_TRUST = "a project's file may set workspace and agent; for the rest, look into it, and run: eventlog trust"

#: Package → its oldest supported version, what it is for, and what to install.
_PARTS = {
    "msgspec": ((0, 20), "everything", "msgspec"),
    "duckdb": ((2, 0), "the index and all questions to it", "agent-eventlog[index]"),
    "watchfiles": ((1, 0), "index --watch", "agent-eventlog[index]"),
    "zstandard": ((0, 23), "importing .zst files", "agent-eventlog[cli]"),
}


def resolve_root(root: str | None) -> tuple[Path | None, list[Finding]]:
    """Return the root that applies, None if eventlog is off, and the findings about the settings.

    `root` is the one of the command line.
    """
    resolved = config.resolve(code={} if root is None else {"root": root})
    settings, origins = resolved.config, resolved.origins
    findings = [
        problem(text, "correct it: commands refuse to run, and an agent goes on without it")
        for text in resolved.problems
    ]
    findings += [warning(text, _TRUST) for text in resolved.left_out]
    findings += [
        ok(_settings_of(name, origins), Path(name)) for name in sorted(set(origins.values())) if _is_file(name)
    ]
    if not settings.root:
        findings.append(_off(origins.get("root", "")))
        return None, findings
    if settings.mode is Mode.OFF:
        advice = f"it comes from {origins['mode']}; choose another mode if events are wanted"
        findings.append(note("mode is off: nothing is recorded", advice))
    origin = "--root" if root is not None else origins["root"]
    findings.append(ok(f"root {settings.root}, from {origin}; mode {settings.mode.value}", Path(settings.root)))
    return Path(settings.root), findings


def _off(origin: str) -> Finding:
    cause = f"the root of {origin}" if _is_file(origin) else "EVENTLOG_DIR"
    advice = f"set {cause} (it is empty), or give --root DIR to look at a log all the same"
    return note("eventlog is turned off here: nothing is recorded", advice)


def _is_file(origin: str) -> bool:
    return os.sep in origin


def _settings_of(path: str, origins: dict[str, str]) -> str:
    return f"{path} sets {', '.join(name for name, origin in origins.items() if origin == path)}"


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
