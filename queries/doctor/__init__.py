"""The doctor checks a root and its machine, and says how to fix the problems that it finds.

It changes and creates nothing, not even a lock file. It waits for other processes for a few seconds at most, and of a
large log it opens a bounded part, and says so. It runs without DuckDB, since machines that only write have problems,
too.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable
from importlib import util

import msgspec

from eventlog.queries.doctor import chunks, folders, machine, segments, settings
from eventlog.queries.doctor.finding import Finding, Level, note, problem
from eventlog.queries.doctor.snapshot import RootSnapshot, take_snapshot

Check = Callable[[RootSnapshot], Iterable[Finding]]


def _index(snapshot: RootSnapshot) -> Iterable[Finding]:
    """The only check that needs DuckDB; its module is imported only if DuckDB is installed."""
    if util.find_spec("duckdb") is None:
        return [
            note("not looked into: DuckDB is not installed", "pip install 'agent-eventlog[index]', if you need it here")
        ]
    check: Check = importlib.import_module("eventlog.queries.doctor.index").index
    return check(snapshot)


#: Name → check, in the order of the output. Each check yields at least one finding, if only "ok".
CHECKS: dict[str, Check] = {
    "root": folders.access,
    "file system": folders.file_system,
    "space": machine.space,
    "owners": folders.owners,
    "privacy": folders.privacy,
    "oddities": segments.skipped_entries,
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


def diagnose(root: str | None = None) -> list[Finding]:
    """Run all checks on a root; None takes the root of the settings."""
    folder, setting_findings = settings.resolve_root(root)
    findings = _named("settings", setting_findings) + _named("versions", settings.versions())
    findings += _named("sources", settings.installed_sources())
    if folder is None:
        return findings
    snapshot = take_snapshot(folder)
    names = CHECKS if os.path.isdir(folder) and os.access(folder, os.R_OK | os.X_OK) else _WITHOUT_ROOT
    for name in names:
        findings += run(name, snapshot)
    return findings


def run(name: str, snapshot: RootSnapshot) -> list[Finding]:
    """Run one check. A check that raises becomes a finding, so that the others still run."""
    try:
        return _named(name, CHECKS[name](snapshot))
    except Exception as error:  # noqa: BLE001 - the root may be damaged in any way; the other checks matter the more
        return _named(
            name,
            [problem(f"could not be looked at: {error}", "see what the other checks say; as a last resort, report it")],
        )


def worst(findings: Iterable[Finding]) -> Level:
    """Return the highest level of some findings; OK if there are none."""
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)


def _named(name: str, findings: Iterable[Finding]) -> list[Finding]:
    return [msgspec.structs.replace(finding, check=name) for finding in findings]
