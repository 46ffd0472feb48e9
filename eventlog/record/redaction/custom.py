"""Redaction by the user's own function."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import msgspec

from eventlog.format import envelope

#: Takes the event type and the payload; returns the payload to record.
Redactor = Callable[[str, dict[str, Any]], dict[str, Any]]
#: A redactor, or a signal handler during it, may emit events, which are redacted too: up to this depth.
_NESTED_MAX = 3


class _Depth(threading.local):
    value = 0


_depth = _Depth()


def redact_with(redactor: Redactor, event_type: str, payload: bytes) -> bytes:
    """Apply a user's redactor to a payload. Raises KeyboardInterrupt and SystemExit only.

    If it raises, or returns something that is no payload, the content is replaced by the reason (`withheld`):
    content that was to be redacted must not be recorded, and the event must not be lost.
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
    except Exception as error:  # noqa: BLE001 - a redactor raises anything; its message may contain the secret
        return withheld(f"redactor failed: {type(error).__name__}")
    finally:
        _depth.value -= 1


def is_withheld(payload: bytes) -> bool:
    """Say whether a payload was made by `withheld`."""
    return payload.startswith(b'{"redacted":"')


def withheld(reason: str) -> bytes:
    """Return the payload of an event whose content is not recorded: {"redacted": reason}."""
    return msgspec.json.encode({"redacted": reason})
