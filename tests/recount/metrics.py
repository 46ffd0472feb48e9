"""Metrics per day or hour and group: docs/metrics.md."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from datetime import datetime
from decimal import Decimal
from typing import Any

from tests.recount.calls import MS_MAX, TOKENS, llm_calls, tool_calls
from tests.recount.costs import cost
from tests.recount.log import Event, text
from tests.recount.runs import runs

GROUPS = ("workspace", "agent", "model")
Key = tuple[datetime, str | None, str | None, str | None]


class _Row:
    """What is added up for one bucket and group."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.types: dict[str, Counter[str]] = defaultdict(Counter)
        self.values: dict[str, list[float]] = defaultdict(list)
        self.costs: list[Decimal] = []

    def failed(self, kind: str, error_type: str | None) -> None:
        self.types[kind][error_type if error_type is not None else "(unknown)"] += 1

    def took(self, kind: str, value: float | None) -> None:
        if value is not None and 0 <= value <= MS_MAX:
            self.values[kind].append(value)

    def figures(self) -> dict[str, Any]:
        """All figures by name; those that are not counted are absent."""
        judged = sum(self.counts[f"runs_{each}"] for each in ("ok", "error", "abandoned"))
        return {
            **{name: self.counts[name] for name in COUNTS},
            **{name: dict(self.types[name]) for name in TYPES},
            **{name: _percentiles(self.values[name]) for name in DURATIONS},
            "success_rate": self.counts["runs_ok"] / judged if judged else None,
            "cost_usd": sum(self.costs, Decimal(0)) if self.costs else None,
        }


COUNTS = (
    "runs", "runs_ok", "runs_error", "runs_cancelled", "runs_abandoned", "runs_running", "llm_calls", "llm_failures",
    *(f"{name}_tokens" for name in TOKENS), "reasoning_tokens", "unpriced_calls", "tool_calls", "tool_failures",
)  # fmt: skip
TYPES = ("run_errors", "llm_errors", "tool_errors", "logged_errors")
DURATIONS = ("run_duration_ms", "latency_ms", "ttft_ms", "tool_duration_ms")


def metrics(events: list[Event], bucket: str, by: Collection[str], now: datetime) -> dict[Key, dict[str, Any]]:
    """The figures by start of the bucket, workspace, agent and model. `events` are without copies."""
    rows: dict[Key, _Row] = defaultdict(_Row)

    def row(moment: datetime, workspace: str | None, agent: str | None, model: str | None = None) -> _Row:
        start = moment.replace(minute=0, second=0, microsecond=0)
        start = start.replace(hour=0) if bucket == "day" else start
        keys = {"workspace": workspace, "agent": agent, "model": model}
        return rows[(start, *(keys[name] if name in by else None for name in GROUPS))]  # type: ignore[index]

    for (workspace, _), run in runs(events, now, now).items():
        into = row(run["started"] or run["finished"] or run["last_event"], workspace, run["agent"])
        outcome = run["outcome"]
        into.counts.update(["runs", f"runs_{outcome}"])
        into.took("run_duration_ms", run["duration_ms"])
        if outcome == "error":
            into.failed("run_errors", run["error_type"])
    prices = [event for event in events if event.event_type == "price_set"]
    for call in llm_calls(events):
        into = row(call.timestamp, call.workspace, call.agent, call.model)
        into.counts.update({f"{name}_tokens": count for name, count in zip(TOKENS, call.tokens, strict=True)})
        into.counts.update({"llm_calls": 1, "llm_failures": not call.ok, "reasoning_tokens": call.reasoning or 0})
        into.took("latency_ms", call.latency_ms)
        into.took("ttft_ms", call.ttft_ms)
        if not call.ok:
            into.failed("llm_errors", call.error_type)
        its_cost = cost(call, prices)
        if its_cost is None:
            into.counts["unpriced_calls"] += 1
        else:
            into.costs.append(its_cost)
    for tool in tool_calls(events):
        into = row(tool.timestamp, tool.workspace, tool.agent)
        into.counts.update({"tool_calls": 1, "tool_failures": tool.ok is False})
        into.took("tool_duration_ms", tool.duration_ms)
        if tool.ok is False:
            into.failed("tool_errors", tool.error_type)
    for event in events:
        if event.event_type == "error":
            into = row(event.timestamp, event.workspace, event.agent)
            into.failed("logged_errors", text(event.payload.get("error_type")))
    return {key: each.figures() for key, each in rows.items()}


def _percentiles(values: list[float]) -> tuple[float, ...] | None:
    """How many values, and the p50, p95 and p99: of n values in order, number ⌈p n⌉."""
    ordered = sorted(values)
    if not ordered:
        return None
    return len(ordered), *(ordered[-(-len(ordered) * percent // 100) - 1] for percent in (50, 95, 99))
