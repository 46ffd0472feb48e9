"""Blocks of code that are recorded when they are left: steps of a run, and requests.

Both set correlation fields for what is recorded inside. An open step also counts what is recorded inside of it, in
steps inside of it included; runs that begin inside do not count, as they do not in the run around them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Token
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from eventlog.format import builtin, ids
from eventlog.record import api, calls, coercion, totals
from eventlog.record.calls import Block
from eventlog.record.correlation import Shared, current, install, leave, restore

_FIELD_MAX_CHARS = 1_000

#: The open steps of this process by the ids of their events. Weak: nobody may ever leave the block of a generator.
_open: WeakValueDictionary[str, Step] = WeakValueDictionary()


def record(event: msgspec.Struct, fields: dict[str, Any] | None = None) -> str | None:
    """Record an event, coercing values that JSON cannot hold; return its id, or None where it was not recorded.

    Raises EventlogError, if the recorder is strict.
    """
    return api.recorder().emit_with(event, None, fields or {}, coercion.coerced)


@contextmanager
def as_current(shared: Shared) -> Iterator[None]:
    """Make a context the current one inside of a block."""
    token = install(shared)
    try:
        yield
    finally:
        restore(token)


def field(value: object) -> str | None:
    """Return a value as an envelope field that can be written: a bad one would lose all events of its context."""
    shown = "" if value is None else coercion.text(value)
    return shown[:_FIELD_MAX_CHARS] or None


def status_of(error: BaseException | None) -> str:
    """Return how a block ended that this exception left: ok (also by `sys.exit()`), error or cancelled."""
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return "ok"
    return "error" if isinstance(error, Exception) else "cancelled"


# -- the steps around an event ---------------------------------------------------------------


def _around(shared: Shared) -> Iterator[Step]:
    """Yield the open steps of a context, from the inside out."""
    step = _open.get(_parent(shared)) if _open else None
    while step is not None:
        yield step
        step = _open.get(_parent(step.outer))


def _parent(shared: Shared) -> str:
    parent = shared.values.get("parent_event_id")
    return parent if isinstance(parent, str) else ""


def is_inside(shared: Shared) -> bool:
    """Say whether a context is inside of an open step."""
    return any(_around(shared))


def count(event: msgspec.Struct, shared: Shared) -> None:
    """Add an event of this context to the totals of all steps around it."""
    for step in _around(shared):
        step.totals.add(event)


def renew_locks() -> None:
    """In a forked child: replace the locks of open steps, which a vanished thread may hold."""
    for step in list(_open.values()):
        step.totals.renew_locks()


class Step(Block):
    """A block of a run. `id` is its event's id, from entry on; `output` and `attributes` may be set."""

    __slots__ = (
        "__weakref__", "_began", "_count", "_generation", "_shared", "_token", "_took_ms", "attributes", "id", "input",
        "kind", "name", "outer", "output", "totals",
    )  # fmt: skip

    def __init__(
        self,
        shared: Callable[[], Shared],
        count: Callable[[msgspec.Struct, Shared], None],
        name: str,
        kind: str,
        step_input: Any,
        attributes: dict[str, Any] | None,
    ) -> None:
        self._shared = shared
        self._count = count
        self.name = name
        self.kind = kind
        self.input = step_input
        self.output: Any = None
        self.attributes = attributes
        self.id = ""
        self.outer = Shared({}, {})
        self.totals = totals.Totals()
        self._token: Token[Shared] | None = None
        self._began, self._took_ms = 0.0, 0.0

    def _begin(self) -> None:
        self.id = ids.new_id(time.time_ns())
        self.outer = self._shared()
        self._generation = calls.generation
        self._began = time.perf_counter()
        _open[self.id] = self
        self._token = install(Shared({**self.outer.values, "parent_event_id": self.id}, {}))

    def _end(self, error: BaseException | None) -> None:
        if self._token is None:  # it could not begin; that was counted
            return
        self._took_ms = calls.since_ms(self._began)
        _open.pop(self.id, None)
        leave(self._token)
        if calls.generation != self._generation:
            return
        if self.outer is current():
            self._record(error)
        else:
            with as_current(self.outer):
                self._record(error)

    def _record(self, error: BaseException | None) -> None:
        error_type, error_message = calls.described(error)
        event = builtin.Step(
            name=self.name,
            kind=self.kind,
            duration_ms=self._took_ms,
            input=self.input,
            output=self.output,
            error_type=error_type,
            error_message=error_message,
            attributes=self.attributes,
        )
        self._count(event, self.outer)
        record(event, {"event_id": self.id})

    def stats(self) -> totals.StepStats:
        """Return light totals of what this process has recorded in this step, without the runs inside of it.

        `stats().output_tokens` is 64 after a call that produced 64 tokens; steps inside count, the step itself does
        not.
        """
        run_id = self.outer.values.get("run_id")
        is_open = self._token is not None and self.id in _open
        found = self.totals.stats(
            run_id if isinstance(run_id, str) else "",
            self.name,
            calls.since_ms(self._began) if is_open else self._took_ms,
        )
        return totals.StepStats(event_id=self.id, **msgspec.structs.asdict(found))


class Request(Block):
    """A block that answers a request from outside: all that is recorded inside names it, runs and their steps too.

    `id` is its request_id; `output`, `attributes` and `status` may be set. It ends as ok, error or cancelled, as a run
    does, unless `status` was set.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        request_id: str | None = None,
        session_id: str | None = None,
        agent: str | None = None,
        workspace: str | None = None,
        channel: str | None = None,
        user_id: str | None = None,
        input: Any = None,  # noqa: A002 - the field's name
        attributes: dict[str, Any] | None = None,
    ) -> None:
        self.name, self.channel, self.user_id = name, channel, user_id
        self.input, self.output, self.status = input, None, None
        self.attributes = attributes
        self.id = field(request_id) or ""
        own = {"session_id": session_id, "agent": agent, "workspace": workspace}
        self._own = {name: text for name, value in own.items() if (text := field(value)) is not None}
        self._inner = Shared({}, {})
        self._generation, self._began = -1, 0.0
        self._token: Token[Shared] | None = None

    input: Any
    output: Any
    status: str | None

    def _begin(self) -> None:
        self.id = self.id or ids.new_id(time.time_ns())
        self._inner = Shared({**current().values, **self._own, "request_id": self.id}, {})
        self._generation, self._began = calls.generation, time.perf_counter()
        self._token = install(self._inner)

    def _end(self, error: BaseException | None) -> None:
        if self._token is None:  # as in a step
            return
        took_ms = calls.since_ms(self._began)
        leave(self._token)
        if calls.generation != self._generation:
            return
        error_type, error_message = calls.described(error)
        with as_current(self._inner):
            record(
                builtin.Request(
                    name=self.name,
                    channel=self.channel,
                    user_id=self.user_id,
                    input=self.input,
                    output=self.output,
                    status=self.status or status_of(error),
                    duration_ms=took_ms,
                    error_type=error_type,
                    error_message=error_message,
                    attributes=self.attributes,
                )
            )
