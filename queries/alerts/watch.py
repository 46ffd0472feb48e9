"""Checking again and again, until somebody says stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import duckdb

from eventlog.errors import EventlogError
from queries.alerts.check import LIMIT_S, WAIT_S, Checked, check

INTERVAL_S = 30.0
#: A problem that stays is told again after so long.
_REPEAT_S = 3600.0


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
    """Check every `interval_s` until `stop` is set. Raises nothing that passes by itself.

    An index that is busy or broken, a full disk, or another checker: it is said, and tried again at the next turn.
    A message that is on its way when `stop` is set is waited for, so that it is not sent twice.
    """
    told: dict[str, float] = {}
    while not stop.is_set():
        begun = time.monotonic()
        try:
            done = check(root, limit_s=limit_s, wait_s=wait_s, stop=stop)
        except (EventlogError, OSError, duckdb.Error) as error:
            text = str(error)
            if begun - told.get(text, -_REPEAT_S) >= _REPEAT_S:
                told = {each: at for each, at in told.items() if begun - at < _REPEAT_S} | {text: begun}
                say(f"{text}; trying again")
        else:
            told.clear()
            on_check(done)
        stop.wait(max(interval_s - (time.monotonic() - begun), 0.0))
