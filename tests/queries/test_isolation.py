"""Queries whose calls DuckDB does not interrupt are asked in a process of their own."""

from __future__ import annotations

import functools
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventlog.errors import EventlogError, IndexFailed, QueryFailed
from eventlog.queries.access import functions, isolation, sandbox
from eventlog.queries.store import ReadStore
from tests.indexer.support import index, line, segment

#: How long a query may take besides its limit: DuckDB and Python start, on a busy machine.
_BOUND_S = sandbox.STUCK_S + 15.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("apart") / "root"
    segment(root, *(line(n, "a", workspace="mine" if n % 2 else "theirs") for n in range(10)), event_type="a")
    index(root)
    return root


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The methods that were asked in a process of their own."""
    methods = []
    ask = isolation.ask

    def noted(question: isolation.Question) -> Any:
        methods.append(question.method)
        return ask(question)

    monkeypatch.setattr(isolation, "ask", noted)
    return methods


@pytest.mark.parametrize(
    ("query", "is_apart"),
    [
        ("SELECT count(*), max(timestamp), avg(cycle) FROM events WHERE agent LIKE 'a%' GROUP BY ALL", False),
        ("SELECT payload ->> 'n', (payload ->> 'n')::INT + 1 FROM events ORDER BY 1", False),
        ("SELECT count(*) FROM range(10)", False),
        ("SELECT 'a' || 'b' || event_type FROM events", False),
        ("WITH a AS (FROM events) SELECT date_trunc('day', timestamp), count(*) FROM a GROUP BY 1", False),
        ("SELECT run_id.upper() FROM events", False),
        ("WITH RECURSIVE r AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM r WHERE x < 9) FROM r", False),
        ("SELECT repeat('x', 3)", True),
        ("SELECT list_sum(range(3))", True),
        ("SELECT len(range(3))", True),
        ("SELECT run_id.repeat(3) FROM events", True),
        ("SELECT \"REPEAT\"('x', 3)", True),
        ("SELECT 1 ORDER BY lpad('x', 3, 'y')", True),
        ("SELECT count(*) FROM range(len(range(3)))", True),
        ("SELECT string_agg(event_type, '') FROM events", True),
        ("WITH RECURSIVE r AS (SELECT 'x' AS x UNION ALL SELECT x || x FROM r WHERE length(x) < 9) FROM r", True),
        ("SELECT " + " || ".join(["event_type"] * 20) + " FROM events", True),
        ("SELECT concat(" + ", ".join(["event_type"] * 20) + ") FROM events", True),
        (" UNION ALL ".join(["SELECT 1"] * 1000), True),
        ("SELECT *, * FROM (SELECT *, * FROM (SELECT *, * FROM events))", False),
        (functools.reduce(lambda inner, _: f"SELECT *, * FROM ({inner})", range(7), "SELECT 1"), True),
        ("EXPLAIN ANALYZE SELECT repeat('x', 3)", True),
        ("SELECT setseed(0.5)", True),
        ("SELECT (SELECT current_setting('TimeZone'))", True),
    ],
)
def test_what_cannot_be_stopped_is_asked_apart(shared: Path, asked: list[str], query: str, is_apart: bool) -> None:
    """By what it calls, wherever it stands in the query."""
    assert ReadStore(shared).sql(query).rows
    assert asked == ["sql"] * is_apart


def test_what_is_tame_makes_no_large_values() -> None:
    """Each may be called in a workspace, and none takes a number for a length."""
    assert functions.TAME <= functions.FUNCTIONS
    assert not functions.TAME & {
        "repeat", "lpad", "rpad", "range", "generate_series", "list", "array_agg", "string_agg", "replace", "printf",
        "format", "list_resize", "levenshtein", "damerau_levenshtein", "regexp_replace", "translate", "list_sort",
        "list_transform", "split", "string_split", "bar", "list_concat", "to_json", "json_group_array", "histogram",
    }  # fmt: skip


def test_the_answers_are_the_same(shared: Path, tmp_path: Path, asked: list[str]) -> None:
    """Whatever is asked for, with parameters, and in a workspace."""
    query = (
        "SELECT replace(event_type, 'a', ?) AS b, list(cycle ORDER BY cycle) AS c, count(*) AS n "
        "FROM events GROUP BY 1 ORDER BY 1"
    )

    def answers(store: ReadStore) -> list[object]:
        path = tmp_path / "answer.csv"
        copied = store.copy(query, path, "csv", ["it's"])
        cut = store.sql("SELECT repeat('x', i::INT) FROM range(9) t(i)", row_limit=3)
        return [
            store.sql(query, ["it's"]), store.arrow(query, ["it's"]).to_pylist(),
            store.pandas(query, ["it's"]).to_string(), copied, path.read_text(), cut,
        ]  # fmt: skip

    for workspace in (None, "mine"):
        here = answers(ReadStore(shared, workspace=workspace, on_stuck=lambda _: None))
        assert asked == []
        assert answers(ReadStore(shared, workspace=workspace)) == here
        assert asked == ["copy", "sql", "sql", "arrow", "pandas"]
        asked.clear()


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT list(nosuch) FROM events", 'Referenced column "nosuch" not found'),
        ("SELECT repeat('x', 3)::INT", "Could not convert string 'xxx'"),
        ("SELECT repeat('x', 3) FROM '/etc/passwd.csv'", "there is no table or view"),
    ],
)
def test_errors_are_the_same(shared: Path, query: str, said: str) -> None:
    """In their words, without the traces of another process."""
    for options in ({}, {"on_stuck": lambda _: None}):
        with pytest.raises(QueryFailed, match=said):
            ReadStore(shared, **options).sql(query)  # type: ignore[arg-type]  # of one kind each


def test_an_index_that_goes_is_missed_there_too(shared: Path) -> None:
    """The error keeps its class, be it one that makes its message of something else."""
    question = isolation.Question(
        root=str(shared / "nowhere"), workspace=None, wait_s=1, timeout_s=1, method="sql", arguments=("SELECT 1",),
        options={},
    )  # fmt: skip
    with pytest.raises(IndexFailed, match="there is no index at"):
        isolation.ask(question)
    assert type(isolation._error("MissingExtra", "words")) is not EventlogError
    assert str(isolation._error("MissingExtra", "words")) == "words"


def test_a_parameter_that_is_no_plain_value_is_refused(shared: Path) -> None:
    """It cannot be handed over."""
    with pytest.raises(QueryFailed, match="a parameter of a query is a plain value"):
        ReadStore(shared).sql("SELECT list(?)", [lambda: None])


#: A plan of a million columns.
_WIDE = functools.reduce(lambda inner, _: f"SELECT *, * FROM ({inner})", range(20), "SELECT 1")

GREEDY: dict[str, Callable[[ReadStore, Path], object]] = {
    "rows": lambda store, _: store.sql("SELECT length(lpad('x', 2000000000, 'y'))"),
    "a list": lambda store, _: store.sql("SELECT len(list_distinct(range(20000000)))"),
    "a square": lambda store, _: store.arrow("SELECT damerau_levenshtein(repeat('x', 30000), repeat('y', 30000))"),
    "a plan": lambda store, _: store.sql(_WIDE),
    "a file": lambda store, path: store.copy("SELECT repeat('x', 500000000) FROM range(100)", path, "csv"),
}


@pytest.mark.parametrize("what", GREEDY)
def test_a_call_that_does_not_end_is_ended(shared: Path, tmp_path: Path, what: str) -> None:
    """Within the time limit and a bound; this process takes nothing of what the call takes, and no file stays."""
    started, before_kib = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(QueryFailed, match=r"was stopped after|Memory|memory|ended with"):
        GREEDY[what](ReadStore(shared, timeout_s=0.5), tmp_path / "answer.csv")
    assert time.monotonic() - started < 0.5 + _BOUND_S
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 500_000
    assert not list(tmp_path.glob("*answer*"))
