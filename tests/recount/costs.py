"""What calls cost at prices that were set, with fees: docs/cost.md, without the price list of a library."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal, localcontext
from typing import Any

from tests.recount.calls import TOKENS, LlmCall
from tests.recount.log import Event, text

MILLION = Decimal(1_000_000)
TOKENS_BELOW = 10**12
REPORTED_MAX = Decimal(9_999_999_999)


def cost(call: LlmCall, price_events: Iterable[Event]) -> Decimal | None:
    """What a call cost in USD, exactly; None where that is not known."""
    if call.reported is not None and 0 <= call.reported <= REPORTED_MAX:
        return call.reported
    counts = (*call.tokens, call.searches)
    if call.problem is not None or not all(0 <= count < TOKENS_BELOW for count in counts):
        return None
    if call.ok and not any(call.tokens):
        return None
    if call.model is None and not any(counts):
        return Decimal(0)
    price = max((each for each in price_events if _fits(each, call)), key=_rank, default=None)
    if price is None:
        return None
    search = text(price.payload.get("web_search_usd"))
    if call.searches and search is None:
        return None
    with localcontext() as context:
        context.prec = 60
        total = call.searches * Decimal(search or 0)
        for count, rate in zip(call.tokens, _rates(price.payload), strict=True):
            if count and rate is None:
                return None
            total += count * (rate or Decimal(0)) / MILLION
    return total


def _fits(event: Event, call: LlmCall) -> bool:
    price = event.payload
    if event.event_type != "price_set" or call.model is None:
        return False
    since, until = price.get("effective_from"), price.get("effective_until")
    return (
        event.workspace in (None, call.workspace)
        and call.model.lower().startswith(price["model"].lower())
        and price.get("provider_name") in (None, call.provider)
        and price.get("service_tier") in (None, call.tier)
        and (price.get("inference_geo") is None or _place(price["inference_geo"]) == _place(call.place))
        and (_moment(since) if since else event.timestamp) <= call.timestamp
        and (not until or call.timestamp < _moment(until))
    )


def _rank(event: Event) -> tuple[Any, ...]:
    price = event.payload
    since = price.get("effective_from")
    return (
        event.workspace is not None,
        len(price["model"]),
        price.get("provider_name") is not None,
        price.get("service_tier") is not None,
        price.get("inference_geo") is not None,
        _moment(since) if since else event.timestamp,
        event.order,
    )


def _place(value: str | None) -> str:
    """The place of inference; "" where it changes no price."""
    name = (value or "").strip().lower()
    return "" if name in ("global", "not_available") else name


def _moment(value: str) -> datetime:
    return datetime.fromisoformat(value).replace(tzinfo=None)


def _rates(price: dict[str, Any]) -> tuple[Decimal | None, ...]:
    """The rates of TOKENS per million."""
    given = {name: text(price.get(f"{name}_usd_per_mtok")) for name in ("input", *TOKENS[1:])}
    fresh = given["input"]
    written = given["cache_write_5m"] or fresh
    rates = (fresh, given["cache_read"] or fresh, written, given["cache_write_1h"] or written, given["output"])
    return tuple(None if rate is None else Decimal(rate) for rate in rates)
