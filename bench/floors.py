"""Lower bounds: the parts that no program of this kind can do without, each measured alone.

    python -m bench.floors [--rounds N] [--scale S] [--write]

No program can meet a target below such a bound. The parts keep none of eventlog's promises: they check, lock and count
nothing. The other side of each comparison is run as in the cases.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

import click

from bench import asking, emitters, engines, least, real, sessions
from bench.case import Bench, Skipped
from bench.data import Data, default_folder
from bench.figures import digits, in_words, median
from bench.measure import PROJECT, Command, Sample, call, eventlog, interleave, run

_EVENTS, _ASKED = 300_000, 1_000_000
#: Of what takes a moment: starts of processes, and questions.
_ROUNDS_MIN = 15
_PAGE = PROJECT / "docs" / "benchmarks.md"
_BEGIN, _END = "<!-- floors: begin -->", "<!-- floors: end -->"
_READ_JSON = "CREATE TABLE AS read_json"


class Floor(NamedTuple):
    """A part, the other side of its comparison, and the target of the whole: a ratio, or how many times faster."""

    what: str
    against: str
    target: float
    faster: bool = False


_FLOORS = {
    "emit": Floor("encode, make id and time, os.write; all else hard-coded", "structlog + orjson", 0.5),
    "emit-logging": Floor("the same", "logging, JSON formatter", 0.3),
    "emit-spans": Floor("the same", "OpenTelemetry SDK, spans", 0.05),
    "emit-bare": Floor("the same", "os.write of the same bytes", 5.0),
    "emit-promised": Floor(
        "and check the type, refuse NaN, look for secrets, keep limits, take a lock", "structlog + orjson", 0.5
    ),
    "emit-promised-bare": Floor("the same", "os.write of the same bytes", 5.0),
    "batch": Floor("encode 100 events and write them; no ids, no times", "os.write of the same batch", 2.5),
    "synced": Floor(
        "one write and fdatasync for 16 events, one thread", "write + fdatasync per event, 16 threads", 0.2
    ),
    "import": Floor("python -c 'import msgspec'", "python -c 'import logging, json'", 1.5),
    "load": Floor(f"{_READ_JSON}, the payload compressed with zstd", "the same, default settings", 0.8),
    "check": Floor("reading all lines and proving them to be events, one thread", _READ_JSON, 0.8),
    **{
        f"{kind}-{name}": Floor(what, f"{_READ_JSON} of {name}", 0.8)
        for name in real.IMPORTS
        for kind, what in (
            ("start", "python -c with duckdb: an empty table in a new file"),
            ("load", "the table with the payload compressed with zstd"),
        )
    },
    "sessions": Floor(
        f"parse, hash and write the lines of the sessions; then python -c with duckdb: {_READ_JSON} of them",
        "agentsview sync",
        0.5,
    ),
    "cost": Floor("python -c with duckdb: open the index, count its rows", "ccusage daily --offline", 1.0),
    "runs-json": Floor(
        "runs by agent over a table of nothing but these rows and columns",
        "JSON extraction from the index",
        20.0,
        faster=True,
    ),
    "runs-sqlite": Floor("the same", "SQLite, indexed, json_extract", 10.0, faster=True),
    "runs-together": Floor(
        "runs by agent over these columns of all events in one table, in order of their types",
        "SQLite, indexed, json_extract",
        10.0,
        faster=True,
    ),
}

#: Seconds of a part and of what it is compared with; or why they cannot be had.
Measured = tuple[float, float] | str

_EXECUTE = "import sys, duckdb; duckdb.connect(sys.argv[1]).execute(sys.argv[2])"
_COUNT = (
    "import sys, duckdb; connection = duckdb.connect(sys.argv[1], read_only=True); "
    "print(connection.execute('SELECT count(*) FROM events').fetchall())"
)


def _means(samples: Sequence[Sample]) -> float:
    return median([sample.value()["mean"] for sample in samples])


def _elapsed(samples: Sequence[Sample]) -> float:
    return median([sample.elapsed_s for sample in samples])


def _emitting(bench: Bench) -> dict[str, Measured]:
    events, batches = bench.times(20_000, at_least=100), bench.times(400)

    def sample(function: Callable[..., object], **arguments: int) -> Callable[[], Sample]:
        return lambda: call(
            function, bench.home, folder=tempfile.mkdtemp(dir=bench.folder), seed=bench.seed, **arguments
        )

    taken = interleave(
        bench.rounds,
        {
            "least": sample(least.emit_least, events=events),
            "promised": sample(least.emit_promised, events=events),
            "structlog": sample(emitters.with_structlog, events=events),
            "logging": sample(emitters.with_logging, events=events),
            "spans": sample(emitters.with_spans, events=events // 4),
            "bare": sample(emitters.with_bare_write, events=events),
            "batch": sample(least.batch_least, batches=batches),
            "bare batch": sample(emitters.many_with_bare_write, batches=batches),
            "synced": sample(least.sync_least, events=bench.times(6400, at_least=emitters.THREADS)),
            "fdatasync": sample(emitters.synced_with_fdatasync, events=bench.times(6400, at_least=emitters.THREADS)),
        },
    )
    of = {side: _means(samples) for side, samples in taken.items()}
    return {
        "emit": (of["least"], of["structlog"]),
        "emit-logging": (of["least"], of["logging"]),
        "emit-spans": (of["least"], of["spans"]),
        "emit-bare": (of["least"], of["bare"]),
        "emit-promised": (of["promised"], of["structlog"]),
        "emit-promised-bare": (of["promised"], of["bare"]),
        "batch": (of["batch"], of["bare batch"]),
        "synced": (of["synced"], of["fdatasync"]),
    }


def _starting(bench: Bench) -> dict[str, Measured]:
    def sample(program: str) -> Callable[[], Sample]:
        return lambda: run([sys.executable, "-c", program], bench.home)

    taken = interleave(
        max(bench.rounds, _ROUNDS_MIN), {"msgspec": sample("import msgspec"), "logging": sample("import logging, json")}
    )
    return {"import": (_elapsed(taken["msgspec"]), _elapsed(taken["logging"]))}


def _loading(bench: Bench) -> dict[str, Measured]:
    log = bench.data.root(bench.folder / "root", bench.times(_EVENTS, at_least=1000)) / "log"
    taken = interleave(
        bench.rounds,
        {
            "zstd": _into_new_file(bench, least.load_compressed, log),
            "default": _into_new_file(bench, engines.load_with_duckdb, log),
            "check": lambda: call(least.check_lines, bench.home, log=log),
        },
    )
    of = {side: _elapsed(samples) for side, samples in taken.items()}
    return {"load": (of["zstd"], of["default"]), "check": (of["check"], of["default"])}


def _into_new_file(bench: Bench, function: Callable[..., object], log: Path) -> Callable[[], Sample]:
    return lambda: call(function, bench.home, log=log, path=bench.fresh("loaded.duckdb"))


def _loading_real(bench: Bench, name: str) -> dict[str, Measured]:
    log = real.import_into(bench, bench.folder / name, name) / "log"
    columns = ", ".join(f"{column} {kind}" for column, kind in engines.COLUMNS.items())
    empty = f"CREATE TABLE events ({columns})"
    taken = interleave(
        max(bench.rounds, _ROUNDS_MIN),
        {
            "start": lambda: run(_execute(bench, empty), bench.home),
            "zstd": _into_new_file(bench, least.load_compressed, log),
            "default": _into_new_file(bench, engines.load_with_duckdb, log),
        },
    )
    of = {side: _elapsed(samples) for side, samples in taken.items()}
    return {f"start-{name}": (of["start"], of["default"]), f"load-{name}": (of["zstd"], of["default"])}


def _execute(bench: Bench, statement: str) -> Command:
    return [sys.executable, "-c", _EXECUTE, bench.fresh("made.duckdb"), statement]


def _importing_sessions(bench: Bench) -> dict[str, Measured]:
    log = real.import_into(bench, bench.folder / "root", "claude-code") / "log"
    statement = f"CREATE TABLE events AS {engines.lines_of(log)}"
    taken = interleave(
        max(bench.rounds, _ROUNDS_MIN),
        {
            "written": lambda: call(
                least.write_sessions, bench.home, sessions=sessions.SESSIONS, path=bench.fresh("sessions.jsonl")
            ),
            "loaded": lambda: run(_execute(bench, statement), bench.home),
            "agentsview": sessions.agentsview(bench),
        },
    )
    of = {side: _elapsed(samples) for side, samples in taken.items()}
    return {"sessions": (of["written"] + of["loaded"], of["agentsview"])}


def _summing_costs(bench: Bench) -> dict[str, Measured]:
    theirs = sessions.ccusage(bench)
    root = real.import_into(bench, bench.folder / "root", "claude-code")
    run(eventlog("index", "--root", root), bench.home)
    by_hand: Command = [sys.executable, "-c", _COUNT, root / "index.duckdb"]
    taken = interleave(max(bench.rounds, _ROUNDS_MIN), {"least": lambda: run(by_hand, bench.home), "ccusage": theirs})
    return {"cost": (_elapsed(taken["least"]), _elapsed(taken["ccusage"]))}


def _asking(bench: Bench) -> dict[str, Measured]:
    root = bench.data.root(bench.folder / "root", bench.times(_ASKED, at_least=5000))
    run(eventlog("replay", "--root", root), bench.home)
    sqlite = bench.folder / "events.sqlite"
    call(engines.load_with_sqlite, bench.home, log=root / "log", path=sqlite)
    seconds = call(
        asking.ask_least, bench.home, index=root / "index.duckdb", sqlite=sqlite, alone=bench.fresh("alone.duckdb"),
        together=bench.fresh("together.duckdb"), rounds=max(bench.rounds, _ROUNDS_MIN),
    ).value()  # fmt: skip
    of = {way: median(taken) for way, taken in seconds.items()}
    return {
        **{f"runs-{way}": (of["alone"], of[way]) for way in ("json", "sqlite")},
        "runs-together": (of["together"], of["sqlite"]),
    }


Part = Callable[[Bench], dict[str, Measured]]

#: By the names of their floors. In the order of the table.
PARTS: dict[tuple[str, ...], Part] = {
    tuple(name for name in _FLOORS if name.startswith(("emit", "batch", "synced"))): _emitting,
    ("import",): _starting,
    ("load", "check"): _loading,
    **{
        (f"start-{name}", f"load-{name}"): lambda bench, name=name: _loading_real(bench, name)  # type: ignore[misc]
        for name in real.IMPORTS
    },
    ("sessions",): _importing_sessions,
    ("cost",): _summing_costs,
    ("runs-json", "runs-sqlite", "runs-together"): _asking,
}


def measure(benches: Iterator[Bench], parts: Mapping[tuple[str, ...], Part] = PARTS) -> dict[str, Measured]:
    """Return the seconds of each part and of its other side; or the reason why they cannot be measured here."""
    figures: dict[str, Measured] = {}
    for (names, part), bench in zip(parts.items(), benches, strict=False):
        try:
            figures |= part(bench)
        except Skipped as skipped:
            figures |= dict.fromkeys(names, f"skipped: {skipped}")
    return figures


def table(figures: Mapping[str, Measured]) -> str:
    """Return the figures as a table."""
    rows = ["| the least | | against | | ratio | asked of the whole |", "| --- | ---: | --- | ---: | ---: | ---: |"]
    for name, measured in figures.items():
        floor = _FLOORS[name]
        asked = f"≥ {digits(floor.target)} × faster" if floor.faster else f"≤ {digits(floor.target)} ×"
        if isinstance(measured, str):
            rows.append(f"| {floor.what} | | {floor.against} | | {measured} | {asked} |")
            continue
        part, peer = measured
        ratio = f"{digits(peer / part)} × faster" if floor.faster else f"{digits(part / peer)} ×"
        rows.append(
            f"| {floor.what} | {in_words(part, 's')} | {floor.against} | {in_words(peer, 's')} | {ratio} | {asked} |"
        )
    return "\n".join(rows)


def write(text: str) -> None:
    """Write a table between the markers of the page."""
    page = _PAGE.read_text()
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    _PAGE.write_text(f"{before}{_BEGIN}\n{text}\n{_END}{after}")


@click.command()
@click.option("--rounds", default=5, type=click.IntRange(1), show_default=True)
@click.option("--scale", default=1.0, type=click.FloatRange(0, 1, min_open=True), show_default=True)
@click.option("--seed", default=7, show_default=True, help="Of the generated data.")
@click.option("--write", "writing", is_flag=True, help="Write the table into docs/benchmarks.md; at full size only.")
def main(rounds: int, scale: float, seed: int, writing: bool) -> None:
    """Measure the lower bounds."""
    if writing and scale != 1:
        raise click.UsageError("--write is for a run at full size, without --scale")
    data = Data(default_folder(), seed)
    with tempfile.TemporaryDirectory(dir=data.work) as scratch:
        benches = (
            Bench(scale=scale, rounds=rounds, data=data, folder=Path(scratch) / str(number)) for number in count()
        )
        text = table(measure(benches))
    click.echo(text)
    if writing:
        write(text)


if __name__ == "__main__":
    main()
