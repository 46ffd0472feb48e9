"""Runs, steps and calls: recorded where they happen."""

from __future__ import annotations

import ast
import asyncio
import json
import math
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog as obs
from eventlog.format import builtin
from eventlog.record import calls, totals
from eventlog.record.correlation import current
from eventlog.record.sinks import MemorySink
from tests.eventlog.runs import in_child, only

# -- runs ------------------------------------------------------------------------------


def test_a_run_is_two_events_and_a_context(captured: MemorySink) -> None:
    """All that is emitted inside carries its id, agent, workspace and session."""
    with obs.run(
        "nightly", agent="planner", workspace="w", session_id="s", task={"goal": "x"}, attributes={"v": 1}
    ) as run:
        obs.emit("note", {"n": 1})
        run.output = {"done": True}
        run.attributes["retries"] = 2
    obs.emit("note", {"n": 2})
    started, inside, finished, outside = captured.events
    assert [each.event_type for each in captured] == ["run_started", "note", "run_finished", "note"]
    for event in (started, inside, finished):
        assert (event.run_id, event.agent, event.workspace, event.session_id) == (run.id, "planner", "w", "s")
    assert (outside.run_id, outside.agent) == (None, None)
    data = started.data()
    assert data.pop("boot") == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert (data.pop("host"), data.pop("pid")) == (os.uname().nodename, os.getpid())
    assert data == {"name": "nightly", "task": {"goal": "x"}, "attributes": {"v": 1}}
    end = finished.data()
    assert 0 <= end.pop("duration_ms") < 10_000
    assert end == {"output": {"done": True}, "attributes": {"retries": 2}}  # ok is the default


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


ENDS: dict[str, tuple[BaseException, str | None, str | None, str | None]] = {
    "an error": (ValueError("bad input"), "error", "ValueError", "bad input"),
    "an error of a package": (json.JSONDecodeError("x", "", 0), "error", "json.decoder.JSONDecodeError", None),
    "an error that cannot be printed": (
        Unprintable(), "error", f"{__name__}.Unprintable",
        f"<{__name__}.Unprintable: its message cannot be read>",
    ),
    "a cancelled task": (asyncio.CancelledError(), "cancelled", "asyncio.exceptions.CancelledError", None),
    "Ctrl-C": (KeyboardInterrupt(), "cancelled", "KeyboardInterrupt", None),
    "an exit with a code": (SystemExit(3), "cancelled", "SystemExit", "3"),
    "an exit with a message": (SystemExit("no"), "cancelled", "SystemExit", "no"),
    "an exit": (SystemExit(), None, None, None),
    "an exit with 0": (SystemExit(0), None, None, None),
    "a closed generator": (GeneratorExit(), "cancelled", None, None),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDS)
def test_a_run_that_is_left_by_a_raise_says_how(case: str, captured: MemorySink) -> None:
    """And what was raised goes on."""
    error, status, kind, message = ENDS[case]
    with pytest.raises(type(error)) as raised, obs.run("r"):
        raise error
    assert raised.value is error
    data = only(captured, "run_finished").data()
    assert (data.get("status"), data.get("error_type")) == (status, kind)
    assert message is None or data["error_message"] == message


def test_a_run_inside_a_run_names_its_parent(captured: MemorySink) -> None:
    """Its own steps are its own: the step around it is named by its beginning only."""
    with obs.run("outer", agent="a") as outer, obs.step("delegate") as step:
        with obs.run("inner", agent="b") as inner, obs.step("work"):
            pass
        obs.emit("after")
    started = captured.of_type("run_started")[1]
    assert (started.run_id, started.parent_event_id, started.agent) == (inner.id, step.id, "b")
    assert started.data()["parent_run_id"] == outer.id
    work = captured.of_type("step")[0]
    assert (work.run_id, work.parent_event_id, work.agent) == (inner.id, None, "b")
    after = only(captured, "after")
    assert (after.run_id, after.parent_event_id, after.agent) == (outer.id, step.id, "a")


def test_a_run_may_go_on_under_an_id_of_the_caller(captured: MemorySink) -> None:
    """And is not its own parent."""
    with obs.run("r", run_id="mine") as run, obs.run("again", run_id="mine"):
        pass
    assert run.id == "mine"
    assert {event.run_id for event in captured} == {"mine"}
    assert all("parent_run_id" not in event.data() for event in captured)


