"""`eventlog up`: which parts one machine needs, the one supervisor of a root, and one in the background."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from eventlog.errors import AlreadyUp, WriteFailed
from eventlog.process import forks, root_files
from eventlog.server import systemd
from eventlog.server.board import open_log
from eventlog.server.supervisor import STOP_S, Child, Part, State

LOCK_NAME, LOG_NAME = "up.lock", "up.log"
#: How long a start in the background is waited for.
START_S = 30.0
#: The status of a supervisor whose parts are all running.
ALL_WORK = "all parts work"
_PID_MAX_BYTES = 20
_RETRY_S = 0.05


def parts_of(root: str, *, serve_options: Sequence[str], imports: bool) -> list[Part]:
    """Return the parts that a root needs: its index, its alerts, an import of coding agents, and the server."""
    of_root = ("--root", root)
    served = "/" if "--no-tcp" in serve_options else "log in: "  # the last line of those that say where it listens
    parts = [
        Part("index", ("index", "--watch", *of_root), "watching "),
        Part("alerts", ("alerts", "watch", *of_root), "checking "),
        Part("serve", ("serve", *serve_options, *of_root), served),
    ]
    if imports:
        parts.insert(2, Part("import", ("import", "agents", "--follow", *of_root), "following"))
    return parts


def status_of(children: Sequence[Child]) -> str:
    """Return what a service manager is told about the parts: ALL_WORK, or what those do that are not running."""
    others = [f"{child.part.name} {child.status}" for child in children if child.state is not State.RUNNING]
    return "; ".join(others) or ALL_WORK


@contextmanager
def hold_lock(root: Path) -> Iterator[None]:
    """Hold `<root>/up.lock`, which says who supervises a root. The system releases it when this process ends.

    Raises AlreadyUp with the pid of the other supervisor, and WriteFailed.
    """
    path = root / LOCK_NAME
    try:
        os.makedirs(root, mode=0o700, exist_ok=True)
        opened = root_files.open_lock(path)
    except OSError as error:
        raise WriteFailed(f"{path}: {error.strerror}; `eventlog up` has to be allowed to write to the root") from error
    with forks.held(opened) as fd:
        if not _locked(fd):
            pid = _pid(fd)
            who = "" if pid is None else f", with pid {pid}"
            raise AlreadyUp(f"another `eventlog up` runs on {root}{who}; try: eventlog up --stop")
        os.truncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        try:
            yield
        finally:
            os.truncate(fd, 0)


def stop(root: Path) -> int | None:
    """End the supervisor of a root, and wait until it has gone; return its pid, None if there is none.

    Raises AlreadyUp if it is still there after the time that it may take.
    """
    path = root / LOCK_NAME
    if not path.exists():
        return None
    with forks.held(root_files.open_lock(path)) as fd:
        if _locked(fd):
            return None
        pid = _pid(fd)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_S * 2
        while not _locked(fd):
            if time.monotonic() >= deadline:
                raise AlreadyUp(f"`eventlog up` with pid {pid} has not ended yet; try again, or: kill -9 {pid}")
            time.sleep(_RETRY_S)
        return pid


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid(fd: int) -> int | None:
    """Return the pid that the holder of the lock has written; None if it is only about to."""
    text = os.pread(fd, _PID_MAX_BYTES, 0).strip()
    return int(text) if text.isdigit() and int(text) > 1 else None


def start_in_background(arguments: Sequence[str], log: Path) -> tuple[int, bool]:
    """Start `eventlog` with arguments as a process that stays when the terminal goes, with its errors in `log`.

    Return its pid, and whether it said within START_S that all its parts work. Raises WriteFailed if it ended.
    """
    with tempfile.TemporaryDirectory(prefix="eventlog-") as folder:
        address = os.path.join(folder, "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as news, open(log, "ab", opener=open_log) as errors:
            news.bind(address)
            news.settimeout(_RETRY_S)
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "eventlog", *arguments], stdin=subprocess.DEVNULL, stdout=errors,
                stderr=errors, env={**os.environ, systemd.NOTIFY_VARIABLE: address}, start_new_session=True,
            )  # fmt: skip
            deadline = time.monotonic() + START_S
            while time.monotonic() < deadline:
                with contextlib.suppress(TimeoutError):
                    if news.recv(4096) == f"STATUS={ALL_WORK}".encode():
                        return process.pid, True
                if process.poll() is not None:
                    raise WriteFailed(f"it ended with code {process.returncode}; {log} says why")
            return process.pid, False
