"""A local or mounted folder as the destination of backups (eventlog.maintenance.destination)."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from eventlog.errors import BackupFailed, ObjectMissing, ObjectUnreadable
from eventlog.log.segment import sync_folder

#: What an interrupted run has left is removed when it is older than this.
STALE_S = 24 * 3600
_BLOCK_BYTES = 5 * 1024 * 1024


class Folder:
    """A local or mounted folder. The first `put` creates it."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path.expanduser()))
        self.name = str(self.path)
        self._swept = False

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        """See Destination.put. Raises BackupFailed."""
        path = self.path / key
        temporary = self.path / "tmp" / secrets.token_hex(8)
        try:
            for folder in (*reversed(path.relative_to(self.path).parents), Path("tmp")):
                (self.path / folder).mkdir(mode=0o700, exist_ok=True)
            self._sweep(temporary.parent)
            _write(temporary, blocks)
            if path.is_dir() and not path.is_symlink():  # somebody has made a folder at the object's path
                (self.path / "damaged").mkdir(mode=0o700, exist_ok=True)
                os.rename(f"{path}/", self.path / "damaged" / secrets.token_hex(8))
            # Only a synced file gets its name: a name without its bytes would look like a backup.
            os.rename(temporary, path)
            for folder in path.relative_to(self.path).parents:
                sync_folder(self.path / folder)
        except OSError as error:
            raise self._failed("cannot store", key, error) from error
        finally:
            temporary.unlink(missing_ok=True)

    def get(self, key: str) -> Iterator[bytes]:
        """See Destination.get. Raises ObjectMissing, ObjectUnreadable and BackupFailed."""
        try:
            # Without blocking: somebody may have put a FIFO there.
            fd = os.open(self.path / key, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            raise ObjectMissing(f"{self.name}: there is no {key}") from None
        except OSError as error:
            raise self._unreadable(key, error) from error
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ObjectUnreadable(f"{self.name}: {key} is not a regular file")
            if hasattr(os, "posix_fadvise"):  # read from the disk, not from the page cache
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            while block := os.read(fd, _BLOCK_BYTES):
                yield block
        except OSError as error:
            raise self._unreadable(key, error) from error
        finally:
            os.close(fd)

    def list(self, folder: str) -> list[str]:
        """See Destination.list. Raises BackupFailed."""
        top = self.path / folder
        if not self.path.exists():
            return []
        if top.is_symlink() and not top.exists():  # its target may be a backup that is not mounted
            raise BackupFailed(f"{self.name}: {folder} is a link to nothing; put the folder there, or remove the link")

        def failed(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise self._failed("cannot list", folder, error) from error

        keys = []
        for where, folders, names in os.walk(top, onerror=failed):
            for name in folders:
                if (link := Path(where, name)).is_symlink():  # the objects behind it would count as missing
                    raise BackupFailed(f"{link} is a link, which eventlog does not follow; put the folder itself there")
            keys += [Path(where, name).relative_to(self.path).as_posix() for name in names]
        return sorted(keys)

    def delete(self, key: str) -> None:
        """See Destination.delete. Raises BackupFailed."""
        try:
            (self.path / key).unlink(missing_ok=True)
        except OSError as error:
            raise self._failed("cannot remove", key, error) from error

    def finish(self) -> None:
        """See Destination.finish: each object is there when it was put."""

    def _sweep(self, folder: Path) -> None:
        """Remove files that interrupted runs have left, but none that another run may be writing."""
        if self._swept:
            return
        self._swept = True
        for path in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - STALE_S:
                    path.unlink()

    def _unreadable(self, key: str, error: OSError) -> ObjectUnreadable:
        return ObjectUnreadable(f"{self.name}: cannot read {key}: {error.strerror}; check its permissions and the disk")

    def _failed(self, problem: str, key: str, error: OSError) -> BackupFailed:
        return BackupFailed(
            f"{self.name}: {problem} {key}: {error.strerror}; check the folder, its permissions and the free space"
        )


def _write(path: Path, blocks: Iterable[bytes]) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb", buffering=0) as file:
        for block in blocks:
            rest = memoryview(block)
            while rest:
                rest = rest[file.write(rest) :]
        os.fsync(fd)
