"""Of all that an agent's values and surroundings can raise, only an interrupt and an exit leave what records."""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest

import eventlog as obs
from eventlog.record import heartbeats
from eventlog.record.recorder import Recorder
from tests.conftest import lines_of


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("the error itself cannot be printed")

    __repr__ = __str__


def bad(*_: object, **__: object) -> NoReturn:
    raise Unprintable


#: What is raised: errors, odd ones, and those that are no errors by their class.
RAISED = (RuntimeError, Unprintable, MemoryError, RecursionError, StopIteration, GeneratorExit, asyncio.CancelledError)


def raising(kind: type[BaseException]) -> Callable[..., NoReturn]:
    def raise_(*_: object, **__: object) -> NoReturn:
        raise kind

    return raise_


def odd(**methods: Any) -> Any:
    """An object of which some methods fail."""
    return type("Odd", (), methods)()


class Zone(datetime.tzinfo):
    utcoffset = dst = tzname = bad


class Lying(dict[str, Any]):
    __len__ = __iter__ = keys = items = values = __getitem__ = bad


class Told(str):
    __slots__ = ()
    __eq__ = __hash__ = __str__ = __repr__ = __len__ = bad


def halfway(kind: type[BaseException] = Unprintable) -> Iterator[dict[str, int]]:
    yield {"n": 1}
    yield {"n": 2}
    raise kind


def deep(call: Callable[[], object], room: int) -> object:
    """Call something with so many frames left on the stack."""
    left = sys.getrecursionlimit() - len(_frames()) - room

    def down(count: int) -> object:
        return call() if count <= 0 else down(count - 1)

    return down(left)


def _frames() -> list[Any]:
    frame, found = sys._getframe(), []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back  # type: ignore[assignment]  # None at the end
    return found


VALUES: dict[str, Callable[[], object]] = {
    "a time in a bad zone": lambda: obs.emit("t", {}, timestamp=datetime.datetime(2026, 1, 1, tzinfo=Zone())),
    "a time without a repr": lambda: obs.emit("t", {}, timestamp=odd(__repr__=bad, __str__=bad)),
    "a key without a text": lambda: obs.emit("t", {}, dedupe_key=odd(__repr__=bad, __str__=bad)),
    "a payload without a repr": lambda: obs.emit("t", odd(__repr__=bad, __str__=bad)),
    "a payload that is no class's": lambda: obs.emit("t", odd(__class__=property(bad))),
    "a value that is no class's": lambda: obs.emit("t", {"a": odd(__class__=property(bad), __repr__=bad)}),
    "a type without a class": lambda: obs.emit(odd(__class__=property(bad), __repr__=bad)),
    "a type that is no type": lambda: obs.emit(b"t", {}),  # type: ignore[call-overload]
    "no type at all": obs.emit,  # type: ignore[dict-item]
    "one argument too many": lambda: obs.emit("t", {}, {}),  # type: ignore[call-overload]
    "an unknown field": lambda: obs.emit("t", payload={}),
    "a field without a repr": lambda: obs.emit("t", {}, run_id=odd(__repr__=bad)),
    "a subclass of a type that is registered": lambda: obs.emit(type("X", (msgspec.Struct,), {"a": 1})()),
    "no iterable": lambda: obs.emit_many(5),  # type: ignore[call-overload]
    "no iterable of payloads": lambda: obs.emit_many("t", 5),  # type: ignore[call-overload]
    "an iterator that fails at once": lambda: obs.emit_many("t", odd(__iter__=bad)),
    "an iterable without a class": lambda: obs.emit_many(odd(__class__=property(bad), __iter__=bad)),
    "envelopes that are none": lambda: obs.recorder().record([5, None]),  # type: ignore[list-item]
    "no envelopes": lambda: obs.recorder().record(5),  # type: ignore[arg-type]
    "a tool without a name": obs.tool_call,  # type: ignore[dict-item]
    "nothing but the stack's end": lambda: deep(lambda: obs.emit("t", {"a": 1}), 12),
}


def _odd_run() -> bool:
    odd_one = odd(__class__=property(bad), __repr__=bad, __eq__=bad, __hash__=None)
    with obs.run(odd_one, agent=odd_one, run_id=odd_one, task=odd_one, attributes=odd_one) as run:
        run.step(odd_one, kind=odd_one)
        with obs.timed_llm_call(usage=odd_one, request_model=odd_one) as call:
            call.first_token()
            call.anything = odd_one
        obs.heartbeat(odd_one)
        obs.structlog_processor(odd_one, odd_one, {"event": odd_one})
        obs.LogHandler().emit(odd_one)
    return True


