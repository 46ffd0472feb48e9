"""How far down it can go: the parts that nothing of this kind can do without, each alone.

    python -m bench.floors [--rounds N] [--write]

A target below such a floor cannot be met, whatever the rest costs. The parts keep no promise of
eventlog's: nothing is checked, nothing is locked, nothing is counted.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from bench import emitters, engines
from bench.data import Data, default_folder
from bench.emitters import BATCH, CONTEXT, THREADS, Timings
from bench.figures import digits, in_words, median
from bench.measure import PROJECT, Sample, call, interleave, run

_EVENTS = 300_000
_PAGE = PROJECT / "docs" / "performance.md"
_BEGIN, _END = "<!-- floors: begin -->", "<!-- floors: end -->"


class Floor(NamedTuple):
    """A part, what it is compared with, and the ratio that is asked of the whole."""

    what: str
    against: str
    target: float


_FLOORS = {
    "emit": Floor("encode, make id and time, os.write; all else hard-coded", "structlog + orjson", 0.5),
    "emit-bare": Floor("the same", "os.write of the same bytes", 5.0),
    "batch": Floor("encode 100 events and write them; no ids, no times", "os.write of the same batch", 2.5),
    "synced": Floor(
        "one write and fdatasync for 16 events, one thread", "write + fdatasync per event, 16 threads", 0.2
    ),
    "import": Floor("python -c 'import msgspec'", "python -c 'import logging, json'", 1.5),
    "load": Floor("CREATE TABLE AS read_json, the payload compressed with zstd", "the same, default settings", 0.8),
    "check": Floor("reading all lines and proving them to be events, one thread", "CREATE TABLE AS read_json", 0.8),
}


# -- in children -----------------------------------------------------------------------------


def emit_least(folder: str, events: int, seed: int) -> Timings:
    """An event as a line in a file, by the shortest way there is with msgspec."""
    import time

    import msgspec

    from eventlog import ids, timestamps
    from eventlog.events import LlmCall

    shared = json.dumps(CONTEXT, separators=(",", ":"))[1:-1].encode()
    encode, write, now = msgspec.json.Encoder().encode, os.write, time.time_ns
    fd = os.open(Path(folder) / "least.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def record(fields: dict[str, Any]) -> None:
        moment = now()
        head = (
            f'{{"event_id":"{ids.new_id(moment)}","event_type":"llm_call","timestamp":"{timestamps.from_ns(moment)}",'
        )
        write(fd, b'%b%b,"payload":%b}\n' % (head.encode(), shared, encode(LlmCall(**fields))))

    return emitters.time_each(record, emitters.samples(seed), events)


def batch_least(folder: str, batches: int, seed: int) -> Timings:
    """A hundred payloads as lines in a file."""
    import msgspec

    from eventlog.events import LlmCall

    encode = msgspec.json.Encoder().encode
    fields = emitters.samples(seed)
    each = [fields[at : at + BATCH] for at in range(0, len(fields), BATCH)]
    fd = os.open(Path(folder) / "least.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return emitters.time_each(
        lambda batch: os.write(fd, b"\n".join([encode(LlmCall(**fields)) for fields in batch])), each, batches
    )


def sync_least(folder: str, events: int, seed: int) -> Timings:
    """What group commit would come to if every sync served all threads, and cost them nothing else."""
    lines = emitters.lines_of_eventlog(folder, seed)
    fd = os.open(Path(folder) / "least.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def record(line: bytes) -> None:
        os.write(fd, line * THREADS)
        os.fdatasync(fd)

    found = emitters.time_each(record, lines, events // THREADS)
    return {name: value / THREADS for name, value in found.items()}


def load_compressed(log: str, path: str) -> int:
    """As `engines.load_with_duckdb`, into a payload column with zstd, in small row groups."""
    import duckdb

    files = sorted(map(str, Path(log).glob("*/*.jsonl")))
    columns = ", ".join(f"{name}: '{kind}'" for name, kind in engines.COLUMNS.items())
    made = ", ".join(
        f"{name} {kind}{' USING COMPRESSION zstd' if name == 'payload' else ''}"
        for name, kind in engines.COLUMNS.items()
    )
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{path}' AS x (ROW_GROUP_SIZE 10240)")
        connection.execute(f"CREATE TABLE x.events ({made})")
        connection.execute(
            f"INSERT INTO x.events SELECT * FROM read_json({files}, format = 'newline_delimited',"
            f" columns = {{{columns}}})"
        )
        row = connection.execute("SELECT count(*) FROM x.events").fetchone()
        connection.execute("DETACH x")
    return int(row[0]) if row else 0


def check_lines(log: str) -> int:
    """Read and prove every line of a log; return how many there are."""
    from eventlog.reader import read_blocks
    from indexer.proof import prove

    lines = 0
    for path in sorted(Path(log).glob("*/*.jsonl")):
        for block in read_blocks(path):
            proof = prove(block, path.parent.name)
            lines += len(proof.lengths) if proof else 0
    return lines


# -- measuring -------------------------------------------------------------------------------


def measure(rounds: int, seed: int) -> dict[str, tuple[float, float]]:
    """Return the seconds of each part, and of what it is compared with."""
    data = Data(default_folder(), seed)
    found: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory(dir=data.work) as scratch:
        folder, home = Path(scratch), Path(scratch) / "home"
        home.mkdir()
        log = data.root(folder / "root", _EVENTS) / "log"

        def emitting(function: Callable[..., object], **arguments: int) -> Callable[[], Sample]:
            def sample() -> Sample:
                made = Path(tempfile.mkdtemp(dir=folder))
                return call(function, home, folder=made, seed=seed, **arguments)

            return sample

        def loading(function: Callable[..., object]) -> Callable[[], Sample]:
            def sample() -> Sample:
                path = folder / "loaded.duckdb"
                path.unlink(missing_ok=True)
                return call(function, home, log=log, path=path)

            return sample

        def starting(program: str) -> Callable[[], Sample]:
            return lambda: run([sys.executable, "-c", program], home)

        def means(samples: Sequence[Sample]) -> float:
            return median([sample.value()["mean"] for sample in samples])

        def elapsed(samples: Sequence[Sample]) -> float:
            return median([sample.elapsed_s for sample in samples])

        taken = interleave(
            rounds,
            {
                "least": emitting(emit_least, events=20_000),
                "structlog": emitting(emitters.with_structlog, events=20_000),
                "bare": emitting(emitters.with_bare_write, events=20_000),
                "batch": emitting(batch_least, batches=400),
                "bare batch": emitting(emitters.many_with_bare_write, batches=400),
                "synced": emitting(sync_least, events=6400),
                "fdatasync": emitting(emitters.synced_with_fdatasync, events=6400),
                "msgspec": starting("import msgspec"),
                "logging": starting("import logging, json"),
                "zstd": loading(load_compressed),
                "default": loading(engines.load_with_duckdb),
                "check": lambda: call(check_lines, home, log=log),
            },
        )
    found["emit"] = means(taken["least"]), means(taken["structlog"])
    found["emit-bare"] = means(taken["least"]), means(taken["bare"])
    found["batch"] = means(taken["batch"]), means(taken["bare batch"])
    found["synced"] = means(taken["synced"]), means(taken["fdatasync"])
    found["import"] = elapsed(taken["msgspec"]), elapsed(taken["logging"])
    found["load"] = elapsed(taken["zstd"]), elapsed(taken["default"])
    found["check"] = elapsed(taken["check"]), elapsed(taken["default"])
    return found


def table(found: dict[str, tuple[float, float]]) -> str:
    """Return the figures as a table."""
    rows = ["| the least | | against | | ratio | asked of the whole |", "| --- | ---: | --- | ---: | ---: | ---: |"]
    for name, (least, peer) in found.items():
        floor = _FLOORS[name]
        rows.append(
            f"| {floor.what} | {in_words(least, 's')} | {floor.against} | {in_words(peer, 's')} "
            f"| {digits(least / peer)} × | ≤ {digits(floor.target)} × |"
        )
    return "\n".join(rows)


def write(text: str) -> None:
    """Put a table between the marks on the page."""
    page = _PAGE.read_text()
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    _PAGE.write_text(f"{before}{_BEGIN}\n{text}\n{_END}{after}")


@click.command()
@click.option("--rounds", default=5, type=click.IntRange(1), show_default=True)
@click.option("--seed", default=7, show_default=True, help="Of the generated data.")
@click.option("--write", "writing", is_flag=True, help="Write the table into docs/performance.md.")
def main(rounds: int, seed: int, writing: bool) -> None:
    """Measure what cannot be done without."""
    text = table(measure(rounds, seed))
    click.echo(text)
    if writing:
        write(text)


if __name__ == "__main__":
    from bench import floors  # noqa: PLW0406 - children look for functions by the name of their module

    floors.main()