def test_runs_and_steps_work_with_async(captured: MemorySink) -> None:
    """Tasks inherit the step in which they were made."""

    async def main() -> tuple[str, str]:
        async with obs.run("r") as run, run.step("gather") as step:

            async def one(n: int) -> None:
                async with obs.step(f"part {n}"):
                    await asyncio.sleep(0.001 * (3 - n))

            await asyncio.gather(*(one(n) for n in range(3)))
        return run.id, step.id

    run_id, step_id = asyncio.run(main())
    steps = captured.of_type("step")
    assert [each.data()["name"] for each in steps] == ["part 2", "part 1", "part 0", "gather"]
    assert {each.parent_event_id for each in steps[:3]} == {step_id}
    assert {each.run_id for each in captured} == {run_id}


def test_a_cancelled_task_ends_its_run_as_cancelled(captured: MemorySink) -> None:
    """The task is cancelled all the same."""

    async def work() -> None:
        async with obs.run("r"), obs.step("wait"):
            await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert only(captured, "run_finished").data()["status"] == "cancelled"
    assert only(captured, "step").data()["error_type"] == "asyncio.exceptions.CancelledError"


def test_threads_carry_the_context_or_use_the_run(captured: MemorySink) -> None:
    """`obs.carry` keeps the step; `run.step` in a bare thread at least keeps the run."""

    def bare() -> None:
        with run.step("bare"):
            run.tool_call("t")
            obs.emit("inside")
        assert "run_id" not in current().values

    with obs.run("r") as run, run.step("outer") as step, ThreadPoolExecutor(1) as pool:
        pool.submit(obs.carry(lambda: run.tool_call("carried"))).result()
        pool.submit(bare).result()
        pool.submit(lambda: run.tool_call("alone")).result()
    calls = {call.data()["tool_name"]: call for call in captured.of_type("tool_call")}
    assert {call.run_id for call in calls.values()} == {run.id}
    inner = captured.of_type("step")[0]
    assert [calls[name].parent_event_id for name in ("carried", "t", "alone")] == [step.id, inner.event_id, None]
    assert (only(captured, "inside").run_id, only(captured, "inside").parent_event_id) == (run.id, inner.event_id)


def test_a_generator_that_nobody_finishes_ends_its_run(captured: MemorySink) -> None:
    """When it is closed; and the context of its consumer is whole."""

    def produce() -> Iterator[int]:
        with obs.run("r"):
            yield 1
            yield 2

    for _ in produce():
        break
    assert only(captured, "run_finished").data()["status"] == "cancelled"
    assert "run_id" not in current().values


def test_blocks_that_are_left_in_another_order_or_context_do_no_harm(captured: MemorySink) -> None:
    """Nothing is raised, and both are recorded with the parents they had."""
    run = obs.run("r")
    first, second = obs.step("first"), obs.step("second")
    run.__enter__()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    thread = threading.Thread(target=second.__exit__, args=(None, None, None))
    thread.start()
    thread.join()
    run.__exit__(None, None, None)
    assert current().values == {}
    parents = {event.data()["name"]: event.parent_event_id for event in captured.of_type("step")}
    assert parents == {"first": None, "second": first.id}


# -- steps -----------------------------------------------------------------------------


def test_a_step_is_recorded_at_its_end_under_the_id_of_its_beginning(captured: MemorySink) -> None:
    """Children come first in the log, and name it."""
    with obs.run("r"), obs.step("plan", kind="plan", input={"q": 1}, attributes={"a": 1}) as step:
        child = obs.emit("note")
        step.output = [1, 2]
    note, event = captured.events[1:3]
    assert (note.event_id, note.parent_event_id) == (child, step.id)
    assert (event.event_id, event.parent_event_id) == (step.id, None)
    assert event.event_id < note.event_id
    data = event.data()
    assert 0 <= data.pop("duration_ms") < 10_000
    assert data == {"name": "plan", "kind": "plan", "input": {"q": 1}, "output": [1, 2], "attributes": {"a": 1}}


def test_a_step_that_raises_says_what(captured: MemorySink) -> None:
    """With or without a run."""
    with pytest.raises(KeyError), obs.step("s"):
        raise KeyError("k")
    data = only(captured, "step").data()
    assert (data["error_type"], data["error_message"]) == ("KeyError", "'k'")
    assert only(captured, "step").run_id is None


