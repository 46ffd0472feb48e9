"""A log that is moved under its writer, which has hundreds of event types and few descriptors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from faults import oracle
from faults.campaign import Plan, fault, memory

_PROGRAM = """
import json, os, random, resource, sys, time
import eventlog as obs

root, aside, seed, rounds, types, settings = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]), json.loads(sys.argv[6])
rng = random.Random(seed)
resource.setrlimit(resource.RLIMIT_NOFILE, (rng.choice([40, 64, 128, 256]), 4096))
os.mkdir(aside)
obs.configure(root=root, **settings)

def away(path, number):
    if os.path.lexists(path): os.rename(path, f"{aside}/{number}-{os.path.basename(path)}")
def some(kind):
    folders = sorted(os.listdir(f"{root}/log")) if os.path.isdir(f"{root}/log") else []
    folder = f"{root}/log/{rng.choice(folders)}" if folders else root
    return folder if kind == "folder" else f"{folder}/{rng.choice(sorted(os.listdir(folder)) or ['none'])}"
def take_all(_):
    taken = []
    try:
        while True: taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError: pass
    emit(5)
    for fd in taken: os.close(fd)
DISASTERS = {
    "log renamed": lambda n: away(f"{root}/log", n),
    "root renamed": lambda n: away(root, n),
    "folder renamed": lambda n: away(some("folder"), n),
    "segment renamed": lambda n: away(some("segment"), n),
    "descriptors closed": lambda _: os.closerange(3, 4096),
    "descriptors taken": take_all,
    "limit changed": lambda _: resource.setrlimit(resource.RLIMIT_NOFILE, (rng.choice([40, 64, 128, 256]), 4096)),
    "nothing": lambda _: None,
}
acked = []
def emit(count):
    for _ in range(count):
        event_id = obs.emit(f"type{rng.randrange(types)}", {"pad": "x" * rng.randrange(200)})
        if event_id: acked.append(event_id)
    return acked[-count:]
last = []
for number in range(rounds):
    emit(rng.randrange(types))
    DISASTERS[rng.choice(list(DISASTERS))](number)
    last = emit(rng.randrange(1, types))
    if rng.random() < 0.5: obs.flush()
settled = obs.flush()
stats = obs.stats()
obs.shutdown()
print(json.dumps([acked, last, stats.lost, settled, stats.failed_syncs]))
"""
_SETTINGS = ({"sync_interval_s": 0.01}, {"sync_interval_s": 0}, {"durability": "synced"})


@fault(
    "A log that moves, few descriptors",
    "log, root, folders, segments renamed; descriptors closed and taken by the program; 40 to 256 of them, 100 types",
)
def move_the_log(plan: Plan) -> str:
    with memory() as folder:
        return _move(plan, folder)


def _move(plan: Plan, folder: Path) -> str:
    acknowledged = anew = 0
    tries = plan.times(30)
    for number in range(tries):
        root, aside = folder / f"root{number}", folder / f"aside{number}"
        settings = plan.rng.choice(_SETTINGS)
        types = 100
        arguments = [root, aside, plan.rng.randrange(10**9), 6, types, json.dumps(settings)]
        command = [sys.executable, "-c", _PROGRAM, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        plan.check(done.returncode == 0, f"the program ended with {done.returncode}: {done.stderr[-2000:]}")
        acked, last, lost, settled, failed_syncs = json.loads(done.stdout)
        plan.check(settled and lost == 0, f"{settings}: {lost} were lost, flush returned {settled}")
        here = _ids(root)
        gone = set(acked) - here - _ids(aside)
        plan.check(
            not gone, f"{settings}: {len(gone)} of {len(acked)} acknowledged events are nowhere: {sorted(gone)[:3]}"
        )
        gone = set(last) - here
        plan.check(not gone, f"{settings}: {len(gone)} events that came after the last move are not in the log")
        if number % 5 == 0:
            oracle.judge(root, last)
        acknowledged, anew = acknowledged + len(acked), anew + failed_syncs
    return f"{tries} programs, {acknowledged:,} acknowledged, {anew:,} segments written again; 0 lost, 0 not in the log"


def _ids(folder: Path) -> set[str]:
    found = set()
    for place, _, names in os.walk(folder):
        for name in names:
            if ".jsonl" in name:
                lines = Path(place, name).read_bytes().splitlines()
                found |= {json.loads(line)["event_id"] for line in lines}
    return found
