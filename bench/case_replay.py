"""Replay and catching up: from bytes of the log to rows of the index."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from bench import engines
from bench.case import Bench, Claim, Measurement, Side, case, compare
from bench.data import read_through
from bench.measure import Sample, call, eventlog, interleave, run

_READ_JSON = "DuckDB, CREATE TABLE AS read_json"
_PEAK_GIB = 1.5
_BEHIND = 1_000_000


def replay(bench: Bench, root: Path) -> Sample:
    """Run `eventlog replay` without an index."""
    for path in root.glob("index.duckdb*"):
        path.unlink()
    return run(eventlog("replay", "--root", root), bench.home)


def beside_read_json(bench: Bench, root: Path, rounds: int) -> dict[str, list[Sample]]:
    """Replay a log, and load the same files with DuckDB alone, in turn."""
    read_through(root)

    def read_json() -> Sample:
        path = bench.fresh("read_json.duckdb")
        return call(engines.load_with_duckdb, bench.home, log=root / "log", path=path)

    return interleave(rounds, {"ours": lambda: replay(bench, root), "duckdb": read_json}, warm=0)


def _replay(bench: Bench, events: int) -> Iterator[Measurement]:
    scaled = bench.times(events, at_least=1000)
    root = bench.data.root(bench.folder / "root", scaled)
    taken = beside_read_json(bench, root, bench.rounds)
    took = compare("time", taken["ours"], taken["duckdb"], note=bench.sized(scaled, events))
    yield took
    peak = max(sample.peak_bytes for sample in taken["ours"]) / 1024**3
    yield Measurement("memory", peak, _only_peak(taken["ours"]), _only_peak(taken["duckdb"]))


def _only_peak(samples: list[Sample]) -> Side:
    peaks = [float(sample.peak_bytes) for sample in samples]
    return Side(value=max(peaks), unit="B", samples=peaks)


def _claims(words: str) -> tuple[Claim, Claim]:
    return (
        Claim(name="time", what=f"replay, {words}", against=_READ_JSON, limit=0.8),
        Claim(name="memory", what=f"peak memory of a replay, {words}", against="", limit=_PEAK_GIB, unit="GiB"),
    )


@case(*_claims("1M events"))
def replay_1m(bench: Bench) -> Iterator[Measurement]:
    """`eventlog replay` against DuckDB's own reader of JSON into a new file, checkpoint included, with
    the same columns and types, the payload as JSON, and default settings. A process each, files warm.
    DuckDB checks no line, keeps no offsets and removes no duplicates."""
    yield from _replay(bench, 1_000_000)


@case(*_claims("5M events"))
def replay_5m(bench: Bench) -> Iterator[Measurement]:
    """The same with five times as much."""
    yield from _replay(bench, 5_000_000)


@case(Claim(name="time", what="catch up on 1M events", against="replay of the same", limit=1.3))
def catch_up(bench: Bench) -> Iterator[Measurement]:
    """`eventlog index` on a log of 2M events of which the index has the earlier half, against
    `eventlog replay` of a log that holds the later half only: time per event."""
    events = bench.times(_BEHIND, at_least=1000)
    behind = bench.data.root(bench.folder / "behind", events)
    run(eventlog("index", "--root", behind), bench.home)
    saved = bench.folder / "saved.duckdb"
    shutil.copyfile(behind / "index.duckdb", saved)
    bench.data.add(behind, events, after=events)
    later = bench.data.root(bench.folder / "later", events, after=events)
    for root in (behind, later):
        read_through(root)

    def index() -> Sample:
        for path in behind.glob("index.duckdb*"):
            path.unlink()
        shutil.copyfile(saved, behind / "index.duckdb")
        return run(eventlog("index", "--root", behind), bench.home)

    taken = interleave(bench.rounds, {"ours": index, "replay": lambda: replay(bench, later)}, warm=0)
    rows = call(engines.count_rows, bench.home, path=behind / "index.duckdb").value()
    if rows < 2 * events:
        raise RuntimeError(f"the index has {rows:,} rows, not {2 * events:,}")
    yield compare("time", taken["ours"], taken["replay"], note=bench.sized(events, _BEHIND))
