"""Reading settings files: bounded, without waiting, and knowing whose they are.

A project's file comes with whatever folder the program runs in, so anything may stand at its path: a FIFO, a device,
a link, gigabytes.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from eventlog.errors import ConfigError
from eventlog.process import root_files

NAME = "eventlog.toml"
#: A few hundred bytes are usual. TOML of 16 KiB can take more than a second to read, and the first emit waits for it.
PROJECT_MAX_BYTES = 4096
USER_MAX_BYTES = 64 * 1024
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class Content(NamedTuple):
    """The bytes of a file, and what it was when they were read."""

    data: bytes
    status: os.stat_result


def user_folder(environ: Mapping[str, str]) -> Path | None:
    """Return `$XDG_CONFIG_HOME/eventlog`, else `~/.config/eventlog`; None where nobody knows the user's home.

    A relative path is nobody's home: it would lead into the current folder, which may be a stranger's.
    """
    configured = environ.get("XDG_CONFIG_HOME", "")
    folder = configured if os.path.isabs(configured) else os.path.join(os.path.expanduser("~"), ".config")
    return Path(folder, "eventlog") if os.path.isabs(folder) else None


def project_file() -> Path | None:
    """Return the path of the current folder's file, which may not exist; None if that folder is gone."""
    try:
        return Path(os.getcwd(), NAME)
    except OSError:
        return None


def user_file(environ: Mapping[str, str]) -> Path | None:
    """Return the path of the user's own file, which may not exist; None where nobody knows the user's home."""
    folder = user_folder(environ)
    return None if folder is None else folder / NAME


def is_out_of_reach(path: Path) -> bool:
    """Say whether a folder above a file may not be searched, as in the home of another user that HOME still names."""
    try:
        os.lstat(path)
    except PermissionError:
        return True
    except OSError:
        pass
    return False


def shown(path: Path) -> str:
    """Return a path for a message: one with control characters is quoted, since anybody may have named a folder."""
    return str(path) if str(path).isprintable() else repr(str(path))


def is_anybodys(status: os.stat_result) -> bool:
    """Say whether a file is another user's, or anybody may write to it. The superuser reads other users' files."""
    return bool(status.st_mode & stat.S_IWOTH) or (os.geteuid() != 0 and status.st_uid not in (os.geteuid(), 0))


def read(path: Path, max_bytes: int, *, follow: bool) -> Content | None:
    """Return the content of a regular file; None if there is none. Links are followed if `follow`.

    Raises ConfigError for anything else, and for a file that is too large or cannot be read.
    """
    try:
        _check_kind(path, os.stat(path, follow_symlinks=follow))  # opening some devices does something by itself
        fd = os.open(path, _FLAGS | (0 if follow else os.O_NOFOLLOW))
        with open(fd, "rb", buffering=0) as file:
            status = os.fstat(fd)
            _check_kind(path, status)
            data = _read_up_to(file, max_bytes + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{shown(path)} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > max_bytes:
        raise ConfigError(f"{shown(path)} is larger than {max_bytes:,} bytes; make it smaller")
    return Content(data, status)


def parsed(path: Path, data: bytes) -> dict[str, Any]:
    """Return a file's content, which is TOML. Raises ConfigError."""
    try:
        return tomllib.loads(data.decode())
    except RecursionError:
        raise ConfigError(f"{shown(path)} cannot be read as TOML: it is nested too deep") from None
    except ValueError as error:
        raise ConfigError(f"{shown(path)} cannot be read as TOML: {error}") from None


def _check_kind(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode) and str(path) != os.devnull:
        raise ConfigError(f"{shown(path)} is {root_files.kind_of_mode(status.st_mode) or 'something else'}, not a file")


def _read_up_to(file: Any, limit: int) -> bytes:
    data = b""
    while len(data) < limit and (more := file.read(limit - len(data))):
        data += more
    return data
