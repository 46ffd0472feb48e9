"""Built-in events as runs, steps and calls."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventlog.config import Config
from eventlog.format import builtin
from eventlog.indexer.views import definitions, recorded
from eventlog.record.recorder import Recorder
from tests.indexer.support import index, line, rows, segment

START = datetime(2026, 3, 1, 23, 59, 50, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def naive(seconds: float) -> datetime:
    return at(seconds).replace(tzinfo=None)


def emit(root: Path, *given: tuple[float, msgspec.Struct, dict[str, Any]]) -> list[str]:
    """Emit events at seconds after START; return their ids."""
    recorder = Recorder(Config(root=str(root), strict=True))
    ids = [recorder.emit(event, timestamp=at(seconds), **fields) for seconds, event, fields in given]
    recorder.shutdown()
    index(root)
    return [each for each in ids if each]


def test_messages_are_the_texts_of_message_events(root: Path) -> None:
    """A text as it is, blocks of text one below the other; what is neither has no text, and is there all the same."""
    blocks = [{"type": "text", "text": "Look:"}, {"type": "image", "data": "…"}, {"type": "text", "text": "a cat."}]
    ids = emit(
        root,
        (0, builtin.Message(role="user", content="What is it?"), {"session_id": "s", "agent": "a"}),
        (1, builtin.Message(role="assistant", content=blocks), {"run_id": "r"}),
        (2, builtin.Message(role="tool", content={"text": "odd"}), {"workspace": "w"}),
        (3, builtin.LlmCall(request_model="m", output_messages=[{"role": "assistant", "content": "no message"}]), {}),
    )
    assert rows(
        root,
        "SELECT role, text, model, run_id, session_id, subagent_id, workspace, agent, source, event_id::VARCHAR "
        "FROM messages ORDER BY timestamp",
    ) == [
        ("user", "What is it?", None, None, "s", None, None, "a", "message", ids[0]),
        ("assistant", "Look:\na cat.", None, "r", None, None, None, None, "message", ids[1]),
        ("tool", None, None, None, None, None, "w", None, "message", ids[2]),
    ]


def test_a_run_and_what_happened_in_it(root: Path) -> None:
    """Counts, sums and times of one run; events of others are not in it."""
    ids = emit(
        root,
        (0, builtin.RunStarted(name="nightly", task="tidy", host="h", boot="b", pid=7), {"run_id": "r", "agent": "a"}),
        (2, builtin.LlmCall(request_model="m", uncached_input_tokens=10, output_tokens=3), {"run_id": "r"}),
        (3, builtin.LlmCall(request_model="m", cache_read_tokens=5, error_type="Timeout"), {"run_id": "r"}),
        (4, builtin.ToolCall(tool_name="t"), {"run_id": "r"}),
        (5, builtin.ToolCall(tool_name="t", ok=False), {"run_id": "r"}),
        (6, builtin.ToolCall(tool_name="t", error_type="E"), {"run_id": "r"}),
        (7, builtin.Step(name="s"), {"run_id": "r"}),
        (8, builtin.Error(error_type="E"), {"run_id": "r"}),
        (9, builtin.LlmCall(output_tokens=1000), {"run_id": "other"}),
        (20, builtin.RunFinished(status="error", duration_ms=2e4, error_type="E", error_message="no"), {"run_id": "r"}),
    )  # fmt: skip
    assert rows(
        root,
        "SELECT run_id, name, task, agent, status, started, finished, last_event, duration_ms, error_type, "
        "error_message, events, steps, llm_calls, llm_failures, tool_calls, tool_failures, errors, "
        "uncached_input_tokens, cache_read_tokens, output_tokens, host, boot, pid, event_id::VARCHAR FROM runs",
    ) == [
        ("r", "nightly", "tidy", "a", "error", naive(0), naive(20), naive(20), 20_000, "E", "no",
         9, 1, 2, 1, 3, 2, 1, 10, 5, 3, "h", "b", 7, ids[0])
    ]  # fmt: skip


STORIES: dict[str, tuple[list[tuple[float, msgspec.Struct]], tuple[str, float | None]]] = {
    "finished": ([(0, builtin.RunStarted(name="n")), (5, builtin.RunFinished())], ("ok", 5000)),
    "finished, late event": (
        [(0, builtin.RunStarted(name="n")), (5, builtin.RunFinished()), (9, builtin.Step(name="s"))], ("ok", 5000),
    ),
    "only its end": ([(5, builtin.RunFinished(status="cancelled", duration_ms=4000.0))], ("cancelled", 4000)),
    "no end, long ago": ([(0, builtin.RunStarted(name="n")), (5, builtin.Step(name="s"))], ("abandoned", None)),
    "begun again": (
        [(0, builtin.RunStarted(name="n")), (5, builtin.RunFinished()), (6, builtin.RunStarted(name="n"))],
        ("abandoned", None),
    ),
    "begun and finished again": (
        [(0, builtin.RunStarted(name="n")), (5, builtin.RunFinished(status="error")), (6, builtin.RunStarted(name="n")),
         (8, builtin.RunFinished())],
        ("ok", 8000),
    ),
    "its end is stamped before its start": (
        [(5, builtin.RunStarted(name="n")), (4.8, builtin.RunFinished(duration_ms=800.0))], ("ok", 800),
    ),
    "before its start, and nobody measured": (
        [(5, builtin.RunStarted(name="n")), (4.8, builtin.RunFinished(status="error"))], ("error", 0),
    ),
    "twice, the last time before its start": (
        [(0, builtin.RunStarted(name="n")), (5, builtin.RunFinished()), (9, builtin.RunStarted(name="n")),
         (8, builtin.RunFinished(status="error"))],
        ("error", 8000),
    ),
    "killed, and begun again with a clock set back": (
        [(0, builtin.RunStarted(name="n")), (9, builtin.RunStarted(name="n")), (8, builtin.RunFinished())],
        ("abandoned", None),
    ),
    "killed, begun again and finished": (
        [(0, builtin.RunStarted(name="n")), (5, builtin.RunStarted(name="n")), (9, builtin.RunFinished())],
        ("ok", 9000),
    ),
}  # fmt: skip


@pytest.mark.parametrize("story", STORIES)
def test_how_a_run_ended(root: Path, story: str) -> None:
    """As its events say; without an end, by how long nothing has come from it."""
    told, expected = STORIES[story]
    emit(root, *((seconds, event, {"run_id": "r"}) for seconds, event in told))
    assert rows(root, "SELECT status, duration_ms FROM runs") == [expected]


def test_a_run_that_still_says_something_is_running(root: Path) -> None:
    """Until nothing has come from it for a while."""
    now = datetime.now(UTC)
    recorder = Recorder(Config(root=str(root), strict=True))
    after_s = definitions.ABANDONED_AFTER_S
    for run, silent_s in (("fresh", 0), ("quiet", after_s - 60), ("gone", after_s + 60)):
        recorder.emit(builtin.RunStarted(name="n"), run_id=run, timestamp=now - timedelta(days=1))
        recorder.emit("anything", run_id=run, timestamp=now - timedelta(seconds=silent_s))
    index(root)
    assert rows(root, "SELECT run_id, status FROM runs ORDER BY 1") == [
        ("fresh", "running"), ("gone", "abandoned"), ("quiet", "running"),
    ]  # fmt: skip


def test_a_run_that_promises_heartbeats_is_waited_for(root: Path) -> None:
    """For two of them; an interval that is none is not believed."""
    now = datetime.now(UTC)
    recorder = Recorder(Config(root=str(root), strict=True))
    for run, interval_s in (("hourly", 3600.0), ("minutely", 60.0), ("absurd", 1e18)):
        recorder.emit(builtin.RunStarted(name="n"), run_id=run, timestamp=now - timedelta(hours=5))
        recorder.emit(builtin.Heartbeat(interval_s=interval_s), run_id=run, timestamp=now - timedelta(minutes=100))
    index(root)
    assert rows(root, "SELECT run_id, status, epoch(abandoned_at - last_event) FROM runs ORDER BY 1") == [
        ("absurd", "abandoned", 900.0), ("hourly", "running", 7200.0), ("minutely", "abandoned", 900.0),
    ]  # fmt: skip


def test_a_run_that_was_tried_again_has_no_error_of_before(root: Path) -> None:
    """What the last end does not say is not taken from an earlier one."""
    emit(
        root,
        (0, builtin.RunStarted(name="n", pid=1), {"run_id": "r"}),
        (1, builtin.RunFinished(status="error", error_type="E", error_message="no", duration_ms=1.0), {"run_id": "r"}),
        (2, builtin.RunStarted(name="n"), {"run_id": "r"}),
        (3, builtin.RunFinished(), {"run_id": "r"}),
    )
    assert rows(root, "SELECT status, error_type, error_message, duration_ms, pid FROM runs") == [
        ("ok", None, None, 3000.0, None)
    ]


def test_a_run_id_in_two_workspaces_is_two_runs(root: Path) -> None:
    """And each has what happened in its own, also the one of no workspace."""
    for workspace, status in (("a", "ok"), ("b", "error"), (None, "cancelled")):
        fields = {"run_id": "nightly"} | ({} if workspace is None else {"workspace": workspace})
        emit(
            root,
            (0, builtin.RunStarted(name="n"), fields),
            (1, builtin.LlmCall(output_tokens=len(status)), fields),
            (2, builtin.RunFinished(status=status), fields),
        )
    assert rows(root, "SELECT workspace, status, llm_calls, output_tokens FROM runs ORDER BY 1") == [
        ("a", "ok", 1, 2), ("b", "error", 1, 5), (None, "cancelled", 1, 9),
    ]  # fmt: skip


def test_events_with_a_run_id_alone_make_no_run(root: Path) -> None:
    """Nobody said that it began, or is over."""
    emit(root, (0, builtin.Step(name="s"), {"run_id": "r"}))
    assert rows(root, "SELECT count(*) FROM runs") == [(0,)]


def test_steps_begin_before_their_events(root: Path) -> None:
    """By their duration, to the microsecond; one without a duration has no length, an absurd one does no harm."""
    emit(
        root,
        (10, builtin.Step(name="retrieve", kind="plan", duration_ms=1500.25), {"run_id": "r", "parent_event_id": "p"}),
        (20, builtin.Step(name="now", error_type="ValueError", error_message="no"), {}),
        (30, builtin.Step(name="for ever", duration_ms=1e300), {}),
    )
    assert rows(
        root,
        "SELECT name, kind, run_id, parent_event_id, started, finished, ok, error_type, error_message "
        "FROM steps ORDER BY finished",
    ) == [
        ("retrieve", "plan", "r", "p", naive(10 - 1.50025), naive(10), True, None, None),
        ("now", "action", None, None, naive(20), naive(20), False, "ValueError", "no"),
        ("for ever", "action", None, None, naive(30), naive(30), True, None, None),
    ]  # fmt: skip


def test_calls_of_models_and_tools(root: Path) -> None:
    """With what their producer said, and nothing else."""
    call = builtin.LlmCall(
        provider_name="openai", request_model="m", response_model="m-2026", response_id="x", finish_reasons=["stop"],
        uncached_input_tokens=1, cache_write_1h_tokens=2, output_tokens=3, reasoning_tokens=1, service_tier="batch",
        latency_ms=12.5, time_to_first_token_ms=2.5, cost_usd=Decimal("0.000000000001"), raw_usage={"a": 1},
    )  # fmt: skip
    emit(
        root,
        (0, call, {"run_id": "r", "request_id": "q"}),
        (1, builtin.ToolCall(tool_name="t", tool_call_id="c", arguments={"a": 1}, result="r", duration_ms=250.0), {}),
    )
    assert rows(
        root,
        "SELECT source, provider, model, request_model, message_id, request_id, run_id, stop_reason, "
        "uncached_input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens, "
        "reasoning_tokens, service_tier, latency_ms, ttft_ms, ok, reported_cost_usd, raw_usage, timestamp "
        "FROM llm_calls",
    ) == [
        ("llm_call", "openai", "m-2026", "m", "x", "q", "r", "stop", 1, 0, 0, 2, 3, 1, "batch", 12.5, 2.5, True,
         Decimal("0.000000000001"), '{"a":1}', naive(0))
    ]  # fmt: skip
    assert rows(root, "SELECT source, tool, tool_call_id, input, output, timestamp, finished, ok FROM tool_calls") == [
        ("tool_call", "t", "c", '{"a":1}', '"r"', naive(0.75), naive(1), True)
    ]


def test_a_program_may_have_its_own_event_of_that_name(root: Path) -> None:
    """Fields of other types are NULL in these views, where they are no texts."""
    recorder = Recorder(Config(root=str(root), strict=True))
    recorder.emit("llm_call", {"model": "mine", "extra": {"a": 1}})
    recorder.record_lines(
        "llm_call",
        [b'{"event_id":"01a1fc0e-90e7-7614-b5c5-39cd6cbb2847","event_type":"llm_call","timestamp":"2026-01-01T00:00:00.000000Z","payload":{"request_model":{"a":1},"output_tokens":"many","latency_ms":"7"}}\n'],
    )  # fmt: skip
    index(root)
    assert rows(root, "SELECT model, output_tokens, latency_ms FROM llm_calls ORDER BY timestamp") == [
        ('{"a":1}', 0, None), (None, 0, None),
    ]  # fmt: skip


# -- lines of other programs -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({}, (True, None)),
        ({"ok": False, "duration_ms": 2}, (False, 2.0)),
        ({"ok": "no", "duration_ms": "12e4"}, (None, None)),
        ({"ok": "true"}, (None, None)),
        ({"ok": 0}, (None, None)),
        ({"ok": None, "duration_ms": None}, (None, None)),
        ({"ok": "no", "error_type": "Refused"}, (False, None)),
    ],
)
def test_a_tool_call_that_says_something_odd(root: Path, payload: dict[str, Any], expected: tuple[object, ...]) -> None:
    """What is no boolean and no number is unknown, whatever its text reads like."""
    segment(root, line(1, "tool_call", run_id="r", payload={"tool_name": "t"} | payload), event_type="tool_call")
    index(root)
    assert rows(root, "SELECT ok, duration_ms FROM tool_calls") == [expected]
    assert rows(root, "SELECT count(*) FILTER (NOT ok) FROM tool_calls") == [(int(expected[0] is False),)]


@pytest.mark.parametrize(
    ("payload", "tokens", "problem"),
    [
        ({"output_tokens": 5}, 5, None),
        ({"output_tokens": 5.0}, 5, None),
        ({"output_tokens": None}, 0, None),
        ({"output_tokens": "12"}, 0, 'output_tokens: "12"'),
        ({"output_tokens": 1.5}, 0, "output_tokens: 1.5"),
        ({"output_tokens": 2**63}, 0, "output_tokens: a huge number"),
        ({"output_tokens": [1]}, 0, "output_tokens: a list"),
        ({"output_tokens": "12", "usage_problem": "said"}, 0, "said"),
    ],
)
def test_a_count_that_is_none_is_a_problem(
    root: Path, payload: dict[str, Any], tokens: int, problem: str | None
) -> None:
    """It is no part of a sum, and the call says so and has no price."""
    segment(root, line(1, "llm_call", payload={"request_model": "m"} | payload), event_type="llm_call")
    index(root)
    assert rows(root, "SELECT output_tokens, usage_problem FROM llm_calls") == [(tokens, problem)]


@pytest.mark.parametrize("cost", ["0.1234567890123456789", 0.12345678901234568, "1E-7", 3])
def test_a_cost_is_rounded_to_eighteen_decimals(root: Path, cost: str | float) -> None:
    """A quotient has more, and is a cost all the same."""
    segment(root, line(1, "llm_call", payload={"request_model": "m", "cost_usd": cost}), event_type="llm_call")
    index(root)
    ((found,),) = rows(root, "SELECT reported_cost_usd FROM llm_calls")
    assert found == Decimal(str(cost)).quantize(Decimal(1).scaleb(-18))


def test_typed_views_of_built_in_events_read_columns_not_payloads(root: Path) -> None:
    """A sum over a million calls reads one column: parsing the payloads would take thirty times as long."""
    emit(
        root,
        (0, builtin.RunStarted(name="r"), {"run_id": "r"}),
        (1, builtin.Step(name="s"), {"run_id": "r"}),
        (2, builtin.LlmCall(output_tokens=1), {"run_id": "r"}),
        (3, builtin.ToolCall(tool_name="t"), {"run_id": "r"}),
        (4, builtin.Heartbeat(interval_s=1.0), {"run_id": "r"}),
        (5, builtin.RunFinished(), {"run_id": "r"}),
    )
    views = dict(rows(root, "SELECT view_name, sql FROM duckdb_views()"))
    stored = [column for column in recorded.PROMOTED if column.expression is None]
    reading = {column.column for column in stored if f'"{column.column}" AS' not in views[column.event_type]}
    assert len(stored) >= 25
    assert not reading
    assert rows(root, "SELECT kind FROM step UNION ALL SELECT status FROM run_finished") == [("action",), ("ok",)]
    assert rows(root, "SELECT ok FROM tool_call") == [(True,)]


def test_counts_beyond_a_bigint_are_counts_and_end_no_sum(root: Path) -> None:
    """The schema says `integer`, so the typed view has them; what is summed up is a BIGINT, and they are a problem."""
    huge = 2**126
    counts = [{"output_tokens": huge + number, "reasoning_tokens": huge} for number in range(2)]
    calls = [line(number, "llm_call", run_id="r", payload=payload) for number, payload in enumerate(counts)]
    segment(root, *calls, event_type="llm_call")
    emit(root, (0, builtin.LlmCall(output_tokens=7), {"run_id": "r"}), (1, builtin.RunFinished(), {"run_id": "r"}))
    assert rows(root, "SELECT output_tokens FROM llm_call ORDER BY 1") == [(7,), (huge,), (huge + 1,)]
    problem = "output_tokens: a huge number"
    assert rows(root, "SELECT output_tokens, reasoning_tokens, usage_problem FROM llm_calls ORDER BY ALL") == [
        (0, None, problem), (0, None, problem), (7, None, None),
    ]  # fmt: skip
    assert rows(root, "SELECT output_tokens FROM runs") == [(7,)]
