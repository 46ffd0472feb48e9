"""Text in a terminal: how many columns it takes, and cut, folded or filled to fit."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

_JOINER, _AS_EMOJI = "\u200d", "\ufe0f"


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes: 2 for `日`, 0 for a combining accent, 2 for `👩‍🚀`."""
    return len(text) if text.isascii() else sum(columns for _, columns in _measured(text))


def _measured(text: str) -> Iterator[tuple[str, int]]:
    """Yield each character with the columns that it adds to those before it."""
    before = last = ""
    for char in text:
        if char == _AS_EMOJI:
            # ❤ takes one column, and two as an emoji.
            columns = int(_width(last) == 1 and _is_symbol(last)) if last else 0
            last = ""
        elif before == _JOINER and _is_symbol(char):
            columns = 0  # a part of the emoji before; letters that are joined stand side by side
        else:
            columns = _width(char)
            last = char if columns else last
        before = char
        yield char, columns


def _width(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf") or _is_inner(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _is_inner(char: str) -> bool:
    """Say whether a character is drawn into the one before: vowels and ends of Hangul syllables, skin tones."""
    return "\u1160" <= char <= "\u11ff" or "\U0001f3fb" <= char <= "\U0001f3ff"


def _is_symbol(char: str) -> bool:
    """Say whether a character may be an emoji or a part of one; letters of flags are not."""
    return unicodedata.category(char) in ("So", "Sm") and not "\U0001f1e6" <= char <= "\U0001f1ff"


def cut(text: str, columns: int) -> str:
    """Return a text of at most `columns` columns; one that was cut ends in an ellipsis."""
    if width(text) <= columns:
        return text
    if columns < 1:
        return ""
    return next(_pieces(text, columns - 1)) + "…"


def fold(text: str, columns: int) -> list[str]:
    """Return a text in lines of at most `columns` columns (2 or more); one empty line for an empty text."""
    return [text] if width(text) <= columns else list(_pieces(text, columns))


def wrapped(text: str, columns: int) -> list[str]:
    """Return a text in lines of at most `columns` columns (2 or more), broken at spaces where that is possible."""
    if width(text) <= columns:
        return [text]
    lines: list[str] = []
    line, used = "", 0
    for number, word in enumerate(text.split(" ")):
        taken = width(word)
        if number and used + 1 + taken <= columns:
            line, used = f"{line} {word}", used + 1 + taken
            continue
        if number:
            lines.append(line.rstrip())
        *full, line = fold(word, columns)
        lines += full
        used = width(line)
    return [*lines, line.rstrip()]


def _pieces(text: str, columns: int) -> Iterator[str]:
    start = used = 0
    for at, (_, more) in enumerate(_measured(text)):
        if used + more > columns:
            yield text[start:at]
            start, used = at, 0
        used += more
    yield text[start:]


def left(text: str, columns: int) -> str:
    """Return a text aligned left: cut or filled up to `columns` columns."""
    text = cut(text, columns)
    return text + " " * (columns - width(text))


def right(text: str, columns: int) -> str:
    """Return a text aligned right: cut or filled up to `columns` columns."""
    text = cut(text, columns)
    return " " * (columns - width(text)) + text
