"""Tokens mean the same, whoever counted them."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.format import usage_dialects
from eventlog.format.usage import Advice, read
from eventlog.record import coercion, sdk_objects, usage

#: A usage object as its provider documents it → uncached input, cache read, write 5 min, write 1 h, output, reasoning.
CASES: dict[str, tuple[dict[str, Any], tuple[int | None, ...]]] = {
    "Anthropic": (
        {
            "input_tokens": 10, "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 300,
            "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
            "output_tokens": 50, "service_tier": "standard",
        },
        (10, 1000, 100, 200, 50, None),
    ),
    "Anthropic without durations": (
        {"input_tokens": 10, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 300, "output_tokens": 50},
        (10, 0, 300, None, 50, None),
    ),
    "Anthropic that thinks": (
        {
            "input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 50,
            "output_tokens_details": {"thinking_tokens": 40},
        },
        (10, 5, None, None, 50, 40),
    ),
    "OpenAI chat completions": (
        {
            "prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200,
            "prompt_tokens_details": {"cached_tokens": 600, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 150},
        },
        (400, 600, None, None, 200, 150),
    ),
    "OpenAI responses": (
        {
            "input_tokens": 1000, "input_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 100},
            "output_tokens": 200, "output_tokens_details": {"reasoning_tokens": 150}, "total_tokens": 1200,
        },
        (300, 600, 100, None, 200, 150),
    ),
    "Codex": (
        {
            "input_tokens": 1000, "cached_input_tokens": 900, "output_tokens": 30, "reasoning_output_tokens": 20,
            "total_tokens": 1030,
        },
        (100, 900, None, None, 30, 20),
    ),
    "OpenTelemetry": (
        {
            "gen_ai.usage.input_tokens": 1000, "gen_ai.usage.cache_read.input_tokens": 600,
            "gen_ai.usage.cache_creation.input_tokens": 100, "gen_ai.usage.output_tokens": 20,
            "gen_ai.usage.reasoning.output_tokens": 5,
        },
        (300, 600, 100, None, 20, 5),
    ),
    "Gemini": (
        {
            "promptTokenCount": 1000, "cachedContentTokenCount": 400, "toolUsePromptTokenCount": 10,
            "candidatesTokenCount": 50, "thoughtsTokenCount": 70, "totalTokenCount": 1130,
        },
        (610, 400, None, None, 120, 70),
    ),
    "Gemini in Python": (
        {"prompt_token_count": 1000, "candidates_token_count": 50, "thoughts_token_count": None},
        (1000, None, None, None, 50, None),
    ),
    "Bedrock": (
        {
            "inputTokens": 10, "outputTokens": 20, "cacheReadInputTokens": 300, "cacheWriteInputTokens": 70,
            "cacheDetails": [{"ttl": "1h", "inputTokens": 50}, {"ttl": "5m", "inputTokens": 20}],
        },
        (10, 300, 20, 50, 20, None),
    ),
    "xAI, whose reasoning stood beside the output": (
        {
            "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 410,
            "completion_tokens_details": {"reasoning_tokens": 300},
        },
        (100, None, None, None, 310, 300),
    ),
    "LangChain": (
        {
            "input_tokens": 350, "output_tokens": 240, "total_tokens": 590,
            "input_token_details": {"cache_creation": 200, "cache_read": 100}, "output_token_details": {"reasoning": 9},
        },
        (50, 100, 200, None, 240, 9),
    ),
    "Claude Code's sums per model": (
        {
            "inputTokens": 10, "outputTokens": 20, "cacheReadInputTokens": 300, "cacheCreationInputTokens": 70,
            "webSearchRequests": 0, "costUSD": 0.5, "contextWindow": 200_000,
        },
        (10, 300, 70, None, 20, None),
    ),
    "Vercel's AI SDK": (
        {
            "inputTokens": 1000, "outputTokens": 200, "totalTokens": 1200, "reasoningTokens": 150,
            "cachedInputTokens": 600,
        },
        (400, 600, None, None, 200, 150),
    ),
    "Vercel's AI SDK since 6": (
        {
            "inputTokens": 1000, "outputTokens": 200, "totalTokens": 1200, "cachedInputTokens": 600,
            "inputTokenDetails": {"noCacheTokens": 300, "cacheReadTokens": 600, "cacheWriteTokens": 100},
            "outputTokenDetails": {"textTokens": 50, "reasoningTokens": 150},
        },
        (300, 600, 100, None, 200, 150),
    ),
    "Gemini Live": (
        {
            "promptTokenCount": 1000, "cachedContentTokenCount": 400, "responseTokenCount": 50,
            "thoughtsTokenCount": 70, "totalTokenCount": 1120,
        },
        (600, 400, None, None, 120, 70),
    ),
    "Gemini Live in Python": (
        {"prompt_token_count": 1000, "response_token_count": 50, "cached_content_token_count": None},
        (1000, None, None, None, 50, None),
    ),
    "Cohere": (
        {
            "billed_units": {"input_tokens": 20, "output_tokens": 30},
            "tokens": {"input_tokens": 100, "output_tokens": 31}, "cached_tokens": 64,
        },
        (36, 64, None, None, 31, None),
    ),
    "Cohere that says only what it bills": (
        {"billed_units": {"input_tokens": 20.0, "output_tokens": 30.0}, "tokens": None},
        (20, None, None, None, 30, None),
    ),
    "OpenTelemetry as it was": (
        {"gen_ai.usage.prompt_tokens": 1000, "gen_ai.usage.completion_tokens": 20},
        (1000, None, None, None, 20, None),
    ),
    "OpenTelemetry with the newer name of writes, which counts first": (
        {
            "gen_ai.usage.input_tokens": 1000, "gen_ai.usage.cache_write.input_tokens": 100,
            "gen_ai.usage.cache_creation.input_tokens": 90, "gen_ai.usage.output_tokens": 20,
        },
        (900, None, 100, None, 20, None),
    ),
    "OpenLLMetry": (
        {
            "gen_ai.usage.prompt_tokens": 1000, "gen_ai.usage.cache_read_input_tokens": 600,
            "gen_ai.usage.cache_creation_input_tokens": 100, "gen_ai.usage.completion_tokens": 20,
            "gen_ai.usage.reasoning_tokens": 5, "llm.usage.total_tokens": 1020,
        },
        (300, 600, 100, None, 20, 5),
    ),
    "OpenInference": (
        {
            "llm.token_count.prompt": 120, "llm.token_count.completion": 30, "llm.token_count.total": 150,
            "llm.token_count.prompt_details.cache_read": 20, "llm.token_count.prompt_details.cache_write": 10,
            "llm.token_count.completion_details.reasoning": 4,
        },
        (90, 20, 10, None, 30, 4),
    ),
    "Copilot": (
        {
            "inputTokens": 15534, "outputTokens": 45, "cacheReadTokens": 14848, "cacheWriteTokens": 0,
            "reasoningTokens": 30,
        },
        (686, 14848, 0, None, 45, 30),
    ),
    "Copilot without reasoning": (
        {"inputTokens": 100, "outputTokens": 5, "cacheReadTokens": 40, "cacheWriteTokens": 10},
        (50, 40, 10, None, 5, None),
    ),
    "the Gemini CLI": (
        {"input": 12207, "output": 105, "cached": 2558, "thoughts": 153, "tool": 0, "total": 12465},
        (9649, 2558, None, None, 258, 153),
    ),
    "the Gemini CLI with a tool": (
        {"input": 1000, "output": 50, "cached": 400, "thoughts": 70, "tool": 10, "total": 1130},
        (610, 400, None, None, 120, 70),
    ),
    "OpenCode": (
        {"input": 300, "output": 50, "reasoning": 150, "cache": {"read": 600, "write": 100}},
        (300, 600, 100, None, 200, 150),
    ),
    "pi": (
        {"input": 3, "output": 191, "cacheRead": 7, "cacheWrite": 1684, "cost": {"total": 0.009189}},
        (3, 7, 1684, None, 191, None),
    ),
    "LangChain that knows for how long was written": (
        {
            "input_tokens": 400, "output_tokens": 240, "total_tokens": 640,
            "input_token_details": {
                "cache_creation": 0, "cache_read": 100, "ephemeral_5m_input_tokens": 80,
                "ephemeral_1h_input_tokens": 70,
            },
        },
        (150, 100, 80, 70, 240, None),
    ),
    "a split that is short of the total": (
        {
            "input_tokens": 10, "output_tokens": 5, "cache_creation_input_tokens": 300,
            "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 50},
        },
        (10, None, 250, 50, 5, None),
    ),
    "a split that says nothing": (
        {
            "input_tokens": 10, "output_tokens": 5, "cache_creation_input_tokens": 300,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        },
        (10, None, 300, 0, 5, None),
    ),
    "a split that says more than the total": (
        {
            "input_tokens": 10, "output_tokens": 5, "cache_creation_input_tokens": 300,
            "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 200},
        },
        (10, None, 300, None, 5, None),
    ),
    "compaction, which is not in the sums": (
        {
            "input_tokens": 23000, "output_tokens": 1000, "cache_read_input_tokens": 0,
            "iterations": [
                {
                    "type": "compaction", "input_tokens": 180000, "output_tokens": 3500,
                    "cache_creation_input_tokens": 40, "cache_creation": {"ephemeral_1h_input_tokens": 30},
                },
                {"type": "message", "input_tokens": 23000, "output_tokens": 1000},
            ],
        },
        (203000, 0, 10, 30, 4500, None),
    ),
    "a model that declined, and the one that answered": (
        {
            "input_tokens": 412, "output_tokens": 264,
            "iterations": [
                {"type": "message", "model": "claude-fable-5", "input_tokens": 408, "output_tokens": 0},
                {"type": "fallback_message", "model": "claude-opus-5", "input_tokens": 412, "output_tokens": 264},
            ],
        },
        (412, None, None, None, 264, None),
    ),
    "Ollama": ({"prompt_eval_count": 26, "eval_count": 298}, (26, None, None, None, 298, None)),
    "our own names": (
        {"uncached_input_tokens": 1, "cache_read_tokens": 2, "cache_write_1h_tokens": 3, "output_tokens": 4},
        (1, 2, None, 3, 4, None),
    ),
    "nobody's": ({"cost": 3, "credits": 7}, (None,) * 6),
    "more cached than there was": (
        {"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 40}},
        (10, None, None, None, 1, None),
    ),
    "no counts": (
        {"input_tokens": "12", "output_tokens": True, "cache_read_input_tokens": -4},
        (None,) * 6,
    ),
    "floats that are counts": ({"input_tokens": 12.0, "output_tokens": 1.5}, (12, None, None, None, None, None)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_provider_is_split_alike(case: str) -> None:
    """Disjoint input counts; reasoning as a part of the output; what is not told stays absent."""
    raw, expected = CASES[case]
    named = {name: count for name, count in zip(usage_dialects.TOKENS, expected, strict=True) if count is not None}
    assert read(raw).counts == named


#: A usage object → its problem.
PROBLEMS: dict[str, tuple[dict[str, Any], str | None]] = {
    "negative": ({"input_tokens": -4, "output_tokens": 1}, "input_tokens: -4"),
    "fractional": ({"input_tokens": 1, "output_tokens": 1.5}, "output_tokens: 1.5"),
    "a text": ({"input_tokens": "12"}, 'input_tokens: "12"'),
    "a boolean": ({"input_tokens": 1, "output_tokens": True}, "output_tokens: true"),
    "huge": ({"input_tokens": 2**53}, "input_tokens: a huge number"),
    "the largest count": ({"input_tokens": 2**53 - 1}, None),
    "null": ({"input_tokens": 1, "cache_creation": None, "output_tokens": None, "service_tier": None}, None),
    "details that are none": ({"prompt_tokens": 1, "prompt_tokens_details": 5}, "prompt_tokens_details: 5"),
    "an alternative that is not taken": (
        {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}, "cached_tokens": -1}, "cached_tokens: -1",
    ),
    "more cached than input": ({"prompt_tokens": 10, "cached_tokens": 40}, "cache: 40 of 10 input tokens"),
    "more reasoning than output": (
        {"input_tokens": 9, "output_tokens": 10, "reasoning_output_tokens": 300}, "reasoning: 300 of 10 output tokens",
    ),
    "an unknown object": ({"cost": 3, "credits": 7, "plan": None}, "no known count among cost, credits"),
    "an empty object": ({}, None),
    "an unknown iteration": (
        {"input_tokens": 1, "iterations": [{"type": "planner", "input_tokens": 9}]},
        'iterations: unknown type "planner"',
    ),
    "an iteration that is none": ({"input_tokens": 1, "iterations": [5]}, "iterations: unknown type null"),
    "iterations that are none": ({"input_tokens": 1, "iterations": {"a": 1}}, "iterations: an object"),
    "no iterations": ({"input_tokens": 1, "iterations": []}, None),
    "as many as are kept": (
        {"input_tokens": 1, "iterations": [{"type": "message"}] * 64}, "iterations: 64 entries or more",
    ),
    "odd compaction": (
        {"input_tokens": 1, "iterations": [{"type": "compaction", "input_tokens": -9}]}, "iterations.input_tokens: -9",
    ),
    "searches": ({"input_tokens": 1, "server_tool_use": {"web_search_requests": -1}},
                 "server_tool_use.web_search_requests: -1"),
    "a tier": ({"input_tokens": 1, "service_tier": 5}, "service_tier: 5"),
    "a place": ({"input_tokens": 1, "inference_geo": ["us"]}, "inference_geo: a list"),
}  # fmt: skip


@pytest.mark.parametrize("case", PROBLEMS)
def test_what_is_not_understood_is_named(case: str) -> None:
    """The first thing; the call has no known cost then."""
    raw, problem = PROBLEMS[case]
    assert read(raw).problem == problem


def test_what_stands_beside_the_counts() -> None:
    """Tier, searches, the place, and an advisor, who has the tier of the call but not its fast mode."""
    advisor = {"type": "advisor_message", "model": "claude-opus-4-8", "input_tokens": 20_000, "output_tokens": 800}
    usage_ = {
        "input_tokens": 2, "output_tokens": 100, "service_tier": "batch", "inference_geo": "us",
        "server_tool_use": {"web_search_requests": 3}, "iterations": [{"type": "message"}, advisor],
    }  # fmt: skip
    reading = read(usage_)
    assert (reading.service_tier, reading.web_searches, reading.inference_geo) == ("batch", 3, "us")
    assert reading.counts == {"uncached_input_tokens": 2, "output_tokens": 100}
    counts = {"uncached_input_tokens": 20_000, "output_tokens": 800}
    assert reading.advice == (Advice("claude-opus-4-8", counts, "batch", None, advisor),)
    fast = read(usage_ | {"speed": "fast", "inference_geo": ""})
    assert (fast.service_tier, fast.inference_geo, fast.advice[0].service_tier) == ("fast", None, None)


def test_the_places_of_one_name_are_of_one_kind() -> None:
    """SQL looks at a value without asking for the dialect: no count is what holds counts elsewhere."""
    paths = [path for dialect in usage_dialects.DIALECTS for path in dialect.paths()]
    assert not {path for path in paths if len(path) == 1} & {path[:1] for path in paths if len(path) == 2}


@dataclasses.dataclass
class DataclassUsage:
    input_tokens: int = 3
    output_tokens: int = 4


class StructUsage(msgspec.Struct):
    input_tokens: int = 3
    output_tokens: int = 4


class Pydantic:
    def model_dump(self) -> dict[str, int]:
        return {"input_tokens": 3, "output_tokens": 4}


class Plain:
    def __init__(self) -> None:
        self.input_tokens, self.output_tokens = 3, 4
        self._client = object()


class Broken:
    def model_dump(self) -> dict[str, int]:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "given_",
    [
        {"input_tokens": 3, "output_tokens": 4}, DataclassUsage(), StructUsage(), Pydantic(), Plain(),
        SimpleNamespace(input_tokens=3, output_tokens=4),
    ],
)  # fmt: skip
def test_an_sdk_object_becomes_plain_data(given_: object) -> None:
    """Pydantic, dataclass, struct or plain class; private attributes stay out."""
    assert usage.as_dict(given_) == {"input_tokens": 3, "output_tokens": 4}


def test_a_real_pydantic_model_becomes_plain_data() -> None:
    """With what is nested in it."""
    pydantic = pytest.importorskip("pydantic")
    details = pydantic.create_model("Details", cached_tokens=(int, 600))
    model = pydantic.create_model(
        "Usage", prompt_tokens=(int, 1000), completion_tokens=(int, 5), prompt_tokens_details=(details, details())
    )
    raw = usage.as_dict(model())
    assert raw == {"prompt_tokens": 1000, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 600}}
    assert read(raw).counts["uncached_input_tokens"] == 400


@pytest.mark.parametrize("given_", [None, 5, "usage", b"", [1], Broken(), object()])
def test_what_is_no_usage_is_none_or_empty(given_: object) -> None:
    """And never raises."""
    raw = usage.as_dict(given_)
    assert not raw


class Client:
    """Like what an SDK's answer hangs on to: everything, in circles."""

    def __init__(self) -> None:
        self.me = self
        self.answers = [self] * 1000


