"""Confines untrusted SQL to one workspace: its parse tree is compared with lists of what is allowed.

- A table is named without a schema, and is a view of this workspace or a WITH of the query.
- A function is one of those in `eventlog.queries.access.functions`.
- A node that is not listed here, such as a later DuckDB may have, is refused.

The views themselves are the other fence (eventlog.queries.access.workspace).

This module resolves the names of WITHs as DuckDB does. An error in that must not matter: a WITH or an alias with the
name of a table that DuckDB has built in (`catalog_names`) is refused. So a name that DuckDB resolves in another way
than this module means a view of the workspace, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import duckdb

from eventlog.errors import QueryFailed
from eventlog.queries.access.functions import FUNCTIONS, TABLE_FUNCTIONS

#: Queries that read. DuckDB allows queries that write in a WITH, too.
QUERIES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE"})
_TABLES = frozenset(
    {"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EMPTY", "EXPRESSION_LIST", "PIVOT", "SHOW_REF"}
)
_MODIFIERS = frozenset(
    {
        "ORDER_MODIFIER", "LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER", "DISTINCT_MODIFIER",
        "ASCENDING", "DESCENDING", "ORDER_DEFAULT",
    }
)  # fmt: skip
_EXPRESSIONS = frozenset(
    {
        "BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "DEFAULT",
        "FUNCTION", "LAMBDA", "LAMBDA_REF", "OPERATOR", "PARAMETER", "POSITIONAL_REFERENCE", "STAR", "SUBQUERY",
        "TYPE", "WINDOW",
    }
)  # fmt: skip
#: Parts of a qualified name; they must be empty.
_QUALIFIERS = ("catalog", "schema", "catalog_name", "schema_name", "pivot_enum", "at_clause")

#: Beginnings of built-in names of DuckDB, of later versions too.
_PREFIXES = ("duckdb_", "pragma_", "sqlite_", "information_schema", "pg_catalog")
_catalog_names: dict[str, frozenset[str]] = {}
_BUILT_IN = """
    SELECT view_name FROM duckdb_views() WHERE internal AND list_contains(current_schemas(true), schema_name)
    UNION ALL SELECT table_name FROM duckdb_tables() WHERE internal
"""

#: `SHOW TABLES`, as the parser returns it.
_SHOW_TABLES = '"tables"'


def asks_for_tables(tree: dict[str, Any]) -> bool:
    """Return whether a parsed query is SHOW TABLES and nothing else."""
    table = tree["statements"][0]["node"].get("from_table") or {}
    return len(tree["statements"]) == 1 and _special(table) == _SHOW_TABLES


def _special(table: dict[str, Any]) -> str | None:
    is_special = table.get("type") == "SHOW_REF" and table.get("show_type") == "SHOW_SPECIAL"
    return str(table.get("table_name")) if is_special else None


def catalog_names(connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    """Return the names, in lower case, of DuckDB's built-in tables that need no schema. Cached in the process."""
    if duckdb.__version__ not in _catalog_names:
        rows = connection.execute(_BUILT_IN).fetchall()
        _catalog_names[duckdb.__version__] = frozenset(lowered(row[0]) for row in rows)
    return _catalog_names[duckdb.__version__]


def confine(tree: dict[str, Any], admits: Callable[[str], bool], taken: Collection[str]) -> None:
    """Raise QueryFailed unless a parsed query reads only tables for which `admits` returns true.

    Names that are `taken` (`catalog_names`) must not be used for a WITH or an alias.
    """
    # A stack, not recursion: a query may be nested as deep as the parser allows. Each node comes with the names of the
    # WITH clauses around it.
    waiting: list[tuple[Any, frozenset[str]]] = [(statement, frozenset()) for statement in tree["statements"]]
    while waiting:
        node, names = waiting.pop()
        if isinstance(node, list):
            waiting += [(child, names) for child in node]
        elif isinstance(node, dict):
            _check_kind(node)
            _check_new_names(node, taken)
            _check_names(node, names, admits)
            waiting += _parts(node, names)


