"""Whether an event would be recorded now, without recording one.

The probe is a file without a name (O_TMPFILE): it takes a page of space and leaves nothing behind, so it finds what
modes of files do not show, such as quotas, read-only mounts and security modules.
"""

from __future__ import annotations

import enum
import errno
import os

import msgspec

from eventlog.config import Config, Mode, Resolved
from eventlog.log import layout
from eventlog.process.guards import message_of

_PROBE_BYTES = 4096
#: 0 where the system has none.
_TMPFILE: int = getattr(os, "O_TMPFILE", 0)
#: This file system, or this kernel, has no files without a name.
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Reason(enum.Enum):
    """Why events are not recorded."""

    OFF = "off"
    SETTINGS = "settings"
    SUSPENDED = "suspended"
    NOT_WRITABLE = "not_writable"
    DISK_FULL = "disk_full"
    UNKNOWN = "unknown"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """Whether `emit` would record an event now; if not, the reason, and a message that says what to try.

    `problems` are mistakes in the settings, which do not keep events from being recorded, but may send them elsewhere;
    `left_out` says what of a project's settings file does not count. `is_configured`: `configure` was called.
    """

    ok: bool
    reason: Reason | None = None
    message: str
    root: str
    mode: Mode
    is_configured: bool
    problems: list[str] = []
    left_out: list[str] = []


def examine(resolved: Resolved, *, is_configured: bool, suspended: str | None, captured: bool) -> Check:
    """Return whether a recorder with these settings would record. Raises KeyboardInterrupt and SystemExit only.

    `suspended` is why its writes keep failing, if they do; `captured`: events stay in memory.
    """
    reason: Reason | None
    try:
        reason, message = _verdict(resolved, suspended, captured)
    except Exception as error:  # noqa: BLE001 - no memory, no room on the stack
        reason, message = Reason.UNKNOWN, f"it cannot be said: {message_of(error)}"
    return Check(
        ok=reason is None,
        reason=reason,
        message=message,
        root=resolved.config.root,
        mode=resolved.config.mode,
        is_configured=is_configured,
        problems=resolved.problems,
        left_out=resolved.left_out,
    )


def _verdict(resolved: Resolved, suspended: str | None, captured: bool) -> tuple[Reason | None, str]:
    config = resolved.config
    if captured:
        return None, "events are kept in memory, by obs.capture()"
    if config.mode is Mode.OFF:
        return _off(resolved)
    if suspended is not None:
        return (
            Reason.SUSPENDED,
            f"writing is suspended, since it keeps failing: {suspended}; it is tried again by itself",
        )
    return _probed(config)


def _off(resolved: Resolved) -> tuple[Reason, str]:
    if resolved.problems and not resolved.config.root:
        return Reason.SETTINGS, f"{resolved.problems[0]}; correct it, or give a root: obs.configure(root=…)"
    origin = resolved.origins.get("mode") or resolved.origins.get("root") or "configure()"
    return Reason.OFF, f"eventlog is turned off, by {origin}; choose another mode, or a root, to record"


def _probed(config: Config) -> tuple[Reason | None, str]:
    folder = _existing(str(layout.log_folder(config.root)))
    try:
        _probe(folder)
    except OSError as error:
        if error.errno in _FULL:
            return Reason.DISK_FULL, f"{folder}: {error.strerror}; make room, or choose another root"
        return Reason.NOT_WRITABLE, f"{folder}: {error.strerror}; give this user the right, or choose another root"
    return None, f"events are written under {config.root}"


def _existing(path: str) -> str:
    """Return a path, or of its parents the nearest that exists: emit makes the folders below it."""
    while not os.path.lexists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def _probe(folder: str) -> None:
    """Raise OSError if no file can be written in a folder."""
    if not _TMPFILE:
        _look(folder)
        return
    try:
        fd = os.open(folder, _TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _NO_TMPFILE:
            raise
        _look(folder)
        return
    try:
        os.write(fd, bytes(_PROBE_BYTES))
    finally:
        os.close(fd)


def _look(folder: str) -> None:
    """Raise OSError where the mode and the free space of a folder say that nothing can be written."""
    if not os.path.isdir(folder):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder)
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
    space = os.statvfs(folder)
    free = space.f_bfree if os.geteuid() == 0 else space.f_bavail
    if free * space.f_frsize < _PROBE_BYTES or (space.f_files and not space.f_favail):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)
