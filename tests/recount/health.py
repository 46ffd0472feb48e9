"""Health: docs/health.md, from the lines of the log to the points that each check takes off."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from tests.recount.calls import MS_MAX, llm_calls, tool_calls
from tests.recount.costs import cost
from tests.recount.log import Event, number, text
from tests.recount.runs import runs

Agent = tuple[str | None, str | None]
#: Points by check; None where there is too little to judge.
Points = dict[str, int | None]
WINDOWS_BEFORE = 7


def health(
    events: list[Event], now: datetime, window: timedelta, present: datetime
) -> dict[Agent, tuple[int | None, Points]]:
    """The score and the points of each agent (workspace and name) that has one. `events` are without copies.

    `now` is the end of the window, and `present` the time at which it is asked: clocks that ran ahead are ahead of it.
    What `events_dropped` events take off is left to others: it needs the processes of runs.
    """
    since = now - window
    before = since - WINDOWS_BEFORE * window
    points: dict[Agent, Points] = defaultdict(dict)
    _judge_runs(points, events, (before, since, now), present)
    _judge_failures(points, "call_errors", llm_calls(events), (since, now), 20, ("0.02", "0.25"))
    _judge_failures(points, "tool_errors", tool_calls(events), (since, now), 10, ("0.1", "0.6"))
    _judge_latency(points, events, before, since, now)
    _judge_cost(points, events, window, now)
    _judge_heartbeats(points, events, before, now)
    return {agent: (_score(judged), judged) for agent, judged in points.items()}


def _score(points: Points) -> int | None:
    judged = [each for each in points.values() if each is not None]
    return max(0, 100 - sum(judged)) if judged else None


def _points(points_max: int, value: Fraction, free: str, full: str) -> Fraction:
    share = (value - Fraction(free)) / (Fraction(full) - Fraction(free))
    return points_max * min(Fraction(1), max(Fraction(0), share))


def _whole(points: Fraction) -> int:
    """Halves up."""
    return int(points + Fraction(1, 2))


def _judge_runs(
    points: dict[Agent, Points], events: list[Event], window: tuple[datetime, datetime, datetime], present: datetime
) -> None:
    before, since, now = window
    own: dict[Agent, list[dict[str, Any]]] = defaultdict(list)
    for (workspace, _), run in runs(events, now, present).items():
        if (run["finished"] or run["started"]) < now:
            own[workspace, run["agent"]].append(run)
    for agent, told in own.items():
        finished = [run for run in told if run["finished"] is not None and since <= run["finished"] < now]
        outcomes = Counter(run["outcome"] for run in finished)
        if outcomes["ok"] + outcomes["error"]:
            rate = Fraction(outcomes["error"], outcomes["ok"] + outcomes["error"])
            points[agent]["run_errors"] = _whole(_points(60, rate, "0", "0.5"))
        given_up = [run for run in told if run["abandoned_at"] is not None and since <= run["abandoned_at"] < now]
        under_way = [run for run in told if run["outcome"] == "running"]
        if finished or given_up or under_way:
            bad = len(given_up) + _count_stuck(told, under_way, before, now)
            share = Fraction(bad, bad + len(finished)) if bad else Fraction(0)
            points[agent]["stuck_runs"] = _whole(5 + _points(25, share, "0", "0.25")) if bad else 0


def _count_stuck(told: list[dict[str, Any]], under_way: list[dict[str, Any]], before: datetime, now: datetime) -> int:
    """How many runs still send events, but take over 15 minutes, and over 3 times the longest of 5 that finished."""
    took = [run["duration_ms"] for run in told if run["finished"] is not None and before <= run["finished"] < now]
    longest = max((each for each in took if each is not None and 0 <= each <= MS_MAX), default=0)
    limit = timedelta(milliseconds=max(3 * longest, 900_000))
    return sum(len(took) >= 5 and now - run["started"] > limit for run in under_way)


def _judge_failures(
    points: dict[Agent, Points],
    name: str,
    calls: list[Any],
    window: tuple[datetime, datetime],
    points_max: int,
    limits: tuple[str, str],
) -> None:
    failures: dict[Agent, list[bool]] = defaultdict(list)
    for call in calls:
        if window[0] <= call.timestamp < window[1]:
            failures[call.workspace, call.agent].append(call.ok is False)
    for agent, failed in failures.items():
        rate = Fraction(sum(failed), len(failed))
        points[agent][name] = _whole(_points(points_max, rate, *limits)) if len(failed) >= 10 else None


def _judge_latency(
    points: dict[Agent, Points], events: list[Event], before: datetime, since: datetime, now: datetime
) -> None:
    values: dict[Agent, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for call in llm_calls(events):
        if before <= call.timestamp < now and call.latency_ms is not None and 0 <= call.latency_ms <= MS_MAX:
            values[call.workspace, call.agent][call.timestamp < since].append(call.latency_ms)
    for agent, (inside, earlier) in values.items():
        points[agent]["latency"] = None
        if min(len(inside), len(earlier)) >= 20 and (usual := _p95(earlier)) > 0:
            points[agent]["latency"] = _whole(_points(15, _p95(inside) / usual, "1.25", "3"))


def _p95(values: list[float]) -> Fraction:
    return Fraction(repr(sorted(values)[-(-95 * len(values) // 100) - 1]))


def _judge_cost(points: dict[Agent, Points], events: list[Event], window: timedelta, now: datetime) -> None:
    """By the window of each call; a run counts once, in the window of its last call with a price."""
    prices = [event for event in events if event.event_type == "price_set"]
    by_window: dict[Agent, dict[int, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    by_run: dict[Agent, dict[str, tuple[int, Decimal]]] = defaultdict(dict)
    for call in llm_calls(events):
        age = now - call.timestamp
        usd = cost(call, prices)
        if usd is None or age <= timedelta(0) or age > (1 + WINDOWS_BEFORE) * window:
            continue
        agent, ago = (call.workspace, call.agent), (age - timedelta(microseconds=1)) // window
        by_window[agent][ago] += usd
        if call.run_id is not None:
            latest, so_far = by_run[agent].get(call.run_id, (ago, Decimal(0)))
            by_run[agent][call.run_id] = (min(latest, ago), so_far + usd)
    for agent, windows in by_window.items():
        multiples = []
        earlier = [usd for ago, usd in windows.items() if ago > 0]
        if 0 in windows and len(earlier) >= 3 and max(earlier) > 0:
            multiples.append(Fraction(windows[0]) / Fraction(max(earlier)))
        inside = [usd for ago, usd in by_run[agent].values() if ago == 0]
        usual = [usd for ago, usd in by_run[agent].values() if ago > 0]
        if min(len(inside), len(usual)) >= 5 and sum(usual) > 0:
            per_run = Fraction(sum(inside)) / len(inside)
            multiples.append(per_run / (Fraction(sum(usual)) / len(usual)))
        points[agent]["cost"] = _whole(_points(15, max(multiples), "1.5", "4")) if multiples else None


def _judge_heartbeats(points: dict[Agent, Points], events: list[Event], before: datetime, now: datetime) -> None:
    beats: dict[Agent, list[Event]] = defaultdict(list)
    for event in sorted(events, key=lambda event: (event.timestamp, event.event_id)):
        if event.event_type == "heartbeat" and before <= event.timestamp < now:
            beats[event.workspace, event.agent].append(event)
    for agent, own in beats.items():
        intervals = [number(event.payload.get("interval_s")) for event in own]
        known = [each for each in intervals if each is not None and 0.001 <= each <= 1e9]
        if not known or text(own[-1].payload.get("status")) == "stopped":
            continue
        missed = Fraction((now - own[-1].timestamp) // timedelta(microseconds=1), 10**6) / Fraction(repr(known[-1]))
        points[agent]["heartbeat"] = _whole(20 + _points(30, missed, "3", "10")) if missed > 3 else 0
