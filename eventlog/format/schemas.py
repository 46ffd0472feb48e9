"""Typed events: msgspec Structs that are registered as the payload of an event type.

    @obs.event("reading")
    class Reading(msgspec.Struct):
        celsius: float

Each emit checks the values against the annotations. The first emit of a type in a
process also records its JSON Schema as an `event_schema` event, so that an indexer in
another process, or a replay years later, can create a view with typed columns
(docs/decisions/0004-schemas-are-events.md).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from eventlog.errors import EventTypeConflict, InvalidEvent
from eventlog.format import control, envelope, ids, timestamps

S = TypeVar("S", bound=type[msgspec.Struct])

SCHEMA_EVENT = "event_schema"

#: Names that the index gives to its own tables and views (docs/schema.md).
RESERVED = frozenset(
    {
        "events", "copies", "event_rows", "conflicts", "rejected", "quarantine", "segments", "index_meta",
        "event_types",
        "runs", "steps", "llm_calls", "llm_costs", "llm_rates", "tool_calls", "sessions", "messages", "requests",
        "price_events",
        "alert_rules", "alerts", "alert_deliveries", "alert_dead_letters", SCHEMA_EVENT,
    }
)  # fmt: skip

_TIME_HINT = "; pass a datetime, or ISO 8601 text with date and time: 2026-01-31T12:00:00Z"


class EventSchema(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of `event_schema`: the JSON Schema of a type's payload."""

    name: str
    version: int
    json_schema: dict[str, Any]


class Registered(msgspec.Struct, frozen=True, eq=False):
    """A registered struct, its event type and payload version."""

    name: str
    version: int
    struct: type[msgspec.Struct]
    #: One of eventlog.format.builtin: a program may register its own struct instead.
    built_in: bool = False


_by_name: dict[str, Registered] = {}
_by_struct: dict[type, Registered] = {}
#: The decoders that check payloads.
_decoders: dict[Registered, msgspec.json.Decoder[Any]] = {}


def event(name: str, *, version: int = 1) -> Callable[[S], S]:
    """Register a Struct as the payload of an event type: a class decorator.

    Raises InvalidEvent for a bad or reserved name, and EventTypeConflict if another
    struct has the name. Redefining the same class (a reload, a notebook cell) is fine.
    """
    envelope.check_event_type(name)
    if name in RESERVED:
        raise InvalidEvent(f"event type {name!r} is the name of one of the index's own tables; choose another")
    if name in control.WRITERS:
        raise InvalidEvent(f"event type {name!r} is a control event of eventlog's own; choose another")

    def register(struct: S) -> S:
        _register(name, version, struct)
        return struct

    return register


def built_in(name: str) -> Callable[[S], S]:
    """Register one of eventlog's own events (eventlog.format.builtin)."""

    def register(struct: S) -> S:
        _register(name, 1, struct, built_in=True)
        return struct

    return register


def _register(name: str, version: int, struct: type[msgspec.Struct], *, built_in: bool = False) -> None:
    if not issubclass(struct, msgspec.Struct):
        raise InvalidEvent(f"@event({name!r}) takes a msgspec.Struct, not {struct!r}")
    if struct.__struct_config__.array_like:
        raise InvalidEvent(f"{_path(struct)} is array_like, and a payload is a JSON object")
    holder = _by_name.get(name)
    if holder is not None and not holder.built_in and _path(holder.struct) != _path(struct):
        raise EventTypeConflict(
            f"event type {name!r} is claimed by both {_path(holder.struct)} and {_path(struct)}; rename one"
        )
    registered = Registered(name, version, struct, built_in)
    if not built_in:  # most programs emit two or three built-in types, and creating all decoders takes a millisecond
        _decoders[registered] = msgspec.json.Decoder(struct)
    _by_name[name] = _by_struct[struct] = registered


def _path(struct: type) -> str:
    return f"{struct.__module__}.{struct.__qualname__}"


def of_struct(struct: type) -> Registered:
    """Return the registration of a struct. Raises InvalidEvent if it has none."""
    try:
        return _by_struct[struct]
    except KeyError:
        raise InvalidEvent(
            f"{_path(struct)} is not an event: decorate it with @eventlog.event('a_name'), "
            "or call emit('a_name', payload)"
        ) from None


def of_name(name: str) -> Registered | None:
    """Return the registration of an event type, or None."""
    return _by_name.get(name)


def check(registered: Registered, data: bytes) -> None:
    """Raise InvalidEvent if an encoded payload does not fit its struct. Unknown fields are allowed."""
    try:
        decoder = _decoders.get(registered) or _built_in_decoder(registered)
    except NameError:
        if sys.is_finalizing():  # msgspec resolves annotations, and their modules are gone already
            return
        raise
    try:
        decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        hint = _TIME_HINT if _is_about_a_time(error) else ""
        raise InvalidEvent(f"{registered.name}: {error} ({_path(registered.struct)}){hint}") from None


def _is_about_a_time(error: Exception) -> bool:
    """Say whether a value is no time. msgspec has one class for all that does not fit; here it only adds a hint."""
    return "RFC3339 encoded" in str(error) or "Expected `datetime" in str(error)


def _built_in_decoder(registered: Registered) -> msgspec.json.Decoder[Any]:
    """Return a decoder that creates no objects for fields of type Any, so that long prompts cost little.

    Only for eventlog's own structs: a user's struct may run code when it is created or inherited from.
    """
    anything = [
        (field.name, msgspec.Raw, msgspec.Raw())
        for field in msgspec.structs.fields(registered.struct)
        if field.type is Any and not field.required
    ]
    struct = msgspec.defstruct(registered.struct.__name__, anything, bases=(registered.struct,), kw_only=True)
    return _decoders.setdefault(registered, msgspec.json.Decoder(struct))


def schema_envelope(registered: Registered) -> envelope.Envelope:
    """Return the `event_schema` event of a type. The same schema gives the same id and the same bytes."""
    payload = envelope.encode_payload(
        EventSchema(name=registered.name, version=registered.version, json_schema=_json_schema(registered.struct))
    )
    return envelope.Envelope(
        event_id=ids.derived_id(0, SCHEMA_EVENT, bytes(payload)),
        event_type=SCHEMA_EVENT,
        timestamp=timestamps.UNKNOWN,
        payload=payload,
    )


def _json_schema(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the JSON Schema of a struct; {} if a custom type has none: then the type gets no typed columns."""
    from msgspec import inspect  # noqa: PLC0415 - once per type and process, and slow to load

    try:
        schema = msgspec.json.schema(struct)
        info = inspect.type_info(struct)
    except TypeError:
        return {}
    top = schema
    if "$ref" in schema:
        top = schema["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    # msgspec names the format of a time only where the annotation says whether it has a zone.
    formats = {inspect.DateTimeType: "date-time", inspect.TimeType: "time"}
    for field in info.fields if isinstance(info, inspect.StructType) else ():
        kinds = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
        part = top["properties"][field.encode_name]
        texts = [option for option in part.get("anyOf", [part]) if option.get("type") == "string"]
        named = {formats[type(kind)] for kind in kinds if type(kind) in formats}
        if len(named) == 1:
            for option in texts:
                option.setdefault("format", *named)
    return schema
