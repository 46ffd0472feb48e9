"""Bars of block characters: one in a width, one along a scale, a row of small ones."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_SPARKS = "▁▂▃▄▅▆▇█"
_SPARK_COLUMNS = 30


def between(start: float, end: float, columns: int) -> str:
    """Return a bar from one part of a width to another (0 to 1), filled up to `columns`; it is never quite empty.

    Ends are drawn in eighths of a column; beginnings, for which there are no such characters, in whole ones.
    """
    first = min(int(start * columns), columns - 1)
    eighths = max(round((end * columns - first) * 8), 1)
    drawn = " " * first + _block(min(eighths, (columns - first) * 8))
    return drawn + " " * (columns - len(drawn))


def length(part: Decimal, columns: int) -> str:
    """Return a bar that takes a part (0 to 1) of a width: `██▌`. Above 0, it is an eighth of a column at least."""
    eighths = round(part * columns * 8)
    return _block(max(eighths, 1) if part > 0 else eighths)


def _block(eighths: int) -> str:
    full, rest = divmod(eighths, 8)
    return "█" * full + (_EIGHTHS[rest] if rest else "")


def spark(series: Sequence[int]) -> str:
    """Return numbers as a row of small bars, at most 30, the largest of them full: `▁▄█`."""
    every = max(-(-len(series) // _SPARK_COLUMNS), 1)
    drawn = [max(series[start : start + every]) for start in range(0, len(series), every)]
    top = max(drawn, default=0)
    return "".join(_SPARKS[min(value * len(_SPARKS) // (top + 1), len(_SPARKS) - 1)] for value in drawn)
