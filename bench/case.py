"""Cases and their claims, and the list of all cases.

A case measures one thing. A claim is one line of the table, with its target. Each claim of a case ends in an outcome:
met, missed, skipped with a reason, or failed with a reason. None is left out.
"""

from __future__ import annotations

import importlib
import re
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.data import Data
from bench.figures import in_words, median
from bench.measure import Sample

ROUNDS = 5
_ROUNDS_MIN = 5


class Skipped(Exception):
    """The case, or the rest of it, cannot be measured here; the message says why."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table. `limit` is a ratio unless `unit` says otherwise."""

    name: str
    what: str
    against: str
    limit: float
    unit: str = "×"
    at_least: bool = False

    def is_met(self, value: float) -> bool:
        """Return whether a figure meets its target."""
        return value >= self.limit if self.at_least else value <= self.limit


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a comparison: a median and its samples."""

    value: float
    unit: str
    samples: list[float] = []
    peak_bytes: int | None = None
    note: str = ""

    def words(self) -> str:
        peak = "" if self.peak_bytes is None else f", {in_words(self.peak_bytes, 'B')}"
        note = f" ({self.note})" if self.note else ""
        return in_words(self.value, self.unit) + note + peak


class Measurement(NamedTuple):
    """The result of one claim; or, with `skipped`, the reason why there is none."""

    claim: str
    value: float | None = None
    ours: Side | None = None
    peer: Side | None = None
    note: str = ""
    skipped: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one claim. `verdict` is met, missed, skipped or failed."""

    case: str
    claim: Claim
    verdict: str
    value: float | None = None
    ours: Side | None = None
    peer: Side | None = None
    note: str = ""
    reason: str = ""
    took_s: float = 0


class Bench:
    """What a case needs: its scale, its data, and a folder of its own on a disk."""

    def __init__(self, *, scale: float, rounds: int, data: Data, folder: Path) -> None:
        self.scale = scale
        self.rounds = rounds
        self.data = data
        self.seed = data.seed
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(parents=True, exist_ok=True)

    def times(self, count: int, *, at_least: int = 1) -> int:
        """Scale a count of the full run."""
        return max(at_least, round(count * self.scale))

    def sized(self, events: int, full: int) -> str:
        """Return a note with the size, if it is not the one in the text of the claim."""
        return "" if events == full else f"{events:,} events"

    def fresh(self, name: str) -> Path:
        """Return a new path in the case's folder."""
        path = self.folder / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        return path


Measure = Callable[[Bench], Iterator[Measurement]]


class Case(NamedTuple):
    """A case: `name` for the command line, its claims, and the function that measures them."""

    name: str
    how: str
    claims: tuple[Claim, ...]
    measure: Measure


#: In the order of the table: writing, loading, reading, living with it, serving it.
MODULES = (
    "case_emit", "case_shell", "case_replay", "case_real", "case_queries", "case_search", "case_live", "case_server",
    "case_stream",
)  # fmt: skip
CASES: dict[str, Case] = {}


def case(*claims: Claim) -> Callable[[Measure], Measure]:
    """Register a function as a case; its docstring says how it measures and why the comparison is fair."""

    def register(function: Measure) -> Measure:
        name = function.__name__.replace("_", "-")
        CASES[name] = Case(name, " ".join((function.__doc__ or "").split()), claims, function)
        return function

    return register


def discover() -> dict[str, Case]:
    """Import all modules with cases; return the cases by name, in the order of the table."""
    for module in MODULES:
        importlib.import_module(f"bench.{module}")
    return CASES


def compare(
    claim: str, ours: Sequence[Sample], peer: Sequence[Sample], *, per: float = 1, note: str = ""
) -> Measurement:
    """Compare two sides by the medians of their times, each divided by `per`."""
    mine, theirs = timed(ours, per=per), timed(peer, per=per)
    return Measurement(claim, mine.value / theirs.value, mine, theirs, _with_rounds(note, len(ours)))


def timed(samples: Sequence[Sample], *, per: float = 1, note: str = "") -> Side:
    """Measure one side from process start to end; return seconds and peak memory."""
    times = [sample.elapsed_s / per for sample in samples]
    return Side(
        value=median(times), unit="s", samples=times, peak_bytes=max(sample.peak_bytes for sample in samples), note=note
    )


def _with_rounds(note: str, rounds: int) -> str:
    """Return the note with the number of rounds, if there are fewer than five."""
    few = f"{rounds} rounds" if rounds < _ROUNDS_MIN else ""
    return ", ".join(filter(None, [note, few]))


def run(chosen: Case, *, scale: float, rounds: int, data: Data) -> Iterator[Outcome]:
    """Measure one case; yield an outcome for each of its claims, whatever happens."""
    waiting = {claim.name: claim for claim in chosen.claims}
    started = time.monotonic()
    verdict, reason = "failed", "the case ended without a word about it"
    with tempfile.TemporaryDirectory(prefix=f"{chosen.name}-", dir=data.work, ignore_cleanup_errors=True) as folder:
        try:
            for measured in chosen.measure(Bench(scale=scale, rounds=rounds, data=data, folder=Path(folder))):
                yield _outcome(chosen, waiting.pop(measured.claim), measured, time.monotonic() - started)
                started = time.monotonic()
        except Skipped as skipped:
            verdict, reason = "skipped", str(skipped)
        except Exception as error:  # noqa: BLE001 - the other cases are measured all the same
            traceback.print_exc()
            reason = _without_paths(f"{type(error).__name__}: {error}")
    for claim in waiting.values():
        yield Outcome(
            case=chosen.name, claim=claim, verdict=verdict, reason=reason, took_s=round(time.monotonic() - started, 1)
        )


def _without_paths(text: str) -> str:
    """Shorten each path to its last part: figures are published, and paths are private."""
    return re.sub(r"/[^\s'\"]*/(?=[^\s/])", "…/", text)


def _outcome(chosen: Case, claim: Claim, measured: Measurement, took_s: float) -> Outcome:
    if measured.value is None:
        return Outcome(
            case=chosen.name,
            claim=claim,
            verdict="skipped",
            reason=_without_paths(measured.skipped),
            ours=measured.ours,
            peer=measured.peer,
            took_s=round(took_s, 1),
        )
    return Outcome(
        case=chosen.name,
        claim=claim,
        verdict="met" if claim.is_met(measured.value) else "missed",
        value=measured.value,
        ours=measured.ours,
        peer=measured.peer,
        note=measured.note,
        took_s=round(took_s, 1),
    )
