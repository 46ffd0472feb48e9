"""The origin of a root: an id in its seals, which tells the chains of several roots in one log apart.

    <root>/origin    JSON: the id, and marks of the file that it was first written to

A copy of a root has the id, but not the marks, so that its first seal gives it a new id:

| mark                          | differs in                                                      |
| ----------------------------- | --------------------------------------------------------------- |
| device and inode of this file | `cp`, `rsync`, `tar`, a move to another disk, a layer of an image |
| time of its last change       | the same, where the file system reuses an inode                 |
| number of its names: one      | `cp -l`, backups made of hard links                             |
| boot of the machine, its name | an image of the disk, a snapshot of a machine, another container |

Marks may change without a copy (a reboot changes them). A new id that was not needed does no harm: its first
seal continues the existing chain. Two machines that continue from one snapshot in memory share an id;
verification reports their seals as a fork (docs/decisions/0028-origins-of-chains.md).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import Annotated

import msgspec

from eventlog.errors import WriteFailed
from eventlog.log.segment import sync_folder

NAME = "origin"
_MAX_BYTES = 4096
#: The longest time from the creation of the file to its rename: it is written and synced in between.
_MAKING_MAX_NS = 10_000_000_000
_BOOT_ID = "/proc/sys/kernel/random/boot_id"

Id = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]


class _Origin(msgspec.Struct, frozen=True, kw_only=True):
    origin: Id
    device: int
    inode: int
    made_ns: int
    machine: str


def read(root: str | Path) -> str | None:
    """Return the id of a root, 32 hex digits; None where it has none, or the file came with a copy."""
    try:
        fd = os.open(Path(root) / NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            return None
        marks = msgspec.json.decode(os.read(fd, _MAX_BYTES), type=_Origin)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    finally:
        os.close(fd)
    same = (marks.device, marks.inode, marks.machine) == (status.st_dev, status.st_ino, _machine())
    return marks.origin if same and 0 <= status.st_ctime_ns - marks.made_ns <= _MAKING_MAX_NS else None


def read_or_make(root: str | Path) -> str:
    """Return the id of a root; write a new one if it has none. The caller holds its maintenance lock.

    Raises WriteFailed.
    """
    return read(root) or _make(Path(root) / NAME)


def _make(path: Path) -> str:
    """Write a new id, replacing the file. A crash leaves the old file, or the new one whole."""
    made = os.urandom(16).hex()
    part = path.with_name(NAME + ".part")
    try:
        part.unlink(missing_ok=True)  # a killed run may have left it
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            status = os.fstat(fd)
            marks = _Origin(
                origin=made, device=status.st_dev, inode=status.st_ino, made_ns=status.st_ctime_ns, machine=_machine()
            )
            data = msgspec.json.encode(marks) + b"\n"
            if os.write(fd, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(part, path)  # replaces a link, never follows it
        sync_folder(path.parent)
    except OSError as error:
        raise WriteFailed(
            f"{path}: cannot be written: {error.strerror}; move away what is there, check permissions and free space"
        ) from error
    return made


def _machine() -> str:
    """Return a hash that differs on another machine, after another boot, and in another container."""
    marks = [os.uname().nodename]
    with contextlib.suppress(OSError):  # Linux only
        marks.append(Path(_BOOT_ID).read_text())
    return hashlib.sha256("\n".join(marks).encode("utf-8", "surrogatepass")).hexdigest()
