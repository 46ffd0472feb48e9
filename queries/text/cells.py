"""Text in columns of a terminal: how wide it is, and cut to fit."""

from __future__ import annotations

import unicodedata


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, columns: int) -> str:
    """Return a text that takes so many columns at most; where something is left out, it ends in an ellipsis."""
    if width(text) <= columns:
        return text
    if columns < 1:
        return ""
    kept, used = [], 0
    for char in text:
        used += _width(char)
        if used > columns - 1:
            break
        kept.append(char)
    return "".join(kept) + "…"


def left(text: str, columns: int) -> str:
    """Return a text cut or filled up to so many columns."""
    text = cut(text, columns)
    return text + " " * (columns - width(text))


def right(text: str, columns: int) -> str:
    """Return a text cut or filled up from the left to so many columns."""
    text = cut(text, columns)
    return " " * (columns - width(text)) + text
