"""Coercion: making a refused event recordable, since agents do not always pass JSON.

Valid events never come here. No event is lost for its values, and as little as possible is changed:

- a value without a JSON form becomes the plain data that its object offers (eventlog.record.sdk_objects), else its
  repr; its neighbours stay;
- a value that is nested too deep becomes a text;
- if the event is too long, its longest fields are cut, beginning with the texts in them;
- a value that does not have its field's type moves to `attributes`, under the field's name.
"""

from __future__ import annotations

import math
import reprlib
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import NODEFAULT

from eventlog.format import envelope, json_text
from eventlog.record import sdk_objects

#: The part of a line for payload fields: the rest is for the envelope, and for marks of redacted values.
_FIELDS_MAX_BYTES = envelope.MAX_LINE_BYTES - 1024 * 1024
#: The size that a field is cut to.
_CUT_MAX_BYTES = 1024 * 1024
_TEXT_MAX_CHARS = 100_000
_REPR_MAX_CHARS = 1_000
#: The texts in a field are cut to these lengths, one after the other, until it fits.
_TEXTS_MAX_CHARS = (_TEXT_MAX_CHARS, 10_000, _REPR_MAX_CHARS)
#: The depth and number up to which values are converted one by one; what is beyond becomes a text.
_DEPTH_MAX = 64
_VALUES_MAX = 100_000
#: At most this many objects of an event are asked for plain data, or for their repr.
_FOREIGN_MAX = 50_000

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _REPR_MAX_CHARS
_short.maxlist = _short.maxtuple = _short.maxdict = _short.maxset = _short.maxfrozenset = _short.maxdeque = 20


def coerced(event: msgspec.Struct) -> msgspec.Struct:
    """Return an event of the same type that can be recorded in place of a refused one. Never raises."""
    kinds = typing.get_type_hints(type(event))
    fitting: dict[str, Any] = {}
    moved: dict[str, Any] = {}
    coercer = _Coercer()
    plain = {name: coercer.recordable(getattr(event, name)) for name in event.__struct_fields__}
    for name, value in _shortened(plain).items():
        if value is None:
            continue
        if _fits(value, kinds[name]):
            fitting[name] = value
        else:
            moved[name] = value
    for name in _required(type(event)) - fitting.keys():
        fitting[name] = text(moved.pop(name, ""))
    if moved and "attributes" in kinds:
        fitting["attributes"] = {**fitting.get("attributes", {}), **moved}
    return type(event)(**fitting)


