"""Opening the index: briefly, under the fair lock, and never the wrong file.

<root>/index.duckdb         the index
<root>/index.turn, .gate    the fair lock (eventlog.indexer.index.lock)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from eventlog.errors import IndexFailed
from eventlog.indexer.index import lock
from eventlog.indexer.index.engine import CONFIG, Engine, Fate, Overwritten, spill_path
from eventlog.indexer.sql import literal
from eventlog.process import forks, root_files
from eventlog.process.forks import Phase

DEFAULT_TIMEOUT_S = 60.0
#: Bytes of the log that any machine indexes in a second: what an indexer in a hurry goes by (docs/decisions/0037).
HURRIED_BYTES_PER_S = 32 * 1024 * 1024
_RETRY_S = 0.02
#: More than DuckDB opens for one batch or query.
_DESCRIPTORS = 16
_TRY_TIMEOUT_S = 60.0
_READ_TIMEOUT_S = 600.0


def index_path(root: str | Path) -> Path:
    """Return the absolute path of a root's index, whether it exists or not."""
    return Path(root).absolute() / "index.duckdb"  # DuckDB would take `sqlite:…` for another kind of database


def existing(root: str | Path) -> Path:
    """Return the path of a root's index. Raises IndexFailed if there is none."""
    path = regular(root)
    if not path.exists():
        raise IndexFailed(f"there is no index at {path}; try: eventlog index")
    return path


def regular(root: str | Path) -> Path:
    """Return the path of a root's index. Raises IndexFailed if it, or its write-ahead log, is not a regular file.

    DuckDB would wait forever for a FIFO, and follow a symbolic link.
    """
    path = index_path(root)
    for file in (path, *wal_paths(path)):
        if (reason := root_files.refusal(file)) is not None:
            raise IndexFailed(reason)
    return path


#: DuckDB's files beside a database: its write-ahead log, the log while a checkpoint runs, and the log that a recovery
#: makes of the two. A process that is killed during a commit leaves the first of them, perhaps all.
WAL_SUFFIXES = (".wal", ".wal.checkpoint", ".wal.recovery")


def wal_paths(path: Path) -> list[Path]:
    """Return the paths of DuckDB's write-ahead logs for a file. They exist only while somebody writes to it."""
    return [path.with_name(path.name + suffix) for suffix in WAL_SUFFIXES]


@contextmanager
def writing(
    root: str | Path, *, timeout_s: float = DEFAULT_TIMEOUT_S, engine: Engine | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a read-write connection to the index, creating it if it is missing; at the end it is checkpointed.

    An `engine` is kept open for the next call. Raises IndexBusy after `timeout_s` seconds, BrokenIndex, IndexReplaced,
    Overwritten and IndexFailed.
    """
    Path(root).mkdir(parents=True, exist_ok=True, mode=0o700)
    regular(root)
    with _lock_unless_open_here(root, exclusive=True, timeout_s=timeout_s):
        path = regular(root)
        if not path.exists():  # the log of a deleted file must not be played into a new one
            remove_wal(path)
        else:  # first: changing the mode changes the file's fingerprint
            _make_private(path)
        used = engine or Engine()
        connection = _opened(root, lambda: used.attach(path), os.R_OK | os.W_OK, timeout_s)
        try:
            _make_private(path)  # DuckDB makes it readable for everybody
            yield connection
            used.detach()
            if used.fate is Fate.MIXED:
                raise Overwritten(f"{path}: another file was written over it while it was in use")
            if used.fate is Fate.REPLACED:
                raise IndexReplaced(f"{path} was replaced by another file while it was in use; try again")
        except BaseException:
            used.abandon()
            raise
        if engine is None:
            used.close()


def _make_private(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # deleted at this moment
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)


@contextmanager
def reading(
    root: str | Path,
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    attached_as: str | None = None,
    engine: Engine | None = None,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a read-only connection to the index.

    With `attached_as`, the connection is to an empty database in memory, with the index attached under that name. An
    `engine` is kept open for the next call, unless something is raised. Raises IndexFailed if there is no index,
    BrokenIndex, and IndexBusy after `timeout_s` seconds.
    """
    path = existing(root)
    hold = lock.fair_lock if engine is None and attached_as is None else _lock_unless_open_here
    with hold(root, exclusive=False, timeout_s=timeout_s):
        if engine is not None:
            connection = _opened(root, lambda: engine.attach_read_only(path), os.R_OK, timeout_s)
            try:
                yield connection
                engine.detach()
            except BaseException:
                engine.close()
                raise
            return
        connection = connect(root, timeout_s=timeout_s, attached_as=attached_as)
        try:
            yield connection
        finally:
            connection.close()


def connect(root: str | Path, *, timeout_s: float, attached_as: str | None = None) -> duckdb.DuckDBPyConnection:
    """Open the index read-only; hold the fair lock. Raises IndexBusy, BrokenIndex and IndexFailed."""
    path = regular(root)

    def open_() -> duckdb.DuckDBPyConnection:
        if attached_as is None:
            return duckdb.connect(str(path), read_only=True, config=dict(CONFIG))
        return _beside_an_empty_one(path, attached_as)

    return _opened(root, open_, os.R_OK, timeout_s)


def _beside_an_empty_one(path: Path, name: str) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config=dict(CONFIG))
    try:
        connection.execute(f"SET temp_directory = {literal(str(spill_path(path)))}")
        connection.execute(f"ATTACH {literal(str(path))} AS {name} (READ_ONLY)")
    except BaseException:
        connection.close()
        raise
    return connection


