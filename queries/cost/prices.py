"""The rates of a kind of call: from the library genai-prices, or from `price_set` events, which take precedence.

The library comes with its prices, and never fetches newer ones here, so that an answer depends on the log and the
installed version only. Loading it takes a fifth of a second, so its answers are cached (see `price_cache`), and it is
loaded only for a name that is not in the cache. Costs are computed in SQL, so these rules of the library are
implemented here:

- A provider is found by its name or, if a call names none, by the name of the model (`indexer.views.providers`). The
  model is then looked up at that provider only. If several models match, the one with the longest match wins.
- A name that the provider's list does not have is tried in its plain forms: without `[1m]`, `@default`, the region of
  Bedrock, or the route before a slash. OpenRouter bills what the maker of a model does, so that a model which its own
  list lacks has the price of its maker (https://openrouter.ai/docs/faq: it "passes through the pricing of the
  underlying providers").
- Prices may start at a date, and may be valid at some hours of the UTC day only; the last valid one wins.
- The band is chosen by all input of a call, cached or not: above the threshold, all tokens have its rate.
- A service tier (`batch`, `flex`, `priority`, `fast`, …) has a price only if the library has one for it. Otherwise the
  call is unpriced: the standard price would be wrong by half or double.
- So it is with a place of inference. The library knows of none; the one known rule is Anthropic's (`_geo_factor`).
- The price of a web search is the library's. A call with searches that have no price is unpriced.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache, lru_cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from eventlog.errors import MissingExtra
from eventlog.format.timestamps import naive_utc
from eventlog.indexer.views import providers
from eventlog.indexer.views.providers import named_provider
from eventlog.queries.cost import rates
from eventlog.queries.cost.price_cache import Name, PriceCache, default_path
from eventlog.queries.cost.price_sets import SetPrice
from eventlog.queries.cost.rates import DAY_US, Key, Rate

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

#: Providers by their OpenTelemetry names that the library does not know, and its own names for them.
_PROVIDERS = {
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "gcp.gen_ai": "google",
    "x_ai": "x-ai",
}
_KINDS = {
    "input": ("input_mtok",),
    "cache_read": ("cache_read_mtok",),
    "cache_write_5m": ("cache_write_5m_mtok", "cache_write_mtok"),
    "cache_write_1h": ("cache_write_1h_mtok", "cache_write_mtok"),
    "output": ("output_mtok",),
    "reasoning": ("output_reasoning_mtok",),
}
#: A few of the library's rates have rounding errors of floating point (0.18000000000000002) or no end (a twelfth of a
#: dollar). They are rounded to the decimal places of rates; all others have six at most.
_FINEST = Decimal(1).scaleb(-rates.RATE_SCALE)

#: Anthropic bills inference that stays in the US, as `usage.inference_geo` says, at 1.1 times every rate of tokens, for
#: Opus 4.6 and later models; older ones have no such inference.
#: https://platform.claude.com/docs/en/build-with-claude/data-residency, and for "a 1.1x pricing multiplier applies"
#: https://docs.aws.amazon.com/claude-platform/latest/userguide/data-residency.html
_US_FACTOR = Decimal("1.1")
_US_SINCE = (4, 6)
_CLAUDE_VERSION = re.compile(r"claude-(?:[a-z]+-)*(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")

_SUFFIX = re.compile(r"(\[[^\]]*\]|@(default|latest))$")
_BEDROCK_REGION = re.compile(r"^([a-z]{2}(-gov)?|apac)\.(?=[a-z0-9]+\.)")

#: The library's name for "the part before the slash is the provider".
_ROUTED = "litellm"
_LIBRARY = "genai_prices"

Lookup = Callable[[Key], list[Rate]]


def price_of_call(
    model: str | None,
    provider: str | None,
    at: datetime,
    tokens: Mapping[str, int],
    service_tier: str | None = None,
    inference_geo: str | None = None,
    *,
    failed: bool = False,
) -> Decimal | None:
    """Return the cost of one call by the library's prices, in USD; None if it has no price.

    `tokens` are named as in `llm_calls`, such as `{"uncached_input_tokens": 812, "output_tokens": 64,
    "web_searches": 1}`. `at` without a zone is UTC. A call without tokens has a price only if it `failed`. Without the
    extra `prices` no call has a price. It is the rule of `llm_costs`, but for `price_set` events: only the index has
    them.
    """
    counts = {name: count or 0 for name, count in tokens.items()}
    cached = ("cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
    input_tokens = sum(counts.get(name, 0) for name in ("uncached_input_tokens", *cached))
    if not input_tokens + counts.get("output_tokens", 0) and not failed:
        return None
    if model is None and not any(counts.values()):
        return Decimal(0)
    try:
        candidates = library_rates(Key(None, provider, model, service_tier, inference_geo))
    except MissingExtra:
        return None
    return next((rate.cost(counts) for rate in candidates if rate.holds(naive_utc(at), input_tokens)), None)


def rates_for(key: Key, price_sets: Iterable[SetPrice], library: Lookup) -> list[Rate]:
    """Return the rates of a key; they do not overlap. Calls at other times have no price.

    `library` is `library_rates`, or a function that returns no rates if the library is not installed.
    """
    own = [price for price in price_sets if price.fits(key)]
    listed = library(key)
    changes: set[datetime] = set()
    for price in own:
        changes |= {price.effective_from, price.effective_until or price.effective_from}
    key_rates: list[Rate] = []
    for start, end in _periods(changes):
        in_force = [price for price in own if start is not None and price.holds_at(start)]
        if in_force:
            winner = max(in_force, key=SetPrice.rank)
            key_rates.append(_between(winner.rate, start, end))
        else:
            key_rates += [_between(rate, start, end) for rate in listed if _overlaps(rate, start, end)]
    return rates.merged(key_rates)


def _periods(changes: set[datetime]) -> Iterator[tuple[datetime | None, datetime | None]]:
    points = [None, *sorted(changes), None]
    return pairwise(points)


def _between(rate: Rate, start: datetime | None, end: datetime | None) -> Rate:
    starts = [moment for moment in (rate.valid_from, start) if moment is not None]
    ends = [moment for moment in (rate.valid_until, end) if moment is not None]
    return msgspec.structs.replace(rate, valid_from=max(starts, default=None), valid_until=min(ends, default=None))


def _overlaps(rate: Rate, start: datetime | None, end: datetime | None) -> bool:
    part = _between(rate, start, end)
    return part.valid_from is None or part.valid_until is None or part.valid_from < part.valid_until


# -- the library ---------------------------------------------------------------------------


def library_rates(key: Key) -> list[Rate]:
    """Return the library's rates for a key; its workspace does not matter. Raises MissingExtra without the library."""
    if key.model is None:
        return []
    geo = rates.geo_name(key.inference_geo)
    return list(_library_rates(key.provider, key.model, rates.tier_name(key.service_tier), geo))


