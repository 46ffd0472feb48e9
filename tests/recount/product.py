"""What the product says about a root, beside what the recount says of its lines."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from eventlog.indexer.index.digest import Digest
from eventlog.indexer.indexer import Indexer
from eventlog.queries.access.reader import IndexReader
from eventlog.queries.alerts import evaluate
from eventlog.queries.alerts import rules as rule_sets
from eventlog.queries.metrics.aggregates import Bucket, Group, Percentiles
from eventlog.queries.runs.lookup import PricedRun
from eventlog.queries.store import ReadStore
from tests.queries.alerts.support import NOW, add, rule
from tests.recount import alerts, costs, health, log, metrics, requests, runs, sessions
from tests.recount.calls import TOKENS, llm_calls, tool_calls

#: Metrics are asked for all in one, and by all that they can be grouped by.
GROUPINGS: tuple[tuple[Bucket, tuple[Group, ...]], ...] = (("day", ()), ("hour", ("workspace", "agent", "model")))
#: Windows of health, and how long before the last event they end.
WINDOWS = {timedelta(hours=1): timedelta(hours=3), timedelta(hours=24): timedelta(0)}
LLM_CALLS = f"""
SELECT workspace, source, session_id, run_id, subagent_id, message_id, model,
       [{", ".join(f"{name}_tokens" for name in TOKENS)}],
       reasoning_tokens, ok, error_type, timestamp, last_timestamp, branch, cost_usd FROM llm_costs
