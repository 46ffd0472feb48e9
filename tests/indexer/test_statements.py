"""The SQL statements of the indexer: each is a constant with a name, and DuckDB can bind it."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator

import duckdb
import pytest

from eventlog.indexer import carry_over, comparison
from eventlog.indexer.load import copies, loader
from eventlog.indexer.search import filler
from eventlog.indexer.views import codex, projections
from eventlog.indexer.views.claude_code.lines import COPIES
from tests.conftest import PROJECT

MODULES = {
    f"eventlog.{'.'.join(path.relative_to(PROJECT).with_suffix('').parts)}": path
    for path in sorted((PROJECT / "indexer").rglob("*.py"))
    if path.stem != "__init__"
}
_BEGINNING = re.compile(r"\s*(SELECT|WITH|CREATE|INSERT|DELETE|UPDATE|DROP|COPY|ALTER)\b")
#: Queries of views; tests/indexer/test_views.py asks them all.
_VIEWS = re.compile(r"eventlog\.indexer\.views\.(?!(?:typed|fields)$)")
#: Functions that return the definition of a view.
_DEFINITIONS = frozenset({"view", "_view"})

_STAGED = f"(SELECT 's' AS s, 0 AS o, 1 AS n, NULL::JSON AS x, NULL::STRUCT({loader._ENVELOPE_STRUCT}) AS e)"
CODEX = codex._COPIES
_COPIES = {"event_type": "'claude_code'", "line": '"claude_code/line"', "fork": COPIES.fork}
#: Samples for the parts of a statement that depend on the batch.
_PARTS = {
    "loader.CREATE_BATCH_OF_STAGED": {"rows": _STAGED},
    "loader.CREATE_BATCH": {"rows": "event_rows"},
    "loader.ADD_TO_BATCH": {"rows": "event_rows"},
    "index_file.SELECT_HASH": {"table": "event_rows"},
    "loader.SELECT_TYPES": {"table": "batch"},
    "loader.ANY_ID_AMONG": {"ids": "event_rows"},
    "loader.INSERT_REJECTED": {
        "rows": "(SELECT 's' AS segment, 0 AS line_offset, 1 AS length, 'r' AS reason, 'AA==' AS raw)"
    },
    "filler.CREATE_DOCS": {"base": "0"},
    "filler.SELECT_SHIFTED_DOCS": {"by": "1", "docs": "docs"},
    "filler.SELECT_SHIFTED_WORDS": {
        "by": "1",
        "words": "(SELECT 'w' AS word, 0 AS doc, 1 AS times)",
    },
    "parts.COPY": {"query": "SELECT 1", "path": "'/dev/null'"},
    "parts.SELECT_HASH": {"table": "events"},
    "versions.ANY_NOT_INDEXED": {"rows": "event_rows"},
    "digest.SUM_OF_HASHES": {"columns": "event_id", "table": "events"},
    "carry_over.CREATE_GONE_OF_RELEASED": {"rows": "(SELECT 's' AS name, 1 AS upto)"},
    "carry_over.CREATE_BATCH_OF_GONE": {"columns": loader._ALL, "table": "events"},
    "carry_over.CREATE_BATCH_OF_LACKING": {"columns": loader._ALL},
    "typed.SELECT_OF_SAMPLE": {"columns": "avg(strlen(payload ->> '/n'))", "rows": "events", "event_type": "'t'"},
    "typed.ADD_COLUMN": {"column": '"t/n"', "kind": "BIGINT"},
    "typed.COUNT_UNFIT": {"event_type": "'t'", "view": "(SELECT NULL AS unfit)"},
    "typed.INSERT_ROWS": {"columns": "*", "values": "*", "json": "*", "rows": "events"},
    "copies.CREATE_ARRIVED": _COPIES,
    "copies.ANY_SHARED": _COPIES,
    "copies.UPDATE_COPIED": _COPIES,
    "copies.CREATE_FORKS": {"forks": CODEX.forks, "which": copies.OF_ALL},
    "copies.UPDATE_FORKS": {"event_type": "'codex'", "lines": CODEX.lines.replace("event_rows", "family")},
    "comparison.CREATE_LIMITS": {"rows": "(SELECT 's' AS segment, 1 AS upto)"},
}


def _constants() -> Iterator[tuple[str, str]]:
    """Each statement with its name, such as `loader.DELETE_REJECTED`; an underscore begins parts of statements."""
    for module in MODULES:
        for name, value in vars(importlib.import_module(module)).items():
            is_constant = name.isupper() and not name.startswith("_") and isinstance(value, str)
            if is_constant and _BEGINNING.match(value) and not _VIEWS.match(module):
                label = f"{module.split('.')[-1]}.{name}"
                yield label, value.format(**_PARTS[label]) if label in _PARTS else value


STATEMENTS = dict(_constants())


@pytest.fixture(scope="module", name="connection")
def _connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """Two empty indexes, one of them attached as `live`, and the temporary tables of loading and replaying."""
    with duckdb.connect() as connection:
        connection.execute("ATTACH ':memory:' AS live; USE live")
        projections.create(connection)
        connection.execute("USE memory")
        projections.create(connection)
        for statement in (
            STATEMENTS["copies.CREATE_ARRIVED"], STATEMENTS["copies.CREATE_FORKS"], STATEMENTS["loader.CREATE_BATCH"],
            loader.CREATE_INDEXED, loader.CREATE_CONTENDED, loader.CREATE_VERSIONS,
            STATEMENTS["carry_over.CREATE_GONE_OF_RELEASED"], carry_over.CREATE_DIFFERING, carry_over.CREATE_LACKING,
            carry_over.CREATE_RENAMED, STATEMENTS["comparison.CREATE_LIMITS"], filler.COPY_ROWS,
            STATEMENTS["filler.CREATE_DOCS"], filler.CREATE_PIECES, filler.CREATE_WORDS_OF_PIECES,
        ):  # fmt: skip
            connection.execute(statement, [None] * statement.count("?"))
        yield connection


def test_the_statements_are_seen() -> None:
    """Of each room, and all samples are used."""
    assert _PARTS.keys() <= STATEMENTS.keys()
    modules = {name.split(".")[0] for name in STATEMENTS}
    assert modules >= {"loader", "versions", "cache", "checkpoint", "schema", "digest", "indexer", "carry_over"}
    assert comparison.SELECT_DIFFERENCES in STATEMENTS.values()


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_can_be_bound(name: str, connection: duckdb.DuckDBPyConnection) -> None:
    """Its tables, columns and functions exist, and its parameters have types."""
    statement = STATEMENTS[name]
    params: dict[str, None] | list[None] = {"name": None} if "$name" in statement else [None] * statement.count("?")
    assert connection.execute(f"EXPLAIN {statement}", params).fetchall()


@pytest.mark.parametrize("module", MODULES)
def test_no_function_writes_sql_of_its_own(module: str) -> None:
    """A statement inside a function has no name, and no test binds it. (Functions of views return parts of queries.)"""
    for function in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(function, ast.FunctionDef) and not _VIEWS.match(module) and function.name not in _DEFINITIONS:
            for node in ast.walk(function):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    assert not _BEGINNING.match(node.value), f"{function.name}: {node.value.strip()[:60]}"
