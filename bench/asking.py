"""Questions that people ask of agents' logs, in three ways: by typed views, by JSON in the same file, in SQLite.

All three are asked over connections that stay open, in one process, one after the other, and give
the same rows; what differs is where a value comes from.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple


class Question(NamedTuple):
    """One question, as SQL for each of the three."""

    typed: str
    json: str
    sqlite: str


QUESTIONS = {
    "tokens": Question(
        typed="""
            SELECT request_model AS model, count(*), sum(uncached_input_tokens), sum(output_tokens),
                   quantile_disc(latency_ms, 0.95)
            FROM llm_call GROUP BY model ORDER BY model
        """,
        json="""
            SELECT payload ->> '/request_model' AS model, count(*), sum((payload ->> '/uncached_input_tokens')::BIGINT),
                   sum((payload ->> '/output_tokens')::BIGINT),
                   quantile_disc((payload ->> '/latency_ms')::BIGINT, 0.95)
            FROM events WHERE event_type = 'llm_call' GROUP BY model ORDER BY model
        """,
        sqlite="""
            WITH calls AS (
                SELECT json_extract(payload, '$.request_model') AS model,
                       json_extract(payload, '$.uncached_input_tokens') AS input_tokens,
                       json_extract(payload, '$.output_tokens') AS output_tokens,
                       json_extract(payload, '$.latency_ms') AS latency_ms
                FROM events WHERE event_type = 'llm_call'
            ), ranked AS (
                SELECT *, row_number() OVER (PARTITION BY model ORDER BY latency_ms) AS place,
                       count(*) OVER (PARTITION BY model) AS calls
                FROM calls
            )
            SELECT model, count(*), sum(input_tokens), sum(output_tokens),
                   max(latency_ms) FILTER (WHERE place = (calls * 95 + 99) / 100)
            FROM ranked GROUP BY model ORDER BY model
        """,
    ),
    "failures": Question(
        typed="""
            WITH counted AS (
                SELECT date_trunc('hour', timestamp) AS hour, tool_name AS tool, count(*) FILTER (NOT ok) AS failures,
                       max(duration_ms) AS longest
                FROM tool_call GROUP BY ALL
            )
            SELECT strftime(hour, '%Y-%m-%d %H'), tool, failures, longest FROM counted ORDER BY hour, tool
        """,
        json="""
            WITH counted AS (
                SELECT date_trunc('hour', timestamp) AS hour, payload ->> '/tool_name' AS tool,
                       count(*) FILTER (NOT (payload ->> '/ok')::BOOLEAN) AS failures,
                       max((payload ->> '/duration_ms')::BIGINT) AS longest
                FROM events WHERE event_type = 'tool_call' GROUP BY ALL
            )
            SELECT strftime(hour, '%Y-%m-%d %H'), tool, failures, longest FROM counted ORDER BY hour, tool
        """,
        sqlite="""
            SELECT strftime('%Y-%m-%d %H', timestamp) AS hour, json_extract(payload, '$.tool_name') AS tool,
                   count(*) FILTER (WHERE NOT json_extract(payload, '$.ok')),
                   max(json_extract(payload, '$.duration_ms'))
            FROM events WHERE event_type = 'tool_call' GROUP BY hour, tool ORDER BY hour, tool
        """,
    ),
    "runs": Question(
        typed="""
            SELECT agent, status, count(*), sum(duration_ms), max(duration_ms)
            FROM run_finished GROUP BY agent, status ORDER BY agent, status
        """,
        json="""
            SELECT agent, payload ->> '/status' AS status, count(*), sum((payload ->> '/duration_ms')::BIGINT),
                   max((payload ->> '/duration_ms')::BIGINT)
            FROM events WHERE event_type = 'run_finished' GROUP BY agent, status ORDER BY agent, status
        """,
        sqlite="""
            SELECT agent, json_extract(payload, '$.status') AS status, count(*),
                   sum(json_extract(payload, '$.duration_ms')), max(json_extract(payload, '$.duration_ms'))
            FROM events WHERE event_type = 'run_finished' GROUP BY agent, status ORDER BY agent, status
        """,
    ),
}

Rows = list[list[Any]]


def _rows(fetched: list[Any]) -> Rows:
    return [[int(cell) if isinstance(cell, Decimal | float) else cell for cell in row] for row in fetched]


def ask_all(index: str, sqlite: str, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Ask every question every way, so many rounds; return the seconds, by question and way.

    Raises AssertionError where two ways do not agree.
    """
    import duckdb

    ours = duckdb.connect(index, read_only=True)
    theirs = _in_memory(sqlite)
    taken: dict[str, dict[str, list[float]]] = {}
    for name, question in QUESTIONS.items():
        ways: dict[str, Callable[[], Rows]] = {
            "typed": lambda query=question.typed: _rows(ours.execute(query).fetchall()),  # type: ignore[misc]  # bound now
            "json": lambda query=question.json: _rows(ours.execute(query).fetchall()),  # type: ignore[misc]
            "sqlite": lambda query=question.sqlite: _rows(theirs.execute(query).fetchall()),  # type: ignore[misc]
        }
        taken[name] = _ask(name, ways, rounds)
    return taken


def ask_least(index: str, sqlite: str, least: str, rounds: int) -> dict[str, list[float]]:
    """Ask for runs by agent over a DuckDB file, made at `least`, that has these rows with these columns and no others.

    Beside it, JSON and SQLite as in `ask_all`.
    """
    import duckdb

    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{index}' AS all_of_it (READ_ONLY)")
        connection.execute(f"ATTACH '{least}' AS least")
        connection.execute(
            "CREATE TABLE least.run_finished AS SELECT agent, status, duration_ms FROM all_of_it.run_finished"
        )
    question = QUESTIONS["runs"]
    alone, ours, theirs = (
        duckdb.connect(least, read_only=True),
        duckdb.connect(index, read_only=True),
        _in_memory(sqlite),
    )
    ways: dict[str, Callable[[], Rows]] = {
        "typed": lambda: _rows(alone.execute(question.typed).fetchall()),
        "json": lambda: _rows(ours.execute(question.json).fetchall()),
        "sqlite": lambda: _rows(theirs.execute(question.sqlite).fetchall()),
    }
    return _ask("runs", ways, rounds)


def _in_memory(sqlite: str) -> sqlite3.Connection:
    connection = sqlite3.connect(sqlite)
    connection.execute("PRAGMA mmap_size = 8589934592")
    connection.execute("PRAGMA cache_size = -1000000")
    return connection


def _ask(name: str, ways: dict[str, Callable[[], Rows]], rounds: int) -> dict[str, list[float]]:
    answers = {way: ask() for way, ask in ways.items()}  # and all is warm
    for way, answer in answers.items():
        if not answer or answer != answers["typed"]:
            raise AssertionError(f"{name}: {way} answers {answer[:3]}…, typed {answers['typed'][:3]}…")
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds):
        for way in ways if number % 2 else reversed(list(ways)):
            started = time.perf_counter()
            ways[way]()
            seconds[way].append(time.perf_counter() - started)
    return seconds
