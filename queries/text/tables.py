"""Tables for people: columns that fit the terminal. In a pipe nothing is left out, cut or folded.

    listed   columns two spaces apart; of a narrow terminal, some are left out or cut
    folded   the same, but every value whole: long cells take several lines, or a row is shown one column per line
    ruled    with lines between columns, for a pipe: cells may hold spaces, and may be empty

All make control characters harmless, and measure texts in columns of a terminal (`cells.width`).
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

import msgspec

from eventlog.cli.text import printable
from eventlog.queries.text import cells

#: The width of what is drawn in a pipe, and in a terminal that does not say how wide it is.
_PIPE_COLUMNS = 100
#: Elastic columns are cut to this width at least, unless they say otherwise.
_CUT_MIN = 16
#: Columns are folded to this width at least.
_FOLD_MIN = 40


class Column(msgspec.Struct, frozen=True):
    """A column, with its cells once it has rows: `Column("took", rank=4, number=True)`.

    Where the terminal is too narrow, `listed` leaves out columns, the highest `rank` first, 0 never; then `elastic`
    ones are cut, to the width `least` at least. Before an elastic one is cut below `uncut`, others are left out.
    `number` aligns right.
    """

    name: str
    cells: list[str] = []
    rank: int = 0
    number: bool = False
    elastic: bool = False
    least: int = _CUT_MIN
    uncut: int = _CUT_MIN


def terminal_columns() -> int:
    """Return the width of the terminal; in a pipe, one that reads well."""
    return shutil.get_terminal_size((_PIPE_COLUMNS, 24)).columns if sys.stdout.isatty() else _PIPE_COLUMNS


def width_limit() -> int | None:
    """Return how wide a list may be: as wide as the terminal; None in a pipe, where nothing is cut."""
    return terminal_columns() if sys.stdout.isatty() else None


def listed(rows: Iterable[Sequence[str]], *columns: Column, indent: int = 0) -> list[str]:
    """Return a heading and a line per row, as wide as the terminal less `indent`; in a pipe nothing is left out.

    A column without any text is left out, unless its rank is 0.
    """
    limit = width_limit()
    return _listed(_filled(rows, columns), None if limit is None else limit - indent)


def folded(rows: Iterable[Sequence[str]], *columns: Column) -> list[str]:
    """Return a heading and the rows with every value whole, as wide as the terminal.

    Where folding does not do, rows are shown one below the other, a line for each column that has a text.
    """
    filled = _filled(rows, columns)
    widths = [_width(column) for column in filled]
    limit = width_limit()
    if limit is not None and _total([min(width, _FOLD_MIN) for width in widths]) > limit:
        return list(_one_below_the_other(filled))
    if limit is not None:
        widths = _narrowed(widths, [_FOLD_MIN] * len(widths), limit)
    return list(_spaced(filled, widths))


def prose(text: str) -> list[str]:
    """Return a sentence in lines as wide as the terminal, each indented as the text is; in a pipe as it stands."""
    limit, words = width_limit(), text.lstrip(" ")
    indent = " " * (len(text) - len(words))
    if limit is None:
        return [text]
    return [indent + line for line in cells.wrapped(words, max(limit - len(indent), _CUT_MIN))]


def ruled(rows: Iterable[Sequence[str]], *columns: Column) -> list[str]:
    """Return a heading and a line per row, however long, with rules around."""
    filled = _filled(rows, columns)
    widths = [_width(column) for column in filled]
    rule = f"+{'-+-'.join('-' * width for width in widths)}+"
    heading, *lines = (
        f"|{' | '.join(map(_aligned, filled, line, widths))}|" for line in zip(*map(_texts, filled), strict=True)
    )
    return [rule, heading, rule, *lines, rule]


def _filled(rows: Iterable[Sequence[str]], columns: Sequence[Column]) -> list[Column]:
    by_column = list(zip(*rows, strict=True)) or [()] * len(columns)
    return [
        msgspec.structs.replace(column, name=printable(column.name), cells=[printable(text) for text in texts])
        for column, texts in zip(columns, by_column, strict=True)
    ]


def _listed(columns: Sequence[Column], limit: int | None) -> list[str]:
    shown = [column for column in columns if any(column.cells) or not column.rank]
    while limit is not None and _least_wide(shown) > limit and any(column.rank for column in shown):
        highest = max(column.rank for column in shown)
        shown.remove(next(column for column in reversed(shown) if column.rank == highest))
    widths = [_width(column) for column in shown]
    if limit is not None:
        widths = _narrowed(widths, [column.least if column.elastic else None for column in shown], limit)
    lines = ["  ".join(map(_aligned, shown, line, widths)).rstrip() for line in zip(*map(_texts, shown), strict=True)]
    return lines if limit is None else [cells.cut(line, limit) for line in lines]


def _spaced(columns: Sequence[Column], widths: Sequence[int]) -> Iterator[str]:
    for row in zip(*map(_texts, columns), strict=True):
        for line in zip_longest(*map(cells.fold, row, widths), fillvalue=""):
            yield "  ".join(map(_aligned, columns, line, widths)).rstrip()


def _one_below_the_other(columns: Sequence[Column]) -> Iterator[str]:
    names = max(cells.width(column.name) for column in columns)
    for number, row in enumerate(zip(*(column.cells for column in columns), strict=True), start=1):
        yield f"── row {number:,} ──"
        for column, text in zip(columns, row, strict=True):
            if text:
                yield f"{cells.left(column.name, names)}  {text}"


def _narrowed(widths: Sequence[int], least: Sequence[int | None], limit: int) -> list[int]:
    """Return the widths narrowed as far as `limit` asks for, the widest first, to the `least` width; None is fixed."""
    narrowed = list(widths)
    for index in sorted(range(len(widths)), key=lambda index: -widths[index]):
        too_much, its_least = _total(narrowed) - limit, least[index]
        if too_much > 0 and its_least is not None:
            narrowed[index] = max(widths[index] - too_much, min(its_least, widths[index]))
    return narrowed


def _texts(column: Column) -> tuple[str, ...]:
    return column.name, *column.cells


def _aligned(column: Column, text: str, width: int) -> str:
    return cells.right(text, width) if column.number else cells.left(text, width)


def _width(column: Column) -> int:
    return max(map(cells.width, _texts(column)))


def _least_wide(columns: Sequence[Column]) -> int:
    """Return the width of columns of which no elastic one is cut too far while there is one to leave out."""
    return _total([
        min(_width(column), max(column.least, column.uncut)) if column.elastic else _width(column) for column in columns
    ])  # fmt: skip


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)