_Tree = list[tuple[str, Any]]
_trees: st.SearchStrategy[_Tree] = st.recursive(
    st.lists(st.tuples(st.sampled_from(["step", "tool", "raise"]), st.just([])), max_size=3),
    lambda inner: st.lists(st.tuples(st.sampled_from(["step", "run", "raise"]), inner), max_size=3),
    max_leaves=12,
)


@given(_trees)
def test_any_nesting_is_a_tree_whose_parents_exist(tree: _Tree) -> None:
    """Every parent is a step of the same run or, for the beginning of a run, of the run around it."""

    def walk(tree: _Tree, parent: str | None, run_id: str | None) -> None:
        for kind, children in tree:
            if kind == "tool":
                expected[obs.tool_call("t") or ""] = (parent, run_id)
            elif kind == "run":
                with obs.run("r", heartbeat_s=0) as run:
                    walk(children, None, run.id)
            else:
                try:
                    with obs.step("s") as step:
                        expected[step.id] = (parent, run_id)
                        walk(children, step.id, run_id)
                        if kind == "raise":
                            raise ZeroDivisionError
                except ZeroDivisionError:
                    pass

    expected: dict[str, tuple[str | None, str | None]] = {}
    with obs.capture() as memory:
        walk(tree, None, None)
    found = {event.event_id: event for event in memory}
    assert len(found) == len(memory.events)
    for event_id, place in expected.items():
        assert (found[event_id].parent_event_id, found[event_id].run_id) == place
    for event in memory:
        if event.parent_event_id is not None:
            parent = found[event.parent_event_id]
            assert parent.event_type == "step"
            expected_run = event.data().get("parent_run_id") if event.event_type == "run_started" else event.run_id
            assert parent.run_id == expected_run
    assert current().values == {}


# -- calls -----------------------------------------------------------------------------


def test_a_call_of_a_model_is_recorded_with_its_usage_split(captured: MemorySink) -> None:
    """The raw object is kept, and what is given wins over it."""
    raw = {
        "input_tokens": 10, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 7, "output_tokens": 5,
        "service_tier": "batch",
    }  # fmt: skip
    with obs.run("r"):
        obs.llm_call(
            provider_name="anthropic", request_model="m-1", response_model="m-1-2026", usage=raw, output_tokens=6,
            finish_reasons="end_turn", latency_ms=12.5, cost_usd=0.1, input_messages=[{"role": "user"}],
        )  # fmt: skip
    assert only(captured, "llm_call").data() == {
        "provider_name": "anthropic", "request_model": "m-1", "response_model": "m-1-2026",
        "uncached_input_tokens": 10, "cache_read_tokens": 100, "cache_write_5m_tokens": 7, "output_tokens": 6,
        "service_tier": "batch", "raw_usage": raw, "finish_reasons": ["end_turn"], "latency_ms": 12.5,
        "cost_usd": "0.1", "input_messages": [{"role": "user"}],
    }  # fmt: skip


def test_a_timed_call_is_measured_and_says_what_was_set(captured: MemorySink) -> None:
    """Latency, time to first token, and what `llm_call` has no field for as attributes."""
    with obs.run("r") as run, run.timed_llm_call(request_model="m", attributes={"a": 1}) as call:
        call.first_token()
        threading.Event().wait(0.02)
        call.first_token()
        call.usage = {"prompt_tokens": 3, "completion_tokens": 4}
        call.output_messages = "hi"
        call.cache_key = "k"
        assert (call.output_messages, call.response_model) == ("hi", None)
    data = only(captured, "llm_call").data()
    assert 0 <= data.pop("time_to_first_token_ms") < 20 <= data.pop("latency_ms") < 10_000
    assert data == {
        "request_model": "m", "output_messages": "hi", "uncached_input_tokens": 3, "output_tokens": 4,
        "raw_usage": {"prompt_tokens": 3, "completion_tokens": 4}, "attributes": {"a": 1, "cache_key": "k"},
    }  # fmt: skip


