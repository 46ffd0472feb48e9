"""Totals of a step, and the block around a request."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

import eventlog as obs
from eventlog.record import steps
from eventlog.record.sinks import MemorySink
from tests.eventlog.runs import in_child, only

FIELDS = [field.name for field in msgspec.structs.fields(obs.RunStats)]


def call(tokens: int, cost: str = "0.5") -> None:
    obs.llm_call(request_model="m", uncached_input_tokens=tokens, output_tokens=1, latency_ms=2, cost_usd=cost)


def test_a_step_has_the_totals_of_what_was_recorded_inside_of_it(captured: MemorySink) -> None:
    """With the fields of a run's totals; steps inside count, the step itself and what is beside it do not."""
    with obs.run("r") as run:
        call(100)
        with run.step("outer") as outer:
            call(10)
            with obs.step("inner") as inner:
                call(1)
                obs.tool_call("t", ok=False)
                obs.error("e")
            run.tool_call("u")
        call(1000)
    found = outer.stats()
    assert [field.name for field in msgspec.structs.fields(obs.StepStats)] == [*FIELDS, "event_id"]
    assert (found.event_id, found.run_id, found.name) == (outer.id, run.id, "outer")
    assert found.duration_ms == next(
        event.data()["duration_ms"] for event in captured.of_type("step") if event.event_id == outer.id
    )
    counts = ("steps", "llm_calls", "tool_calls", "tool_failures", "errors", "uncached_input_tokens", "cost_usd")
    assert [getattr(found, name) for name in counts] == [1, 2, 2, 1, 1, 11, Decimal(1)]
    assert [getattr(inner.stats(), name) for name in counts] == [0, 1, 1, 1, 1, 1, Decimal("0.5")]
    assert [getattr(run.stats(), name) for name in counts] == [2, 4, 2, 1, 1, 1111, Decimal(2)]


def test_the_totals_of_steps_add_up_to_those_of_their_run(captured: MemorySink) -> None:
    """Whatever is nested in what: a run's totals are those of its outermost steps, and the steps themselves."""
    tree: list[Any] = [[[], [[]]], [], [[[], []], []]]

    def walk(children: list[Any]) -> list[obs.Step]:
        entered = []
        for child in children:
            with obs.step("s") as step:
                call(1)
                walk(child)
            entered.append(step)
        return entered

    with obs.run("r") as run:
        outermost = [step.stats() for step in walk(tree)]
    total = run.stats()
    assert total.llm_calls == sum(each.llm_calls for each in outermost) == 10
    assert total.steps == sum(each.steps for each in outermost) + len(outermost) == 10
    assert total.cost_usd == sum(each.cost_usd or 0 for each in outermost)


def test_a_step_counts_without_a_run_in_tasks_and_where_eventlog_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks and carried threads are inside of it; a thread of its own, and a run that begins inside, are not."""
    monkeypatch.setenv("EVENTLOG_DIR", "")
    obs.configure(root="")

    async def work() -> None:
        call(1)

    async def main() -> None:
        await asyncio.gather(*(asyncio.create_task(work()) for _ in range(3)))

    with obs.step("s") as step:
        asyncio.run(main())
        for target in (obs.carry(lambda: call(1)), lambda: call(1)):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        with obs.run("inside"):
            call(1)
    assert (step.stats().llm_calls, step.stats().run_id) == (4, "")
    assert not steps._open


def test_a_forked_child_goes_on_counting_in_its_own_copy(root: Path) -> None:
    """And is not kept waiting by a lock that a thread of its parent held."""
    done = in_child(
        """
        import os
        import eventlog as obs
        with obs.step("s") as step:
            step.totals._lock.acquire()
            child = os.fork()
            obs.tool_call("t")
            if child:
                assert os.waitpid(child, 0)[1] == 0
            assert step.stats().tool_calls == 1
            if not child:
                os._exit(0)
        """,
        root,
    )
    assert (done.returncode, done.stderr) == (0, "")


# -- requests --------------------------------------------------------------------------------


def test_everything_inside_of_a_request_names_it(captured: MemorySink) -> None:
    """Runs and their steps, too; and what is after it does not."""
    with obs.request("chat", session_id="c", channel="api", user_id="u", input="q", agent="a") as request:
        with obs.run("r"), obs.step("s"):
            call(1)
        request.output = "x"
    obs.emit("after")
    assert {event.request_id for event in captured if event.event_type != "after"} == {request.id}
    assert captured.of_type("after")[0].request_id is None
    event = only(captured, "request")
    data = event.data()
    assert data.pop("duration_ms") >= 0
    assert data == {"name": "chat", "channel": "api", "user_id": "u", "input": "q", "output": "x"}
    assert (event.session_id, event.agent, event.run_id) == ("c", "a", None)


@pytest.mark.parametrize(
    ("error", "status", "set_status"),
    [
        (None, "ok", None), (ValueError("v"), "error", None), (KeyboardInterrupt(), "cancelled", None),
        (SystemExit(0), "ok", None), (SystemExit(3), "cancelled", None), (None, "refused", "refused"),
    ],
)  # fmt: skip
def test_a_request_ends_as_its_block_does(
    error: BaseException | None, status: str, set_status: str | None, captured: MemorySink
) -> None:
    """As a run does, unless the program says how."""
    with suppress(BaseException), obs.request(request_id="q") as request:
        request.status = set_status
        if error is not None:
            raise error
    event = only(captured, "request")
    assert (event.request_id, event.data().get("status", "ok")) == ("q", status)


def test_a_bad_request_id_costs_no_event(captured: MemorySink) -> None:
    """Whatever it is, it is written as a text that an envelope may have."""
    for value in (7, "x" * 100_000, object(), "", None, b"\xff"):
        with obs.request(request_id=value):  # type: ignore[arg-type]  # as programs do
            obs.emit("t")
    assert len(captured.of_type("t")) == len(captured.of_type("request")) == 6
    assert all(event.request_id for event in captured)


def test_a_fork_in_a_request_records_it_once(root: Path) -> None:
    """By the process that began it."""
    done = in_child(
        """
        import os
        import eventlog as obs
        with obs.request():
            child = os.fork()
        if child:
            os.waitpid(child, 0)
        """,
        root,
    )
    assert done.returncode == 0, done.stderr
    assert sum(path.read_bytes().count(b"\n") for path in (root / "log/request").glob("*.jsonl")) == 1
