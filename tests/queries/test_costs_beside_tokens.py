"""What changes a cost and is no token: place of inference, web searches, names of other sellers, doubtful counts."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from eventlog.indexer.views.providers import named_provider
from eventlog.indexer.views.sources import COLUMNS
from eventlog.queries.cost import costs, prices
from eventlog.queries.cost.price_sets import PriceEvent
from eventlog.queries.cost.rates import Key
from tests.queries.calls import MILLION, utc

TYPES = COLUMNS["llm_calls"]
#: 1,000 tokens in and 1,000 out of Opus 4.8: 5 and 25 USD per million.
OPUS = {"provider": "anthropic", "model": "claude-opus-4-8", "uncached_input_tokens": 1000, "output_tokens": 1000}


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE calls ({', '.join(f'{name} {kind}' for name, kind in TYPES.items())})")
        yield connection


def costs_of(connection: duckdb.DuckDBPyConnection, call: dict[str, Any], *price_sets: str) -> dict[str, Any]:
    """Return the row of `llm_costs` of a call with these columns, and counts of 0 where it has none."""
    zeros = {name: 0 for name in TYPES if name.endswith("_tokens") and name != "reasoning_tokens"}
    row = {"ok": True, "timestamp": utc("2026-11-01T12:00").replace(tzinfo=None), **zeros, **call}
    columns = ", ".join(row)
    connection.execute(f"INSERT INTO calls ({columns}) VALUES ({', '.join('?' for _ in row)})", list(row.values()))
    at = utc("2026-01-01").replace(tzinfo=None)
    events = [PriceEvent(f"id-{n}", at, None, payload, n) for n, payload in enumerate(price_sets, start=1)]
    costs.install(connection, costs.resolve(connection, events, calls="calls"), calls="calls")
    found = connection.execute("FROM llm_costs")
    names = [column[0] for column in found.description or ()]
    (values,) = found.fetchall()
    return dict(zip(names, values, strict=True))


GEO_ALL = '{"model": "claude", "input_usd_per_mtok": "1", "output_usd_per_mtok": "1"}'
GEO_EU = '{"model": "claude", "inference_geo": "EU", "input_usd_per_mtok": "7", "output_usd_per_mtok": "7"}'
SEARCH = '{"model": "claude", "input_usd_per_mtok": "1", "output_usd_per_mtok": "1", "web_search_usd": "0.5"}'

PRICED = [
    # (the call, prices that were set, its cost or the reason for none)
    ({}, (), "0.03"),
    ({"inference_geo": "global"}, (), "0.03"),
    ({"inference_geo": "not_available"}, (), "0.03"),
    ({"inference_geo": ""}, (), "0.03"),
    ({"inference_geo": "us"}, (), "0.033"),
    ({"inference_geo": "US"}, (), "0.033"),
    ({"inference_geo": "us", "service_tier": "batch"}, (), "0.0165"),
    ({"inference_geo": "us", "service_tier": "fast"}, (), "0.066"),
    ({"inference_geo": "us", "model": "claude-opus-4-5-20251101"}, (), "0.03"),
    ({"inference_geo": "us", "cache_read_tokens": MILLION}, (), "0.583"),
    ({"inference_geo": "eu"}, (), costs.NO_PRICE),
    ({"inference_geo": "us", "provider": "openai", "model": "gpt-5"}, (), costs.NO_PRICE),
    ({"inference_geo": "eu"}, (GEO_ALL,), "0.002"),
    ({"inference_geo": "eu"}, (GEO_ALL, GEO_EU), "0.014"),
    ({"inference_geo": "us"}, (GEO_ALL, GEO_EU), "0.002"),
    ({"web_searches": 0}, (), "0.03"),
    ({"web_searches": 3}, (), "0.06"),
    ({"web_searches": 3, "inference_geo": "us"}, (), "0.063"),  # the factor is for tokens
    ({"web_searches": 2, "provider": "gcp.gemini", "model": "gemini-2.5-pro"}, (), "0.08125"),
    (
        {"web_searches": 1, "provider": "aws.bedrock", "model": "us.anthropic.claude-opus-4-8"},
        (),
        costs.NO_SEARCH_PRICE,
    ),
    ({"web_searches": 1}, (GEO_ALL,), costs.NO_SEARCH_PRICE),
    ({"web_searches": 3}, (SEARCH,), "1.502"),
    ({"web_searches": -1}, (), "its token counts are no counts"),
    ({"service_tier": "mystery"}, (), costs.NO_PRICE),
    ({"usage_problem": "an unknown kind of iteration: teleport"}, (), "an unknown kind of iteration: teleport"),
    ({"usage_problem": "odd", "reported_cost_usd": Decimal("0.4")}, (), "0.4"),
    ({"web_searches": 9, "inference_geo": "mars", "reported_cost_usd": Decimal("0.4")}, (), "0.4"),
    ({"model": "kiln-private-1", "provider": None, "reported_cost_usd": Decimal("0.0123")}, (), "0.0123"),
    ({"reported_cost_usd": Decimal("0.000000000000000001")}, (), "0.000000000000000001"),
    ({"ok": None, "uncached_input_tokens": 0, "output_tokens": 0}, (), "no tokens are counted"),
    ({"ok": False, "uncached_input_tokens": 0, "output_tokens": 0}, (), "0"),
]


@pytest.mark.parametrize(("call", "price_sets", "expected"), PRICED)
def test_what_is_no_token_is_priced_or_named(
    connection: duckdb.DuckDBPyConnection, call: dict[str, Any], price_sets: tuple[str, ...], expected: str
) -> None:
    """Worked by hand from the providers' pages; never left out in silence."""
    found = costs_of(connection, OPUS | call, *price_sets)
    if expected[0].isdigit():
        assert (found["cost_usd"], found["unpriced_because"]) == (Decimal(expected), None)
    else:
        assert (found["cost_usd"], found["unpriced_because"]) == (None, expected)