def _opened(
    root: str | Path, open_: Callable[[], duckdb.DuckDBPyConnection], rights: int, timeout_s: float
) -> duckdb.DuckDBPyConnection:
    """Open the index while holding the fair lock; wait for programs that do not use it, too.

    Raises IndexBusy after `timeout_s` seconds, BrokenIndex if the file is certainly damaged (docs/decisions/0008), and
    IndexFailed if it cannot be opened for another reason (no descriptors, no rights).
    """
    path = index_path(root)
    deadline = time.monotonic() + timeout_s
    _need_descriptors(path)
    while True:
        try:
            return open_()
        except duckdb.Error as error:
            # Looking at the locks of a file that this process has open would drop them (fcntl(2)).
            own = isinstance(error, duckdb.ConnectionException | duckdb.ResourceInUseException)
            if own or _is_locked(path):
                if time.monotonic() >= deadline:
                    raise lock.busy(root, timeout_s) from error
                time.sleep(_RETRY_S)
            elif _is_broken(path):
                raise broken(path, error) from error
            elif time.monotonic() >= deadline or not os.access(path, rights):
                reason = reason_of(error)
                raise IndexFailed(f"{path} cannot be opened here, though it seems sound: {reason}") from error
            else:
                time.sleep(_RETRY_S)


def _need_descriptors(path: Path) -> None:
    """Raise IndexFailed if DuckDB would run out of descriptors: it may then end the whole process."""
    opened: list[int] = []
    try:
        opened.extend(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) for _ in range(_DESCRIPTORS))
    except OSError as error:
        raise IndexFailed(f"{path} is not opened: {error.strerror}; close some files, or raise `ulimit -n`") from None
    finally:
        for fd in opened:
            os.close(fd)


@contextmanager
def _lock_unless_open_here(root: str | Path, *, exclusive: bool, timeout_s: float) -> Iterator[None]:
    """Hold the fair lock while this process has the index open in no other way, such as in a notebook.

    A process that closes a file loses all its locks on it, whichever part of it took them (fcntl(2)). DuckDB prevents
    that within one instance, but an instance with attached files does not know of others.
    """
    deadline, left_s = time.monotonic() + timeout_s, timeout_s
    while True:
        with lock.fair_lock(root, exclusive=exclusive, timeout_s=left_s):
            if not _is_open_here(index_path(root)):
                yield
                return
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise lock.busy(root, timeout_s)
        time.sleep(_RETRY_S)  # so that others get the lock


def _is_open_here(path: Path) -> bool:
    try:
        index = path.stat()
    except OSError:
        return False
    return any(
        (stat.st_ino, stat.st_dev) == (index.st_ino, index.st_dev)
        for fd, stat in _descriptors()
        if fd not in _inherited
    )


def _descriptors() -> Iterator[tuple[int, os.stat_result]]:
    """Yield the open descriptors of this process; none if the system has no /dev/fd."""
    with contextlib.suppress(OSError):
        for fd in map(int, os.listdir("/dev/fd")):
            with contextlib.suppress(OSError):  # that of the listing itself
                yield fd, os.fstat(fd)


#: Descriptors that a child inherited. It has none of its parent's locks, so closing them loses nothing.
_inherited: frozenset[int] = frozenset()


def _after_fork() -> None:
    global _inherited
    _inherited = frozenset(fd for fd, _ in _descriptors())


