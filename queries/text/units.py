"""Numbers as people read them."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, localcontext


def size(count: int) -> str:
    """Return a number of bytes in a unit that people read: `512 B`, `1.5 KiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} TiB"


def usd(amount: Decimal | None) -> str:
    """Return an amount of money in cents, below a dollar with two more digits: `$12.50`, `$0.0312`.

    None is a dash, which is not the same as `$0.00`; and what is not zero never reads as zero: `under $0.0001`.
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
    """Return a count of tokens, short: `950`, `1.2k`, `3.4M`."""
    value = float(count)
    for unit in ("", "k", "M"):
        if abs(value) < 1000:
            return f"{value:,.1f}{unit}" if unit else f"{count:,}"
        value /= 1000
    return f"{value:,.1f}G"


def duration(ms: float | None) -> str:
    """Return a duration in about three digits: `8.1 s`, `2 m 05 s`, `3 d 4 h`; "" for None."""
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


# -- exact texts, for alert rules and the events that they write --------------------------------

#: A cost has 38 digits at most, and a share of a budget is a million times as much.
_DIGITS = 60


def plain(amount: Decimal) -> str:
    """Return an amount without an exponent and without trailing zeros: `12.5`."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def rounded(amount: Decimal, places: str) -> Decimal:
    """Round an amount of up to 60 digits to decimal places, such as `"0.01"`."""
    with localcontext(prec=_DIGITS):
        return amount.quantize(Decimal(places))


def dollars(amount: Decimal) -> str:
    """Return an amount of money with its currency: `7.25 USD`; below a cent with up to nine decimals."""
    if amount and abs(amount) < Decimal("0.01"):
        return f"{plain(rounded(amount, '1e-9'))} USD"
    return f"{rounded(amount, '0.01'):,} USD"


def percent(share: Decimal) -> str:
    """Return a share of 1 as a percentage: `5 %` for 0.05."""
    return f"{plain(rounded(share * 100, '0.01'))} %"


def span(seconds: float) -> str:
    """Return a length of time in its largest whole unit, as options take it: `90s`, `15m`, `2h`, `7d`."""
    for unit, unit_s in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= unit_s and seconds % unit_s == 0:
            return f"{seconds / unit_s:.0f}{unit}"
    return f"{seconds:g}s"
