"""A backup in one file: its objects as a tar, compressed by zstd or gzip, so that tar itself can unpack it.

    FILE ──unpacked beside it──→ folder of objects ──packed──→ read back and compared ──→ FILE, replaced in one step

It takes room for the whole backup twice. A folder or a bucket is better for a backup that goes on for years.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import tarfile
import tempfile
import time
import weakref
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath

from eventlog.errors import BackupFailed
from eventlog.log import zst
from eventlog.log.content import digests
from eventlog.log.segment import sync_folder
from eventlog.maintenance.folder import STALE_S, Folder

_ENDINGS = (".tar.zst", ".tar.gz", ".tgz")
_LEVEL = 3
_BLOCK_BYTES = 1024 * 1024
_DAMAGES = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)


def is_packed(path: Path) -> bool:
    """Say whether a path names a backup in one file, by its ending."""
    return path.name.lower().endswith(_ENDINGS) and not path.is_dir()


class PackedBackup:
    """A destination in one file, which is unpacked at the first use. What was put is in the file after `finish`."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path.expanduser()))
        self.name = str(self.path)
        self._work: Path | None = None
        self._objects: Folder | None = None
        self._is_changed = False

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        """See Destination.put. Raises BackupFailed."""
        self._is_changed = True
        self._unpacked().put(key, blocks)

    def get(self, key: str) -> Iterator[bytes]:
        """See Destination.get. Raises ObjectMissing, ObjectUnreadable and BackupFailed."""
        yield from self._unpacked().get(key)

    def list(self, folder: str) -> list[str]:
        """See Destination.list. Raises BackupFailed."""
        return self._unpacked().list(folder)

    def delete(self, key: str) -> None:
        """See Destination.delete. Raises BackupFailed."""
        self._is_changed = True
        self._unpacked().delete(key)

    def finish(self) -> None:
        """Pack what was put, read it back, and put it in the place of the file. Raises BackupFailed."""
        if not self._is_changed or self._work is None:
            return
        objects, tar = self._unpacked(), self._work / "tar"
        packed = self._work / self.path.name
        try:
            with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as file:
                for key in _keys(objects):
                    _add(file, objects.path / key, key)
            _compress(tar, packed)
            tar.unlink()
            self._compare(packed, objects)
            os.replace(packed, self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            raise self._failed("cannot be written", error) from error
        self._is_changed = False

    def _compare(self, packed: Path, objects: Folder) -> None:
        """Raise BackupFailed where a packed object is not as it was put."""
        expected = set(_keys(objects))
        with self._reading():
            for key, blocks in self._members(packed):
                if key not in expected or digests(blocks) != digests(objects.get(key)):
                    raise BackupFailed(f"{self.name}: {key} was not written as it is; check the disk, and try again")
                expected.remove(key)
        if expected:
            raise BackupFailed(f"{self.name}: {min(expected)} was not written; check the disk, and try again")

    def _unpacked(self) -> Folder:
        if self._objects is None:
            try:
                self._sweep()
                prefix = f".{self.path.name}."
                self._work = Path(tempfile.mkdtemp(prefix=prefix, suffix=".part", dir=self.path.parent))
            except OSError as error:
                raise self._failed("cannot be used", error) from error
            weakref.finalize(self, shutil.rmtree, self._work, ignore_errors=True)
            objects = Folder(self._work / "objects")
            objects.name = self.name  # errors name what the user named
            if self.path.exists():
                self._unpack(objects.path)
            self._objects = objects
        return self._objects

    def _unpack(self, folder: Path) -> None:
        try:
            with self._reading():
                for key, blocks in self._members(self.path):
                    target = folder / key
                    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                    with open(fd, "wb") as file:
                        file.writelines(blocks)
        except OSError as error:
            raise self._failed("cannot be unpacked", error) from error

    def _members(self, path: Path) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Yield the objects of a packed file with their blocks. Raises BackupFailed for what is no object of ours."""
        with _opened(path) as file:
            with tarfile.open(fileobj=file, mode="r|") as tar:
                for member in tar:
                    if member.isdir():  # as tar makes it of a folder
                        continue
                    content = tar.extractfile(member) if member.isfile() else None
                    if content is None or not _is_key(member.name):
                        raise BackupFailed(f"{self.name}: {member.name!r} is no file of a backup")
                    yield PurePosixPath(member.name).as_posix(), iter(partial(content.read, _BLOCK_BYTES), b"")
            while file.read(_BLOCK_BYTES):  # to its checksum
                pass

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Raise BackupFailed for what decompressing and unpacking raise."""
        try:
            yield
        except Exception as error:
            if isinstance(error, _DAMAGES) or zst.is_zstd_error(error):
                raise self._damaged(error) from error
            raise

    def _damaged(self, error: Exception) -> BackupFailed:
        return BackupFailed(f"{self.name}: it is damaged, or no backup: {error}; use another backup, or another name")

    def _failed(self, problem: str, error: OSError) -> BackupFailed:
        where = self.path.parent
        return BackupFailed(f"{self.name}: {problem}: {error.strerror}; check {where}, its permissions and free space")

    def _sweep(self) -> None:
        """Remove folders that interrupted runs have left, but none that another run may be using."""
        for left in self.path.parent.glob(f".{self.path.name}.*.part"):
            with contextlib.suppress(OSError):
                if left.stat().st_mtime < time.time() - STALE_S:
                    shutil.rmtree(left)


def _keys(objects: Folder) -> list[str]:
    return [key for key in objects.list("") if not key.startswith("tmp/")]


def _add(tar: tarfile.TarFile, path: Path, key: str) -> None:
    """Add a file without its time and owner: the same backup makes the same bytes."""
    member = tarfile.TarInfo(key)
    member.size, member.mode = path.stat().st_size, 0o600
    with path.open("rb") as file:
        tar.addfile(member, file)


def _is_key(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts


def _compress(tar: Path, target: Path) -> None:
    """Compress and sync a file. Raises OSError, MissingExtra."""
    if target.name.lower().endswith(".zst"):
        zst.compress(tar, target, level=_LEVEL)
        return
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as raw, tar.open("rb") as source:
        with gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as file:
            shutil.copyfileobj(source, file, _BLOCK_BYTES)
        raw.flush()
        os.fsync(raw.fileno())


def _opened(path: Path) -> io.BufferedReader | gzip.GzipFile:
    """Open what was compressed. Raises OSError, MissingExtra."""
    return zst.open_zst(path) if path.name.lower().endswith(".zst") else gzip.open(path, "rb")