#: Here the event is recorded all the same.
MENDED: dict[str, Callable[[], object]] = {
    "an error without a text": lambda: obs.error(Unprintable()),
    "an error of odd causes": lambda: obs.error(_chained()),
    "a tool with an odd result": lambda: obs.tool_call("t", result=odd(__class__=property(bad), __repr__=bad)),
    "a usage that cannot be read": lambda: obs.llm_call(usage=odd(__getattr__=bad, __class__=property(bad))),
    "a dict that lies": lambda: obs.emit("t", Lying(a=1)),
    "a type that cannot be compared": lambda: obs.emit(Told("t"), {}),
    "a run of odd names": _odd_run,
    "a name that cannot be compared": lambda: obs.message("user", odd(__eq__=bad, __hash__=None)),
}


def _chained() -> BaseException:
    error = Unprintable()
    error.__cause__ = error
    error.add_note("x")
    return error


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("case", VALUES)
def test_a_value_that_fails_is_counted_and_not_raised(case: str, strict: bool, root: Path) -> None:
    """Where the recorder is strict, an error of eventlog's own is raised and nothing else."""
    obs.configure(root=root, strict=strict)
    try:
        VALUES[case]()
    except obs.EventlogError:
        assert strict
    stats = obs.stats()
    assert (stats.refused + stats.lost, stats.emitted) in ((1, 0), (2, 0))
    obs.configure(root=root)
    assert obs.emit("t", {"after": True})


@pytest.mark.parametrize("case", MENDED)
def test_a_value_that_fails_costs_nothing_but_itself(case: str, root: Path) -> None:
    """What can be said of it is recorded."""
    obs.configure(root=root)
    assert MENDED[case]()
    assert (obs.stats().refused, obs.stats().lost) == (0, 0)


@pytest.mark.parametrize("kind", RAISED)
def test_what_an_iterable_gave_before_it_failed_is_recorded(kind: type[BaseException], root: Path) -> None:
    """Its failure is counted as one drop, and reported."""
    if kind is StopIteration:
        pytest.skip("a generator turns it into a RuntimeError")
    obs.configure(root=root)
    assert len(obs.emit_many("t", halfway(kind))) == 2
    assert (obs.stats().emitted, obs.stats().lost) == (2, 1)
    assert obs.emit("t", {"n": 3})
    told = [json.loads(line) for line in lines_of(root, "events_dropped")]
    assert [each["payload"]["count"] for each in told] == [1]


def test_strict_raises_what_failed_after_the_rest_is_written(root: Path) -> None:
    """Of a batch with one that is refused, and of an iterable that fails."""
    obs.configure(root=root, strict=True)
    with pytest.raises(obs.WriteFailed, match="iterable"):
        obs.emit_many("t", halfway())
    with pytest.raises(obs.InvalidEvent):
        obs.emit_many("t", [{"n": 3}, {"n": object()}, {"n": 4}])
    assert [json.loads(line)["payload"]["n"] for line in lines_of(root, "t")] == [1, 2, 3]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_passes_and_what_came_before_it_is_recorded(stop: type[BaseException], root: Path) -> None:
    """Ctrl-C in the middle of a generator that waits for the next one."""
    obs.configure(root=root)
    with pytest.raises(stop):
        obs.emit_many("t", halfway(stop))
    obs.redact_with(raising(stop))
    with pytest.raises(stop):
        obs.emit("t", {})
    obs.redact_with(None)
    assert len(lines_of(root, "t")) == 2


_LOGGED = logging.makeLogRecord({"name": "mine", "msg": "m"})


class Handler(logging.Handler):
    def __init__(self, kind: type[BaseException]) -> None:
        super().__init__()
        self.kind = kind

    def emit(self, record: logging.LogRecord) -> None:
        raise self.kind


@pytest.mark.parametrize("methods", [{"__getattr__": bad}, {"write": 5, "flush": bad, "close": None}, {}], ids=range(3))
def test_a_sink_that_is_none_costs_no_event(methods: dict[str, Any], root: Path) -> None:
    """Its methods are asked for where what they raise is caught."""
    sink = odd(**methods)
    obs.configure(root=root)
    obs.add_sink(sink)
    assert obs.emit("t", {})
    assert obs.flush()
    obs.remove_sink(sink)
    assert (obs.stats().lost, len(lines_of(root, "t"))) == (0, 1)
    assert obs.stats().sink_errors == 3


