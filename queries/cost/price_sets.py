"""Prices that were set by events: which ones there are, and which of them counts for a call.

A `price_set` names the beginning of a model's name. Of those that fit a call, this one counts, in
this order: one of the call's workspace before one for all; the longest beginning; one that
names the provider; one that names the service tier; the latest `effective_from`; the one that was recorded last.
It then replaces the library's price whole, with the kinds that it does not name as in `rates`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from eventlog.format.builtin import PriceSet
from eventlog.indexer.views.ordering import HORIZON
from eventlog.queries.cost import rates
from eventlog.queries.cost.rates import Key, Rate

if TYPE_CHECKING:  # prices are found without it, in programs that only write
    import duckdb

EVENT_TYPE = "price_set"
#: More than anybody sets; the newest count.
EVENTS_MAX = 10_000

_EVENTS = f"""
    SELECT event_id::VARCHAR, CASE WHEN timestamp > {HORIZON} THEN latest ELSE timestamp END, workspace,
           payload::VARCHAR,
           row_number() OVER (ORDER BY recorded, latest, segment, line_offset) AS place
    FROM price_events ORDER BY place DESC LIMIT {EVENTS_MAX + 1}
"""
_decoder = msgspec.json.Decoder(PriceSet)
#: What one event can raise: no JSON, no price, a time beyond the years 1 to 9999, a number beyond measure.
_ODD = (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError)
_SAID_CHARS_MAX = 300


class PriceEvent(msgspec.Struct, frozen=True):
    """A row of `price_events`: its id, its time (UTC without a zone), and its payload as JSON.

    Its time is its own, or, where that lies in the future, one at which something was recorded after it. `place`
    counts in the order of recording.
    """

    event_id: str
    timestamp: datetime
    workspace: str | None
    payload: str
    place: int


class SetPrice(msgspec.Struct, frozen=True, kw_only=True):
    """A price as it was set. Times are UTC without a zone; `effective_until` None is open."""

    event_id: str
    workspace: str | None
    model: str
    provider: str | None
    service_tier: str | None
    effective_from: datetime
    effective_until: datetime | None
    rate: Rate
    place: int

    def fits(self, key: Key) -> bool:
        """Whether this may be the price of calls of a key."""
        return (
            self.workspace in (None, key.workspace)
            and key.model is not None
            and key.model.casefold().startswith(self.model)
            and self.provider in (None, (key.provider or "").casefold())
            and (self.service_tier is None or self.service_tier == rates.tier_name(key.service_tier))
        )

    def rank(self) -> tuple[bool, int, bool, bool, datetime, int]:
        """Return what decides between prices that fit: the greatest counts."""
        return (
            self.workspace is not None,
            len(self.model),
            self.provider is not None,
            self.service_tier is not None,
            self.effective_from,
            self.place,
        )

    def holds_at(self, at: datetime) -> bool:
        """Whether this is in force at a time."""
        return self.effective_from <= at and (self.effective_until is None or at < self.effective_until)


def read(connection: duckdb.DuckDBPyConnection) -> list[PriceEvent]:
    """Return the events that set prices, the one that was recorded last first, as far as this connection sees any."""
    return [PriceEvent(*row) for row in connection.execute(_EVENTS).fetchall()]


def understood(events: Iterable[PriceEvent]) -> tuple[list[SetPrice], list[str]]:
    """Return the prices that were set, and what is wrong with those that set none."""
    prices, wrong = [], []
    for number, event in enumerate(events):
        if number == EVENTS_MAX:
            wrong.append(f"there are more than {EVENTS_MAX:,} {EVENT_TYPE} events; only the newest are looked at")
            break
        try:
            prices.append(_price(event))
        except _ODD as error:
            wrong.append(f"{EVENT_TYPE} {event.event_id} is left out: {_short(str(error))}")
    return prices, wrong


def _price(event: PriceEvent) -> SetPrice:
    said = _decoder.decode(event.payload.encode())
    given = {
        "input": said.input_usd_per_mtok,
        "cache_read": said.cache_read_usd_per_mtok,
        "cache_write_5m": said.cache_write_5m_usd_per_mtok,
        "cache_write_1h": said.cache_write_1h_usd_per_mtok,
        "output": said.output_usd_per_mtok,
    }
    named: dict[str, Decimal | None] = {}
    for name, rate in given.items():
        named[name] = None if rate is None else rates.counted(rate)
        if rate is not None and named[name] is None:
            raise ValueError(
                f"{name} {_short(str(rate))} is no price; it is 0 to {rates.RATE_END:,} USD per million tokens, "
                f"with {rates.RATE_SCALE} decimals at most"
            )
    if all(rate is None for rate in named.values()):
        raise ValueError("it names no price; give input_usd_per_mtok and output_usd_per_mtok")
    tier = None if said.service_tier is None else rates.tier_name(said.service_tier)
    return SetPrice(
        event_id=event.event_id,
        place=event.place,
        workspace=event.workspace,
        model=said.model.casefold(),
        provider=None if said.provider_name is None else said.provider_name.casefold(),
        service_tier=tier,
        effective_from=event.timestamp if said.effective_from is None else _utc(said.effective_from),
        effective_until=None if said.effective_until is None else _utc(said.effective_until),
        rate=rates.rate_of(
            named,
            matched=said.model if said.provider_name is None else f"{said.provider_name}:{said.model}",
            version=f"{EVENT_TYPE} {event.event_id}",
            band=tier or "standard",
        ),
    )


def _short(text: str) -> str:
    return text if len(text) <= _SAID_CHARS_MAX else text[:_SAID_CHARS_MAX] + "…"


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
