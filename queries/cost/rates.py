"""Rates: the prices of a kind of call, and when and for how much input they are valid. Data and arithmetic only.

A `Key` is what a price depends on. The rates of a key never overlap: a call has one of them or none. All amounts are
decimals; nothing is rounded, and nothing is a float.

A kind of tokens without a rate of its own is priced like the more general kind, as providers bill and as genai-prices
counts: a cache write for 1 hour like one for 5 minutes, cached input like input, reasoning like other output. A call
with input or output tokens that have no rate is unpriced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal, localcontext

import msgspec

#: A day in microseconds, the unit of hours of the day here.
DAY_US = 86_400_000_000
#: A call with so many tokens or more is a mistake in the log, and unpriced.
TOKENS_END = 10**12
#: The input of a call, all kinds together, is less.
INPUT_END = 4 * TOKENS_END
#: A rate in USD per million tokens is less; sums of costs could overflow their type otherwise.
RATE_END = Decimal(10) ** 6
#: Decimal places of a rate per million tokens. Costs then have 18.
RATE_SCALE = 12

_FINEST = Decimal(1).scaleb(-RATE_SCALE)
#: So many digits that no product or sum is rounded.
_DIGITS = 100

STANDARD_TIERS = frozenset({"", "standard", "default", "auto", "on_demand"})
#: Values of `inference_geo` that change no price: anywhere, or not told. Real transcripts have the last two.
GLOBAL_GEOS = frozenset({"global", "", "not_available"})


class Key(msgspec.Struct, frozen=True, order=True):
    """What a price depends on, as in `llm_calls`. `workspace` is None unless the workspace has own prices."""

    workspace: str | None
    provider: str | None
    model: str | None
    service_tier: str | None
    inference_geo: str | None = None


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """Prices in USD per million tokens (`request`: per call, `web_search`: per search), and the calls that have them.

    These are the calls from `valid_from` to `valid_until` (UTC without a zone; None is open), from `hour_from_us` to
    `hour_until_us` of the UTC day, with `input_from` to `input_until` input tokens, cached or not. Each start is
    included, each end is not. `matched`, `version` and `band` say where the price is from, such as
    "anthropic:claude-opus-4-5", "genai-prices 0.2.3" and "standard".
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
    web_search: Decimal | None = None

    def holds(self, at: datetime, input_tokens: int) -> bool:
        """Whether a call at this time (UTC without a zone), with so many input tokens, has this rate."""
        hour_us = ((at.hour * 60 + at.minute) * 60 + at.second) * 1_000_000 + at.microsecond
        return (
            self.holds_at(at)
            and self.hour_from_us <= hour_us < self.hour_until_us
            and self.input_from <= input_tokens < self.input_until
        )

    def holds_at(self, at: datetime) -> bool:
        """Whether the rate is in force at this time, for calls at some hour of the day with some amount of input."""
        return (self.valid_from is None or self.valid_from <= at) and (
            self.valid_until is None or at < self.valid_until
        )

    def cost(self, tokens: Mapping[str, int]) -> Decimal | None:
        """Return the cost of a call in USD; None if it has tokens, or web searches, without a price.

        `tokens` are named as in `llm_calls`, such as `{"output_tokens": 130, "web_searches": 2}`; missing kinds count
        as 0.
        """
        output = tokens.get("output_tokens", 0)
        reasoning = max(min(tokens.get("reasoning_tokens", 0), output), 0)
        parts = (
            (tokens.get("uncached_input_tokens", 0), self.input),
            (tokens.get("cache_read_tokens", 0), self.cache_read),
            (tokens.get("cache_write_5m_tokens", 0), self.cache_write_5m),
            (tokens.get("cache_write_1h_tokens", 0), self.cache_write_1h),
            (output - reasoning, self.output),
            (reasoning, self.reasoning),
            (tokens.get("web_searches", 0), None if self.web_search is None else self.web_search.scaleb(6)),
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
    """Return the name of a service tier for comparison; every name of the standard tier becomes `standard`."""
    name = (service_tier or "").strip().casefold()
    return "standard" if name in STANDARD_TIERS else name


def geo_name(inference_geo: str | None) -> str:
    """Return the name of the place of inference for comparison, as "us"; where it changes no price, `global`."""
    name = (inference_geo or "").strip().casefold()
    return "global" if name in GLOBAL_GEOS else name


def band_name(tier: str | None, geo: str | None, over: str = "", hours: str = "") -> str:
    """Return what sets a price apart from the plain one: "batch, over 200,000 input tokens"; else "standard"."""
    place = f"inference in {geo}" if geo and geo != "global" else ""
    return ", ".join(filter(None, ("" if tier == "standard" else tier, place, over, hours))) or "standard"


def rate_of(by_kind: dict[str, Decimal | None], *, matched: str, version: str, band: str) -> Rate:
    """Return a rate from prices by kind of tokens; kinds without a price get that of the more general kind."""
    write = _first(by_kind.get("cache_write_5m"), by_kind.get("input"))
    return Rate(
        matched=matched,
        version=version,
        band=band,
        input=by_kind.get("input"),
        cache_read=_first(by_kind.get("cache_read"), by_kind.get("input")),
        cache_write_5m=write,
        cache_write_1h=_first(by_kind.get("cache_write_1h"), write),
        output=by_kind.get("output"),
        reasoning=_first(by_kind.get("reasoning"), by_kind.get("output")),
        request=by_kind.get("request") or Decimal(0),
        web_search=by_kind.get("web_search"),
    )


def _first(*amounts: Decimal | None) -> Decimal | None:
    return next((amount for amount in amounts if amount is not None), None)


def exact(rate: Decimal) -> Decimal | None:
    """Return a price per million tokens in its normal form; None if it has too many decimals or is out of range.

    One number has many forms (`1.50`, `0e-9999999`, a 1 and a thousand zeros). The normal form is never rounded later,
    nor written out with a huge exponent.
    """
    if not rate.is_finite() or not 0 <= rate < RATE_END:
        return None
    rounded = abs(rate.quantize(_FINEST))
    if rounded != rate:
        return None
    return Decimal(format(rounded, "f").rstrip("0").rstrip("."))


def merged(rates: Iterable[Rate]) -> list[Rate]:
    """Join consecutive rates that differ only in their time."""
    joined: list[Rate] = []
    for rate in sorted(rates, key=lambda rate: (rate.input_from, rate.hour_from_us, rate.valid_from or datetime.min)):
        before = joined[-1] if joined else None
        if (
            before is not None
            and before.valid_until == rate.valid_from is not None
            and msgspec.structs.replace(before, valid_from=rate.valid_from, valid_until=rate.valid_until) == rate
        ):
            joined[-1] = msgspec.structs.replace(before, valid_until=rate.valid_until)
        else:
            joined.append(rate)
    return joined
