"""obs.check: whether an event would be recorded, said without recording one."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

import eventlog as obs
from eventlog.record import api, check
from eventlog.record.check import Reason


def test_it_says_yes_and_leaves_no_trace(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a folder, nor a recorder that is configured by it."""
    monkeypatch.setenv("EVENTLOG_DIR", str(root))
    found = obs.check()
    assert (found.ok, found.reason, found.root, found.is_configured) == (True, None, str(root), False)
    assert found.message == f"events are written under {root}"
    assert not root.exists()
    assert api._recorder is None
    obs.configure(root=root)
    assert obs.emit("t")
    before = sorted(root.rglob("*"))
    assert (obs.check().ok, obs.check().is_configured) == (True, True)
    assert sorted(root.rglob("*")) == before


def _file(root: Path, _: pytest.MonkeyPatch) -> None:
    root.write_text("")


def _full(root: Path, patch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    patch.setattr(check, "_probe", refuse)


def _no_tmpfile(root: Path, patch: pytest.MonkeyPatch) -> None:
    """An old kernel, or another system."""
    patch.setattr(check, "_TMPFILE", 0)
    root.write_text("")


def _mode_off(root: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("EVENTLOG_MODE", "off")


def _no_root(root: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("EVENTLOG_DIR", "")


def _no_folder(root: Path, patch: pytest.MonkeyPatch) -> None:
    """The default root is relative, to a folder that is gone."""
    patch.delenv("EVENTLOG_DIR")
    patch.setenv("XDG_STATE_HOME", "state")
    folder = root.parent / "gone"
    folder.mkdir()
    patch.chdir(folder)
    folder.rmdir()


def _surprise(root: Path, patch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise MemoryError("none left")

    patch.setattr(check, "_probed", fail)


NO: dict[str, tuple[Callable[[Path, pytest.MonkeyPatch], None], Reason, str]] = {
    "a mode": (_mode_off, Reason.OFF, "eventlog is turned off, by EVENTLOG_MODE; choose another mode"),
    "no root": (_no_root, Reason.OFF, "eventlog is turned off, by EVENTLOG_DIR; choose another mode, or a root"),
    "no folder": (_no_folder, Reason.SETTINGS, "is relative, and the current folder is gone; correct it"),
    "a file for a root": (_file, Reason.NOT_WRITABLE, "Not a directory; give this user the right"),
    "a file, and no probe": (_no_tmpfile, Reason.NOT_WRITABLE, "Not a directory; give this user the right"),
    "a full disk": (_full, Reason.DISK_FULL, "No space left on device; make room"),
    "a surprise": (_surprise, Reason.UNKNOWN, "it cannot be said: MemoryError: none left"),
}


@pytest.mark.parametrize("case", NO)
def test_it_says_why_not(case: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason for a program, and what to try for people."""
    arrange, reason, words = NO[case]
    monkeypatch.setenv("EVENTLOG_DIR", str(root))
    arrange(root, monkeypatch)
    found = obs.check()
    assert (found.ok, found.reason) == (False, reason)
    assert words in found.message


@pytest.mark.parametrize("tmpfile", [check._TMPFILE, 0], ids=["probed", "looked at"])
@pytest.mark.parametrize("mode", [0o555, 0o755])
def test_the_rights_of_the_user_count(mode: int, tmpfile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the folder that exists; the superuser of a test becomes somebody else."""
    monkeypatch.setattr(check, "_TMPFILE", tmpfile)
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name, "log")
        folder.mkdir()
        user = os.geteuid() or 65534
        os.chown(folder, user, -1)
        folder.chmod(mode)
        Path(name).chmod(0o755)
        monkeypatch.setenv("EVENTLOG_DIR", f"{folder}/deep/root")
        before = os.geteuid()
        try:
            os.seteuid(user)
            found = obs.check()
        finally:
            os.seteuid(before)
        assert (found.ok, found.reason) == ((True, None) if mode == 0o755 else (False, Reason.NOT_WRITABLE))
        assert list(folder.iterdir()) == []


def test_it_knows_of_the_breaker_and_of_captures(root: Path, tmp_path: Path) -> None:
    """Suspended, after the disk refused five times; in memory, inside obs.capture()."""
    (tmp_path / "file").write_text("")
    obs.configure(root=tmp_path / "file" / "root")
    with obs.capture():
        assert obs.check().ok
        assert "in memory" in obs.check().message
    for _ in range(6):
        assert obs.emit("t") is None
    found = obs.check()
    assert (found.ok, found.reason) == (False, Reason.SUSPENDED)
    assert "writing is suspended, since it keeps failing: " in found.message
    obs.configure(root=root)
    assert obs.check().ok


def test_mistakes_in_the_settings_are_named_beside_a_yes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are recorded all the same, though perhaps elsewhere."""
    monkeypatch.setenv("EVENTLOG_DIR", str(root))
    monkeypatch.setenv("EVENTLOG_MODUS", "x")
    Path("eventlog.toml").write_text("mode = 'off'")
    found = obs.check()
    assert found.ok
    assert found.problems == ["unknown environment variable EVENTLOG_MODUS; did you mean EVENTLOG_MODE?"]
    assert "mode left out" in found.left_out[0]
    assert obs.emit("t")
    assert obs.check().problems == found.problems
