"""Everything at once: producers, watching indexers and replays, all of them killed at random."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import eventlog as obs
from eventlog.errors import IndexFailed
from eventlog.indexer import replay
from eventlog.indexer.indexer import Indexer
from eventlog.indexer.watch import watch
from faults import children, oracle
from faults.campaign import Plan, fault
from faults.watchers import watching

_PRODUCERS, _INDEXERS = 3, 2
_STOP_MAX_S = 10


def _produce(root: Path, seed: float, report: Path) -> None:
    rng = random.Random(seed)
    obs.configure(root=root, segment_max_bytes=200_000)
    with report.open("ab", buffering=0) as out:
        while True:
            for _ in range(rng.randint(1, 20)):
                event_id = obs.emit(f"kind{rng.randint(0, 2)}", {"pad": "x" * int(100 * 2 ** (rng.random() * 8))})
                if event_id:
                    out.write(f"{event_id} written\n".encode())
            time.sleep(rng.random() * 0.05)


def _index(root: Path) -> None:
    watch(Indexer(root), threading.Event(), say=_silent)


def _replay(root: Path) -> None:
    with contextlib.suppress(IndexFailed):  # the one before may be at it still, or an indexer that rebuilds
        replay.replay(root)


def _silent(message: str) -> None:
    """Ignore a message: warnings do not matter while everything is killed; the oracle checks the result."""


class _Cast:
    """The processes; each that is killed is replaced by another of its kind."""

    def __init__(self, plan: Plan, root: Path) -> None:
        self._plan = plan
        self._root = root
        self.reports: list[Path] = []
        self._starts: list[Callable[[], ForkServerProcess]] = [self._producer] * _PRODUCERS + [
            self._indexer
        ] * _INDEXERS
        self.alive = [start() for start in self._starts]

    def _producer(self) -> ForkServerProcess:
        self.reports.append(self._plan.folder / f"report{len(self.reports)}")
        return children.start(_produce, self._root, self._plan.rng.random(), self.reports[-1])

    def _indexer(self) -> ForkServerProcess:
        return children.start(_index, self._root)

    def kill_one(self) -> None:
        """Kill one of them, or a replay in progress."""
        rng = self._plan.rng
        if rng.random() < 0.1:
            replaying = children.start(_replay, self._root)
            time.sleep(rng.random())
            children.kill(replaying)
            return
        number = rng.randrange(len(self.alive))
        children.kill(self.alive[number])
        self.alive[number] = self._starts[number]()

    def end(self) -> None:
        """Kill all."""
        for each in self.alive:
            children.kill(each)


@fault("Soak", "60 s: 3 producers, 2 watching indexers, replays, all killed at random")
def soak(plan: Plan) -> str:
    root = plan.root
    cast, kills = _Cast(plan, root), 0
    try:
        until = time.monotonic() + max(60 * plan.scale, 2)
        while time.monotonic() < until:
            time.sleep(plan.rng.uniform(0.05, 0.5))
            cast.kill_one()
            kills += 1
        stop_s = _stop_under_load(root)
    finally:
        cast.end()
    rows = oracle.judge(root, [each.event_id for report in cast.reports for each in oracle.reported(report)])
    torn = oracle.torn_tails(root)
    plan.check(torn <= kills + _PRODUCERS, f"{torn} torn tails of {kills} kills")
    return f"{kills} kills, {rows:,} rows; 0 lost, 0 twice; SIGTERM under load obeyed in {stop_s:.1f} s"


def _stop_under_load(root: Path) -> float:
    """Ask an indexer to stop while producers go on; return the seconds it took."""
    with watching(root) as watcher:
        children.wait_until(watcher.batches, "the first rows", 60)
        watcher.process.terminate()
        return children.wait_until(
            lambda: watcher.process.poll() is not None, "the end of an indexer after SIGTERM", _STOP_MAX_S
        )
