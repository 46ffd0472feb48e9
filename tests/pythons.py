"""The Pythons on this machine that eventlog is for, each with the libraries that it needs.

    python -m tests.pythons FOLDER    make a virtual environment in FOLDER for each that is found

Tests that depend on the interpreter run in all of them (tests/eventlog/test_endings.py). Beside them lies a DuckDB as
other tools have it, for the files that they are to read (tests/queries/test_snapshot.py).
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import PROJECT

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
#: Where `make` puts the environments.
FOLDER = PROJECT / ".venv" / "pythons"
#: A folder for PYTHONPATH.
OLDER_DUCKDB = FOLDER / "duckdb-1"
_LIBRARIES = ("msgspec", "duckdb", "watchfiles")
#: Where version managers put interpreters that are not on PATH.
_PLACES = ("~/.pyenv/versions/{0}*/bin/python{0}", "~/.local/share/uv/python/cpython-{0}*/bin/python{0}")


def environments() -> dict[str, Path]:
    """Return the interpreter to test each version with, for those that there are: this one, and the made ones."""
    made = {version: FOLDER / version / "bin" / "python" for version in VERSIONS}
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {version: path for version, path in made.items() if path.exists()} | {here: Path(sys.executable)}


def _found(version: str) -> str | None:
    """Return an interpreter of a version that runs."""
    for path in _candidates(version):
        asked = [path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return path
    return None


def _candidates(version: str) -> Iterator[str]:
    on_path = shutil.which(f"python{version}")
    if on_path:
        yield on_path
    for place in _PLACES:
        yield from sorted(glob.glob(os.path.expanduser(place.format(version))), reverse=True)


def _make(folder: Path) -> None:
    for version in VERSIONS:
        python = _found(version)
        if python is None or version == f"{sys.version_info.major}.{sys.version_info.minor}":
            continue
        try:
            subprocess.run([python, "-m", "venv", folder / version], check=True)
            pip = [str(folder / version / "bin" / "python"), "-m", "pip", "install", "--quiet", *_LIBRARIES]
            subprocess.run(pip, check=True, env={**os.environ, "PIP_CONSTRAINT": str(PROJECT / "constraints.txt")})
        except subprocess.CalledProcessError as error:
            shutil.rmtree(folder / version, ignore_errors=True)
            print(f"Python {version} ({python}) is not tested: {error}", file=sys.stderr)


def _make_older_duckdb(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), "duckdb<2"]
    try:
        subprocess.run(pip, check=True)
    except subprocess.CalledProcessError as error:
        shutil.rmtree(folder, ignore_errors=True)
        print(f"files are not tested with an older DuckDB: {error}", file=sys.stderr)


if __name__ == "__main__":
    _make(Path(sys.argv[1]))
    _make_older_duckdb(Path(sys.argv[1]) / OLDER_DUCKDB.name)
