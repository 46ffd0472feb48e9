"""Distributions of others whose metadata cannot be read: they cost their own sources, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT

_BY_ITSELF = "[eventlog.sources]\nno equals sign here\n"
#: What a folder `broken-1.0.dist-info` holds, and how the distribution is called in the warning.
DISTRIBUTIONS: dict[str, tuple[dict[str, bytes], str]] = {
    "a line that is no entry point": (
        {"METADATA": b"Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n", "entry_points.txt": _BY_ITSELF.encode()},
        "broken",
    ),
    "bytes that are no text": (
        {"METADATA": b"Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n", "entry_points.txt": b"[a]\nb = \xff\xfe"},
        "broken",
    ),
    "metadata that is no text": (
        {"METADATA": b"\xff\xfe", "RECORD": b"\xff", "entry_points.txt": _BY_ITSELF.encode()},
        "a package",
    ),
    "no name either": ({"METADATA": b"Metadata-Version: 2.1\n", "entry_points.txt": _BY_ITSELF.encode()}, "a package"),
}


@pytest.mark.parametrize("case", DISTRIBUTIONS)
def test_a_distribution_that_cannot_be_read_is_left_out_and_named(case: str, root: Path, tmp_path: Path) -> None:
    """In a process where every warning is an error; the sources of other distributions are there."""
    files, package = DISTRIBUTIONS[case]
    site = tmp_path / "site"
    files_of = {"broken-1.0.dist-info": files, "sound-1.0.dist-info": {
        "METADATA": b"Metadata-Version: 2.1\nName: sound\nVersion: 1.0\n",
        "entry_points.txt": b"[eventlog.sources]\ntoy = tests.toy_source:SOURCE\n",
    }}  # fmt: skip
    for folder, contents in files_of.items():
        (site / folder).mkdir(parents=True)
        for name, content in contents.items():
            (site / folder / name).write_bytes(content)
    program = (
        "import json\nfrom eventlog.importers import sources\n"
        "print(json.dumps([[s.name for s in sources.all_sources()], [str(each) for each in sources.left_out()]]))"
    )
    environ = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{PROJECT}"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    names, (left_out,) = json.loads(done.stdout)
    assert names == ["claude_code", "codex", "toy"]
    assert left_out.startswith(f"the entry points of {package} are left out: they cannot be read: ")
    root.mkdir()
    indexed = subprocess.run(
        [sys.executable, "-W", "error", "-m", "eventlog", "index", "--root", str(root)],
        env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (indexed.returncode, indexed.stderr.count("left out")) == (0, 1), indexed.stderr
    doctor = subprocess.run(
        [sys.executable, "-W", "error", "-m", "eventlog", "doctor", "--root", str(root)],
        env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert f"the entry points of {package} are left out" in doctor.stdout, doctor.stderr
