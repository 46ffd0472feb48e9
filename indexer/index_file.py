"""Opening the index: briefly, in turn, and never the wrong file.

<root>/index.duckdb         the index
<root>/index.turn, .gate    the queue (indexer.turns)
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from eventlog.errors import IndexFailed
from indexer import turns

DEFAULT_TIMEOUT_S = 60.0
_RETRY_S = 0.02
_UNHELD_TRIES = 10
_CONFIG = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}


def index_path(root: str | Path) -> Path:
    """Return where the index of a root lives."""
    return Path(root) / "index.duckdb"


def wal_path(path: Path) -> Path:
    """Return where DuckDB keeps the write-ahead log of a file."""
    return path.with_name(path.name + ".wal")


@contextmanager
def writing(root: str | Path, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the index read-write, made if need be. Raises IndexBusy, and IndexFailed where it is broken."""
    Path(root).mkdir(parents=True, exist_ok=True, mode=0o700)
    with turns.turn(root, exclusive=True, timeout_s=timeout_s):
        path = index_path(root)
        if not path.exists():  # a log left by a file that is gone must not be played into a new one
            with contextlib.suppress(FileNotFoundError):
                wal_path(path).unlink()
        connection = connect(root, read_only=False, timeout_s=timeout_s)
        try:
            yield connection
        finally:
            connection.close()


@contextmanager
def reading(root: str | Path, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the index read-only. Raises IndexFailed where there is none, IndexBusy past the bound."""
    path = index_path(root)
    if not path.exists():
        raise IndexFailed(f"there is no index at {path}; try: eventlog index")
    with turns.turn(root, exclusive=False, timeout_s=timeout_s):
        connection = connect(root, read_only=True, timeout_s=timeout_s)
        try:
            yield connection
        finally:
            connection.close()


def connect(root: str | Path, *, read_only: bool, timeout_s: float) -> duckdb.DuckDBPyConnection:
    """Open the index while holding a turn. Programs that know no turns are waited for, too."""
    path = index_path(root)
    deadline = time.monotonic() + timeout_s
    unheld = 0
    while True:
        try:
            return duckdb.connect(str(path), read_only=read_only, config=dict(_CONFIG))
        except duckdb.ConnectionException as error:
            # This very process has the file open in another way, perhaps in a notebook.
            if time.monotonic() >= deadline:
                raise turns.busy(root, timeout_s) from error
            time.sleep(_RETRY_S)
        except duckdb.IOException as error:
            # An IOException is either a lock of another program or a file that cannot be
            # read. The kernel knows which, but by the time we ask a short holder may be gone:
            # call the file broken only if nobody is seen again and again.
            unheld += turns.holders(path) == []
            if unheld >= _UNHELD_TRIES:
                raise broken(path, error) from error
            if not unheld and time.monotonic() >= deadline:
                raise turns.busy(root, timeout_s) from error
            time.sleep(_RETRY_S)
        except duckdb.Error as error:
            raise broken(path, error) from error


class BrokenIndex(IndexFailed):
    """The index file cannot be opened as one of ours; a replay makes a new one."""


def broken(path: Path, error: Exception | str) -> BrokenIndex:
    """Make the error for an index that cannot be used."""
    return BrokenIndex(f"{path} cannot be opened: {str(error).splitlines()[0]}; try: eventlog replay")


def set_aside(root: str | Path, inode: int | None, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Path | None:
    """Move an index that cannot be used, with its WAL, out of the way; the evidence stays.

    Returns where it is now, or None where somebody else has replaced the file meanwhile:
    `inode` tells the one that was found broken.
    """
    path = index_path(root)
    with turns.turn(root, exclusive=True, timeout_s=timeout_s):
        if inode_of(path) != inode:
            return None
        return _move_aside(path)


def inode_of(path: Path) -> int | None:
    """Return what tells a file from one that replaces it; None where there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _move_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}.broken-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        os.replace(wal_path(path), wal_path(aside))
    with contextlib.suppress(FileNotFoundError):
        os.replace(path, aside)
    return aside
