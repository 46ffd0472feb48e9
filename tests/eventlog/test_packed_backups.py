"""Backups in one file: whole or as before, and nothing that came with a file leaves its folder."""

from __future__ import annotations

import gzip
import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from eventlog.errors import BackupFailed
from eventlog.log import zst
from eventlog.maintenance import packed, restore
from eventlog.maintenance.backup import backup
from eventlog.maintenance.destination import open_destination
from eventlog.maintenance.packed import PackedBackup
from tests.conftest import Run
from tests.eventlog.backups import emit, tree

ENDINGS = (".tar.zst", ".tar.gz", ".tgz")


def _backup(root: Path, path: Path) -> None:
    backup(root, open_destination(str(path)), say=print)


def _restored(root: Path, path: Path) -> dict[str, bytes]:
    done = restore.restore(root, open_destination(str(path)))
    assert not done.failures
    return tree(root)


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_was_backed_up_is_restored(root: Path, tmp_path: Path, ending: str) -> None:
    """Blobs as well; a later run adds to the file; nothing is left beside it, and nobody else may read it."""
    path = tmp_path / "backups" / f"laptop{ending}"
    path.parent.mkdir()
    emit(root, "t", *range(100))
    emit(root, "large", 1, pad=300_000)
    _backup(root, path)
    first = path.read_bytes()
    emit(root, "t", *range(100, 200))
    _backup(root, path)
    assert path.read_bytes() != first
    assert list(path.parent.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    restored = _restored(tmp_path / "restored", path)
    assert {name: data for name, data in tree(root).items() if "segments_backed_up" not in name} == {
        name: data for name, data in restored.items() if "segments_backed_up" not in name
    }
    listed = subprocess.run(["tar", "-tf", "-"], input=_tar(path), capture_output=True, check=True).stdout.decode()
    assert "log/t/" in listed and "blobs/" in listed  # noqa: PT018 - both are folders of it


def _tar(path: Path) -> bytes:
    with zst.open_zst(path) if path.suffix == ".zst" else gzip.open(path) as file:
        return file.read()


def test_nothing_new_changes_nothing(root: Path, tmp_path: Path) -> None:
    """The file stays as it is."""
    emit(root, "t", 1)
    path = tmp_path / "b.tar.gz"
    _backup(root, path)
    _backup(root, path)  # what the first one logged
    before = path.stat().st_mtime_ns, path.stat().st_ino
    made = open_destination(str(path))
    assert isinstance(made, PackedBackup)
    assert made.list("log")
    made.finish()
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flipped(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("damage", [_cut, _flipped, lambda _: b"", lambda _: b"no archive"])
def test_a_damaged_file_is_said_to_be(
    root: Path, tmp_path: Path, ending: str, damage: Callable[[bytes], bytes]
) -> None:
    """It is neither restored nor written over."""
    path = tmp_path / f"b{ending}"
    emit(root, "t", *range(100))
    _backup(root, path)
    path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()
    for work in (lambda: _restored(tmp_path / "restored", path), lambda: _backup(root, path)):
        with pytest.raises(BackupFailed, match=r"damaged|no backup"):
            work()
    assert path.read_bytes() == before
    assert not [each for each in tmp_path.iterdir() if each.name.endswith(".part")]


def _member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


@pytest.mark.parametrize(
    "member",
    [
        _member("../outside"), _member("/tmp/outside"), _member("log/../../outside"), _member("log"[:0] or "."),
        _member("link", tarfile.SYMTYPE, "/etc/passwd"), _member("hard", tarfile.LNKTYPE, "/etc/passwd"),
        _member("pipe", tarfile.FIFOTYPE), _member("device", tarfile.CHRTYPE),
    ],
    ids=lambda member: member.name,
)  # fmt: skip
def test_a_file_of_somebody_else_writes_nothing(tmp_path: Path, member: tarfile.TarInfo) -> None:
    """No path leads out of the folder that it is unpacked to, and no link or device is made."""
    path = tmp_path / "evil.tar.gz"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.addfile(member)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(BackupFailed, match="is no file of a backup"):
        open_destination(str(path)).list("log")
    assert [each.name for each in tmp_path.iterdir()] in (
        ["evil.tar.gz"],
        ["home", "evil.tar.gz"],
        ["evil.tar.gz", "home"],
    )


def test_what_is_not_written_as_it_is_takes_no_place(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is compared with what was put, and the older file stays."""
    path = tmp_path / "b.tar.gz"
    emit(root, "t", *range(100))
    _backup(root, path)
    before = path.read_bytes()
    whole = packed._add

    def with_an_error(tar: tarfile.TarFile, source: Path, key: str) -> None:
        if key.startswith("log/t/"):
            source.write_bytes(_flipped(source.read_bytes()))
            whole(tar, source, key)
            source.write_bytes(_flipped(source.read_bytes()))
        else:
            whole(tar, source, key)

    monkeypatch.setattr(packed, "_add", with_an_error)
    emit(root, "t", 1000)
    with pytest.raises(BackupFailed, match="was not written as it is"):
        _backup(root, path)
    assert path.read_bytes() == before


def test_where_it_cannot_be(root: Path, tmp_path: Path, run: Run) -> None:
    """No folder, a place in the root, a folder of such a name."""
    emit(root, "t", 1)
    done = run("backup", str(tmp_path / "nowhere" / "b.tar.gz"))
    assert (done.returncode, "cannot be used: No such file or directory" in done.stderr) == (1, True)
    done = run("backup", str(root / "b.tar.gz"))
    assert (done.returncode, "is inside" in done.stderr) == (2, True)
    (tmp_path / "folder.tar.gz").mkdir()
    assert run("backup", str(tmp_path / "folder.tar.gz")).returncode == 0
    assert (tmp_path / "folder.tar.gz" / "log" / "t").is_dir()


def test_the_commands(root: Path, tmp_path: Path, run: Run) -> None:
    """A dry run writes nothing; prune and --verify look into the file."""
    path = tmp_path / "b.tar.zst"
    emit(root, "t", *range(100))
    assert run("backup", str(path), "--dry-run").returncode == 0
    assert not path.exists()
    assert run("backup", str(path)).returncode == 0
    checked = run("backup", str(path), "--verify")
    assert (checked.returncode, "all as stored" in checked.stdout) == (0, True)
    done = run("restore", str(path), "--root", str(tmp_path / "restored"))
    assert (done.returncode, os.listdir(tmp_path / "restored" / "log" / "t")) == (0, os.listdir(root / "log" / "t"))
    assert run("restore", str(tmp_path / "none.tar.zst"), "--root", str(tmp_path / "x")).returncode == 1
