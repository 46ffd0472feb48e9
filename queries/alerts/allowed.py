"""Where alerts may be delivered to from this root: `<root>/alerts.toml`, and nothing that stands in the log.

    hosts = ["hooks.example.com:443"]                webhooks (json, xml, form), by host and port
    channels = ["env:SLACK_URL", "slack#9f86…"]      variables, and URLs of services that many share, by hash

`eventlog alerts add --to URL` puts them there. A rule that came by an import, a restore or a copied log
fires, and is not delivered to a place that is not in this file.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tomllib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from eventlog.errors import ConfigError
from eventlog.log.segment import sync_folder
from eventlog.queries.alerts import channels

NAME = "alerts.toml"
#: How the reason of a delivery begins that was not tried.
NOT_ALLOWED = "not allowed here"
_SIZE_MAX_BYTES = 1024 * 1024
_HEAD = """\
# Where alerts may be delivered to from this root. `eventlog alerts add --to URL` adds to it; edit it to take back.
# Nobody but its owner may be able to write to it.
"""


class Allowed(msgspec.Struct, forbid_unknown_fields=True):
    """What the file says."""

    hosts: list[str] = []
    channels: list[str] = []

    def why_not(self, channel: str) -> str | None:
        """Return why a message must not go to a channel from here; None where it may."""
        permission = channels.permission(channel)
        if permission in (self.channels if _is_channel(permission) else self.hosts):
            return None
        return f"{NOT_ALLOWED}: {NAME} does not name {permission}; eventlog alerts add --to … allows a channel"


def read(root: str | Path) -> Allowed:
    """Return what is allowed; nothing where there is no file. Raises ConfigError for one that cannot be trusted."""
    path = Path(root) / NAME
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return Allowed()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; it has to be a file of yours, and no link") from error
    try:
        _check(path, os.fstat(fd))
        data = os.read(fd, _SIZE_MAX_BYTES + 1)
    finally:
        os.close(fd)
    if len(data) > _SIZE_MAX_BYTES:
        raise ConfigError(f"{path}: it is larger than {_SIZE_MAX_BYTES:,} bytes; make it smaller")
    try:
        return msgspec.convert(tomllib.loads(data.decode()), Allowed)
    except (ValueError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; correct or delete it") from None


def allow(root: str | Path, wanted: Iterable[str]) -> None:
    """Allow channels. For whoever holds the lock for alerts. Raises ConfigError."""
    found = read(root)
    permissions = [channels.permission(each) for each in wanted]
    hosts = sorted({*found.hosts, *(each for each in permissions if not _is_channel(each))})
    others = sorted({*found.channels, *(each for each in permissions if _is_channel(each))})
    if (hosts, others) == (sorted(found.hosts), sorted(found.channels)):
        return
    _write(Path(root) / NAME, Allowed(hosts, others))


def _is_channel(permission: str) -> bool:
    return permission.startswith("env:") or "#" in permission


def _check(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(f"{path}: it is no regular file; delete it and add the channels again")
    if found.st_mode & 0o022 or found.st_uid not in (os.geteuid(), 0):
        raise ConfigError(
            f"{path}: others may write to it, so nothing is delivered; look into it, and chmod 600 it, as its owner"
        )


def _write(path: Path, what: Allowed) -> None:
    part = path.with_name(NAME + ".part")
    text = _HEAD + "".join(
        f"{name} = [\n" + "".join(f"  {msgspec.json.encode(each).decode()},\n" for each in entries) + "]\n"
        for name, entries in (("hosts", what.hosts), ("channels", what.channels))
    )
    try:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()  # of a run that was interrupted
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(fd, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(fd)
        # Only a synced file gets its name: a cut-off one would take back what was allowed.
        os.rename(part, path)
        sync_folder(path.parent)
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}; whoever sets rules has to be allowed to write to the root"
        ) from error