def version() -> str:
    """Return the name and version of the library: "genai-prices 0.2.3". Raises MissingExtra without it."""
    try:
        import genai_prices
    except ModuleNotFoundError as error:
        raise _missing(error.name) from None
    return f"genai-prices {genai_prices.__version__}"


def require_library() -> None:
    """Raise MissingExtra if the library is not installed; it is not loaded."""
    if find_spec(_LIBRARY) is None:
        raise _missing(_LIBRARY)


def save_cache() -> None:
    """Save the library's answers to this process for the next one."""
    _cache().save()


def _missing(name: str | None) -> MissingExtra:
    return MissingExtra(f"the price list of models ({name} is missing)", "index")


@cache
def _cache() -> PriceCache:
    return PriceCache(default_path(), sources())


def sources() -> list[Path]:
    """Return the files that rates depend on: those of the library, its metadata, and these modules."""
    spec = find_spec(_LIBRARY)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    try:
        inside = [Path(entry.path) for folder in folders for entry in os.scandir(folder) if entry.is_file()]
        beside = [path for folder in folders for path in Path(folder).parent.glob(f"{_LIBRARY}-*.dist-info")]
    except OSError:  # not installed as files in a folder
        return []
    own = [Path(module) for module in (__file__, rates.__file__, providers.__file__)]
    return sorted([*inside, *beside, *own]) if inside else []


@lru_cache(maxsize=4096)
def _library_rates(provider: str | None, model: str, tier: str, geo: str) -> tuple[Rate, ...]:
    name = Name(provider, model, tier, geo)
    cached = _cache().get(name)
    if cached is None:
        cached = _look_up(provider, model, tier, geo)
        _cache().add(name, cached)
    return cached


