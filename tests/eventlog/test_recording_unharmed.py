"""Recording is never in an agent's way, whatever its values are, and whatever becomes of the log."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import threading
import time
from collections import UserDict
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

import eventlog as obs
from eventlog.record import api, heartbeats, runs
from eventlog.record.correlation import current
from eventlog.record.sinks import MemorySink
from tests.eventlog.runs import only


class Model:
    """Like what an SDK answers with."""

    def model_dump(self) -> dict[str, Any]:
        return {"text": "hi"}


class Nasty:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Broken(UserDict[str, Any]):
    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        return "<Broken>"


@dataclasses.dataclass
class Half:
    """Its fields are not what they were declared."""

    text: str
    parts: list[Any]

    def __getattribute__(self, name: str) -> Any:
        if name == "parts":
            raise RuntimeError("no")
        return object.__getattribute__(self, name)

    def __repr__(self) -> str:
        return "<Half>"


def cyclic() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


def deep() -> Any:
    made: Any = 0
    for _ in range(300):
        made = [made]
    return made


ODD: dict[str, tuple[Callable[[], Any], Callable[[Any], bool]]] = {
    "an object": (object, lambda found: found.startswith("<object object at")),
    "an SDK's object": (lambda: [Model()], lambda found: found == [{"text": "hi"}]),
    "a function": (lambda: {"f": len}, lambda found: found == {"f": "<built-in function len>"}),
    "an object whose repr fails": (lambda: {"a": 1, "b": Nasty()}, lambda found: found["b"].startswith("<Nasty")),
    "a mapping that cannot be read": (lambda: [1, Broken(a=1)], lambda found: found[0] == 1 and "Broken" in found[1]),
    "a dataclass that cannot be read": (lambda: [1, Half("\ud800", [])], lambda found: found == [1, "<Half>"]),
    "not a number": (lambda: math.nan, lambda found: found == "nan"),
    "not a number inside": (lambda: {"x": math.inf, "y": 1}, lambda found: found == {"x": None, "y": 1}),
    "a lone surrogate": (lambda: "a\ud800b", lambda found: found == "a\ufffdb"),
    "a cycle": (cyclic, lambda found: found == ["[[[[[[[...]]]]]]]"]),
    "too deep": (deep, lambda found: json.dumps(found).startswith("[" * 64 + '"[[[')),
    "too long": (lambda: "x" * 17_000_000, lambda found: found == "x" * 100_000 + "… (17,000,000 characters, cut)"),
    "too many": (lambda: list(range(3_000_000)), lambda found: found.startswith("[0, 1, 2") and len(found) < 2000),
    "keys that are no text": (lambda: {(1, 2): 3}, lambda found: isinstance(found, str | dict)),
    "a huge number": (lambda: 10**400, lambda found: str(found).startswith("1000")),
}  # fmt: skip


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("case", ODD)
def test_a_value_that_json_cannot_hold_does_not_cost_the_event(case: str, strict: bool, root: Path) -> None:
    """What can be said of it is recorded, and nothing is counted as refused."""
    make, expected = ODD[case]
    obs.configure(root=root, strict=strict)
    with obs.capture() as memory, obs.run("r", task=make()) as run:
        with run.step("s", input=make()) as step:
            step.output = make()
        run.tool_call("t", arguments=make())
    data = only(memory, "step").data()
    assert expected(data["output"]), data["output"]
    assert expected(data["input"])
    assert expected(only(memory, "tool_call").data()["arguments"])
    assert expected(only(memory, "run_started").data()["task"])
    assert (obs.stats().refused, obs.stats().lost) == (0, 0)


@dataclasses.dataclass
class Answer:
    text: str
    parts: list[Any]


class Offering:
    """What it offers is no JSON either."""

    def model_dump(self) -> dict[str, Any]:
        return {"text": "a\ud800", "n": 1}


class Refusing:
    def to_dict(self) -> dict[str, Any]:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        return "<Refusing>"


def test_what_stands_beside_an_odd_value_stays(captured: MemorySink) -> None:
    """However deep: one bad leaf must not cost a conversation."""
    around: dict[str, Any] = {"q": "question"}
    around["self"] = around
    numbers = list(range(200_000))
    obs.tool_call(
        "t",
        arguments={
            "messages": [{"role": "user", "content": "a\ud800"}, {"role": "tool", "content": Refusing()}],
            "n": 1,
        },
        result=[around, {(1, 2): Offering(), "ok\udfff": True}, Answer("b\ud800", [1, Model()]), numbers, deep()],
    )
    data = only(captured, "tool_call").data()
    assert data["arguments"] == {
        "messages": [{"role": "user", "content": "a\ufffd"}, {"role": "tool", "content": "<Refusing>"}], "n": 1,
    }  # fmt: skip
    cycle, keys, answer, kept, nested = data["result"]
    assert cycle["q"] == "question"
    assert cycle["self"].startswith("{'q': 'question', 'self': {")
    assert keys == {"(1, 2)": {"text": "a\ufffd", "n": 1}, "ok\ufffd": True}
    assert answer == {"text": "b\ufffd", "parts": [1, {"text": "hi"}]}
    assert kept == numbers
    assert json.dumps(nested).count("[") > 64


def test_only_what_makes_a_line_too_long_is_cut(captured: MemorySink) -> None:
    """The texts of the longest field first, and no field because another one was refused."""
    long, image = "x" * 3_000_000, "y" * 14_000_000
    obs.llm_call(request_model="m", input_messages=[long], output_messages=[object()])
    obs.llm_call(
        request_model="m", input_messages=[{"role": "user", "content": image}, {"role": "user", "content": "why?"}],
        output_messages=[long], context_statistics={"n": 1},
    )  # fmt: skip
    obs.llm_call(input_messages=["z" * 90_000] * 200)
    refused, cut, many = (event.data() for event in captured.of_type("llm_call"))
    assert refused["input_messages"] == [long]
    assert refused["output_messages"][0].startswith("<object object")
    assert cut["input_messages"] == [
        {"role": "user", "content": "y" * 100_000 + "… (14,000,000 characters, cut)"},
        {"role": "user", "content": "why?"},
    ]
    assert (cut["output_messages"], cut["context_statistics"]) == ([long], {"n": 1})
    assert many["input_messages"] == ["z" * 1_000 + "… (90,000 characters, cut)"] * 200


def test_mending_is_bounded(captured: MemorySink) -> None:
    """However many odd values there are; the first are recorded, and how many are not."""
    began = time.monotonic()
    obs.tool_call("t", result=[[object(), "\ud800"] for _ in range(120_000)])
    assert time.monotonic() - began < 20
    found = only(captured, "tool_call").data()["result"]
    assert found[0][0].startswith("<object object")
    assert found[0][1] == "\ufffd"
    assert re.fullmatch(r"… \([\d,]+ more\)", found[-1])
    assert len(found) < 100_000


def test_a_value_of_the_wrong_type_moves_to_the_attributes(captured: MemorySink) -> None:
    """Under its field's name; a name that is none becomes one."""
    wrong: dict[str, Any] = {
        "latency_ms": "fast",
        "output_tokens": "many",
        "request_model": "m",
        "attributes": {"a": 1},
    }
    with obs.run(5, agent=object, workspace="\ud800", session_id="x" * 5000) as run:  # type: ignore[arg-type]  # the point
        run.llm_call(**wrong)
        with run.step(b"bytes", attributes=["no dict"]):  # type: ignore[arg-type]
            pass
        run.message(3, "c")  # type: ignore[arg-type]
    started = only(captured, "run_started")
    assert started.data()["name"] == "5"
    assert (started.agent, started.workspace, len(started.session_id or "")) == ("<class 'object'>", "\ufffd", 1000)
    assert only(captured, "llm_call").data() == {
        "request_model": "m",
        "attributes": {"a": 1, "latency_ms": "fast", "output_tokens": "many"},
    }
    step = only(captured, "step").data()
    assert (step["name"], step["attributes"]) == ("Ynl0ZXM=", {"attributes": ["no dict"]})
    assert only(captured, "message").data() == {"content": "c"}
    assert run.stats().output_tokens == 0


