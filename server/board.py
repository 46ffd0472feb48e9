"""What `eventlog up` shows: the lines that its parts print, and one status line for each part.

In a terminal the status lines stay below the others, and change in place. Anywhere else each change is a line.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TextIO

from eventlog.cli.text import printable
from eventlog.queries.text import cells
from eventlog.server.supervisor import Child

#: A log file of this size becomes `….1`, in place of the one before.
LOG_MAX_BYTES = 8 * 1024 * 1024
#: The terminal is gone, or its encoding lacks a character.
_UNWRITABLE = (OSError, ValueError)
_UP, _CLEAR_BELOW = "\x1b[{}A", "\x1b[J"


class Board(Protocol):
    """Where a supervisor's news are shown. Nothing of it raises what the output raises: the parts go on without."""

    def print_line(self, child: Child, line: str) -> None:
        """Show a line that a part has printed."""

    def print_change(self, child: Child) -> None:
        """Show what a part is doing now."""


class Terminal:
    """Shows the status lines of `children` at the bottom of a terminal."""

    def __init__(self, stream: TextIO, children: Callable[[], Sequence[Child]]) -> None:
        self._stream = stream
        self._children = children
        self._height = 0

    def print_line(self, child: Child, line: str) -> None:
        """Put a line above the status lines."""
        self._draw(f"{child.part.name}: {printable(line)}\n")

    def print_change(self, child: Child) -> None:
        """Draw the status lines anew."""
        self._draw("")

    def _draw(self, above: str) -> None:
        with contextlib.suppress(*_UNWRITABLE):
            columns = os.get_terminal_size(self._stream.fileno()).columns or 80
            children = self._children()
            width = max(len(child.part.name) for child in children)
            # One column stays free: a line that is full to the last one moves the cursor on in some terminals.
            statuses = [
                cells.cut(f"{child.part.name:<{width}}  {printable(child.status)}", columns - 1) for child in children
            ]
            erased = (_UP.format(self._height) if self._height else "") + "\r" + _CLEAR_BELOW
            self._stream.write(erased + above + "".join(f"{status}\n" for status in statuses))
            self._stream.flush()
            self._height = len(statuses)


class Plain:
    """Writes each line and each change as a line."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def print_line(self, child: Child, line: str) -> None:
        """Write a line, with the name of its part."""
        self._write(f"{child.part.name}: {printable(line)}\n")

    def print_change(self, child: Child) -> None:
        """Write what a part is doing."""
        self._write(f"{child.part.name} {printable(child.status)}\n")


def flushed(stream: TextIO) -> Callable[[str], object]:
    """Return a function that writes to a stream at once. A reader who has gone is no error."""

    def write(text: str) -> None:
        with contextlib.suppress(*_UNWRITABLE):
            stream.write(text)
            stream.flush()

    return write


def open_log(path: str, flags: int) -> int:
    """Open a log file for its owner alone: no link, and nothing that waits for a reader. For `open(…, opener=…)`."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)


class LogFile:
    """A file of lines with their times (UTC), for its owner alone: it has the links that log browsers in."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._path = path
        self._fd = self._open()

    def write(self, line: str) -> None:
        """Append a line. One that cannot be written is left out: the parts go on."""
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        with contextlib.suppress(OSError):
            if os.fstat(self._fd).st_size >= LOG_MAX_BYTES:
                os.replace(self._path, self._path.with_name(f"{self._path.name}.1"))
                full, self._fd = self._fd, self._open()
                os.close(full)
            os.write(self._fd, f"{now} {line}".encode())

    def _open(self) -> int:
        return open_log(os.fspath(self._path), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
