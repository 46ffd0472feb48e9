"""Recorded runs, calls, metrics, costs and health equal a recount of the lines, value by value.

On the demo's day, on logs of odd values, loaded in any order, and after a replay.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from eventlog.config import Config
from eventlog.format.control import Role
from eventlog.indexer import replay
from eventlog.indexer.indexer import Indexer
from eventlog.queries.demo.scenario import Scenario, write
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder
from tests.recount import costs, hostile, log, requests, runs
from tests.recount.calls import llm_calls
from tests.recount.product import RULES, check, check_alerts, check_health, load_shuffled


def test_the_demo(root: Path) -> None:
    """A day of five agents in two workspaces, with prices for all of their models."""
    recorder = Recorder(Config(root=str(root), strict=True), role=Role.MAINTENANCE)
    write(recorder, Scenario(1, datetime.fromisoformat("2026-03-02T06:00:00Z"), hours=6).events())
    for model, rate in (("claude", "3"), ("gpt", "0.25")):
        price = {"model": model, "input_usd_per_mtok": rate, "output_usd_per_mtok": "12.5"}
        recorder.emit("price_set", price | {"effective_from": "2020-01-01T00:00:00Z"})
    recorder.shutdown()
    Indexer(root).catch_up()
    check(root)
    check_health(root)


@pytest.mark.parametrize("seed", [1, 2])
def test_odd_values(root: Path, tmp_path: Path, seed: int) -> None:
    """In whatever order segments arrive, and after a replay: the same figures, and the same index."""
    hostile.write(root, seed)
    Indexer(root).catch_up()
    in_order = check(root)
    check_health(root)
    shuffled = tmp_path / "shuffled"
    load_shuffled(root, shuffled, seed)
    assert ReadStore(shuffled).digest() == in_order
    replay.replay(shuffled)
    assert ReadStore(shuffled).digest() == in_order


@pytest.mark.parametrize("seed", [1, 2])
def test_what_alert_rules_read(root: Path, seed: int) -> None:
    """Rules of each kind, for all workspaces and for one of them, at four moments; and some hold, and some do not."""
    hostile.write(root, seed, runs=30)
    Indexer(root).catch_up()
    held = check_alerts(root, (None, "acme"))
    assert 20 < held < 4 * 2 * len(RULES)


def test_odd_values_are_odd(root: Path) -> None:
    """The generator makes what it is for: each kind of trouble is there, so that equality says something."""
    hostile.write(root, 1)
    events = log.read(root)
    now = datetime.max
    counted = runs.runs(events, datetime(2026, 1, 1), now.replace(year=2026))
    workspaces: dict[str, set[str | None]] = {}
    for workspace, run_id in counted:
        workspaces.setdefault(run_id, set()).add(workspace)
    lines = sum(len(path.read_bytes().splitlines()) for path in (root / "log").glob("*/*.jsonl"))
    durations = [event.payload.get("duration_ms") for event in events]
    assert any(len(of_id) > 1 for of_id in workspaces.values())
    assert {"ok", "error", "cancelled", "abandoned"} <= {run["outcome"] for run in counted.values()}
    assert {1, 2, None} <= {run["starts"] for run in counted.values()}
    assert len(events) < lines
    assert any(each is not None and each < 0 for each in durations)
    assert any(each is not None and each > 10**12 for each in durations)
    assert {event.timestamp.year for event in events} == {1, 1970, 2025}
    asked = requests.requests(events)
    assert {each["status"] for each in asked.values()} >= {None, "ok", "error"}
    assert {each["audit_level"] for each in asked.values()} == {"turn", "session", "export"}
    calls = llm_calls(events)
    prices = [event for event in events if event.event_type == "price_set"]
    priced = [call for call in calls if costs.cost(call, prices) is not None and call.reported is None]
    assert any(call.searches for call in priced)
    assert len({(call.place or "").strip().lower() for call in priced}) > 3


def test_a_difference_is_found(root: Path) -> None:
    """The comparison compares: with a line more than was indexed, it fails."""
    hostile.write(root, 1, runs=4)
    Indexer(root).catch_up()
    path = next((root / "log" / "run_started").iterdir())
    line = json.loads(path.read_bytes().splitlines()[0]) | {"event_id": "0a0b0c0d-0000-4000-8000-000000000000"}
    path.write_bytes(path.read_bytes() + json.dumps(line).encode() + b"\n")
    with pytest.raises(AssertionError):
        check(root)
