"""`eventlog up` as a process, in a terminal or not, and what it leaves running."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

#: In the environment of every process that a test starts, so that what is left of them can be found.
MARK = "TEST_OF_UP"
PARTS = ("index", "alerts", "import", "serve")
WAIT_S = 40.0


def until(is_true: Callable[[], object], what: str = "it") -> None:
    """Wait for something, within a bound."""
    deadline = time.monotonic() + WAIT_S
    while not is_true():
        assert time.monotonic() < deadline, f"{what} did not come within {WAIT_S} s"
        time.sleep(0.02)


class Up:
    """A running `eventlog up`: `output` is all that it has shown."""

    def __init__(self, process: subprocess.Popen[bytes], reader: int, mark: str, terminal: int | None) -> None:
        self.process = process
        self._mark = mark
        self._terminal = terminal
        self._data = b""
        self._thread = threading.Thread(target=self._read, args=(reader,), daemon=True)
        self._thread.start()

    def _read(self, reader: int) -> None:
        with contextlib.suppress(OSError):  # a terminal whose other end is closed
            while block := os.read(reader, 65536):
                self._data += block

    @property
    def output(self) -> str:
        return self._data.decode(errors="replace").replace("\r\n", "\n")

    @property
    def lines(self) -> str:
        """The same without what moves the cursor: status lines each time that they are drawn."""
        return re.sub(r"(\x1b\[\d*[AJ]|\r)+", "", self.output)

    def press_ctrl_c(self) -> None:
        assert self._terminal is not None
        os.write(self._terminal, b"\x03")

    def pid_of(self, part: str) -> int | None:
        """The process of a part that works, as the output says last."""
        found = re.findall(rf"^{part} +running, pid (\d+)|^{part} +\w+", self.lines, re.MULTILINE)
        return int(found[-1]) if found and found[-1] else None

    def all_run(self, parts: tuple[str, ...] = PARTS) -> dict[str, int]:
        """Wait until all parts work; return their pids."""
        until(lambda: all(self.pid_of(part) for part in parts), f"{parts}: {self.output}")
        return {part: pid for part in parts if (pid := self.pid_of(part))}

    def replaced(self, part: str, pid: int) -> int:
        """Wait until another process of a part works; return its pid."""
        until(lambda: self.pid_of(part) not in (None, pid), f"{part}: {self.output}")
        return self.pid_of(part) or 0

    def ended(self) -> int:
        """Wait for the end; return the exit code."""
        code = self.process.wait(WAIT_S)
        self._thread.join(WAIT_S)
        return code

    def left(self) -> list[int]:
        """All processes that it started, directly or not, and that are still there."""
        return left(self._mark)


def left(mark: str) -> list[int]:
    pids = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                pids.append(int(folder.name))
    return pids


def kill_left(mark: str) -> None:
    """For tests that fail: kill what they leave."""
    while pids := left(mark):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "eventlog", *arguments]


def _take_terminal() -> None:
    """Make standard input the terminal whose Ctrl-C this process gets."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def up(
    root: Path, *arguments: str, in_terminal: bool = False, environment: Mapping[str, str] | None = None
) -> Iterator[Up]:
    """Run it; nothing of it is left afterwards."""
    mark = uuid.uuid4().hex
    variables = {**os.environ, "TERM": "xterm", MARK: mark, **(environment or {})}
    leader = terminal = None
    if in_terminal:
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
        reader, writer, terminal = leader, follower, leader
    else:
        reader, writer = os.pipe()
    process = subprocess.Popen(
        command("up", "--root", str(root), *arguments), env=variables, start_new_session=True,
        stdin=writer if in_terminal else subprocess.DEVNULL, stdout=writer, stderr=writer,
        preexec_fn=_take_terminal if in_terminal else None,  # noqa: PLW1509 - one system call, and no lock
    )  # fmt: skip
    os.close(writer)
    started = Up(process, reader, mark, terminal)
    try:
        yield started
    finally:
        process.kill()
        process.wait()
        kill_left(mark)
        started._thread.join(WAIT_S)
        os.close(reader)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
