"""What Codex sessions cost, and what calls cost by the price list, beside a count that the product has no part in."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from eventlog.config import Config
from eventlog.format.control import Role
from eventlog.importers.codex import Codex
from eventlog.importers.engine import importing
from eventlog.indexer.indexer import Indexer
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder
from tests.recount import costs, log, rollouts
from tests.recount.calls import TOKENS, LlmCall, llm_calls

PRICES: tuple[dict[str, Any], ...] = (
    {"model": "gpt", "input_usd_per_mtok": "1.25", "cache_read_usd_per_mtok": "0.125", "output_usd_per_mtok": "10",
     "web_search_usd": "0.01"},
    {"model": "gpt-5.3", "input_usd_per_mtok": "1.75", "output_usd_per_mtok": "14.000000000001"},
)  # fmt: skip
CALLS = f"""
SELECT session_id, model, [{", ".join(f"{name}_tokens" for name in TOKENS)}], reasoning_tokens, web_searches,
       cost_usd FROM llm_costs
"""


def recorder(root: Path) -> Recorder:
    return Recorder(Config(root=str(root), strict=True), role=Role.MAINTENANCE)


def plain(amount: Decimal | None) -> Decimal | None:
    return None if amount is None else amount.quantize(Decimal("1e-18"))


@pytest.mark.parametrize("seed", range(6))
def test_what_codex_used_is_counted_once(root: Path, tmp_path: Path, seed: int) -> None:
    """Tokens, searches and money of each call, whatever is repeated, lost or copied; in any order of import."""
    paths, used = rollouts.write(tmp_path / "sessions", seed)
    chance = Random(seed)
    chance.shuffle(paths)
    for path in paths:
        with importing(Config(root=str(root), strict=True), Codex()) as importer:
            importer.run(path)
        if chance.random() < 0.5:
            Indexer(root).catch_up()
    writer = recorder(root)
    for price in PRICES:
        writer.emit("price_set", price | {"effective_from": "2020-01-01T00:00:00Z"})
    writer.shutdown()
    Indexer(root).catch_up()
    prices = [event for event in log.read(root) if event.event_type == "price_set"]
    assert _counted(ReadStore(root).sql(CALLS).rows) == _counted(
        (
            call.session_id, call.model, list(call.tokens), call.reasoning, call.searches,
            plain(costs.cost(call, prices)),
        )
        for call in used
    )  # fmt: skip


def _counted(rows: Any) -> Counter[str]:
    return Counter(repr(tuple(row)) for row in rows)


MODELS = (
    ("claude-opus-4-8", "anthropic"), ("claude-sonnet-4-5", "anthropic"), ("gpt-5", "openai"),
    ("sonar-deep-research", "perplexity"), ("deepseek-v4-pro", "deepseek"), ("nobody-knows-it", "openai"),
)  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2])
def test_calls_cost_what_the_library_says(root: Path, seed: int) -> None:
    """By its own calculation: at any hour, with any counts, in the US and elsewhere."""
    pytest.importorskip("genai_prices")
    from tests.recount import library

    chance = Random(seed)
    writer = recorder(root)
    for _ in range(150):
        model, provider = chance.choice(MODELS)
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=chance.randrange(300 * 86_400))
        fields = {f"{name}_tokens": chance.choice((0, 1, chance.randrange(300_000))) for name in TOKENS}
        payload = {
            "request_model": model, "provider_name": provider, **fields, "output_tokens": chance.randrange(1, 50_000),
            "reasoning_tokens": chance.randrange(60_000),
            "inference_geo": chance.choice(("us", "global")) if model.startswith("claude-opus") else None,
        }  # fmt: skip
        writer.emit("llm_call", {name: value for name, value in payload.items() if value is not None}, timestamp=at)
    writer.shutdown()
    Indexer(root).catch_up()
    found: dict[str, Decimal | None] = dict(
        ReadStore(root).sql("SELECT event_id::VARCHAR, cost_usd FROM llm_costs").rows
    )
    calls: list[LlmCall] = llm_calls(log.read(root))
    assert found == {call.event_id: plain(library.cost(call)) for call in calls}
    assert sum(amount is not None for amount in found.values()) > 100
    assert ReadStore(root).costs(None).total.cost_usd == sum(
        (amount for call in calls if (amount := library.cost(call)) is not None), Decimal(0)
    )
