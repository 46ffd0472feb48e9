"""What runs in a process of its own for one question (eventlog.queries.access.isolation)."""

from __future__ import annotations

import os
import pickle
import sys
from typing import Any

from eventlog import errors
from eventlog.errors import EventlogError
from eventlog.queries.access import isolation, sandbox
from eventlog.queries.store import ReadStore


def main() -> None:
    """Answer the question on standard input, on standard output: what a method returns, or the class of an error."""
    sandbox.bound_process()
    question: isolation.Question = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this one
    store = ReadStore(
        question.root,
        workspace=question.workspace,
        wait_s=question.wait_s,
        timeout_s=question.timeout_s,
        on_stuck=lambda _: os._exit(isolation.OVER_TIME),
    )
    answer: tuple[str | None, Any]
    try:
        answer = None, getattr(store, question.method)(*question.arguments, **question.options)
    except EventlogError as error:
        public = next(each for each in type(error).__mro__ if each.__module__ == errors.__name__)
        answer = public.__name__, str(error)
    except MemoryError:
        answer = "QueryFailed", "the answer does not fit into memory; narrow it, or export it to a file"
    sys.stdout.buffer.write(pickle.dumps(answer))
    sys.stdout.buffer.flush()