"""
TOOL_CALLS = """
SELECT workspace, session_id, run_id, tool_call_id, tool, timestamp, finished, duration_ms, ok, error_type
FROM tool_calls
"""


def check(root: Path) -> Digest:
    """Compare value by value, but for health, and return the hash of the index."""
    now = datetime.now(UTC)
    present = now.replace(tzinfo=None)
    store = ReadStore(root)
    events = log.without_copies(log.read(root))
    _check_events(store, events)
    _check_runs(store, events, runs.runs(events, present, present))
    _check_sessions(store, sessions.sessions(events))
    _check_requests(store, requests.requests(events))
    _check_calls(store, events)
    for bucket, by in GROUPINGS:
        _check_metrics(store, events, bucket, by, now)
    return store.digest()


def check_health(root: Path) -> None:
    """Compare scores and the points of each check, at two moments."""
    store, present = ReadStore(root), datetime.now(UTC).replace(tzinfo=None)
    events = log.without_copies(log.read(root))
    last = max(event.timestamp for event in events)
    for window, ago in WINDOWS.items():
        at = last - ago
        _check_health(store, health.health(events, at, window, present), at, window)


#: Rules of each kind: where they hold, and where they do not; by agent, by model, of each thing that is measured.
RULES: tuple[dict[str, Any], ...] = (
    {"kind": "cost", "threshold": "0"},
    {"kind": "cost", "threshold": "12.5", "agent": "planner", "window_s": 7200.0},
    {"kind": "cost", "threshold": "0.000001", "model": "acme"},
    {"kind": "budget", "threshold": "25", "at_percent": 50},
    *({"kind": "error_rate", "threshold": limit, "of": of, "min_samples": least}
      for of in ("llm_calls", "tool_calls", "runs") for limit, least in (("0", 1), ("0.25", 3))),
    {"kind": "error_rate", "threshold": "0.1", "agent": "planner", "model": "claude"},
    *({"kind": "latency", "threshold": "12", "of": of, "percentile": percentile, "window_s": 10_800.0}
      for of in ("llm_calls", "tool_calls", "runs") for percentile in (50.0, 95.0)),
    {"kind": "heartbeat", "window_s": 600.0},
    {"kind": "heartbeat", "agent": "planner"},
    {"kind": "heartbeat", "agent": "nobody"},
)  # fmt: skip
#: Long before the events of the tests.
_RULES_SET = datetime(2025, 1, 1, tzinfo=UTC)


def check_alerts(root: Path, workspaces: Iterable[str | None], *, every: timedelta = timedelta(minutes=37)) -> int:
    """Compare what rules read, hour by hour; return how often one held. Sets the rules, which are events, too."""
    for workspace in workspaces:
        definitions = [
            rule(f"r{number}", **each | ({"at_percent": Decimal(each["at_percent"])} if "at_percent" in each else {}))
            for number, each in enumerate(RULES)
        ]
        add(root, *definitions, seconds=(_RULES_SET - NOW).total_seconds(), workspace=workspace)
    events = log.without_copies(log.read(root))
    present = datetime.now(UTC).replace(tzinfo=None)
    last = max(event.timestamp for event in events if event.event_type == "llm_call")
    held = 0
    for step in range(4):
        held += _check_readings(root, events, last - step * every, present)
    return held


def _check_readings(root: Path, events: list[log.Event], now: datetime, present: datetime) -> int:
    with IndexReader(root).trusted() as connection:
        found = rule_sets.read(connection, now.replace(tzinfo=UTC))
    readings = evaluate.measure(root, found, now.replace(tzinfo=UTC), limit_s=60)
    ours = [
        alerts.reading(
            [event for event in events if each.workspace is None or _is_seen(event, each.workspace)],
            RULES[int(each.name[1:])], _RULES_SET.replace(tzinfo=None), now, present,
        )
        for each in found
    ]  # fmt: skip
    theirs = [alerts.Reading(bool(each.holds), each.value, each.samples) for each in readings]
    assert [each.error for each in readings if each.error] == []
    named = [(each.workspace, RULES[int(each.name[1:])]) for each in found]
    assert [pair for pair in zip(named, ours, theirs, strict=True) if pair[1] != pair[2]] == []
    return sum(each.holds for each in ours)


def _is_seen(event: log.Event, workspace: str) -> bool:
    """Whether a store of a workspace sees an event: its own, and prices for all."""
    return event.workspace == workspace or (event.event_type == "price_set" and event.workspace is None)


def load_shuffled(root: Path, other: Path, seed: int, *, at_once: int = 12) -> None:
    """Copy the segments of a root into another one in any order, and index after some of them each time."""
    paths = sorted((root / "log").glob("*/*.jsonl"))
    Random(seed).shuffle(paths)
    for number, path in enumerate(paths, start=1):
        copy = other / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
        if number % at_once == 0 or number == len(paths):
            Indexer(other).catch_up()


def _differences(ours: dict[Any, dict[str, Any]], theirs: dict[Any, dict[str, Any]]) -> list[str]:
    """What differs, in words: ours is the recount, theirs the product."""
    said = [f"{key} is not in the product's" for key in ours if key not in theirs]
    said += [f"{key} is only in the product's" for key in theirs if key not in ours]
    for key in ours.keys() & theirs.keys():
        said += [
            f"{key}: {name} is {value!r}, the product says {theirs[key][name]!r}"
            for name, value in ours[key].items()
            if _about(value) != _about(theirs[key][name])
        ]
    return sorted(said)


def _in(struct: type[msgspec.Struct], row: dict[str, Any]) -> dict[str, Any]:
    """The figures that an answer of the product has as well."""
    return {name: value for name, value in row.items() if name in struct.__struct_fields__}


def _naive(row: dict[str, Any]) -> dict[str, Any]:
    """Times without their zone, which is UTC."""
    return {name: value.replace(tzinfo=None) if isinstance(value, datetime) else value for name, value in row.items()}


def _about(value: Any) -> Any:
    """A duration to the nanosecond: the difference of two times is a double in the one and a fraction in the other."""
    return round(value, 6) if isinstance(value, float) else value


def _plain(value: Decimal | None) -> Decimal | None:
    return None if value is None else value.quantize(Decimal("1e-18"))


def _as_text(rows: Iterable[Iterable[Any]]) -> list[str]:
    """Rows in an order of their own; NULL and numbers do not sort among each other."""
    return sorted(repr([_about(value) for value in row]) for row in rows)


def _figures(row: Any) -> dict[str, Any]:
    """A row of the product's metrics with percentiles as tuples."""
    return {
        name: (value.values, value.p50, value.p95, value.p99) if isinstance(value, Percentiles) else value
        for name, value in msgspec.structs.asdict(row).items()
    }


