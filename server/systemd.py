"""systemd: a unit for `eventlog up`, and what a service tells its service manager (sd_notify)."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

NOTIFY_VARIABLE = "NOTIFY_SOCKET"
#: The first line of a unit of ours, so that no other file is overwritten.
MARK = "# Written by `eventlog service install`."
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", re.ASCII)
#: `eventlog up` gives its parts less time than this before it kills them.
_STOP_S = 45
_UNIT = """\
{mark} It writes this file anew each time.
[Unit]
Description={description}
Documentation=https://pypi.org/project/agent-eventlog/
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
{environment}Restart=on-failure
RestartSec=5
TimeoutStopSec={stop_s}
KillMode=mixed
UMask=0077
NoNewPrivileges=yes

[Install]
WantedBy=default.target
"""


def notify(*assignments: str) -> None:
    """Tell the service manager something, such as `READY=1`; do nothing where there is none."""
    address = os.environ.get(NOTIFY_VARIABLE)
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection, contextlib.suppress(OSError):
        connection.setblocking(False)
        connection.connect("\0" + address[1:] if address.startswith("@") else address)
        connection.send("\n".join(assignments).encode())


def unit(command: Sequence[str], *, description: str, environment: Mapping[str, str]) -> str:
    """Return the text of a unit that runs a command, whose program is given by its whole path."""
    variables = "".join(f"Environment={_quoted(f'{name}={value}')}\n" for name, value in sorted(environment.items()))
    return _UNIT.format(
        mark=MARK,
        description=_specifiers_escaped(" ".join(description.split())),
        command=" ".join(_quoted(argument, is_command=True) for argument in command),
        environment=variables,
        stop_s=_STOP_S,
    )


def user_folder(environ: Mapping[str, str]) -> Path:
    """Return where systemd looks for units of this user: `~/.config/systemd/user`."""
    configured = environ.get("XDG_CONFIG_HOME", "")
    return Path(configured if os.path.isabs(configured) else Path.home() / ".config", "systemd/user")


def _quoted(text: str, *, is_command: bool = False) -> str:
    """Return a word as systemd.syntax(7) and systemd.service(5) want it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    if is_command:
        escaped = escaped.replace("$", "$$")
    return f'"{_specifiers_escaped(escaped)}"'


def _specifiers_escaped(text: str) -> str:
    return text.replace("%", "%%")
