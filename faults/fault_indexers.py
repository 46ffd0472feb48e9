"""Indexers that are killed at random moments, under load."""

from __future__ import annotations

import random
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import eventlog as obs
from eventlog.indexer import replay
from eventlog.indexer.indexer import Indexer
from eventlog.indexer.watch import watch
from faults import children, oracle
from faults.campaign import FaultFound, Plan, fault, memory

#: Logs stay small, so that comparing with a replay after every kill is cheap.
_KILLS_PER_ROOT = 24


def _produce(root: Path, seed: float, report: Path) -> None:
    """Emit at the pace of an agent, and report acknowledged events."""
    rng = random.Random(seed)
    obs.configure(root=root, segment_max_bytes=16 * 1024)
    with report.open("ab", buffering=0) as out:
        while True:
            event_id = obs.emit(f"kind{rng.randint(0, 2)}", {"pad": "x" * int(100 * 100 ** rng.random())})
            if event_id:
                out.write(f"{event_id} written\n".encode())
            time.sleep(rng.random() * 0.04)


def _index(root: Path, release: bool, ready: Connection) -> None:
    """Recover from the last kill, report whether the index matches its log, and go on indexing."""
    Indexer(root, release=release).catch_up()
    compare(root)
    ready.send("recovered")
    watch(Indexer(root, release=release), threading.Event(), say=print)


def compare(root: Path) -> None:
    """Compare the index with a replay, within this process."""
    found = replay.verify(root)
    if not found.equal:
        raise FaultFound(f"live {found.live}, replayed {found.replayed}")


class _Share(NamedTuple):
    """The kills on one root."""

    root: Path
    reports: list[Path]
    release: bool
    seed: float
    kills: int


def _shares(plan: Plan, folder: Path, kills: int) -> list[_Share]:
    sizes = [min(_KILLS_PER_ROOT, kills - start) for start in range(0, kills, _KILLS_PER_ROOT)]
    return [
        _Share(
            folder / f"root{number}",
            [plan.folder / f"report{number}.{each}" for each in range(2)],
            bool(number % 2),
            plan.rng.random(),
            size,
        )
        for number, size in enumerate(sizes)
    ]


def _kill_at_random(share: _Share) -> int:
    rng = random.Random(share.seed)
    producers = [children.start(_produce, share.root, rng.random(), report) for report in share.reports]
    try:
        for _ in range(share.kills):
            with children.hearing(_index, share.root, share.release) as (_, indexer):
                said = indexer.next()
                Plan.check(said == "recovered", f"after a kill: {said}")
                time.sleep(rng.random() * 0.15)
    finally:
        for each in producers:
            children.kill(each)
    return oracle.judge(share.root, [each.event_id for report in share.reports for each in oracle.reported(report)])


@fault("SIGKILL of indexers", "random moments under load; modes file_only and db_only; each recovery against a replay")
def kill_indexers(plan: Plan) -> str:
    with memory() as folder:
        shares = _shares(plan, folder, plan.times(100))
        rows = children.side_by_side(_kill_at_random, shares)
    return f"{sum(share.kills for share in shares)} kills, {sum(rows):,} rows; equal to a replay after each"
