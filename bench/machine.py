"""The machine of a run: enough to compare figures by, and nothing private."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
from pathlib import Path

import msgspec

LIBRARIES = (
    "agent-eventlog", "msgspec", "duckdb", "watchfiles", "structlog", "orjson", "loguru", "opentelemetry-sdk",
    "agentsview",
)  # fmt: skip


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The machine, and the versions of all programs that took part."""

    cores: int
    memory_gib: int
    processor: str
    system: str
    disk: str
    python: str
    versions: dict[str, str]

    def words(self) -> str:
        """Return the machine as one line of text."""
        libraries = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return (
            f"{self.cores} cores ({self.processor}), {self.memory_gib} GiB, {self.system}, {self.disk}; "
            f"Python {self.python}, {libraries}"
        )


def describe(folder: Path, extra: dict[str, str] | None = None) -> Machine:
    """Return the machine; `folder` holds the data."""
    versions = {name: version for name in LIBRARIES if (version := _version(name))}
    return Machine(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3),
        processor=_processor(),
        system=f"{platform.system()} {platform.release().split('-')[0]}",
        disk=file_system(folder) or "unknown file system",
        python=platform.python_version(),
        versions={**versions, "sqlite": sqlite3.sqlite_version, **(extra or {})},
    )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def file_system(path: Path) -> str | None:
    """Return the type of the file system of a path; None if it is unknown."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return None
    types: dict[str, str] = {}
    for line in mounts:
        before, _, after = line.partition(" - ")
        types[before.split()[4]] = after.split()[0]
    path = path.resolve()
    return next((types[str(folder)] for folder in (path, *path.parents) if str(folder) in types), None)
