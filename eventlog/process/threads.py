"""Background threads: daemons, and none is started while the interpreter ends.

Python 3.11 allows a thread to be started while the interpreter is finalized. It never runs, and `start`
waits for it for ever (python/cpython#104690). A thread started by an exit handler may run, and is stopped at
any point a moment later.
"""

from __future__ import annotations

import sys
import threading


def interpreter_is_ending() -> bool:
    """Say whether exit handlers are running, or the interpreter is being finalized."""
    if sys.is_finalizing():
        return True
    main = threading.main_thread()
    if main.is_alive():
        return False
    # The program's own threads may run for hours after the main one. Exit handlers wait for them.
    return all(thread is main or thread.daemon for thread in threading.enumerate())


def start(thread: threading.Thread) -> bool:
    """Start a thread as a daemon; return whether it runs: not if the interpreter ends, or no thread is left."""
    try:
        if interpreter_is_ending():
            return False
        thread.daemon = True
        thread.start()
    except (RuntimeError, MemoryError):  # no more threads, or no daemons in this interpreter
        return False
    return True