def test_a_timed_call_that_fails_is_recorded_and_goes_on(captured: MemorySink) -> None:
    """Of a model, and of a tool; also with async."""

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with obs.timed_llm_call(request_model="m"):
                raise TimeoutError("slow")
        with pytest.raises(OSError, match="gone"):
            async with obs.timed_tool_call("fetch", arguments={"url": "u"}, tool_call_id="t1"):
                raise OSError("gone")
        async with obs.timed_tool_call("add") as call:
            call.result = 3

    asyncio.run(main())
    llm = only(captured, "llm_call").data()
    assert (llm["error_type"], llm["error_message"]) == ("TimeoutError", "slow")
    failed, fine = (event.data() for event in captured.of_type("tool_call"))
    assert failed.pop("duration_ms") >= 0
    assert fine.pop("duration_ms") >= 0
    assert failed == {
        "tool_name": "fetch", "tool_call_id": "t1", "arguments": {"url": "u"}, "ok": False, "error_type": "OSError",
        "error_message": "gone",
    }  # fmt: skip
    assert fine == {"tool_name": "add", "result": 3}


def test_the_other_events_in_the_words_of_the_call(captured: MemorySink) -> None:
    """One function per built-in event."""
    obs.decision("where?", options=["a", "b"], chosen="a", reason="near", confidence=0.9)
    obs.orchestration("handoff", source_agent="a", target_agent="b")
    obs.debug("hm", level="info", logger="x")
    obs.artifact("report", uri="file:///r.md", media_type="text/markdown", size_bytes=3, sha256="00")
    obs.heartbeat("busy", interval_s=5)
    obs.message("user", "hello", name="eve")
    obs.score("helpful", 0.5, label="ok", explanation="e", target_event_id="t", evaluator="judge")
    obs.conversation_state({"mood": 1}, status="waiting", summary="s", messages=[], message_count=0, context_tokens=9)
    obs.tool_call("t", error_message="failed")
    obs.error("broken", handled=False)
    assert [(event.event_type, event.data()) for event in captured] == [
        (
            "decision_trace",
            {"question": "where?", "options": ["a", "b"], "chosen": "a", "reason": "near", "confidence": 0.9},
        ),
        ("orchestration_event", {"action": "handoff", "source_agent": "a", "target_agent": "b"}),
        ("debug_event", {"level": "info", "logger": "x", "message": "hm"}),
        (
            "artifact",
            {"name": "report", "uri": "file:///r.md", "media_type": "text/markdown", "size_bytes": 3, "sha256": "00"},
        ),
        ("heartbeat", {"status": "busy", "interval_s": 5}),
        ("message", {"role": "user", "content": "hello", "name": "eve"}),
        (
            "score",
            {
                "name": "helpful", "score_value": 0.5, "score_label": "ok", "explanation": "e", "target_event_id": "t",
                "evaluator": "judge",
            },
        ),
        (
            "conversation_state",
            {
                "status": "waiting", "summary": "s", "messages": [], "message_count": 0, "context_tokens": 9,
                "state": {"mood": 1},
            },
        ),
        ("tool_call", {"tool_name": "t", "ok": False, "error_message": "failed"}),
        ("error", {"error_message": "broken", "handled": False}),
    ]  # fmt: skip


def test_an_error_is_recorded_with_its_traceback(captured: MemorySink) -> None:
    """Of an exception that was caught."""
    try:
        raise ValueError("v")
    except ValueError as error:
        obs.error(error, attributes={"where": "here"})
    data = only(captured, "error").data()
    stack = data.pop("stacktrace")
    assert stack.startswith("Traceback (most recent call last):\n")
    assert stack.endswith("ValueError: v\n")
    assert data == {"error_type": "ValueError", "error_message": "v", "handled": True, "attributes": {"where": "here"}}


def test_a_field_that_no_call_has_is_an_attribute(captured: MemorySink) -> None:
    """As one that is set on a timed call: the model is paid for, and what the block raises is told as well."""
    unknown: dict[str, Any] = {"temperature": 0.3, "modle": "m"}
    obs.llm_call(request_model="m", attributes={"a": 1}, **unknown)
    with obs.timed_llm_call(request_model="m", attributes=["odd"], **unknown) as call:  # type: ignore[arg-type]  # the point
        call.seed = 7
    with pytest.raises(ZeroDivisionError), obs.timed_llm_call(**unknown):
        raise ZeroDivisionError
    plain, timed, failed = (event.data() for event in captured.of_type("llm_call"))
    assert plain == {"request_model": "m", "attributes": {"a": 1, **unknown}}
    assert timed["attributes"] == {"attributes": ["odd"], **unknown, "seed": 7}
    assert (failed["error_type"], failed["attributes"]) == ("ZeroDivisionError", unknown)


