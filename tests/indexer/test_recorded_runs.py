"""Recorded runs: the index has what a program recorded, and the same totals as the run itself."""

from __future__ import annotations

import os
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import eventlog as obs
from eventlog.config import Config
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder
from tests.eventlog.runs import in_child
from tests.indexer.support import index, rows


class Failed(Exception):
    """Says no."""

    def __init__(self, step_id: str) -> None:
        super().__init__("no")
        self.step_id = step_id


def work(run: obs.Run) -> None:
    """Use a tool twice, think once, and fail."""
    with run:
        with obs.timed_tool_call("search", arguments={"q": "x"}) as tool:
            tool.result = [1]
        obs.tool_call("search", ok=False)
        with obs.step("think", kind="thought") as think:
            obs.llm_call(
                provider_name="anthropic", request_model="m", response_model="m-1", response_id="msg_1",
                usage={
                    "input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 7,
                    "cache_creation": {"ephemeral_1h_input_tokens": 5},
                },
                latency_ms=250, finish_reasons="end_turn", cost_usd="0.000000000001",
            )  # fmt: skip
        raise Failed(think.id)


def test_the_index_and_the_run_itself_agree(root: Path) -> None:
    """Row by row, and count by count."""
    obs.configure(root=root, strict=True)
    with obs.run("outer", agent="planner", session_id="s1", task="tidy") as outer, outer.step("delegate") as delegate:
        inner = obs.run("inner", agent="worker")
        with pytest.raises(Failed) as failed:
            work(inner)
    obs.shutdown()
    index(root)
    stats = inner.stats()
    counts = (
        "steps, llm_calls, llm_failures, tool_calls, tool_failures, errors, uncached_input_tokens, "
        "cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens"
    )
    expected = tuple(getattr(stats, name) for name in counts.split(", "))
    assert expected == (1, 1, 0, 2, 1, 0, 10, 90, 0, 5, 7)
    assert rows(root, f"SELECT {counts} FROM runs WHERE run_id = '{inner.id}'") == [expected]
    assert stats.cost_usd == Decimal("0.000000000001")
    assert rows(
        root,
        "SELECT name, task, agent, session_id, status, duration_ms, error_type, error_message, parent_run_id, host, "
        "pid FROM runs ORDER BY started",
    ) == [
        (
            "outer", "tidy", "planner", "s1", "ok", outer.stats().duration_ms, None, None, None, os.uname().nodename,
            os.getpid(),
        ),
        (
            "inner", None, "worker", "s1", "error", stats.duration_ms, f"{__name__}.Failed", "no", outer.id,
            os.uname().nodename, os.getpid(),
        ),
    ]  # fmt: skip
    assert rows(
        root, "SELECT event_id::VARCHAR, run_id, parent_event_id, name, kind, ok FROM steps ORDER BY finished"
    ) == [
        (failed.value.step_id, inner.id, None, "think", "thought", True),
        (delegate.id, outer.id, None, "delegate", "action", True),
    ]
    assert rows(
        root,
        "SELECT message_id, run_id, parent_event_id, provider, model, request_model, latency_ms, stop_reason, "
        "reported_cost_usd, ok, source FROM llm_calls",
    ) == [
        (
            "msg_1", inner.id, failed.value.step_id, "anthropic", "m-1", "m", 250.0, "end_turn",
            Decimal("0.000000000001"), True, "llm_call",
        )
    ]  # fmt: skip
    assert rows(root, "SELECT tool, input, ok FROM tool_calls ORDER BY finished") == [
        ("search", '{"q":"x"}', True),
        ("search", None, False),
    ]


def test_a_run_whose_process_was_killed_is_open_and_names_its_owner(root: Path) -> None:
    """Who looks can ask whether the owner is still there."""
    program = """
        import os, signal
        import eventlog as obs
        with obs.run("r"), obs.step("s"):
            obs.tool_call("t")
            print(os.getpid(), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = in_child(program, root)
    assert done.returncode == -9
    index(root)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert rows(root, "SELECT status, finished, tool_calls, steps, host, boot, pid FROM runs") == [
        ("running", None, 1, 0, os.uname().nodename, boot, int(done.stdout))
    ]


def test_a_run_knows_what_its_calls_cost_by_list_prices(root: Path) -> None:
    """To the last digit: 1,000 uncached, 10,000 from the cache, 100 into it, 2,000 out; what has no price is said."""
    pytest.importorskip("genai_prices")
    cache = {"cache_read_input_tokens": 10_000, "cache_creation_input_tokens": 100}
    usage = {"input_tokens": 1000, **cache, "output_tokens": 2000}
    obs.configure(root=root)
    with obs.run("r") as run:
        run.llm_call(provider_name="anthropic", request_model="claude-opus-4-5-20251101", usage=usage)
        assert (run.stats().cost_usd, run.stats().unpriced_calls) == (Decimal("0.060625"), 0)
        run.llm_call(output_tokens=4)
    assert (run.stats().cost_usd, run.stats().unpriced_calls) == (Decimal("0.060625"), 1)


@pytest.mark.parametrize("seed", range(4))
def test_a_run_prices_its_calls_as_the_index_does(root: Path, seed: int) -> None:
    """Whatever a price depends on: tier, place, web searches, reasoning, what was reported, what failed."""
    pytest.importorskip("genai_prices")
    chance = random.Random(seed)
    counts = ("uncached_input_tokens", "cache_read_tokens", "cache_write_1h_tokens", "output_tokens", "web_searches")
    obs.configure(root=root, strict=True)
    with obs.run("r") as run:
        for _ in range(60):
            fields: dict[str, Any] = {
                "request_model": chance.choice(["claude-opus-4-8", "gpt-5", "sonar-deep-research", "nobody", None]),
                "provider_name": chance.choice(["anthropic", None]),
                "service_tier": chance.choice(["standard", "batch", "fast", "mystery", None]),
                "inference_geo": chance.choice(["us", " US", "eu", "global", "", None]),
                "cost_usd": chance.choice(
                    [None, None, None, "0.000000000000000001", "-1", "9999999999", "99999999999"]
                ),
                "error_type": chance.choice([None, None, "Overloaded"]),
                "usage_problem": chance.choice([None, None, None, "odd"]),
                "reasoning_tokens": chance.choice([None, 3, 10**9, -1]),
                **{name: chance.choice([None, 0, 7, 300_000, -1, 10**12]) for name in counts},
            }
            run.llm_call(**fields)
    stats = run.stats()
    index(root)
    ((cost, unpriced),) = ReadStore(root).sql("SELECT sum(cost_usd), count(*) - count(cost_usd) FROM llm_costs").rows
    assert (stats.cost_usd, stats.unpriced_calls) == (cost, unpriced)
    assert 0 < unpriced < 60


def test_a_run_of_which_only_the_end_is_known_has_no_duration(root: Path) -> None:
    """Not 0 ms: that would be the fastest of all."""
    recorder = Recorder(Config(root=str(root), strict=True))
    recorder.emit("run_finished", {"status": "ok"}, run_id="r")
    recorder.shutdown()
    index(root)
    assert rows(root, "SELECT started, duration_ms, outcome FROM runs") == [(None, None, "ok")]
