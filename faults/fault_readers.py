"""Readers in the way: some that hold on to the index, and very many that come and go."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import duckdb

import eventlog as obs
from eventlog.errors import EventlogError
from eventlog.indexer.index import index_file
from eventlog.queries.store import ReadStore
from faults import children, oracle, pace
from faults.campaign import Plan, fault
from faults.watchers import watching

_BOUND_S = 30.0
_READERS = 50


def _produce(root: Path, seed: float, report: Path) -> None:
    """Emit about a thousand events a second, and report what was acknowledged."""
    rng = random.Random(seed)
    obs.configure(root=root)
    with report.open("ab", buffering=0) as out:
        while True:
            done = obs.emit_many(f"kind{rng.randint(0, 2)}", [{"pad": "x" * rng.randint(1, 500)} for _ in range(10)])
            out.write(b"".join(f"{each} written\n".encode() for each in done))
            time.sleep(0.01)


# -- one that holds on -----------------------------------------------------------------------


def _hold_in_turn(root: Path, hold_s: float, saying: Connection) -> None:
    with index_file.reading(root, timeout_s=_BOUND_S) as connection:
        connection.execute("SELECT count(*) FROM events").fetchall()
        saying.send("holding")
        time.sleep(hold_s)


def _hold_as_others(root: Path, hold_s: float, saying: Connection) -> None:
    """As a notebook does, which knows nothing of turns."""
    while True:
        try:
            connection = duckdb.connect(str(index_file.index_path(root)), read_only=True)
            break
        except duckdb.IOException:
            time.sleep(0.001)
    saying.send("holding")
    time.sleep(hold_s)
    connection.close()


def _held(plan: Plan, hold: Callable[..., None]) -> tuple[int, float]:
    """Hold the index under load; return how many events waited, and how long they then took to appear."""
    root, report = plan.root, plan.folder / hold.__name__
    hold_s = max(30 * plan.scale, 2)
    with watching(root) as watcher, children.running(_produce, root, plan.rng.random(), report) as producer:
        children.wait_until(lambda: len(watcher.batches()) > 2, "the first rows", _BOUND_S)
        with children.hearing(hold, root, hold_s) as (holder, said):
            first = said.next()
            plan.check(first == "holding", f"{hold.__name__}: {first}")
            before = len(oracle.reported(report))
            children.finish(holder, hold.__name__)
        waited = len(oracle.reported(report)) - before
        children.kill(producer)
        took_s = watcher.wait_for(len(oracle.reported(report)), "what waited for the reader", _BOUND_S)
    oracle.judge(root, [each.event_id for each in oracle.reported(report)])
    return waited, took_s


@fault("A reader that holds the index", "for 30 s under load: one of ours, in turn, and one that knows no turns")
def hold_index(plan: Plan) -> str:
    held = children.side_by_side(lambda hold: _held(plan, hold), [_hold_in_turn, _hold_as_others])
    parts = [f"{waited:,} events waited and were rows {took_s:.1f} s after" for waited, took_s in held]
    return f"in turn: {parts[0]}; without turns: {parts[1]}; 0 lost"


# -- many that come and go -------------------------------------------------------------------


def _read(root: Path, for_s: float, saying: Connection) -> None:
    """Open, count, close, again and again; tell how often, how long the longest took, and what failed."""
    store = ReadStore(root, wait_s=_BOUND_S)
    until, reads, longest_s = time.monotonic() + for_s, 0, 0.0
    rows = -1
    while time.monotonic() < until:
        started = time.monotonic()
        try:
            found = store.sql("SELECT count(*) FROM events").rows[0][0]
        except EventlogError as error:
            saying.send(str(error))
            return
        if found < rows:
            saying.send(f"{found} rows where there were {rows}")
            return
        rows, reads = found, reads + 1
        longest_s = max(longest_s, time.monotonic() - started)
    saying.send((reads, longest_s))


@fault("Readers that come and go", "50 processes open and close the index for 15 s, an indexer under load among them")
def read_side_by_side(plan: Plan) -> str:
    root, report = plan.root, plan.folder / "report"
    for_s = max(15 * plan.scale, 2)
    with watching(root) as watcher, children.running(_produce, root, plan.rng.random(), report) as producer:
        children.wait_until(lambda: len(watcher.batches()) > 2, "the first rows", _BOUND_S)
        before, indexed_before = len(watcher.batches()), sum(watcher.batches())
        with ExitStack() as stack:
            readers = [
                stack.enter_context(children.hearing(_read, root, for_s)) for _ in range(max(plan.times(_READERS), 5))
            ]
            said = [reader.next() for _, reader in readers]
        batches = len(watcher.batches()) - before
        indexed = sum(watcher.batches()) - indexed_before
        children.kill(producer)
        lag_s = watcher.wait_for(len(oracle.reported(report)), "what was written among readers", _BOUND_S)
    failed = [each for each in said if isinstance(each, str)]
    plan.check(not failed, f"{len(failed)} of {len(said)} readers failed: {failed[:1]}")
    plan.check(batches >= for_s / 2 / pace.slowness(), f"the indexer had its turn only {batches} times in {for_s:g} s")
    oracle.judge(root, [each.event_id for each in oracle.reported(report)])
    reads, longest_s = sum(each[0] for each in said), max(each[1] for each in said)
    return (
        f"{len(said)} readers, {reads:,} reads, the longest {longest_s:.1f} s, none failed; meanwhile "
        f"{indexed:,} events in {batches} batches, {lag_s:.1f} s behind at the end"
    )
