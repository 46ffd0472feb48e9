"""Numbers as people read them."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, localcontext


def size(count: int) -> str:
    """Return bytes in a unit that people read."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} TiB"


def usd(amount: Decimal | None) -> str:
    """Return an amount of money as people read it: in cents, and more exactly where it is less than a dollar.

    No amount is a dash, which is not the same as $0.00; and what is not nothing never reads as nothing.
    """
    if amount is None:
        return "–"
    sign, size_ = ("-", -amount) if amount < 0 else ("", amount)
    if 0 < size_ < Decimal("0.0001"):
        return f"{sign}under $0.0001"
    places = Decimal("0.01") if size_ >= 1 or not size_ else Decimal("0.0001")
    with localcontext(prec=50):
        return f"{sign}${size_.quantize(places, rounding=ROUND_HALF_UP):,}"


def tokens(count: int) -> str:
    """Return a count of tokens as people read it."""
    value = float(count)
    for unit in ("", "k", "M"):
        if abs(value) < 1000:
            return f"{value:,.1f}{unit}" if unit else f"{count:,}"
        value /= 1000
    return f"{value:,.1f}G"


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
