"""Logs that nobody would wish for and every producer may write: valid lines with odd values, the same for a seed.

Two workspaces, and none, use the same ids; times are of 1970 or the year 1, or out of order; lines come twice, or
with another content; durations are 0, negative, or timestamps by mistake; counts are huge; runs end twice, without a
start, or never.
"""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

WORKSPACES = (None, "acme", "globex")
AGENTS = (None, "planner", "écrivain \u202e")
MODELS = ("acme-1", "Acme-1-mini", "claude-opus-4-5", "gpt-5", "nobody-knows-it")
STATUSES = ("ok", "ok", "error", "cancelled", "timeout", "running", "")
DURATIONS: tuple[Any, ...] = (0, 12, 0.125, 1500.5, 86_400_000, -5, 1.78e15, 1e300, None)
COUNTS: tuple[Any, ...] = (0, 1, 17, 4096, 10**9, 10**11, 10**12, None)
ERROR_TYPES: tuple[Any, ...] = (None, None, None, "TimeoutError", "", "builtins.ValueError")
PLACES = (None, None, "us", "EU", " eu", "Global", "", "not_available")
LEVELS = (None, None, None, "turn", "session", "export")
LONG_AGO = datetime(2025, 3, 1, 22, 0)
PRICES: tuple[tuple[str | None, dict[str, Any]], ...] = (
    (None, {"model": "acme", "input_usd_per_mtok": "0.3", "output_usd_per_mtok": "1.700000000001",
            "web_search_usd": "0.012500000001"}),
    (None, {"model": "acme", "input_usd_per_mtok": "4", "output_usd_per_mtok": "5", "inference_geo": "EU"}),
    (None, {"model": "acme", "input_usd_per_mtok": "6", "output_usd_per_mtok": "7", "inference_geo": "global",
            "service_tier": "batch", "web_search_usd": "1"}),
    (None, {"model": "ACME-1-m", "input_usd_per_mtok": "0.1", "output_usd_per_mtok": "0.4", "service_tier": "batch"}),
    (None, {"model": "claude", "input_usd_per_mtok": "5", "output_usd_per_mtok": "25", "cache_read_usd_per_mtok": "0.5",
            "cache_write_5m_usd_per_mtok": "6.25", "cache_write_1h_usd_per_mtok": "10"}),
    (None, {"model": "claude", "input_usd_per_mtok": "7", "output_usd_per_mtok": "8", "provider_name": "aws.bedrock"}),
    (None, {"model": "gpt-5", "input_usd_per_mtok": "1.25"}),
    (None, {"model": "nobody", "input_usd_per_mtok": "9", "output_usd_per_mtok": "9",
            "effective_until": "2025-03-02T00:00:00Z"}),
    ("acme", {"model": "acme-1", "input_usd_per_mtok": "0.000000000001", "output_usd_per_mtok": "0"}),
    ("acme", {"model": "acme-1", "input_usd_per_mtok": "2", "output_usd_per_mtok": "3",
              "effective_from": "2025-03-01T23:30:00Z"}),
)  # fmt: skip


class _Log:
    """Lines by event type, before they are written."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.lines: dict[str, list[bytes]] = defaultdict(list)

    def emit(self, event_type: str, at: datetime, payload: dict[str, Any], **envelope: Any) -> None:
        given = {name: value for name, value in payload.items() if value is not None or self.random.random() < 0.2}
        line = {
            "event_id": str(UUID(int=self.random.getrandbits(128), version=4)),
            "event_type": event_type,
            "timestamp": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0"),
            **{name: value for name, value in envelope.items() if value is not None or self.random.random() < 0.2},
            "payload": given,
        }
        self._keep(event_type, line)
        chance = self.random.random()
        if chance < 0.03:  # delivered again, spaced otherwise
            self.lines[event_type].append(json.dumps(line, separators=(" , ", " : ")).encode())
        elif chance < 0.05:  # one id, two contents
            self._keep(event_type, line | {"payload": given | {"output": "another one"}})
        elif chance < 0.07:
            self._keep(event_type, line | {"workspace": self.random.choice(WORKSPACES)})
        elif chance < 0.08:
            self.lines[event_type].append(b'{"event_id": "torn')

    def _keep(self, event_type: str, line: dict[str, Any]) -> None:
        self.lines[event_type].append(json.dumps(line, ensure_ascii=False).encode())

    def write(self, root: Path, segments: int) -> None:
        """Write each type's lines into some segments, shuffled as the clocks and queues of producers do."""
        for number, (event_type, lines) in enumerate(sorted(self.lines.items())):
            self.random.shuffle(lines)
            folder = root / "log" / event_type
            folder.mkdir(parents=True, exist_ok=True)
            for part in range(segments):
                name = f"20250401T0000{self.random.randrange(60):02}000000Z-{number:08x}{part:08x}"
                own = lines[part::segments]
                (folder / f"{name}.jsonl").write_bytes(b"".join(line + b"\n" for line in own))


