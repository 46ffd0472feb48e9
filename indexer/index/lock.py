"""The fair lock on the index file: one writer or many readers, first come first served, with a time limit.

DuckDB lets one process write to a file or many read it, and refuses the others. With the fair lock nobody has to poll,
and overlapping readers cannot starve the writer (`flock` alone is not fair). It is a turnstile of two lock files:

    reader: lock TURN exclusively, lock GATE shared,      unlock TURN … unlock GATE
    writer: lock TURN exclusively, lock GATE exclusively, unlock TURN … unlock GATE

The holder of TURN is next at the gate, and nobody can overtake it. The kernel wakes waiters, and drops the locks of a
process that dies.
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
#: How often /proc/locks is read for one answer.
_READS = 3
_POLL_S = 0.02


@contextmanager
def fair_lock(root: str | Path, *, exclusive: bool, timeout_s: float) -> Iterator[None]:
    """Hold the lock on the index of a root for the length of the `with` block; `exclusive` to write.

    Raises IndexBusy after `timeout_s` seconds, naming the processes that hold it.
    """
    folder = Path(root)
    if not exclusive and _is_unlockable(folder):
        yield
        return
    deadline = time.monotonic() + timeout_s
    gate_kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    turn_fd = gate_fd = None  # a Ctrl-C at any time must leave no lock behind
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


def _is_unlockable(folder: Path) -> bool:
    """Return whether the files of the lock are not there and cannot be made: a copy on a read-only medium, say.

    A writer that comes after all is kept away by DuckDB's own lock on the file.
    """
    is_there = all((folder / name).exists() for name in (_TURN, _GATE))
    return not is_there and not os.access(folder, os.W_OK, effective_ids=True)


@contextmanager
def replay_lock(root: str | Path, *, timeout_s: float) -> Iterator[None]:
    """Hold the lock of replays for the length of the `with` block: one replay of a root at a time.

    Raises IndexBusy after `timeout_s` seconds, naming the process that replays.
    """
    path = Path(root) / _REPLAY
    fd = forks.hold(root_files.open_lock(path))
    if not _lock_within(fd, fcntl.LOCK_EX, timeout_s):
        names = ", ".join(holders(path) or []) or "another process"
        raise IndexBusy(
            f"{root}: the index has been rebuilt by {names} for {timeout_s:g} s; wait for it, or allow more time"
        )
    try:
        yield
    finally:
        forks.let_go(fd)


def holders(path: str | Path) -> list[str] | None:
    """Return the names of processes that hold a lock on a file, as `pid 12 (eventlog index --watch)`.

    Returns None if the system has no /proc/locks.
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
    """Return the pids that hold locks, by `lock_key` of the file; None if the system has no /proc/locks."""
    try:
        # More than once: the kernel returns the list page by page, and skips an entry if a lock before it is released
        # between two pages.
        locks = [line for _ in range(_READS) for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        return None
    held: dict[str, set[int]] = {}
    for words in map(str.split, locks):
        if len(words) >= 6 and words[1] != "->":
            held.setdefault(words[5], set()).add(int(words[4]))
    return held


def lock_key(stat: os.stat_result) -> str:
    """Return the name of a file in /proc/locks: `fd:01:123456` (device and inode)."""
    return f"{os.major(stat.st_dev):02x}:{os.minor(stat.st_dev):02x}:{stat.st_ino}"


def index_holders(root: str | Path) -> list[str]:
    """Return the names of processes that hold the index of a root: ours lock the gate, other programs the file."""
    names: list[str] = []
    for file in (_GATE, "index.duckdb"):
        names += [name for name in holders(Path(root) / file) or [] if name not in names]
    return names


def process_name(pid: int) -> str:
    """Return `pid 12 (eventlog index --watch)`: the pid and up to 120 characters of the command line."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        command = ""
    return f"pid {pid} ({command[:120]})" if command else f"pid {pid}"


def busy(root: str | Path, waited_s: float) -> IndexBusy:
    """Return the error that names who holds the index and says what to do about it."""
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
    """Return whether the lock was acquired in time. If not, the file is closed, now or when the lock is acquired."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return _Waiter(fd, kind).wait(timeout_s)
    return True


class _Waiter:
    """Waits for a lock in a thread, since flock has no time limit; polls if no thread can be started."""

    def __init__(self, fd: int, kind: int) -> None:
        self._fd = fd
        self._kind = kind
        self._decided = threading.Lock()
        self._given_up = self._acquired = False
        self._done = threading.Event()
        self._is_waiting = threads.start(threading.Thread(target=self._acquire, name="eventlog-turn"))

    def wait(self, timeout_s: float) -> bool:
        """Return whether the lock was acquired in time. If not, the thread releases it when it acquires it."""
        if not self._is_waiting:  # the interpreter is ending
            return self._polled(time.monotonic() + timeout_s)
        self._done.wait(max(timeout_s, 0))
        with self._decided:
            self._given_up = not self._acquired
            return self._acquired

    def _polled(self, deadline: float) -> bool:
        while True:
            try:
                fcntl.flock(self._fd, self._kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    forks.let_go(self._fd)
                    return False
                time.sleep(_POLL_S)
            else:
                return True

    def _acquire(self) -> None:
        with contextlib.suppress(OSError):
            fcntl.flock(self._fd, self._kind)
        with self._decided:
            if self._given_up:
                forks.let_go(self._fd)
            else:
                self._acquired = True
                self._done.set()
