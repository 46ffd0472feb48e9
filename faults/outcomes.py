"""What became of the faults of a campaign, kept in a file so that a later run can go on."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path

import msgspec


class Verdict(StrEnum):
    """What became of one fault."""

    HELD = "held"
    BROKEN = "broken"
    SKIPPED = "skipped"
    NOT_TRIED = "not tried"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one fault: `figure` is what it counted, or what was broken, or why it was not tried."""

    name: str
    title: str
    how: str
    verdict: Verdict
    figure: str
    elapsed_s: float


class Outcomes(msgspec.Struct, kw_only=True):
    """The outcomes of one campaign, by the name of the fault, and what repeats it."""

    seed: int
    scale: float = 1.0
    deep: bool = False
    outcomes: dict[str, Outcome] = {}

    def named(self, verdict: Verdict) -> list[str]:
        """Return the names of the faults with this verdict."""
        return [name for name, each in self.outcomes.items() if each.verdict is verdict]

    def expected_s(self, name: str) -> float | None:
        """Return how long a fault took, or None where it has not been tried."""
        found = self.outcomes.get(name)
        return found.elapsed_s if found and found.verdict is not Verdict.NOT_TRIED else None

    def exit_code(self) -> int:
        """Return 1 where something is broken, 3 where something was not tried, else 0."""
        if self.named(Verdict.BROKEN):
            return 1
        return 3 if self.named(Verdict.NOT_TRIED) else 0

    def save(self, path: Path) -> None:
        """Write them, so that a kill leaves either the file before or this one."""
        part = path.with_name(path.name + ".part")
        part.write_bytes(msgspec.json.format(msgspec.json.encode(self)))
        os.replace(part, path)


def load(path: Path) -> Outcomes | None:
    """Read the outcomes of an earlier campaign; None where there are none, or none of this form."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Outcomes)
    except (OSError, msgspec.MsgspecError):
        return None


def in_order(names: list[str], earlier: Outcomes | None) -> list[str]:
    """Put first what was not tried last time, then what was broken, then the longest.

    So a new fault is not what the time runs out for, and the end of a campaign has the short ones.
    """

    def rank(name: str) -> tuple[bool, bool, float]:
        before = earlier.outcomes.get(name) if earlier else None
        if before is None or before.verdict is Verdict.NOT_TRIED:
            return (False, False, 0.0)
        return (True, before.verdict is not Verdict.BROKEN, -before.elapsed_s)

    return sorted(names, key=rank)