def test_the_parts_of_a_cost_are_its_sum(connection: duckdb.DuckDBPyConnection) -> None:
    """Also the fee of searches, which is a part of its own."""
    found = costs_of(connection, OPUS | {"web_searches": 3, "cache_read_tokens": 10, "inference_geo": "us"})
    parts = [found[f"{part}_cost_usd"] for part in ("input", "cache_read", "cache_write", "output", "request")]
    assert found["web_search_cost_usd"] == Decimal("0.03")
    assert sum(parts) + found["web_search_cost_usd"] == found["cost_usd"]
    assert found["price_band"] == "inference in us"


# -- cut short -----------------------------------------------------------------------------

CUT_SHORT = [
    # (characters, output tokens, stop reason, looks cut short, about what is missing in USD)
    (None, 1, None, False, None),
    (8, 1, None, False, None),
    (9, 1, None, True, "0.00005"),  # 9 // 3 - 1 = 2 tokens at 25 USD per million
    (3000, 10, None, True, "0.02475"),
    (3000, 375, None, False, None),
    (3000, 374, None, True, "0.01565"),
    (16, 1, "end_turn", False, None),
    (17, 1, "end_turn", True, "0.0001"),
    (3000, 188, "tool_use", False, None),
    (3000, 187, "tool_use", True, "0.020325"),
    (0, 0, None, False, None),
]


@pytest.mark.parametrize(("chars", "tokens", "stop_reason", "cut_short", "missing"), CUT_SHORT)
def test_too_few_tokens_for_what_was_written_look_cut_short(
    connection: duckdb.DuckDBPyConnection,
    chars: int | None,
    tokens: int,
    stop_reason: str | None,
    cut_short: bool,
    missing: str | None,
) -> None:
    """Below an eighth of the characters, or a sixteenth with a stop reason; the cost stays that of the counts."""
    call = OPUS | {"output_chars": chars, "output_tokens": tokens, "stop_reason": stop_reason}
    found = costs_of(connection, call)
    assert found["cut_short"] is cut_short
    assert found["cut_short_cost_usd"] == (None if missing is None else Decimal(missing))
    assert found["cost_usd"] == Decimal("0.005") + tokens * Decimal("0.000025")


@pytest.mark.parametrize("more", [{"reported_cost_usd": Decimal(1)}, {"model": "nobody", "provider": None}])
def test_only_a_computed_cost_has_an_estimate_beside(
    connection: duckdb.DuckDBPyConnection, more: dict[str, Any]
) -> None:
    """A reported cost knows better than the counts; without a price there is nothing to estimate with."""
    found = costs_of(connection, OPUS | {"output_chars": 30_000, "output_tokens": 1} | more)
    assert (found["cut_short"], found["cut_short_cost_usd"]) == (True, None)


# -- names ---------------------------------------------------------------------------------

#: 1,000 tokens in, 100 out, in millionths of a dollar.
NAMES = [
    ("claude-opus-4-5-20251101", 7500),
    ("claude-opus-4-5@20251101", 7500),
    ("claude-opus-4-8@default", 7500),
    ("claude-sonnet-4-5[1m]", 4500),
    ("claude-sonnet-4-5@20250929[1m]", 4500),
    ("us.anthropic.claude-opus-4-5-20251101-v1:0", 8250),
    ("eu.anthropic.claude-opus-5[1m]", 8250),
    ("ca.anthropic.claude-opus-5", 8250),
    ("global.anthropic.claude-opus-4-5-20251101-v1:0", 7500),
    ("global.anthropic.claude-opus-5[1m]", 7500),
    ("us.anthropic.claude-sonnet-4-20250514-v1:0", 4500),  # before 4.5 regional names cost no more
    ("arn:aws:bedrock:us-east-1:123:inference-profile/us.anthropic.claude-opus-4-5-20251101-v1:0", 8250),
    ("arn:aws:bedrock:us-east-1:123:inference-profile/us.anthropic.claude-opus-5", 8250),
    ("arn:aws:bedrock:us-east-1:123:application-inference-profile/abc", None),
    ("anthropic/claude-sonnet-4.5", 4500),
    ("openrouter/anthropic/claude-sonnet-4.5", 4500),
    ("anthropic/claude-sonnet-4-5-20250929", 4500),
    ("anthropic/claude-opus-4.8:free", None),
    ("kimi-k2-0905-preview", 850),
    ("moonshotai/kimi-k2-0905", 850),
    ("gpt-5", 2250),
    ("openai/gpt-5", 2250),
    ("gemini-2.5-pro", 2250),
    ("MiniMax-M2", 420),
    ("deepseek-r1:14b", None),
    ("kiln-private-1", None),
]


@pytest.mark.parametrize(("model", "millionths"), NAMES)
@pytest.mark.parametrize("is_said", [True, False])
def test_a_model_has_the_price_of_whoever_sold_it(model: str, millionths: int | None, is_said: bool) -> None:
    """The same whether the provider was said or follows from the name."""
    provider = named_provider(model) if is_said else None
    tokens = {"uncached_input_tokens": 1000, "output_tokens": 100}
    cost = prices.price_of_call(model, provider, utc("2026-10-17"), tokens)
    assert cost == (None if millionths is None else Decimal(millionths).scaleb(-6))


def test_a_region_of_bedrock_is_no_maker() -> None:
    """The price key says which entry of the list it is."""
    found = prices.library_rates(Key(None, "aws.bedrock", "us.anthropic.claude-opus-4-5-20251101-v1:0", None))
    assert [rate.matched for rate in found] == ["aws:regional.anthropic.claude-opus-4-5-v1:0"]
