"""Every run of all cases, a line each: what was met before is looked at, so that nothing gets slower unseen."""

from __future__ import annotations

import datetime
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from bench.case import Outcome
from bench.measure import PROJECT

HISTORY = "bench/history.jsonl"
_NO_COMMIT = "unknown"


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One run. `figures` are ratios, or have the unit of their claim, by `case: claim`, such as `start: import`.

    `met` names the claims that were met. Only runs of one processor and scale are compared.
    """

    day: str
    commit: str
    processor: str
    scale: float
    figures: dict[str, float]
    met: list[str]


def entry(outcomes: Sequence[Outcome], *, processor: str, scale: float, project: Path = PROJECT) -> Entry:
    """Return the entry of a run that has just ended."""
    measured = [outcome for outcome in outcomes if outcome.value is not None]
    return Entry(
        day=datetime.datetime.now(datetime.UTC).date().isoformat(),
        commit=_commit(project),
        processor=processor,
        scale=scale,
        figures={name(outcome): float(f"{outcome.value:.4g}") for outcome in measured},
        met=[name(outcome) for outcome in measured if outcome.verdict == "met"],
    )


def name(outcome: Outcome) -> str:
    """Return what a claim is called in the history: `start: import`."""
    return f"{outcome.case}: {outcome.claim.name}"


def last(*, processor: str, scale: float, project: Path = PROJECT) -> Entry | None:
    """Return the last run of a processor and a scale; None if there is none."""
    path = project / HISTORY
    runs = msgspec.json.Decoder(Entry).decode_lines(path.read_bytes()) if path.exists() else []
    return next((run for run in reversed(runs) if (run.processor, run.scale) == (processor, scale)), None)


def append(made: Entry, project: Path = PROJECT) -> None:
    """Add a run."""
    with (project / HISTORY).open("ab") as file:
        file.write(msgspec.json.encode(made) + b"\n")


def lost(outcomes: Iterable[Outcome], before: Entry | None) -> list[Outcome]:
    """Return the claims that were met in an earlier run, and are not now."""
    met = set() if before is None else set(before.met)
    return [outcome for outcome in outcomes if outcome.verdict != "met" and name(outcome) in met]


def _commit(project: Path) -> str:
    """Return the commit that was measured, with a + if files were changed since."""
    command = ["git", "-C", str(project), "describe", "--always", "--abbrev=8", "--exclude=*", "--dirty=+"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return _NO_COMMIT
    return done.stdout.strip()
