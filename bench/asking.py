"""Questions about agents' logs, asked in three ways: typed views, JSON in the same file, SQLite.

All three use connections that stay open, in one process, one after the other, and return the same rows. They differ in
where a value comes from.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple


class Question(NamedTuple):
    """One question, as SQL for each of the three ways."""

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
    """Ask every question in every way, in several rounds; return the seconds, by question and way.

    Raises AssertionError if two ways do not agree.
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


def ask_least(index: str, sqlite: str, alone: str, together: str, rounds: int) -> dict[str, list[float]]:
    """Ask for runs by agent in two DuckDB files made for this question, with the needed columns only.

    `alone` has only these rows; `together` has the events of all types, ordered by type. JSON and SQLite are asked as
    in `ask_all`.
    """
    import duckdb

    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{index}' AS all_of_it (READ_ONLY)")
        connection.execute(f"ATTACH '{alone}' AS alone")
        connection.execute(
            "CREATE TABLE alone.run_finished AS SELECT agent, status, duration_ms FROM all_of_it.run_finished"
        )
        connection.execute(f"ATTACH '{together}' AS together")
        connection.execute("USE together")
        connection.execute(
            'CREATE TABLE all_rows AS SELECT event_type, agent, "run_finished/status" AS status, '
            '"run_finished/duration_ms" AS duration_ms FROM all_of_it.event_rows ORDER BY event_type'
        )
        connection.execute("CREATE VIEW run_finished AS FROM all_rows WHERE event_type = 'run_finished'")
    question = QUESTIONS["runs"]
    ours, theirs = duckdb.connect(index, read_only=True), _in_memory(sqlite)
    few, all_of_them = duckdb.connect(alone, read_only=True), duckdb.connect(together, read_only=True)
    ways: dict[str, Callable[[], Rows]] = {
        "alone": lambda: _rows(few.execute(question.typed).fetchall()),
        "json": lambda: _rows(ours.execute(question.json).fetchall()),
        "together": lambda: _rows(all_of_them.execute(question.typed).fetchall()),
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
    first, expected = next(iter(answers.items()))
    for way, answer in answers.items():
        if not answer or answer != expected:
            raise AssertionError(f"{name}: {way} answers {answer[:3]}…, {first} {expected[:3]}…")
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds):
        for way in ways if number % 2 else reversed(list(ways)):
            started = time.perf_counter()
            ways[way]()
            seconds[way].append(time.perf_counter() - started)
    return seconds
