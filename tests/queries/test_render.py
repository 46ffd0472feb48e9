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
from eventlog.queries.access.result import Result
from eventlog.queries.cli import render
from eventlog.queries.text import cells

# Words with spaces inside, letters of two columns, of none, and several that are one.
_LETTERS = [
    "a",
    "b",
    "|",
    "+",
    "-",
    " ",
    "\\",
    "日",
    "本",
    "é",
    "e\u0301",
    "ﬁ",
    "👩\u200d🚀",
    "❤\ufe0f",
    "🇩🇪",
    "\u1112\u1161\u11ab",
]
_TEXTS = st.lists(st.sampled_from(_LETTERS), max_size=20).map(lambda letters: f"x{''.join(letters)}x")


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


class Terminal(io.StringIO):
    """Standard output that is a terminal."""

    def isatty(self) -> bool:
        return True


def printed(result: Result, *, columns: int | None = None) -> str:
    """What `table` prints into a pipe, or into a terminal of some columns."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", out := io.StringIO() if columns is None else Terminal())
        patch.setenv("COLUMNS", str(columns))
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


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("plain", 5), ("日本", 4), ("e\u0301", 1), ("👩\u200d🚀", 2), ("👍\U0001f3fd", 2), ("❤", 1), ("❤\ufe0f", 2),
        ("🇩🇪", 2), ("می\u200cخواهم", 7), ("ک\u200dک", 2), ("\u1112\u1161\u11ab", 2),
    ],
)  # fmt: skip
def test_the_columns_that_a_text_takes(text: str, columns: int) -> None:
    """Letters that are joined stand side by side; the parts of an emoji do not."""
    assert cells.width(text) == columns


@given(_TEXTS, st.integers(2, 12))
def test_a_folded_text_is_whole_and_narrow(text: str, columns: int) -> None:
    """Line by line."""
    lines = cells.fold(text, columns)
    assert "".join(lines) == text
    assert max(map(cells.width, lines)) <= columns


def test_a_name_of_a_column_cannot_drive_the_terminal() -> None:
    """PIVOT makes names of values, which may be anybody's text."""
    result = Result(["a\x1b[31m\nb"], ["VARCHAR"], [("v\x1b[0m",)], False)
    assert printed(result).splitlines()[1] == "|a\ufffd[31m b|"
    assert printed(result, columns=80) == "a\ufffd[31m b\nv\ufffd[0m\n"
    assert printed(result, columns=5) == "── row 1 ──\na\ufffd[31m b  v\ufffd[0m\n"


def test_a_row_is_one_line_however_long() -> None:
    """Programs read it line by line."""
    assert printed(Result(["a"], ["VARCHAR"], [("y" * 200_000,)], False)).splitlines()[3] == f"|{'y' * 200_000}|"


CALLS = Result(
    ["model", "calls", "cost"], ["VARCHAR", "BIGINT", "DECIMAL"], [("opus", 12, "$3.20"), ("h", 1, None)], False
)


def test_in_a_terminal_columns_are_two_spaces_apart() -> None:
    """As in the lists of all commands; numbers and amounts of money are to the right."""
    assert printed(CALLS, columns=80) == "model  calls   cost\nopus      12  $3.20\nh          1\n"


def test_a_terminal_that_is_too_narrow_has_rows_one_below_the_other() -> None:
    """What is empty is left out."""
    assert printed(CALLS, columns=18) == (
        "── row 1 ──\nmodel  opus\ncalls  12\ncost   $3.20\n── row 2 ──\nmodel  h\ncalls  1\n"
    )


def test_long_values_are_folded_in_a_terminal() -> None:
    """In columns of 40 at least, and each value is whole, up to 500 characters."""
    result = Result(["id", "text"], ["VARCHAR", "VARCHAR"], [("a", "x" * 100), ("b", "y" * 501)], False)
    lines = printed(result, columns=50).splitlines()
    assert lines[:4] == ["id  text", f"a   {'x' * 46}", f"    {'x' * 46}", f"    {'x' * 8}"]
    assert lines[4] == f"b   {'y' * 46}"
    assert "".join(line[4:] for line in lines[4:]) == "y" * 500 + "…"
