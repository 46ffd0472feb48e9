"""Lists for people: columns that fit the terminal.

Where a list is wider than the terminal, the columns that say least are left out, then what can be cut is cut. In
a pipe everything is there.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence

import msgspec

from eventlog.cli.text import printable
from eventlog.queries.text import cells

#: Of a list in a pipe, and of a terminal that does not say how wide it is.
_PIPE_COLUMNS = 100
_CUT_MIN = 16


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column. `rank` 0 is never left out, the highest first; `number` aligns right; `elastic` may be cut."""

    name: str
    cells: list[str]
    rank: int = 0
    number: bool = False
    elastic: bool = False


def terminal_columns() -> int:
    """Return how wide output may be: as the terminal, or what reads well where it goes elsewhere."""
    return shutil.get_terminal_size((_PIPE_COLUMNS, 24)).columns if sys.stdout.isatty() else _PIPE_COLUMNS


def width_limit() -> int | None:
    """Return how wide a list may be: as the terminal; None in a pipe."""
    return terminal_columns() if sys.stdout.isatty() else None


def columns(rows: Iterable[Sequence[str]], *described: Column) -> list[Column]:
    """Return columns with the cells of rows. Control characters are made harmless."""
    by_column = list(zip(*rows, strict=True)) or [()] * len(described)
    return [
        msgspec.structs.replace(column, cells=[printable(cell) for cell in found])
        for column, found in zip(described, by_column, strict=True)
    ]


def lines(given: Sequence[Column], width: int | None) -> list[str]:
    """Return a heading and a line per row; None as a width leaves nothing out. Empty columns are left out."""
    shown = [column for column in given if any(column.cells) or not column.rank]
    while width is not None and _least_wide(shown) > width and any(column.rank for column in shown):
        least = max(column.rank for column in shown)
        shown.remove(next(column for column in reversed(shown) if column.rank == least))
    widths = [_width(column) for column in shown]
    if width is not None:
        for place in sorted(range(len(shown)), key=lambda each: -widths[each]):
            too_much = sum(widths) + 2 * (len(widths) - 1) - width
            if too_much > 0 and shown[place].elastic:
                widths[place] = max(widths[place] - too_much, min(_CUT_MIN, widths[place]))
    aligned = [
        [cells.right(cell, each) if column.number else cells.left(cell, each) for cell in (column.name, *column.cells)]
        for column, each in zip(shown, widths, strict=True)
    ]
    found = ["  ".join(row).rstrip() for row in zip(*aligned, strict=True)]
    return found if width is None else [cells.cut(line, width) for line in found]


def _width(column: Column) -> int:
    return max(map(cells.width, (column.name, *column.cells)))


def _least_wide(shown: Sequence[Column]) -> int:
    return sum(min(_width(each), _CUT_MIN) if each.elastic else _width(each) for each in shown) + 2 * (len(shown) - 1)
