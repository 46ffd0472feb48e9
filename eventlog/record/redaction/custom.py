"""Redaction by a function of the user's."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import msgspec

from eventlog.format import envelope

#: A user's own function: takes the event type and the payload, and returns the payload to be recorded.
Redactor = Callable[[str, dict[str, Any]], dict[str, Any]]
#: A redactor may emit, and a signal may come while it runs; but it may not go on like that for ever.
_NESTED_MAX = 3


class _Depth(threading.local):
    value = 0


_depth = _Depth()


def redact_with(redactor: Redactor, event_type: str, payload: bytes) -> bytes:
    """Return what a user's redactor makes of a payload.

    Where it fails, or returns what is no payload, all of the content is withheld, and the payload
    says so: content that was to be redacted must not be recorded, and the event must not be lost.
    """
    if _depth.value >= _NESTED_MAX:
        return withheld("redactor emits events that it is asked to redact")
    _depth.value += 1
    try:
        answer = redactor(event_type, msgspec.json.decode(payload, type=dict[str, Any]))
        if not isinstance(answer, dict):
            return withheld(f"redactor returned {type(answer).__name__}, not dict")
        data = envelope.payload_json(answer)
        envelope.check_json(data)
        return data
    except Exception as error:  # noqa: BLE001 - it is not known what it may raise; the text may hold what was to be hidden
        return withheld(f"redactor failed: {type(error).__name__}")
    finally:
        _depth.value -= 1


def is_withheld(payload: bytes) -> bool:
    """Say whether a payload is one of `withheld`."""
    return payload.startswith(b'{"redacted":"')


def withheld(reason: str) -> bytes:
    """Return the payload of an event whose content is not recorded."""
    return msgspec.json.encode({"redacted": reason})
