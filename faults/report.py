"""The table of docs/reliability.md, made from the outcomes of a campaign."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path

from faults.outcomes import Outcome

_BEGIN, _END = "<!-- figures: begin -->", "<!-- figures: end -->"


def table(outcomes: Iterable[Outcome], seed: int) -> str:
    """Return the outcomes as a Markdown table, with what they were measured on."""
    rows = [
        f"| {_cell(each.title)} | {_cell(each.how)} | {each.verdict}: {_cell(each.figure)} | {_took(each)} |"
        for each in outcomes
    ]
    head = "| fault | how | figure | took |\n| --- | --- | --- | --- |"
    return "\n".join(
        [
            f"Seed {seed}, Python {platform.python_version()}, {platform.system()} {platform.release()}.",
            "",
            head,
            *rows,
        ]
    )


def _took(outcome: Outcome) -> str:
    return f"{outcome.elapsed_s:g} s" if outcome.elapsed_s else "–"


def _cell(text: str) -> str:
    """Fit text into a table cell: its last line, without a bar, capitalised."""
    line = text.strip().splitlines()[-1].replace("|", "/")
    return line[:1].upper() + line[1:]


def write(path: Path, outcomes: Iterable[Outcome], seed: int) -> None:
    """Replace the figures on the page, between its two markers."""
    before, _, rest = path.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    path.write_text(f"{before}{_BEGIN}\n{table(outcomes, seed)}\n{_END}{after}")
