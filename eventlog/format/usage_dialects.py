"""Which usage objects there are, and where each has its counts: the tables behind every reading of usage.

Data alone. eventlog.format.usage reads an object by them, and eventlog.indexer.views.usage makes SQL of them that gives
the same; so what a program records and what a transcript says are counted alike.

Providers differ in two ways that matter. The dialects say which:

- whether the input includes tokens read from and written to the cache. Anthropic's, Bedrock's, pi's and OpenCode's does
  not; that of OpenAI, Codex, Copilot, Gemini, OpenTelemetry, OpenInference and OpenLLMetry does;
- whether the output includes reasoning. Gemini's and OpenCode's does not; xAI's did not always, as the total reveals.
"""

from __future__ import annotations

import msgspec

#: Where a value stands: a key of the object, and perhaps one of the object that stands there.
Path = tuple[str] | tuple[str, str]

#: The counts that a usage object is split into: fields of `llm_call`, and columns of `llm_calls`.
TOKENS = (
    "uncached_input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens",
    "output_tokens", "reasoning_tokens",
)  # fmt: skip

#: A count is a whole number from 0 to this one: the largest that a float holds exactly with all below it.
COUNT_MAX = 2**53 - 1


class Dialect(msgspec.Struct, frozen=True):
    """A kind of usage object: the keys that identify it, and the paths of its counts.

    Of alternative paths the first with a count is taken; those of `input` and of `output` are added up.

    cache_write       all tokens written to the cache; what the next two do not say of it was written for 5 minutes
    cache_write_rest  tokens written for an unknown time, beside those of the next two
    total             tells whether the output includes reasoning
    """

    marks: tuple[str, ...]
    input: tuple[Path, ...]
    output: tuple[Path, ...]
    cache_read: tuple[Path, ...] = ()
    cache_write: tuple[Path, ...] = ()
    cache_write_rest: tuple[Path, ...] = ()
    cache_write_5m: tuple[Path, ...] = ()
    cache_write_1h: tuple[Path, ...] = ()
    reasoning: tuple[Path, ...] = ()
    total: tuple[Path, ...] = (("total_tokens",),)
    input_includes_cache: bool = True

    def paths(self) -> tuple[Path, ...]:
        """All paths of counts, in the order in which they are read."""
        return tuple(path for part in PARTS for path in getattr(self, part))


#: The fields of a dialect that hold paths, in the order in which they are read.
PARTS = (
    "input", "output", "cache_read", "cache_write", "cache_write_rest", "cache_write_5m", "cache_write_1h",
    "reasoning", "total",
)  # fmt: skip
#: Those whose paths are added up.
SUMS = ("input", "output")


def _paths(*dotted: str) -> tuple[Path, ...]:
    parts = (path.partition(".") for path in dotted)
    return tuple((first, second) if dot else (first,) for first, dot, second in parts)


def _keys(*names: str) -> tuple[Path, ...]:
    """Paths of keys with dots in them: attributes of spans."""
    return tuple((name,) for name in names)


