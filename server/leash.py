"""`python -m eventlog.server.leash FD COMMAND …`: an eventlog command that ends with the process that started it.

FD is the read end of a pipe, whose write end only that process has. When it dies, however it dies, the pipe ends: the
command gets SIGTERM, and is killed if it is still there after a while. So nothing is left that holds a port or a lock.

With `--progress` in front of COMMAND, lines `progress DONE TOTAL` on standard error take the place of a progress bar.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

#: How long a command may take to end by itself, in seconds.
GRACE_S = 10.0
PROGRESS = "progress"
_PROGRESS_EVERY_S = 0.2
_PROGRESS_OPTION = "--progress"


@contextmanager
def leash() -> Iterator[int]:
    """Yield a descriptor to pass on to processes; they end when the block does, or this process."""
    reader, writer = os.pipe()
    try:
        yield reader
    finally:
        os.close(reader)
        os.close(writer)


def command(fd: int, arguments: Sequence[str], *, progress: bool = False) -> list[str]:
    """Return how to start an eventlog command on a leash; pass `fd` on to it."""
    options = [_PROGRESS_OPTION] if progress else []
    return [sys.executable, "-P", "-m", __name__, str(fd), *options, *arguments]


def attach(fd: int) -> None:
    """End this process when the other end of a leash is closed."""
    threading.Thread(target=_end_with, args=(fd,), daemon=True).start()


def _end_with(fd: int) -> None:
    """Wait until the other end of a pipe is closed; then end this process."""
    with contextlib.suppress(OSError):
        while os.read(fd, 64):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # with the processes that it started
    os.kill(os.getpid(), signal.SIGKILL)


def _print_progress() -> Callable[[int, int], None]:
    """Return a function of (bytes done, bytes in all) that prints them now and then."""
    due = 0.0

    def step(done: int, total: int) -> None:
        nonlocal due
        now = time.monotonic()
        if now >= due or done >= total:
            due = now + _PROGRESS_EVERY_S
            print(PROGRESS, done, total, file=sys.stderr, flush=True)

    return step


def _main() -> None:
    attach(int(sys.argv[1]))
    arguments = sys.argv[2:]
    from eventlog.cli import main  # noqa: PLC0415 - it takes a while, and the other process may die meanwhile

    if arguments[:1] == [_PROGRESS_OPTION]:
        from eventlog.cli.main import report_progress_to  # noqa: PLC0415 - as above

        report_progress_to(_print_progress())
        del arguments[0]
    sys.argv[1:] = arguments
    main()


if __name__ == "__main__":
    _main()