def _look_up(provider: str | None, model: str, tier: str, geo: str) -> tuple[Rate, ...]:
    version_ = version()
    from genai_prices.data import providers as listed

    match = find_model(listed, provider, model)
    if match is None:
        return ()
    seller, owner, info = match
    factor = _geo_factor(seller.id, model, geo)
    if factor is None:
        return ()
    context = _context(tier) if seller is owner else None if _context(tier) else {}
    if context is None:
        return ()  # the tiers of the owner are not those of another provider that sells the same model
    found_rates: list[Rate] = []
    for start, end in _periods(set(_dates(info))):
        for hour_from_us, hour_until_us in _hours(info):
            moment = _moment(start, min(_dates(info), default=None), hour_from_us)
            if context and not _has_tier(info, context, moment):
                continue
            price = info.get_prices(moment, context)
            words = (tier, geo, _hour_text(hour_from_us, hour_until_us))
            found_rates += [
                msgspec.structs.replace(
                    rate, valid_from=start, valid_until=end, hour_from_us=hour_from_us, hour_until_us=hour_until_us
                )
                for rate in _bands(price, f"{owner.id}:{info.id}", version_, words, factor)
            ]
    return tuple(rates.merged(found_rates))


def _geo_factor(seller: str, model: str, geo: str) -> Decimal | None:
    """Return what inference in a place costs, as a factor of the plain rates; None if nobody has said."""
    if geo == "global":
        return Decimal(1)
    if (seller, geo) != ("anthropic", "us"):
        return None
    version_ = _CLAUDE_VERSION.search(model.casefold())
    if version_ and (int(version_[1]), int(version_[2] or 0)) < _US_SINCE:
        return Decimal(1)
    return _US_FACTOR


def find_model(listed: list[Provider], provider: str | None, model: str) -> tuple[Provider, Provider, ModelInfo] | None:
    """Return the seller of a model, the provider that lists it, and the model; None if the library does not have it."""
    from genai_prices.data_snapshot import DataSnapshot

    snapshot = DataSnapshot(providers=listed, from_auto_update=False)
    for name, form in _forms(provider, model):
        try:
            seller, info = snapshot.find_provider_model(form, None, name, None)
        except LookupError:
            continue
        owner = next((lister for lister in listed if any(info is each for each in lister.models)), seller)
        matching = [each for each in owner.models if each.is_match(form)]
        if len(matching) > 1:
            info = max(matching, key=lambda each: _matched_chars(each.match, form.lower()))
        return seller, owner, info
    return None


def _forms(provider: str | None, model: str) -> Iterator[tuple[str | None, str]]:
    """Yield what to ask the library for, in this order: providers by its names, and forms of a model's name."""
    named = (provider or "").strip() or named_provider(model)
    name = _PROVIDERS.get((named or "").casefold(), named)
    if name is None and "/" in model:
        name = _ROUTED
    yield name, model
    plain = model
    while plain != (plain := _SUFFIX.sub("", plain)):
        pass
    yield name, plain
    if named_provider(model) is None:
        return  # a name of no known form: what stands before its slash may be a part of it
    yield name, plain.replace("@", "-")
    for form in (plain.partition("/")[2], plain.rpartition("/")[2]):
        if form:
            yield name, form
    if name in ("aws", "aws.bedrock"):
        yield name, _BEDROCK_REGION.sub("", plain.rpartition("/")[2])
    if name == "openrouter" and ":" not in plain:  # `:free` and the like have prices of their own
        yield _ROUTED, plain.removeprefix("openrouter/")


def _matched_chars(clause: Any, text: str) -> int:
    """Return how many characters of a name a rule of the library matches; -1 if it does not match."""
    from genai_prices import types

    if not clause.is_match(text):
        return -1
    if isinstance(clause, types.ClauseOr):
        return max(_matched_chars(part, text) for part in clause.or_)
    if isinstance(clause, types.ClauseAnd):
        return sum(_matched_chars(part, text) for part in clause.and_)
    if isinstance(clause, types.ClauseRegex):
        match = re.search(clause.regex, text)
        return len(match[0]) if match else -1
    return len(next(iter(vars(clause).values())))


def _context(tier: str) -> dict[str, str]:
    """Return the library's context for a tier. Anthropic's fast mode is a `speed`, its batches are a `processing`."""
    if tier == "standard":
        return {}
    return {"service_tier": tier, "speed": tier, "processing": tier}


def _has_tier(info: ModelInfo, context: Mapping[str, str], moment: datetime) -> bool:
    return any(
        all(context.get(name) == value for name, value in variant.when.items())
        and (variant.constraint is None or variant.constraint.active(moment))
        for variant in info.price_variants or ()
    )


