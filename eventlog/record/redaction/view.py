"""Views of a payload without escapes, in which every byte keeps its offset.

A secret in a payload may be in JSON inside of JSON, in HTML or in a URL: the quote before it is then `\\"`,
`\\\\\\"`, `&quot;` or `%22`, and the line before it ends in `\\n`. In a view each of these is one character, with
fillers before it that make up for its length, so that a match in the view has the same offset in the
payload. A filler is a byte that JSON never contains.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from eventlog.record.redaction.lazy_patterns import lazily_compiled

#: Replaces the bytes of an escape before its last one; replaces a character beyond ASCII.
FILLER, OTHER = b"\x01", b"\x02"

_UNICODE = lazily_compiled(rb"\\++u([0-9A-Fa-f]{4})")
_HTML = lazily_compiled(rb"&(?:quot|apos|amp|lt|gt|nbsp|#(?:[0-9]{1,3}|x[0-9A-Fa-f]{1,2}));")
_PERCENT = lazily_compiled(rb"%(?:25){0,3}([0-7][0-9A-Fa-f])")
_NAMED = {b"quot": b'"', b"apos": b"'", b"amp": b"&", b"lt": b"<", b"gt": b">", b"nbsp": b" "}
_ESCAPED = {b"\\n": b"\x01\n", b"\\r": b"\x01\r", b"\\t": b"\x01\t", b"\\b": b"\x01 ", b"\\f": b"\x01 "}
_NO_BACKSLASH = bytes.maketrans(b"\\", FILLER)


class View(NamedTuple):
    """A payload, and its text without escapes; both have the same length."""

    payload: bytes
    text: bytes
    #: The same in lower case.
    lower: bytes


def views(payload: bytes) -> list[View]:
    """Return the view of a payload and, if it has percent encoding, another one without it."""
    text = payload
    if b"\\" in text:
        text = _UNICODE.sub(lambda match: _padded(match, int(match[1], 16)), text) if b"\\u" in text else text
        for escape, meaning in _ESCAPED.items():
            text = text.replace(escape, meaning)
        text = text.translate(_NO_BACKSLASH)
    if b"&" in text:
        text = _HTML.sub(lambda match: _padded(match, _code(match[0][1:-1])), text)
    result = [View(payload, text, text.lower())]
    if b"%" in text:
        decoded = _PERCENT.sub(lambda match: _padded(match, int(match[1], 16)), text)
        if decoded != text:
            result.append(View(payload, decoded, decoded.lower()))
    return result


def _code(name: bytes) -> int:
    if name in _NAMED:
        return _NAMED[name][0]
    return int(name, 0) if name[1:2] in b"xX" else int(name[1:])


def _padded(match: re.Match[bytes], code: int) -> bytes:
    """Return the character of an escape, after fillers that make up for its length."""
    if code == 0x5C:
        last = FILLER
    elif code in (0x09, 0x0A, 0x0D) or 0x20 <= code < 0x7F:
        last = bytes((code,))
    else:
        last = OTHER
    return FILLER * (match.end() - match.start() - 1) + last


def escape_before(view: View, start: int) -> int:
    """Return the offset of the escape whose last byte is at `start - 1`; `start - 1` for a plain byte."""
    at = start - 1
    while at > 0 and view.text[at - 1 : at] == FILLER:
        at -= 1
    return at
