"""Decoding payloads into plain Python objects. It never fails for a payload that the log accepted."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

#: Longer integers stay text: reading them is slow, and Python refuses more than 4,300 digits.
_INTEGER_CHARS_MAX = 1000


def decode(payload: bytes | msgspec.Raw) -> Any:
    """Return JSON as plain Python objects that can be encoded again. Never raises.

    A number beyond a float, or an integer of over 1,000 digits, becomes its text. A payload that is nested too deep,
    or contains half of a surrogate pair, becomes one text.
    """
    data = bytes(payload)
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError):
        pass  # the slower parser below may read it
    try:
        value = json.loads(data, parse_float=_float, parse_int=_integer, parse_constant=str)
        msgspec.json.encode(value)
    except (ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return data.decode(errors="replace")
    return value


def fields(payload: bytes | msgspec.Raw) -> dict[str, Any]:
    """Return a payload's fields; {"payload": text} for a payload that `decode` returns as a text."""
    value = decode(payload)
    return value if isinstance(value, dict) else {"payload": value}


def _float(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


def _integer(text: str) -> int | str:
    return int(text) if len(text) <= _INTEGER_CHARS_MAX else text
