"""Real files, if there are any beside the project, imported into logs by eventlog's own importers."""

from __future__ import annotations

from pathlib import Path

from bench.case import Bench, Skipped
from bench.data import REAL_DATA
from bench.measure import eventlog, run

IMPORTS: dict[str, tuple[str, ...]] = {
    "claude-code": ("claude-code",),
    "gharchive": ("jsonl", "--type-field", "type", "--time-field", "created_at", "--id-field", "id"),
    "windows-events": ("jsonl", "--type", "windows_event", "--time-field", "@timestamp"),
}


def files_of(name: str) -> list[Path]:
    """Return the files of one data set. Raises Skipped if there are none."""
    files = sorted((REAL_DATA / name).rglob("*.jsonl"))
    if not files:
        raise Skipped("no real data")
    return files


def import_into(bench: Bench, root: Path, name: str) -> Path:
    """Import one data set into a log; return the log's root."""
    files = files_of(name)
    given = [REAL_DATA / name] if name == "claude-code" else files
    run(eventlog("import", *IMPORTS[name], *given, "--root", root), bench.home)
    return root
