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
from eventlog.queries.metrics.aggregates import Bucket, Group, Percentiles
from eventlog.queries.runs.lookup import Run
from eventlog.queries.store import ReadStore
from tests.recount import costs, health, log, metrics, runs, sessions
from tests.recount.calls import TOKENS, llm_calls, tool_calls

#: Metrics are asked for all in one, and by all that they can be grouped by.
GROUPINGS: tuple[tuple[Bucket, tuple[Group, ...]], ...] = (("day", ()), ("hour", ("workspace", "agent", "model")))
#: Windows of health, and how long before the last event they end.
WINDOWS = {timedelta(hours=1): timedelta(hours=3), timedelta(hours=24): timedelta(0)}
LLM_CALLS = f"""
SELECT workspace, source, session_id, run_id, subagent_id, message_id, model,
       [{", ".join(f"{name}_tokens" for name in TOKENS)}],
       reasoning_tokens, ok, error_type, timestamp, last_timestamp, cost_usd FROM llm_costs
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
    _check_runs(store, runs.runs(events, present, present))
    _check_sessions(store, sessions.sessions(events))
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


def _check_runs(store: ReadStore, counted: dict[runs.Key, dict[str, Any]]) -> None:
    in_sql = {(row["workspace"], row["run_id"]): row for row in store.sql("FROM runs").dicts()}
    assert _differences(counted, in_sql) == []
    listed = {(run.workspace, run.run_id): _naive(msgspec.structs.asdict(run)) for run in store.runs(limit=10_000)}
    assert _differences({key: _in(Run, run) for key, run in counted.items()}, listed) == []


def _check_sessions(store: ReadStore, counted: dict[sessions.Key, dict[str, Any]]) -> None:
    found = {
        (each.workspace, each.session_id): _naive(msgspec.structs.asdict(each)) for each in store.sessions(limit=10_000)
    }
    assert _differences(counted, found) == []


def _check_calls(store: ReadStore, events: list[log.Event]) -> None:
    prices = [event for event in events if event.event_type == "price_set"]
    assert _as_text(store.sql(LLM_CALLS).rows) == _as_text(
        (
            call.workspace, call.source, call.session_id, call.run_id, call.subagent_id, call.message_id, call.model,
            list(call.tokens), call.reasoning, call.ok, call.error_type, call.timestamp, call.last_timestamp,
            _plain(costs.cost(call, prices)),
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
