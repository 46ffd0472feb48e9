"""Checking again and again, until somebody says stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import duckdb

from eventlog.errors import EventlogError
from eventlog.queries.alerts.check import LIMIT_S, WAIT_S, Checked, check

INTERVAL_S = 30.0
#: A problem that stays is told again after so long.
_REPEAT_S = 3600.0
#: Of a problem, so much is told; and so many problems at most before the first is told again.
_CHARS_MAX = 1000
_TOLD_MAX = 20


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
    """Check every `interval_s` until `stop` is set. Raises nothing that a check raises.

    An index that is busy or broken, a full disk, another checker, or an error that nobody expected: it is said, and
    tried again at the next turn. KeyboardInterrupt and SystemExit end it, and what `say` and `on_check` raise does.
    A message that is on its way when `stop` is set is waited for, so that it is not sent twice.
    """
    told: dict[str, float] = {}
    while not stop.is_set():
        begun = time.monotonic()
        try:
            done = check(root, limit_s=limit_s, wait_s=wait_s, stop=stop)
        except (EventlogError, OSError, duckdb.Error) as error:
            _tell(say, told, begun, str(error), str(error))
        except Exception as error:  # noqa: BLE001 - who watches must outlive whatever a log makes a check raise
            # Of a kind, one is told: its text may be another one each time.
            kind = type(error).__name__
            _tell(say, told, begun, kind, f"the check failed unexpectedly: {kind}: {error}")
        else:
            told.clear()
            on_check(done)
        stop.wait(max(interval_s - (time.monotonic() - begun), 0.0))


def _tell(say: Callable[[str], None], told: dict[str, float], now: float, key: str, text: str) -> None:
    """Say what went wrong, unless it was said not long ago, or too much was."""
    for each in [each for each, at in told.items() if now - at >= _REPEAT_S]:
        del told[each]
    if key in told or len(told) >= _TOLD_MAX:
        return
    told[key] = now
    text = text if len(text) <= _CHARS_MAX else text[:_CHARS_MAX] + "…"
    say(f"{text}; trying again")
