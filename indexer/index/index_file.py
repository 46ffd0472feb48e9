"""Opening the index: briefly, in turn, and never the wrong file.

<root>/index.duckdb         the index
<root>/index.turn, .gate    the queue (eventlog.indexer.index.lock)
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
_RETRY_S = 0.02
#: More than DuckDB opens for one batch or query.
_DESCRIPTORS = 16
_TRY_TIMEOUT_S = 60.0
_READ_TIMEOUT_S = 600.0


def index_path(root: str | Path) -> Path:
    """Return where the index of a root lives."""
    return Path(root).absolute() / "index.duckdb"  # what is relative, or `sqlite:…`, means something else to DuckDB


def existing(root: str | Path) -> Path:
    """Return where the index of a root is. Raises IndexFailed where there is none."""
    path = regular(root)
    if not path.exists():
        raise IndexFailed(f"there is no index at {path}; try: eventlog index")
    return path


def regular(root: str | Path) -> Path:
    """Return where the index of a root is. Raises IndexFailed where it, or its write-ahead log, is no regular file.

    DuckDB would wait for a FIFO without end, and follow a link.
    """
    path = index_path(root)
    for each in (path, *wal_paths(path)):
        if (said := root_files.refusal(each)) is not None:
            raise IndexFailed(said)
    return path


#: What DuckDB makes beside a file: its write-ahead log, what is written while a checkpoint runs, and what
#: a recovery makes of the two. A process that is killed in a commit leaves the first of them, perhaps all.
WAL_SUFFIXES = (".wal", ".wal.checkpoint", ".wal.recovery")


def wal_paths(path: Path) -> list[Path]:
    """Return where DuckDB keeps the write-ahead logs of a file. They are there only while somebody writes to it."""
    return [path.with_name(path.name + suffix) for suffix in WAL_SUFFIXES]


@contextmanager
def writing(
    root: str | Path, *, timeout_s: float = DEFAULT_TIMEOUT_S, engine: Engine | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the index read-write, made if need be. Raises IndexBusy, and IndexFailed where it is broken.

    With an `engine`, that stays for the next time.
    """
    Path(root).mkdir(parents=True, exist_ok=True, mode=0o700)
    regular(root)
    with _turn_apart(root, exclusive=True, timeout_s=timeout_s):
        path = regular(root)
        if not path.exists():  # a log left by a file that is gone must not be played into a new one
            remove_wal(path)
        else:  # before it is looked at: to change its mode changes what tells it from others
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
    """Open the index read-only. Raises IndexFailed where there is none, IndexBusy past the bound.

    With `attached_as` the connection is to an empty database of its own, with the index beside it under that name.
    With an `engine`, that stays for the next time, unless something is raised.
    """
    path = existing(root)
    turn = lock.turn if engine is None and attached_as is None else _turn_apart
    with turn(root, exclusive=False, timeout_s=timeout_s):
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
    """Open the index read-only while holding a turn. Raises IndexBusy, BrokenIndex and IndexFailed."""
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
    """Open the index while holding a turn. Programs that know no turns are waited for, too.

    Raises IndexBusy past the bound, BrokenIndex where it is certain that the file is no good,
    and IndexFailed where it cannot be opened for another reason (no descriptors, no rights).
    """
    path = index_path(root)
    deadline = time.monotonic() + timeout_s
    _need_descriptors(path)
    while True:
        try:
            return open_()
        except duckdb.Error as error:
            # To look at the locks of a file that this very process has open would take them away.
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
    """Raise IndexFailed where DuckDB would run out of descriptors: it may then end the whole process."""
    taken: list[int] = []
    try:
        taken.extend(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) for _ in range(_DESCRIPTORS))
    except OSError as error:
        raise IndexFailed(f"{path} is not opened: {error.strerror}; close some files, or raise `ulimit -n`") from None
    finally:
        for fd in taken:
            os.close(fd)


@contextmanager
def _turn_apart(root: str | Path, *, exclusive: bool, timeout_s: float) -> Iterator[None]:
    """Hold a turn in which this process has the index open in no other way, perhaps in a notebook.

    A process that closes a file loses all its locks on it (fcntl(2)), whoever in it has taken them. DuckDB looks
    after that within one instance, and an instance that files are attached to knows nothing of others.
    """
    deadline, left_s = time.monotonic() + timeout_s, timeout_s
    while True:
        with lock.turn(root, exclusive=exclusive, timeout_s=left_s):
            if not _is_open_here(index_path(root)):
                yield
                return
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise lock.busy(root, timeout_s)
        time.sleep(_RETRY_S)  # in which others have their turns


