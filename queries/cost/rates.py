"""Rates: what a kind of call costs, in which time, at which hour, up to how much input. Pure data and arithmetic.

A `Key` is what a price depends on, and the rates of a key never overlap: a call finds one of them
or none. All amounts are decimals; nothing is rounded, and nothing is a float.

A kind of tokens without a rate of its own costs what the kind around it costs, which is how
providers bill and how genai-prices counts: a write for 1 hour like one for 5 minutes, cached input
like input, reasoning like other output. Input or output without a rate has no price: a call that
has such tokens is unpriced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal, localcontext

import msgspec

#: In microseconds, as hours of the day are given.
DAY_US = 86_400_000_000
#: More tokens than any call has; counts beyond it are a mistake in the log, and unpriced.
TOKENS_END = 10**12
#: All kinds of input together have fewer.
INPUT_END = 4 * TOKENS_END
#: USD per million tokens. Beyond it sums of costs could leave their type.
RATE_END = Decimal(10) ** 6
#: Decimals of a rate per million tokens that are carried. Costs then have 18.
RATE_SCALE = 12

_FINEST = Decimal(1).scaleb(-RATE_SCALE)
#: Digits enough that no product or sum of these is ever rounded.
_DIGITS = 100

STANDARD_TIERS = frozenset({"", "standard", "default", "auto", "on_demand"})


class Key(msgspec.Struct, frozen=True, order=True):
    """What a price depends on, as `llm_calls` has it. `workspace` only where that has prices of its own."""

    workspace: str | None
    provider: str | None
    model: str | None
    service_tier: str | None


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """Prices in USD per million tokens, and for which calls they hold.

    From `valid_from` on and before `valid_until` (UTC without a zone; None is open); from `hour_from_us`
    on and before `hour_until_us` of each UTC day; for calls whose input, cached or not, has
    `input_from` tokens at least and fewer than `input_until`.
    """

    matched: str
    version: str
    band: str
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    hour_from_us: int = 0
    hour_until_us: int = DAY_US
    input_from: int = 0
    input_until: int = INPUT_END
    input: Decimal | None = None
    cache_read: Decimal | None = None
    cache_write_5m: Decimal | None = None
    cache_write_1h: Decimal | None = None
    output: Decimal | None = None
    reasoning: Decimal | None = None
    request: Decimal = Decimal(0)

    def holds(self, at: datetime, input_tokens: int) -> bool:
        """Whether a call at a time (UTC without a zone) with so much input has this rate."""
        hour_us = ((at.hour * 60 + at.minute) * 60 + at.second) * 1_000_000 + at.microsecond
        return (
            self.holds_at(at)
            and self.hour_from_us <= hour_us < self.hour_until_us
            and self.input_from <= input_tokens < self.input_until
        )

    def holds_at(self, at: datetime) -> bool:
        """Whether this is in force at a time, at some hour and for some amount of input."""
        return (self.valid_from is None or self.valid_from <= at) and (
            self.valid_until is None or at < self.valid_until
        )

    def cost(self, tokens: Mapping[str, int]) -> Decimal | None:
        """Return what a call costs, in USD; None where it has tokens of a kind that has no price.

        `tokens` are named as in `llm_calls`; those that are not named are none.
        """
        output = tokens.get("output_tokens", 0)
        reasoning = min(tokens.get("reasoning_tokens", 0), output)
        parts = (
            (tokens.get("uncached_input_tokens", 0), self.input),
            (tokens.get("cache_read_tokens", 0), self.cache_read),
            (tokens.get("cache_write_5m_tokens", 0), self.cache_write_5m),
            (tokens.get("cache_write_1h_tokens", 0), self.cache_write_1h),
            (output - reasoning, self.output),
            (reasoning, self.reasoning),
        )
        with localcontext(prec=_DIGITS):
            total = self.request
            for count, rate in parts:
                if not 0 <= count < TOKENS_END or (count and rate is None):
                    return None
                if rate is not None:
                    total += (rate * count).scaleb(-6)
            return total


def tier_name(service_tier: str | None) -> str:
    """Return a service tier as it is compared: any name of the standard one is `standard`."""
    name = (service_tier or "").strip().casefold()
    return "standard" if name in STANDARD_TIERS else name


def rate_of(named: dict[str, Decimal | None], *, matched: str, version: str, band: str) -> Rate:
    """Return a rate in which the kinds that have no price of their own have that of the kind around them."""
    write = _first(named.get("cache_write_5m"), named.get("input"))
    return Rate(
        matched=matched,
        version=version,
        band=band,
        input=named.get("input"),
        cache_read=_first(named.get("cache_read"), named.get("input")),
        cache_write_5m=write,
        cache_write_1h=_first(named.get("cache_write_1h"), write),
        output=named.get("output"),
        reasoning=_first(named.get("reasoning"), named.get("output")),
        request=named.get("request") or Decimal(0),
    )


def _first(*amounts: Decimal | None) -> Decimal | None:
    return next((amount for amount in amounts if amount is not None), None)


def counted(rate: Decimal) -> Decimal | None:
    """Return a price per million tokens as it is counted with; None where that would not be exact, or is no price.

    As one number has many forms (`1.50`, `0e-9999999`, a 1 and a thousand zeros), it is brought into one, so that
    nothing after this ever rounds it or writes out its exponent.
    """
    if not rate.is_finite() or not 0 <= rate < RATE_END:
        return None
    carried = abs(rate.quantize(_FINEST))
    if carried != rate:
        return None
    return Decimal(format(carried, "f").rstrip("0").rstrip("."))


def merged(rates: Iterable[Rate]) -> list[Rate]:
    """Join what differs in nothing but the time in which it holds, and follows on each other."""
    whole: list[Rate] = []
    for rate in sorted(rates, key=lambda each: (each.input_from, each.hour_from_us, each.valid_from or datetime.min)):
        before = whole[-1] if whole else None
        if (
            before is not None
            and before.valid_until == rate.valid_from is not None
            and msgspec.structs.replace(before, valid_from=rate.valid_from, valid_until=rate.valid_until) == rate
        ):
            whole[-1] = msgspec.structs.replace(before, valid_until=rate.valid_until)
        else:
            whole.append(rate)
    return whole
