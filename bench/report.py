"""The output of a run: the file of figures, the chart, and tables on two pages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench import expectations, picture
from bench.case import Claim, Outcome
from bench.figures import figure
from bench.machine import Machine
from bench.measure import PROJECT

RESULTS, PICTURE = "bench/results.json", "docs/bench.svg"
#: All comparisons with their targets; and what a user may expect.
PAGE, EXPECTED = "docs/benchmarks.md", "docs/performance.md"
WRITTEN = (RESULTS, PICTURE, PAGE, EXPECTED)
COLUMNS = ("what", "against", "ours", "peer", "ratio", "target", "met")
_BEGIN, _END = "<!-- figures: begin -->", "<!-- figures: end -->"


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """One run: its machine and versions, and all outcomes."""

    machine: Machine
    seed: int
    scale: float
    rounds: int
    took_s: float
    outcomes: list[Outcome]


def target(claim: Claim) -> str:
    """Return a target as text: ≤ 0.5 ×, ≥ 20 ×, ≤ 250 ms."""
    return f"{'≥' if claim.at_least else '≤'} {figure(claim.limit, claim.unit)}"


def _figure(outcome: Outcome) -> str:
    return "" if outcome.value is None else figure(outcome.value, outcome.claim.unit)


def verdict(outcome: Outcome) -> str:
    """Return the verdict of a claim, and the reason if it was not measured."""
    if outcome.verdict in ("met", "missed"):
        return {"met": "met", "missed": "not met"}[outcome.verdict]
    return f"{outcome.verdict}: {_last_line(outcome.reason)}"


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def row(outcome: Outcome) -> tuple[str, ...]:
    """Return the cells of one claim, in the order of COLUMNS."""
    claim = outcome.claim
    return (
        claim.what + (f" ({outcome.note})" if outcome.note else ""),
        claim.against,
        outcome.ours.words() if outcome.ours else "",
        outcome.peer.words() if outcome.peer else "",
        _figure(outcome),
        target(claim),
        verdict(outcome),
    )


def line(outcome: Outcome) -> str:
    """Return one outcome as a line, printed when it is measured."""
    what, against, ours, peer, ratio, wanted, met = row(outcome)
    sides = " against ".join(filter(None, [ours, peer]))
    figure = f": {ratio or '-'} (target {wanted})" + (f"; {sides}" if sides else "")
    return f"{outcome.took_s:6.1f} s  {outcome.case}: {what} | {against}{figure}; {met}"


def header(results: Results) -> str:
    """Return text about the machine and the method."""
    size = "full size" if results.scale == 1 else f"scale {results.scale:g}: too small for conclusions"
    return (
        f"{results.machine.words()}. Seed {results.seed}, {size}, medians of {results.rounds} rounds or more; "
        "memory is the peak of the whole process."
    )


def plain_table(results: Results) -> str:
    """Return the table for a terminal."""
    rows = [COLUMNS, *map(row, results.outcomes)]
    widths = [max(len(cells[place]) for cells in rows) for place in range(len(COLUMNS) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(cells[:-1], widths, strict=True)), cells[-1]]).rstrip()
        for cells in rows
    )


def markdown_table(outcomes: Sequence[Outcome]) -> str:
    """Return the table for the page."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *map(row, outcomes)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |" for cells in rows)


def write(results: Results, project: Path = PROJECT) -> None:
    """Write the figures, the picture, and both pages between their markers."""
    pretty = msgspec.json.format(msgspec.json.encode(results), indent=1)
    (project / RESULTS).write_bytes(pretty + b"\n")
    (project / PICTURE).write_text(picture.draw(results.outcomes))
    for page, text in pages(results).items():
        before, _, rest = (project / page).read_text().partition(_BEGIN)
        _, _, after = rest.partition(_END)
        (project / page).write_text(f"{before}{_BEGIN}\n{text}\n{_END}{after}")


def pages(results: Results) -> dict[str, str]:
    """Return the text between the markers of each page."""
    picture_line = "![Each figure against its target](bench.svg)"
    return {
        PAGE: f"{picture_line}\n\n{header(results)}\n\n{markdown_table(results.outcomes)}",
        EXPECTED: f"{expectations.table(results.outcomes)}\n\nMeasured on {header(results)}",
    }
