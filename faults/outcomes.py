"""The outcomes of a campaign, in a file, so that a later run can continue."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path

import msgspec


class Verdict(StrEnum):
    """How a fault ended."""

    HELD = "held"
    BROKEN = "broken"
    SKIPPED = "skipped"
    NOT_TRIED = "not tried"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one fault: `figure` is its count, the broken promise, or why it was not tried."""

    name: str
    title: str
    how: str
    verdict: Verdict
    figure: str
    elapsed_s: float


class Outcomes(msgspec.Struct, kw_only=True):
    """The outcomes of one campaign, by fault, and the settings that repeat it."""

    seed: int
    scale: float = 1.0
    deep: bool = False
    outcomes: dict[str, Outcome] = {}

    def named(self, verdict: Verdict) -> list[str]:
        """Return the names of the faults with this verdict."""
        return [name for name, each in self.outcomes.items() if each.verdict is verdict]

    def expected_s(self, name: str) -> float | None:
        """Return how long a fault took, or None if it was never tried."""
        found = self.outcomes.get(name)
        return found.elapsed_s if found and found.verdict is not Verdict.NOT_TRIED else None

    def exit_code(self) -> int:
        """Return 1 if a fault is broken, 3 if one was not tried, else 0."""
        if self.named(Verdict.BROKEN):
            return 1
        return 3 if self.named(Verdict.NOT_TRIED) else 0

    def save(self, path: Path) -> None:
        """Write the outcomes, so that a kill leaves either the earlier file or this one."""
        part = path.with_name(path.name + ".part")
        part.write_bytes(msgspec.json.format(msgspec.json.encode(self)))
        os.replace(part, path)


def load(path: Path) -> Outcomes | None:
    """Read the outcomes of an earlier campaign; None if there is no such file, or of another form."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Outcomes)
    except (OSError, msgspec.MsgspecError):
        return None


def in_order(names: list[str], earlier: Outcomes | None) -> list[str]:
    """Sort faults: first those not tried last time, then broken ones, then the longest.

    So time never runs out for a new fault, and a campaign ends with the short ones.
    """

    def rank(name: str) -> tuple[bool, bool, float]:
        before = earlier.outcomes.get(name) if earlier else None
        if before is None or before.verdict is Verdict.NOT_TRIED:
            return (False, False, 0.0)
        return (True, before.verdict is not Verdict.BROKEN, -before.elapsed_s)

    return sorted(names, key=rank)