def write(root: Path, seed: int, *, runs: int = 60, segments: int = 2) -> None:
    """Write a log of runs, calls and prices into a root."""
    log = _Log(seed)
    for number, (workspace, price) in enumerate(PRICES):
        dated = {"effective_from": "0001-01-01T00:00:00Z"} | price
        log.emit("price_set", LONG_AGO - timedelta(days=30 - number), dated, workspace=workspace)
    for number in range(runs):
        _write_run(log, f"run {number // 2}")  # each id is used twice on average, in whatever workspaces
    log.write(root, segments)


def _write_run(log: _Log, run_id: str) -> None:
    draw = log.random.choice
    began = LONG_AGO + timedelta(seconds=log.random.randrange(4 * 3600), microseconds=log.random.randrange(10**6))
    where = {"workspace": draw(WORKSPACES), "agent": draw(AGENTS), "session_id": draw((None, "s1", "s2"))}
    envelope = where | {"run_id": run_id}
    if log.random.random() < 0.9:
        log.emit("run_started", began, {"name": "nightly", "host": "elsewhere", "pid": 7}, **envelope)
    end = began
    for _ in range(log.random.randrange(12)):
        end += timedelta(microseconds=log.random.randrange(200_000_000))
        at = log.random.choices((end, datetime(1970, 1, 1), datetime(1, 1, 1), end - timedelta(days=1)), (40, 2, 1, 2))[
            0
        ]
        named = {"request_id": draw((None, "q1", "q2", f"q of {run_id}")), "audit_level": draw(LEVELS)}
        kept = {name: value for name, value in named.items() if value is not None}
        _write_event(log, at, envelope | {"run_id": draw((run_id, run_id, run_id, None))} | kept)
    if log.random.random() < 0.8:
        payload = {"status": draw(STATUSES), "duration_ms": draw(DURATIONS), "error_type": draw(ERROR_TYPES)}
        log.emit("run_finished", end + timedelta(seconds=draw((1, 1, 1, -7200))), payload, **envelope)


def _write_event(log: _Log, at: datetime, envelope: dict[str, Any]) -> None:
    draw = log.random.choice
    kinds = ("llm_call", "llm_call", "llm_call", "tool_call", "tool_call", "tool_call", "step", "error", "heartbeat")
    kind = draw((*kinds, "message", "request", "decision_trace"))
    error_type, duration = draw(ERROR_TYPES), draw(DURATIONS)
    payloads: dict[str, dict[str, Any]] = {
        "llm_call": {
            "request_model": draw(MODELS),
            "response_model": draw((None, None, "acme-1")),
            "provider_name": draw((None, "aws.bedrock", "acme")),
            "service_tier": draw((None, None, "batch", "standard")),
            "uncached_input_tokens": draw(COUNTS),
            "cache_read_tokens": draw(COUNTS),
            "cache_write_5m_tokens": draw((None, None, 5)),
            "cache_write_1h_tokens": draw((None, None, 7)),
            "output_tokens": draw(COUNTS),
            "reasoning_tokens": draw((None, 0, 3)),
            "latency_ms": duration,
            "time_to_first_token_ms": draw(DURATIONS),
            "cost_usd": draw((None, None, None, "0", "0.000000000000000001", "12.5", "-1", "10000000000")),
            "error_type": error_type,
            "web_searches": draw((None, None, None, 0, 1, 7, 10**12, -1)),
            "inference_geo": draw(PLACES),
            "usage_problem": draw((None,) * 9 + ("odd",)),
        },
        "tool_call": {
            "tool_name": draw(("search", "shell", None)),
            "tool_call_id": draw((None, "t1")),
            "ok": draw((None, None, True, False)),
            "duration_ms": duration,
            "error_type": error_type,
        },
        "step": {"name": "think", "duration_ms": duration, "error_type": error_type},
        "error": {"error_type": error_type, "error_message": "it broke"},
        "heartbeat": {"status": "running", "interval_s": draw((None, 30, 3600, -1, 1e300))},
        "message": {"role": "user", "content": "go on"},
        "request": {
            "name": draw((None, "chat")),
            "status": draw(STATUSES),
            "duration_ms": duration,
            "error_type": error_type,
        },
        "decision_trace": {"question": "which?"},
    }
    log.emit(kind, at, payloads[kind], **envelope)
