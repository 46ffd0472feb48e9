"""Numbers as people read them."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, localcontext

from eventlog.cli.text import percent

#: A cost has 38 digits at most, and a share of a budget is a million times as much.
_DIGITS = 60
_ONE = Decimal(1)
#: Amounts are rounded to these: from a dollar on, and below. Still smaller ones have up to nine decimals.
_CENT, _SMALL_USD, _LEAST_USD = Decimal("0.01"), Decimal("0.0001"), Decimal("0.000000001")


def size(count: int) -> str:
    """Return a number of bytes in a unit that people read: `512 B`, `1.5 KiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} TiB"


def usd(amount: Decimal | None) -> str:
    """Return an amount of money in cents, below a dollar with two more digits: `$12.50`, `$0.0312`. Halves go up.

    None is a dash, which is not the same as `$0.00`; and what is not zero never reads as zero: `$0.000012`.
    """
    if amount is None:
        return "–"
    sign, size_ = ("-", -amount) if amount < 0 else ("", amount)
    if 0 < size_ < _SMALL_USD:
        if size_ < _LEAST_USD:
            return f"{sign}under ${plain(_LEAST_USD)}"
        return f"{sign}${plain(rounded(size_, _LEAST_USD))}"
    return f"{sign}${rounded(size_, _CENT if size_ >= 1 or not size_ else _SMALL_USD):,}"


def tokens(count: int) -> str:
    """Return a count of tokens, short: `950`, `1.2k`, `3.4M`."""
    value = float(count)
    for unit in ("", "k", "M"):
        if abs(value) < 1000:
            return f"{value:,.1f}{unit}" if unit else f"{count:,}"
        value /= 1000
    return f"{value:,.1f}G"


def spent(amount: Decimal | None, unpriced: int) -> str:
    """Return what calls cost, with a `+` where some of them have no price, which are not in it: `$0.0113+`."""
    return usd(amount) + ("+" if unpriced and amount is not None else "")


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


#: Units of ages in seconds, and from what age on they are used.
_AGES = (("w", 604_800, 28 * 86_400), ("d", 86_400, 86_400), ("h", 3600, 3600), ("m", 60, 60), ("s", 1, 0))


def age(seconds: float) -> str:
    """Return how long ago something was, in one unit that `--since` takes as well: `42s`, `5m`, `3h`, `12d`, `40w`.

    What is dated ahead of the clock is `0s` old.
    """
    unit, unit_s = _unit_of_age(seconds)
    return f"{max(int(seconds), 0) // unit_s:,}{unit}"


def same_age_s(seconds: float) -> float:
    """Return for how many seconds `age` stays the same: each unit begins with a multiple of the one below."""
    _, unit_s = _unit_of_age(seconds)
    return (max(int(seconds), 0) // unit_s + 1) * unit_s - seconds


def _unit_of_age(seconds: float) -> tuple[str, int]:
    return next((unit, unit_s) for unit, unit_s, least_s in _AGES if int(max(seconds, 0)) >= least_s)


# -- exact texts, for alert rules and the events that they write --------------------------------


def plain(amount: Decimal) -> str:
    """Return an amount without an exponent and without trailing zeros: `12.5`."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def rounded(amount: Decimal, step: Decimal) -> Decimal:
    """Round an amount of up to 60 digits to a decimal place, such as `Decimal("0.01")`, halves away from zero."""
    with localcontext(prec=_DIGITS):
        return amount.quantize(step, rounding=ROUND_HALF_UP)


def percentage(share: Decimal, of: Decimal = _ONE) -> str:
    """Return a share as a percentage (see `text.percent`): `20.0%` for 0.2, and for 2 of 10."""
    (part, per_part), (whole, per_whole) = share.as_integer_ratio(), of.as_integer_ratio()
    return percent(part * per_whole, whole * per_part)


def as_option(seconds: float) -> str:
    """Return a duration in its largest whole unit, as options take it: `90s`, `15m`, `2h`, `7d`."""
    for unit, unit_s in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= unit_s and seconds % unit_s == 0:
            return f"{seconds / unit_s:.0f}{unit}"
    return f"{seconds:g}s"
