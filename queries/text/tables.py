"""Lists for people: columns that fit the terminal. In a pipe nothing is left out or cut."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence

import msgspec

from eventlog.cli.text import printable
from eventlog.queries.text import cells

#: The width of what is drawn in a pipe, and in a terminal that does not say how wide it is.
_PIPE_COLUMNS = 100
#: Elastic columns are cut to this width at least.
_CUT_MIN = 16


class Column(msgspec.Struct, frozen=True):
    """A column, with its cells once it has rows: `Column("took", rank=4, number=True)`.

    Where the terminal is too narrow, columns are left out, the highest `rank` first, 0 never; then `elastic` ones are
    cut. `number` aligns right.
    """

    name: str
    cells: list[str] = []
    rank: int = 0
    number: bool = False
    elastic: bool = False


def terminal_columns() -> int:
    """Return the width of the terminal; in a pipe, one that reads well."""
    return shutil.get_terminal_size((_PIPE_COLUMNS, 24)).columns if sys.stdout.isatty() else _PIPE_COLUMNS


def width_limit() -> int | None:
    """Return how wide a list may be: as wide as the terminal; None in a pipe, where nothing is cut."""
    return terminal_columns() if sys.stdout.isatty() else None


def listed(rows: Iterable[Sequence[str]], *columns: Column, indent: int = 0) -> list[str]:
    """Return a heading and a line per row, as wide as the terminal less `indent`; in a pipe nothing is left out.

    Control characters are made harmless. A column without any text is left out, unless its rank is 0.
    """
    limit = width_limit()
    return _lines(_filled(rows, columns), None if limit is None else limit - indent)


def _filled(rows: Iterable[Sequence[str]], columns: Sequence[Column]) -> list[Column]:
    by_column = list(zip(*rows, strict=True)) or [()] * len(columns)
    return [
        msgspec.structs.replace(column, cells=[printable(text) for text in texts])
        for column, texts in zip(columns, by_column, strict=True)
    ]


def _lines(columns: Sequence[Column], limit: int | None) -> list[str]:
    shown = [column for column in columns if any(column.cells) or not column.rank]
    while limit is not None and _least_wide(shown) > limit and any(column.rank for column in shown):
        highest = max(column.rank for column in shown)
        shown.remove(next(column for column in reversed(shown) if column.rank == highest))
    widths = [_width(column) for column in shown]
    if limit is not None:
        for index in sorted(range(len(shown)), key=lambda index: -widths[index]):
            too_much = sum(widths) + 2 * (len(widths) - 1) - limit
            if too_much > 0 and shown[index].elastic:
                widths[index] = max(widths[index] - too_much, min(_CUT_MIN, widths[index]))
    aligned = [
        [
            cells.right(text, width) if column.number else cells.left(text, width)
            for text in (column.name, *column.cells)
        ]
        for column, width in zip(shown, widths, strict=True)
    ]
    lines = ["  ".join(row).rstrip() for row in zip(*aligned, strict=True)]
    return lines if limit is None else [cells.cut(line, limit) for line in lines]


def _width(column: Column) -> int:
    return max(map(cells.width, (column.name, *column.cells)))


def _least_wide(columns: Sequence[Column]) -> int:
    least = (min(_width(column), _CUT_MIN) if column.elastic else _width(column) for column in columns)
    return sum(least) + 2 * (len(columns) - 1)
