"""The events of the benchmarks: what an agent's producer would declare."""

from __future__ import annotations

from typing import Any

import msgspec

import eventlog as obs


@obs.event("run_started")
class RunStarted(msgspec.Struct):
    """An agent begins to work on a task."""

    agent: str
    task: str
    host_kind: str
    budget_usd: float


@obs.event("run_finished")
class RunFinished(msgspec.Struct):
    """It is done, one way or another."""

    agent: str
    status: str
    steps: int
    duration_ms: int
    cost_usd: float
    summary: str


@obs.event("step")
class Step(msgspec.Struct):
    """One turn of its loop."""

    number: int
    name: str
    state: str
    elapsed_ms: int


@obs.event("llm_call")
class LlmCall(msgspec.Struct):
    """One call of a model."""

    model: str
    provider: str
    prompt: str
    completion: str
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    latency_ms: int
    ttft_ms: int
    finish_reason: str
    temperature: float


@obs.event("tool_call")
class ToolCall(msgspec.Struct, omit_defaults=True):
    """One use of a tool."""

    tool: str
    ok: bool
    duration_ms: int
    arguments: dict[str, Any]
    output: str
    error: str | None = None


@obs.event("decision")
class Decision(msgspec.Struct):
    """What it chose, of what, and why."""

    question: str
    chosen: str
    options: list[str]
    reason: str
    confidence: float


EVENTS: tuple[type[msgspec.Struct], ...] = (RunStarted, RunFinished, Step, LlmCall, ToolCall, Decision)
