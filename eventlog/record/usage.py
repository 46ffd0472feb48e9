"""Splitting token usage, as providers report it, into counts that mean the same for all of them.

    uncached_input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens
        disjoint: their sum is the whole input of the model
    output_tokens, and reasoning_tokens as a part of it

Providers differ in two ways that matter. The dialects below say which:

- whether the input includes tokens read from and written to the cache. Anthropic's and
  Bedrock's does not; that of OpenAI, Codex, Gemini and OpenTelemetry does;
- whether the output includes reasoning. Gemini's does not; xAI's did not always, which the
  total reveals.

Counts that are not reported stay absent: none is made up. A cache write without a duration counts as one of
5 minutes, which is Anthropic's default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import msgspec

from eventlog.record import sdk_objects

#: The counts that a usage object is split into: fields of `llm_call`.
TOKENS = (
    "uncached_input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens",
    "output_tokens", "reasoning_tokens",
)  # fmt: skip

Path = tuple[str, ...]
_COUNT_MAX = 2**53


class _Dialect(msgspec.Struct, frozen=True):
    """A kind of usage object: the keys that identify it, and the paths of its counts.

    Of alternative paths the first with a number counts; those of `input` and `output` are summed up.
    """

    marks: tuple[str, ...]
    input: tuple[Path, ...]
    output: tuple[Path, ...]
    cache_read: tuple[Path, ...] = ()
    cache_write: tuple[Path, ...] = ()
    cache_write_5m: tuple[Path, ...] = ()
    cache_write_1h: tuple[Path, ...] = ()
    reasoning: tuple[Path, ...] = ()
    total: tuple[Path, ...] = (("total_tokens",),)
    input_includes_cache: bool = True


def _paths(*dotted: str) -> tuple[Path, ...]:
    return tuple(tuple(path.split(".")) for path in dotted)


_OWN = _Dialect(
    marks=("uncached_input_tokens",),
    input=_paths("uncached_input_tokens"),
    output=_paths("output_tokens"),
    cache_read=_paths("cache_read_tokens"),
    cache_write_5m=_paths("cache_write_5m_tokens"),
    cache_write_1h=_paths("cache_write_1h_tokens"),
    reasoning=_paths("reasoning_tokens"),
    input_includes_cache=False,
)
#: OpenAI's chat completions, and the many APIs like it (some with Anthropic's names for the cache).
_CHAT_COMPLETIONS = _Dialect(
    marks=("prompt_tokens", "completion_tokens"),
    input=_paths("prompt_tokens"),
    output=_paths("completion_tokens"),
    cache_read=_paths(
        "prompt_tokens_details.cached_tokens", "cache_read_input_tokens", "prompt_cache_hit_tokens",
        "cached_prompt_text_tokens", "cached_tokens",
    ),
    cache_write=_paths("prompt_tokens_details.cache_write_tokens", "cache_creation_input_tokens"),
    reasoning=_paths("completion_tokens_details.reasoning_tokens", "reasoning_tokens"),
)  # fmt: skip
_ANTHROPIC = _Dialect(
    marks=("cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation"),
    input=_paths("input_tokens"),
    output=_paths("output_tokens"),
    cache_read=_paths("cache_read_input_tokens"),
    cache_write=_paths("cache_creation_input_tokens"),
    cache_write_5m=_paths("cache_creation.ephemeral_5m_input_tokens"),
    cache_write_1h=_paths("cache_creation.ephemeral_1h_input_tokens"),
    reasoning=_paths("output_tokens_details.thinking_tokens"),
    input_includes_cache=False,
)
#: Cohere's counts of all tokens, templates included; `billed_units` has those that are billed.
_COHERE = _Dialect(
    marks=("tokens",),
    input=_paths("tokens.input_tokens"),
    output=_paths("tokens.output_tokens"),
    cache_read=_paths("cached_tokens"),
)
_COHERE_BILLED = msgspec.structs.replace(
    _COHERE,
    marks=("billed_units",),
    input=_paths("billed_units.input_tokens"),
    output=_paths("billed_units.output_tokens"),
)
#: OpenAI's responses and realtime, Codex, LangChain, Pydantic AI; and APIs without a cache.
_RESPONSES = _Dialect(
    marks=("input_tokens", "output_tokens"),
    input=_paths("input_tokens"),
    output=_paths("output_tokens"),
    cache_read=_paths(
        "input_tokens_details.cached_tokens", "input_token_details.cached_tokens", "input_token_details.cache_read",
        "input_tokens_details.cache_read_input_tokens", "cached_input_tokens", "cache_read_tokens",
    ),
    cache_write=_paths(
        "input_tokens_details.cache_write_tokens", "input_token_details.cache_creation", "cache_write_tokens",
    ),
    cache_write_5m=_paths("input_token_details.ephemeral_5m_input_tokens"),
    cache_write_1h=_paths("input_token_details.ephemeral_1h_input_tokens"),
    reasoning=_paths(
        "output_tokens_details.reasoning_tokens", "output_token_details.reasoning", "reasoning_output_tokens",
        "output_tokens_details.thinking_tokens",
    ),
)  # fmt: skip
_OPENTELEMETRY = _Dialect(
    marks=("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"),
    input=(("gen_ai.usage.input_tokens",),),
    output=(("gen_ai.usage.output_tokens",),),
    cache_read=(("gen_ai.usage.cache_read.input_tokens",),),
    cache_write=(("gen_ai.usage.cache_creation.input_tokens",),),
    reasoning=(("gen_ai.usage.reasoning.output_tokens",),),
)
#: The names in older versions of the convention.
_OPENTELEMETRY_OLD = msgspec.structs.replace(
    _OPENTELEMETRY,
    marks=("gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens"),
    input=(("gen_ai.usage.prompt_tokens",),),
    output=(("gen_ai.usage.completion_tokens",),),
)
_GEMINI = _Dialect(
    marks=("promptTokenCount", "candidatesTokenCount"),
    input=_paths("promptTokenCount", "toolUsePromptTokenCount"),
    output=_paths("candidatesTokenCount", "thoughtsTokenCount"),
    cache_read=_paths("cachedContentTokenCount"),
    reasoning=_paths("thoughtsTokenCount"),
    total=(),
)
_GEMINI_PYTHON = _Dialect(
    marks=("prompt_token_count", "candidates_token_count"),
    input=_paths("prompt_token_count", "tool_use_prompt_token_count"),
    output=_paths("candidates_token_count", "thoughts_token_count"),
    cache_read=_paths("cached_content_token_count"),
    reasoning=_paths("thoughts_token_count"),
    total=(),
)
#: Gemini Live calls the candidates a response.
_GEMINI_LIVE = msgspec.structs.replace(
    _GEMINI, marks=("responseTokenCount",), output=_paths("responseTokenCount", "thoughtsTokenCount")
)
_GEMINI_LIVE_PYTHON = msgspec.structs.replace(
    _GEMINI_PYTHON, marks=("response_token_count",), output=_paths("response_token_count", "thoughts_token_count")
)
#: Vercel's AI SDK: its cache counts mean the same as OpenAI's, under names like Bedrock's.
_VERCEL = _Dialect(
    marks=("cachedInputTokens", "inputTokenDetails", "reasoningTokens", "outputTokenDetails"),
    input=_paths("inputTokens"),
    output=_paths("outputTokens"),
    cache_read=_paths("inputTokenDetails.cacheReadTokens", "cachedInputTokens"),
    cache_write=_paths("inputTokenDetails.cacheWriteTokens"),
    reasoning=_paths("outputTokenDetails.reasoningTokens", "reasoningTokens"),
    total=_paths("totalTokens"),
)
#: Bedrock, and Claude Code's sums per model.
_BEDROCK = _Dialect(
    marks=("inputTokens", "outputTokens"),
    input=_paths("inputTokens"),
    output=_paths("outputTokens"),
    cache_read=_paths("cacheReadInputTokens"),
    cache_write=_paths("cacheWriteInputTokens", "cacheCreationInputTokens"),
    cache_write_5m=_paths("cacheDetails.5m"),
    cache_write_1h=_paths("cacheDetails.1h"),
    total=(),
    input_includes_cache=False,
)
_OLLAMA = _Dialect(
    marks=("prompt_eval_count", "eval_count"), input=_paths("prompt_eval_count"), output=_paths("eval_count")
)
#: The first dialect with one of its marks applies.
_DIALECTS = (
    _OWN, _CHAT_COMPLETIONS, _ANTHROPIC, _RESPONSES, _COHERE, _COHERE_BILLED, _OPENTELEMETRY, _OPENTELEMETRY_OLD,
    _GEMINI_LIVE, _GEMINI_LIVE_PYTHON, _GEMINI, _GEMINI_PYTHON, _VERCEL, _BEDROCK, _OLLAMA,
)  # fmt: skip


def split(usage: Mapping[str, Any]) -> dict[str, int]:
    """Return the counts of a usage object, such as {"uncached_input_tokens": 900, "output_tokens": 40}.

    {} for an unknown kind of usage object. Never raises.
    """
    dialect = next((one for one in _DIALECTS if any(usage.get(mark) is not None for mark in one.marks)), None)
    if dialect is None:
        return {}
    first = {name: _first(usage, getattr(dialect, name)) for name in _ALTERNATIVES}
    total_input, output, reasoning = _sum(usage, dialect.input), _sum(usage, dialect.output), first["reasoning"]
    short, long = _writes(first["cache_write"], first["cache_write_5m"], first["cache_write_1h"])
    if total_input is not None and dialect.input_includes_cache:
        cached = (first["cache_read"] or 0) + (short or 0) + (long or 0)
        uncached: int | None = max(total_input - cached, 0)
    else:
        uncached = total_input
    if output is not None and reasoning and _first(usage, dialect.total) == (total_input or 0) + output + reasoning:
        output += reasoning  # this provider's output does not include reasoning
    counts = (uncached, first["cache_read"], short, long, output, reasoning)
    return {name: count for name, count in zip(TOKENS, counts, strict=True) if count is not None}


_ALTERNATIVES = ("cache_read", "cache_write", "cache_write_5m", "cache_write_1h", "reasoning")


def _writes(total: int | None, short: int | None, long: int | None) -> tuple[int | None, int | None]:
    """Return cache writes of 5 minutes and of 1 hour; those without a duration count as 5 minutes."""
    if total is not None:
        rest = total - (short or 0) - (long or 0)
        if rest > 0:
            short = (short or 0) + rest
        elif short is None and long is None:
            short = total
    return short, long


def as_dict(usage: object) -> dict[str, Any] | None:
    """Return a usage object (a mapping, or an SDK's object) as a dict; None for anything else. Never raises."""
    try:
        plain = _plain(usage, _DEPTH_MAX, [_VALUES_MAX])
    except Exception:  # noqa: BLE001 - the object's own code, on the agent's path
        return None
    return plain if isinstance(plain, dict) else None


#: Usage objects are small. Anything larger (somebody passes the client) is cut, so that it costs no time.
_DEPTH_MAX = 3
_ITEMS_MAX = 64
_VALUES_MAX = 1_000


def _plain(value: Any, depth: int, left: list[int]) -> Any:
    """Return plain data: SDKs' objects (pydantic, protobuf, dataclasses, plain classes) become dicts."""
    if value is None or isinstance(value, str | int | float):
        return value
    left[0] -= 1
    if left[0] < 0:
        depth = 0
    if isinstance(value, Mapping):
        pairs: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list | tuple):
        return [_plain(item, depth - 1, left) for item in value[:_ITEMS_MAX]] if depth else []
    elif isinstance(value, type):
        return str(value)
    else:
        if sdk_objects.offers(value):
            if not depth:
                return {}
            offered = sdk_objects.offered(value)
            # Anything but a mapping may be another such object, without end.
            return _plain(offered, depth if isinstance(offered, Mapping) else depth - 1, left)
        names = getattr(type(value), "__struct_fields__", None) or getattr(type(value), "__dataclass_fields__", None)
        if names is None:
            names = [name for name in getattr(value, "__dict__", {}) if not name.startswith("_")]
        if not names:
            return str(value)[:_ITEMS_MAX]
        pairs = ((name, getattr(value, name, None)) for name in names)
    return {str(name): _plain(item, depth - 1, left) for name, item in islice(pairs, _ITEMS_MAX)} if depth else {}


def _sum(usage: Mapping[str, Any], paths: tuple[Path, ...]) -> int | None:
    counts = [count for count in (_at(usage, path) for path in paths) if count is not None]
    return sum(counts) if counts else None


def _first(usage: Mapping[str, Any], paths: tuple[Path, ...]) -> int | None:
    return next((count for count in (_at(usage, path) for path in paths) if count is not None), None)


def _at(usage: Mapping[str, Any], path: Path) -> int | None:
    """Return the count at a path; None if there is none, or it cannot be a count."""
    value: Any = usage
    for name in path:
        if isinstance(value, list):  # Bedrock's cacheDetails: one item per duration
            value = _of_duration(value, name)
        else:
            value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value <= _COUNT_MAX and value == int(value) else None


def _of_duration(details: list[Any], duration: str) -> int | None:
    values = [item.get("inputTokens") for item in details if isinstance(item, Mapping) and item.get("ttl") == duration]
    counts = [value for value in values if isinstance(value, int)]
    return sum(counts) if counts else None
