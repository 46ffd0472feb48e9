"""Heartbeats of what is going on for long: one thread per process, while there is something to say.

The thread starts with the first thing that beats, sleeps until one is due, and ends when it wakes and
nothing beats any more. Nothing else ends it: what a beat raises is counted in `errors`. It is a daemon: it
keeps no program from ending. A forked child has none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from eventlog.process import forks, threads
from eventlog.process.forks import Phase

#: Faster than this would be a load, not a sign of life.
INTERVAL_MIN_S = 0.05
#: Longer than any run; a wait of centuries overflows the clock, and ends the thread for all.
INTERVAL_MAX_S = 366 * 86_400.0
_JOIN_TIMEOUT_S = 1.0
#: Taken now: a program under test may put something else in its place, which returns at once.
_sleep = time.sleep


class _Beating:
    """Something that beats, and when it does so next (on the monotonic clock)."""

    __slots__ = ("beat", "due", "interval_s")

    def __init__(self, beat: Callable[[], None], interval_s: float) -> None:
        self.beat = beat
        self.interval_s = interval_s
        self.due = time.monotonic() + interval_s


_beating: dict[int, _Beating] = {}
_condition = threading.Condition()  # its lock is reentrant: a signal handler may open a run
_thread: threading.Thread | None = None
_wakes = 0.0
#: What beats have raised in this process.
errors = 0


def start(key: int, beat: Callable[[], None], interval_s: float) -> None:
    """Call `beat` every `interval_s` from now on, on a thread. The interval is kept in bounds."""
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
    """No longer call the `beat` that was started under this key. One that is under way may still end."""
    with _condition:
        _beating.pop(key, None)


def stop_all() -> None:
    """At exit: end the thread, within a bound, so that it does not write while the interpreter ends."""
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
            for each in late:
                _beat(each)
        except BaseException:  # noqa: BLE001 - no memory, say: others still beat
            errors += 1
            _sleep(INTERVAL_MIN_S)


def _wait_for_late() -> list[_Beating] | None:
    """Return who is due to beat; nobody where the wait was cut short, None where nothing beats any more."""
    global _thread, _wakes
    with _condition:
        if not _beating:
            _thread = None
            return None
        _wakes = min(each.due for each in _beating.values())
        delay_s = _wakes - time.monotonic()
        if delay_s > 0:
            _condition.wait(delay_s)
            return []  # what is due now, and whether anything is, may have changed
        now = time.monotonic()
        late = [each for each in _beating.values() if each.due <= now]
        for each in late:
            each.due = now + each.interval_s
    return late


def _beat(each: _Beating) -> None:
    global errors
    try:
        each.beat()
    except BaseException:  # noqa: BLE001 - nobody is above this thread, and the others beat on
        errors += 1


def _after_fork() -> None:
    global _condition, _thread, errors
    _condition, _thread, errors = threading.Condition(), None, 0
    _beating.clear()  # what the parent began, the parent tells of


forks.register(Phase.STATE, after_in_child=_after_fork)
