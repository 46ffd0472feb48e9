"""Opening the files of a root that others may write to: never through a link, never waiting, only regular files.

What stands at the name of a lock or of the index may be anything: a FIFO would be waited for without end, a folder is
opened and then fails somewhere else, and a link leads out of the root, where a file would be made in our name.
"""

from __future__ import annotations

import errno
import os
import stat
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
    """Return what stands at a path where a regular file should: `a FIFO`; None for a regular file, or for none."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return None
    return next((name for is_kind, name in _KINDS if is_kind(mode)), None)


def refusal(path: Path) -> str | None:
    """Return what to say of a path that is no regular file, and what to try; None where it is one, or is not there."""
    found = kind_of(path)
    return found and f"{path} is {found}, not a file of eventlog's; move it away and try again"


def without_waiting(path: str, flags: int) -> int:
    """Open as `open(…, opener=…)` asks for it, but wait for no FIFO, which then has nothing in it."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def open_lock(path: Path) -> int:
    """Open a lock file, made with mode 0600 if need be.

    Raises WriteFailed where something else stands there, OSError where it may not be opened.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
    except OSError as error:
        said = refusal(path)
        if said is None and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            fd = os.open(path, os.O_RDONLY | _FLAGS)  # who may only read can still queue
        elif said is None:
            raise
        else:
            raise WriteFailed(said) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise WriteFailed(refusal(path) or f"{path} is not a regular file; move it away and try again")
    return fd
