"""One segment file, seen from the process that appends to it.

Constraints
    Whole lines only, in the order of the calls; a reader at any moment sees complete lines
    and at most one torn tail; nothing is ever appended behind a torn tail; whatever
    `append` counted survives a kill of the process.

Layout
    UTF-8 lines, each ending in a newline. No header, no footer. Offsets are bytes.

Ownership
    An exclusive `flock` is held on the descriptor for as long as it is open. The kernel
    drops it with the process, so a free lock means a dead owner. `flock` and not a POSIX
    lock: those are lost when *any* descriptor of the file in the process is closed.

Writing
    One `write(2)` on an O_APPEND descriptor. After a short write the file is cut back to
    the last complete line, and the caller takes the rest to a fresh segment.

Syncing
    `sync` may run beside `append`. Lines that no sync has covered are remembered, so that
    they can be written to another segment when a sync fails: after a failed fsync Linux
    marks the pages clean, and a second one would report a success that is not one
    (https://lwn.net/Articles/752063/).

Resting
    To save descriptors a segment may be closed (eventlog.log.descriptors), and continued later if nobody changed
    it. In between nobody owns it. `sync` opens it for as long as it takes.

Other programs
    Some programs close descriptors that are not theirs (a daemon that closes all), and the number is
    then another file's. So segments use high numbers, which are not reused soon, and before
    each sync and each close it is checked that the descriptor is still this file's. Before
    each sync, the file has to be where readers look for it, and no shorter than what was written:
    an operator may have moved, deleted or cut it.

Adopting
    A writer may continue an unlocked, unsealed segment that is empty or ends in a newline. A segment
    that ends in a torn line is never continued: its tail stays last.

Restoring
    A restored segment may lack lines that were acknowledged once. So it has no write permission, which
    keeps writers from adopting it, and the sticky bit, which says that this is not due to a seal (RESTORED_MODE).

What a crash can leave
    An empty segment (killed between creation and the first write), or one torn line at
    the end (killed, or out of space, inside a write).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventlog.log import descriptors, layout
from eventlog.log.descriptors import EXHAUSTED
from eventlog.process import forks, locks
from eventlog.process.forks import Phase

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
#: Unsynced lines up to this size are held in memory; beyond it, they are read from the file if a sync fails.
_REMEMBERED_MAX_BYTES = 16 * 1024 * 1024
_SYNC_TIMEOUT_S = 30.0
_CREATE_TRIES = 16
#: Read-only, and not because of a seal.
RESTORED_MODE = 0o400 | stat.S_ISVTX


class Segment:
    """An open segment that this process owns. One thread may append while another syncs."""

    def __init__(self, fd: int, path: Path, size: int) -> None:
        self._fd = fd
        self.path = path
        self.size = size
        self._file = _identity(os.fstat(fd))
        #: Whether the file is closed for now (see Resting).
        self.at_rest = False
        self._rested_mtime_ns = -1
        #: When `check_file` was last called, in seconds of the wall clock.
        self.checked_s = 0.0
        now_s = time.time()  # a name from the future is a clock's mistake: its age counts from now
        self.created_s = min(layout.created_s(path.name.removesuffix(layout.SUFFIX)) or now_s, now_s)
        self._synced_size = size
        self._name_synced = False
        self._unsynced: deque[tuple[int, bytes]] = deque()  # (end, lines)
        #: How many unsynced lines are no longer in memory. They come before those in `_unsynced`.
        self._forgotten_lines = 0
        self._failure: OSError | None = None
        self._sync_lock = locks.Lock()
        _segments.add(self)

    @classmethod
    def create(cls, folder: Path) -> Segment:
        """Create and lock a new, empty segment in the folder of a type, made if need be. Raises OSError."""
        # Prompts and secrets end up in logs: the folders are for their owner alone.
        folder.parent.parent.parent.mkdir(parents=True, exist_ok=True)
        for part in (folder.parent.parent, folder.parent, folder):
            part.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink():
            raise OSError(f"{folder} is a symbolic link, which eventlog does not follow")
        for _ in range(_CREATE_TRIES):
            path = folder / (layout.new_segment_name(time.time_ns()) + layout.SUFFIX)
            made = cls(_opened(path, _FLAGS | os.O_CREAT | os.O_EXCL), path, 0)
            # Another process may adopt the new file before it is locked here. Then create another one.
            try:
                fcntl.flock(made._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_still_at(path, os.fstat(made._fd)):
                    return made
            except (BlockingIOError, FileNotFoundError):
                pass  # adopted, perhaps even indexed and released, before the lock
            except BaseException:
                made.drop()
                raise
            made.drop()
        raise BlockingIOError(errno.EAGAIN, f"others took {_CREATE_TRIES} new segments before they could be locked")

    @classmethod
    def adopt(cls, path: Path) -> Segment | None:
        """Lock a segment whose owner is gone, to continue it; return None where that is not allowed."""
        try:
            made = cls(_opened(path, _FLAGS), path, 0)
        except OSError:
            return None
        try:
            fcntl.flock(made._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Only now: what was read before the lock may have changed.
            status = os.fstat(made._fd)
            if _adoptable(made._fd, status) and _is_still_at(path, status):
                made.size = made._synced_size = status.st_size
                return made
        except OSError:
            pass  # locked by a living owner, or unlinked: both mean "not this one"
        except BaseException:
            made.drop()
            raise
        made.drop()
        return None

    def append(self, data: bytes) -> int:
        """Append whole lines; return how many bytes of whole lines were written.

        Less than all means that the file system ran short: the rest belongs into another
        segment. Raises OSError where nothing could be written. After either, and after any
        other exception, never append here again.
        """
        written = os.write(self._fd, data)
        if written != len(data):
            # Cut back before anything else happens: the next append would be glued to the torn line.
            data = self._cut_back(data, written)
            written = len(data)
        size = self.size = self.size + written
        if size - self._synced_size > _REMEMBERED_MAX_BYTES:
            remembered, self._unsynced = self._unsynced, deque()
            self._forgotten_lines += data.count(b"\n") + sum(lines.count(b"\n") for _, lines in _snapshot(remembered))
        else:
            self._unsynced.append((size, data))
        return written

    def _cut_back(self, data: bytes, written: int) -> bytes:
        """Cut a torn line off the end of the file; return the whole lines before it."""
        whole = data.rfind(b"\n", 0, written) + 1
        os.ftruncate(self._fd, os.lseek(self._fd, 0, os.SEEK_CUR) - written + whole)
        return data[:whole]

    def sync(self) -> None:
        """Make all lines that were appended before the call survive a power cut.

        Raises OSError, and raises it again in every later call: `unsynced` returns the lines to write elsewhere. Only
        where no descriptor was left, nothing was tried, and it may be called again.
        """
        with self._held_for_sync():
            if self._failure is not None:
                raise self._failure
            size, remembered, forgotten = self.size, self._unsynced, self._forgotten_lines
            if self._synced_size == size and self._name_synced:
                return
            try:
                self.check_file()
                self._sync()
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    self._failure = error
                raise
            self._synced_size = max(size, self._synced_size)
            self._forgotten_lines -= forgotten
            while remembered and remembered[0][0] <= size:
                remembered.popleft()

    def check_file(self) -> None:
        """Raise OSError where readers do not see what was appended: somebody has moved, deleted or cut the file."""
        size = self.size
        status = os.lstat(self.path)
        if _identity(status) != self._file or self.path.parent.is_symlink():
            raise FileNotFoundError(errno.ENOENT, "somebody has put something else in its place")
        if status.st_size < size:
            raise OSError(errno.EIO, f"somebody has cut it, from {size} bytes to {status.st_size}")
        if not self.at_rest and not self._has(self._fd):
            raise OSError(errno.EBADF, "somebody has closed its descriptor")

    def check_foreign_bytes(self) -> None:
        """Make the next `sync` fail where another program has written to the file. Call it while nobody appends.

        If those bytes are no whole lines, the next line would be glued to them.
        """
        if not self.at_rest and self._has(self._fd) and os.fstat(self._fd).st_size > self.size:
            self._failure = OSError(errno.EIO, "somebody else has written to it")

    def _sync(self) -> None:
        with self._readable() as fd:
            os.fdatasync(fd) if hasattr(os, "fdatasync") else os.fsync(fd)
        if not self._name_synced:  # a new name is not durable until its folders are
            for folder in self.path.parents[:3]:
                sync_folder(folder)
            with contextlib.suppress(PermissionError):  # the folder that holds the root may belong to somebody else
                sync_folder(self.path.parents[3])
            self._name_synced = True

    @contextmanager
    def _readable(self) -> Iterator[int]:
        """Yield a descriptor of the file: its own, or one for the block where that was closed. Raises OSError."""
        own = self._fd
        if self._has(own):
            yield own
            return
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if not (self._has(fd) and self._ends_as_left(fd)):
                raise FileNotFoundError(errno.ENOENT, "somebody has put something else in its place")
            yield fd
        finally:
            os.close(fd)

    def _has(self, fd: int) -> bool:
        """Say whether a descriptor belongs to this file."""
        try:
            return fd >= 0 and _identity(os.fstat(fd)) == self._file
        except OSError:
            return False

    def _ends_as_left(self, fd: int) -> bool:
        """Say whether the last line is where it was written: file systems reuse the inodes of deleted files."""
        try:
            end, lines = self._unsynced[-1]
        except IndexError:
            return True
        return os.pread(fd, len(lines), end - len(lines)) == lines

    def unsynced(self) -> tuple[bytes, int]:
        """Return the lines that this process appended and no sync has covered, and the number of lost lines.

        A line is lost if it is neither in memory (16 MiB at most) nor in the file any more.
        """
        start, size, forgotten = self._synced_size, self.size, self._forgotten_lines
        remembered = b"".join(data for end, data in _snapshot(self._unsynced) if end > start)
        if len(remembered) == size - start:
            return remembered, 0
        with contextlib.suppress(OSError), self._readable() as fd:
            lines = os.pread(fd, size - start, start)
            if len(lines) == size - start and lines.endswith(remembered) and lines.endswith(b"\n"):
                return lines, 0
        return remembered, forgotten

    def rest(self) -> bool:
        """Close the file, and give up its lock, unless a sync is running; return whether it is closed now."""
        if locks.is_owned(self._sync_lock):  # a signal handler, in the middle of a sync
            return False
        with locks.held(self._sync_lock, 0) as acquired:
            if acquired and not self.at_rest:
                with contextlib.suppress(OSError):  # somebody has closed it
                    self._rested_mtime_ns = os.fstat(self._fd).st_mtime_ns
                self.at_rest = True
                self._close()
        return self.at_rest

    def wake(self) -> bool:
        """Open and lock the file again; return False where somebody changed it. Raises OSError without descriptors."""
        try:
            self._fd = _opened(self.path, _FLAGS)
        except OSError as error:
            if error.errno in EXHAUSTED:
                raise
            return False
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(self._fd)
            left_as = (self._file, self.size, self._rested_mtime_ns)
            is_same = (_identity(status), status.st_size, status.st_mtime_ns) == left_as and status.st_mode & 0o222
            if is_same and _is_still_at(self.path, status):
                self.at_rest = False
                return True
        except OSError:
            pass  # as in `adopt`
        except BaseException:
            self._close()
            raise
        self._close()
        return False

    def close(self) -> None:
        """Close the file, which gives up its lock. Closing twice is fine. Raises TimeoutError where a sync hangs."""
        with self._held_for_sync():
            self.drop()

    def drop(self) -> None:
        """Close without waiting for a sync: for forked children, and for segments that nobody else has yet."""
        _segments.discard(self)
        self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if self._has(fd):  # else somebody has closed it, and the number may be another file
            with contextlib.suppress(OSError):  # what a close complains about, the next sync would have said
                os.close(fd)  # once: a moment later the number may be another file's

    def after_fork(self) -> None:
        """In a child: give up the file, and leave it to the parent to sync what the parent wrote."""
        self.drop()
        self._synced_size, self._name_synced, self._forgotten_lines = self.size, True, 0
        self._unsynced = deque()

    def remove(self) -> None:
        """Try to delete the file, while the lock keeps it from being adopted."""
        if self._has(self._fd):  # else the lock is lost, and another process may own the file
            with contextlib.suppress(OSError):
                os.unlink(self.path)

    @contextmanager
    def _held_for_sync(self) -> Iterator[None]:
        with locks.held(self._sync_lock, _SYNC_TIMEOUT_S) as acquired:
            if not acquired:
                raise TimeoutError(errno.ETIMEDOUT, f"a sync has been running for {_SYNC_TIMEOUT_S:g} s")
            yield


@contextmanager
def held_still(path: Path) -> Iterator[bool]:
    """Keep a segment that nobody owns from being adopted during the block; yield whether that is so.

    If it is, what is read inside of the block cannot be the beginning of a line that somebody is writing. A file
    that cannot be opened (no descriptors, no rights) counts as owned; a missing one as not owned.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        yield isinstance(error, FileNotFoundError)
        return
    with forks.held(fd):
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def is_owned(path: Path) -> bool:
    """Say whether a living process owns the segment. Nobody owns a missing file."""
    with held_still(path) as still:
        return not still