def _constraints(info: ModelInfo) -> Iterator[Any]:
    conditional = info.prices if isinstance(info.prices, list) else []
    for priced in (*conditional, *(info.price_variants or ())):
        if priced.constraint is not None:
            yield priced.constraint


def _dates(info: ModelInfo) -> Iterator[datetime]:
    """Yield the dates at which prices of a model start."""
    for constraint in _constraints(info):
        if hasattr(constraint, "start_date"):
            yield datetime.combine(constraint.start_date, time())


def _hours(info: ModelInfo) -> Iterator[tuple[int, int]]:
    """Yield parts of the day in which no price changes, as (start, end) in microseconds."""
    points = {0, DAY_US}
    for constraint in _constraints(info):
        if hasattr(constraint, "start_time"):
            points |= {_hour_us(constraint.start_time), _hour_us(constraint.end_time)}
    ordered = sorted(points)
    return pairwise(ordered)


def _hour_us(of_day: time) -> int:
    """Return a time of day (UTC if it has no zone) as microseconds of the UTC day."""
    zoned = datetime.combine(date(1970, 1, 2), of_day, tzinfo=of_day.tzinfo or UTC).astimezone(UTC)
    return ((zoned.hour * 60 + zoned.minute) * 60 + zoned.second) * 1_000_000 + zoned.microsecond


def _hour_text(hour_from_us: int, hour_until_us: int) -> str:
    if (hour_from_us, hour_until_us) == (0, DAY_US):
        return ""
    minutes = (hour_from_us // 60_000_000, hour_until_us // 60_000_000)
    return f"{'–'.join(f'{minute // 60:02}:{minute % 60:02}' for minute in minutes)} UTC"


def _moment(start: datetime | None, first: datetime | None, hour_us: int) -> datetime:
    """Return a moment of a period at an hour of the day; of a period without a start, one before all dates."""
    day = start.date() if start is not None else date.fromordinal(first.toordinal() - 1) if first else date(2000, 1, 1)
    minute, rest_us = divmod(hour_us, 60_000_000)
    at = time(minute // 60, minute % 60, rest_us // 1_000_000, rest_us % 1_000_000)
    return datetime.combine(day, at, tzinfo=UTC)


def _bands(
    price: ModelPrice, matched: str, version_: str, words: tuple[str, str, str], factor: Decimal
) -> Iterator[Rate]:
    """Yield a rate for each band of input tokens between the thresholds of a price; `factor` is for all tokens.

    `words` are the tier, the place of inference and the hours, for the name of the band.
    """
    tier, geo, hours = words
    amounts = {kind: _amount(price, names) for kind, names in _KINDS.items()}
    thresholds = {band.start for amount in amounts.values() for band in getattr(amount, "tiers", ())}
    points = [-1, *sorted(thresholds)]
    for above, up_to in zip(points, [*points[1:], None], strict=True):
        by_kind = {kind: _times(_at(amount, above), factor) for kind, amount in amounts.items()}
        for fee, name in (("request", "requests_kcount"), ("web_search", "web_searches_kcount")):
            thousand = _at(getattr(price, name, None), above)
            by_kind[fee] = None if thousand is None else thousand / 1000
        over = f"over {above:,} input tokens" if above >= 0 else ""
        at_most = f"up to {up_to:,} input tokens" if up_to is not None and above < 0 else ""
        band = rates.band_name(tier, geo, over or at_most, hours)
        yield msgspec.structs.replace(
            rates.rate_of(by_kind, matched=matched, version=version_, band=band),
            input_from=above + 1,
            input_until=rates.INPUT_END if up_to is None else up_to + 1,
        )


def _amount(price: ModelPrice, names: tuple[str, ...]) -> Any:
    return next((amount for name in names if (amount := getattr(price, name, None)) is not None), None)


def _at(amount: Any, above: int) -> Decimal | None:
    """Return the price per million tokens of calls with more input tokens than `above`."""
    if amount is None:
        return None
    plain = getattr(amount, "base", amount)
    for band in getattr(amount, "tiers", ()):
        if above >= band.start:
            plain = band.price
    price: Decimal = plain
    return _finest(price)


def _times(rate: Decimal | None, factor: Decimal) -> Decimal | None:
    return None if rate is None else _finest(rate * factor)


def _finest(price: Decimal) -> Decimal:
    if -int(price.normalize().as_tuple().exponent) > rates.RATE_SCALE:
        return price.quantize(_FINEST, rounding=ROUND_HALF_EVEN)
    return price
