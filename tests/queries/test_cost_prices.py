"""Which price a call has by the library: time, hour, tier and band; and that it is the library's own answer."""

from __future__ import annotations

import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import genai_prices
import pytest
from genai_prices import types
from genai_prices.data import providers

from eventlog.queries.cost import prices, rates
from eventlog.queries.cost.prices import price_of_call
from eventlog.queries.cost.rates import Key, Rate

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
MILLION = {"uncached_input_tokens": 1_000_000}


def rate_at(
    model: str, at: datetime, input_tokens: int = 1, tier: str | None = None, provider: str | None = None
) -> Rate:
    (found,) = [
        each
        for each in prices.library_rates(Key(None, provider, model, tier))
        if each.holds(at.replace(tzinfo=None), input_tokens)
    ]
    return found  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "usd"),
    [
        ("uncached_input_tokens", "5"),
        ("cache_read_tokens", "0.5"),
        ("cache_write_5m_tokens", "6.25"),
        ("cache_write_1h_tokens", "10"),
        ("output_tokens", "25"),
    ],
)
def test_each_kind_of_tokens_has_its_rate(kind: str, usd: str) -> None:
    """As Anthropic lists them for Opus 4.5."""
    assert price_of_call("claude-opus-4-5-20251101", "anthropic", NOON, {kind: 1_000_000}) == Decimal(usd)


def test_a_part_of_a_cent_is_not_lost() -> None:
    """One cached token costs half a millionth of a dollar."""
    found = price_of_call("claude-opus-4-5", None, NOON, {"cache_read_tokens": 1, "output_tokens": 3})
    assert found == Decimal("0.0000755")


def test_reasoning_is_a_part_of_the_output_and_may_have_its_own_rate() -> None:
    """Ten of output, four of them reasoning: 6 x 8 + 4 x 3 per million; more reasoning than output is all of it."""
    tokens = {"output_tokens": 10_000_000, "reasoning_tokens": 4_000_000}
    assert price_of_call("sonar-deep-research", "perplexity", NOON, tokens) == Decimal(60)
    assert price_of_call("sonar-deep-research", "perplexity", NOON, tokens | {"reasoning_tokens": 10**8}) == Decimal(30)
    assert price_of_call("claude-opus-4-5", "anthropic", NOON, tokens) == Decimal(250)


def test_a_price_per_request_is_added() -> None:
    """Sonar Pro: 14 dollars per thousand requests, beside 3 per million tokens."""
    assert price_of_call("sonar-pro", "perplexity", NOON, MILLION) == Decimal("3.014")


def test_a_band_is_chosen_by_all_input_and_holds_for_all_tokens() -> None:
    """Sonnet 4.5: up to 200,000 tokens in, cached or not, and above."""
    low = {"uncached_input_tokens": 50_000, "cache_read_tokens": 150_000, "output_tokens": 1_000}
    assert price_of_call("claude-sonnet-4-5", "anthropic", NOON, low) == Decimal("0.15") + Decimal("0.045") + Decimal(
        "0.015"
    )
    high = low | {"cache_write_5m_tokens": 1}
    assert price_of_call("claude-sonnet-4-5", "anthropic", NOON, high) == (
        Decimal("0.3") + Decimal("0.09") + Decimal("0.0000075") + Decimal("0.0225")
    )
    assert rate_at("claude-sonnet-4-5", NOON, 200_000).band == "up to 200,000 input tokens"
    assert rate_at("claude-sonnet-4-5", NOON, 200_001).band == "over 200,000 input tokens"  # fmt: skip


def test_a_price_begins_at_midnight_utc() -> None:
    """Opus 4.6 lost its band for long input on 2026-03-13; a zone is reckoned with."""
    midnight = datetime(2026, 3, 13, tzinfo=UTC)
    for at, usd in [
        (midnight - timedelta(microseconds=1), "10"),
        (midnight, "5"),
        (datetime(2026, 3, 13, 0, 30, tzinfo=timezone(timedelta(hours=1))), "10"),
        (datetime(2026, 3, 13), "5"),
    ]:
        assert price_of_call("claude-opus-4-6", "anthropic", at, MILLION) == Decimal(usd)