def test_with_eventlog_off_the_code_runs_as_if_nothing_was_there() -> None:
    """And totals are there all the same, for the answer that they are embedded in."""
    obs.configure(mode="off")
    heartbeats.stop_all()

    @obs.traced
    def work() -> int:
        return 5

    with obs.run("r", heartbeat_s=0.05) as run, run.step("s") as step:
        assert work() == 5
        assert run.tool_call("t") is None
        step.output = object()
    assert (run.stats().steps, run.stats().tool_calls) == (2, 1)
    assert not [thread for thread in threading.enumerate() if thread.name == "eventlog-heartbeat"]


class Counted:
    """Usage that counts how often it is looked at."""

    looked = 0

    def model_dump(self) -> dict[str, int]:
        Counted.looked += 1
        return {"input_tokens": 3}


@pytest.mark.parametrize(("mode", "in_run", "looked"), [("off", False, 0), ("off", True, 2), ("file_only", False, 2)])
def test_usage_that_nobody_sees_is_not_looked_at(mode: str, in_run: bool, looked: int, root: Path) -> None:
    """With eventlog off and outside of a run, whose totals are there all the same."""
    obs.configure(root=root, mode=mode)
    Counted.looked = 0
    with obs.run("r") if in_run else nullcontext() as run:
        obs.llm_call(usage=Counted())
        with obs.timed_llm_call() as call:
            call.usage = Counted()
    assert Counted.looked == looked
    assert run is None or run.stats().uncached_input_tokens == 6


