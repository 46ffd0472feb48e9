"""Correlation that travels with the work: who is running, for whom, in which run.

Fields set by `context(…)` are inherited by asyncio tasks. A thread starts with an empty
context; hand it one with `carry`:

    with obs.context(run_id="r1"):
        pool.submit(obs.carry(work), item)
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, ParamSpec, TypeVar

from eventlog.errors import InvalidEvent

P = ParamSpec("P")
R = TypeVar("R")

FIELDS = frozenset(
    {
        "run_id", "request_id", "session_id", "parent_event_id",
        "cycle", "turn_number", "audit_level", "workspace", "agent",
    }
)  # fmt: skip

ContextValue = str | int | None


class Shared(NamedTuple):
    """The fields in force in one place, and what recorders have made of them. `values` never changes."""

    values: dict[str, ContextValue]
    #: (defaults of the recorder, schema version) → the fields as they stand in a line
    encoded: dict[tuple[str | None, str | None, int], bytes]


_current = contextvars.ContextVar("eventlog", default=Shared({}, {}))  # noqa: B039 - a cache that all may share
#: Returns what is in force here.
current = _current.get
#: Puts a `Shared` in force here, and returns the token with which `restore` puts back what was before.
install = _current.set
restore = _current.reset


@contextmanager
def context(**fields: ContextValue) -> Iterator[None]:
    """Set envelope fields for all events emitted inside; None hides an outer value.

    Raises InvalidEvent for a name that is not a context field: a typing error here would
    otherwise cost the correlation of a whole run.
    """
    unknown = sorted(fields.keys() - FIELDS)
    if unknown:
        raise InvalidEvent(f"unknown context field {unknown[0]!r}; known: {', '.join(sorted(FIELDS))}")
    token = _current.set(Shared({**_current.get().values, **fields}, {}))
    try:
        yield
    finally:
        leave(token)


def leave(token: contextvars.Token[Shared]) -> None:
    """Put back what was in force. In another context (a generator that somebody else closes) there is nothing to."""
    try:
        restore(token)
    except (ValueError, RuntimeError):
        return


def carry(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` bound to the context of this moment, for use in another thread.

    The result may be called many times and from many threads at once.
    """
    taken = _current.get()

    def carried(*args: P.args, **kwargs: P.kwargs) -> R:
        token = _current.set(taken)
        try:
            return function(*args, **kwargs)
        finally:
            leave(token)

    return carried
