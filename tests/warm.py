"""Commands in processes of their own, which need not load what was loaded before.

    test ──arguments, environment, streams──→ server, which has all loaded
                                                │ fork
    test ←──────pid, then how it ended──────── minder ──fork──→ `python -m eventlog …`

Loading takes most of the time of most commands. What is forked is a process like any other: with its own environment,
folder, streams, exit handlers and end. `is_like_new` says which commands do not see the difference.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parent.parent
#: What commands load when they need it.
_LOADED = (
    "eventlog.cli.importing",
    "eventlog.cli.main",
    "eventlog.cli.tail",
    "eventlog.indexer.cli",
    "eventlog.indexer.indexer",
    "eventlog.queries.answers",
    "eventlog.queries.cli.cost",
    "eventlog.queries.cli.runs",
    "eventlog.queries.cli.search",
    "eventlog.queries.cli.show",
    "eventlog.queries.cli.sql",
    "genai_prices.data",
)
#: Commands that have a short way, on which nothing of that is loaded.
_SHORT = frozenset({"emit", "hook", "statusline"})
_STARTING = ("PYTHON", "LC_", "LANG")
_REQUEST_MAX_BYTES = 1 << 20


class Request(NamedTuple):
    """A command: its arguments, and where it runs."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: str


def is_like_new(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Return whether a command does the same in a process in which everything is loaded.

    It does not where it is one of the short ones, or where its environment is for Python as it starts.
    """
    given, ours = (
        {name: value for name, value in variables.items() if name.startswith(_STARTING)}
        for variables in (environment, os.environ)
    )
    return bool(arguments) and arguments[0] not in _SHORT and given == ours


def run(
    arguments: Sequence[str], *, environment: Mapping[str, str], stdin: bytes, timeout_s: float
) -> subprocess.CompletedProcess[bytes]:
    """Run `eventlog` with these arguments in the current folder, as subprocess.run would."""
    command = [sys.executable, "-m", "eventlog", *arguments]
    if not is_like_new(arguments, environment):
        return subprocess.run(
            command, input=stdin, env=environment, capture_output=True, timeout=timeout_s, check=False
        )
    in_reader, in_writer = os.pipe()
    out_reader, out_writer = os.pipe()
    err_reader, err_writer = os.pipe()
    process = Process(Request(arguments, environment, os.getcwd()), in_reader, out_writer, err_writer)
    for fd in (in_reader, out_writer, err_writer):
        os.close(fd)
    with ThreadPoolExecutor(3) as threads:
        threads.submit(_write, in_writer, stdin)
        output, errors = threads.submit(_read, out_reader), threads.submit(_read, err_reader)
        returncode = process.wait(timeout_s)
    return subprocess.CompletedProcess(command, returncode, output.result(), errors.result())


def _write(fd: int, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), open(fd, "wb", buffering=0) as pipe:
        while data:
            data = data[pipe.write(data) :]


def _read(fd: int) -> bytes:
    with open(fd, "rb") as pipe:
        return pipe.read()


class Process:
    """A command that runs. It has the descriptors from here on; the caller closes its own."""

    def __init__(self, request: Request, stdin: int, stdout: int, stderr: int) -> None:
        self._reader, writer = os.pipe()
        data = pickle.dumps(request)  # names may have bytes that are no text
        assert len(data) <= _REQUEST_MAX_BYTES
        with _one_at_a_time:
            socket.send_fds(_server(), [len(data).to_bytes(8, "big")], [stdin, stdout, stderr, writer])
            _server().sendall(data)
        os.close(writer)
        self.pid = int(os.read(self._reader, 8))

    def wait(self, timeout_s: float) -> int:
        """Return the exit code, or minus a signal. Raises TimeoutError when it had to be killed."""
        is_in_time = bool(select.select([self._reader], [], [], timeout_s)[0])
        if not is_in_time:
            os.kill(self.pid, signal.SIGKILL)
        with open(self._reader, "rb") as pipe:
            status = int(pipe.read())
        if not is_in_time:
            raise TimeoutError(f"it did not end within {timeout_s} s")
        return os.waitstatus_to_exitcode(status)


_one_at_a_time = threading.Lock()
_servers: list[subprocess.Popen[bytes]] = []


@functools.cache
def _server() -> socket.socket:
    ours, theirs = socket.socketpair()
    _servers.append(
        subprocess.Popen(
            [sys.executable, "-m", "tests.warm", str(theirs.fileno())],
            cwd=PROJECT,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
    )
    theirs.close()
    return ours


# -- in the server ---------------------------------------------------------------------------


def _serve(server: socket.socket) -> Request:
    """Fork for each request; return in the process that is to run it. Ends with its client."""
    for name in _LOADED:
        __import__(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # minders go when they are done
    while True:
        head, fds, _, _ = socket.recv_fds(server, 8, 4)
        if not head:
            os._exit(0)
        data = b""
        while missing := int.from_bytes(head, "big") - len(data):
            data += server.recv(missing)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            server.close()
            _mind(fds)
            request: Request = pickle.loads(data)
            return request
        for fd in fds:
            os.close(fd)


def _mind(fds: Sequence[int]) -> None:
    """Fork, say what became of it, and end; return in the process that was forked, with its streams."""
    *streams, writer = fds
    pid = os.fork()
    if pid == 0:
        for fd, stream in enumerate(streams):
            os.dup2(stream, fd)
        for fd in fds:
            os.close(fd)
        return
    for stream in streams:
        os.close(stream)
    os.write(writer, b"%8d" % pid)
    os.write(writer, b"%d" % os.waitpid(pid, 0)[1])
    os._exit(0)


def _become(request: Request) -> None:
    """Make this process one that was started as `python -m eventlog`."""
    os.environ.clear()
    os.environ.update(request.environment)
    time.tzset()
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(line_buffering=stream.isatty())
    os.chdir(request.folder)
    sys.path[0] = request.folder
    sys.argv = [str(PROJECT / "eventlog/__main__.py"), *request.arguments]


if __name__ == "__main__":
    from eventlog.cli import main  # before the module of that name takes its place

    _become(_serve(socket.socket(fileno=int(sys.argv[1]))))
    main()
