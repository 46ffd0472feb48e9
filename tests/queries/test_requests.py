"""Requests: what recorded events name as one, in a list and as a tree; turns and cycles in trees; audit levels."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.errors import QueryFailed
from eventlog.format import builtin
from eventlog.queries.runs.nodes import Node
from eventlog.queries.runs.tree import _grouped, arranged
from eventlog.queries.store import ReadStore
from tests.conftest import Run
from tests.queries.recordings import record

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def call(cost: str | None = "0.25", **fields: Any) -> builtin.LlmCall:
    priced: dict[str, Any] = {} if cost is None else {"cost_usd": Decimal(cost)}
    return builtin.LlmCall(request_model="m", uncached_input_tokens=10, output_tokens=2, **priced, **fields)


def two_workspaces(root: Path) -> None:
    """`q` in two workspaces, in two runs; a request that nobody answered; an imported line with a provider's id."""
    a, b = {"request_id": "q", "workspace": "a"}, {"request_id": "q", "workspace": "b"}
    record(
        root,
        (at(1), call(), {**a, "run_id": "r1", "agent": "planner", "session_id": "s"}),
        (at(2), call(error_type="Timeout"), {**a, "run_id": "r2", "audit_level": "session"}),
        (at(3), builtin.ToolCall(tool_name="t", ok=False), {**a, "run_id": "r1"}),
        (at(4), builtin.ToolCall(tool_name="t"), {**a, "run_id": "r1", "audit_level": "export"}),
        (at(5), builtin.DecisionTrace(question="?"), {**a, "run_id": "r1"}),
        (at(6), builtin.Error(error_message="e"), {**a, "run_id": "r1"}),
        (at(7), call(None), {**a, "run_id": "r1"}),
        (at(8), builtin.Request(name="chat", duration_ms=7500, status="error", error_type="E"), a),
        (at(9), call("3"), {**b, "run_id": "r1"}),
        (at(10), "note", {"request_id": "alone"}),
        (at(11), "claude_code", {"request_id": "req_011", "payload": {"type": "user"}}),
    )


def test_a_request_is_what_its_events_say(root: Path) -> None:
    """Counts, cost, decisions and the highest audit level, each in its workspace; lines of a provider are none."""
    two_workspaces(root)
    alone, b, a = ReadStore(root).requests()
    assert (alone.request_id, alone.events, alone.status, alone.cost_usd, alone.run_ids) == ("alone", 1, None, None, [])
    assert (b.workspace, b.events, b.llm_calls, b.cost_usd, b.decisions) == ("b", 1, 1, Decimal(3), 0)
    assert (a.workspace, a.name, a.status, a.error_type, a.duration_ms) == ("a", "chat", "error", "E", 7500)
    assert (a.first, a.last, a.session_id, a.agent) == (at(1), at(8), "s", "planner")
    assert (a.run_ids, a.events, a.llm_calls, a.llm_failures) == (["r1", "r2"], 8, 3, 1)
    assert (a.tool_calls, a.tool_failures, a.errors, a.decisions, a.failures) == (2, 1, 1, 1, 3)
    assert (a.audit_level, a.input_tokens, a.output_tokens) == ("export", 30, 6)
    assert (a.cost_usd, a.unpriced) == (Decimal("0.5"), 1)


def test_a_store_of_one_workspace_has_its_requests_only(root: Path) -> None:
    """And no id of another's is found."""
    two_workspaces(root)
    store = ReadStore(root, workspace="b")
    assert [(each.request_id, each.events) for each in store.requests()] == [("q", 1)]
    with pytest.raises(QueryFailed, match="there is no request 'alone'"):
        store.requests.get("alone")
    with pytest.raises(QueryFailed, match="several workspaces have a request 'q': 'a', 'b'"):
        ReadStore(root).requests.get("q")


def test_the_tree_of_a_request_has_the_events_of_all_its_runs(root: Path, run: Run) -> None:
    """By `get`, by `tree` and by `show`, with any unique prefix."""
    two_workspaces(root)
    tree = ReadStore(root, workspace="a").requests.get("q")
    assert tree == ReadStore(root, workspace="a").tree("q")
    assert tree.request is not None
    assert (tree.run, tree.session_id, tree.request.events, len(tree.nodes)) == (None, None, 8, 8)
    assert (tree.cost_usd, tree.unpriced) == (tree.request.cost_usd, tree.request.unpriced) == (Decimal("0.5"), 1)
    shown = run("show", "q", "--workspace", "a", "--utc").stdout.splitlines()
    assert shown[:3] == [
        "request    q chat", "status     error: E", "when       2026-01-01 00:00:01Z → 2026-01-01 00:00:08Z (7.5 s)"
    ]  # fmt: skip
    listed = run("requests", "--workspace", "a").stdout
    assert "chat" in listed
    assert "$0.5" in listed
    assert json.loads(run("requests", "--json").stdout)[2]["run_ids"] == ["r1", "r2"]
    assert "or eventlog requests" in run("show", "nothing").stderr


# -- turns and cycles ------------------------------------------------------------------------


