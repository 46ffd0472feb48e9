"""What is measured while it happens: blocks of code, and calls of models and tools.

A block works with `with` and with `async with`. What is raised inside is recorded and goes on; what
goes wrong in recording it never takes its place.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict

import msgspec

from eventlog.errors import EventlogError
from eventlog.format import builtin
from eventlog.process import forks
from eventlog.process.forks import Phase
from eventlog.process.guards import STOPS
from eventlog.record import coercion, totals
from eventlog.record import usage as usages
from eventlog.record.api import harmless

Emit = Callable[[msgspec.Struct], str | None]
_MESSAGE_MAX_CHARS = 10_000

#: Differs between a process and its forked children: a child leaves its parent's blocks as well, and must
#: not tell of them. Asking for the pid would be a system call per block.
generation = 0


if TYPE_CHECKING:

    class LlmCallFields(TypedDict, total=False):
        """What can be said of a call of a model: the fields of `llm_call`, see docs/events.md."""

        operation_name: str | None
        provider_name: str | None
        request_model: str | None
        response_model: str | None
        response_id: str | None
        request_temperature: float | None
        request_top_p: float | None
        request_max_tokens: int | None
        request_parameters: dict[str, Any] | None
        system_instructions: Any
        input_messages: Any
        output_messages: Any
        tool_definitions: Any
        context_statistics: dict[str, Any] | None
        finish_reasons: list[str] | str | None
        uncached_input_tokens: int | None
        cache_read_tokens: int | None
        cache_write_5m_tokens: int | None
        cache_write_1h_tokens: int | None
        output_tokens: int | None
        reasoning_tokens: int | None
        service_tier: str | None
        raw_usage: dict[str, Any] | None
        latency_ms: float | None
        time_to_first_token_ms: float | None
        cost_usd: Decimal | float | str | None
        error_type: str | None
        error_message: str | None
        attributes: dict[str, Any] | None

else:
    LlmCallFields = dict[str, Any]  # making the other at run time takes as long as importing three modules


class Block:
    """A block of code that is recorded."""

    __slots__ = ()

    def __enter__(self) -> Self:
        self._try_to_begin()
        return self

    def _begin(self) -> None:
        raise NotImplementedError

    @harmless
    def _try_to_begin(self) -> None:
        self._begin()

    @harmless
    def _try_to_end(self, error: BaseException | None) -> None:
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        """Record what happened. Where it cannot and should say so, it raises."""
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._try_to_end(error)
        except EventlogError:  # a strict recorder; but what happened in the block comes first
            if error is None:
                raise

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)


class _Timed(Block):
    """A call that is measured from entry to exit, and recorded then."""

    _FIELDS: frozenset[str]

    def __init__(self, emit: Emit, is_seen: Callable[[], bool], fields: dict[str, Any]) -> None:
        self.__dict__.update(_emit=emit, _is_seen=is_seen, _said={}, _attributes={}, _began=0.0, _generation=-1)
        for name, value in fields.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        """Say something of the call. What is no field of it becomes one of its `attributes`."""
        (self._said if name in self._FIELDS else self._attributes)[name] = value

    def __getattr__(self, name: str) -> Any:
        if name in self._FIELDS:
            return self._said.get(name)
        raise AttributeError(f"{type(self).__name__} has no field {name!r}; known: {', '.join(sorted(self._FIELDS))}")

    def _begin(self) -> None:
        self.__dict__.update(_began=time.perf_counter(), _generation=generation)

    def _end(self, error: BaseException | None) -> None:
        took_ms = since_ms(self._began)
        if generation != self._generation or not self._is_seen():
            return
        error_type, error_message = described(error)
        given = {name: value for name, value in self._said.items() if value is not None}  # None is nothing said
        said = {"error_type": error_type, "error_message": error_message, **given}
        if self._attributes:
            said["attributes"] = _joined(said.get("attributes"), self._attributes)
        self._emit(self._event(said, took_ms))

    def _event(self, said: dict[str, Any], took_ms: float) -> msgspec.Struct:
        raise NotImplementedError


class TimedLlmCall(_Timed):
    """A call of a model, while it happens: any field of `llm_call` may be set on it, and `usage`.

    with obs.timed_llm_call(request_model="m") as call:
        for chunk in stream:
            call.first_token()  # only the first time counts
        call.usage = stream.usage
    """

    _FIELDS = frozenset({*builtin.LlmCall.__struct_fields__, "usage"})

    @harmless
    def first_token(self) -> None:
        """Say that the answer begins to arrive. Later calls of this change nothing."""
        if self._said.get("time_to_first_token_ms") is None:
            self._said["time_to_first_token_ms"] = since_ms(self._began)

    def _event(self, said: dict[str, Any], took_ms: float) -> msgspec.Struct:
        return llm_call(said.pop("usage", None), {"latency_ms": took_ms, **said})


class TimedToolCall(_Timed):
    """A call of a tool, while it happens: set `result`, or any other field of `tool_call`."""

    _FIELDS = frozenset(builtin.ToolCall.__struct_fields__)

    def _event(self, said: dict[str, Any], took_ms: float) -> msgspec.Struct:
        ok = said["error_type"] is None
        return builtin.ToolCall(**{"duration_ms": took_ms, "ok": ok, **said})


_LLM_CALL = frozenset(builtin.LlmCall.__struct_fields__)


def _joined(attributes: object, more: dict[str, Any]) -> dict[str, Any]:
    """Return given attributes and more; those that are no dict are one of them, as eventlog.record.coercion does it."""
    if attributes is None:
        return more
    return {**(attributes if isinstance(attributes, dict) else {"attributes": attributes}), **more}


def llm_call(usage: object, fields: LlmCallFields | dict[str, Any]) -> builtin.LlmCall:
    """Return the event of a call. `usage` is what the provider reported; fields that are given win over it.

    What is no field of `llm_call` becomes one of its `attributes`: the call is paid for, so nothing is raised.
    """
    said: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
    unknown = {name: said.pop(name) for name in said.keys() - _LLM_CALL}
    if unknown:
        said["attributes"] = _joined(said.get("attributes"), unknown)
    raw = usages.as_dict(usage)
    if raw is not None:
        tier = "fast" if raw.get("speed") == "fast" else raw.get("service_tier")  # as of imported sessions
        reported = {"raw_usage": raw, **usages.split(raw)}
        said = {**reported, **({"service_tier": tier} if isinstance(tier, str) else {}), **said}
    if isinstance(said.get("finish_reasons"), str):
        said["finish_reasons"] = [said["finish_reasons"]]
    cost = totals.decimal(said.get("cost_usd"))
    if cost is not None:
        said["cost_usd"] = cost
    return builtin.LlmCall(**said)


def described(error: BaseException | None) -> tuple[str | None, str | None]:
    """Return type and message of what was raised; (None, None) where nothing went wrong.

    A generator that is closed, and a program that ends with code 0, are nothing wrong.
    """
    if error is None or isinstance(error, GeneratorExit) or (isinstance(error, SystemExit) and not error.code):
        return None, None
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        message = str(error)
    except STOPS:
        raise
    except BaseException:  # noqa: BLE001 - the exception's own code
        message = f"<{name}: its message cannot be read>"
    if len(message) > _MESSAGE_MAX_CHARS:
        message = message[:_MESSAGE_MAX_CHARS] + "…"
    return name, coercion.text(message) if message else None


def since_ms(began: float) -> float:
    """Milliseconds since a moment of `time.perf_counter`, to the microsecond."""
    try:
        return round((time.perf_counter() - began) * 1000, 3)
    except Exception:  # noqa: BLE001 - a clock of a program under test
        return 0.0


def _after_fork() -> None:
    global generation
    generation += 1


forks.register(Phase.STATE, after_in_child=_after_fork)
