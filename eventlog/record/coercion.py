"""An event that was refused, made into one that can be recorded: what an agent hands over is not always JSON.

Only on the way that is rarely taken: a valid event never comes here. Whatever the value, its
event is not lost, and no more of it is changed than has to be:

- what JSON has no form for becomes what its object offers (eventlog.record.sdk_objects), else its repr; what
  stands beside it stays;
- what is too deep becomes a text;
- where the whole is too long, its longest fields are cut: the texts in them first;
- what has not the type of its field moves to `attributes`, under the field's name.
"""

from __future__ import annotations

import math
import reprlib
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import NODEFAULT

from eventlog.format import envelope
from eventlog.record import sdk_objects

#: What fields may take of a line: the rest is for the envelope, and for marks of what was redacted.
_FIELDS_MAX_BYTES = envelope.MAX_LINE_BYTES - 1024 * 1024
#: How much is kept of a field that is cut.
_CUT_MAX_BYTES = 1024 * 1024
_TEXT_MAX_CHARS = 100_000
_REPR_MAX_CHARS = 1_000
#: What the texts in a field are cut to, one after the other, until it fits.
_TEXTS_MAX_CHARS = (_TEXT_MAX_CHARS, 10_000, _REPR_MAX_CHARS)
#: Where values have to be looked at one by one, so deep and so many of them; what is beyond becomes a text.
_DEPTH_MAX = 64
_VALUES_MAX = 100_000
#: So many objects of an event are asked for what they offer, or for their repr.
_FOREIGN_MAX = 50_000

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _REPR_MAX_CHARS
_short.maxlist = _short.maxtuple = _short.maxdict = _short.maxset = _short.maxfrozenset = _short.maxdeque = 20


def mended(event: msgspec.Struct) -> msgspec.Struct:
    """Return an event of the same type that is recorded where this one was refused. Never raises."""
    kinds = typing.get_type_hints(type(event))
    kept: dict[str, Any] = {}
    moved: dict[str, Any] = {}
    mender = _Mender()
    plain = {name: mender.recordable(getattr(event, name)) for name in event.__struct_fields__}
    for name, value in _shortened(plain).items():
        if value is None:
            continue
        if _fits(value, kinds[name]):
            kept[name] = value
        else:
            moved[name] = value
    for name in _required(type(event)) - kept.keys():
        kept[name] = text(moved.pop(name, ""))
    if moved and "attributes" in kinds:
        kept["attributes"] = {**kept.get("attributes", {}), **moved}
    return type(event)(**kept)


