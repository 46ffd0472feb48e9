"""Watching: file notifications and a timer wake the indexer, which looks for itself.

Notifications are hints. They get lost without an error (queue overflow, a file created
right behind its folder, the watch limit), so a sweep also runs every second.

Now and then segments that are finished are sealed. Where segments are released instead (mode
`db_only`), there is nothing to seal.
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
#: How long watchfiles gathers changes before it wakes us: the price in freshness.
_DEBOUNCE_MS, _STEP_MS = 25, 25
#: Between batches, as long as there is something new: readers and producers run, too.
_REST_MIN_S, _REST_MAX_S = 0.005, 0.1
#: A batch that takes longer for each of its events than this had few of them: others can wait a little for company.
_WORTH_S = 0.001


def watch(
    indexer: Indexer,
    stop: threading.Event,
    *,
    poll: bool = False,
    say: Callable[[str], None],
    on_batch: Callable[[Counted], None] = lambda _: None,
) -> None:
    """Index until `stop` is set, and once more after. Raises nothing that passes by itself.

    A busy index is waited for: the log keeps everything meanwhile.
    """
    sealer = None if indexer.releases else _Sealer(indexer.root, say)
    folder = layout.log_folder(indexer.root)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for _ in _wakes(folder, stop, poll=poll, say=say):
        found_some = True
        while found_some:
            found_some, started = False, time.monotonic()
            try:
                counted = indexer.catch_up() if stop.is_set() else indexer.keep_up()
            except (EventlogError, OSError) as error:
                say(f"{error}; trying again")
                stop.wait(SWEEP_S)
            else:
                if counted.bytes:
                    on_batch(counted)
                    # Under load there is more already, and a notification of it would only take time.
                    found_some = not stop.wait(rest_s(time.monotonic() - started, counted.events))
            if sealer is not None:
                sealer.seal_now_and_then()


def rest_s(batch_s: float, events: int) -> float:
    """Return how long to leave the machine to others after a batch: about as long as it took, the less the more it did.

    So a trickle of events takes half of a core at most, and a stream of them is not kept waiting.
    """
    return min(max(batch_s - events * _WORTH_S, _REST_MIN_S), _REST_MAX_S)


class _Sealer:
    """Seals what is finished, every SEAL_S. What keeps it from that is said once."""

    def __init__(self, root: Path, say: Callable[[str], None]) -> None:
        self._root = root
        self._say = say
        self._next = time.monotonic() + SEAL_S
        self._first = True  # then also what an interrupted run has left
        self._said: set[str] = set()

    def seal_now_and_then(self) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + SEAL_S
        try:
            if self._first or has_finished(self._root, Finished()):
                seal(self._root, only=Finished())
            self._first = False
        except MaintenanceBusy:
            pass  # somebody else is at it
        except (EventlogError, OSError) as error:
            if str(error) not in self._said:
                self._said.add(str(error))
                self._say(f"not sealed: {error}")


def _wakes(folder: Path, stop: threading.Event, *, poll: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Yield once at the start, at every hint, every SWEEP_S, and once at the end."""
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
