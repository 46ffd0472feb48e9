"""Producers that die: killed at random, ended by a signal, by an exception, by the end of the program."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from faults import oracle
from faults.campaign import Plan, fault

_PRODUCER = """
import os, random, sys
import eventlog as obs
root, seed = sys.argv[1], sys.argv[2]
obs.configure(root=root, segment_max_bytes=32 * 1024 * 1024)
rng = random.Random(seed)
while True:
    size = int(100 * (80_000 ** (rng.random() ** 4)))  # 100 B to 8 MB, mostly small
    event_id = obs.emit(f"kind{rng.randint(0, 2)}", {"pad": "x" * size})
    if event_id:
        os.write(1, (event_id + "\\n").encode())
"""


def _start(root: Path, seed: str, report: Path) -> subprocess.Popen[bytes]:
    with report.open("wb") as out:
        return subprocess.Popen([sys.executable, "-c", _PRODUCER, str(root), seed], stdout=out)


@fault("SIGKILL of producers", "1 to 16 writers, lines from 100 B to 8 MB, random moments")
def kill_producers(plan: Plan) -> str:
    root = plan.root
    kills, acked = 0, []
    while kills < plan.times(500):
        writers = min(plan.rng.randint(1, 16), plan.times(500) - kills)
        reports = [plan.folder / f"report{kills + each}" for each in range(writers)]
        alive = [_start(root, str(plan.rng.random()), report) for report in reports]
        time.sleep(0.3)
        for process in alive:
            time.sleep(plan.rng.random() * 0.05)
            process.kill()
            process.wait()
        kills += writers
        acked += [line for report in reports for line in report.read_text().split("\n")[:-1]]
    rows = oracle.judge(root, acked)
    return f"{kills} kills, {len(acked):,} acknowledged, {rows:,} rows; 0 lost, 0 twice"
