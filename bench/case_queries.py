"""Asking: aggregates over the index, and small answers in the shell."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from bench import asking, engines
from bench.case import Bench, Claim, Measurement, Side, case, compare
from bench.figures import median
from bench.measure import Command, call, eventlog, interleave, run

_ASKED, _IN_SHELL = 1_000_000, 5_000_000
#: A question takes a few milliseconds, which a busy moment doubles.
_ROUNDS_MIN = 15
_WORDS = {
    "tokens": "tokens and p95 latency by model",
    "failures": "tool failures by hour",
    "runs": "runs by agent and outcome",
}
_WAYS = {"json": ("JSON extraction, same file", 20.0), "sqlite": ("SQLite, indexed, json_extract", 10.0)}


def _side(seconds: Sequence[float]) -> Side:
    return Side(value=median(seconds), unit="s", samples=list(seconds))


@case(
    *(
        Claim(
            name=f"{question}-{way}", what=f"{_WORDS[question]}, 1M events", against=against, limit=limit,
            unit="× faster", at_least=True,
        )
        for question in asking.QUESTIONS
        for way, (against, limit) in _WAYS.items()
    )
)  # fmt: skip
def aggregates(bench: Bench) -> Iterator[Measurement]:
    """A typed view, the same question by JSON extraction from `events` in the same file, and SQLite
    with the envelope in columns, the payload as text, an index on (event_type, timestamp), ANALYZE,
    and a cache that holds it all. Open connections, warm, in one process, in turn; all answers are equal."""
    events = bench.times(_ASKED, at_least=5000)
    root = bench.data.root(bench.folder / "root", events)
    run(eventlog("replay", "--root", root), bench.home)
    sqlite = bench.folder / "events.sqlite"
    call(engines.load_with_sqlite, bench.home, log=root / "log", path=sqlite)
    rounds = max(bench.rounds, _ROUNDS_MIN)
    sample = call(asking.ask_all, bench.home, index=root / "index.duckdb", sqlite=sqlite, rounds=rounds)
    for question, seconds in sample.value().items():
        typed = _side(seconds["typed"])
        for way in _WAYS:
            peer = _side(seconds[way])
            yield Measurement(f"{question}-{way}", peer.value / typed.value, typed, peer, bench.sized(events, _ASKED))


_QUERY = "SELECT event_type, count(*) AS events FROM events GROUP BY ALL ORDER BY ALL"
_PROGRAM = (
    "import sys, duckdb; connection = duckdb.connect(sys.argv[1], read_only=True); "
    "print(*connection.execute(sys.argv[2]).fetchall(), sep='\\n')"
)


@case(Claim(name="time", what="eventlog sql, small answer, 5M events", against="python -c with duckdb", limit=1.3))
def sql_in_the_shell(bench: Bench) -> Iterator[Measurement]:
    """From the start of the process to its end: `eventlog sql`, which waits for its turn, opens the
    index read-only, hardens it and prints a table, against a fresh interpreter that imports duckdb,
    opens the same file and prints the same rows."""
    events = bench.times(_IN_SHELL, at_least=1000)
    root = bench.data.root(bench.folder / "root", events)
    run(eventlog("replay", "--root", root), bench.home)
    by_hand: Command = [sys.executable, "-c", _PROGRAM, root / "index.duckdb", _QUERY]
    taken = interleave(
        max(bench.rounds, 9),
        {
            "ours": lambda: run(eventlog("sql", _QUERY, "--root", root), bench.home),
            "duckdb": lambda: run(by_hand, bench.home),
        },
    )
    yield compare("time", taken["ours"], taken["duckdb"], note=bench.sized(events, _IN_SHELL))
