"""What commands show in a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path


def shown(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    columns: int = 80,
    rows: int = 24,
    folder: Path | None = None,
) -> str:
    """Run a command in a terminal of its own, and return all that it wrote there, with plain newlines."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(
        command, cwd=folder, stdin=follower, stdout=follower, stderr=follower, env=environment, start_new_session=True
    )
    os.close(follower)
    data = b""
    try:
        while block := os.read(leader, 65536):
            data += block
    except OSError:  # its other end is closed
        pass
    process.wait(60)
    os.close(leader)
    return data.decode().replace("\r\n", "\n")


def in_terminal(*arguments: str, **environment: str) -> str:
    """Return what `eventlog` with these arguments shows in a terminal of COLUMNS and LINES, or of 80 and 24."""
    columns, rows = (int(environment.pop(name, size)) for name, size in (("COLUMNS", "80"), ("LINES", "24")))
    command = [sys.executable, "-m", "eventlog", *arguments]
    return shown(command, {**os.environ, "TERM": "xterm", **environment}, columns=columns, rows=rows)
