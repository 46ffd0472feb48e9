"""JSON as text: two things that parsers resolve each in their own way, resolved in one.

Repeated names
    `{"a":1,"a":2}` is 1 for DuckDB and 2 for Python. Here, too, the first counts: what SQL says of a row, Python says,
    and the importer that made it.

Half characters
    JavaScript cuts texts inside of a pair of surrogates; then JSON has one of them alone, as `\\ud83d`. No parser takes
    that. U+FFFD stands in its place: it costs the character, not the record.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u(?P<half>[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
#: Takes numbers of any length.
_python = json.JSONDecoder(parse_int=str, parse_float=str)
_SPACE = re.compile(r"[ \t\r\n]*")


def once(data: bytes) -> bytes:
    """Return a JSON object with each of its own names once, the first time. Raises ValueError, RecursionError."""
    found, is_once = _members(data)
    return data if is_once else msgspec.json.encode(found)


def members(data: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """Return the members of a JSON object, of a repeated one the first. Raises ValueError, RecursionError."""
    return _members(bytes(data))[0]


def _members(data: bytes) -> tuple[dict[str, msgspec.Raw], bool]:
    """Return the members of a JSON object, of a repeated one the first, and whether none is repeated."""
    found = _fields.decode(data)
    encoded = msgspec.json.encode(found)
    if len(encoded) == len(data) or not may_repeat(data, encoded):
        return found, True
    return _first_members(data.decode()), False


def may_repeat(data: bytes, encoded: bytes) -> bool:
    """Say whether an object in `data` may repeat a name; `encoded` is what a parser made of it, as JSON again.

    Each name has two quotation marks, so one that was dropped is missed, unless an escape became one.
    """
    return b"\\u0022" in data or _quotes(data) != _quotes(encoded)


def _quotes(data: bytes) -> int:
    return len(data) - len(data.replace(b'"', b""))  # ten times as fast as `count`


def _first_members(text: str) -> dict[str, msgspec.Raw]:
    """Take a valid JSON object apart, value by value, as they stand."""
    found: dict[str, msgspec.Raw] = {}
    position = _behind_space(text, text.index("{") + 1)
    while text[position] != "}":
        name, position = _python.raw_decode(text, position)
        start = _behind_space(text, text.index(":", position) + 1)
        _, position = _python.raw_decode(text, start)
        found.setdefault(name, msgspec.Raw(text[start:position].encode()))
        position = _behind_space(text, position)
        if text[position] == ",":
            position = _behind_space(text, position + 1)
    return found


def _behind_space(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    return position if space is None else space.end()


def first_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of its members, of a repeated one the first; for Python's own parser."""
    return {**dict(pairs), **dict(reversed(pairs))}


def whole(text: str) -> str:
    """Return a text with U+FFFD in place of each half character; halves that stand together become one character."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def may_have_halves(data: bytes) -> bool:
    """Say whether JSON may have half characters, in escapes."""
    return b"\\u" in data and (b"\\ud" in data or b"\\uD" in data)


def without_halves(data: bytes) -> bytes:
    """Return JSON with U+FFFD in place of each half character, as an escape or as bytes. Raises UnicodeDecodeError."""
    try:
        data.decode()
    except UnicodeDecodeError:
        data = whole(data.decode("utf-8", "surrogatepass")).encode()
    return _ESCAPE.sub(lambda match: rb"\ufffd" if match["half"] else match[0], data)
