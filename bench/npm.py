"""Programs from npm: installed once, into a folder of the virtual environment."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

CCUSAGE_VERSION = "20.0.24"
_FETCH_MAX_S = 120
_SYSTEMS = {"Linux": "linux", "Darwin": "darwin"}
_MACHINES = {"x86_64": "x64", "aarch64": "arm64", "arm64": "arm64"}


def folder() -> Path:
    """Return the folder of installed programs."""
    return Path(sys.prefix) / "bench-npm"


def ccusage() -> Path | str:
    """Return the native program of ccusage, without the Node.js wrapper around it; or the reason why there is none."""
    kind = f"{_SYSTEMS.get(platform.system(), '?')}-{_MACHINES.get(platform.machine(), '?')}"
    program = folder() / "node_modules" / "@ccusage" / f"ccusage-{kind}" / "bin" / "ccusage"
    if _installed("ccusage") != CCUSAGE_VERSION or not program.exists():
        reason = _fetch(f"ccusage@{CCUSAGE_VERSION}")
        if reason:
            return reason
    if not program.exists():
        return f"ccusage has no program for {kind}"
    program.chmod(0o755)  # npm leaves this to the wrapper
    return program


def versions() -> dict[str, str]:
    """Return the versions of the installed programs."""
    version = _installed("ccusage")
    return {"ccusage": version} if version else {}


def _installed(name: str) -> str | None:
    try:
        return str(json.loads((folder() / "node_modules" / name / "package.json").read_text())["version"])
    except (OSError, ValueError, KeyError):
        return None


def _fetch(package: str) -> str | None:
    """Install a package; return the reason if that fails."""
    if sys.prefix == sys.base_prefix or not os.access(sys.prefix, os.W_OK):
        return "there is no virtual environment to keep npm packages in"
    if shutil.which("npm") is None:
        return "npm is not installed"
    folder().mkdir(exist_ok=True)
    command = ["npm", "install", "--prefix", str(folder()), "--no-audit", "--no-fund", "--no-save", package]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_FETCH_MAX_S, check=False)
    except subprocess.TimeoutExpired:
        return f"npm did not fetch {package} in {_FETCH_MAX_S} s"
    return None if done.returncode == 0 else f"npm could not fetch {package}"
