"""Writing the events of alerts: by one process at a time, and without the caller's context."""

from __future__ import annotations

import contextvars
import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import msgspec

from eventlog.config import Config
from eventlog.durability import Durability
from eventlog.errors import AlertsBusy, WriteFailed
from eventlog.format import ids, timestamps
from eventlog.format.control import Role
from eventlog.process import forks, root_files
from eventlog.record.recorder import Recorder

LOCK_NAME = "alerts.lock"
_RETRY_S = 0.05


@contextmanager
def hold_lock(root: Path, *, wait_s: float) -> Iterator[None]:
    """Hold `<root>/alerts.lock`: from reading the rules to the last event that follows from them.

    Raises AlertsBusy past `wait_s`, and WriteFailed where the root cannot be written.
    """
    path = root / LOCK_NAME
    try:
        opened = root_files.open_lock(path)
    except OSError as error:
        raise WriteFailed(
            f"{path}: {error.strerror}; whoever checks alerts has to be allowed to write to the root"
        ) from error
    deadline = time.monotonic() + wait_s
    with forks.held(opened) as fd:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise AlertsBusy(
                        f"{path} is held: another process checks alerts or changes rules; waited {wait_s:g} s"
                    ) from None
            time.sleep(_RETRY_S)
        yield


class Journal:
    """Writes events of alerts. Each is synced before `write` returns; `written` counts them. Close it at the end."""

    def __init__(self, root: Path) -> None:
        # Not through `config.load`: neither the workspace nor the agent of whoever checks is that of a rule.
        settings = Config(root=str(root), strict=True, durability=Durability.SYNCED)
        self._recorder = Recorder(settings, role=Role.MAINTENANCE)
        self.written = 0

    def write(self, event: msgspec.Struct, *, workspace: str | None, at: datetime, event_id: str | None = None) -> str:
        """Record an event with the timestamp `at` (UTC); return its id. Raises WriteFailed and InvalidEvent."""
        fields: dict[str, object] = {"timestamp": at, "workspace": workspace}
        if event_id is not None:
            fields["event_id"] = event_id
        # In an empty context: a check may run inside an agent's run, and its events are no part of it.
        written = contextvars.Context().run(lambda: self._recorder.emit(event, **fields))
        assert written is not None, "strict"
        self.written += 1
        return written

    def close(self) -> None:
        """Finish the segments that were written to."""
        self._recorder.shutdown()


@contextmanager
def locked(root: Path, *, wait_s: float) -> Iterator[Journal]:
    """Hold the lock, and yield a journal. Raises what `hold_lock` does."""
    with hold_lock(root, wait_s=wait_s):
        journal = Journal(root)
        try:
            yield journal
        finally:
            journal.close()


def event_id(at: datetime, workspace: str | None, event_type: str, *key: str) -> str:
    """Return the id that is derived from a time and a key: checkers that decide the same write the same event."""
    return ids.derived_id(timestamps.to_us(at), event_type, *key, workspace=workspace)
