"""`eventlog service install`: a unit that systemd takes, and that starts what it says."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from eventlog.server import systemd
from tests.conftest import Run

UNITS = Path(".config/systemd/user")  # below the home of a test, which is the current folder


def test_the_unit_is_one_that_systemd_takes(run: Run, root: Path) -> None:
    """As the command itself has asked it; and what is to be done next is said."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    done = run("service", "install", "--port", "4400", "--no-import")
    assert (done.returncode, done.stderr) == (0, "")
    unit = UNITS / "eventlog.service"
    assert f"written: {unit.absolute()}" in done.stdout
    assert "systemctl --user daemon-reload && systemctl --user enable --now eventlog" in done.stdout
    command = ["systemd-analyze", "verify", str(unit)]
    verified = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    text = unit.read_text()
    (started,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    assert shlex.split(started) == [
        sys.executable, "-P", "-m", "eventlog", "up", "--host=127.0.0.1", "--port=4400", "--no-import",
        f"--root={root}",
    ]  # fmt: skip
    assert "Type=notify\n" in text
    assert unit.stat().st_mode & 0o777 == 0o644


def test_what_systemd_refuses_is_said(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By the words of a systemd that takes nothing."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/systemd-analyze"
    program.write_text("#!/bin/sh\necho it is too old >&2\nexit 1\n")
    program.chmod(0o755)
    done = run("service", "install", PATH=f"{tmp_path}/bin:/usr/bin:/bin")
    assert (done.returncode, done.stderr) == (1, "warning: systemd does not accept it: it is too old\n")


def test_a_unit_of_somebody_else_stays(run: Run) -> None:
    """Its own is written anew; others are left alone, and another name is fine."""
    assert run("service", "install").returncode == 0
    assert run("service", "install", "--port", "5000").returncode == 0
    unit = UNITS / "eventlog.service"
    assert "--port=5000" in unit.read_text()
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    refused = run("service", "install")
    assert refused.returncode == 2
    assert refused.stderr == (
        f"error: {unit.absolute()} is not from `eventlog service install`; move it away, or give another --name\n"
    )
    assert run("service", "install", "--name", "team").returncode == 0
    assert (UNITS / "team.service").exists()
    assert run("service", "install", "--name", "../team").returncode == 2


ODD = ["a b", "100%", "$HOME", 'quo"te', "back\\slash", "tab\t", "ä"]


@pytest.mark.parametrize("name", ODD)
def test_odd_names_reach_the_command_as_they_are(name: str, run: Run, tmp_path: Path) -> None:
    """As systemd takes them apart: what it starts prints them."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    done = run("service", "install", "--root", str(tmp_path / name))
    assert done.returncode == 0, done.stderr
    (started,) = re.findall(r"^ExecStart=(.*)$", (UNITS / "eventlog.service").read_text(), re.MULTILINE)
    last = started.rpartition(' "--root=')[2].removesuffix('"')
    plain = last.replace("%%", "%").replace("$$", "$").replace("\\t", "\t").replace('\\"', '"').replace("\\\\", "\\")
    assert plain == str(tmp_path / name)


def test_variables_are_written_for_systemd() -> None:
    """Only a command line has variables of its own."""
    text = systemd.unit(["/bin/true", "$a"], description="one\ntwo 5%", environment={"A": 'x "$y" 1%'})
    assert 'ExecStart="/bin/true" "$$a"\n' in text
    assert 'Environment="A=x \\"$y\\" 1%%"\n' in text
    assert "Description=one two 5%%\n" in text