@pytest.mark.parametrize("kind", RAISED)
@pytest.mark.parametrize(
    "where", ["a handler", "a filter", "a sink", "a redactor", "the clock", "randomness", "warnings"]
)
def test_surroundings_that_fail_are_counted_and_not_raised(
    where: str, kind: type[BaseException], root: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:  # fmt: skip
    """Emit, a batch, a run with a step, and an error: none of them raises."""
    obs.configure(root=root)
    logger = logging.getLogger("eventlog")
    with monkeypatch.context() as patch:
        if where == "a handler":
            handler = Handler(kind)
            logger.addHandler(handler)
            request.addfinalizer(lambda: logger.removeHandler(handler))
        elif where == "a filter":
            logger.addFilter(raising(kind))
            request.addfinalizer(logger.filters.clear)
        elif where == "a sink":
            sink = odd(write=raising(kind), flush=raising(kind), close=raising(kind))
            obs.add_sink(sink)
            request.addfinalizer(lambda: obs.remove_sink(sink))
        elif where == "a redactor":
            obs.redact_with(raising(kind))
            request.addfinalizer(lambda: obs.redact_with(None))
        elif where == "the clock":
            for name in ("time", "time_ns", "monotonic", "perf_counter"):
                patch.setattr(time, name, raising(kind))
        elif where == "randomness":
            patch.setattr("eventlog.format.ids._random", [])
            patch.setattr(os, "urandom", raising(kind))
        else:
            patch.setattr("warnings.warn", raising(kind))
        done = _record_all()
    assert done == 2
    stats = obs.stats()
    assert stats.emitted + stats.lost + stats.refused >= 5
    assert stats.refused + stats.lost + stats.sink_errors >= 1


def _record_all() -> int:
    """Record in all ways; return how many of two blocks were run."""
    done = 0
    obs.emit("Bad Type", {})
    obs.emit("t", {"a": 1})
    obs.emit_many("t", [{}, {}])
    with obs.run("r") as run, run.step("s"):
        done += 1
        run.tool_call("t")
        obs.error("x")
    with obs.timed_tool_call("t") as call:
        done += 1
        call.result = 1
    obs.LogHandler().emit(_LOGGED)
    obs.flush()
    return done


@pytest.mark.parametrize("room", range(2, 60))
def test_a_stack_that_is_nearly_full_costs_the_event_at_most(room: int, root: Path) -> None:
    """Whether there is room to write it, to say why not, or for nothing at all."""
    obs.configure(root=root)
    obs.emit("t", {})
    returned: list[object] = []

    def emit() -> None:
        returned.append(obs.emit("t", {"a": 1}))

    stack = ""
    try:
        deep(emit, room)
    except RecursionError as error:
        stack = "".join(traceback.format_tb(error.__traceback__))
    assert "api.py" not in stack, "it left emit"
    assert obs.emit("t", {})
    stats = obs.stats()
    assert stats.emitted + stats.lost + stats.refused - len(lines_of(root, "events_dropped")) >= 2
    if returned == [None]:
        assert stats.lost + stats.refused == 1


def test_syncing_goes_on_whatever_a_sync_runs_into(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the handler that is told of it fails. It is counted, and seen in `stats()`."""
    handler = Handler(SystemExit)
    logging.getLogger("eventlog").addHandler(handler)
    try:
        for raised in (
            OSError(5, "EIO"),
            MemoryError(),
            ValueError(),
            SystemExit(),
            KeyboardInterrupt(),
            Unprintable(),
        ):
            _fail_and_recover(root, raised, monkeypatch)
    finally:
        logging.getLogger("eventlog").removeHandler(handler)


def _fail_and_recover(
    root: Path, raised: BaseException, monkeypatch: pytest.MonkeyPatch, real: Callable[[int], None] = os.fdatasync
) -> None:
    made = Recorder(obs.recorder().config.__class__(root=str(root), sync_interval_s=0.01))
    calls = 0

    def sync(fd: int) -> None:
        nonlocal calls
        calls += 1
        if calls < 5:
            raise raised
        real(fd)

    monkeypatch.setattr(os, "fdatasync", sync)
    deadline = time.monotonic() + 20
    while calls < 8 or not made._writer._is_synced():
        made.emit("t", {})
        time.sleep(0.01)
        assert time.monotonic() < deadline, f"{raised!r}: no sync after the disk came back"
    assert made.stats().background_errors > 0
    made.shutdown()


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit, GeneratorExit])
def test_other_runs_beat_on_when_a_beat_fails(kind: type[BaseException], root: Path) -> None:
    """The thread of heartbeats is one for all."""
    obs.configure(root=root)
    before = obs.stats().background_errors
    beats: list[int] = []
    heartbeats.start(1, raising(kind), 0.05)
    heartbeats.start(2, lambda: beats.append(1), 0.05)
    deadline = time.monotonic() + 10
    while len(beats) < 3:
        time.sleep(0.01)
        assert time.monotonic() < deadline
    heartbeats.stop(1)
    heartbeats.stop(2)
    assert obs.stats().background_errors > before


def test_a_context_that_is_left_elsewhere_is_no_error() -> None:
    """A generator that another task closes leaves its block there."""
    import contextvars

    def work() -> Generator[None]:
        with obs.context(run_id="r"):
            yield

    there = contextvars.copy_context()
    generator = work()
    there.run(next, generator)
    generator.close()
