"""One maintenance command at a time: sealing, archiving and pruning depend on each other's order."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventlog.errors import MaintenanceBusy, WriteFailed
from eventlog.process import forks, root_files

LOCK_NAME = "maintenance.lock"


@contextmanager
def maintenance(root: str | Path) -> Iterator[None]:
    """Hold the root's maintenance lock for the length of the block.

    Raises MaintenanceBusy without waiting where another process holds it, and WriteFailed where the lock file
    cannot be written.
    """
    path = Path(root) / LOCK_NAME
    try:
        opened = root_files.open_lock(path)
    except OSError as error:
        raise WriteFailed(
            f"{path}: {error.strerror}; whoever seals, archives or prunes has to be allowed to write to the root"
        ) from error
    with forks.held(opened) as fd:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MaintenanceBusy(
                f"{path} is held: another seal, archive or prune runs on this root; wait for it and try again"
            ) from None
        yield
