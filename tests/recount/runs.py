"""Runs: "runs" in docs/schema.md."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime, timedelta
from typing import Any

from tests.recount.calls import MS_MAX, TOKENS, counts_of, started, tool_failed
from tests.recount.log import Event, number, text

SILENCE = timedelta(minutes=15)
AHEAD = timedelta(minutes=5)
#: 30 days: a longer interval of heartbeats is a mistake.
INTERVAL_MAX_S = 30 * 86_400

Key = tuple[str | None, str]


def runs(events: list[Event], now: datetime, present: datetime) -> dict[Key, dict[str, Any]]:
    """The runs by workspace and id: names of columns → values. Times are UTC, without a zone.

    Which runs are abandoned is said as of `now`. `present` is the time at which it is asked.
    """
    of_run: dict[Key, list[Event]] = defaultdict(list)
    for event in sorted(events, key=lambda event: (event.timestamp, event.event_id)):
        if event.run_id is not None:
            of_run[event.workspace, event.run_id].append(event)
    return {
        key: _run(told, now, present)
        for key, told in of_run.items()
        if any(event.event_type in ("run_started", "run_finished") for event in told)
    }


def _run(told: list[Event], now: datetime, present: datetime) -> dict[str, Any]:
    starts = [event for event in told if event.event_type == "run_started"]
    ends = [event for event in told if event.event_type == "run_finished"]
    begun_again = bool(starts) and bool(ends) and starts[-1].timestamp > ends[-1].timestamp
    is_open = not ends or (begun_again and len(starts) > len(ends))
    last = {} if is_open else ends[-1].payload
    own = number(last.get("duration_ms"))
    began = starts[0].timestamp if starts else _start(ends[-1].timestamp, own)
    given_up_at = _given_up_at(told, present) if is_open else None
    if is_open:
        status, duration = "abandoned" if given_up_at is None or given_up_at < now else "running", None
    else:
        given = text(last.get("status"))
        status, duration = "ok" if given is None else given, own
        if own is None and began is not None:
            duration = max((ends[-1].timestamp - began) / timedelta(milliseconds=1), 0.0)
    return {
        "status": status,
        "outcome": status if is_open or status in ("ok", "cancelled") else "error",
        "agent": next((each.agent for each in (*starts, *ends[::-1]) if each.agent is not None), None),
        "session_id": next((each.session_id for each in (*starts, *ends[::-1]) if each.session_id is not None), None),
        "started": began,
        "finished": None if is_open else ends[-1].timestamp,
        "last_event": told[-1].timestamp,
        "abandoned_at": given_up_at,
        "duration_ms": duration,
        "error_type": text(last.get("error_type")),
        "starts": len(starts) or None,
        **counted(told),
    }


def counted(told: list[Event]) -> dict[str, int]:
    """What events say was done: steps, calls, failures, tokens."""
    kinds = Counter(event.event_type for event in told)
    llm = [event.payload for event in told if event.event_type == "llm_call"]
    tools = [event.payload for event in told if event.event_type == "tool_call"]
    sums = [sum(counts) for counts in zip(*map(counts_of, llm), strict=True)] or [0] * len(TOKENS)
    return {
        "events": len(told),
        "steps": kinds["step"],
        "llm_calls": len(llm),
        "llm_failures": sum(text(payload.get("error_type")) is not None for payload in llm),
        "tool_calls": len(tools),
        "tool_failures": sum(map(tool_failed, tools)),
        "errors": kinds["error"],
        **{f"{name}_tokens": total for name, total in zip(TOKENS, sums, strict=True)},
    }


def _start(end: datetime, duration_ms: float | None) -> datetime | None:
    """The start of a run of which only the end is known; None where its duration is impossible."""
    return started(end, duration_ms) if duration_ms is not None and 0 <= duration_ms <= MS_MAX else None


def _given_up_at(told: list[Event], present: datetime) -> datetime | None:
    """When an open run counts as abandoned: 15 minutes after its last event, or two heartbeats, if that is later.

    None where all events are from clocks that run ahead.
    """
    intervals = [number(event.payload.get("interval_s")) for event in told if event.event_type == "heartbeat"]
    waits = [timedelta(seconds=2 * each) for each in intervals if each is not None and 0 <= each <= INTERVAL_MAX_S]
    heard = [event.timestamp for event in told if event.timestamp <= present + AHEAD]
    return heard[-1] + max([SILENCE, *waits]) if heard else None
