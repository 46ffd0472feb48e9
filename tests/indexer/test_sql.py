"""Quoting of SQL names and texts: one module does it, and DuckDB reads back what was quoted."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventlog.indexer.sql import ident, literal, literals, unquote
from tests.conftest import PROJECT

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
AWKWARD = ("it's", "''", "'", 'size "', '""', "a\0b", "\0", "a\r\nb", "\\n", "é\u2028数😀", "/*", "--", "$1 ?", "{}%s")
#: Quotes for a shell, or for a word that somebody used, are none for SQL.
NOT_SQL = {"queries/doctor/settings.py": "pip install --upgrade '", "queries/cli/waterfall.py": ' ("'}
QUOTES = ("'", '"')


@pytest.fixture(scope="module", name="connection")
def _connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def _answer(connection: duckdb.DuckDBPyConnection, query: str) -> object:
    ((value,),) = connection.execute(query).fetchall()
    return value


@given(text=TEXTS)
@example(text="")
def test_a_literal_is_the_text(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    """Whatever is in it, also as an operand; and it can be printed and passed to a command, which a NUL cannot."""
    assert "\0" not in literal(text)
    assert _answer(connection, f"SELECT {literal(text)}") == text
    assert _answer(connection, f"SELECT 'x' || {literal(text)} IN ({literal('x' + text)})") is True


@given(name=TEXTS.filter(bool))
def test_an_identifier_is_the_name(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Of a column, a table and a view."""
    rows = connection.execute(f"SELECT 1 AS {ident(name)}")
    assert [column[0] for column in rows.description or ()] == [name]
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {ident('t' + name)} ({ident(name)} INTEGER)")
    connection.execute(f"INSERT INTO {ident('t' + name)} VALUES (7)")
    assert _answer(connection, f"SELECT {ident(name)} FROM {ident('t' + name)}") == 7
    connection.execute(f"DROP TABLE {ident('t' + name)}")


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_texts_go_through_both(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    """Those that a property test may miss."""
    rows = connection.execute(f"SELECT {literal(text)} AS {ident(text)}")
    assert [column[0] for column in rows.description or ()] == [text]
    assert rows.fetchall() == [(text,)]


def test_a_list_of_literals_is_the_texts(connection: duckdb.DuckDBPyConnection) -> None:
    """For `IN (…)` and for lists."""
    assert literals(["a", "b"]) == "'a', 'b'"
    assert _answer(connection, f"SELECT [{literals(AWKWARD)}]") == list(AWKWARD)


@given(text=TEXTS.filter(lambda text: "\0" not in text))
def test_unquoting_undoes_quoting(text: str) -> None:
    """Of what stands between the outer quotes."""
    assert unquote(literal(text)[1:-1]) == text


@pytest.mark.parametrize("query", [f"SELECT 1 AS {ident('')}", f"SELECT 1 AS {ident(chr(0xD800))}", literal("\ud800")])
def test_what_sql_cannot_say_is_an_error_of_duckdb(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """An empty name, and half a character."""
    with pytest.raises(duckdb.Error, match=r"zero-length delimited identifier|surrogate '\\ud800'"):
        connection.execute(query)


@pytest.mark.parametrize(
    "path",
    [path for folder in ("indexer", "queries") for path in sorted((PROJECT / folder).rglob("*.py"))],
    ids=lambda path: path.relative_to(PROJECT).as_posix(),
)
def test_nothing_is_quoted_by_hand(path: Path) -> None:
    """No quotes around what is filled in, and none doubled, outside eventlog.indexer.sql."""
    name = path.relative_to(PROJECT).as_posix()
    tree = ast.parse(path.read_text())
    by_hand = [text for text in _quoted_by_hand(tree) if not text.startswith(NOT_SQL.get(name, "\0"))]
    assert not by_hand or name == "indexer/sql.py"


def _quoted_by_hand(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.JoinedStr(values=parts):
                texts = [str(part.value) if isinstance(part, ast.Constant) else None for part in parts]
                for before, value, after in zip(texts, texts[1:], texts[2:], strict=False):
                    if value is None and before and after and before[-1] == after[0] and before.endswith(QUOTES):
                        yield before
            case ast.BinOp(left=ast.Constant(value="'" | '"')) | ast.BinOp(right=ast.Constant(value="'" | '"')):
                yield ast.unparse(node)
            case ast.Call(func=ast.Attribute(attr="replace"), args=[ast.Constant(value="'" | '"' | "''" | '""'), *_]):
                yield ast.unparse(node)


@pytest.mark.parametrize(
    "code", ["""f"x = '{y}'" """, """f'"{y}"'""", """y.replace("'", "''")""", """y.replace('"', '""')""", """"'" + y"""]
)
def test_quoting_by_hand_is_seen(code: str) -> None:
    """All ways in which it was done."""
    assert list(_quoted_by_hand(ast.parse(code.strip())))
