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


def duration(ms: float | None) -> str:
    """Return a duration as people read it, in three digits or so; "" where it is not known."""
    if ms is None:
        return ""
    if ms < 0:
        return f"-{duration(-ms)}"
    if ms < 999.5:
        return f"{ms:.0f} ms" if ms >= 9.95 or not ms else f"{ms:.1f} ms"
    if ms < 59_950:
        return f"{ms / 1000:.1f} s"
    minutes, seconds = divmod(round(ms / 1000), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days:,} d {hours} h"
    return f"{hours} h {minutes:02} m" if hours else f"{minutes} m {seconds:02} s"
