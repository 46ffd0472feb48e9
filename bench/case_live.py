"""Living with it: how soon an event is seen, what a batch costs as the index grows, what waiting costs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from bench import live
from bench.case import Bench, Claim, Measurement, Side, Skipped, case
from bench.figures import median, percentile
from bench.measure import Child, call, call_command, eventlog, run

_PRODUCERS, _PER_SECOND, _SECONDS = 4, 250.0, 60
_PATIENCE_S = 30.0


@case(
    Claim(name="p50", what="emit returned → row seen, p50, 1,000 events/s", against="", limit=50, unit="ms"),
    Claim(name="p99", what="emit returned → row seen, p99, 1,000 events/s", against="", limit=250, unit="ms"),
)
def freshness(bench: Bench) -> Iterator[Measurement]:
    """Four producers emit 1,000 events a second together for a minute, `eventlog index --watch` runs
    beside them, and a reader asks ReadStore again and again. An event is as fresh as the first read
    that has it; the time of the reading itself counts."""
    seconds = max(5, round(_SECONDS * bench.scale))
    events = int(_PER_SECOND * seconds)
    root = bench.folder / "root"
    names = [f"producer-{number}" for number in range(_PRODUCERS)]
    run(eventlog("emit", "step", '{"number": 0, "name": "", "state": "", "elapsed_ms": 0}', "--root", root), bench.home)
    run(eventlog("index", "--root", root), bench.home)
    children = [Child(eventlog("index", "--watch", "--root", root), bench.home)]
    try:
        _wait_until_watching(root, bench)
        reading = call_command(
            live.read_rows, root=root, producers=_PRODUCERS, events=events, limit_s=seconds + _PATIENCE_S
        )
        reader = Child(reading, bench.home)
        children.append(reader)
        for name in names:
            command = call_command(live.produce, root=root, name=name, events=events, per_second=_PER_SECOND)
            children.append(Child(command, bench.home))
        returned = {name: _value(child) for name, child in zip(names, children[2:], strict=True)}
        seen = _value(reader)
        children[0].stop()
    finally:
        for child in children:
            child.kill()
    waits_ms = sorted(_waits_ms(returned, seen))
    for claim, share in (("p50", 0.5), ("p99", 0.99)):
        wait_ms = percentile(waits_ms, share)
        note = f"{len(waits_ms):,} events, {len(seen):,} reads"
        yield Measurement(claim, wait_ms, Side(value=wait_ms / 1000, unit="s"), note=note)


def _value(child: Child) -> Any:
    return msgspec.json.decode(child.finish())


def _wait_until_watching(root: Path, bench: Bench) -> None:
    """Wait until the indexer has indexed an event that was emitted after its start."""
    run(eventlog("emit", "warm", "{}", "--root", root), bench.home)
    deadline = time.monotonic() + _PATIENCE_S
    query = "SELECT count(*) FROM events WHERE event_type = 'warm'"
    while b"1" not in run(eventlog("sql", query, "--format", "csv", "--root", root), bench.home).said:
        if time.monotonic() > deadline:
            raise TimeoutError("the indexer does not index")
        time.sleep(0.1)


def _waits_ms(returned: dict[str, list[int]], seen: list[tuple[int, dict[str, int]]]) -> Iterator[float]:
    """Return, per event, the milliseconds from its emit to the first read that had it; 0 if the read was faster."""
    for name, moments in returned.items():
        known = 0
        for moment, rows in seen:
            count = rows.get(name, 0)
            for event in range(known, count):
                yield max(0.0, (moment - moments[event]) / 1e6)
            known = max(known, count)


@case(Claim(name="time", what="index a batch of 1,000 events, index of 10M rows", against="of 100k rows", limit=1.15))
def growth(bench: Bench) -> Iterator[Measurement]:
    """The same batches, one after the other into both indexes, by indexers that stay, in one process."""
    roots = {}
    sizes = {"small": bench.times(100_000, at_least=1000), "large": bench.times(10_000_000, at_least=10_000)}
    for name, events in sizes.items():
        roots[name] = bench.data.root(bench.folder / name, events)
        run(eventlog("replay", "--root", roots[name]), bench.home)
    batches, batch_events = bench.times(60, at_least=6), 1000
    lines = bench.data.root(bench.folder / "lines", batches * batch_events, after=sizes["large"])
    sample = call(
        live.index_in_turn, bench.home, small=roots["small"], large=roots["large"], lines=lines / "log",
        batches=batches, batch_events=batch_events,
    )  # fmt: skip
    taken = sample.value()
    small, large = (
        Side(value=median(taken[name]), unit="s", samples=taken[name], note=f"{sizes[name]:,} rows") for name in sizes
    )
    yield Measurement("time", large.value / small.value, large, small, f"{len(taken['large'])} batches")


@case(
    Claim(name="cpu", what="eventlog index --watch, nothing to do", against="", limit=1, unit="% of a core"),
    Claim(name="memory", what="memory of eventlog index --watch", against="", limit=150, unit="MB"),
)
def idle(bench: Bench) -> Iterator[Measurement]:
    """On a log of 100,000 events that is fully indexed: processor time over half a minute, and the
    memory that is resident at its end."""
    if not sys.platform.startswith("linux"):
        raise Skipped("needs /proc")
    root = bench.data.root(bench.folder / "root", bench.times(100_000, at_least=1000), copies=True)
    run(eventlog("index", "--root", root), bench.home)
    child = Child(eventlog("index", "--watch", "--root", root), bench.home)
    try:
        _wait_until_watching(root, bench)
        time.sleep(2)
        seconds = max(5.0, 30 * bench.scale)
        before = processor_s(child.pid)
        time.sleep(seconds)
        share = (processor_s(child.pid) - before) / seconds * 100
        memory = _resident_bytes(child.pid)
        child.stop()
    finally:
        child.kill()
    yield Measurement("cpu", share, note=f"{seconds:g} s")
    yield Measurement("memory", memory / 1e6)


def processor_s(pid: int) -> float:
    """Return the processor time that a process has taken, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