def test_what_is_large_or_goes_in_circles_is_cut() -> None:
    """Somebody hands over more than the usage."""
    raw = usage.as_dict({"input_tokens": 1, "client": Client(), "many": list(range(1000))})
    assert raw is not None
    assert len(raw["many"]) == 64
    assert raw["client"]["me"]["me"]["me"] == {}
    endless = {str(n): n for n in range(10_000)}
    assert len(usage.as_dict(endless) or {}) == 64


class Endless:
    """Offers one more of its kind, as a mock does."""

    asked = 0

    def model_dump(self) -> Endless:
        Endless.asked += 1
        return Endless()


def test_only_a_type_is_asked_what_it_offers_and_not_without_end() -> None:
    """A mock has every attribute; what was set on it is its usage all the same."""
    mock = MagicMock(input_tokens=3, output_tokens=4)
    assert read(usage.as_dict(mock) or {}).counts == {"uncached_input_tokens": 3, "output_tokens": 4}
    assert not mock.model_dump.called
    assert not mock.to_dict.called
    assert usage.as_dict(Endless()) == {}
    assert Endless.asked == 4


class Table:
    """As a data frame is: `to_dict` makes an object per cell."""

    def __init__(self, rows: int, columns: int) -> None:
        self.shape = (rows, columns)

    def __len__(self) -> int:
        return self.shape[0]

    def to_dict(self) -> dict[str, int]:
        return {"cells": self.shape[0] * self.shape[1]}


@pytest.mark.parametrize(("rows", "columns", "asked"), [(100, 100, True), (10, 1001, False), (300_000, 3, False)])
def test_a_large_table_is_not_turned_into_a_dict(rows: int, columns: int, asked: bool) -> None:
    """Long or wide: it would take seconds and gigabytes."""
    assert sdk_objects.offers(Table(rows, columns)) is asked
    assert (coercion.recordable(Table(rows, columns)) == {"cells": rows * columns}) is asked
    assert ((usage.as_dict(Table(rows, columns)) or {}).get("cells") == rows * columns) is asked


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_names = sorted({mark for one in usage_dialects.DIALECTS for mark in one.marks} | {"cacheDetails", "iterations"})


@given(st.dictionaries(st.sampled_from(_names), _json, max_size=6))
def test_any_object_splits_into_counts(raw: dict[str, Any]) -> None:
    """Whatever stands where a count should."""
    assert all(type(count) is int and count >= 0 for count in read(raw).counts.values())