@pytest.mark.parametrize(
    ("hour", "usd"), [("00:59:59", "0.66"), ("01:00:00", "1.32"), ("03:59:59", "1.32"), ("04:00:00", "0.66")]
)
def test_hours_of_the_day_have_prices(hour: str, usd: str) -> None:
    """DeepSeek's peak, from 01:00 on and before 04:00."""
    at = datetime.fromisoformat(f"2026-11-01T{hour}+00:00")
    assert price_of_call("deepseek-v4-pro", "deepseek", at, MILLION) == Decimal(usd)


@pytest.mark.parametrize(
    ("model", "tier", "at", "usd"),
    [
        ("claude-opus-4-5", "batch", NOON, "2.5"),
        ("claude-opus-4-5", "standard", NOON, "5"),
        ("claude-opus-4-5", "DEFAULT", NOON, "5"),
        ("claude-opus-4-5", "", NOON, "5"),
        ("claude-opus-4-5", "batch", datetime(2026, 10, 13, 23, tzinfo=UTC), None),
        ("claude-opus-4-5", "priority", NOON, None),
        ("claude-fable-5-2", "fast", NOON, "16"),
        ("gpt-5.1", "flex", NOON, "0.625"),
        ("gpt-5.1", "priority", NOON, "2.5"),
        ("gpt-5.1", "scale", NOON, None),
    ],
)
def test_a_tier_has_its_own_price_or_none(model: str, tier: str, at: datetime, usd: str | None) -> None:
    """What the library does not list for a tier, then or at all, is unpriced."""
    assert price_of_call(model, None, at, MILLION, tier) == (None if usd is None else Decimal(usd))


@pytest.mark.parametrize(
    ("model", "provider", "matched"),
    [
        ("claude-opus-4-5-20251101", "anthropic", "anthropic:claude-opus-4-5"),
        ("claude-opus-4-5", None, "anthropic:claude-opus-4-5"),
        ("CLAUDE-OPUS-4-5", "Anthropic", "anthropic:claude-opus-4-5"),
        ("anthropic/claude-opus-4-5", None, "anthropic:claude-opus-4-5"),
        ("claude-opus-4-5@20251101", "gcp.vertex_ai", "google:claude-opus-4-5"),
        ("gpt-5.1", "azure.ai.inference", "openai:gpt-5.1"),
        ("grok-4", "x_ai", "x-ai:grok-4-0709"),
        ("us.anthropic.claude-opus-4-5-20251101-v1:0", "aws.bedrock", "aws:regional.anthropic.claude-opus-4-5-v1:0"),
    ],
)
def test_models_are_found_by_the_names_that_are_in_use(model: str, provider: str | None, matched: str) -> None:
    """With the provider's name in the conventions of OpenTelemetry, or without one."""
    found = prices.library_rates(Key(None, provider, model, None))
    assert {each.matched for each in found} == {matched}


@pytest.mark.parametrize(
    ("model", "provider"), [("qwen3", "local"), ("gpt-5.1", "local"), ("no-such", None), ("", None)]
)
def test_an_unknown_model_has_no_price(model: str, provider: str | None) -> None:
    """Nor has a known one at a provider that is not known; no price is not zero."""
    assert price_of_call(model, provider, NOON, MILLION) is None


def test_counts_that_are_none_have_no_price() -> None:
    """Negative ones, more than any call has, and none at all."""
    assert price_of_call("claude-opus-4-5", None, NOON, {"output_tokens": 0}) is None
    for count in (-1, rates.TOKENS_END):
        assert price_of_call("claude-opus-4-5", None, NOON, {"output_tokens": count}) is None


