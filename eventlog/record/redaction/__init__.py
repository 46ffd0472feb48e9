"""Redaction: replacing the secrets in a payload before it is written.

    payload → prefilter: may it hold one? → search → `[redacted:<kind>]` in its place

It works on the JSON bytes of a payload, which are what goes to disk. A fast check (`prefilter`) shows that most
payloads hold no secret. Any other payload is searched in a view without escapes (`view`):

- by shape: vendors' tokens (`tokens`), HTTP authorization schemes, URLs and more (`shapes`), private keys (`keys`);
- by the name in front: of a field, a variable, a header, an option (`names`, `fields`);
- on command lines of programs whose options have other names (`commands`).

Only parts of texts are replaced: JSON keeps its structure, a text stays a text, numbers and lists stay. Redacting
twice changes nothing (docs/decisions/0027-redaction-by-tables.md).

No input makes these expressions backtrack without bound: repetitions are possessive, or bounded, or can only begin
where nothing else matches.
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
    """Return a JSON payload with each recognized secret replaced by `[redacted:<kind>]`, say `[redacted:api_key]`."""
    if not may_hold_secrets(payload):
        return payload
    for _ in range(_ROUNDS_MAX):
        before, payload = payload, _redacted(payload)
        if payload == before:  # nearly always in the second round: a mark may uncover a secret right behind another
            break
    return payload


def _redacted(payload: bytes) -> bytes:
    parts: list[bytes] = []
    done = 0
    for start, end, kind in sorted(span for view in views(payload) for find in _FINDERS for span in find(view)):
        if start >= done:
            parts += payload[done:start], b"[redacted:%b]" % kind
        done = max(done, end)  # one mark replaces two secrets that overlap
    return b"".join([*parts, payload[done:]]) if parts else payload
