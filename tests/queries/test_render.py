"""Tables of answers."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventlog.cli.text import printable
from eventlog.queries.access.selection import Result
from eventlog.queries.cli import render

# Words with spaces inside, letters of two columns, of none, and several that are one.
_TEXTS = st.text("ab|+- \\日本é\u0301ﬁ👩\u200d🚀\ufe0f🇩🇪", max_size=20).map(lambda text: f"x{text}x")


def drawn_by_rich(result: Result) -> str:
    """The same table, drawn by somebody else."""
    grid = Table(box=box.ASCII2, pad_edge=False)
    for name, kind in zip(result.columns, result.types, strict=True):
        grid.add_column(Text(name), justify="right" if kind == "BIGINT" else "left", overflow="fold")
    for row in result.rows:
        grid.add_row(*("" if value is None else Text(printable(str(value))) for value in row))
    console = Console(file=io.StringIO(), width=100_000, highlight=False)
    console.print(grid)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def printed(result: Result) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", out := io.StringIO())
        render.table(result)
    return out.getvalue()


@given(st.data())
def test_a_plain_table_is_as_wide_as_its_widest_cells(data: Any) -> None:
    """As the eye counts: rich, which knows how wide letters are, draws the same."""
    columns = data.draw(st.lists(_TEXTS, min_size=1, max_size=4))
    types = [data.draw(st.sampled_from(["BIGINT", "VARCHAR", "UUID"])) for _ in columns]
    values = [st.integers() if kind == "BIGINT" else st.none() | _TEXTS for kind in types]
    rows = data.draw(st.lists(st.tuples(*values), max_size=4))
    result = Result([printable(name) for name in columns], types, rows, False)
    assert printed(result) == drawn_by_rich(result)


def test_a_name_of_a_column_cannot_drive_the_terminal() -> None:
    """PIVOT makes names of values, which may be anybody's text."""
    assert printed(Result(["a\x1b[31m\nb"], ["VARCHAR"], [("v",)], False)).splitlines()[1] == "|a\ufffd[31m b|"


def test_a_row_is_one_line_however_long() -> None:
    """Programs read it line by line."""
    assert printed(Result(["a"], ["VARCHAR"], [("y" * 200_000,)], False)).splitlines()[3] == f"|{'y' * 200_000}|"
