"""Rows of a query as structs or dicts, by column name, with times in UTC.

DuckDB returns a TIMESTAMP as a datetime without a zone; the index stores all of them in UTC.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from eventlog.format.timestamps import utc

if TYPE_CHECKING:  # programs that only write look up prices without DuckDB
    import duckdb

S = TypeVar("S", bound=msgspec.Struct)


def plain(amount: Decimal) -> Decimal:
    """Return an amount without trailing zeros and without an exponent: 1.500 becomes 1.5."""
    text = format(amount, "f")
    return Decimal(text.rstrip("0").rstrip(".") if "." in text else text)


def rows_as(struct: type[S], cursor: duckdb.DuckDBPyConnection, *, rows_max: int | None = None) -> list[S]:
    """Return the next rows of an executed query as structs: all of them, or at most `rows_max`.

    Each column is passed to the field of its name (`SELECT count(*) AS calls` sets `calls`); a field that has a
    default may be missing from the query. Raises TypeError where columns and fields do not match.
    """
    return [struct(**row) for row in rows_as_dicts(cursor, rows_max=rows_max)]


def rows_as_dicts(cursor: duckdb.DuckDBPyConnection, *, rows_max: int | None = None) -> list[dict[str, Any]]:
    """Return the next rows of an executed query as dicts by column name, such as `{"calls": 3}`."""
    names = [column[0] for column in cursor.description or []]
    rows = cursor.fetchall() if rows_max is None else cursor.fetchmany(rows_max)
    return [
        {name: utc(value) if isinstance(value, datetime) else value for name, value in zip(names, row, strict=True)}
        for row in rows
    ]
