"""Text in a terminal: how many columns it takes, and cut or filled to fit."""

from __future__ import annotations

import unicodedata


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes: 2 for `日`, 0 for a combining accent."""
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, columns: int) -> str:
    """Return a text of at most `columns` columns; one that was cut ends in an ellipsis."""
    if width(text) <= columns:
        return text
    if columns < 1:
        return ""
    chars, used = [], 0
    for char in text:
        used += _width(char)
        if used > columns - 1:
            break
        chars.append(char)
    return "".join(chars) + "…"


def left(text: str, columns: int) -> str:
    """Return a text aligned left: cut or filled up to `columns` columns."""
    text = cut(text, columns)
    return text + " " * (columns - width(text))


def right(text: str, columns: int) -> str:
    """Return a text aligned right: cut or filled up to `columns` columns."""
    text = cut(text, columns)
    return " " * (columns - width(text)) + text
