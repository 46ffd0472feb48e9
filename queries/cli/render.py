"""Answers for people and for programs: a Result as a table."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from typing import Any

from eventlog.cli.main import tell
from eventlog.queries.access.result import Result
from eventlog.queries.text import tables
from eventlog.queries.text.tables import Column

#: More of a value than this is not shown in a terminal.
_CELL_CHARS_MAX = 500
#: Names of models take so much: columns of less importance go before the names of rows are cut.
_NAME_COLUMNS = 30


def table(result: Result) -> None:
    """Print rows as a table; in a terminal that is too narrow for it, one below the other.

    When piped, nothing is shortened.
    """
    columns = [Column(name, number=_is_number(kind)) for name, kind in zip(result.columns, result.types, strict=True)]
    draw = tables.folded if sys.stdout.isatty() else tables.ruled
    tell("\n".join(draw(_rows(result), *columns)))


def fitted(result: Result, ranks: Mapping[str, int], *, elastic: Collection[str] = ()) -> None:
    """Print rows as a table that fits the terminal (see tables.Column for ranks and elastic); when piped, as `table`.

    Columns without a rank are never left out.
    """
    if not sys.stdout.isatty():
        table(result)
        return
    columns = [
        Column(name, rank=ranks.get(name, 0), number=_is_number(kind), elastic=name in elastic, uncut=_NAME_COLUMNS)
        for name, kind in zip(result.columns, result.types, strict=True)
    ]
    tell("\n".join(tables.listed(_rows(result), *columns)))


def _rows(result: Result) -> list[list[str]]:
    chars_max = _CELL_CHARS_MAX if sys.stdout.isatty() else None
    return [[_cell(value, chars_max) for value in row] for row in result.rows]


def _is_number(kind: str) -> bool:
    return kind.startswith(
        ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "U", "FLOAT", "DOUBLE", "DECIMAL")
    ) and (kind != "UUID")


def _cell(value: Any, chars_max: int | None) -> str:
    if value is None:
        return ""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text if chars_max is None or len(text) <= chars_max else text[:chars_max] + "…"
