"""Rows of a query as Python objects, and the forms in which people look at them."""

from __future__ import annotations

import html
import importlib
import re
from typing import Any
from uuid import UUID

import msgspec

from eventlog.errors import MissingExtra

_SHOWN_ROWS = 50
_SHOWN_CHARS = 200
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
#: Types of Arrow by those of DuckDB, by the names of the functions that make them; others are found by the values.
_ARROW = {
    "BOOLEAN": "bool_", "TINYINT": "int8", "SMALLINT": "int16", "INTEGER": "int32", "BIGINT": "int64",
    "UTINYINT": "uint8", "USMALLINT": "uint16", "UINTEGER": "uint32", "UBIGINT": "uint64", "FLOAT": "float32",
    "DOUBLE": "float64", "VARCHAR": "string", "JSON": "string", "UUID": "string", "BLOB": "binary", "DATE": "date32",
}  # fmt: skip


class Result(msgspec.Struct, frozen=True):
    """Rows of a query. `cut` says that there were more than the row limit.

    `types` are those of DuckDB: `Result(["n"], ["BIGINT"], [(3,)], False)`. In a notebook it shows as a table.
    """

    columns: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]
    cut: bool

    def dicts(self) -> list[dict[str, Any]]:
        """Return the rows as dicts by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def df(self) -> Any:
        """Return the rows as a `pandas.DataFrame`; no value is rounded: decimals and integers with gaps are objects.

        For millions of rows use `store.pandas`. Raises MissingExtra without pandas.
        """
        pandas = need("pandas")
        frame = pandas.DataFrame(self.rows, columns=range(len(self.columns)), dtype=object).infer_objects()
        return frame.set_axis(self.columns, axis="columns")  # names may repeat

    def arrow(self) -> Any:
        """Return the rows as a `pyarrow.Table`, with the types of the columns. UUIDs and JSON are texts.

        For millions of rows use `store.arrow`. Raises MissingExtra without pyarrow.
        """
        pyarrow = need("pyarrow")
        arrays = [
            pyarrow.array([_plain(row[number]) for row in self.rows], type=_arrow_type(pyarrow, kind))
            for number, kind in enumerate(self.types)
        ]
        return pyarrow.table(arrays, names=self.columns)

    def _repr_html_(self) -> str:
        """Return the first rows as a table, for notebooks."""
        head = "".join(f"<th>{html.escape(column)}</th>" for column in self.columns)
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(_shown(value))}</td>' for value in row)}</tr>"
            for row in self.rows[:_SHOWN_ROWS]
        )
        more = len(self.rows) - _SHOWN_ROWS
        rest = f"<p>and {more:,} more rows{', and those over the limit' if self.cut else ''}</p>" if more > 0 else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}"


def need(module: str) -> Any:
    """Import a module that the extra `pandas` brings. Raises MissingExtra."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise MissingExtra(f"a result of {module}", "pandas") from None


def _arrow_type(pyarrow: Any, kind: str) -> Any:
    if decimal := _DECIMAL.fullmatch(kind):
        return pyarrow.decimal128(int(decimal[1]), int(decimal[2]))
    if kind in ("HUGEINT", "UHUGEINT"):
        return pyarrow.decimal128(38, 0)
    if kind.startswith("TIMESTAMP"):
        return None if kind == "TIMESTAMP_NS" else pyarrow.timestamp("us", "UTC" if "ZONE" in kind else None)
    return getattr(pyarrow, _ARROW[kind])() if kind in _ARROW else None


def _plain(value: object) -> object:
    return str(value) if isinstance(value, UUID) else value


def _shown(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
