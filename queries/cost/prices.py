"""Which rates a kind of call has: what the library genai-prices knows, and what `price_set` events say instead.

The library carries its prices with it, and is never asked to fetch newer ones, so that an answer
depends on the log, the installed version and nothing else. It is loaded for a name that nobody has asked for
yet: that takes a fifth of a second, so its answers are remembered (see `price_cache`). Of its rules these are
kept here, since all calls are counted in SQL:

- A provider is found by its name or, where a call names none, by the model's. The model is then looked up
  with that provider alone. Of several that match, the one with the longest match counts.
- Prices have dates from which, and hours of the UTC day in which they hold; the last that holds counts.
- A band is chosen by all of a call's input, cached or not: above its threshold, all tokens have its rate.
- A service tier has prices where the library has them for it (`batch`, `flex`, `priority`, `fast`, …). Where it
  has none, the call is unpriced: the standard price would be a guess, and wrong by half or double.
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
from eventlog.queries.cost import rates
from eventlog.queries.cost.price_cache import Name, Remembered, default_path
from eventlog.queries.cost.price_sets import SetPrice
from eventlog.queries.cost.rates import DAY_US, Key, Rate

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

#: Names of providers in the conventions of OpenTelemetry that the library does not know.
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
#: A few of the library's rates carry the noise of floating point (0.18000000000000002, or a twelfth of a dollar).
#: They are read with as many decimals as costs can carry; all others have six at most.
_CARRIED = Decimal(1).scaleb(-rates.RATE_SCALE)

_LIBRARY = "genai_prices"

Listed = Callable[[Key], list[Rate]]


def price_of_call(
    model: str,
    provider: str | None,
    at: datetime,
    tokens: Mapping[str, int],
    service_tier: str | None = None,
) -> Decimal | None:
    """Return what one call costs by the library's prices, in USD; None where it has no price, or no tokens to count.

    `tokens` are named as in `llm_call` events. `at` without a zone is UTC. Without the extra `prices` nothing has a
    price; what `price_set` events say is in the index, and not looked at.
    """
    moment = at if at.tzinfo is None else at.astimezone(UTC).replace(tzinfo=None)
    counts = {name: count or 0 for name, count in tokens.items()}
    cached = ("cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
    input_tokens = sum(counts.get(name, 0) for name in ("uncached_input_tokens", *cached))
    if not any(counts.values()):
        return None
    try:
        found = listed(Key(None, provider, model, service_tier))
    except MissingExtra:
        return None
    return next((rate.cost(counts) for rate in found if rate.holds(moment, input_tokens)), None)


def rates_for(key: Key, price_sets: Iterable[SetPrice], library: Listed) -> list[Rate]:
    """Return the rates of a key, which do not overlap; where there is none, its calls have no price.

    `library` is `listed`, or nothing like it where the library is not there.
    """
    own = [price for price in price_sets if price.fits(key)]
    known = library(key)
    changes: set[datetime] = set()
    for price in own:
        changes |= {price.effective_from, price.effective_until or price.effective_from}
    found: list[Rate] = []
    for start, end in _periods(changes):
        in_force = [price for price in own if start is not None and price.holds_at(start)]
        if in_force:
            won = max(in_force, key=SetPrice.rank)
            found.append(_between(won.rate, start, end))
        else:
            found += [_between(rate, start, end) for rate in known if _overlaps(rate, start, end)]
    return rates.merged(found)


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


def listed(key: Key) -> list[Rate]:
    """Return the library's rates for a key, whatever its workspace. Raises MissingExtra without the library."""
    if key.model is None:
        return []
    return list(_listed(key.provider, key.model, rates.tier_name(key.service_tier)))


def version() -> str:
    """Return the name and version of the price list. Raises MissingExtra without the library."""
    try:
        import genai_prices
    except ModuleNotFoundError as error:
        raise _missing(error.name) from None
    return f"genai-prices {genai_prices.__version__}"


