"""Rules that are SQL, run in a process of their own.

DuckDB notices an interruption only between chunks of rows, and may need more memory than there is. So neither a time
limit nor a memory limit is certain inside a process that must live on, such as one that watches. A child answers query
by query; a query that overruns, or takes the child down with it, is an error of its rule, and another child goes on
with the next.
"""

from __future__ import annotations

import json
import os
import selectors
import sys
import threading
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import msgspec

from eventlog.errors import EventlogError, IndexFailed
from eventlog.format.alerts import AlertRuleSet
from eventlog.queries.access import isolation, sandbox, selection
from eventlog.queries.access.reader import IndexReader
from eventlog.queries.alerts.evaluate import USED_UP
from eventlog.queries.alerts.machine import Reading
from eventlog.queries.alerts.rules import SQL_TIMEOUT_S, Rule
from eventlog.queries.cost import on_demand

#: Rows are counted up to this number.
ROWS_MAX = 1000
DETAIL_CHARS_MAX = 500
#: What a child may take beyond the limit of a rule: to be interrupted, and at first to load DuckDB.
_GRACE_S = sandbox.STUCK_S
_START_S = 15.0
_STEP_S = 0.2
_WAIT_S = 10.0


class Query(msgspec.Struct, frozen=True):
    """The SQL of one rule, for a child to run."""

    workspace: str | None
    sql: str
    timeout_s: float


class Request(msgspec.Struct, frozen=True):
    """What a child gets on standard input, as JSON. It answers with a line for each query: a Reading as JSON."""

    root: str
    wait_s: float
    queries: list[Query]


def measure(
    root: Path, rules: Sequence[Rule], *, limit_s: float, wait_s: float = _WAIT_S, stop: threading.Event | None = None
) -> list[Reading]:
    """Run the SQL of rules, each within its own limit, all within `limit_s`; return their readings, in order.

    A rule holds if its query has rows. The value is their number, and the detail the first one: `agent = a, usd = 2`.
    A query that is refused, fails or is not reached is an error of its rule. Raises OSError if no process can start.
    """
    queries = [_query(rule.definition, rule.workspace) for rule in rules]
    return _readings(root, queries, time.monotonic() + limit_s, wait_s, stop)


def problem(root: Path, definition: AlertRuleSet, workspace: str | None) -> str | None:
    """Return the error of a rule that would be measured now, such as a table that does not exist; None if it works."""
    query = _query(definition, workspace)
    deadline = time.monotonic() + _START_S + query.timeout_s + _WAIT_S
    return _readings(root, [query], deadline, _WAIT_S, None)[0].error


def _query(definition: AlertRuleSet, workspace: str | None) -> Query:
    return Query(workspace, definition.sql or "", definition.timeout_s or SQL_TIMEOUT_S)


def _readings(
    root: Path, queries: list[Query], deadline: float, wait_s: float, stop: threading.Event | None
) -> list[Reading]:
    readings: list[Reading] = []
    while len(readings) < len(queries):
        before = len(readings)
        request = Request(str(root), wait_s, queries[before:])
        error = _ask(request, readings, deadline, stop)
        if error is None:
            continue
        if time.monotonic() >= deadline or (stop is not None and stop.is_set()):
            unreached = Reading(holds=None, error=USED_UP, passing=True)
            readings += [unreached] * (len(queries) - len(readings))
        else:
            readings.append(Reading(holds=None, error=error))
        assert len(readings) > before
    return readings


def _ask(request: Request, readings: list[Reading], deadline: float, stop: threading.Event | None) -> str | None:
    """Have a child answer, and append its readings; return None if it answered all, else the error of the next one."""
    child = isolation.start("eventlog.queries.alerts.sql_rules")
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        try:
            child.stdin.write(msgspec.json.encode(request))
            child.stdin.close()
        except BrokenPipeError:
            pass  # it ended at once; its exit code says so below
        lines = _Lines(child.stdout)
        for number, query in enumerate(request.queries):
            allowed_s = query.timeout_s + request.wait_s + _GRACE_S + (0 if number else _START_S)
            until = min(time.monotonic() + allowed_s, deadline)
            line = lines.next(until, stop)
            if line is None:
                return f"the query was stopped after {query.timeout_s:g} s, with the process that ran it"
            if not line:
                return f"the process that ran the query ended with {child.wait(timeout=_GRACE_S)}; narrow the query"
            readings.append(msgspec.json.decode(line, type=Reading))
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    return None


class _Lines:
    """Lines of a pipe, waited for within a bound."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._fd = pipe.fileno()
        self._rest = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._fd, selectors.EVENT_READ)

    def next(self, until: float, stop: threading.Event | None) -> bytes | None:
        """Return the next line; b"" at the end of the pipe, None if no line came before `until` (time.monotonic)."""
        while b"\n" not in self._rest:
            left_s = until - time.monotonic()
            if left_s <= 0 or (stop is not None and stop.is_set()):
                return None
            if not self._selector.select(min(left_s, _STEP_S)):
                continue
            data = os.read(self._fd, 65536)
            if not data:
                return b""
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line


# -- in the child ----------------------------------------------------------------------------


def main() -> None:
    """Answer the request on standard input: a line of standard output for each query."""
    sandbox.bound_process()
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    for query in request.queries:
        sys.stdout.buffer.write(msgspec.json.encode(_run(request, query)) + b"\n")
        sys.stdout.buffer.flush()


def _run(request: Request, query: Query) -> Reading:
    reader = IndexReader(
        request.root,
        workspace=query.workspace,
        wait_s=request.wait_s,
        on_stuck=lambda _: None,  # the parent ends a child that is stuck
        on_demand=on_demand.TABLES,
    )
    try:
        result = selection.rows(reader, query.sql, None, row_limit=ROWS_MAX, timeout_s=query.timeout_s)
    except EventlogError as error:
        # The first line says what is wrong; DuckDB goes on with the position, and with advice.
        reason = str(error).splitlines()[0][:DETAIL_CHARS_MAX]
        return Reading(holds=None, error=reason, passing=isinstance(error, IndexFailed))
    except MemoryError:
        return Reading(holds=None, error="the answer does not fit into memory; narrow the query")
    count = len(result.rows)
    detail = _row_text(result.columns, result.rows[0]) if result.rows else None
    return Reading(holds=count > 0, value=Decimal(count), samples=count, detail=detail)


def _row_text(columns: Sequence[str], row: Sequence[Any]) -> str:
    text = ", ".join(f"{name} = {_value_text(value)}" for name, value in zip(columns, row, strict=True))
    return text if len(text) <= DETAIL_CHARS_MAX else text[:DETAIL_CHARS_MAX] + "…"


def _value_text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return "".join(char if char.isprintable() else " " for char in text)
