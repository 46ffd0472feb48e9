"""Taking turns at the index file: one writer or many readers, in order, within a bound.

DuckDB lets one process write a file or many read it, and turns the others away. So that
neither side has to poll and overlapping readers cannot starve the writer, our processes
queue at two lock files beside the index:

    reader: TURN exclusive, GATE shared,    let TURN go … let GATE go
    writer: TURN exclusive, GATE exclusive, let TURN go … let GATE go

Whoever holds TURN is next at the gate, and nobody can overtake. The kernel wakes the
waiters and drops the locks of a process that dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventlog.errors import IndexBusy
from eventlog.process import forks, root_files, threads

_TURN, _GATE, _REPLAY = "index.turn", "index.gate", "index.replay.lock"
_LOOKS = 3
_LOOK_S = 0.02


@contextmanager
def turn(root: str | Path, *, exclusive: bool, timeout_s: float) -> Iterator[None]:
    """Hold the gate for the length of the block. Raises IndexBusy naming who was in the way."""
    folder = Path(root)
    deadline = time.monotonic() + timeout_s
    gate_kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    turn_fd = gate_fd = None  # a Ctrl-C may come at any time, and no lock may be left behind
    try:
        turn_fd = _locked(folder / _TURN, fcntl.LOCK_EX, deadline, folder, timeout_s)
        gate_fd = _locked(folder / _GATE, gate_kind, deadline, folder, timeout_s)
        forks.let_go(turn_fd)
        turn_fd = None
        yield
    finally:
        for fd in (turn_fd, gate_fd):
            if fd is not None:
                forks.let_go(fd)


@contextmanager
def replaying(root: str | Path, *, timeout_s: float) -> Iterator[None]:
    """Be the only one who builds an index anew, for the length of the block. Raises IndexBusy naming who does."""
    path = Path(root) / _REPLAY
    fd = forks.hold(root_files.open_lock(path))
    if not _lock_within(fd, fcntl.LOCK_EX, timeout_s):
        names = ", ".join(holders(path) or []) or "another process"
        raise IndexBusy(
            f"{root}: the index has been built anew by {names} for {timeout_s:g} s; wait for it, or allow more time"
        )
    try:
        yield
    finally:
        forks.let_go(fd)


def holders(path: str | Path) -> list[str] | None:
    """Name the processes that hold a lock on a file, as `pid 12 (eventlog index --watch)`.

    Returns None where the kernel does not tell (no /proc/locks).
    """
    held = held_files()
    if held is None:
        return None
    try:
        wanted = lock_key(os.stat(path))
    except OSError:
        return []
    return [process_name(pid) for pid in sorted(held.get(wanted, ()))]


def held_files() -> dict[str, set[int]] | None:
    """Return the processes that hold locks, by `lock_key` of the file; None where the kernel does not tell."""
    try:
        # More than once: the kernel hands the list out page by page, and skips an entry
        # where a lock before it goes away between two pages.
        locks = [line for _ in range(_LOOKS) for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        return None
    held: dict[str, set[int]] = {}
    for words in map(str.split, locks):
        if len(words) >= 6 and words[1] != "->":
            held.setdefault(words[5], set()).add(int(words[4]))
    return held


def lock_key(found: os.stat_result) -> str:
    """Return how /proc/locks calls a file."""
    return f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"


def index_holders(root: str | Path) -> list[str]:
    """Name the processes that hold the index of a root now: ours by the gate, others by the file."""
    found: list[str] = []
    for name in (_GATE, "index.duckdb"):
        found += [each for each in holders(Path(root) / name) or [] if each not in found]
    return found


def process_name(pid: int) -> str:
    """Return `pid 12 (its command line)`."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        command = ""
    return f"pid {pid} ({command[:120]})" if command else f"pid {pid}"


def busy(root: str | Path, waited_s: float) -> IndexBusy:
    """Make the error that says who holds the index and what to do about it."""
    names = ", ".join(index_holders(root)) or "another process"
    return IndexBusy(
        f"{Path(root) / 'index.duckdb'} was held for {waited_s:g} s by {names}; "
        "wait for it, stop it, or allow more time. The log is not affected"
    )


def _locked(path: Path, kind: int, deadline: float, root: Path, timeout_s: float) -> int:
    fd = forks.hold(root_files.open_lock(path))
    if _lock_within(fd, kind, deadline - time.monotonic()):
        return fd
    raise busy(root, timeout_s)


def _lock_within(fd: int, kind: int, timeout_s: float) -> bool:
    """Return whether the lock came in time. If not, the file is let go of, now or when the lock comes."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return _Waiter(fd, kind).wait(timeout_s)
    return True


class _Waiter:
    """Waits for a lock in a thread, since flock itself knows no time limit; without one, it looks now and then."""

    def __init__(self, fd: int, kind: int) -> None:
        self._fd = fd
        self._kind = kind
        self._settled = threading.Lock()
        self._given_up = self._acquired = False
        self._done = threading.Event()
        self._is_waiting = threads.start(threading.Thread(target=self._acquire, name="eventlog-turn"))

    def wait(self, timeout_s: float) -> bool:
        """Return whether the lock came in time. If not, the thread lets go of it when it comes."""
        if not self._is_waiting:  # the interpreter is ending
            return self._looked(time.monotonic() + timeout_s)
        self._done.wait(max(timeout_s, 0))
        with self._settled:
            self._given_up = not self._acquired
            return self._acquired

    def _looked(self, deadline: float) -> bool:
        while True:
            try:
                fcntl.flock(self._fd, self._kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    forks.let_go(self._fd)
                    return False
                time.sleep(_LOOK_S)
            else:
                return True

    def _acquire(self) -> None:
        with contextlib.suppress(OSError):
            fcntl.flock(self._fd, self._kind)
        with self._settled:
            if self._given_up:
                forks.let_go(self._fd)
            else:
                self._acquired = True
                self._done.set()
