"""Child processes, their time from start to end, and their peak memory.

Each measured program runs in a process of its own, as a user would run it, with an empty home and no settings from
outside.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

PROJECT = Path(__file__).parent.parent
LIMIT_S = 1800.0
_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024
_SETTINGS = ("EVENTLOG_", "XDG_", "CLAUDE_", "AGENTSVIEW_", "OTEL_", "PYTHONDONTWRITEBYTECODE")


Command = Sequence[str | Path]


class ChildFailed(Exception):
    """A child ended with an error; the message has its last output."""


class Sample(NamedTuple):
    """One run of a child: seconds, peak memory, and output."""

    elapsed_s: float
    peak_bytes: int
    said: bytes

    def value(self) -> Any:
        """Return the result of a function called by `call`."""
        return msgspec.json.decode(self.said)


class Child:
    """A started process. Call `finish` once, or `stop`."""

    def __init__(
        self,
        command: Command,
        home: Path,
        extra: Mapping[str, str] | None = None,
        *,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._name = Path(command[0]).name
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed when it was read, or by `kill`
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._errors,
            cwd=home,
            env={**environment(home), **(extra or {})},
            pass_fds=pass_fds,
            start_new_session=True,  # so that `kill` reaches its children
        )
        self.pid = self._process.pid

    def first_line(self, limit_s: float = 30.0) -> str:
        """Wait for the first line of the output, such as the address of a server. Raises ChildFailed."""
        deadline = time.monotonic() + limit_s
        while b"\n" not in (said := os.pread(self._output.fileno(), 4096, 0)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ChildFailed(f"{self._name} has said nothing")
            time.sleep(0.02)
        return said.split(b"\n")[0].decode()

    def finish(self, limit_s: float = LIMIT_S) -> bytes:
        """Wait for the end; return the output. Raises ChildFailed if it failed or took too long."""
        try:
            code = self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ChildFailed(f"{self._name} did not end within {limit_s:g} s") from None
        except BaseException:  # Ctrl-C does not reach a session of its own
            self.kill()
            raise
        said, errors = (_rest(file) for file in (self._output, self._errors))
        if code:
            words = (errors or said).decode(errors="replace").strip().splitlines() or ["(it said nothing)"]
            raise ChildFailed(f"{self._name} ended with {code}: {words[-1]}")
        return said

    def stop(self) -> bytes:
        """Ask the child to end with SIGTERM, as a supervisor would, and wait."""
        self._process.terminate()
        return self.finish(60)

    def kill(self) -> None:
        """Kill the child and its children if it still runs; for cleaning up."""
        if self._process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
        for file in (self._output, self._errors):
            file.close()


def _rest(file: IO[bytes]) -> bytes:
    file.seek(0)
    with file:
        return file.read()


def environment(home: Path) -> dict[str, str]:
    """Return the environment of children: no user settings, an empty home, and this project first on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)}
    path = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**kept, "HOME": str(home), "PYTHONPATH": os.pathsep.join(path)}


def run(command: Command, home: Path, extra: Mapping[str, str] | None = None) -> Sample:
    """Run a command to its end."""
    reading, writing = os.pipe()
    try:
        launcher: Command = [sys.executable, "-I", "-S", PROJECT / "bench" / "launch.py", str(writing)]
        said = Child([*launcher, *command], home, extra, pass_fds=[writing]).finish()
        elapsed_s, peak = os.read(reading, 100).split()
    finally:
        os.close(reading)
        os.close(writing)
    return Sample(float(elapsed_s), int(peak) * _MAXRSS_BYTES, said)


def call_command(function: Callable[..., object], **arguments: Any) -> list[str]:
    """Return the command that calls a module-level function in a fresh interpreter."""
    name = f"{function.__module__}:{function.__qualname__}"
    return [sys.executable, "-m", "bench.child", name, msgspec.json.encode(arguments, enc_hook=str).decode()]


def call(function: Callable[..., object], home: Path, **arguments: Any) -> Sample:
    """Call a module-level function in a fresh interpreter; its result is the sample's `value`."""
    return run(call_command(function, **arguments), home)


def eventlog(*arguments: str | Path) -> Command:
    """Return the command line of our own console command."""
    script = Path(sys.executable).with_name("eventlog")
    program: Command = [script] if script.exists() else [sys.executable, "-m", "eventlog"]
    return [*program, *arguments]


def interleave(rounds: int, sides: Mapping[str, Callable[[], Sample]], *, warm: int = 1) -> dict[str, list[Sample]]:
    """Run all sides in turn, round by round, so that disturbances of the machine affect all of them.

    The first `warm` rounds fill caches and do not count. Every second round runs in reverse order.
    """
    taken: dict[str, list[Sample]] = {name: [] for name in sides}
    os.sync()  # or what the set-up has left in memory would be written meanwhile
    for number in range(warm + rounds):
        for name in sides if number % 2 else reversed(list(sides)):
            sample = sides[name]()
            if number >= warm:
                taken[name].append(sample)
    return taken