_OWN = Dialect(
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
_CHAT_COMPLETIONS = Dialect(
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
ANTHROPIC = Dialect(
    marks=("cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation"),
    input=_paths("input_tokens"),
    output=_paths("output_tokens"),
    cache_read=_paths("cache_read_input_tokens"),
    cache_write=_paths("cache_creation_input_tokens"),
    cache_write_5m=_paths("cache_creation.ephemeral_5m_input_tokens"),
    cache_write_1h=_paths("cache_creation.ephemeral_1h_input_tokens"),
    reasoning=_paths("output_tokens_details.thinking_tokens"),
    total=(),
    input_includes_cache=False,
)
#: LangChain sets `cache_creation` to 0 where it knows for how long was written (langchain_anthropic, chat_models.py).
_LANGCHAIN = Dialect(
    marks=("input_token_details", "output_token_details"),
    input=_paths("input_tokens"),
    output=_paths("output_tokens"),
    cache_read=_paths("input_token_details.cache_read", "input_token_details.cached_tokens"),
    cache_write_rest=_paths("input_token_details.cache_creation"),
    cache_write_5m=_paths("input_token_details.ephemeral_5m_input_tokens"),
    cache_write_1h=_paths("input_token_details.ephemeral_1h_input_tokens"),
    reasoning=_paths("output_token_details.reasoning"),
)
#: Cohere's counts of all tokens, templates included; `billed_units` has those that are billed.
_COHERE = Dialect(
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
#: OpenAI's responses and realtime, Codex, Pydantic AI; and APIs without a cache.
_RESPONSES = Dialect(
    marks=("input_tokens", "output_tokens"),
    input=_paths("input_tokens"),
    output=_paths("output_tokens"),
    cache_read=_paths(
        "input_tokens_details.cached_tokens", "input_tokens_details.cache_read_input_tokens", "cached_input_tokens",
        "cache_read_tokens",
    ),
    cache_write=_paths("input_tokens_details.cache_write_tokens", "cache_write_tokens"),
    reasoning=_paths(
        "output_tokens_details.reasoning_tokens", "reasoning_output_tokens", "output_tokens_details.thinking_tokens",
    ),
)  # fmt: skip
#: OpenTelemetry's conventions for generative AI, and the names beside them of OpenLLMetry and others.
_OPENTELEMETRY = Dialect(
    marks=("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"),
    input=_keys("gen_ai.usage.input_tokens"),
    output=_keys("gen_ai.usage.output_tokens"),
    cache_read=_keys(
        "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.cached_input_tokens",
    ),
    cache_write=_keys(
        "gen_ai.usage.cache_write.input_tokens", "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens", "gen_ai.usage.cache_write_input_tokens",
    ),
    reasoning=_keys("gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens"),
    total=_keys("gen_ai.usage.total_tokens", "llm.usage.total_tokens"),
)  # fmt: skip
#: The names in older versions of the convention, which OpenLLMetry keeps.
_OPENTELEMETRY_OLD = msgspec.structs.replace(
    _OPENTELEMETRY,
    marks=("gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens"),
    input=_keys("gen_ai.usage.prompt_tokens"),
    output=_keys("gen_ai.usage.completion_tokens"),
)
_OPENINFERENCE = Dialect(
    marks=("llm.token_count.prompt", "llm.token_count.completion"),
    input=_keys("llm.token_count.prompt"),
    output=_keys("llm.token_count.completion"),
    cache_read=_keys("llm.token_count.prompt_details.cache_read", "llm.token_count.prompt_details.cache_input"),
    cache_write=_keys("llm.token_count.prompt_details.cache_write"),
    reasoning=_keys("llm.token_count.completion_details.reasoning"),
    total=_keys("llm.token_count.total"),
)
_GEMINI = Dialect(
    marks=("promptTokenCount", "candidatesTokenCount"),
    input=_paths("promptTokenCount", "toolUsePromptTokenCount"),
    output=_paths("candidatesTokenCount", "thoughtsTokenCount"),
    cache_read=_paths("cachedContentTokenCount"),
    reasoning=_paths("thoughtsTokenCount"),
    total=(),
)
_GEMINI_PYTHON = Dialect(
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
#: Vercel's AI SDK and Copilot: the cache is a part of the input as with OpenAI, under names like Bedrock's.
_VERCEL = Dialect(
    marks=(
        "cachedInputTokens", "inputTokenDetails", "reasoningTokens", "outputTokenDetails", "cacheReadTokens",
        "cacheWriteTokens",
    ),
    input=_paths("inputTokens"),
    output=_paths("outputTokens"),
    cache_read=_paths("inputTokenDetails.cacheReadTokens", "cachedInputTokens", "cacheReadTokens"),
    cache_write=_paths("inputTokenDetails.cacheWriteTokens", "cacheWriteTokens"),
    reasoning=_paths("outputTokenDetails.reasoningTokens", "reasoningTokens"),
    total=_paths("totalTokens"),
)  # fmt: skip
#: Bedrock, and Claude Code's sums per model.
_BEDROCK = Dialect(
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
#: The Gemini CLI, as its sessions say it: cached is a part of the input; thoughts and tools stand beside.
_GEMINI_CLI = Dialect(
    marks=("cached", "thoughts", "tool"),
    input=_paths("input", "tool"),
    output=_paths("output", "thoughts"),
    cache_read=_paths("cached"),
    reasoning=_paths("thoughts"),
    total=(),
)
#: OpenCode takes the cache out of the input and reasoning out of the output (its getUsage).
_OPENCODE = Dialect(
    marks=("cache",),
    input=_paths("input"),
    output=_paths("output", "reasoning"),
    cache_read=_paths("cache.read"),
    cache_write=_paths("cache.write"),
    reasoning=_paths("reasoning"),
    total=(),
    input_includes_cache=False,
)
_PI = Dialect(
    marks=("cacheRead", "cacheWrite", "input", "output"),
    input=_paths("input"),
    output=_paths("output"),
    cache_read=_paths("cacheRead"),
    cache_write=_paths("cacheWrite"),
    total=(),
    input_includes_cache=False,
)
_OLLAMA = Dialect(
    marks=("prompt_eval_count", "eval_count"),
    input=_paths("prompt_eval_count"),
    output=_paths("eval_count"),
    total=(),
)
#: The first dialect with one of its marks applies.
DIALECTS = (
    _OWN, _CHAT_COMPLETIONS, ANTHROPIC, _LANGCHAIN, _RESPONSES, _COHERE, _COHERE_BILLED, _OPENTELEMETRY,
    _OPENTELEMETRY_OLD, _OPENINFERENCE, _GEMINI_LIVE, _GEMINI_LIVE_PYTHON, _GEMINI, _GEMINI_PYTHON, _VERCEL, _BEDROCK,
    _GEMINI_CLI, _OPENCODE, _PI, _OLLAMA,
)  # fmt: skip

#: Lists that have an entry per kind, and the keys of an entry's kind and count: `cacheDetails.5m` is the count of the
#: first entry whose `ttl` is `5m`.
LISTS = {"cacheDetails": ("ttl", "inputTokens")}

# -- what every dialect may have -------------------------------------------------------------

#: Searches of the web by the provider: Anthropic's, and Claude Code's sums per model.
WEB_SEARCHES = _paths("server_tool_use.web_search_requests", "webSearchRequests")
SERVICE_TIER: Path = ("service_tier",)
#: Anthropic's fast mode is a speed beside the tier, and has prices of its own as tiers have.
SPEED: Path = ("speed",)
FAST = "fast"
INFERENCE_GEO: Path = ("inference_geo",)

#: Anthropic's list of what a call consisted of. Counts in it are in its dialect.
ITERATIONS = "iterations"
#: What these types used is in the sums of the usage object. A `fallback_message` is the answer of the model that
#: served; a `message` beside it may be an attempt of a model that declined, which is neither in the sums nor billed
#: (anthropic-sdk-python, beta_fallback_message_iteration_usage.py).
SUMMED = ("message", "fallback_message")
#: Not in the sums, and billed by the call's own model.
ADDED = "compaction"
#: Not in the sums, and billed by a model of its own, which the entry names: a call of its own.
ADVISOR = "advisor_message"
#: As many entries as this, and it is not known whether all of them were kept.
ITERATIONS_END = 64
#: How much of an odd value, or of the names of unknown ones, is shown.
SHOWN_MAX_CHARS = 40
