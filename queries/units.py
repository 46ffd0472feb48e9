"""Numbers as people read them."""

from __future__ import annotations


def size(count: int) -> str:
    """Return bytes in a unit that people read."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} TiB"
