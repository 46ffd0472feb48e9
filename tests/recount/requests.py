"""Requests: "requests" in docs/schema.md, and what their calls cost."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Any

from tests.recount.calls import llm_calls
from tests.recount.costs import cost
from tests.recount.log import EPOCH, SOURCES, Event, number, text
from tests.recount.runs import counted

LEVELS = ("turn", "session", "export")
Key = tuple[str | None, str]


def requests(events: list[Event]) -> dict[Key, dict[str, Any]]:
    """The requests by workspace and id: names of columns → values. Times are UTC, without a zone."""
    of_request: dict[Key, list[Event]] = defaultdict(list)
    for event in sorted(events, key=lambda event: (event.timestamp, event.event_id)):
        if event.request_id is not None and event.event_type not in SOURCES:
            of_request[event.workspace, event.request_id].append(event)
    prices = [event for event in events if event.event_type == "price_set"]
    costs = {(call.workspace, call.event_id): cost(call, prices) for call in llm_calls(events) if call.event_id}
    return {key: _request(told, costs) for key, told in of_request.items()}


def _request(told: list[Event], costs: dict[tuple[str | None, str], Decimal | None]) -> dict[str, Any]:
    answers = [event.payload for event in told if event.event_type == "request"]
    last = answers[-1] if answers else {}
    times = [event.timestamp for event in told if event.timestamp > EPOCH]
    calls = [costs[event.workspace, event.event_id] for event in told if event.event_type == "llm_call"]
    priced = [each for each in calls if each is not None]
    given = text(last.get("status"))
    return {
        "name": text(last.get("name")),
        "status": ("ok" if given is None else given) if answers else None,
        "duration_ms": number(last.get("duration_ms")),
        "error_type": text(last.get("error_type")),
        "first": min(times, default=None),
        "last": max(times, default=None),
        "agent": next((event.agent for event in told if event.agent is not None), None),
        "session_id": next((event.session_id for event in told if event.session_id is not None), None),
        "run_ids": sorted({event.run_id for event in told if event.run_id is not None}),
        "audit_level": max((event.audit_level for event in told), key=LEVELS.index),
        "decisions": sum(event.event_type == "decision_trace" for event in told),
        "cost_usd": sum(priced, Decimal(0)) if priced else None,
        "unpriced": len(calls) - len(priced),
        **counted(told),
    }
