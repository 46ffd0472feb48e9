"""Answers for people and for programs."""

from __future__ import annotations

import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventlog.cli.main import printable
from queries.store import Result

_CELL_CHARS_MAX = 500
_FOLDED_CHARS = 40


class _Console(Console):
    """rich would end the process itself when the reader of our output is gone."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def table(result: Result) -> None:
    """Print rows as a table, or one below the other where the terminal is too narrow for that.

    When piped, nothing is shortened.
    """
    interactive = sys.stdout.isatty()
    console = _Console(width=None if interactive else 100_000, highlight=False, soft_wrap=False)
    rows = [[_cell(value, interactive) for value in row] for row in result.rows]
    if interactive and _width(result.columns, rows) > console.width:
        _records(console, result.columns, rows)
        return
    grid = Table(box=box.SIMPLE_HEAD if interactive else box.ASCII2, pad_edge=False)
    for name, kind in zip(result.columns, result.types, strict=True):
        grid.add_column(Text(name), justify="right" if _is_number(kind) else "left", overflow="fold")
    for row in rows:
        grid.add_row(*map(Text, row))
    console.print(grid)


def _width(columns: list[str], rows: list[list[str]]) -> int:
    """Return the columns that a table needs in which only long cells are folded."""
    return sum(
        min(max([len(name), *(len(row[place]) for row in rows)]), _FOLDED_CHARS) + 3
        for place, name in enumerate(columns)
    )


def _records(console: Console, columns: list[str], rows: list[list[str]]) -> None:
    longest = max(map(len, columns), default=0)
    for number, row in enumerate(rows, start=1):
        console.print(Text(f"── row {number} ──", style="dim"))
        for name, value in zip(columns, row, strict=True):
            if value:
                console.print(Text(f"{name:{longest}}  ", style="bold").append(value, style="not bold"))


def _is_number(kind: str) -> bool:
    return kind.startswith(
        ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "U", "FLOAT", "DOUBLE", "DECIMAL")
    ) and (kind != "UUID")


def _cell(value: Any, interactive: bool) -> str:
    if value is None:
        return ""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    text = printable(text)
    return text[:_CELL_CHARS_MAX] + "…" if interactive and len(text) > _CELL_CHARS_MAX else text
