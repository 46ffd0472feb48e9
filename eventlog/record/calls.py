"""Blocks of code, and calls of models and tools, that are measured while they run.

A block works with `with` and with `async with`. An exception inside is recorded and raised on; an
error of recording never replaces it.
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
from eventlog.format.usage import Advice, Reading, read
from eventlog.format.usage_dialects import ADVISOR
from eventlog.process import forks
from eventlog.process.forks import Phase
from eventlog.process.guards import STOPS
from eventlog.record import coercion, totals
from eventlog.record import usage as usages
from eventlog.record.api import harmless

Emit = Callable[[msgspec.Struct], str | None]
_MESSAGE_MAX_CHARS = 10_000

#: Differs between a process and its forked children: a child leaves its parent's blocks too, and must
#: not record them. os.getpid() would be a system call per block.
generation = 0


if TYPE_CHECKING:

    class LlmCallFields(TypedDict, total=False):
        """The fields of an `llm_call` event: see docs/events.md."""

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
        web_searches: int | None
        inference_geo: str | None
        usage_problem: str | None
        raw_usage: dict[str, Any] | None
        latency_ms: float | None
        time_to_first_token_ms: float | None
        cost_usd: Decimal | float | str | None
        error_type: str | None
        error_message: str | None
        attributes: dict[str, Any] | None

else:
    LlmCallFields = dict[str, Any]  # creating the TypedDict at run time takes as long as importing three modules


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
        """Record the block. Raises EventlogError, if the recorder is strict."""
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._try_to_end(error)
        except EventlogError:  # a strict recorder; an exception of the block comes first
            if error is None:
                raise

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)


class _Timed(Block):
    """A call that is measured from entry to exit, and recorded at exit."""

    _FIELDS: frozenset[str]

    def __init__(self, emit: Emit, is_seen: Callable[[], bool], fields: dict[str, Any]) -> None:
        self.__dict__.update(_emit=emit, _is_seen=is_seen, _values={}, _attributes={}, _began=0.0, _generation=-1)
        for name, value in fields.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field of the call. Any other name becomes one of its `attributes`."""
        (self._values if name in self._FIELDS else self._attributes)[name] = value

    def __getattr__(self, name: str) -> Any:
        if name in self._FIELDS:
            return self._values.get(name)
        raise AttributeError(f"{type(self).__name__} has no field {name!r}; known: {', '.join(sorted(self._FIELDS))}")

    def _begin(self) -> None:
        self.__dict__.update(_began=time.perf_counter(), _generation=generation)

    def _end(self, error: BaseException | None) -> None:
        took_ms = since_ms(self._began)
        if generation != self._generation or not self._is_seen():
            return
        error_type, error_message = described(error)
        values = {name: value for name, value in self._values.items() if value is not None}
        fields = {"error_type": error_type, "error_message": error_message, **values}
        if self._attributes:
            fields["attributes"] = _joined(fields.get("attributes"), self._attributes)
        self._record(fields, took_ms)

    def _record(self, fields: dict[str, Any], took_ms: float) -> None:
        raise NotImplementedError


class TimedLlmCall(_Timed):
    """A running call of a model. Set any field of `llm_call` on it, and `usage`.

    with obs.timed_llm_call(request_model="m") as call:
        for chunk in stream:
            call.first_token()  # only the first time counts
        call.usage = stream.usage
    """

    _FIELDS = frozenset({*builtin.LlmCall.__struct_fields__, "usage"})

    @harmless
    def first_token(self) -> None:
        """Record the time to first token. Only the first call counts."""
        if self._values.get("time_to_first_token_ms") is None:
            self._values["time_to_first_token_ms"] = since_ms(self._began)

    def _record(self, fields: dict[str, Any], took_ms: float) -> None:
        emit_llm_call(self._emit, fields.pop("usage", None), {"latency_ms": took_ms, **fields})


class TimedToolCall(_Timed):
    """A running call of a tool. Set `result` on it, or any other field of `tool_call`."""

    _FIELDS = frozenset(builtin.ToolCall.__struct_fields__)

    def _record(self, fields: dict[str, Any], took_ms: float) -> None:
        ok = fields["error_type"] is None
        self._emit(builtin.ToolCall(**{"duration_ms": took_ms, "ok": ok, **fields}))


_LLM_CALL = frozenset(builtin.LlmCall.__struct_fields__)


def _joined(attributes: object, more: dict[str, Any]) -> dict[str, Any]:
    """Merge attributes. A value that is no dict becomes an attribute itself, as in eventlog.record.coercion."""
    if attributes is None:
        return more
    return {**(attributes if isinstance(attributes, dict) else {"attributes": attributes}), **more}


def emit_llm_call(emit: Emit, usage: object, fields: LlmCallFields | dict[str, Any]) -> str | None:
    """Emit the event of a call, and one for each call of an advisor inside of it; return the id of the first.

    `usage` is the provider's usage object; `fields` override what it says. An unknown field becomes one of the
    `attributes`. Never raises for values: the call is paid for. An advisor is a model that the provider asked on its
    own; the usage object says which, and what it used.
    """
    values: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
    unknown = {name: values.pop(name) for name in values.keys() - _LLM_CALL}
    if unknown:
        values["attributes"] = _joined(values.get("attributes"), unknown)
    raw = usages.as_dict(usage)
    advice: tuple[Advice, ...] = ()
    if raw is not None:
        reading = read(raw)
        advice = reading.advice
        values = {"raw_usage": raw, **reading.counts, **_told(reading), **values}
    if isinstance(values.get("finish_reasons"), str):
        values["finish_reasons"] = [values["finish_reasons"]]
    cost = totals.decimal(values.get("cost_usd"))
    if cost is not None:
        values["cost_usd"] = cost
    call = builtin.LlmCall(**values)
    event_id = emit(call)
    for number, one in enumerate(advice, start=1):
        emit(_advisor_call(call, f"{call.response_id or event_id}#{ADVISOR}/{number}", one))
    return event_id


def _told(reading: Reading) -> dict[str, Any]:
    told = {
        "service_tier": reading.service_tier, "web_searches": reading.web_searches,
        "inference_geo": reading.inference_geo, "usage_problem": reading.problem,
    }  # fmt: skip
    return {name: value for name, value in told.items() if value is not None}


def _advisor_call(call: builtin.LlmCall, response_id: str, advice: Advice) -> builtin.LlmCall:
    """Return the event of an advisor's call. What the caller says that a call cost is the cost of all of it."""
    fields: dict[str, Any] = {
        "operation_name": call.operation_name, "provider_name": call.provider_name, "response_model": advice.model,
        "response_id": response_id, **advice.counts, "service_tier": advice.service_tier,
        "inference_geo": call.inference_geo, "usage_problem": advice.problem, "raw_usage": dict(advice.raw),
        "cost_usd": None if call.cost_usd is None else Decimal(0),
    }  # fmt: skip
    return builtin.LlmCall(**fields)


def described(error: BaseException | None) -> tuple[str | None, str | None]:
    """Return type and message of an exception, such as ("ValueError", "…"); (None, None) if nothing went wrong.

    Closing a generator, and ending the program with code 0, are no errors.
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
    """Return milliseconds since a value of `time.perf_counter`, to the microsecond."""
    try:
        return round((time.perf_counter() - began) * 1000, 3)
    except Exception:  # noqa: BLE001 - a program under test may have replaced the clock
        return 0.0


def _after_fork() -> None:
    global generation
    generation += 1


forks.register(Phase.STATE, after_in_child=_after_fork)
