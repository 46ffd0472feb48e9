"""What a format cannot hold as it is, is written otherwise, or refused: no format changes a value in silence.

DuckDB converts some values to a type that is narrower, and says nothing: in Parquet a HUGEINT, which every sum of
integers is, becomes a DOUBLE. Such columns are computed anew around the statement, lists and structs in them, too:

    SELECT c0 AS "model", CAST(c1 AS DECIMAL(38,0)) AS "tokens" FROM (<statement>) AS fitted(c0, c1)

docs/read-store.md has the table of all types and formats.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import duckdb
from duckdb.sqltypes import DuckDBPyType

from eventlog.errors import QueryFailed
from eventlog.indexer.sql import ident, literal
from eventlog.queries.access import sandbox

Target = Literal["json", "jsonl", "csv", "parquet", "arrow", "pandas", "rows"]

_WHOLE = "CAST({0} AS DECIMAL(38,0))"
_TEXT = "CAST({0} AS VARCHAR)"
#: NaN and infinities are no JSON.
_FINITE = "CASE WHEN isfinite({0}) THEN {0} END"
_ISO_NS = "strftime({0}, '%Y-%m-%dT%H:%M:%S.%nZ')"
_MICROSECONDS = "CAST({0} AS TIMESTAMP)"


class _Rule(NamedTuple):
    """SQL for values of some types (by `_name`), and for those in structs and maps, if it is another.

    Whether it holds in lists, structs and maps at all says `nested`.
    """

    expressions: dict[str, str]
    in_structs: dict[str, str] | None = None
    nested: bool = True

    def inside(self) -> _Rule:
        """Return the rule for the values of a struct or a map."""
        return self if self.in_structs is None else _Rule(self.in_structs)


_JSON = _Rule({"double": _FINITE, "float": _FINITE, "timestamp_ns": _ISO_NS})
_RULES: dict[Target, _Rule] = {
    "json": _JSON,
    "jsonl": _JSON,
    # As all other times: in a form of its own, DuckDB writes only TIMESTAMP. Nested values are a text anyway.
    "csv": _Rule(
        {"timestamp_ns": _ISO_NS, "timestamp_ms": _MICROSECONDS, "timestamp_s": _MICROSECONDS}, nested=False
    ),
    # An INTERVAL would lose its microseconds, a TIME WITH TIME ZONE its zone.
    "parquet": _Rule({"hugeint": _WHOLE, "uhugeint": _WHOLE, "interval": _TEXT, "time with time zone": _TEXT}),
    # The others would be DuckDB's own bytes, or lose their zone.
    "arrow": _Rule(
        {"hugeint": _WHOLE, "uhugeint": _WHOLE, "bignum": _TEXT, "bit": _TEXT, "time with time zone": _TEXT,
         "variant": "CAST(CAST({0} AS JSON) AS VARCHAR)"}
    ),
    # Whole numbers are made of these texts again: NumPy has none that are so large, and would take a float.
    "pandas": _Rule(
        {"hugeint": _TEXT, "uhugeint": _TEXT, "bignum": _TEXT, "bit": _TEXT, "time with time zone": _TEXT,
         "time_ns": _TEXT, "whole decimal": _TEXT},
        in_structs={"timestamp_ns": _TEXT, "time_ns": _TEXT},  # these are objects of Python
    ),
    "rows": _Rule({"timestamp_ns": _TEXT, "time_ns": _TEXT, "interval": _TEXT}),
}  # fmt: skip
_WHOLE_NUMBERS = ("hugeint", "uhugeint", "bignum", "whole decimal")
#: A DECIMAL without decimals of so many digits is one that a float may not hold.
_FLOAT_DIGITS = 15


class Fitted(NamedTuple):
    """A statement whose columns a target can hold, and the positions of those whose texts are whole numbers."""

    statement: str
    numbers: list[int]


def fit(connection: duckdb.DuckDBPyConnection, statement: str, params: Any, target: Target) -> Fitted:
    """Return a statement as a target can hold its columns; as it is, where it can hold all of them."""
    columns = _columns(connection, statement, params)
    rule = _RULES[target]
    fitted = [_fitted(f"c{number}", kind, rule) for number, (_, kind) in enumerate(columns)]
    if not any(fitted):
        return Fitted(statement, [])
    selected = ", ".join(
        f"{expression or f'c{number}'} AS {ident(name)}"
        for number, ((name, _), expression) in enumerate(zip(columns, fitted, strict=True))
    )
    positions = ", ".join(f"c{number}" for number in range(len(columns)))
    is_number = [target == "pandas" and _name(_innermost(kind)) in _WHOLE_NUMBERS for _, kind in columns]
    numbers = [number for number, is_one in enumerate(is_number) if is_one]
    return Fitted(_FITTED.format(selected=selected, statement=statement, positions=positions), numbers)


#: The statement stands in lines of its own: it may end with a comment.
_FITTED = "SELECT {selected} FROM (\n{statement}\n) AS fitted({positions})"
_NO_ROWS = "SELECT * FROM (\n{statement}\n) LIMIT 0"


def _columns(connection: duckdb.DuckDBPyConnection, statement: str, params: Any) -> list[tuple[str, DuckDBPyType]]:
    """Return the names and types of a statement's columns; none where it is no subquery, as EXPLAIN is none."""
    try:
        described = sandbox.execute(connection, _NO_ROWS.format(statement=statement), params).description or []
    except (duckdb.Error, QueryFailed):  # whatever is wrong with it, it is told when it runs
        return []
    return [(column[0], column[1]) for column in described]


