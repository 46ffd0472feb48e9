"""A question of SQL in a process of its own, which can be ended at any time.

DuckDB looks at an interruption between chunks of rows, and its memory limit does not count the values that one call
makes: `list_sort(range(1e9))` runs for minutes and takes gigabytes, whatever the limits. A program that lives on
cannot stop that inside itself. So a query whose calls may do it (`sandbox.Checked.is_tame` says) is asked here.

    parent: the question, on standard input ──→ child: a ReadStore, within limits ──→ the answer, on standard output

The child bounds its memory, ends itself `sandbox.STUCK_S` after its time, and is killed when it does not.
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

#: The most to start Python and to load DuckDB, on a busy machine.
_START_S = 20.0
#: How a child ends that is stuck.
OVER_TIME = 3


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A call of a method of ReadStore, and what the store was made with."""

    root: str
    workspace: str | None
    wait_s: float
    timeout_s: float
    method: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]


def ask(question: Question) -> Any:
    """Return what the method returns. Raises QueryFailed, IndexFailed and IndexBusy, as it does."""
    try:
        asked = pickle.dumps(question)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise QueryFailed(f"a parameter of a query is a plain value: {error}") from None
    child = start("eventlog.queries.isolated")
    try:
        answer, _ = child.communicate(
            asked, timeout=_START_S + question.wait_s + question.timeout_s + 2 * sandbox.STUCK_S
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
    kind, value = pickle.loads(answer)  # noqa: S301 - from a process of our own, of its own answer
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
    made: type[EventlogError] = getattr(errors, kind)
    error = made.__new__(made)  # some make their message of other arguments
    error.args = (message,)
    return error


def _clean(question: Question, pid: int) -> None:
    """Remove the unfinished file of a child that was ended while it wrote one."""
    if question.method != "copy":
        return
    target = Path(os.path.realpath(question.arguments[1]))
    with contextlib.suppress(OSError):
        for path in target.parent.iterdir():
            if path.name.startswith(f".{target.name}.{pid}-") and path.suffix == ".part":
                path.unlink(missing_ok=True)
