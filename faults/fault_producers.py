"""Producers that are killed at random moments."""

from __future__ import annotations

import random
import time
from pathlib import Path

import eventlog as obs
from faults import children, oracle
from faults.campaign import Plan, fault
from faults.oracle import Acked

#: What each producer may be asked to promise.
LEVELS = ("written", "synced")
_SMALLEST, _LARGEST = 100, 8 * 1024 * 1024
_SEGMENT_MAX_BYTES = 32 * 1024 * 1024


def produce(root: Path, seed: float, level: str, report: Path) -> None:
    """Emit until killed, and report each id together with what was promised about it."""
    rng = random.Random(seed)
    obs.configure(root=root, segment_max_bytes=_SEGMENT_MAX_BYTES, durability=level)
    largest = _SMALLEST * (_LARGEST / _SMALLEST) ** rng.random()
    with report.open("ab", buffering=0) as out:
        while True:
            sizes = [int(_SMALLEST * (largest / _SMALLEST) ** rng.random()) for _ in range(rng.choice((1, 1, 1, 5)))]
            done = obs.emit_many(f"kind{rng.randint(0, 2)}", [{"pad": "x" * size} for size in sizes])
            out.write(b"".join(b"%s %s\n" % (each.encode(), level.encode()) for each in done))
            time.sleep(rng.random() * 0.004)


@fault("SIGKILL of producers", "1 to 16 writers, lines from 100 B to 8 MB, random moments")
def kill_producers(plan: Plan) -> str:
    root = plan.root
    kills, acked = 0, list[Acked]()
    while kills < plan.times(500):
        writers = min(plan.rng.randint(1, 16), plan.times(500) - kills)
        reports = [plan.folder / f"report{kills + each}" for each in range(writers)]
        alive = [
            children.start(produce, root, plan.rng.random(), plan.rng.choice(LEVELS), report) for report in reports
        ]
        for process in plan.rng.sample(alive, writers):
            time.sleep(plan.rng.random() * 0.01)
            children.kill(process)
        kills += writers
        acked += [each for report in reports for each in oracle.reported(report)]
    rows = oracle.judge(root, [each.event_id for each in acked])
    torn = oracle.torn_tails(root)
    plan.check(torn <= kills, f"{torn} torn tails of {kills} kills")
    return f"{kills} kills, {len(acked):,} acknowledged, {rows:,} rows; 0 lost, 0 twice, {torn} torn tails"
