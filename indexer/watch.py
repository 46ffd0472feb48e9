"""Watching: file notifications and a timer wake the indexer, which then looks for new lines itself.

Notifications are only hints. They get lost without an error (queue overflow, a file created right after its folder,
the watch limit), so a sweep also runs every second.

Finished segments are sealed once a minute, unless segments are released (mode `db_only`): then there are none to seal.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import watchfiles

from eventlog.errors import EventlogError, MaintenanceBusy
from eventlog.indexer.indexer import Counted, Indexer
from eventlog.log import layout
from eventlog.maintenance.sealing import Finished, has_finished, seal

SWEEP_S = 1.0
SEAL_S = 60.0
#: How long watchfiles collects changes before it wakes the indexer; events are that much later in the index.
_DEBOUNCE_MS, _STEP_MS = 25, 25
#: Pause between batches while there is something new, so that readers and producers can run.
_REST_MIN_S, _REST_MAX_S = 0.005, 0.1
#: Seconds per event above which a batch was too small to be worth it; the next is delayed to collect more.
_WORTH_S = 0.001


def watch(
    indexer: Indexer,
    stop: threading.Event,
    *,
    poll: bool = False,
    say: Callable[[str], None],
    on_batch: Callable[[Counted], None] = lambda _: None,
) -> None:
    """Index until `stop` is set, and once more after that.

    Errors that may pass (EventlogError, OSError) are reported by `say`, and the next sweep tries again: the log keeps
    all events meanwhile. `poll` uses no file notifications. `on_batch` is called after each batch, also after one
    without new lines.
    """
    sealer = None if indexer.releases else _Sealer(indexer.root, say)
    folder = layout.log_folder(indexer.root)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for _ in _wakes(folder, stop, poll=poll, say=say):
        is_more_likely = True
        while is_more_likely:
            is_more_likely, started = False, time.monotonic()
            try:
                counted = indexer.catch_up() if stop.is_set() else indexer.keep_up()
            except (EventlogError, OSError) as error:
                say(f"{error}; trying again")
                stop.wait(SWEEP_S)
            else:
                on_batch(counted)
                if counted.bytes:
                    # Under load more lines are there already: do not wait for their notification.
                    is_more_likely = not stop.wait(rest_s(time.monotonic() - started, counted.events))
            if sealer is not None:
                sealer.seal_now_and_then()


def rest_s(batch_s: float, events: int) -> float:
    """Return the pause after a batch in seconds, 0.005 to 0.1: as long as it took, minus 1 ms for each event.

    A trickle of events then uses half of a core at most, and a stream of events does not wait.
    """
    return min(max(batch_s - events * _WORTH_S, _REST_MIN_S), _REST_MAX_S)


class _Sealer:
    """Seals finished segments every SEAL_S seconds. A reason why it cannot is reported once."""

    def __init__(self, root: Path, say: Callable[[str], None]) -> None:
        self._root = root
        self._say = say
        self._next = time.monotonic() + SEAL_S
        self._first = True  # also seals what an interrupted run has left
        self._reported: set[str] = set()

    def seal_now_and_then(self) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + SEAL_S
        try:
            if self._first or has_finished(self._root, Finished()):
                seal(self._root, only=Finished())
            self._first = False
        except MaintenanceBusy:
            pass  # another process is doing it
        except (EventlogError, OSError) as error:
            if str(error) not in self._reported:
                self._reported.add(str(error))
                self._say(f"not sealed: {error}")


def _wakes(folder: Path, stop: threading.Event, *, poll: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Yield at the start, after each notification, every SWEEP_S seconds, and at the end."""
    yield
    if not poll:
        try:
            yield from (
                None
                for _ in watchfiles.watch(
                    folder,
                    watch_filter=None,
                    debounce=_DEBOUNCE_MS,
                    step=_STEP_MS,
                    rust_timeout=int(SWEEP_S * 1000),
                    yield_on_timeout=True,
                    stop_event=stop,
                    raise_interrupt=False,
                )
            )
        except (OSError, RuntimeError) as error:
            say(f"no file notifications ({error}); looking every {SWEEP_S:g} s instead")
    while not stop.wait(SWEEP_S):
        yield
    yield
