"""Prices that were set by `price_set` events, and which of them a call has.

A `price_set` has a prefix of a model's name. If several match a call, one wins by this order: one of the call's
workspace before one for all; the longest prefix; one with a provider; one with a service tier; one with a place of
inference; the latest `effective_from`; the one that was recorded last. It replaces the library's price as a whole;
kinds of tokens that it does not name are priced as in `rates`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from eventlog.format.builtin import PriceSet
from eventlog.format.timestamps import naive_utc
from eventlog.indexer.views.ordering import HORIZON
from eventlog.queries.cost import rates
from eventlog.queries.cost.rates import Key, Rate
from eventlog.queries.rows import rows_as

if TYPE_CHECKING:  # programs that only write look up prices without DuckDB
    import duckdb

EVENT_TYPE = "price_set"
#: The newest are used.
EVENTS_MAX = 10_000

_EVENTS = f"""
    SELECT event_id::VARCHAR AS event_id, CASE WHEN timestamp > {HORIZON} THEN latest ELSE timestamp END AS timestamp,
           workspace, payload::VARCHAR AS payload,
           row_number() OVER (ORDER BY recorded, latest, segment, line_offset) AS sequence
    FROM price_events ORDER BY sequence DESC LIMIT {EVENTS_MAX + 1}
"""
_decoder = msgspec.json.Decoder(PriceSet)
#: Errors of an invalid event: no JSON, no price, a time beyond the years 1 to 9999, a number out of range.
_INVALID = (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError)
_SHOWN_CHARS_MAX = 300


class PriceEvent(msgspec.Struct, frozen=True):
    """A row of `price_events`: its id, its time (UTC), and its payload as JSON.

    If its timestamp is in the future, its time is one at which something was recorded after it. `sequence` is its
    number, from 1, in the order of recording.
    """

    event_id: str
    timestamp: datetime
    workspace: str | None
    payload: str
    sequence: int


class SetPrice(msgspec.Struct, frozen=True, kw_only=True):
    """A price that was set, for models whose name starts with `model`. Times are UTC without a zone; None is open."""

    event_id: str
    workspace: str | None
    model: str
    provider: str | None
    service_tier: str | None
    inference_geo: str | None
    effective_from: datetime
    effective_until: datetime | None
    rate: Rate
    sequence: int

    def fits(self, key: Key) -> bool:
        """Whether this price matches the calls of a key."""
        return (
            self.workspace in (None, key.workspace)
            and key.model is not None
            and key.model.casefold().startswith(self.model)
            and self.provider in (None, (key.provider or "").casefold())
            and (self.service_tier is None or self.service_tier == rates.tier_name(key.service_tier))
            and (self.inference_geo is None or self.inference_geo == rates.geo_name(key.inference_geo))
        )

    def rank(self) -> tuple[bool, int, bool, bool, bool, datetime, int]:
        """Return the sort key of prices that match the same calls: the greatest wins."""
        return (
            self.workspace is not None,
            len(self.model),
            self.provider is not None,
            self.service_tier is not None,
            self.inference_geo is not None,
            self.effective_from,
            self.sequence,
        )

    def holds_at(self, at: datetime) -> bool:
        """Whether this price is in force at a time (UTC without a zone)."""
        return self.effective_from <= at and (self.effective_until is None or at < self.effective_until)


def read(connection: duckdb.DuckDBPyConnection) -> list[PriceEvent]:
    """Return the events that set prices and that this connection sees, the last recorded first."""
    return rows_as(PriceEvent, connection.execute(_EVENTS))


def parse(events: Iterable[PriceEvent]) -> tuple[list[SetPrice], list[str]]:
    """Return the prices that the events set, and a warning for each event that is invalid."""
    prices, warnings = [], []
    for number, event in enumerate(events):
        if number == EVENTS_MAX:
            warnings.append(f"there are more than {EVENTS_MAX:,} {EVENT_TYPE} events; only the newest are looked at")
            break
        try:
            prices.append(_price(event))
        except _INVALID as error:
            warnings.append(f"{EVENT_TYPE} {event.event_id} is left out: {_short(str(error))}")
    return prices, warnings


def _price(event: PriceEvent) -> SetPrice:
    price_set = _decoder.decode(event.payload.encode())
    by_kind = {
        name: _exact(name, rate, "million tokens")
        for name, rate in (
            ("input", price_set.input_usd_per_mtok),
            ("cache_read", price_set.cache_read_usd_per_mtok),
            ("cache_write_5m", price_set.cache_write_5m_usd_per_mtok),
            ("cache_write_1h", price_set.cache_write_1h_usd_per_mtok),
            ("output", price_set.output_usd_per_mtok),
        )
    }
    if all(rate is None for rate in by_kind.values()):
        raise ValueError("it names no price; give input_usd_per_mtok and output_usd_per_mtok")
    by_kind["web_search"] = _exact("web_search", price_set.web_search_usd, "search")
    tier = None if price_set.service_tier is None else rates.tier_name(price_set.service_tier)
    geo = None if price_set.inference_geo is None else rates.geo_name(price_set.inference_geo)
    return SetPrice(
        event_id=event.event_id,
        sequence=event.sequence,
        workspace=event.workspace,
        model=price_set.model.casefold(),
        provider=None if price_set.provider_name is None else price_set.provider_name.casefold(),
        service_tier=tier,
        inference_geo=geo,
        effective_from=naive_utc(event.timestamp if price_set.effective_from is None else price_set.effective_from),
        effective_until=None if price_set.effective_until is None else naive_utc(price_set.effective_until),
        rate=rates.rate_of(
            by_kind,
            matched=price_set.model
            if price_set.provider_name is None
            else f"{price_set.provider_name}:{price_set.model}",
            version=f"{EVENT_TYPE} {event.event_id}",
            band=rates.band_name(tier, geo),
        ),
    )


def _exact(name: str, rate: Decimal | None, per: str) -> Decimal | None:
    """Return a rate in its normal form. Raises ValueError for one that is no price."""
    exact = None if rate is None else rates.exact(rate)
    if rate is not None and exact is None:
        raise ValueError(
            f"{name} {_short(str(rate))} is no price; it is 0 to {rates.RATE_END:,} USD per {per}, "
            f"with {rates.RATE_SCALE} decimals at most"
        )
    return exact


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS_MAX else text[:_SHOWN_CHARS_MAX] + "…"
