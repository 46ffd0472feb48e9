"""How far each segment was sent, in `<root>/sending.json`, one entry for each server.

The file is derived: without it, all of the log is sent again, with the same ids. `sending.lock` is held by the one
process that sends.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from eventlog.errors import WriteFailed
from eventlog.process import root_files

_NAME, _LOCK = "sending.json", "sending.lock"
_MAX_BYTES = 64 * 1024 * 1024


class _File(msgspec.Struct):
    servers: dict[str, dict[str, int]] = {}


class Progress:
    """The offsets of one server, by `<event_type>/<segment>`. Raises OSError and WriteFailed where nothing is kept."""

    def __init__(self, root: str | Path, server: str) -> None:
        self._root = Path(root)
        self._server = server
        self._lock: int | None = None
        self.offsets: dict[str, int] = {}

    def begin(self) -> bool:
        """Take the lock, and read the file; return whether no other process sends."""
        if self._lock is not None:
            return True
        if not self._root.is_dir():
            return False  # nothing was emitted yet
        fd = root_files.open_lock(self._root / _LOCK)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return False
        self._lock = fd
        self.offsets = dict(self._read().servers.get(self._server, {}))
        return True

    def save(self, offsets: Mapping[str, int], *, gone: Collection[str] = ()) -> None:
        """Keep that segments were sent up to these offsets, and forget those that are gone."""
        self.offsets.update(offsets)
        for name in gone:
            self.offsets.pop(name, None)
        file = self._read()
        file.servers[self._server] = self.offsets
        root_files.replace_file(self._root / _NAME, msgspec.json.encode(file))

    def end(self) -> None:
        """Let another process send."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _read(self) -> _File:
        path = self._root / _NAME
        refusal = root_files.refusal(path)
        if refusal is not None:
            raise WriteFailed(refusal)
        try:
            with open(path, "rb", opener=root_files.without_waiting) as file:
                return msgspec.json.decode(file.read(_MAX_BYTES), type=_File)
        except (FileNotFoundError, msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return _File()