def need() -> None:
    """Raise MissingExtra where the library is not installed; it is not loaded."""
    if find_spec(_LIBRARY) is None:
        raise _missing(_LIBRARY)


def remember() -> None:
    """Keep what the library has said to this process for the next one."""
    _remembered().save()


def _missing(name: str | None) -> MissingExtra:
    return MissingExtra(f"the price list of models ({name} is missing)", "prices")


@cache
def _remembered() -> Remembered:
    return Remembered(default_path(), _made_from())


def _made_from() -> list[Path]:
    """Return what rates depend on: the files of the library, what says which version it is, and these modules."""
    spec = find_spec(_LIBRARY)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    try:
        inside = [Path(entry.path) for folder in folders for entry in os.scandir(folder) if entry.is_file()]
        beside = [found for folder in folders for found in Path(folder).parent.glob(f"{_LIBRARY}-*.dist-info")]
    except OSError:  # not in a folder
        return []
    return sorted([*inside, *beside, Path(__file__), Path(rates.__file__)]) if inside else []


@lru_cache(maxsize=4096)
def _listed(provider: str | None, model: str, tier: str) -> tuple[Rate, ...]:
    name = Name(provider, model, tier)
    found = _remembered().get(name)
    if found is None:
        found = _looked_up(provider, model, tier)
        _remembered().add(name, found)
    return found


def _looked_up(provider: str | None, model: str, tier: str) -> tuple[Rate, ...]:
    version_ = version()
    from genai_prices.data import providers

    found = find(providers, provider, model)
    if found is None:
        return ()
    seller, owner, info = found
    context = _context(tier) if seller is owner else None if _context(tier) else {}
    if context is None:
        return ()  # a tier of one provider says nothing of another's that sells the same model
    every: list[Rate] = []
    for start, end in _periods(set(_dates(info))):
        for hour_from_us, hour_until_us in _hours(info):
            moment = _moment(start, min(_dates(info), default=None), hour_from_us)
            if context and not _has_tier(info, context, moment):
                continue
            for rate in _bands(info.get_prices(moment, context), f"{owner.id}:{info.id}", version_, tier):
                hours = _hour_text(hour_from_us, hour_until_us)
                every.append(
                    msgspec.structs.replace(
                        rate,
                        band=", ".join(filter(None, (rate.band, hours))),
                        valid_from=start,
                        valid_until=end,
                        hour_from_us=hour_from_us,
                        hour_until_us=hour_until_us,
                    )
                )
    return tuple(rates.merged(every))


def find(providers: list[Provider], provider: str | None, model: str) -> tuple[Provider, Provider, ModelInfo] | None:
    """Return who sells a model, whose list it stands in, and the model; None where the library does not know it."""
    from genai_prices.data_snapshot import DataSnapshot

    snapshot = DataSnapshot(providers=providers, from_auto_update=False)
    name = _PROVIDERS.get((provider or "").strip().casefold(), provider or None)
    if name is None and "/" in model:
        name = "litellm"  # the library then takes the provider from before the slash, if it is one
    try:
        seller, info = snapshot.find_provider_model(model, None, name, None)
    except LookupError:
        return None
    owner = next((each for each in providers if any(info is one for one in each.models)), seller)
    matching = [one for one in owner.models if one.is_match(model)]
    if len(matching) > 1:
        info = max(matching, key=lambda one: _matched_chars(one.match, model.lower()))
    return seller, owner, info


def _matched_chars(clause: Any, text: str) -> int:
    """Return how much of a name a rule of the library matches; -1 where it does not."""
    from genai_prices import types

    if not clause.is_match(text):
        return -1
    if isinstance(clause, types.ClauseOr):
        return max(_matched_chars(each, text) for each in clause.or_)
    if isinstance(clause, types.ClauseAnd):
        return sum(_matched_chars(each, text) for each in clause.and_)
    if isinstance(clause, types.ClauseRegex):
        found = re.search(clause.regex, text)
        return len(found[0]) if found else -1
    return len(next(iter(vars(clause).values())))


