"""The child process of `eventlog.queries.access.isolation`: it answers one question with a ReadStore."""

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
    """Read a pickled Question from standard input; write the pickled answer to standard output.

    The answer is (None, result), or the name of a public error class and its message.
    """
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
        public = next(parent for parent in type(error).__mro__ if parent.__module__ == errors.__name__)
        answer = public.__name__, str(error)
    except MemoryError:
        answer = "QueryFailed", "the answer does not fit into memory; narrow it, or export it to a file"
    sys.stdout.buffer.write(pickle.dumps(answer))
    sys.stdout.buffer.flush()
