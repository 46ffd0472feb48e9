"""Writing: what an event costs the program that emits it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bench import emitters
from bench.case import Bench, Claim, Measurement, Side, Skipped, case
from bench.figures import in_words, median
from bench.machine import file_system
from bench.measure import ChildFailed, Sample, call, interleave

_PEERS: dict[str, tuple[str, float, Callable[..., object], tuple[str, ...]]] = {
    "structlog": ("structlog + orjson", 0.5, emitters.with_structlog, ("structlog", "orjson")),
    "logging": ("logging, JSON formatter", 0.3, emitters.with_logging, ()),
    "loguru": ("loguru, serialize", 1.0, emitters.with_loguru, ("loguru",)),
    "sqlite": ("sqlite3, WAL, autocommit", 1.0, emitters.with_sqlite, ()),
    "spans": ("OpenTelemetry SDK, spans", 0.05, emitters.with_spans, ("opentelemetry.sdk",)),
    "log-records": ("OpenTelemetry SDK, log records", 1.0, emitters.with_log_records, ("opentelemetry.sdk",)),
    "bare": ("os.write of the same bytes", 5.0, emitters.with_bare_write, ()),
}


def _side(samples: Sequence[Sample]) -> Side:
    means = [sample.value()["mean"] for sample in samples]
    p99s = [sample.value()["p99"] for sample in samples if "p99" in sample.value()]
    return Side(
        value=median(means),
        unit="s",
        samples=means,
        peak_bytes=max(sample.peak_bytes for sample in samples),
        note=f"p99 {in_words(median(p99s), 's')}" if p99s else "",
    )


def _compared(claim: str, ours: Sequence[Sample], peer: Sequence[Sample]) -> Measurement:
    mine, theirs = _side(ours), _side(peer)
    return Measurement(claim, mine.value / theirs.value, mine, theirs)


def _why_not(side: Callable[[], Sample], modules: tuple[str, ...]) -> str | None:
    """Run another program once, uncounted; return why it cannot be measured here, or None."""
    for module in modules:
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            return f"{module} is not installed; try: make bench"
    try:
        side()
    except ChildFailed as error:  # an interface that changed, say: the others are measured all the same
        return f"it fails here: {error}"
    return None


def _into(bench: Bench, emitter: Callable[..., object], **arguments: Any) -> Callable[[], Sample]:
    def sample() -> Sample:
        folder = bench.fresh("emitted")
        folder.mkdir()
        return call(emitter, bench.home, folder=folder, seed=bench.seed, **arguments)

    return sample


@case(
    *(
        Claim(name=name, what="emit, one typed event with context", against=peer, limit=limit)
        for name, (peer, limit, _, _) in _PEERS.items()
    )
)
def emit(bench: Bench) -> Iterator[Measurement]:
    """Mean time of one call, in a process that does nothing else; policy `written`. Every side
    hands each event to the kernel before the call returns, and the lines are counted afterwards."""
    events = bench.times(20_000, at_least=1000)
    sides = {"ours": _into(bench, emitters.with_eventlog, events=events)}
    sides["ours"]()
    for name, (_, _, emitter, modules) in _PEERS.items():
        side = _into(bench, emitter, events=events)
        reason = _why_not(side, modules)
        if reason is None:
            sides[name] = side
        else:
            yield Measurement(name, skipped=reason)
    taken = interleave(bench.rounds, sides, warm=0)
    for name in filter(sides.__contains__, _PEERS):
        yield _compared(name, taken["ours"], taken[name])


@case(Claim(name="bare", what="emit_many, batches of 100", against="os.write of the same batch", limit=2.5))
def emit_many(bench: Bench) -> Iterator[Measurement]:
    """Mean time of one batch of a hundred typed events with context, made, checked, encoded and
    written; the other side writes the very bytes, made beforehand, with one call."""
    batches = bench.times(400, at_least=50)
    sides = {
        "ours": _into(bench, emitters.many_with_eventlog, batches=batches),
        "bare": _into(bench, emitters.many_with_bare_write, batches=batches),
    }
    taken = interleave(bench.rounds, sides)
    yield _compared("bare", taken["ours"], taken["bare"])


@case(Claim(name="fdatasync", what="synced emit, 16 threads", against="write + fdatasync per event", limit=0.2))
def emit_synced(bench: Bench) -> Iterator[Measurement]:
    """Time per event that survives a power cut, with 16 threads emitting at once, on a disk. The
    other side appends the same lines to one file and syncs after each."""
    kind = file_system(bench.folder)
    if kind in ("tmpfs", "ramfs"):
        raise Skipped(f"the folder for data is on {kind}, where a sync costs nothing")
    events = bench.times(6400, at_least=640)
    sides = {
        "ours": _into(bench, emitters.synced_with_eventlog, events=events),
        "fdatasync": _into(bench, emitters.synced_with_fdatasync, events=events),
    }
    taken = interleave(bench.rounds, sides)
    yield _compared("fdatasync", taken["ours"], taken["fdatasync"])
