"""An agent whose values, handlers, clock and disk raise whatever can be raised: none of it leaves what records."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from faults import oracle
from faults.campaign import Plan, fault

_PROGRAM = """
import asyncio, datetime, json, logging, os, random, sys, time
import eventlog as obs

root, seed, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)

class Unprintable(Exception):
    def __str__(self): raise RuntimeError("no text")
    __repr__ = __str__
class Odd(BaseException): pass

KINDS = [RuntimeError, Unprintable, MemoryError, RecursionError, OSError, StopIteration, GeneratorExit,
         asyncio.CancelledError, Odd, obs.InvalidEvent]
broken, kind = None, None
def maybe(place, then=None):
    def call(*args, **kwargs):
        if broken == place: raise kind
        return then(*args, **kwargs) if then is not None else None
    return call
class Handler(logging.Handler):
    emit = maybe("handler")
class Sink:
    write = flush = close = maybe("sink")
class Zone(datetime.tzinfo):
    utcoffset = dst = tzname = maybe("value")
class Value:
    __str__ = __repr__ = maybe("value", lambda self: "text")
def values():
    yield {"n": 1}
    maybe("iterable")()
    yield {"n": 2}
def redact(event_type, payload):
    maybe("redactor")()
    return payload

logger = logging.getLogger("eventlog")
logger.addHandler(Handler())
logger.addFilter(maybe("filter", lambda record: True))
logger.propagate = False
obs.add_sink(Sink())
obs.redact_with(redact)
os.fdatasync = maybe("sync", os.fdatasync)
os.urandom = maybe("randomness", os.urandom)
clocks = {name: getattr(time, name) for name in ("time", "time_ns", "monotonic", "perf_counter")}
for name, real in clocks.items(): setattr(time, name, maybe("clock", real))

def run():
    with obs.run("r", heartbeat_s=0.05) as made, made.step("s", input=Value()) as step:
        made.llm_call(usage=Value(), request_model=Value())
        step.output = Value()
def deep(left):
    return deep(left - 1) if left else obs.emit("t", {})
def nearly_full():
    frame, used = sys._getframe(), 0
    while frame: frame, used = frame.f_back, used + 1
    room = rng.randrange(1, 60)
    try: deep(sys.getrecursionlimit() - used - room)
    except RecursionError as error:
        while error.__traceback__: # whether it came out of emit, or the call of it had no room
            if "api.py" in error.__traceback__.tb_frame.f_code.co_filename: raise
            error.__traceback__ = error.__traceback__.tb_next

CALLS = {
    "emit": lambda: obs.emit("t", {"a": 1}),
    "emit an odd value": lambda: obs.emit("t", {"a": Value()}),
    "emit at an odd time": lambda: obs.emit("t", {}, timestamp=datetime.datetime(2026, 1, 1, tzinfo=Zone())),
    "emit under an odd key": lambda: obs.emit("t", {}, dedupe_key=Value()),
    "refused": lambda: obs.emit("Bad Type"),
    "emit_many": lambda: obs.emit_many("t", values()),
    "emit_many of nothing": lambda: obs.emit_many(5),
    "error": lambda: obs.error(Unprintable()),
    "run": run,
    "traced": obs.traced(lambda: None),
    "log": lambda: obs.LogHandler().handle(record),
    "flush": obs.flush,
    "nearly full": nearly_full,
}
record = logging.LogRecord("mine", 20, "", 1, Value(), (), None)
PLACES = ["handler", "filter", "sink", "value", "iterable", "redactor", "sync", "randomness", "clock"]
told, raised = 0, []
obs.configure(root=root, sync_interval_s=0.01)
for _ in range(rounds):
    kind, place, name = rng.choice(KINDS), rng.choice(PLACES), rng.choice(list(CALLS))
    broken = place
    try: CALLS[name]()
    except BaseException as error: raised.append(f"{kind.__name__} of {place} left {name}: {type(error).__name__}")
    broken = None
obs.emit("t", {"last": True})
deadline = time.monotonic() + 20
while not obs.recorder()._writer._is_synced() and time.monotonic() < deadline: time.sleep(0.01)
settled = obs.recorder()._writer._is_synced()
obs.shutdown()
stats = obs.stats()
print(json.dumps([raised, settled, stats.emitted, stats.lost, stats.refused, stats.background_errors]))
"""


@fault(
    "Agents whose surroundings raise",
    "values, iterables, handlers, filters, sinks, redactors, the clock, the disk: ten kinds of what is raised",
)
def raise_everywhere(plan: Plan) -> str:
    root = plan.root
    rounds = plan.times(20_000)
    command = [sys.executable, "-c", _PROGRAM, str(root), str(plan.rng.randrange(10**9)), str(rounds)]
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    plan.check(done.returncode == 0, f"the agent ended with {done.returncode}: {done.stderr[-2000:]}")
    raised, settled, emitted, lost, refused, background = json.loads(done.stdout)
    plan.check(not raised, f"{len(raised)} times something was raised, first: {raised[:3]}")
    plan.check(settled, "what was written last was never synced, though the disk was back")
    lines, reports = 0, dict[str, int]()
    for path in (root / "log").glob("*/*.jsonl"):
        content = path.read_bytes().splitlines()
        lines += len(content) * (path.parent.name not in ("event_schema", "events_dropped"))
        if path.parent.name == "events_dropped":
            told = map(json.loads, content)
            reports |= {event["event_id"]: event["payload"]["count"] for event in told}
    plan.check(lines >= emitted, f"{emitted} were acknowledged, and {lines} lines are in the log")
    told_of = sum(reports.values())  # a failed sync repeats a report, under the same id
    plan.check(told_of == lost, f"{lost} were lost, and {told_of} are told of")
    oracle.judge(root, [])
    return (
        f"{rounds:,} calls: {emitted:,} recorded, {lost:,} dropped and reported, {refused:,} refused, "
        f"{background:,} errors of threads in the background, which went on; 0 raised"
    )