def test_none_says_nothing_and_hides_nothing_that_was_measured(captured: MemorySink) -> None:
    """Code that passes on what it may not have."""
    with obs.timed_llm_call(request_model=None, latency_ms=None, error_type=None) as call:
        call.usage, call.output_tokens = {"output_tokens": 3}, None
    with pytest.raises(TimeoutError), obs.timed_llm_call(error_type=None, error_message=None):
        raise TimeoutError("slow")
    with obs.timed_tool_call("t") as tool:
        tool.ok = tool.duration_ms = None
    fine, failed = (event.data() for event in captured.of_type("llm_call"))
    assert fine.pop("latency_ms") >= 0
    assert fine == {"output_tokens": 3, "raw_usage": {"output_tokens": 3}}
    assert (failed["error_type"], failed["error_message"]) == ("TimeoutError", "slow")
    assert only(captured, "tool_call").data()["duration_ms"] >= 0


def test_fast_mode_is_a_tier(captured: MemorySink) -> None:
    """It has prices of its own, and imported sessions have it so."""
    obs.llm_call(usage={"output_tokens": 1, "service_tier": "standard", "speed": "fast"})
    obs.llm_call(usage={"output_tokens": 1, "service_tier": "standard", "speed": "standard"})
    obs.llm_call(usage={"output_tokens": 1, "speed": "fast"}, service_tier="own")
    assert [event.data()["service_tier"] for event in captured.of_type("llm_call")] == ["fast", "standard", "own"]


def test_the_fields_of_a_call_are_those_of_its_event() -> None:
    """The types that editors and mypy see are made by hand."""
    tree = ast.parse(Path(calls.__file__).read_text())
    (typed,) = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == "LlmCallFields")
    names = [
        node.target.id for node in typed.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    assert tuple(names) == builtin.LlmCall.__struct_fields__


# -- totals ----------------------------------------------------------------------------


def test_totals_add_up_what_the_run_recorded(captured: MemorySink) -> None:
    """From all threads, by `run` and by `obs` alike; and they encode."""
    with obs.run("r") as run:
        with ThreadPoolExecutor(4) as pool:
            for _ in range(40):
                pool.submit(
                    obs.carry(obs.llm_call), request_model="b", usage={"input_tokens": 2, "output_tokens": 3},
                    latency_ms=1.5, cost_usd="0.01",
                )  # fmt: skip
        run.llm_call(response_model="a", cache_read_tokens=5, cost_usd=Decimal("0.02"))
        with pytest.raises(KeyError), run.timed_llm_call(request_model="b"):
            raise KeyError
        run.tool_call("t")
        run.tool_call("t", ok=False)
        with pytest.raises(KeyError), obs.step("s"), obs.step("t"):
            raise KeyError
        with obs.step("s"):
            obs.error("e")
        with obs.run("inner") as inner:
            inner.tool_call("not the outer's")
        open_ms = run.stats().duration_ms
    stats = run.stats()
    assert 0 < open_ms <= stats.duration_ms
    found = json.loads(msgspec.json.encode(stats))
    latency = found.pop("llm_latency_ms")
    assert 60 <= latency < 10_000
    assert found == {
        "run_id": run.id, "name": "r", "duration_ms": stats.duration_ms, "models": ["a", "b"], "steps": 3,
        "step_failures": 2, "llm_calls": 42, "llm_failures": 1, "tool_calls": 2, "tool_failures": 1, "errors": 1,
        "uncached_input_tokens": 80, "cache_read_tokens": 5, "cache_write_5m_tokens": 0, "cache_write_1h_tokens": 0,
        "output_tokens": 120, "reasoning_tokens": 0, "cost_usd": "0.42", "unpriced_calls": 1,
    }  # fmt: skip
    assert inner.stats().tool_calls == 1


def test_runs_of_one_id_in_two_workspaces_have_their_own_totals(captured: MemorySink) -> None:
    """As they are two runs in the index."""
    with obs.run("a", run_id="r", workspace="a") as one, obs.run("b", run_id="r", workspace="b") as other:
        obs.tool_call("t")
        with obs.context(workspace="a"):
            obs.tool_call("t")
            obs.tool_call("t")
    assert (one.stats().tool_calls, other.stats().tool_calls) == (2, 1)


class Moody:
    """Has no truth, as arrays have none, and compares with nothing."""

    def __bool__(self) -> bool:
        raise ValueError("ambiguous")

    __eq__ = __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    "fields",
    [
        {"response_model": Moody()}, {"latency_ms": 10**400}, {"latency_ms": math.nan}, {"cost_usd": "1e999999999"},
        {"cost_usd": 10**5000}, {"error_type": Moody()}, {"output_tokens": Moody(), "latency_ms": Moody()},
    ],
)  # fmt: skip
def test_no_value_breaks_the_totals(fields: dict[str, Any], captured: MemorySink) -> None:
    """Nor the agent: what can be counted is, and the event is recorded."""
    with obs.run("r") as run:
        assert run.llm_call(request_model="m", cache_read_tokens=5, **fields)
        assert run.llm_call(request_model="m", cost_usd="0.5", latency_ms=2, output_tokens=1)
        assert run.tool_call("t", ok=Moody())  # type: ignore[arg-type]  # the point
    stats = run.stats()
    assert (stats.llm_calls, stats.tool_calls, stats.cost_usd, stats.llm_latency_ms) == (2, 1, Decimal("0.5"), 2.0)
    assert (stats.models, stats.cache_read_tokens, stats.output_tokens) == (["m"], 5, 1)
    assert len(captured.of_type("llm_call")) == 2


