"""Correlation fields: envelope fields that all events of a context share, such as run_id and agent.

Asyncio tasks inherit the fields that `context(…)` sets. A thread starts with an empty
context; `carry` hands it one:

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
    """The fields of a context, and a cache of their encoded forms. `values` never changes."""

    values: dict[str, ContextValue]
    #: (the recorder's workspace, its agent, schema version) → the encoded fields, as in a line
    encoded: dict[tuple[str | None, str | None, int], bytes]


_current = contextvars.ContextVar("eventlog", default=Shared({}, {}))  # noqa: B039 - sharing the cache is intended
#: Returns the current Shared.
current = _current.get
#: Makes a Shared the current one; returns the token for `restore`, which undoes that.
install = _current.set
restore = _current.reset


@contextmanager
def context(**fields: ContextValue) -> Iterator[None]:
    """Set envelope fields for all events emitted inside; None hides an outer value.

    Raises InvalidEvent for a name that is not a context field: a typing error would
    otherwise lose the correlation of a whole run.
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
    """Restore the Shared before `token`. Does nothing in another context: a generator may be closed elsewhere."""
    try:
        restore(token)
    except (ValueError, RuntimeError):
        return


def carry(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` bound to the current correlation fields, for use in another thread.

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
