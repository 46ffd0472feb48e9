"""Rules that are SQL, run in a process of their own.

DuckDB looks at an interruption between chunks of rows only, and may need more memory than there is. So
neither a limit of time nor of memory is certain inside a process that must live on, and the one
that watches must. The child answers rule by rule; one that overruns, or takes the child down with it, is
an error of that rule, and another child goes on behind it.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import msgspec

from eventlog.errors import EventlogError, IndexFailed, QueryFailed
from eventlog.format.alerts import AlertRuleSet
from eventlog.queries.access import sandbox, select
from eventlog.queries.access.reader import IndexReader
from eventlog.queries.alerts.evaluate import USED_UP
from eventlog.queries.alerts.machine import Reading
from eventlog.queries.alerts.rules import SQL_TIMEOUT_S, Rule
from eventlog.queries.cost import on_demand

#: Rows are counted up to this many.
ROWS_MAX = 1000
DETAIL_CHARS_MAX = 500
#: What a child may take beyond the limit of a rule: to load DuckDB, and to be told to stop.
_GRACE_S = sandbox.STUCK_S
_START_S = 15.0
_STEP_S = 0.2
_WAIT_S = 10.0


class Question(msgspec.Struct, frozen=True):
    """What a child is asked for one rule."""

    workspace: str | None
    sql: str
    timeout_s: float


class Answer(msgspec.Struct, frozen=True):
    """What a child says of one rule: how many rows, the first one in words, or what is wrong, be it for now."""

    rows: int = 0
    first: str | None = None
    error: str | None = None
    passing: bool = False


class Asked(msgspec.Struct, frozen=True):
    """All that a child is given, on standard input."""

    root: str
    wait_s: float
    questions: list[Question]


def measure(
    root: Path, asked: Sequence[Rule], *, limit_s: float, wait_s: float = _WAIT_S, stop: threading.Event | None = None
) -> list[Reading]:
    """Run the SQL of rules, each within its limit, all within `limit_s`; what is not reached is an error."""
    questions = [
        Question(rule.workspace, rule.definition.sql or "", rule.definition.timeout_s or SQL_TIMEOUT_S)
        for rule in asked
    ]
    answers = _answers(root, questions, time.monotonic() + limit_s, wait_s, stop)
    return [_reading(answer) for answer in answers]


def problem(root: Path, rule: AlertRuleSet, workspace: str | None) -> str | None:
    """Return what keeps a rule from being evaluated as things stand."""
    timeout_s = rule.timeout_s or SQL_TIMEOUT_S
    question = Question(workspace, rule.sql or "", timeout_s)
    limit_s = _START_S + timeout_s + _WAIT_S
    return _answers(root, [question], time.monotonic() + limit_s, _WAIT_S, None)[0].error


def _answers(
    root: Path, questions: list[Question], deadline: float, wait_s: float, stop: threading.Event | None
) -> list[Answer]:
    answers: list[Answer] = []
    while len(answers) < len(questions):
        left = questions[len(answers) :]
        before = len(answers)
        problem = _ask(Asked(str(root), wait_s, left), answers, deadline, stop)
        if problem is None:
            continue
        if time.monotonic() >= deadline or (stop is not None and stop.is_set()):
            unread = Answer(error=USED_UP, passing=True)
            answers += [unread] * (len(questions) - len(answers))
        elif len(answers) < len(questions):
            answers.append(Answer(error=problem))
        assert len(answers) > before
    return answers


def _reading(answer: Answer) -> Reading:
    if answer.error is not None:
        return Reading(holds=None, error=answer.error, passing=answer.passing)
    return Reading(holds=answer.rows > 0, value=Decimal(answer.rows), samples=answer.rows, detail=answer.first)


def _ask(asked: Asked, answers: list[Answer], deadline: float, stop: threading.Event | None) -> str | None:
    """Have a child answer; return None where it answered all, else what became of it at the next question."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", "from eventlog.queries.alerts import sql_rules; sql_rules.main()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        try:
            child.stdin.write(msgspec.json.encode(asked))
            child.stdin.close()
        except BrokenPipeError:
            pass  # it ended at once; its exit code says so below
        lines = _Lines(child.stdout)
        for number, question in enumerate(asked.questions):
            allowed_s = question.timeout_s + asked.wait_s + _GRACE_S + (0 if number else _START_S)
            until = min(time.monotonic() + allowed_s, deadline)
            line = lines.next(until, stop)
            if line is None:
                return f"the query was stopped after {question.timeout_s:g} s, with the process that ran it"
            if not line:
                return f"the process that ran the query ended with {child.wait(timeout=_GRACE_S)}; narrow the query"
            answers.append(msgspec.json.decode(line, type=Answer))
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
        """Return the next line; b"" where there is no more, None where none came in time."""
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
    """Answer what stands on standard input, a line each."""
    sandbox.bound_process()
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Asked)
    for question in asked.questions:
        sys.stdout.buffer.write(msgspec.json.encode(_answer(asked, question)) + b"\n")
        sys.stdout.buffer.flush()


def _answer(asked: Asked, question: Question) -> Answer:
    reader = IndexReader(
        asked.root,
        workspace=question.workspace,
        wait_s=asked.wait_s,
        on_stuck=_wait,
        on_demand=on_demand.TABLES,
    )
    try:
        found = select.rows(reader, question.sql, None, row_limit=ROWS_MAX, timeout_s=question.timeout_s)
    except EventlogError as error:
        # The first line says what is wrong; DuckDB goes on with the place, and with advice.
        return Answer(error=str(error).splitlines()[0][:DETAIL_CHARS_MAX], passing=isinstance(error, IndexFailed))
    except MemoryError:
        return Answer(error=str(QueryFailed("the answer does not fit into memory; narrow the query")))
    first = _words(found.columns, found.rows[0]) if found.rows else None
    return Answer(rows=len(found.rows), first=first)


def _wait(error: QueryFailed) -> None:
    """Stay as it is: the parent ends a child that is stuck."""


def _words(columns: Sequence[str], row: Sequence[Any]) -> str:
    text = ", ".join(f"{name} = {_word(value)}" for name, value in zip(columns, row, strict=True))
    return text if len(text) <= DETAIL_CHARS_MAX else text[:DETAIL_CHARS_MAX] + "…"


def _word(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return "".join(each if each.isprintable() else " " for each in text)