forks.register(Phase.INHERITED, after_in_child=_after_fork)


def _is_locked(path: Path) -> bool:
    """Return whether another process holds a lock on the file, also one in another container."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


SELECT_TABLES = "SELECT table_name FROM duckdb_tables()"
#: Makes DuckDB read each block of each column, and compare it with its checksum.
SELECT_HASH = "SELECT sum(hash(rows)) FROM {table} rows"
_TRY_TO_READ = """
import duckdb, sys
from eventlog.indexer.index.index_file import SELECT_HASH, SELECT_TABLES
from eventlog.indexer.sql import ident
path, extent = sys.argv[1:]
try:
    connection = duckdb.connect(path, read_only=True)
    if extent == "all":
        for (name,) in connection.execute(SELECT_TABLES).fetchall():
            connection.execute(SELECT_HASH.format(table=ident(name))).fetchall()
    connection.close()
except duckdb.OutOfMemoryException:
    sys.exit(0)
except duckdb.Error:
    sys.exit(7)
"""
_UNREADABLE = frozenset({7, -signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS})


def _is_broken(path: Path) -> bool:
    """Return whether the file itself is at fault: nobody locks it, and a fresh process cannot open it either.

    In doubt it is not (docs/decisions/0008).
    """
    return _fails_elsewhere(path, "open", _TRY_TIMEOUT_S)


def is_damaged(path: Path) -> bool:
    """Return whether a fresh process cannot read all of the file either; in doubt it can.

    Each block may be sound and the file damaged nevertheless, if a copy was written over it while it was in use.
    """
    return path.exists() and _fails_elsewhere(path, "all", _READ_TIMEOUT_S)


def _fails_elsewhere(path: Path, extent: str, timeout_s: float) -> bool:
    command = [sys.executable, "-P", "-c", _TRY_TO_READ, str(path), extent]
    # A program may have found this package through its `sys.path`; a child that cannot import it finds no fault.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False, env=environment)
        return done.returncode in _UNREADABLE and os.access(path, os.R_OK) and not _is_locked(path)
    except (OSError, subprocess.SubprocessError):
        return False


class IndexReplaced(IndexFailed):
    """A batch was written to a file that is no longer the index; index it again."""


class BrokenIndex(IndexFailed):
    """The index file is damaged or not an eventlog index; `eventlog replay` makes a new one."""


def broken(path: Path, error: Exception | str) -> BrokenIndex:
    """Return the error for an index that cannot be used; `error` is the reason."""
    return BrokenIndex(f"{path} cannot be opened: {reason_of(error)}; try: eventlog replay")


def reason_of(error: Exception | str) -> str:
    """Return the first line of a DuckDB error; of the original error, if it wraps another."""
    text = str(error)
    return (text.partition("Original error:")[2].strip() or text).splitlines()[0]


def set_aside(root: str | Path, inode: int | None, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Path | None:
    """Rename an index that cannot be used, and its WAL, so that the evidence stays.

    `inode` is that of the broken file. Returns the new path, or None if another file is in its place by now. Raises
    IndexBusy after `timeout_s` seconds.
    """
    path = index_path(root)
    with lock.fair_lock(root, exclusive=True, timeout_s=timeout_s):
        if inode_of(path) != inode:
            return None
        return move_aside(path)


def inode_of(path: Path) -> int | None:
    """Return the inode of a file, which differs when another file replaces it; None if there is no file."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def remove_wal(path: Path) -> None:
    """Delete the write-ahead logs of a file that is gone or about to be replaced; hold the fair lock."""
    for wal in wal_paths(path):
        wal.unlink(missing_ok=True)


def keep(path: Path) -> Path:
    """Link an index that is about to be replaced, and its WAL, to a second name, and return it; hold the fair lock."""
    copy = _beside(path, "replaced")
    for file, name in zip((path, *wal_paths(path)), (copy, *wal_paths(copy)), strict=True):
        with contextlib.suppress(FileNotFoundError):
            os.link(file, name)
    return copy


def _beside(path: Path, reason: str) -> Path:
    return path.with_name(
        f"{path.name}.{reason}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.urandom(4).hex()}"
    )


def move_aside(path: Path) -> Path:
    """Rename a broken index and its WAL, and return the new path; hold the fair lock."""
    aside = _beside(path, "broken")
    for file, name in zip((*wal_paths(path), path), (*wal_paths(aside), aside), strict=True):
        with contextlib.suppress(FileNotFoundError):
            os.replace(file, name)
    return aside
