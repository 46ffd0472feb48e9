"""Writing the events of alerts: one checker at a time, and nothing of the caller's context in them."""

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
def turn(root: str | Path, *, wait_s: float) -> Iterator[None]:
    """Hold the root's lock for alerts: who changes rules, checks or delivers holds it all the while.

    Raises AlertsBusy past `wait_s`, and WriteFailed where the root cannot be written.
    """
    path = Path(root) / LOCK_NAME
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
    """Records events of alerts under the time of the check. To be closed; each event is synced when it is written."""

    def __init__(self, root: str | Path) -> None:
        # Not through `config.load`: neither the workspace nor the agent of whoever checks is that of a rule.
        settings = Config(root=str(root), strict=True, durability=Durability.SYNCED)
        self._recorder = Recorder(settings, role=Role.MAINTENANCE)
        self.written = 0

    def write(self, event: msgspec.Struct, *, workspace: str | None, at: datetime, event_id: str | None = None) -> str:
        """Record an event; return its id. Raises WriteFailed, and InvalidEvent."""
        fields: dict[str, object] = {"timestamp": at, "workspace": workspace}
        if event_id is not None:
            fields["event_id"] = event_id
        # In an empty context: a check may run inside an agent's run, of which it is no part.
        written = contextvars.Context().run(lambda: self._recorder.emit(event, **fields))
        assert written is not None, "strict"
        self.written += 1
        return written

    def close(self) -> None:
        """Let go of the segments."""
        self._recorder.shutdown()


@contextmanager
def journal(root: str | Path) -> Iterator[Journal]:
    """Lend a journal."""
    made = Journal(root)
    try:
        yield made
    finally:
        made.close()


def event_id(at: datetime, workspace: str | None, event_type: str, *key: str) -> str:
    """Return the id that belongs to a time and a key: who comes to the same finding writes the same event."""
    return ids.derived_id(timestamps.to_us(at), event_type, *key, workspace=workspace)
