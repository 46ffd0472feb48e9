"""Killing a command at one of its system calls, by strace.

One run to the end lists the calls. Those before the command first touches its folders, such as the hundreds by which
Python starts, are left out, so that no kill is wasted on them.
"""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from faults import oracle
from faults.campaign import Plan, Skipped

#: What reaches a file; a kill at any other call is one before the next of these.
CALLS = (
    *("openat", "open", "close", "read", "pread64", "write", "pwrite64", "writev", "copy_file_range", "sendfile"),
    *("fsync", "fdatasync", "ftruncate", "fallocate", "flock", "fcntl", "fchmod", "chmod", "fchmodat"),
    *("mkdir", "mkdirat", "unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2", "link", "linkat"),
)
_CALL = re.compile(r"^(\d+) +(\w+)\((.*)")
#: Without --seccomp-bpf, under which strace 6.1 injects no signals.
_STRACE = ("strace", "-f", "-qq")
_COMMAND_MAX_S = 120


class Point(NamedTuple):
    """The `number`-th time that a thread makes a call of this name, counted from 1."""

    call: str
    number: int


def require_strace() -> None:
    """Raise Skipped if strace is missing, or is not allowed to trace."""
    if shutil.which("strace") is None:
        raise Skipped("strace is missing; install it to kill commands at their system calls")
    done = subprocess.run([*_STRACE, "-e", "trace=write", "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Skipped(f"strace cannot trace here: {done.stderr.strip()[-200:]}")


def points(command: Sequence[str], folder: Path, stdin: str = "") -> list[Point]:
    """Run a command to its end; return its calls on files in `folder`, in order."""
    trace = folder.with_name(folder.name + ".strace")
    named = ",".join(f"?{call}" for call in CALLS)
    run([*_STRACE, "-y", "-o", str(trace), "-e", f"trace={named}", *command], stdin)
    first_lines = _first_lines(trace.read_text(errors="replace").splitlines())
    return [point for point, arguments in first_lines.items() if f"{folder}/" in arguments]


def _first_lines(trace: list[str]) -> dict[Point, str]:
    """Return where each point is reached first: each thread counts its own calls."""
    counted = Counter[tuple[str, str]]()
    first: dict[Point, str] = {}
    for found in filter(None, map(_CALL.match, trace)):
        thread, call, arguments = found.groups()
        counted[thread, call] += 1
        first.setdefault(Point(call, counted[thread, call]), arguments)
    return first


def chosen(rng: random.Random, among: list[Point]) -> Iterator[Point]:
    """Yield all points in random order, calls of each name equally often: renames are few, reads are many."""
    by_call: dict[str, list[Point]] = {}
    for point in rng.sample(among, len(among)):
        by_call.setdefault(point.call, []).append(point)
    while by_call:
        call = rng.choice(sorted(by_call))
        yield by_call[call].pop()
        if not by_call[call]:
            del by_call[call]


def kill_at(point: Point, command: Sequence[str], stdin: str = "") -> tuple[bool, str]:
    """Run a command and kill it at a point; return whether it was reached, and the command's output."""
    inject = f"inject={point.call}:signal=SIGKILL:when={point.number}"
    done = run([*_STRACE, "-o", "/dev/null", "-e", f"trace={point.call}", "-e", inject, *command], stdin)
    return done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), done.stdout


def run(command: Sequence[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command. Raises FaultFound if it hangs."""
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        try:
            out, errors = oracle.communicate(process, _COMMAND_MAX_S, stdin)
        except subprocess.TimeoutExpired:
            Plan.check(False, f"{' '.join(command)} hangs: not done within {_COMMAND_MAX_S} s")
    return subprocess.CompletedProcess(command, process.returncode, out, errors)
