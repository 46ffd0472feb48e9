"""What the programs of test_endings.py begin with: imported before eventlog, and not holding on to the program."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable

#: What exit handlers do that run after eventlog's own.
behind: list[Callable[[], object]] = []


class Last:
    """Does something when it goes."""

    def __init__(self, what: Callable[[], object]) -> None:
        self.what = what

    def __del__(self) -> None:
        self.what()


def _do_all(those: list[Callable[[], object]]) -> None:
    for each in those:
        each()


def _start(self: threading.Thread, real: Callable[[threading.Thread], None] = threading.Thread.start) -> None:
    """Say so where a thread is started while exit handlers run, or later."""
    main = threading.main_thread()
    if not main.is_alive() and all(each is main or each.daemon for each in threading.enumerate()):
        os.write(2, b"a thread is started at the end: " + self.name.encode())
    real(self)


atexit.register(_do_all, behind)
threading.Thread.start = _start  # type: ignore[method-assign]  # to see who is started when