def _check_events(store: ReadStore, events: list[log.Event]) -> None:
    rows = store.sql("SELECT workspace, event_id::VARCHAR, segment, line_offset FROM events").rows
    assert Counter(rows) == Counter((each.workspace, each.event_id, *each.place) for each in events)


def _check_runs(store: ReadStore, events: list[log.Event], counted: dict[runs.Key, dict[str, Any]]) -> None:
    in_sql = {(row["workspace"], row["run_id"]): row for row in store.sql("FROM runs").dicts()}
    assert _differences(counted, in_sql) == []
    prices = [event for event in events if event.event_type == "price_set"]
    calls = [call for call in llm_calls(events) if call.run_id is not None]
    with_costs = {
        key: _in(PricedRun, run)
        | sessions.spent([each for each in calls if (each.workspace, each.run_id) == key], prices)
        for key, run in counted.items()
    }
    listed = {(run.workspace, run.run_id): _naive(msgspec.structs.asdict(run)) for run in store.runs(limit=10_000)}
    assert _differences(with_costs, listed) == []


def _check_sessions(store: ReadStore, counted: dict[sessions.Key, dict[str, Any]]) -> None:
    found = {
        (each.workspace, each.session_id): _naive(msgspec.structs.asdict(each)) for each in store.sessions(limit=10_000)
    }
    assert _differences(counted, found) == []


def _check_requests(store: ReadStore, counted: dict[requests.Key, dict[str, Any]]) -> None:
    found = {
        (each.workspace, each.request_id): _naive(msgspec.structs.asdict(each)) for each in store.requests(limit=10_000)
    }
    assert _differences(counted, found) == []


def _check_calls(store: ReadStore, events: list[log.Event]) -> None:
    prices = [event for event in events if event.event_type == "price_set"]
    assert _as_text(store.sql(LLM_CALLS).rows) == _as_text(
        (
            call.workspace, call.source, call.session_id, call.run_id, call.subagent_id, call.message_id, call.model,
            list(call.tokens), call.reasoning, call.ok, call.error_type, call.timestamp, call.last_timestamp,
            call.branch, _plain(costs.cost(call, prices)),
        )
        for call in llm_calls(events)
    )  # fmt: skip
    assert _as_text(store.sql(TOOL_CALLS).rows) == _as_text(
        (
            tool.workspace, tool.session_id, tool.run_id, tool.tool_call_id, tool.tool, tool.timestamp, tool.finished,
            tool.duration_ms, tool.ok, tool.error_type,
        )
        for tool in tool_calls(events)
    )  # fmt: skip


def _check_metrics(
    store: ReadStore, events: list[log.Event], bucket: Bucket, by: tuple[Group, ...], now: datetime
) -> None:
    counted = metrics.metrics(events, bucket, by, now.replace(tzinfo=None))
    found = {
        (row.start.replace(tzinfo=None), row.workspace, row.agent, row.model): _figures(row)
        for row in store.metrics(bucket, by, now=now)
    }
    assert _differences(counted, found) == []


def _check_health(
    store: ReadStore, counted: dict[health.Agent, tuple[int | None, health.Points]], at: datetime, window: timedelta
) -> None:
    for found in store.health(now=at.replace(tzinfo=UTC), window=window):
        score, points = counted.get((found.workspace, found.agent), (None, {}))
        judged = {each.name: each.points for each in found.penalties if each.judged}
        assert (judged, found.score) == ({name: each for name, each in points.items() if each is not None}, score)
