"""Decoding payloads into plain Python objects. It never fails for a payload that the log accepted."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

from eventlog.format import json_text

#: Longer integers stay text: reading them is slow, and Python refuses more than 4,300 digits.
_INTEGER_CHARS_MAX = 1000


def decode(payload: bytes | msgspec.Raw) -> Any:
    """Return JSON as plain Python objects that can be encoded again. Never raises.

    Of a name that an object repeats, the first counts, as in SQL. A number beyond a float, or an integer of over 1,000
    digits, becomes its text. A payload that is nested too deep becomes one text.
    """
    data = bytes(payload)
    try:
        value = msgspec.json.decode(data)
        if not isinstance(value, dict | list) or not json_text.may_repeat(data, msgspec.json.encode(value)):
            return value
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass  # the slower parser below may read it
    try:
        value = json.loads(
            json_text.without_halves(data).decode(),
            object_pairs_hook=json_text.first_of_each, parse_float=_float, parse_int=_integer, parse_constant=str,
        )  # fmt: skip
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
