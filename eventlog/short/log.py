"""Appending one line to a segment that nobody owns, as eventlog.log.stream and eventlog.log.segment would.

Only the usual case: there is a segment of the type that may be continued, and the whole line fits. Whatever else is
the case, nothing is written, and the full way decides.
"""

from __future__ import annotations

import fcntl
import posix as os
import stat
import time

#: As by default in eventlog.config: where a setting says otherwise, there is no short way.
SEGMENT_MAX_BYTES = 64 * 1024 * 1024
SEGMENT_MAX_AGE_S = 24 * 3600
_TRIES_MAX = 16
#: Their events say that a segment was sealed or pruned, and must not be continued.
_CLOSING = ("segment_sealed", "segment_pruned")
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


def append(root: str, event_type: str, line: bytes) -> bool:
    """Append a line, and sync it; return whether that was done."""
    folder = f"{root}/log/{event_type}"
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            return False
        now_s = time.time()
        closed_s = max(_last_written_s(f"{root}/log/{name}") for name in _CLOSING)
        after, until = _stamp(max(now_s - SEGMENT_MAX_AGE_S, closed_s)), _stamp(now_s)
        for name in sorted(os.listdir(folder), reverse=True)[:_TRIES_MAX]:
            if not (_is_segment(name) and after < name[: len(after)] <= until):
                return False
            if _append(f"{folder}/{name}", line):
                _sync_names(root, folder)
                return True
    except OSError:
        pass
    return False


def _is_segment(name: str) -> bool:
    """Say whether a name is that of a segment that is not archived; see eventlog.log.layout."""
    digits = name[:8] + name[9:21]
    return (
        (len(name), name[8:9], name[21:23], name[39:]) == (45, "T", "Z-", ".jsonl")
        and digits.isascii()
        and digits.isdigit()
    )


def _append(path: str, line: bytes) -> bool:
    """Append a line to a segment unless somebody owns it, has closed it, or it is full. Raises OSError."""
    fd = os.open(path, _FLAGS)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(fd)  # only now: before the lock it may have changed
        if not _may_be_continued(fd, status, os.lstat(path)) or status.st_size + len(line) > SEGMENT_MAX_BYTES:
            return False
        try:
            if os.write(fd, line) == len(line):
                os.fdatasync(fd) if hasattr(os, "fdatasync") else os.fsync(fd)
                return True
        except OSError:
            pass
        os.ftruncate(fd, status.st_size)  # the full way writes it, to another segment: in the log once
        return False
    except BlockingIOError:
        return False
    finally:
        os.close(fd)


def _may_be_continued(fd: int, status: os.stat_result, named: os.stat_result) -> bool:
    """As in eventlog.log.segment: a plain file that may be written to, still at its path, that ends in a newline."""
    size = status.st_size
    return (
        stat.S_ISREG(status.st_mode)
        and bool(status.st_mode & 0o222)
        and (status.st_dev, status.st_ino) == (named.st_dev, named.st_ino)
        and (size == 0 or os.pread(fd, 1, size - 1) == b"\n")
    )


def _last_written_s(folder: str) -> float:
    """Return when something in a folder was last written, in seconds since the epoch; 0 without one."""
    try:
        with os.scandir(folder) as entries:
            return max((entry.stat(follow_symlinks=False).st_mtime for entry in entries), default=0.0)
    except FileNotFoundError:
        return 0.0


def _stamp(time_s: float) -> str:
    """Return a time as the names of segments begin, to the second, so that it sorts among them."""
    return "{:04}{:02}{:02}T{:02}{:02}{:02}".format(*time.gmtime(time_s)[:6])


def _sync_names(root: str, folder: str) -> None:
    """Make the names of the segment and its folders survive a power cut, where the file system does that."""
    for path in (folder, f"{root}/log", root):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError:  # the line is in the log; to write it once more would be worse
            return
