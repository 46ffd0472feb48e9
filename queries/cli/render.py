"""Answers for people and for programs."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from typing import Any

from eventlog.cli.main import tell
from eventlog.cli.text import printable
from eventlog.queries.access.selection import Result
from eventlog.queries.text import tables

_CELL_CHARS_MAX = 500
_FOLDED_CHARS = 40


def table(result: Result) -> None:
    """Print rows as a table, or one below the other where the terminal is too narrow for that.

    When piped, nothing is shortened, and rich is not even loaded: to load it takes as long as a query.
    """
    interactive = sys.stdout.isatty()
    columns = [printable(name) for name in result.columns]
    numbers = [_is_number(kind) for kind in result.types]
    rows = [[_cell(value, interactive) for value in row] for row in result.rows]
    if interactive:
        _draw(columns, numbers, rows)
    else:
        tell("\n".join(_lines(columns, numbers, rows)))


def fitted(result: Result, ranks: Mapping[str, int], *, elastic: Collection[str] = ()) -> None:
    """Print rows as a table that fits the terminal (see tables.Column for ranks and elastic); when piped, as `table`.

    Columns without a rank are never left out.
    """
    if not sys.stdout.isatty():
        table(result)
        return
    columns = [
        tables.Column(name, rank=ranks.get(name, 0), number=_is_number(kind), elastic=name in elastic)
        for name, kind in zip(result.columns, result.types, strict=True)
    ]
    rows = [[_cell(value, interactive=True) for value in row] for row in result.rows]
    tell("\n".join(tables.listed(rows, *columns)))


def _lines(columns: list[str], numbers: list[bool], rows: list[list[str]]) -> list[str]:
    """Return the lines of a plain table, numbers to the right."""
    widths = [max(map(_width, column)) for column in zip(columns, *rows, strict=True)]
    rule = f"+{'-+-'.join('-' * width for width in widths)}+"

    def line(cells: list[str]) -> str:
        padded = []
        for cell, width, is_number in zip(cells, widths, numbers, strict=True):
            space = " " * (width - _width(cell))
            padded.append(space + cell if is_number else cell + space)
        return f"|{' | '.join(padded)}|"

    return [rule, line(columns), rule, *map(line, rows), rule]


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _draw(columns: list[str], numbers: list[bool], rows: list[list[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    class Screen(Console):
        """rich would end the process itself when the reader of our output is gone."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    console = Screen(highlight=False, soft_wrap=False)
    if _width_at_least(columns, rows) > console.width:
        longest = max(map(len, columns), default=0)
        for number, row in enumerate(rows, start=1):
            console.print(Text(f"── row {number} ──", style="dim"))
            for name, value in zip(columns, row, strict=True):
                if value:
                    console.print(Text(f"{name:{longest}}  ", style="bold").append(value, style="not bold"))
        return
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, is_number in zip(columns, numbers, strict=True):
        grid.add_column(Text(name), justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        grid.add_row(*map(Text, row))
    console.print(grid)


def _width_at_least(columns: list[str], rows: list[list[str]]) -> int:
    """Return the columns that a table needs in which only long cells are folded."""
    return sum(
        min(max([len(name), *(len(row[place]) for row in rows)]), _FOLDED_CHARS) + 3
        for place, name in enumerate(columns)
    )


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
