"""Prices of models over HTTP: set for a workspace, or for all (docs/cost.md)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from eventlog.errors import InvalidEvent, WriteFailed
from eventlog.format.builtin import PriceSet
from eventlog.format.timestamps import naive_utc
from eventlog.log import reader
from eventlog.queries.cost import price_sets
from eventlog.queries.cost.price_sets import PriceEvent
from eventlog.server import bodies, ingest
from eventlog.server.parts import Parts, parts_of
from eventlog.server.problems import Answer, Problem

PRICES_MAX = 1000
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
_Time = Annotated[datetime, msgspec.Meta(tz=True)]


class PriceBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields of a `price_set` event. Rates are numbers or, to be exact, texts such as "0.12"."""

    model: _Name
    provider_name: _Name | None = None
    service_tier: _Name | None = None
    inference_geo: _Name | None = None
    effective_from: _Time | None = None
    effective_until: _Time | None = None
    input_usd_per_mtok: Decimal | None = None
    cache_read_usd_per_mtok: Decimal | None = None
    cache_write_5m_usd_per_mtok: Decimal | None = None
    cache_write_1h_usd_per_mtok: Decimal | None = None
    output_usd_per_mtok: Decimal | None = None
    web_search_usd: Decimal | None = None
    note: Annotated[str, msgspec.Meta(max_length=1000)] | None = None


class PriceState(msgspec.Struct, frozen=True, kw_only=True):
    """A price that was set; `workspace` None is all of them. `problem` says why it does not count, if it does not."""

    event_id: str
    recorded: datetime
    workspace: str | None
    price: msgspec.Raw
    problem: str | None


async def set_(request: Request) -> Response:
    """`POST /v1/prices?workspace=W`: set a price; answer 201 with the id of its event."""
    parts = parts_of(request)
    caller = parts.callers.of(request, "admin")
    workspace = caller.workspace_for(request.query_params.get("workspace"))
    body = await bodies.read_struct(request, PriceBody, parts.limits)
    price = PriceSet(**msgspec.structs.asdict(body))
    payload = msgspec.json.encode(price)
    now = naive_utc(datetime.now(UTC))
    _, problems = price_sets.parse([PriceEvent("(new)", now, workspace, payload.decode(), 1)])
    if problems:
        raise Problem(422, "invalid_body", problems[0].partition(": ")[2])
    event_id = await asyncio.to_thread(_emit, parts, price, workspace)
    return Answer({"event_id": event_id, "workspace": workspace, "price": msgspec.Raw(payload)}, 201)


async def list_(request: Request) -> Response:
    """`GET /v1/prices`: the newest prices that were set, those for all workspaces, too; newest first."""
    parts = parts_of(request)
    caller = parts.callers.of(request, "read")
    workspace = caller.workspace_for(request.query_params.get("workspace"))
    states, is_cut = await asyncio.to_thread(_states, parts.root, workspace)
    return Answer({"prices": states, "truncated": is_cut})


def _emit(parts: Parts, price: PriceSet, workspace: str | None) -> str:
    try:
        event_id = parts.recorder.emit(price, **({} if workspace is None else {"workspace": workspace}))
    except WriteFailed as error:
        raise ingest.unwritten(error) from None
    except InvalidEvent as error:
        raise Problem(422, "invalid_body", str(error)) from None
    assert event_id is not None, "strict"
    return event_id


def _states(root: Path, workspace: str | None) -> tuple[list[PriceState], bool]:
    """Return the newest prices that hold for a workspace, or of all where it is None, and whether there are more."""
    states: dict[str, PriceState] = {}
    for number, event in enumerate(reader.read_events(root, price_sets.EVENT_TYPE)):
        envelope = event.envelope
        if workspace is not None and envelope.workspace not in (None, workspace):
            continue
        recorded = datetime.fromisoformat(envelope.timestamp)
        payload = bytes(envelope.payload).decode()
        price = PriceEvent(envelope.event_id, naive_utc(recorded), envelope.workspace, payload, number)
        _, problems = price_sets.parse([price])
        states[envelope.event_id] = PriceState(
            event_id=envelope.event_id, recorded=recorded, workspace=envelope.workspace,
            price=msgspec.Raw(envelope.payload), problem=problems[0].partition(": ")[2] if problems else None,
        )  # fmt: skip
    newest = sorted(states.values(), key=lambda state: state.recorded, reverse=True)
    return newest[:PRICES_MAX], len(newest) > PRICES_MAX


ROUTES = [
    Route("/v1/prices", set_, methods=["POST"]),
    Route("/v1/prices", list_, methods=["GET"]),
]