def _shortened(fields: dict[str, Any]) -> dict[str, Any]:
    """Return plain fields that fit into a line: the longest are cut, until they do."""
    sizes = {name: len(msgspec.json.encode(value)) for name, value in fields.items()}
    longest_first = iter(sorted(sizes, key=sizes.__getitem__, reverse=True))
    each_max_bytes = min(_CUT_MAX_BYTES, _FIELDS_MAX_BYTES // max(len(fields), 1))
    while sum(sizes.values()) > _FIELDS_MAX_BYTES and (name := next(longest_first, None)) is not None:
        fields[name] = _cut(fields[name], each_max_bytes)
        sizes[name] = len(msgspec.json.encode(fields[name]))
    return fields


def _cut(value: Any, max_bytes: int) -> Any:
    """Return the beginning of what is too long: of the texts in it where that is enough, else of its repr."""
    for max_chars in _TEXTS_MAX_CHARS if _is_countable(value, [_VALUES_MAX]) else ():
        shorter = _texts_cut(value, max_chars)
        if len(msgspec.json.encode(shorter)) <= max_bytes:
            return shorter
    return text(value, _REPR_MAX_CHARS)


def _is_countable(value: Any, left: list[int]) -> bool:
    """Say whether plain data has not too many values to look at each."""
    left[0] -= 1
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return left[0] >= 0
    return left[0] >= 0 and all(_is_countable(each, left) for each in value)


def _texts_cut(value: Any, max_chars: int) -> Any:
    if isinstance(value, dict):
        return {text(name, max_chars): _texts_cut(each, max_chars) for name, each in value.items()}
    if isinstance(value, list):
        return [_texts_cut(each, max_chars) for each in value]
    return text(value, max_chars) if isinstance(value, str) else value


def _required(struct: type[msgspec.Struct]) -> set[str]:
    names, defaults = struct.__struct_fields__, struct.__struct_defaults__
    without = len(names) - len(defaults)
    return {
        *names[:without],
        *(name for name, each in zip(names[without:], defaults, strict=True) if each is NODEFAULT),
    }


def recordable(value: object) -> Any:
    """Return a value that can stand in an event: itself as plain data, or what can be said of it. Never raises."""
    return _Mender().recordable(value)


class _Mender:
    """Makes plain data of the values of one event, within the bounds that hold for all of them together."""

    def __init__(self) -> None:
        self._values = _VALUES_MAX
        self._foreign = _FOREIGN_MAX
        self._encode = msgspec.json.Encoder(enc_hook=self._offered).encode

    def recordable(self, value: object, around: tuple[int, ...] = ()) -> Any:
        """Return what can be written of a value that is inside of `around`: of all of it where that is possible."""
        if len(around) >= _DEPTH_MAX or id(value) in around:  # first: writing a circle costs a thousand rounds of it
            return text(value)
        try:
            return self._whole(value, len(around))
        except Exception:  # noqa: BLE001 - what is no JSON raises many things, and foreign code any
            try:
                return self._part_by_part(value, around)
            except Exception:  # noqa: BLE001 - a mapping, a list or a property of somebody else's
                return text(value)

    def _whole(self, value: object, depth: int) -> Any:
        """Return a value as plain data. Raises where some of it has no form in JSON, or is too deep."""
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)
        data = self._encode(value)
        if envelope.too_deep(b"[" * (2 + depth) + data):
            raise RecursionError
        return msgspec.json.decode(data)

    def _part_by_part(self, value: Any, around: tuple[int, ...]) -> Any:
        if isinstance(value, str):
            return _unicode(value)
        inside = (*around, id(value))
        if isinstance(value, Mapping):
            return dict(self._parts(list(value.items()), inside))
        if isinstance(value, list | tuple | set | frozenset):
            return [each for _, each in self._parts([("", each) for each in value], inside)]
        names = getattr(type(value), "__struct_fields__", None) or getattr(type(value), "__dataclass_fields__", None)
        if names:
            return dict(self._parts([(name, getattr(value, name, None)) for name in names], inside))
        offered = self._offered(value)
        return offered if isinstance(offered, str) else self.recordable(offered, inside)

    def _parts(self, pairs: list[tuple[Any, Any]], inside: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
        for place, (name, value) in enumerate(pairs):
            self._values -= 1
            if self._values < 0:
                yield "…", f"… ({len(pairs) - place:,} more)"
                return
            yield self._name(name), self.recordable(value, inside)

    def _name(self, name: object) -> str:
        return _unicode(name) if isinstance(name, str) else text(name)

    def _offered(self, value: object) -> Any:
        """What the encoder has no form for. Never raises: what stands beside it stays."""
        self._foreign -= 1
        if self._foreign < 0:
            return f"<{type(value).__name__}>"
        try:
            if sdk_objects.offers(value):
                return sdk_objects.offered(value)
            return dict(value) if isinstance(value, Mapping) else text(value)
        except Exception:  # noqa: BLE001 - its own code
            return text(value)


def _unicode(value: str) -> str:
    """Return a text without the lone surrogates that JSON cannot hold."""
    return value.encode("utf-8", "backslashreplace").decode()


def text(value: object, max_chars: int = _TEXT_MAX_CHARS) -> str:
    """Return a text of bounded length: strings cut, others as their repr. Never raises."""
    try:
        shown = str.__str__(value if isinstance(value, str) else _short.repr(value))
    except Exception:  # noqa: BLE001 - its own code; asking for its class may be that, too
        shown = f"<{type(value).__name__}>"
    cut = shown[:max_chars]
    if len(cut) < len(shown):
        cut += f"… ({len(shown):,} characters, cut)"
    return _unicode(cut)


def _fits(value: object, kind: Any) -> bool:
    try:
        msgspec.json.decode(msgspec.json.encode(value), type=kind)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True
