"""Checking again and again, until it is stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import duckdb

from eventlog.errors import EventlogError
from eventlog.queries.alerts.check import LIMIT_S, WAIT_S, Checked, check

INTERVAL_S = 30.0
#: A problem that persists is reported again after this time.
_REPEAT_S = 3600.0
_CHARS_MAX = 1000
#: Different problems that are reported within `_REPEAT_S`.
_PROBLEMS_MAX = 20


def watch(
    root: str | Path,
    stop: threading.Event,
    *,
    interval_s: float = INTERVAL_S,
    limit_s: float = LIMIT_S,
    wait_s: float = WAIT_S,
    say: Callable[[str], None],
    on_check: Callable[[Checked], None] = lambda _: None,
) -> None:
    """Check every `interval_s` until `stop` is set; pass each result to `on_check`, and problems to `say` as one line.

    Raises nothing that a check raises: a busy or broken index, a full disk, another checker or an unexpected error is
    reported, and the next check tries again. KeyboardInterrupt, SystemExit, and errors of `say` and `on_check` end it.
    A message that is being sent when `stop` is set is waited for, so that it is not sent twice.
    """
    reported: dict[str, float] = {}
    while not stop.is_set():
        started = time.monotonic()
        try:
            result = check(root, limit_s=limit_s, wait_s=wait_s, stop=stop)
        except (EventlogError, OSError, duckdb.Error) as error:
            _report(say, reported, started, str(error), str(error))
        except Exception as error:  # noqa: BLE001 - a watcher must outlive whatever a log makes a check raise
            # One report for each class of errors: their texts may differ each time.
            kind = type(error).__name__
            _report(say, reported, started, kind, f"the check failed unexpectedly: {kind}: {error}")
        else:
            reported.clear()
            on_check(result)
        stop.wait(max(interval_s - (time.monotonic() - started), 0.0))


def _report(say: Callable[[str], None], reported: dict[str, float], now: float, key: str, text: str) -> None:
    """Report a problem, unless it was reported not long ago, or too many were."""
    for old in [old for old, at in reported.items() if now - at >= _REPEAT_S]:
        del reported[old]
    if key in reported or len(reported) >= _PROBLEMS_MAX:
        return
    reported[key] = now
    text = text if len(text) <= _CHARS_MAX else text[:_CHARS_MAX] + "…"
    say(f"{text}; trying again")
