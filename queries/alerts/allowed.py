"""The channels that alerts of this root may be delivered to: `<root>/alerts.toml`, and nothing that is in the log.

    hosts = ["hooks.example.com:443"]                webhooks (json, xml, form), by host and port
    channels = ["env:SLACK_URL", "slack#9f86…"]      variables, and URLs of services that many share, by hash

`eventlog alerts add --to URL` adds to it. A rule that came by an import, a restore or a copied log fires, but its
messages do not go to a channel that this file does not name.
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
#: The prefix of the reason of a delivery that was not tried; the view alert_deliveries looks for it.
NOT_ALLOWED = "not allowed here"
_SIZE_MAX_BYTES = 1024 * 1024
_HEAD = """\
# Where alerts may be delivered to from this root. `eventlog alerts add --to URL` adds to it; edit it to take back.
# Nobody but its owner may be able to write to it.
"""


class Allowed(msgspec.Struct, forbid_unknown_fields=True):
    """The content of the file: webhooks as `host:port`, and other permissions (see `channels.permission`)."""

    hosts: list[str] = []
    channels: list[str] = []

    def why_not(self, channel: str) -> str | None:
        """Return why no message may go to a channel from this root; None if it is allowed."""
        permission = channels.permission(channel)
        if permission in (self.channels if _is_channel(permission) else self.hosts):
            return None
        return f"{NOT_ALLOWED}: {NAME} does not name {permission}; eventlog alerts add --to … allows a channel"


def read(root: str | Path) -> Allowed:
    """Return what is allowed: nothing if there is no file.

    Raises ConfigError if others may write to the file, it is a link or no regular file, or its content is not valid.
    """
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


def allow(root: str | Path, new_channels: Iterable[str]) -> None:
    """Add channels to the file. The caller holds the lock for alerts.

    Raises ConfigError if the file cannot be trusted (see `read`) or written.
    """
    before = read(root)
    permissions = [channels.permission(channel) for channel in new_channels]
    hosts = sorted({*before.hosts, *(entry for entry in permissions if not _is_channel(entry))})
    others = sorted({*before.channels, *(entry for entry in permissions if _is_channel(entry))})
    if (hosts, others) == (sorted(before.hosts), sorted(before.channels)):
        return
    _write(Path(root) / NAME, Allowed(hosts, others))


def _is_channel(permission: str) -> bool:
    return permission.startswith("env:") or "#" in permission


def _check(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{path}: it is no regular file; delete it and add the channels again")
    if status.st_mode & 0o022 or status.st_uid not in (os.geteuid(), 0):
        raise ConfigError(
            f"{path}: others may write to it, so nothing is delivered; look into it, and chmod 600 it, as its owner"
        )


def _write(path: Path, content: Allowed) -> None:
    part = path.with_name(NAME + ".part")
    text = _HEAD + "".join(
        f"{name} = [\n" + "".join(f"  {msgspec.json.encode(entry).decode()},\n" for entry in entries) + "]\n"
        for name, entries in (("hosts", content.hosts), ("channels", content.channels))
    )
    try:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()  # left by a process that was interrupted
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(fd, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(fd)
        # Synced before it gets its name: a truncated file would revoke what was allowed.
        os.rename(part, path)
        sync_folder(path.parent)
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}; whoever sets rules has to be allowed to write to the root"
        ) from error
