"""Text for a terminal, or for a program behind a pipe: harmless to both. Needs no click."""

from __future__ import annotations

import re

#: No control characters, though not printable by themselves: joiners, spaces that do not break, ends of lines, tabs.
_HARMLESS = frozenset("\u200c\u200d\u00a0\u202f\u3000\n\t")
#: C1, what turns the direction of text, and separators of lines. Surrogates stand for bytes that are no UTF-8.
_NOT_ASCII = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def printable(text: str) -> str:
    """Return text that cannot drive the reader's terminal: control characters replaced, on one line.

    Those are C0 and C1, what turns the direction of text, and separators of lines; joiners of letters stay.
    """
    return printable_lines(text.replace("\n", " ").replace("\t", " "))


def printable_lines(text: str) -> str:
    """Return `printable` text that may have several lines."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in _HARMLESS else "\N{REPLACEMENT CHARACTER}" for char in text)


def harmless_json(data: bytes) -> bytes:
    """Return the same JSON with control characters beyond ASCII escaped. Invalid UTF-8 stays."""
    if data.isascii():
        return data
    text = data.decode(errors="surrogateescape")
    return _NOT_ASCII.sub(_escaped, text).encode(errors="surrogateescape")


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a count and its noun: `1 segment`, `1,200 segments`; `plural` is for nouns that do not end in an s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
