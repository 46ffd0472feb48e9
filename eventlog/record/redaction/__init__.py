"""Secrets are taken out of a payload before it is written.

    payload → may there be one? → where? → `[redacted:<kind>]` in its place

This works on the JSON bytes of a payload, since that is what goes to disk. Nearly all payloads hold nothing, which a
first look settles (`look`). Else the payload is searched in a view of it in which no escapes are left (`view`):

- by looks: vendors' tokens (`tokens`), schemes of HTTP, URLs and more (`shapes`), private keys (`keys`);
- by the name in front: of a field, a variable, a header, an option (`names`, `fields`);
- on command lines of programs whose options have no telling names (`commands`).

What is replaced is always a part of a text: JSON stays JSON of the same shape, a text stays a text, numbers and lists
stay, and doing it again changes nothing.

No input makes these expressions try the same bytes over and over: what repeats is possessive, or bounded, or can only
begin where nothing else does.
"""

from __future__ import annotations

from eventlog.record.redaction import commands, fields, keys, shapes
from eventlog.record.redaction.custom import Redactor, is_withheld, redact_with, withheld
from eventlog.record.redaction.prefilter import may_hold_secrets
from eventlog.record.redaction.view import views

__all__ = ["Redactor", "is_withheld", "redact", "redact_with", "withheld"]

_ROUNDS_MAX = 8
_FINDERS = (keys.spans, shapes.spans, fields.spans, commands.spans)


def redact(payload: bytes) -> bytes:
    """Return a JSON payload with each known secret replaced by `[redacted:<kind>]`."""
    if not may_hold_secrets(payload):
        return payload
    for _ in range(_ROUNDS_MAX):
        before, payload = payload, _redacted(payload)
        if payload == before:  # nearly always the second time: a mark may set free what stood right behind a secret
            break
    return payload


def _redacted(payload: bytes) -> bytes:
    parts: list[bytes] = []
    done = 0
    for start, end, kind in sorted(span for view in views(payload) for find in _FINDERS for span in find(view)):
        if start >= done:
            parts += payload[done:start], b"[redacted:%b]" % kind
        done = max(done, end)  # of two that overlap, one mark stands for both
    return b"".join([*parts, payload[done:]]) if parts else payload