def _shortened(fields: dict[str, Any]) -> dict[str, Any]:
    """Cut plain fields, longest first, until they fit into a line."""
    sizes = {name: len(msgspec.json.encode(value)) for name, value in fields.items()}
    longest_first = iter(sorted(sizes, key=sizes.__getitem__, reverse=True))
    field_max_bytes = min(_CUT_MAX_BYTES, _FIELDS_MAX_BYTES // max(len(fields), 1))
    while sum(sizes.values()) > _FIELDS_MAX_BYTES and (name := next(longest_first, None)) is not None:
        fields[name] = _cut(fields[name], field_max_bytes)
        sizes[name] = len(msgspec.json.encode(fields[name]))
    return fields


def _cut(value: Any, max_bytes: int) -> Any:
    """Cut the texts in a value that is too long; if that is not enough, return the beginning of its repr."""
    for max_chars in _TEXTS_MAX_CHARS if _is_countable(value, [_VALUES_MAX]) else ():
        shorter = _texts_cut(value, max_chars)
        if len(msgspec.json.encode(shorter)) <= max_bytes:
            return shorter
    return text(value, _REPR_MAX_CHARS)


def _is_countable(value: Any, left: list[int]) -> bool:
    """Say whether plain data has few enough values to convert each."""
    left[0] -= 1
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return left[0] >= 0
    return left[0] >= 0 and all(_is_countable(item, left) for item in value)


def _texts_cut(value: Any, max_chars: int) -> Any:
    if isinstance(value, dict):
        return {text(name, max_chars): _texts_cut(item, max_chars) for name, item in value.items()}
    if isinstance(value, list):
        return [_texts_cut(item, max_chars) for item in value]
    return text(value, max_chars) if isinstance(value, str) else value


def _required(struct: type[msgspec.Struct]) -> set[str]:
    names, defaults = struct.__struct_fields__, struct.__struct_defaults__
    without = len(names) - len(defaults)
    return {
        *names[:without],
        *(name for name, default in zip(names[without:], defaults, strict=True) if default is NODEFAULT),
    }


def recordable(value: object) -> Any:
    """Return a value as plain data that JSON can hold; a text where that is impossible. Never raises."""
    return _Coercer().recordable(value)


class _Coercer:
    """Turns the values of one event into plain data, within bounds for all of them together."""

    def __init__(self) -> None:
        self._values = _VALUES_MAX
        self._foreign = _FOREIGN_MAX
        self._encode = msgspec.json.Encoder(enc_hook=self._offered).encode

    def recordable(self, value: object, around: tuple[int, ...] = ()) -> Any:
        """Return a value as plain data; all of it if possible. `around` has the ids of the objects that contain it."""
        if len(around) >= _DEPTH_MAX or id(value) in around:  # first: encoding a cycle costs a thousand rounds of it
            return text(value)
        try:
            return self._whole(value, len(around))
        except Exception:  # noqa: BLE001 - values without a JSON form raise many errors, and foreign code any
            try:
                return self._part_by_part(value, around)
            except Exception:  # noqa: BLE001 - a foreign mapping, list or property
                return text(value)

    def _whole(self, value: object, depth: int) -> Any:
        """Return a value as plain data. Raises where a part of it has no JSON form, or is too deep."""
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)
        data = self._encode(value)
        if envelope.too_deep(b"[" * (2 + depth) + data):
            raise RecursionError
        return msgspec.json.decode(data)

    def _part_by_part(self, value: Any, around: tuple[int, ...]) -> Any:
        if isinstance(value, str):
            return json_text.whole(value)
        inside = (*around, id(value))
        if isinstance(value, Mapping):
            return dict(self._parts(list(value.items()), inside))
        if isinstance(value, list | tuple | set | frozenset):
            return [part for _, part in self._parts([("", item) for item in value], inside)]
        names = getattr(type(value), "__struct_fields__", None) or getattr(type(value), "__dataclass_fields__", None)
        if names:
            return dict(self._parts([(name, getattr(value, name, None)) for name in names], inside))
        offered = self._offered(value)
        return offered if isinstance(offered, str) else self.recordable(offered, inside)

    def _parts(self, pairs: list[tuple[Any, Any]], inside: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
        for index, (name, value) in enumerate(pairs):
            self._values -= 1
            if self._values < 0:
                yield "…", f"… ({len(pairs) - index:,} more)"
                return
            yield self._name(name), self.recordable(value, inside)

    def _name(self, name: object) -> str:
        return json_text.whole(name) if isinstance(name, str) else text(name)

    def _offered(self, value: object) -> Any:
        """Return plain data for an object that the encoder cannot encode. Never raises, so that its neighbours stay."""
        self._foreign -= 1
        if self._foreign < 0:
            return f"<{type(value).__name__}>"
        try:
            if sdk_objects.offers(value):
                return sdk_objects.offered(value)
            return dict(value) if isinstance(value, Mapping) else text(value)
        except Exception:  # noqa: BLE001 - the object's own code
            return text(value)


def text(value: object, max_chars: int = _TEXT_MAX_CHARS) -> str:
    """Return a string, or the repr of another value, cut to `max_chars`. Never raises."""
    try:
        shown = str.__str__(value if isinstance(value, str) else _short.repr(value))
    except Exception:  # noqa: BLE001 - the value's own code, even `__class__`
        shown = f"<{type(value).__name__}>"
    cut = shown[:max_chars]
    if len(cut) < len(shown):
        cut += f"… ({len(shown):,} characters, cut)"
    return json_text.whole(cut)


def _fits(value: object, kind: Any) -> bool:
    try:
        msgspec.json.decode(msgspec.json.encode(value), type=kind)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True
