"""From samples to figures, and from figures to text."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def median(values: Sequence[float]) -> float:
    """Return the median; an error if there are no values."""
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of all values does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def in_words(value: float, unit: str) -> str:
    """Return a figure with three digits and a unit that fits: 0.0000034 s is 3.4 µs."""
    scales = {
        "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
        "B": ((1024.0**3, "GiB"), (1024.0**2, "MiB"), (1024.0, "KiB"), (1.0, "B")),
    }
    for size, name in scales.get(unit, ()):
        if value >= size:
            return f"{digits(value / size)} {name}"
    return figure(value, unit)


def figure(value: float, unit: str) -> str:
    """Return a number and its unit: `2.5 ×`, `0.633% of a core`."""
    return f"{digits(value)}{'' if unit.startswith('%') else ' '}{unit}".strip()


def digits(value: float) -> str:
    """Round to three significant digits, without an exponent: 1234.5 is 1,235 and 0.04567 is 0.0457."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
