"""What commands show in a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests import warm


def shown(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    columns: int = 80,
    rows: int = 24,
    folder: Path | None = None,
) -> str:
    """Run a command in a terminal of its own, and return all that it wrote there, with plain newlines."""

    def start(terminal: int) -> Callable[[float], object]:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
        return process.wait

    return _shown(start, columns, rows)


def in_terminal(*arguments: str, **environment: str) -> str:
    """Return what `eventlog` with these arguments shows in a terminal of COLUMNS and LINES, or of 80 and 24."""
    columns, rows = (int(environment.pop(name, size)) for name, size in (("COLUMNS", "80"), ("LINES", "24")))
    variables = {**os.environ, "TERM": "xterm", **environment}
    if not warm.is_like_new(arguments, variables):
        return shown([sys.executable, "-m", "eventlog", *arguments], variables, columns=columns, rows=rows)
    request = warm.Request(arguments, variables, os.getcwd())
    return _shown(lambda terminal: warm.Process(request, terminal, terminal, terminal).wait, columns, rows)


def _shown(start: Callable[[int], Callable[[float], object]], columns: int, rows: int) -> str:
    """Return what is written to a terminal by what `start` starts there; it returns how to wait for its end."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    wait = start(follower)
    os.close(follower)
    data = b""
    with contextlib.suppress(OSError):  # its other end is closed
        while block := os.read(leader, 65536):
            data += block
    wait(60)
    os.close(leader)
    return data.decode().replace("\r\n", "\n")
