"""Making text harmless for a terminal, and for a program behind a pipe. Needs no click."""

from __future__ import annotations

import re

#: Not printable by themselves, and still no control characters: joiners, no-break spaces, newlines, tabs.
_HARMLESS = frozenset("\u200c\u200d\u00a0\u202f\u3000\n\t")
#: C1 control characters, bidirectional controls, and line separators.
_NOT_ASCII = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def printable(text: str) -> str:
    """Return text on one line, with the characters replaced that could control the reader's terminal.

    These are C0 and C1 control characters, bidirectional controls and line separators; letter joiners stay.
    """
    return printable_lines(text.replace("\n", " ").replace("\t", " "))


def printable_lines(text: str) -> str:
    """Like `printable`, for text of several lines."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in _HARMLESS else "\N{REPLACEMENT CHARACTER}" for char in text)


def harmless_json(data: bytes) -> bytes:
    """Return JSON with its control characters beyond ASCII escaped. Invalid UTF-8 stays as it is."""
    if data.isascii():
        return data
    text = data.decode(errors="surrogateescape")
    return _NOT_ASCII.sub(_escaped, text).encode(errors="surrogateescape")


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a count and its noun: `1 segment`, `1,200 segments`; `plural` is for nouns that do not end in an s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
