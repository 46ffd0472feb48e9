"""Other programs that read Claude Code sessions, run without their wrappers and from empty folders."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

from bench import npm
from bench.case import Bench, Skipped
from bench.data import REAL_DATA
from bench.measure import Sample, run

SESSIONS = REAL_DATA / "claude-code"


def agentsview(bench: Bench) -> Callable[[], Sample]:
    """Return the command `agentsview sync` with an empty data folder. Raises Skipped if it is not installed."""
    program = _agentsview()
    data, home = bench.folder / "agentsview", bench.folder / "agentsview-home"
    settings = {
        "AGENTSVIEW_DATA_DIR": str(data), "AGENTSVIEW_NO_DAEMON": "1", "AGENTSVIEW_TELEMETRY_ENABLED": "0",
        "CLAUDE_PROJECTS_DIR": str(SESSIONS),
    }  # fmt: skip

    def sync() -> Sample:
        for folder in (data, home):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        sample = run([program, "sync"], home, settings)
        if b"sessions synced" not in sample.said:
            raise RuntimeError("agentsview found no sessions")
        return sample

    return sync


def _agentsview() -> Path:
    """Return the Go program inside the Python package."""
    package = importlib.util.find_spec("agentsview")
    if package is None or package.origin is None:
        raise Skipped("agentsview is not installed; try: make bench")
    program = Path(package.origin).parent / "bin" / "agentsview"
    program.chmod(0o755)  # its wrapper would
    return program


def ccusage(bench: Bench) -> Callable[[], Sample]:
    """Return the command `ccusage daily --offline`. Raises Skipped if it cannot be installed."""
    program = npm.ccusage()
    if isinstance(program, str):
        raise Skipped(program)
    config = bench.folder / "claude"
    config.mkdir()
    (config / "projects").symlink_to(SESSIONS)
    return lambda: run([program, "daily", "--offline"], bench.home, {"CLAUDE_CONFIG_DIR": str(config)})