def _is_open_here(path: Path) -> bool:
    try:
        wanted = path.stat()
    except OSError:
        return False
    return any(
        (found.st_ino, found.st_dev) == (wanted.st_ino, wanted.st_dev)
        for fd, found in _descriptors()
        if fd not in _inherited
    )


def _descriptors() -> Iterator[tuple[int, os.stat_result]]:
    """Yield what this process has open; nothing where the system does not tell."""
    with contextlib.suppress(OSError):
        for fd in map(int, os.listdir("/dev/fd")):
            with contextlib.suppress(OSError):  # that of the listing itself
                yield fd, os.fstat(fd)


#: What a child has of its parent's. It has none of the parent's locks, and so nothing to lose.
_inherited: frozenset[int] = frozenset()


def _after_fork() -> None:
    global _inherited
    _inherited = frozenset(fd for fd, _ in _descriptors())


forks.register(Phase.INHERITED, after_in_child=_after_fork)


def _is_locked(path: Path) -> bool:
    """Say whether another process holds a lock on the file, wherever that process is."""
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


#: To read a row is to hash it, so that each block of each column is read, and compared with its checksum.
_TRY_TO_READ = """
import duckdb, sys
path, how = sys.argv[1:]
try:
    connection = duckdb.connect(path, read_only=True)
    if how == "all":
        for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
            connection.execute(f'SELECT sum(hash(rows)) FROM "{name}" rows').fetchall()
    connection.close()
except duckdb.OutOfMemoryException:
    sys.exit(0)
except duckdb.Error:
    sys.exit(7)
"""
_UNREADABLE = frozenset({7, -signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS})


def _is_broken(path: Path) -> bool:
    """Say whether the file itself is at fault: nobody locks it, and a fresh process, with
    descriptors and memory to spare, cannot open it either. In doubt it is not."""
    return _fails_elsewhere(path, "open", _TRY_TIMEOUT_S)


def is_damaged(path: Path) -> bool:
    """Say whether a fresh process cannot read all of the file either. In doubt it can.

    Each block may be sound and the file is still none: a copy was written over it while it was in use.
    """
    return path.exists() and _fails_elsewhere(path, "all", _READ_TIMEOUT_S)


def _fails_elsewhere(path: Path, how: str, timeout_s: float) -> bool:
    command = [sys.executable, "-c", _TRY_TO_READ, str(path), how]
    try:
        found = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)
        return found.returncode in _UNREADABLE and os.access(path, os.R_OK) and not _is_locked(path)
    except (OSError, subprocess.SubprocessError):
        return False


class IndexReplaced(IndexFailed):
    """What was written went into a file that is not the index any more; it has to be written again."""


class BrokenIndex(IndexFailed):
    """The index file cannot be opened as one of ours; a replay makes a new one."""


def broken(path: Path, error: Exception | str) -> BrokenIndex:
    """Make the error for an index that cannot be used."""
    return BrokenIndex(f"{path} cannot be opened: {reason_of(error)}; try: eventlog replay")


def reason_of(error: Exception | str) -> str:
    """Return what DuckDB says, in one line: where it wraps an error in another, the one that came first."""
    text = str(error)
    return (text.partition("Original error:")[2].strip() or text).splitlines()[0]


def set_aside(root: str | Path, inode: int | None, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Path | None:
    """Move an index that cannot be used, with its WAL, out of the way; the evidence stays.

    Returns where it is now, or None where somebody else has replaced the file meanwhile:
    `inode` tells the one that was found broken.
    """
    path = index_path(root)
    with lock.turn(root, exclusive=True, timeout_s=timeout_s):
        if inode_of(path) != inode:
            return None
        return move_aside(path)


def inode_of(path: Path) -> int | None:
    """Return what tells a file from one that replaces it; None where there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def remove_wal(path: Path) -> None:
    """Remove the write-ahead logs of a file that is gone, or about to be; to be done while holding the turn."""
    for each in wal_paths(path):
        each.unlink(missing_ok=True)


def keep(path: Path) -> Path:
    """Give an index that is about to be replaced, and its WAL, a second name; to be done while holding the turn."""
    kept = _beside(path, "replaced")
    for each, name in zip((path, *wal_paths(path)), (kept, *wal_paths(kept)), strict=True):
        with contextlib.suppress(FileNotFoundError):
            os.link(each, name)
    return kept


def _beside(path: Path, why: str) -> Path:
    return path.with_name(f"{path.name}.{why}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.urandom(4).hex()}")


def move_aside(path: Path) -> Path:
    """Rename an index and its WAL; to be done while holding the turn."""
    aside = _beside(path, "broken")
    for each, name in zip((*wal_paths(path), path), (*wal_paths(aside), aside), strict=True):
        with contextlib.suppress(FileNotFoundError):
            os.replace(each, name)
    return aside
