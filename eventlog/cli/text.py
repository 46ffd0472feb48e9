"""Text for people: harmless for a terminal and for a program behind a pipe; counts and percentages. Needs no click."""

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


def percent(part: int, whole: int) -> str:
    """Return a share as a percentage: `31.7%`, halves up; below 0.1% with one digit that is not zero: `0.02%`.

    It reads as 0 or 100 only where it is exactly that: 1,999 of 2,000 is `99.9%`. `part` is 0 or more, `whole` more.
    """
    places = 1
    while 0 < part * 10 ** (places + 2) < whole:
        places += 1
    scale: int = 10**places
    steps = (200 * part * scale + whole) // (2 * whole)
    if steps == 100 * scale and part != whole:
        steps += -1 if part < whole else 1
    full, rest = divmod(steps, scale)
    decimals = f"{rest:0{places}}"
    return f"{full:,}.{decimals if places == 1 else decimals.rstrip('0')}%"