def _parts(node: dict[str, Any], names: frozenset[str]) -> list[tuple[Any, frozenset[str]]]:
    """Return the children of a node, each with the names of the WITHs that it may use.

    A WITH may use those before it. It may use itself only if it is recursive, and only after the UNION.
    """
    parts: list[tuple[Any, frozenset[str]]] = []
    for cte in (node.get("cte_map") or {}).get("map", ()):
        parts.append((cte["value"], names))
        names |= {lowered(cte["key"])}
    own = {lowered(node["cte_name"])} if node.get("type") == "RECURSIVE_CTE_NODE" else set()
    return parts + [
        (value, names | own if key == "right" else names) for key, value in node.items() if key != "cte_map"
    ]


def _check_new_names(node: dict[str, Any], taken: Collection[str]) -> None:
    """Raise QueryFailed where a WITH, or an alias of a table, has the name of a built-in table."""
    new_names = [cte["key"] for cte in (node.get("cte_map") or {}).get("map", ())]
    if "class" not in node and isinstance(node.get("alias"), str):
        new_names.append(node["alias"])
    for name in new_names:
        if lowered(name) in taken or lowered(name).startswith(_PREFIXES):
            raise QueryFailed(f"{name!r} is a name of DuckDB's own, refused in a workspace; choose another name")


def _check_kind(node: dict[str, Any]) -> None:
    kind = node.get("class", node.get("type"))
    if isinstance(kind, str):
        allowed = _EXPRESSIONS if "class" in node else QUERIES | _TABLES | _MODIFIERS
        if kind not in allowed:
            raise QueryFailed(f"{kind} is refused in a workspace; use SELECT, WITH, SHOW TABLES, DESCRIBE or SUMMARIZE")
    elif kind is not None and not isinstance(kind, dict):  # a constant's type is an object
        raise QueryFailed("this query cannot be checked, so it is refused in a workspace")


def _check_names(node: dict[str, Any], names: frozenset[str], admits: Callable[[str], bool]) -> None:
    # The parser takes `run_id.upper()` for a call of upper in a schema. The name alone says which function it is: there
    # are no functions but the built-in ones.
    is_call = node.get("class") == "FUNCTION"
    is_qualified = any(node.get(qualifier) for qualifier in _QUALIFIERS) or len(path_of(node)) > 1
    if is_qualified and not is_call:
        raise QueryFailed("in a workspace, tables and types are named without database and schema")
    kind = node.get("type")
    if "table_name" in node:
        if kind == "SHOW_REF":
            _check_show(node, admits)
        elif kind != "BASE_TABLE" or lowered(node["table_name"]) not in names:
            _check_table(node["table_name"], admits)
    if kind == "TABLE_FUNCTION" and lowered(node["function"].get("function_name", "")) not in TABLE_FUNCTIONS:
        # It is checked below as a function, too: table functions are in both lists.
        raise QueryFailed(f"{node['function'].get('function_name')!r} is refused in a workspace")
    if "function_name" in node and not _may_call(node):
        raise QueryFailed(f"a call of {node['function_name']!r} is refused in a workspace")


def path_of(node: dict[str, Any]) -> list[str]:
    """Return the parts of a name that may be qualified."""
    return list((node.get("qualified_name") or {}).get("path", ()))


def _may_call(node: dict[str, Any]) -> bool:
    name = lowered(node["function_name"])
    is_sign = bool(node.get("is_operator")) and not any(letter.isalnum() or letter == "_" for letter in name)
    return is_sign or name in FUNCTIONS | TABLE_FUNCTIONS


def _check_show(node: dict[str, Any], admits: Callable[[str], bool]) -> None:
    """Check a SHOW, which has a name. DESCRIBE and SUMMARIZE have a query, which is checked like any other."""
    if _special(node) is not None:
        raise QueryFailed("in a workspace there is SHOW TABLES, by itself, and no other SHOW of the database")
    if node["query"] is None:
        _check_table(node["table_name"], admits)


def _check_table(name: str, admits: Callable[[str], bool]) -> None:
    if not admits(lowered(name)):
        raise QueryFailed(f"there is no {name!r} in this workspace; try: SHOW TABLES")


def lowered(name: str) -> str:
    """Return a name as DuckDB compares it: in lower case, which only letters of ASCII have."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in name)
