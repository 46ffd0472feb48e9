"""The origin of a root: an id that its seals carry, so that the chains of several roots may stand in one log.

    <root>/origin    JSON: the id, and marks of the file that it was first written to

A copy of a root has the id, but not the marks, and gets an id of its own at its first seal:

| mark                          | what has another                                                |
| ----------------------------- | --------------------------------------------------------------- |
| device and inode of this file | `cp`, `rsync`, `tar`, a move to another disk, a layer of an image |
| time of its last change       | the same, where the file system gives a free inode out again    |
| number of its names: one      | `cp -l`, backups made of hard links                             |
| boot of the machine, its name | an image of the disk, a snapshot of a machine, another container |

Marks may change without a copy (a reboot does it). An id that was not needed does no harm: its first
seal continues the chain that was there. Two machines that run on from one snapshot in memory keep
one id; verification reports what they seal as a fork.
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
#: From the creation of the file to its name: it is written and synced in between.
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
    """Return the id of a root; None where it has none, or has come with a copy."""
    try:
        fd = os.open(Path(root) / NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            return None
        kept = msgspec.json.decode(os.read(fd, _MAX_BYTES), type=_Origin)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    finally:
        os.close(fd)
    same = (kept.device, kept.inode, kept.machine) == (found.st_dev, found.st_ino, _machine())
    return kept.origin if same and 0 <= found.st_ctime_ns - kept.made_ns <= _MAKING_MAX_NS else None


def read_or_make(root: str | Path) -> str:
    """Return the id of a root, which has one from now on. The caller holds its maintenance lock.

    Raises WriteFailed.
    """
    return read(root) or _make(Path(root) / NAME)


def _make(path: Path) -> str:
    """Write a new id in place of what is there. A crash leaves the old file, or the new one whole."""
    made = os.urandom(16).hex()
    part = path.with_name(NAME + ".part")
    try:
        part.unlink(missing_ok=True)  # a killed run has left it
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            found = os.fstat(fd)
            marks = _Origin(
                origin=made, device=found.st_dev, inode=found.st_ino, made_ns=found.st_ctime_ns, machine=_machine()
            )
            data = msgspec.json.encode(marks) + b"\n"
            if os.write(fd, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(part, path)  # a link that is there is replaced, never followed
        sync_folder(path.parent)
    except OSError as error:
        raise WriteFailed(
            f"{path}: cannot be written: {error.strerror}; move away what is there, check permissions and free space"
        ) from error
    return made


def _machine() -> str:
    """Return a hash of what another machine, another boot or another container has otherwise."""
    marks = [os.uname().nodename]
    with contextlib.suppress(OSError):  # Linux only
        marks.append(Path(_BOOT_ID).read_text())
    return hashlib.sha256("\n".join(marks).encode("utf-8", "surrogatepass")).hexdigest()
