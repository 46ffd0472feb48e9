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


class _Console(Console):
    """rich would end the process itself when the reader of our output is gone."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def table(result: Result) -> None:
    """Print rows as a table that fits the terminal; when piped, nothing is shortened."""
    interactive = sys.stdout.isatty()
    console = _Console(width=None if interactive else 100_000, highlight=False, soft_wrap=False)
    grid = Table(box=box.SIMPLE_HEAD if interactive else box.ASCII2, pad_edge=False)
    for name, kind in zip(result.columns, result.types, strict=True):
        grid.add_column(Text(name), justify="right" if _is_number(kind) else "left", overflow="fold")
    for row in result.rows:
        grid.add_row(*(Text(_cell(value, interactive)) for value in row))
    console.print(grid)


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


def size(count: int) -> str:
    """Return bytes in a unit that people read."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} TiB"