def _context(tier: str) -> dict[str, str]:
    """Return how the library is asked for a tier. Anthropic's fast mode is a `speed`, batches a `processing`."""
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
    """Yield when prices of a model begin to hold."""
    for constraint in _constraints(info):
        if hasattr(constraint, "start_date"):
            yield datetime.combine(constraint.start_date, time())


def _hours(info: ModelInfo) -> Iterator[tuple[int, int]]:
    """Yield parts of the day within which no price changes, in microseconds."""
    points = {0, DAY_US}
    for constraint in _constraints(info):
        if hasattr(constraint, "start_time"):
            points |= {_hour_us(constraint.start_time), _hour_us(constraint.end_time)}
    ordered = sorted(points)
    return pairwise(ordered)


def _hour_us(of_day: time) -> int:
    """Return a time of day, in UTC if it has no zone, as the UTC time of day in microseconds."""
    zoned = datetime.combine(date(1970, 1, 2), of_day, tzinfo=of_day.tzinfo or UTC).astimezone(UTC)
    return ((zoned.hour * 60 + zoned.minute) * 60 + zoned.second) * 1_000_000 + zoned.microsecond


def _hour_text(hour_from_us: int, hour_until_us: int) -> str:
    if (hour_from_us, hour_until_us) == (0, DAY_US):
        return ""
    minutes = (hour_from_us // 60_000_000, hour_until_us // 60_000_000)
    return f"{'–'.join(f'{minute // 60:02}:{minute % 60:02}' for minute in minutes)} UTC"


def _moment(start: datetime | None, first: datetime | None, hour_us: int) -> datetime:
    """Return a moment of a period, at an hour: before all dates, where the period has no start."""
    day = start.date() if start is not None else date.fromordinal(first.toordinal() - 1) if first else date(2000, 1, 1)
    minute, rest_us = divmod(hour_us, 60_000_000)
    at = time(minute // 60, minute % 60, rest_us // 1_000_000, rest_us % 1_000_000)
    return datetime.combine(day, at, tzinfo=UTC)


def _bands(price: ModelPrice, matched: str, version_: str, tier: str) -> Iterator[Rate]:
    """Yield a rate for each amount of input between the thresholds of a price."""
    amounts = {kind: _amount(price, names) for kind, names in _KINDS.items()}
    thresholds = {each.start for amount in amounts.values() for each in getattr(amount, "tiers", ())}
    points = [-1, *sorted(thresholds)]
    for above, up_to in zip(points, [*points[1:], None], strict=True):
        named = {kind: _at(amount, above) for kind, amount in amounts.items()}
        requests = _at(getattr(price, "requests_kcount", None), above)
        named["request"] = None if requests is None else requests.scaleb(-3)
        over = f"over {above:,} input tokens" if above >= 0 else ""
        at_most = f"up to {up_to:,} input tokens" if up_to is not None and above < 0 else ""
        words = [tier if tier != "standard" else "", over or at_most]
        yield msgspec.structs.replace(
            rates.rate_of(named, matched=matched, version=version_, band=", ".join(filter(None, words)) or "standard"),
            input_from=above + 1,
            input_until=rates.INPUT_END if up_to is None else up_to + 1,
        )


def _amount(price: ModelPrice, names: tuple[str, ...]) -> Any:
    return next((found for name in names if (found := getattr(price, name, None)) is not None), None)


def _at(amount: Any, above: int) -> Decimal | None:
    """Return the price for calls with more input than a threshold."""
    if amount is None:
        return None
    plain = getattr(amount, "base", amount)
    for each in getattr(amount, "tiers", ()):
        if above >= each.start:
            plain = each.price
    carried: Decimal = plain
    if -int(carried.normalize().as_tuple().exponent) > rates.RATE_SCALE:
        carried = carried.quantize(_CARRIED, rounding=ROUND_HALF_EVEN)
    return carried
