"""Heartbeats: one daemon thread per process that calls functions at intervals, while any are registered.

The thread starts with the first function, sleeps until one is due, and ends when it wakes and none is left.
Nothing else ends it: what a function raises is counted in `errors`. A daemon does not keep the program from
ending. A forked child starts without the thread and the functions of its parent.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from eventlog.process import forks, threads
from eventlog.process.forks import Phase

#: Shorter intervals would only cause load.
INTERVAL_MIN_S = 0.05
#: A year: longer than any run. A wait of centuries would overflow the clock, and end the thread.
INTERVAL_MAX_S = 366 * 86_400.0
_JOIN_TIMEOUT_S = 1.0
#: Bound at import: a program under test may replace time.sleep by a function that returns at once.
_sleep = time.sleep


class _Beating:
    """A registered function, its interval, and when it is due next (on the monotonic clock)."""

    __slots__ = ("beat", "due", "interval_s")

    def __init__(self, beat: Callable[[], None], interval_s: float) -> None:
        self.beat = beat
        self.interval_s = interval_s
        self.due = time.monotonic() + interval_s


_beating: dict[int, _Beating] = {}
_condition = threading.Condition()  # its lock is reentrant: a signal handler may open a run
_thread: threading.Thread | None = None
_wakes = 0.0
#: How many errors beats have raised in this process.
errors = 0


def start(key: int, beat: Callable[[], None], interval_s: float) -> None:
    """Call `beat` every `interval_s` seconds (0.05 s to a year) from now on, on the heartbeat thread."""
    global _thread
    new = _Beating(beat, min(max(interval_s, INTERVAL_MIN_S), INTERVAL_MAX_S))
    with _condition:
        _beating[key] = new
        if _thread is not None:
            if new.due < _wakes:
                _condition.notify_all()
            return
        _thread = threading.Thread(target=_run, name="eventlog-heartbeat")
        if not threads.start(_thread):
            _thread = None  # the run goes on without


def stop(key: int) -> None:
    """Stop calling the function of this key. A call that is running may still end."""
    with _condition:
        _beating.pop(key, None)


def stop_all() -> None:
    """At exit: end the thread, waiting 1 s at most, so that it does not write while the interpreter ends."""
    with _condition:
        _beating.clear()
        _condition.notify_all()
        thread = _thread
    if thread is not None and thread is not threading.current_thread():
        thread.join(_JOIN_TIMEOUT_S)


def _run() -> None:
    global errors
    while True:
        try:
            late = _wait_for_late()
            if late is None:
                return
            for beating in late:
                _beat(beating)
        except BaseException:  # noqa: BLE001 - out of memory, say: the next round tries again
            errors += 1
            _sleep(INTERVAL_MIN_S)


def _wait_for_late() -> list[_Beating] | None:
    """Wait, then return what is due: [] if the wait was cut short, None if nothing is registered any more."""
    global _thread, _wakes
    with _condition:
        if not _beating:
            _thread = None
            return None
        _wakes = min(beating.due for beating in _beating.values())
        delay_s = _wakes - time.monotonic()
        if delay_s > 0:
            _condition.wait(delay_s)
            return []  # functions may have been registered or removed in the meantime
        now = time.monotonic()
        late = [beating for beating in _beating.values() if beating.due <= now]
        for beating in late:
            beating.due = now + beating.interval_s
    return late


def _beat(beating: _Beating) -> None:
    global errors
    try:
        beating.beat()
    except BaseException:  # noqa: BLE001 - nothing above this thread would catch it, and others have to beat
        errors += 1


def _after_fork() -> None:
    global _condition, _thread, errors
    _condition, _thread, errors = threading.Condition(), None, 0
    _beating.clear()  # the parent goes on calling what it registered


forks.register(Phase.STATE, after_in_child=_after_fork)