def test_show_groups_by_turn_and_cycle(root: Path, run: Run) -> None:
    """A group has the totals of what is in it; what carries nothing belongs to the turn of what it stands below."""
    step, inner = "019b76da-a800-7000-8000-000000000001", "019b76da-a800-7000-8000-000000000002"
    common = {"run_id": "r", "session_id": "s"}
    record(
        root,
        (at(0), builtin.RunStarted(name="n"), common),
        (at(1), call(), {**common, "turn_number": 1, "cycle": 1, "parent_event_id": step}),
        (at(2), builtin.ToolCall(tool_name="t", ok=False), {**common, "parent_event_id": step}),
        (at(3), builtin.Step(name="plan"), {**common, "event_id": step, "turn_number": 1}),
        (at(4), call(), {**common, "turn_number": 2, "cycle": 1}),
        (at(5), call(), {**common, "turn_number": 2, "cycle": 2}),
        (at(6), call(), {**common, "turn_number": 1}),
        (at(7), builtin.Step(name="other"), {**common, "event_id": inner}),
    )
    tree = ReadStore(root).run("r")
    assert [(node.depth, node.name) for node in tree.nodes] == [
        (0, "n"), (0, "turn 1"), (1, "plan"), (2, "cycle 1"), (3, "m"), (2, "t"), (1, "m"),
        (0, "turn 2"), (1, "cycle 1"), (2, "m"), (1, "cycle 2"), (2, "m"), (0, "other"),
    ]  # fmt: skip
    groups = {node.event_id: node for node in tree.nodes if node.is_group}
    first = groups["turn 1"]
    assert (first.llm_calls, first.tool_calls, first.failures, first.cost_usd) == (2, 1, 1, Decimal("0.5"))
    assert (first.input_tokens, first.started, first.finished) == (20, at(3), at(6))
    plan = next(node for node in tree.nodes if node.name == "plan")
    assert (plan.llm_calls, plan.tool_calls, plan.failures, plan.turn_number) == (1, 1, 1, 1)
    assert [(node.depth, node.name) for node in ReadStore(root).session("s").nodes][:2] == [
        (0, "turn 1"),
        (1, "cycle 1"),
    ]
    lines = [line.split("  ")[0] for line in run("show", "r", "--verbose").stdout.splitlines()]
    assert "turn 2" in lines
    assert "├ cycle 1" in lines
    asked = json.loads(run("show", "r", "--json").stdout)["nodes"]
    assert [(each["name"], each["turn_number"], each["cycle"]) for each in asked if each["is_group"]][:2] == [
        ("turn 1", 1, None), ("cycle 1", 1, 1)
    ]  # fmt: skip


PLACES = st.tuples(st.none() | st.integers(0, 2), st.none() | st.integers(0, 2), st.none() | st.integers(0, 11))


@settings(max_examples=100, deadline=None)
@given(st.lists(PLACES, max_size=12))
def test_grouping_loses_no_node_and_no_call(places: list[tuple[int | None, int | None, int | None]]) -> None:
    """Whatever carries what, and whatever stands below what, also in circles: each is in its own turn and cycle."""
    nodes = [
        Node(
            event_id=f"{place:02}", event_type="llm_call", parent_event_id=None if above is None else f"{above:02}",
            name="m", started=at(place), finished=at(place), turn_number=turn, cycle=cycle,
        )
        for place, (turn, cycle, above) in enumerate(places)
    ]  # fmt: skip
    found = _grouped(arranged(nodes))
    assert sorted(node.event_id for node in found if not node.is_group) == sorted(node.event_id for node in nodes)
    above: list[Node] = []
    for node in found:
        assert node.depth <= len(above)
        del above[node.depth :]
        for number, kind in ((node.turn_number, "turn"), (node.cycle, "cycle")):
            if number is not None and not node.is_group:
                carried = [each for each in above if (each.turn_number if kind == "turn" else each.cycle) is not None]
                last = carried[-1]
                assert (last.turn_number if kind == "turn" else last.cycle) == number
        above.append(node)


# -- audit levels ----------------------------------------------------------------------------


@pytest.mark.parametrize(("least", "found"), [("turn", ["s", "t", "x"]), ("session", ["s", "x"]), ("export", ["x"])])
def test_events_of_a_level_or_a_higher_one(least: Any, found: list[str], root: Path, run: Run) -> None:
    """In `events`, `counts`, `search` and `requests`, in `export` and in `tail`."""
    record(
        root,
        *((at(n), "note", {"payload": {"n": level[0].replace("e", "x"), "word": "shelf"}, "audit_level": level,
                           "request_id": level})
          for n, level in enumerate(("session", "turn", "export"))),
    )  # fmt: skip
    store = ReadStore(root)
    assert [event.data()["n"] for event in store.events(audit_level=least).events] == found
    assert [count.events for count in store.counts(audit_level=least)] == [len(found)]
    assert sorted(hit.event_id for hit in store.search("shelf", audit_level=least).hits) == sorted(
        event.event_id for event in store.events(audit_level=least).events
    )
    levels = {"s": "session", "t": "turn", "x": "export"}
    assert [each.request_id for each in store.requests(audit_level=least)] == [levels[n] for n in reversed(found)]
    for command in (("search", "shelf"), ("requests",)):
        told = json.loads(run(*command, "--audit-level", least, "--json").stdout)
        assert len(told["hits"] if isinstance(told, dict) else told) == len(found)
    exported = run("export", "note", "--format", "jsonl", "--audit-level", least).stdout.splitlines()
    tailed = run("tail", "--audit-level", least).stdout.splitlines()
    assert [json.loads(line)["payload"]["n"] for line in exported] == found
    assert [json.loads(line)["payload"]["n"] for line in tailed] == found


def test_an_unknown_level_is_refused(root: Path) -> None:
    """With those that there are."""
    record(root, (at(0), "note", {}))
    with pytest.raises(QueryFailed, match="unknown audit level 'all'; use one of turn, session, export"):
        ReadStore(root).events(audit_level="all")  # type: ignore[arg-type]  # as text from outside may be
    with pytest.raises(QueryFailed, match="unknown audit level 'all'; use one of turn, session, export"):
        ReadStore(root).search("word", audit_level="all")  # type: ignore[arg-type]
    with pytest.raises(QueryFailed, match="unknown audit level 'all'; use one of turn, session, export"):
        ReadStore(root).requests(audit_level="all")  # type: ignore[arg-type]
