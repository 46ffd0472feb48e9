"""The SQL statements of the topics: each is a constant with a name, and DuckDB can plan it."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from eventlog.indexer.index import index_file
from eventlog.indexer.search import parts, words
from eventlog.queries.access import selection
from eventlog.queries.cost import costs, report
from eventlog.queries.identity import Scope
from eventlog.queries.search import blob_search, matching, search
from tests.conftest import PROJECT
from tests.indexer.support import index

TOPICS = ("runs", "bundle", "events", "insights", "search", "metrics", "health", "cost", "doctor", "demo", "access")
MODULES = sorted(path for topic in TOPICS for path in (PROJECT / "queries" / topic).glob("*.py"))
_BEGINNING = re.compile(r"\s*(SELECT|WITH|FROM|CREATE|INSERT|DELETE|UPDATE|DROP|COPY)\b")
#: Not the `$` of a JSON path.
_PARAMETER = re.compile(r"(?<![/\"])\$(\w+)|\?")
_SCOPES = (Scope("run_id", "r", None), Scope("session_id", "s", "w"))


#: Samples for the parts of a statement that depend on the question, such as one condition for each word of a search.
_PARTS = {
    "{events}": " AND ".join([matching._OF_ALL_TYPES, *matching._CONDITIONS.values()]), "{source}": "events",
    "{text}": "lower(payload::VARCHAR)", "{rests_text}": blob_search._RESTS,
    "{tests}": "contains(text, $word)::INTEGER AS times0", "{any_word}": "times0 > 0", "{may_match}": "true",
    "{left_out}": matching._LEFT_OUT, "{wanted}": "times0 > 0", "{reach}": "12", "{has_blobs}": words.HAS_BLOBS,
    "{counts}": "count(*) FILTER (times0 > 0)", "{folded}": words.folded(words.TEXTS), "{unread}": "true",
    "{lists}": words.beginnings("folded", "a") + " AS list0", "{term_counts}": "1.0 AS term0",
    "{times}": "1.0 AS times0",
    "{docs}": "search_parts", "{all_words}": "search_parts", "{hits}": "SELECT 1 AS doc, 0 AS term, 1.0 AS times",
    "{number}": "0", "{word}": "'a'", "{is_it}": "word = 'a'", "{score}": "1.0", "{confirmed}": "",
    "{view}": "llm_calls", "{now}": "TIMESTAMP '2026-01-02'", "{since}": "TIMESTAMP '2026-01-01'",
    "{before}": "TIMESTAMP '2025-12-25'", "{length_us}": "86400000000",
    "{query}": "SELECT 'w' AS workspace, 'a' AS agent, 1 AS n", "{workspace}": "NULL::VARCHAR", "{calls}": "llm_calls",
    "{geo}": "NULL::VARCHAR", "{costs}": "llm_costs", "{side}": "old", "{work}": "'llm_call'", "{agent}": "'a'",
    "{gone}": "false", "{columns}": "in_blob0 BOOLEAN", "{values}": "unnest(?::BOOLEAN[])", "{conditions}": "true",
    "{no_price}": "'no price is known'", "{order}": "event_id",
    "{rows_max}": "7", "{start}": "NULL::TIMESTAMP", "{statement}": "SELECT 1::DOUBLE AS n",
    "{positions}": "c0", "{segments}": "", "{limit}": " LIMIT 7", "{path}": "'/tmp/rows'",
    "{format}": selection._FORMATS["jsonl"], "{index}": "indexed", "{table}": "event_rows", "{rows}": "event_rows",
    "{selected}": "*", "{condition}": "workspace = 'w'", "{prices}": "FROM price_events", "{names}": "'runs'",
    "{group}": "model", "{group_workspace}": "workspace", "{column}": "run_id", "{has_words}": "true",
    "{is_after}": "true", "{views}": "view AS (SELECT 1)",
    "{name}": "memory.main.made", "{copy}": "memory", "{event_type}": "'t'",
}  # fmt: skip


def _name(path: Path) -> str:
    return f"eventlog.{'.'.join(path.relative_to(PROJECT).with_suffix('').parts)}".removesuffix(".__init__")


def _constants() -> Iterator[tuple[str, str]]:
    """Each statement with its name, such as `runs.lookup._LIST_RUNS`."""
    for path in MODULES:
        for name, value in vars(importlib.import_module(_name(path))).items():
            if name.isupper():
                named = value if isinstance(value, Mapping) else {None: value}
                for key, statement in named.items():
                    if isinstance(statement, str) and _BEGINNING.match(statement):
                        label = name if key is None else f"{name}[{key}]"
                        yield f"{path.parent.name}.{path.stem}.{label}", statement


STATEMENTS = dict(_constants())


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """An index without events, attached as a workspace attaches it, with what the topics make in it."""
    root = tmp_path_factory.mktemp("root")
    index(root)
    with index_file.reading(root, timeout_s=10, attached_as="indexed") as reading:
        reading.execute("USE indexed")
        costs.provide(reading)
        search.search(reading, root, "word", usable=parts.Parts(parts.folder_of(root)))
        for made in (matching.CREATE_BEHIND, matching.CREATE_NO_ROWS.format(times="1.0::DOUBLE AS times0")):
            reading.execute(made, [["s"], [0]] if "?" in made else None)
        reading.execute("CREATE TEMP TABLE search_apart AS SELECT segment, line_offset FROM events")
        reading.execute("CREATE TEMP TABLE search_docs AS SELECT 0::UBIGINT AS doc, 1.0 AS times0")
        reading.execute("CREATE TEMP TABLE search_texts AS SELECT segment, line_offset, 1.0 AS times0 FROM events")
        reading.execute(
            "CREATE TEMP TABLE search_parts AS "
            "SELECT 0::UBIGINT AS doc, segment, line_offset, false AS has_blobs, 'a' AS word, 1 AS times FROM events"
        )
        yield reading


@pytest.fixture(scope="module")
def repriced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """An index without events, with what a report at other prices makes in it: there `llm_costs` has fewer columns."""
    root = tmp_path_factory.mktemp("root")
    index(root)
    with index_file.reading(root, timeout_s=10) as reading:
        report.report(reading)
        report.recompute(reading, datetime(2026, 1, 2))
        yield reading


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_can_be_planned(
    name: str, connection: duckdb.DuckDBPyConnection, repriced: duckdb.DuckDBPyConnection
) -> None:
    """Its tables, columns and functions exist, and its parameters have types."""
    reading = repriced if name.startswith("cost.report.") else connection
    for scope in _SCOPES if "{scope}" in STATEMENTS[name] else _SCOPES[:1]:
        statement = scope.within(STATEMENTS[name])
        for part, sample in _PARTS.items():
            statement = statement.replace(part, sample)
        names = _PARAMETER.findall(statement)
        params: dict[str, str | None] | list[str] = {name: scope.params.get(name) for name in names if name}
        assert reading.execute(f"EXPLAIN {statement}", params or ["[]"] * len(names)).fetchall()


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_no_function_writes_sql_of_its_own(path: Path) -> None:
    """A statement inside a function has no name, and no test binds it."""
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    assert not _BEGINNING.match(node.value), f"{function.name}: {node.value.strip()[:60]}"
