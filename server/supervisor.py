"""One supervisor for several processes: each comes back when it ends, later and later, until all are told to end.

    starting ──its ready line──→ running          every process is on a leash (eventlog.server.leash)
       ↑  └──────ends──────┬────────┘             and leads a process group of its own
       └──delay── waiting ←┘                      SIGINT, SIGTERM → stopping → stopped; a second one kills

A process that ends is started again after 0.5 s, then after twice as long each time, a minute at most, and after 0.5 s
again once it has lived for a minute. What it started itself is killed before.
"""

from __future__ import annotations

import contextlib
import enum
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from eventlog.server import leash, systemd

FIRST_DELAY_S, DELAY_S_MAX = 0.5, 60.0
#: A process that lived so long is not one that fails over and over.
CALM_S = 60.0
#: After SIGTERM, until it is killed. An alert that is being delivered may take as long.
STOP_S = 30.0
#: A longer line is cut into pieces.
LINE_MAX_BYTES = 16 * 1024
_READ_BYTES = 64 * 1024
#: A pipe of Linux holds 1 MiB at most.
_PIPE_READS_MAX = 17
_REASON_MAX_CHARS = 300
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Part(NamedTuple):
    """An `eventlog` command that is to run all the time. A line that begins with its ready mark says that it works."""

    name: str
    arguments: tuple[str, ...]
    ready_mark: str


class State(enum.Enum):
    """What a process is doing."""

    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Backoff:
    """The delays before a process is started again, in seconds."""

    def __init__(self) -> None:
        self._next_s = FIRST_DELAY_S

    def after(self, lived_s: float) -> float:
        """Return how long to wait now that a process has ended which lived for so long."""
        if lived_s >= CALM_S:
            self._next_s = FIRST_DELAY_S
        delay_s = self._next_s
        self._next_s = min(delay_s * 2, DELAY_S_MAX)
        return delay_s