def test_a_mock_is_recorded_at_once(captured: MemorySink) -> None:
    """As what it is: a test of somebody's agent has mocks for answers."""
    answer = MagicMock()
    began = time.monotonic()
    obs.llm_call(request_model="m", usage=answer.usage, input_messages=answer, output_messages=[answer.choices[0]])
    obs.tool_call("t", result={"found": answer, "n": 1})
    assert time.monotonic() - began < 5
    data = only(captured, "llm_call").data()
    assert data["request_model"] == "m"
    assert data["input_messages"].startswith("<MagicMock id=")
    assert data["output_messages"][0].startswith("<MagicMock name='mock.choices.")
    result = only(captured, "tool_call").data()["result"]
    assert (result["n"], result["found"][:11]) == (1, "<MagicMock ")


def test_a_log_that_cannot_be_written_harms_nobody(root: Path) -> None:
    """What is lost is counted; what the code raises goes on, also where the recorder is strict."""
    root.write_text("in the way")
    obs.configure(root=root)
    with obs.run("r") as run, run.step("s"):
        run.tool_call("t")
    assert obs.stats().lost == 4
    obs.configure(root=root, strict=True)
    with pytest.raises(obs.WriteFailed), obs.run("r"):
        pass
    assert (current().values, runs._open) == ({}, {})
    step = obs.step("s")
    with pytest.raises(ZeroDivisionError), step:
        raise ZeroDivisionError
    with pytest.raises(obs.WriteFailed), obs.step("s"):
        pass
    assert current().values == {}


@pytest.mark.parametrize("where", ["emit_with", "start"])
def test_ctrl_c_while_a_run_begins_leaves_nothing_of_it(
    where: str, captured: MemorySink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No context that names it, no heartbeat, and an end in the log."""

    owner: Any = api.recorder() if where == "emit_with" else heartbeats
    real = getattr(owner, where)

    def interrupted(*_: Any) -> None:
        monkeypatch.setattr(owner, where, real)
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, where, interrupted)
    with pytest.raises(KeyboardInterrupt), obs.run("r"):
        pytest.fail("it was not entered")
    assert (current().values, runs._open) == ({}, {})
    assert len(captured.of_type("run_started")) == (where == "start")
    assert only(captured, "run_finished").data()["status"] == "cancelled"
