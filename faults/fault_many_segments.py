"""Very many segments: few descriptors, a fast start, and little work while nothing happens."""

from __future__ import annotations

import time
from pathlib import Path

from faults import oracle, pace
from faults.campaign import Plan, fault, memory
from faults.watchers import emit_one, make_segments, watching

_TYPES = [f"kind{number}" for number in range(10)]
_START_MAX_S = 5.0
_IDLE_S = 5.0
_DESCRIPTORS = 64


@fault("Many segments", "100,000 segments, 64 descriptors; start over an up-to-date index, then idle")
def hold_many_segments(plan: Plan) -> str:
    with memory() as folder:
        return _hold(plan, folder / "root")


def _hold(plan: Plan, root: Path) -> str:
    acked = make_segments(root, _TYPES, plan.times(10_000))
    few = ("sh", "-c", f'ulimit -n {_DESCRIPTORS} && exec "$@"', "sh")
    started = time.monotonic()
    with watching(root, prefix=few) as watcher:
        watcher.wait_for(len(acked), "all segments", 300)
        built_s, built_bytes = time.monotonic() - started, watcher.memory_max_bytes()
    acked.append(emit_one(root, "new"))
    started = time.monotonic()
    with watching(root, prefix=few) as watcher:
        watcher.wait_for(1, "the first new row after a start", 60)
        start_s = time.monotonic() - started
        plan.check(
            not pace.took_too_long(start_s, _START_MAX_S), f"the first new row came {start_s:.1f} s after a start"
        )
        idle_from, cpu_from = time.monotonic(), watcher.cpu_s()
        time.sleep(_IDLE_S * min(plan.scale * 4, 1))
        idle = (watcher.cpu_s() - cpu_from) / (time.monotonic() - idle_from)
        acked.append(emit_one(root, _TYPES[0]))
        next_s = watcher.wait_for(2, "an event in a folder of many segments", 30)
        memory_bytes = watcher.memory_max_bytes()
        plan.check("Too many open files" not in watcher.said(), f"descriptors: {watcher.said()}")
    rows = oracle.nothing_lost(root, acked)
    oracle.same_as_replay(root)
    return (
        f"{rows - 2:,} segments indexed in {built_s:.0f} s ({built_bytes / 1e6:.0f} MB); start to the first new row "
        f"{start_s:.1f} s, the next one {next_s:.2f} s, idle {idle:.0%} of a core, {memory_bytes / 1e6:.0f} MB"
    )