def _opened(path: Path, flags: int) -> int:
    """Open a file under a high descriptor number, which is not reused soon. Raises OSError."""
    low = forks.hold(os.open(path, flags, 0o600))
    try:
        high = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, descriptors.high())
    except OSError:  # there was no second descriptor
        return forks.keep(low)
    with contextlib.suppress(OSError):
        forks.let_go(low)
    return high


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _snapshot(lines: deque[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Return the lines that are unsynced now. A sync on another thread may be taking them out of the deque."""
    while True:
        try:
            return list(lines)
        except RuntimeError:  # it was changed while it was copied
            continue


def _adoptable(fd: int, status: os.stat_result) -> bool:
    if not stat.S_ISREG(status.st_mode) or not status.st_mode & 0o222:
        return False
    return status.st_size == 0 or os.pread(fd, 1, status.st_size - 1) == b"\n"


def _is_still_at(path: Path, status: os.stat_result) -> bool:
    """Say whether a path still names the file: it may have been deleted or replaced between open and lock."""
    return _identity(os.lstat(path)) == _identity(status)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove_if_finished(path: Path, size: int) -> bool:
    """Delete a segment that nobody owns and that has exactly `size` bytes; return whether it is gone.

    The lock keeps writers from adopting it in between.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    with forks.held(fd):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_size != size:
                return False
            os.unlink(path)
        except OSError:
            return False
    return True


def protect_restored(fd: int, *, is_whole: bool) -> None:
    """Set the mode of a restored segment, before it gets its name. Raises OSError.

    With `is_whole` (its seal says so) the mode is that of a sealed segment.
    """
    os.fchmod(fd, 0o400)
    if not is_whole:
        with contextlib.suppress(OSError):  # some systems allow the sticky bit on folders only
            os.fchmod(fd, RESTORED_MODE)


def is_restored(path: Path) -> bool:
    """Say whether a segment was restored from a backup, and not sealed since."""
    try:
        return bool(path.lstat().st_mode & stat.S_ISVTX)
    except OSError:
        return False


def name_file(new: Path, target: Path) -> None:
    """Move a file to the path of a segment that does not exist. Raises FileExistsError if it does, and OSError."""
    try:
        os.link(new, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "there is one by now", str(target)) from None
        os.rename(new, target)


def replace_if_finished(path: Path, size: int, new: Path, target: Path) -> bool:
    """Move `new` to `target`, replacing a segment that nobody owns and that has exactly `size` bytes.

    Returns False, and moves nothing, where the segment is owned or has another size. `target` is the segment's own
    path, or that of its archive, in which case the plain file is deleted. Raises OSError.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    with forks.held(fd):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        # A writer that adopts checks size and inode after it has the lock, so it cannot get the old file.
        if os.fstat(fd).st_size != size:
            return False
        os.rename(new, target)
        if target != path:
            os.unlink(path)
    return True


_segments = forks.Instances[Segment](Phase.DESCRIPTORS, after_in_child=Segment.after_fork)
