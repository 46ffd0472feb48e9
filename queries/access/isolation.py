"""Runs one untrusted query in a process of its own, which can be killed at any time.

DuckDB checks for an interruption between chunks of rows only, and its memory limit does not count the values that one
call makes: `list_sort(range(1e9))` runs for minutes and takes gigabytes, whatever the limits. A long-lived program
cannot stop that inside itself. So a query with such calls (`sandbox.Checked.is_tame` is false) runs here.

    parent: the question, on standard input ──→ child: a ReadStore, within limits ──→ the answer, on standard output

The child limits its memory, exits `sandbox.STUCK_S` seconds after its time limit, and is killed if it does not.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from eventlog import errors
from eventlog.errors import EventlogError, QueryFailed
from eventlog.queries.access import sandbox

#: Time to start Python and to load DuckDB on a busy machine.
_START_S = 20.0
#: Exit code of a child that reached its time limit.
OVER_TIME = 3


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A call of a method of ReadStore, and the arguments of the store. All of it is pickled."""

    root: str
    workspace: str | None
    wait_s: float
    timeout_s: float
    method: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]


def ask(question: Question) -> Any:
    """Call the method in a child process; return its result. Raises what it raises."""
    try:
        request = pickle.dumps(question)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise QueryFailed(f"a parameter of a query is a plain value: {error}") from None
    child = start("eventlog.queries.isolated")
    try:
        answer, _ = child.communicate(
            request, timeout=_START_S + question.wait_s + question.timeout_s + 2 * sandbox.STUCK_S
        )
    except subprocess.TimeoutExpired:
        raise sandbox.over_time(question.timeout_s) from None
    finally:
        child.kill()
        child.wait()
        _clean(question, child.pid)
    if child.returncode == OVER_TIME:
        raise sandbox.over_time(question.timeout_s)
    if child.returncode:
        raise QueryFailed(f"the process that ran the query ended with {child.returncode}; narrow the query")
    kind, value = pickle.loads(answer)  # noqa: S301 - written by the child that this process started
    if kind is None:
        return value
    raise _error(kind, value)


def start(module: str) -> subprocess.Popen[bytes]:
    """Start a Python process that calls `main()` of a module, with pipes as its standard input and output."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", f"import {module} as child; child.main()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)},
    )  # fmt: skip


def _error(kind: str, message: str) -> EventlogError:
    error_type: type[EventlogError] = getattr(errors, kind)
    error = error_type.__new__(error_type)  # the __init__ of some takes other arguments than the message
    error.args = (message,)
    return error


def _clean(question: Question, pid: int) -> None:
    """Remove the unfinished file of a child that was killed while it was writing."""
    if question.method != "copy":
        return
    target = Path(os.path.realpath(question.arguments[1]))
    with contextlib.suppress(OSError):
        for path in target.parent.iterdir():
            if path.name.startswith(f".{target.name}.{pid}-") and path.suffix == ".part":
                path.unlink(missing_ok=True)