def _innermost(kind: DuckDBPyType) -> DuckDBPyType:
    """Return the type of the elements of a list of lists."""
    return _innermost(_parts(kind)[0][1]) if kind.id in ("list", "array") else kind


def _parts(kind: DuckDBPyType) -> list[tuple[str, DuckDBPyType]]:
    """Return the types inside of a type, with their names; an array also has its size, and a decimal its digits."""
    return [(name, part) for name, part in kind.children if isinstance(part, DuckDBPyType)]


def _name(kind: DuckDBPyType) -> str:
    """Return the name of a type, as rules call it."""
    if kind.id == "decimal":
        sizes = dict(kind.children)
        return "whole decimal" if int(str(sizes["precision"])) > _FLOAT_DIGITS and not sizes["scale"] else kind.id
    return kind.id


def _fitted(expression: str, kind: DuckDBPyType, rule: _Rule, depth: int = 0) -> str | None:
    """Return SQL for a value as the rule has it; None where it stays as it is."""
    if _name(kind) in rule.expressions:
        return rule.expressions[_name(kind)].format(expression)
    make = _NESTED.get(kind.id) if rule.nested else None
    return None if make is None else make(expression, kind, rule, depth)


def _list(expression: str, kind: DuckDBPyType, rule: _Rule, depth: int) -> str | None:
    element = f"e{depth}"
    fitted = _fitted(element, _parts(kind)[0][1], rule, depth + 1)
    return None if fitted is None else f"[{fitted} FOR {element} IN {expression}]"


def _struct(expression: str, kind: DuckDBPyType, rule: _Rule, depth: int) -> str | None:
    parts = [
        (name, part, _fitted(part, field, rule.inside(), depth))
        for name, field in _parts(kind)
        for part in [f"struct_extract({expression}, {literal(name)})"]
    ]
    if not any(fitted for _, _, fitted in parts):
        return None
    packed = ", ".join(f"{ident(name)} := {fitted or part}" for name, part, fitted in parts)
    return f"CASE WHEN {expression} IS NOT NULL THEN struct_pack({packed}) END"


def _map(expression: str, kind: DuckDBPyType, rule: _Rule, depth: int) -> str | None:
    (_, keys), (_, values) = _parts(kind)
    element = f"e{depth}"
    sides = [_fitted(element, side, rule.inside(), depth + 1) for side in (keys, values)]
    if not any(sides):
        return None
    lists = ", ".join(
        f"[{fitted or element} FOR {element} IN {function}({expression})]"
        for fitted, function in zip(sides, ("map_keys", "map_values"), strict=True)
    )
    return f"CASE WHEN {expression} IS NOT NULL THEN map({lists}) END"


def _union(expression: str, kind: DuckDBPyType, rule: _Rule, depth: int) -> str | None:
    """A union that holds such a type is a text: only one of its types can be in a column."""
    fits = all(_fitted(expression, member, rule.inside(), depth) is None for _, member in _parts(kind))
    return None if fits else _TEXT.format(expression)


_NESTED: dict[str, Callable[[str, DuckDBPyType, _Rule, int], str | None]] = {
    "list": _list, "array": _list, "struct": _struct, "map": _map, "union": _union,
}  # fmt: skip


def whole_numbers(value: Any) -> Any:
    """Return the whole number that a text is, or those in a list of texts; None for what is missing."""
    plain = value.tolist() if hasattr(value, "tolist") else value  # an array of NumPy
    if isinstance(plain, str):
        return int(plain)
    return [whole_numbers(each) for each in plain] if isinstance(plain, list) else None