def test_a_run_without_calls_costs_nothing_and_one_that_cannot_be_priced_is_not_free(captured: MemorySink) -> None:
    """None is not zero."""
    with obs.run("r") as run:
        assert run.stats().cost_usd == 0
        run.llm_call(request_model="no-such-model", output_tokens=5)
        assert (run.stats().cost_usd, run.stats().unpriced_calls) == (None, 1)
        run.llm_call(request_model="no-such-model", cost_usd="0.5")
        assert (run.stats().cost_usd, run.stats().unpriced_calls) == (Decimal("0.5"), 1)


PRICES = """
    import sys, types
    from decimal import Decimal
    module = types.ModuleType("eventlog.queries.cost.prices")
    asked = []
    def price_of_call(model, provider, at, tokens, service_tier=None, inference_geo=None, *, failed=False):
        asked.append((model, provider, at.utcoffset().total_seconds(), tokens, service_tier, inference_geo, failed))
        if model == "broken": raise RuntimeError("no")
        return Decimal(tokens["output_tokens"]) / 1000 if model == "known" else None
    module.price_of_call = price_of_call
    for package in ("eventlog.queries", "eventlog.queries.cost"):
        sys.modules[package] = types.ModuleType(package)
    sys.modules["eventlog.queries.cost.prices"] = module
    import eventlog as obs
    with obs.run("r") as run:
        for model in ("known", "known", "unknown", "broken"):
            run.llm_call(request_model=model, provider_name="p", output_tokens=7, reasoning_tokens=2, service_tier="s",
                         inference_geo="us", web_searches=3)
        run.llm_call(request_model="known", output_tokens=1, cost_usd="0.5")
    stats = run.stats()
    assert (stats.cost_usd, stats.unpriced_calls) == (Decimal("0.514"), 2), stats
    assert run.stats() == stats
    tokens = {"output_tokens": 7, "reasoning_tokens": 2, "web_searches": 3}
    assert asked[0] == ("known", "p", 0.0, tokens, "s", "us", False), asked
    assert len(asked) == 4
"""


def test_calls_without_a_reported_cost_are_priced_where_prices_are_installed(root: Path) -> None:
    """Each once, and a price list that fails is no price."""
    assert in_child(PRICES, root).returncode == 0


def test_nobody_waits_for_prices_to_load(captured: MemorySink, monkeypatch: pytest.MonkeyPatch) -> None:
    """But who asks for them."""
    loading, loaded = threading.Event(), threading.Event()

    def slow() -> None:
        loading.set()
        assert loaded.wait(20)

    monkeypatch.setattr(totals, "_price_function", slow)
    with obs.run("r") as run:
        run.llm_call(output_tokens=1)
        asking = threading.Thread(target=run.stats)
        asking.start()
        assert loading.wait(20)
        run.llm_call(output_tokens=1)
        loaded.set()
        asking.join()
        monkeypatch.setattr(totals, "_PENDING_MAX", 1)
        run.llm_call(output_tokens=1)
    assert (run.stats().llm_calls, run.stats().unpriced_calls, run.stats().cost_usd) == (3, 3, None)