class Child:
    """The process of a part. `restarts` counts how often it was started again, `last_line` is what it printed last."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.state = State.STARTING
        self.process: subprocess.Popen[bytes] | None = None
        self.restarts = 0
        self.ending: str | None = None
        self.delay_s = 0.0
        self.last_line = ""
        #: Of the monotonic clock: when it was started last, and when it is to be started again.
        self.started = self.due = 0.0
        self.rest = b""
        self.backoff = Backoff()

    @property
    def status(self) -> str:
        """What it is doing, in words: `running, pid 12`, `ended with code 1 (no space left); again in 4 s`."""
        if self.state is State.WAITING:
            return f"{self.ending}; again in {self.delay_s:g} s"
        words: str = self.state.value
        if self.process is not None and self.state is not State.STOPPED:
            words += f", pid {self.process.pid}"
        if self.restarts and self.state in (State.STARTING, State.RUNNING):
            words += f", started again {self.restarts:,} time{'s' if self.restarts > 1 else ''}"
        return words


class Supervisor:
    """Runs parts until it is told to end. `run` takes over the signals of the process, in its main thread.

    `on_line` gets each line of their output, `on_change` each change of state. `on_ready` is called once, when each
    part has worked or failed.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        on_line: Callable[[Child, str], None] = lambda *_: None,
        on_change: Callable[[Child], None] = lambda _: None,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.children = [Child(part) for part in parts]
        self._on_line, self._on_change, self._on_ready = on_line, on_change, on_ready
        self._selector = selectors.DefaultSelector()
        self._is_ready = False
        self._stops = 0
        self._kill_at: float | None = None

    def run(self) -> None:
        """Start all parts; return after a signal to end, when none of their processes is left."""
        with leash.leash() as leash_fd, _signals() as wakeups, self._selector:
            self._selector.register(wakeups, selectors.EVENT_READ)
            try:
                while not self._stops:
                    self._start_due(leash_fd)
                    self._wait(wakeups)
                systemd.notify("STOPPING=1")
                self._terminate()
                while self._living():
                    self._wait(wakeups)
            finally:
                self._kill()

    # -- starting and ending -------------------------------------------------------------------

    def _start_due(self, leash_fd: int) -> None:
        now = time.monotonic()
        for child in self.children:
            if child.process is None and child.due <= now:
                self._start(child, leash_fd)

    def _start(self, child: Child, leash_fd: int) -> None:
        environment = {name: value for name, value in os.environ.items() if name != systemd.NOTIFY_VARIABLE}
        child.started, child.rest, child.last_line = time.monotonic(), b"", ""
        child.restarts += child.ending is not None
        try:
            process = subprocess.Popen(
                leash.command(leash_fd, child.part.arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, env=environment, pass_fds=(leash_fd,), start_new_session=True,
            )  # fmt: skip
        except OSError as error:  # no memory, no processes, no descriptors: for now
            self._put_off(child, f"cannot be started: {error.strerror}")
            return
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self._selector.register(process.stdout, selectors.EVENT_READ, child)
        child.process = process
        self._change(child, State.STARTING)

    def _put_off(self, child: Child, ending: str) -> None:
        child.ending = ending
        child.delay_s = child.backoff.after(time.monotonic() - child.started)
        child.due = time.monotonic() + child.delay_s
        self._change(child, State.WAITING)

    def _reap(self) -> None:
        """Note which processes have ended. What they started goes before their number can be another process's."""
        for child in self.children:
            if child.process is None:
                continue
            ended = os.waitid(os.P_PID, child.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                continue
            _signal_group(child.process, signal.SIGKILL)
            code = child.process.wait()
            self._read_rest(child)
            child.process = None
            if self._stops:
                self._change(child, State.STOPPED)
            else:
                self._put_off(child, _ending(code, child.last_line))

    def _terminate(self) -> None:
        self._kill_at = time.monotonic() + STOP_S
        for child in self.children:
            if child.process is None:
                self._change(child, State.STOPPED)
            else:
                child.process.terminate()
                self._change(child, State.STOPPING)

    def _kill(self) -> None:
        """Kill what is left, and wait for it."""
        for child in self._living():
            assert child.process is not None
            _signal_group(child.process, signal.SIGKILL)
            child.process.wait()

    def _living(self) -> list[Child]:
        return [child for child in self.children if child.process is not None]

    def _change(self, child: Child, state: State) -> None:
        child.state = state
        self._on_change(child)
        if not self._is_ready and all(each.state in (State.RUNNING, State.WAITING) for each in self.children):
            self._is_ready = True
            self._on_ready()

    # -- waiting ---------------------------------------------------------------------------------

    def _wait(self, wakeups: int) -> None:
        """Wait for a signal, a line, or the time to start or kill one; deal with it."""
        for key, _ in self._selector.select(self._timeout_s()):
            if key.data is None:
                self._stops += sum(number in _STOPS for number in _read_ready(wakeups) or b"")
            else:
                self._read(key.data)
        self._reap()
        is_late = self._kill_at is not None and time.monotonic() >= self._kill_at
        if is_late or (self._kill_at is not None and self._stops > 1):
            for child in self._living():
                assert child.process is not None
                _signal_group(child.process, signal.SIGKILL)
            self._kill_at = time.monotonic() + STOP_S

    def _timeout_s(self) -> float | None:
        times = [child.due for child in self.children if child.process is None] if not self._stops else []
        if self._kill_at is not None:
            times.append(self._kill_at)
        return max(min(times) - time.monotonic(), 0.0) if times else None

    def _read(self, child: Child) -> None:
        """Take what a process has printed. One that closes its output may go on without."""
        stdout = child.process.stdout if child.process is not None else None
        assert stdout is not None
        data = _read_ready(stdout.fileno())
        *lines, child.rest = (child.rest + (data or b"")).split(b"\n")
        if len(child.rest) > LINE_MAX_BYTES or (data == b"" and child.rest):
            lines.append(child.rest)
            child.rest = b""
        if data == b"":
            self._selector.unregister(stdout)
            stdout.close()
        for line in lines:
            self._take(child, line.decode("utf-8", "replace").rstrip())

    def _read_rest(self, child: Child) -> None:
        """Take what a process had printed when it ended: no more than a pipe holds."""
        stdout = child.process.stdout if child.process is not None else None
        assert stdout is not None
        for _ in range(_PIPE_READS_MAX):
            if stdout.closed:
                return
            self._read(child)
        self._selector.unregister(stdout)
        stdout.close()

    def _take(self, child: Child, line: str) -> None:
        if not line:
            return
        child.last_line = line
        self._on_line(child, line)
        if child.state is State.STARTING and line.startswith(child.part.ready_mark):
            self._change(child, State.RUNNING)


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(OSError):
        os.killpg(process.pid, number)


def _ending(code: int, last_line: str) -> str:
    """Return how a process ended, with the reason that it printed, if it did not end well."""
    if code < 0:
        names = {number.value: number.name for number in signal.Signals}
        return f"was killed by {names.get(-code, f'signal {-code}')}"
    return f"ended with code {code}" + (f" ({last_line[:_REASON_MAX_CHARS]})" if code > 0 and last_line else "")


def _read_ready(fd: int) -> bytes | None:
    """Return what can be read from a descriptor without waiting: None if there is nothing, b"" at its end."""
    with contextlib.suppress(BlockingIOError):
        return os.read(fd, _READ_BYTES)
    return None


@contextmanager
def _signals() -> Iterator[int]:
    """Yield a descriptor from which the numbers of signals can be read. Signals that were ignored stay so."""
    reader, writer = os.pipe()
    for fd in (reader, writer):
        os.set_blocking(fd, False)
    before = {
        number: signal.signal(number, lambda *_: None)
        for number in (*_STOPS, signal.SIGCHLD)
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    }
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)
