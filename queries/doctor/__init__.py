"""The doctor: looks at a root and its machine, and says what to do about what it finds.

It changes nothing and creates nothing, not even a lock file; it waits for nobody for more
than a few seconds; and of a large log it opens a bounded part, and says so. It needs no
index side to be installed: a machine that only writes can be ill, too.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable
from importlib import util

import msgspec

from eventlog.queries.doctor import chunks, folders, machine, segments, settings
from eventlog.queries.doctor.finding import Finding, Level, note, problem
from eventlog.queries.doctor.snapshot import Scene, look

Check = Callable[[Scene], Iterable[Finding]]


def _index(scene: Scene) -> Iterable[Finding]:
    """The one check that needs DuckDB is loaded only where that is installed."""
    if util.find_spec("duckdb") is None:
        return [
            note("not looked into: DuckDB is not installed", "pip install 'agent-eventlog[index]', if you need it here")
        ]
    check: Check = importlib.import_module("eventlog.queries.doctor.index").index
    return check(scene)


#: Name → check, in the order in which they are shown. Each says something, if only "ok".
CHECKS: dict[str, Check] = {
    "root": folders.access,
    "file system": folders.file_system,
    "space": machine.space,
    "owners": folders.owners,
    "privacy": folders.privacy,
    "oddities": segments.oddities,
    "segments": segments.segments,
    "torn tails": segments.torn_tails,
    "blobs": chunks.chunks,
    "writers": segments.writers,
    "clock": segments.clock,
    "descriptors": machine.descriptors,
    "notifications": machine.notifications,
    "leftovers": folders.leftovers,
    "index": _index,
}
_WITHOUT_ROOT = ("root", "file system", "space")


def diagnose(given: str | None = None) -> list[Finding]:
    """Check a root: the one given, else the one that settings name."""
    root, found = settings.settle(given)
    findings = _named("settings", found) + _named("versions", settings.versions())
    if root is None:
        return findings
    scene = look(root)
    names = CHECKS if os.path.isdir(root) and os.access(root, os.R_OK | os.X_OK) else _WITHOUT_ROOT
    for name in names:
        findings += run(name, scene)
    return findings


def run(name: str, scene: Scene) -> list[Finding]:
    """Run one check. One that fails is a finding itself, and keeps no other from running."""
    try:
        return _named(name, CHECKS[name](scene))
    except Exception as error:  # noqa: BLE001 - what is looked at is sick; the other checks matter the more
        return _named(
            name,
            [problem(f"could not be looked at: {error}", "see what the other checks say; as a last resort, report it")],
        )


def worst(findings: Iterable[Finding]) -> Level:
    """Return the highest level among findings."""
    order = list(Level)
    return max((each.level for each in findings), key=order.index, default=Level.OK)


def _named(name: str, findings: Iterable[Finding]) -> list[Finding]:
    return [msgspec.structs.replace(each, check=name) for each in findings]
