"""Payloads as plain Python objects, whatever a log may hold: a line that was accepted can always be read."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

#: Of an integer. Python itself refuses to read one of more than 4,300, as text is read into one slowly.
_INTEGER_CHARS_MAX = 1000


def decode(payload: bytes | msgspec.Raw) -> Any:
    """Return JSON as plain Python objects, which can be encoded again; this never fails.

    A number beyond a float, or an integer of very many digits, is given as its text. What is nested too deep to be
    read, or holds half of a surrogate pair, is given as text as a whole.
    """
    data = bytes(payload)
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError):
        pass  # it is read more slowly, below
    try:
        found = json.loads(data, parse_float=_float, parse_int=_integer, parse_constant=str)
        msgspec.json.encode(found)
    except (ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return data.decode(errors="replace")
    return found


def fields(payload: bytes | msgspec.Raw) -> dict[str, Any]:
    """Return a payload's fields; of one that can be given as text only, that under the name `payload`."""
    found = decode(payload)
    return found if isinstance(found, dict) else {"payload": found}


def _float(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


def _integer(text: str) -> int | str:
    return int(text) if len(text) <= _INTEGER_CHARS_MAX else text
