"""Search: words in events, beside a scan of the same file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.case import Bench, Claim, Measurement, Side, case
from bench.figures import median
from bench.measure import call, eventlog, run

#: Words of the generator's vocabulary in one event of 30 and of 250, the beginning of one, and one that is in no event.
_WORDS = ("contion", "timeout", "permiss", "nowhere")
_LIKE = "SELECT count(*) FROM events WHERE payload::VARCHAR LIKE ?"
_MEMORY_MIB = 300.0


def ask(root: str, rounds: int) -> dict[str, list[float]]:
    """Ask for each word in both ways, in turn, open and warm; return the seconds of a round, all words together."""
    import duckdb

    from eventlog.queries.store import ReadStore

    store = ReadStore(root)
    taken: dict[str, list[float]] = {"ours": [], "like": []}
    for number in range(rounds + 1):
        started = time.perf_counter()
        for word in _WORDS:
            store.search(word)
        between = time.perf_counter()
        with duckdb.connect(f"{root}/index.duckdb", read_only=True) as connection:
            opened = time.perf_counter()
            for word in _WORDS:
                connection.execute(_LIKE, [f"%{word}%"]).fetchall()
            ended = time.perf_counter()
        if number:  # the first is not counted
            taken["ours"].append(between - started)
            taken["like"].append(ended - opened)
    return taken


def ask_ours(root: str) -> int:
    """Ask for each word; return the number of matches."""
    from eventlog.queries.store import ReadStore

    store = ReadStore(root)
    return sum(store.search(word).matches for word in _WORDS)


def _claims(words: str) -> tuple[Claim, ...]:
    like = "DuckDB, SELECT … LIKE, same file"
    return (
        Claim(name="ratio", what=f"search for a word, {words}", against=like, limit=0.2),
        Claim(name="time", what=f"search for a word, {words}", against="", limit=1.0, unit="s"),
        Claim(name="memory", what=f"peak memory of a search, {words}", against="", limit=_MEMORY_MIB, unit="MiB"),
        Claim(name="size", what=f"search index, {words}", against="the index", limit=0.2),
    )


def _search(bench: Bench, events: int) -> Iterator[Measurement]:
    scaled = bench.times(events, at_least=5000)
    note = bench.sized(scaled, events)
    root = bench.data.root(bench.folder / "root", scaled)
    run(eventlog("replay", "--root", root), bench.home)
    run(eventlog("index", "--search", "--root", root), bench.home)
    taken: dict[str, Any] = call(ask, bench.home, root=root, rounds=bench.rounds).value()
    ours, like = (
        Side(value=median(seconds) / len(_WORDS), unit="s", samples=[each / len(_WORDS) for each in seconds])
        for seconds in (taken["ours"], taken["like"])
    )
    yield Measurement("ratio", ours.value / like.value, ours, like, note)
    yield Measurement("time", ours.value, ours, None, note)
    peaks = [float(call(ask_ours, bench.home, root=root).peak_bytes) for _ in range(bench.rounds)]
    yield Measurement("memory", max(peaks) / 1024**2, Side(value=max(peaks), unit="B", samples=peaks), None, note)
    ours_bytes, index_bytes = _size(root / "search"), (root / "index.duckdb").stat().st_size
    yield Measurement(
        "size", ours_bytes / index_bytes, Side(value=ours_bytes, unit="B"), Side(value=index_bytes, unit="B"), note
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@case(*_claims("1M events"))
def search_1m(bench: Bench) -> Iterator[Measurement]:
    """Four words, the beginning of a word and a word that is nowhere among them, one after the other, with a store that
    stays open and a complete search index; and a count of the payloads that contain them, in the same process, in
    turn. Figures are per word. Peak memory is that of a fresh process that asks for all four."""
    yield from _search(bench, 1_000_000)


@case(*_claims("5M events"))
def search_5m(bench: Bench) -> Iterator[Measurement]:
    """As with a million events."""
    yield from _search(bench, 5_000_000)
