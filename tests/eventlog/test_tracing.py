"""`@traced`: each call is a step, and the function stays what it was."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

import eventlog as obs
from eventlog.record.correlation import current
from eventlog.record.sinks import MemorySink


@pytest.fixture
def captured(root: Path) -> Iterator[MemorySink]:
    """What is recorded, in memory."""
    obs.configure(root=root)
    with obs.capture() as memory:
        yield memory


def steps(captured: MemorySink) -> list[dict[str, Any]]:
    """The steps, without their durations, which are all there."""
    found = [event.data() for event in captured.of_type("step")]
    assert all(0 <= step.pop("duration_ms") < 10_000 for step in found)
    return found


@obs.traced
def add(a: int, b: int = 2) -> int:
    """Add."""
    obs.emit("inside")
    return a + b


@obs.traced(name="multiply", kind="thought", record_arguments=True, record_result=True)
def times(a: int, b: int = 2) -> int:
    return a * b


@obs.traced
async def wait(a: int) -> int:
    await asyncio.sleep(0)
    obs.emit("inside")
    return a


class Agent:
    @obs.traced(record_arguments=True)
    def act(self, what: str) -> str:
        return what

    @obs.traced
    @staticmethod
    def rest() -> int:
        return 1

    @obs.traced(record_arguments=True)
    @classmethod
    def make(cls, n: int) -> int:
        return n


def test_a_function_is_a_step(captured: MemorySink) -> None:
    """Named after it; without arguments and result, which may be secret."""
    assert add(1) == 3
    inside, step = captured.events
    assert inside.parent_event_id == step.event_id
    assert steps(captured) == [{"name": "add"}]
    assert (add.__name__, add.__doc__, inspect.signature(add).parameters["b"].default) == ("add", "Add.", 2)


def test_arguments_and_result_are_recorded_where_that_is_asked_for(captured: MemorySink) -> None:
    """Arguments by the names of their parameters."""
    assert times(3, b=4) == 12
    assert steps(captured) == [{"name": "multiply", "kind": "thought", "input": {"a": 3, "b": 4}, "output": 12}]


def test_methods_are_steps(captured: MemorySink) -> None:
    """Without `self` and `cls`; static and class methods too."""
    assert (Agent().act("x"), Agent.rest(), Agent.make(3)) == ("x", 1, 3)
    assert steps(captured) == [
        {"name": "Agent.act", "input": {"what": "x"}},
        {"name": "Agent.rest"},
        {"name": "Agent.make", "input": {"n": 3}},
    ]


def test_a_call_with_wrong_arguments_fails_as_it_would(captured: MemorySink) -> None:
    """And says so in its step; so does what is called without a signature."""
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        times()  # type: ignore[call-arg]  # the point
    assert obs.traced(record_arguments=True)(max)(1, 2) == 2
    assert obs.traced(functools.partial(times, 2))(5) == 10
    assert [(step["name"], step.get("error_type"), step.get("input")) for step in steps(captured)] == [
        ("multiply", "TypeError", {"args": []}),
        ("max", None, {"args": [1, 2]}),
        ("multiply", None, {"a": 2, "b": 5}),
        ("partial", None, None),
    ]


def test_a_coroutine_function_is_a_step_until_it_has_run(captured: MemorySink) -> None:
    """And stays a coroutine function."""

    async def main() -> list[int]:
        return list(await asyncio.gather(wait(1), wait(2)))

    assert inspect.iscoroutinefunction(wait)
    assert asyncio.run(main()) == [1, 2]
    found = captured.of_type("step")
    assert {event.parent_event_id for event in captured.of_type("inside")} == {event.event_id for event in found}
    assert steps(captured) == [{"name": "wait"}] * 2


def test_what_a_function_raises_is_in_its_step(captured: MemorySink) -> None:
    """In a coroutine as well."""

    @obs.traced
    def fail() -> None:
        raise ValueError("v")

    @obs.traced
    async def fail_later() -> None:
        fail()

    with pytest.raises(ValueError, match="v"):
        asyncio.run(fail_later())
    name = "test_what_a_function_raises_is_in_its_step"
    error = {"error_type": "ValueError", "error_message": "v"}
    assert steps(captured) == [{"name": f"{name}.fail", **error}, {"name": f"{name}.fail_later", **error}]


# -- generators ------------------------------------------------------------------------


@obs.traced(record_result=True)
def echo(log: list[Any]) -> Generator[Any, Any, str]:
    """Yield what was sent."""
    item: Any = "first"
    while item != "stop":
        try:
            with obs.step("inner"):
                obs.emit("of_generator")
                item = yield item
        except KeyError as error:
            item = f"caught {error}"
        except GeneratorExit:
            log.append("closed")
            raise
    return "done"


@obs.traced
async def echo_async(log: list[Any]) -> AsyncGenerator[Any, Any]:
    """Yield what was sent."""
    item: Any = "first"
    while item != "stop":
        try:
            obs.emit("of_generator")
            item = yield item
        except KeyError as error:
            item = f"caught {error}"
        except GeneratorExit:
            log.append("closed")
            raise


def test_a_generator_is_one_step_and_its_consumer_is_not_in_it(captured: MemorySink) -> None:
    """Values go in, exceptions are thrown in, the result comes out; each side keeps its context."""
    with obs.run("r") as run:
        generator = echo([])
        assert next(generator) == "first"
        assert "parent_event_id" not in {name for name, value in current().values.items() if value}
        obs.emit("of_consumer")
        assert generator.send("a") == "a"
        assert generator.throw(KeyError("k")) == "caught 'k'"
        with obs.step("consumer's"), pytest.raises(StopIteration) as stopped:
            generator.send("stop")
        assert stopped.value.value == "done"
    (whole,) = (event for event in captured.of_type("step") if event.data()["name"] == "echo")
    assert whole.data()["output"] == "done"
    inner = {e.event_id: e for e in captured.of_type("step") if e.data()["name"] == "inner"}
    assert {event.parent_event_id for event in inner.values()} == {whole.event_id}
    assert {event.parent_event_id for event in captured.of_type("of_generator")} == set(inner)
    assert [event.parent_event_id for event in captured.of_type("of_consumer")] == [None]
    assert {event.run_id for event in captured} == {run.id}
    assert inspect.isgeneratorfunction(echo)


def test_a_generator_that_is_left_early_is_closed_and_no_failure(captured: MemorySink) -> None:
    """Its step ends then."""
    log: list[Any] = []
    for _ in echo(log):
        break
    assert log == ["closed"]
    (step,) = (step for step in steps(captured) if step["name"] == "echo")
    assert step == {"name": "echo"}
    assert current().values == {}


def test_a_generator_cleans_up_inside_of_its_step(captured: MemorySink) -> None:
    """Also where its consumer is done with it."""

    @obs.traced(name="produce")
    def produce() -> Generator[int, None, None]:
        try:
            yield 1
        finally:
            obs.emit("cleaned")

    generator = produce()
    next(generator)
    generator.close()
    cleaned, step = captured.events
    assert (cleaned.event_type, cleaned.parent_event_id) == ("cleaned", step.event_id)


def test_a_generator_that_raises_says_so(captured: MemorySink) -> None:
    """What it yielded before was yielded."""

    @obs.traced
    def produce() -> Generator[int, None, None]:
        yield 1
        raise ValueError("v")

    items: list[int] = []
    with pytest.raises(ValueError, match="v"):
        items.extend(produce())
    generator = produce()
    assert next(generator) == 1
    assert steps(captured)[0]["error_type"] == "ValueError"
    generator.close()
    assert "error_type" not in steps(captured)[1]


def test_an_async_generator_is_one_step(captured: MemorySink) -> None:
    """The same as for a plain one."""

    async def main() -> list[Any]:
        got: list[Any] = []
        generator = echo_async(log)
        got.append(await anext(generator))
        obs.emit("of_consumer")
        got += [await generator.asend("a"), await generator.athrow(KeyError("k"))]
        with pytest.raises(StopAsyncIteration):
            await generator.asend("stop")
        early = echo_async(log)
        await anext(early)
        await early.aclose()
        return got

    log: list[Any] = []
    assert asyncio.run(main()) == ["first", "a", "caught 'k'"]
    assert log == ["closed"]
    assert steps(captured) == [{"name": "echo_async"}] * 2
    whole, early = captured.of_type("step")
    parents = [event.parent_event_id for event in captured.of_type("of_generator")]
    assert parents == [whole.event_id] * 3 + [early.event_id]
    assert [event.parent_event_id for event in captured.of_type("of_consumer")] == [None]
    assert inspect.isasyncgenfunction(echo_async)


def test_an_async_generator_in_a_comprehension(captured: MemorySink) -> None:
    """As most are used."""

    @obs.traced(name="count")
    async def count(n: int) -> AsyncIterator[int]:
        for each in range(n):
            yield each

    async def main() -> list[int]:
        return [each async for each in count(3)]

    assert asyncio.run(main()) == [0, 1, 2]
    assert steps(captured) == [{"name": "count"}]
