"""Opening and replacing files of a root that others may write to: no links, no waiting, only regular files.

Anything may stand at the path of a lock or of the index: opening a FIFO would wait for ever, a folder can be opened
and fails later, and a link leads out of the root, where a file would be created with our rights.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

from eventlog.errors import WriteFailed

_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def kind_of(path: Path) -> str | None:
    """Return what stands at a path instead of a regular file, such as `a FIFO`; None for a regular or missing file."""
    try:
        return kind_of_mode(path.lstat().st_mode)
    except OSError:
        return None


def kind_of_mode(mode: int) -> str | None:
    """Return what a mode of `stat` says, such as `a FIFO`; None for a regular file."""
    return next((name for is_kind, name in _KINDS if is_kind(mode)), None)


def refusal(path: Path) -> str | None:
    """Return an error message for a path that is no regular file; None for a regular or missing file."""
    kind = kind_of(path)
    return kind and f"{path} is {kind}, not a file of eventlog's; move it away and try again"


def without_waiting(path: str, flags: int) -> int:
    """Open a file without waiting for a FIFO, which then reads as empty. For `open(…, opener=…)`."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def open_lock(path: Path) -> int:
    """Open a lock file, creating it with mode 0600 if need be; return the descriptor.

    Raises WriteFailed where its path is no regular file, OSError where it may not be opened.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
    except OSError as error:
        message = refusal(path)
        if message is None and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            fd = os.open(path, os.O_RDONLY | _FLAGS)  # a user who may only read can still queue
        elif message is None:
            raise
        else:
            raise WriteFailed(message) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise WriteFailed(refusal(path) or f"{path} is not a regular file; move it away and try again")
    return fd


def replace_file(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write a file beside its path, and rename it: a reader finds the old content or the new one. Raises OSError."""
    fd, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            os.fchmod(fd, mode)
            file.flush()
            os.fsync(fd)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise
