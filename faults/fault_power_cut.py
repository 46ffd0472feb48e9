"""Simulated power cuts: of all that producers wrote, only what was synced is certain to be left."""

from __future__ import annotations

import functools
import json
import random
import threading
from pathlib import Path

from eventlog.config import Config
from eventlog.durability import Durability
from eventlog.record.recorder import Recorder
from faults import files, oracle
from faults.campaign import Plan, fault
from faults.forked import in_child
from faults.power import Disk, Journal

_THREADS, _STEPS = 4, 40
_CUTS_PER_RUN = 25


@fault(
    "power cuts, simulated", "only synced bytes and names are left, and random pages of the rest; 1 sync of 20 fails"
)
def power_cut(plan: Plan) -> str:
    runs, cuts, promised, kept, judged = plan.times(24), 0, 0, 0, 0
    for run in range(runs):
        root, journal = plan.root, plan.folder / f"journal{run}"
        durability = list(Durability)[run % 2]
        in_child(functools.partial(_produce, root, journal, durability, plan.rng.random()))
        lines = journal.read_bytes().splitlines()
        for cut in range(_CUTS_PER_RUN):
            moment = plan.rng.randint(1, len(lines))
            disk = Disk(root, [json.loads(line) for line in lines], moment)
            left = plan.root
            disk.leave(left, plan.rng)
            there = _ids(left)
            gone = disk.promised - there
            plan.check(
                not gone,
                f"{durability.value}: cut after {moment} of {len(lines)} records of run {run}: {len(gone)} of "
                f"{len(disk.promised)} promised events are gone, such as {sorted(gone)[:2]}",
            )
            cuts, promised, kept = cuts + 1, promised + len(disk.promised), kept + len(there)
            if cut == 0 and run % 6 < 2 and left.exists():
                _judge_written_on(left, disk.promised)
                judged += 1
    return (
        f"{cuts} cuts in {runs} runs of {_THREADS} threads, {promised:,} promised events, all among the {kept:,} left; "
        f"{judged} of the roots written on and judged"
    )


def _produce(root: Path, path: Path, durability: Durability, seed: float) -> None:
    rng = random.Random(seed)
    journal = Journal(path, rng, fails=0.05, delay_max_s=0.002)
    files.install(root, journal)
    recorder = Recorder(Config(root=str(root), segment_max_bytes=4096, durability=durability, sync_interval_s=0.01))

    def work(thread: int) -> None:
        written: list[str] = []
        for step in range(_STEPS):
            kind = f"kind{(thread + step) % 2}"
            payloads = [{"pad": "x" * (rng.randint(1, 900))} for _ in range(rng.choice((1, 1, 1, 6)))]
            written += recorder.emit_many(kind, payloads)
            if durability is Durability.SYNCED or (step % 10 == 9 and recorder.flush()):
                journal.promised(written)
                written = []

    threads = [threading.Thread(target=work, args=(each,)) for each in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if recorder.stats().last_error is not None and not recorder.stats().failed_syncs:
        raise AssertionError(recorder.stats().last_error)


def _ids(root: Path) -> set[str]:
    found = set()
    for path in root.glob("log/*/*"):
        for line in path.read_bytes().split(b"\n")[:-1]:
            try:
                found.add(json.loads(line)["event_id"])
            except (ValueError, RecursionError):  # a line of which pages are gone
                continue
    return found


def _judge_written_on(left: Path, promised: set[str]) -> None:
    """Go on after a power cut: writers adopt the segments that are left, and all promised events are rows."""
    more = in_child(lambda: _write_on(left))
    oracle.judge(left, promised | set(more))


def _write_on(root: Path) -> list[str]:
    recorder = Recorder(Config(root=str(root), segment_max_bytes=4096))
    ids = [event_id for n in range(20) if (event_id := recorder.emit(f"kind{n % 2}", {"n": n}))]
    recorder.shutdown()
    return ids
