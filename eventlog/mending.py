"""An event that was refused, made into one that can be recorded: what an agent hands over is not always JSON.

Only on the way that is rarely taken: a valid event never comes here. Whatever the value, its
event is not lost:

- what JSON has no form for becomes what its object offers (`model_dump`, `to_dict`), else its repr;
- what is too long or too deep becomes a text that is cut;
- what has not the type of its field moves to `attributes`, under the field's name.
"""

from __future__ import annotations

import math
import reprlib
import typing
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import NODEFAULT

from eventlog import envelope, foreign

#: How much of a value is kept where it has to be cut; a line holds `envelope.MAX_LINE_BYTES`.
VALUE_MAX_BYTES = 1024 * 1024
_TEXT_MAX_CHARS = 100_000
_REPR_MAX_CHARS = 1_000

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _REPR_MAX_CHARS
_short.maxlist = _short.maxtuple = _short.maxdict = _short.maxset = _short.maxfrozenset = _short.maxdeque = 20


def mended(event: msgspec.Struct) -> msgspec.Struct:
    """Return an event of the same type that is recorded where this one was refused. Never raises."""
    kinds = typing.get_type_hints(type(event))
    kept: dict[str, Any] = {}
    moved: dict[str, Any] = {}
    for name in event.__struct_fields__:
        value = recordable(getattr(event, name))
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


def _required(struct: type[msgspec.Struct]) -> set[str]:
    names, defaults = struct.__struct_fields__, struct.__struct_defaults__
    without = len(names) - len(defaults)
    return {
        *names[:without],
        *(name for name, each in zip(names[without:], defaults, strict=True) if each is NODEFAULT),
    }


def recordable(value: object) -> Any:
    """Return a value that can stand in an event: itself as plain data, or what can be said of it. Never raises."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    try:
        data = _encoder.encode(value)
        plain = msgspec.json.decode(data)
        if len(data) <= VALUE_MAX_BYTES and not envelope.too_deep(b"[[" + data + b"]]"):
            return plain
    except Exception:  # noqa: BLE001 - the value's own code (a repr, a model_dump) may raise anything
        plain = value
    return text(plain)


def text(value: object) -> str:
    """Return a text of bounded length: strings cut, others as their repr. Never raises."""
    if isinstance(value, str):
        cut = value[:_TEXT_MAX_CHARS]
        if len(cut) < len(value):
            cut += f"… ({len(value):,} characters, cut)"
        return cut.encode("utf-8", "backslashreplace").decode()
    try:
        shown = _short.repr(value)
    except Exception:  # noqa: BLE001 - as above
        shown = f"<{type(value).__name__}>"
    return text(shown)


def _foreign(value: object) -> Any:
    """What the encoder has no form for."""
    if foreign.offers(value):
        return foreign.offered(value)
    return dict(value) if isinstance(value, Mapping) else text(value)


def _fits(value: object, kind: Any) -> bool:
    try:
        msgspec.json.decode(msgspec.json.encode(value), type=kind)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


_encoder = msgspec.json.Encoder(enc_hook=_foreign)
