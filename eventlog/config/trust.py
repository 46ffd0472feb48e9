"""The folders whose eventlog.toml may set anything: `~/.config/eventlog/trusted.json`.

A folder is trusted under its real path, and with the hash of its file: one that was changed since, by a `git pull`
say, has to be trusted again.
"""

from __future__ import annotations

import enum
import fcntl
import hashlib
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from eventlog.config import files
from eventlog.errors import ConfigError
from eventlog.process import root_files

_NAME = "trusted.json"
_MAX_BYTES = 1024 * 1024
_OTHERS_MAY_WRITE = 0o022


class State(enum.Enum):
    """What the user thinks of a folder's file with its present content."""

    TRUSTED = "trusted"
    CHANGED = "changed"
    UNKNOWN = "unknown"


class Trusted(msgspec.Struct, frozen=True):
    """A trusted folder: the hash of its file, and when somebody trusted it."""

    sha256: str
    since: str


class _Listing(msgspec.Struct):
    folders: dict[str, Trusted] = {}


def digest(data: bytes) -> str:
    """Return the hash under which a file's content is trusted."""
    return hashlib.sha256(data).hexdigest()


def path(environ: Mapping[str, str]) -> Path | None:
    """Return the path of the list, which may not exist; None where nobody knows the user's home."""
    home = files.user_folder(environ)
    return None if home is None else home / _NAME


def folders(environ: Mapping[str, str]) -> dict[str, Trusted]:
    """Return the trusted folders by their real paths.

    Raises ConfigError if the list cannot be read, or others may write to it.
    """
    listing = path(environ)
    if listing is None or files.is_out_of_reach(listing):
        return {}
    content = files.read(listing, _MAX_BYTES, follow=True)
    if content is None:
        return {}
    if content.status.st_uid not in (os.geteuid(), 0) or content.status.st_mode & _OTHERS_MAY_WRITE:
        raise ConfigError(f"{listing}: others may write to it, so no folder is trusted; look into it, and chmod 600 it")
    try:
        return msgspec.json.decode(content.data, type=_Listing).folders
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{listing} cannot be read: {error}; delete it, and trust the folders again") from None


def state(environ: Mapping[str, str], folder: Path, data: bytes) -> State:
    """Return whether a folder is trusted with this content of its file. Raises ConfigError."""
    known = folders(environ).get(os.path.realpath(folder))
    if known is None:
        return State.UNKNOWN
    return State.TRUSTED if known.sha256 == digest(data) else State.CHANGED


def add(environ: Mapping[str, str], folder: Path, data: bytes) -> None:
    """Trust a folder with this content of its file. Raises ConfigError."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    _change(environ, {os.path.realpath(folder): Trusted(digest(data), now)})


def remove(environ: Mapping[str, str], folder: Path) -> bool:
    """Trust a folder no longer; return whether it was trusted. Raises ConfigError."""
    path = os.path.realpath(folder)
    if path not in folders(environ):
        return False
    _change(environ, {path: None})
    return True


def _change(environ: Mapping[str, str], changes: Mapping[str, Trusted | None]) -> None:
    home = files.user_folder(environ)
    if home is None:
        raise ConfigError("nobody knows your home folder; set HOME or XDG_CONFIG_HOME")
    path = home / _NAME
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = root_files.open_lock(home / "trusted.lock")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # two terminals: none of them may take back what the other one trusted
            changed = {**folders(environ), **changes}
            _write(path, _Listing({name: entry for name, entry in sorted(changed.items()) if entry is not None}))
        finally:
            os.close(fd)
    except OSError as error:
        raise ConfigError(f"{error.filename or path}: {error.strerror}") from error
    except UnicodeEncodeError:
        raise ConfigError("the name of that folder is not UTF-8; rename it") from None


def _write(path: Path, listing: _Listing) -> None:
    """Write the list beside its place and rename it: a reader finds the old one or the new one."""
    data = msgspec.json.format(msgspec.json.encode(listing)) + b"\n"
    part = path.with_name(f"{_NAME}.{os.getpid()}.part")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)
    os.rename(part, path)
