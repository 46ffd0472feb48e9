"""Model calls and prices as programs record them, indexed; and the store that reads them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eventlog.config import Config
from eventlog.format.control import Role
from eventlog.indexer.indexer import Indexer
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder

#: input, cache read, cache write for 5 minutes and for an hour, output
TOKENS = (
    "uncached_input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens",
)  # fmt: skip
MILLION = 1_000_000
NOON = "2026-11-01T12:00:00Z"
ENVELOPE = ("workspace", "agent", "session_id", "run_id")


def call(at: str, model: str | None = "claude-opus-4-5", *tokens: int, **more: Any) -> tuple[str, dict[str, Any]]:
    """A call at a time, of a model, with tokens in the order of TOKENS; Anthropic's unless it says otherwise."""
    provider = {"provider_name": "anthropic"} if model and model.startswith("claude") else {}
    return "llm_call", {
        "timestamp": at, "request_model": model, **provider, **dict(zip(TOKENS, tokens, strict=False)), **more,
    }  # fmt: skip


def price(model: str, input_: str | None, output: str | None, **more: Any) -> tuple[str, dict[str, Any]]:
    """A price, in force since 2020 unless it says otherwise."""
    rates = {"input_usd_per_mtok": input_, "output_usd_per_mtok": output}
    return "price_set", {
        "timestamp": "2026-01-01", "effective_from": "2020-01-01T00:00:00Z", "model": model,
        **{name: rate for name, rate in rates.items() if rate is not None}, **more,
    }  # fmt: skip


def recorded(root: Path, *events: tuple[str, dict[str, Any]]) -> list[str]:
    """Emit and index; return the events' ids."""
    recorder = Recorder(Config(root=str(root), strict=True), role=Role.MAINTENANCE)
    ids = []
    for event_type, given in events:
        payload = {name: value for name, value in given.items() if value is not None}
        envelope = {name: payload.pop(name) for name in ("timestamp", *ENVELOPE) if name in payload}
        ids.append(recorder.emit(event_type, payload, **envelope))
    recorder.shutdown()
    Indexer(root).catch_up()
    return [each for each in ids if each]


def store(root: Path, *events: tuple[str, dict[str, Any]]) -> ReadStore:
    """A store over these events."""
    recorded(root, *events)
    return ReadStore(root)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