@pytest.mark.parametrize(("missing", "printed"), [("duckdb", "5"), ("genai_prices", "None")])
def test_a_program_that_only_writes_can_ask_for_a_price(missing: str, printed: str) -> None:
    """Without DuckDB; and without the price list nothing has one."""
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from datetime import datetime; from eventlog.queries.cost.prices import price_of_call\n"
        "print(price_of_call('claude-opus-4-5', None, datetime(2026, 11, 1), {'uncached_input_tokens': 1_000_000}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert Decimal(done.stdout.strip()) == 5 if printed == "5" else done.stdout == "None\n"


def test_the_longest_match_counts_whatever_the_order() -> None:
    """Of two models whose rules both match."""
    models = [
        types.ModelInfo(id=start, match=types.ClauseStartsWith(starts_with=start)) for start in ("m", "m-1-mini", "m-1")
    ]
    for shift in range(3):
        seller = types.Provider(id="p", name="P", api_pattern="p", models=models[shift:] + models[:shift])
        for name, expected in [("m-1-mini-x", "m-1-mini"), ("m-1-x", "m-1"), ("mm", "m")]:
            found = prices.find_model([seller], "p", name)
            assert found is not None
            assert found[2].id == expected


@pytest.mark.parametrize("seed", range(4))
def test_any_call_costs_what_the_library_says(seed: int) -> None:
    """Random models, times, tiers and counts, against the library's own calculation."""
    chance = random.Random(seed)
    every = [(provider, model) for provider in providers for model in provider.models]
    compared = 0
    while compared < 150:
        provider, model = chance.choice(every)
        at = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=chance.randrange(2 * 365 * 86_400))
        tier = chance.choice(["standard", "standard", "batch", "flex", "priority"])
        context = {} if tier == "standard" else {"processing": tier, "service_tier": tier}
        listed = model.get_prices(at, context)
        odd = {name for name in vars(listed) if not name.endswith(("_mtok", "_kcount"))} | {
            name for name, each in vars(listed).items() if isinstance(each, Decimal) and each != round(each, 12)
        }
        variants = [each for each in model.price_variants or () if each.when.items() <= context.items()]
        active = [each for each in variants if each.constraint is None or each.constraint.active(at)]
        if odd or listed.input_mtok is None or listed.output_mtok is None or (context and not active):
            continue
        if prices.find_model(providers, provider.id, model.id) != (provider, provider, model):
            continue  # its id does not name it
        compared += 1
        read, short, long = (chance.choice([0, chance.randrange(300_000)]) for _ in range(3))
        fresh, out = chance.randrange(300_000), chance.randrange(50_000)
        reasoning = chance.randrange(out + 1)
        usage = genai_prices.Usage(
            input_tokens=fresh + read + short + long, cache_read_tokens=read, cache_write_tokens=short + long,
            cache_write_5m_tokens=short, cache_write_1h_tokens=long, output_tokens=out,
            output_reasoning_tokens=reasoning,
        )  # fmt: skip
        expected = genai_prices.calc_price(
            usage, model.id, provider_id=provider.id, genai_request_timestamp=at, price_context=context
        )
        counts = (fresh, read, short, long, out, reasoning)
        names = ("uncached_input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning")
        tokens = {f"{name}_tokens": count for name, count in zip(names, counts, strict=True)}
        assert price_of_call(model.id, provider.id, at, tokens, tier) == expected.total_price, (provider.id, model.id)


def test_rates_of_every_model_never_overlap() -> None:
    """A call finds one rate or none: at each change of date, hour and band, on both sides of it."""
    for provider in providers:
        for model in provider.models:
            found = prices.library_rates(Key(None, provider.id, model.id, None))
            for moment in {each.valid_from for each in found} | {each.valid_until for each in found}:
                for hour_us in {each.hour_from_us for each in found}:
                    for count in {each.input_from for each in found}:
                        day = (moment or datetime(2026, 1, 1)) + timedelta(microseconds=hour_us)
                        assert sum(each.holds(day, count) for each in found) == 1, model.id
