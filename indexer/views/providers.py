"""Who sold a model's answer, from the names in it: for sources whose lines do not say their provider.

Names are those of OpenTelemetry where it has one (`gen_ai.provider.name`), as in recorded calls. The same model has
other names with other sellers:

    claude-opus-4-5-20251101                            anthropic         https://docs.claude.com, models overview
    us.anthropic.claude-opus-4-5-20251101-v1:0, arn:…   aws.bedrock       AWS, supported foundation models
    claude-opus-4-5@20251101                            gcp.vertex_ai     Google Cloud, partner models
    anthropic/claude-opus-4.5                           openrouter        https://openrouter.ai/models: maker/model
    vertex_ai/claude-opus-4-5@20251101                  gcp.vertex_ai     LiteLLM: provider/model
    qwen3-coder:30b                                     ollama            Ollama: model:tag

Bedrock and Vertex answer with Anthropic's own name of a model, and mark the message: `msg_bdrk_…`, `msg_vrtx_…`.
"""

from __future__ import annotations

import functools
import re

from eventlog.indexer.sql import literal

#: Beginnings of message ids that name the seller, whatever the model is called.
_MESSAGE_IDS = {"msg_bdrk_": "aws.bedrock", "msg_vrtx_": "gcp.vertex_ai"}

#: Makers whose models Bedrock has: `[region.]maker.model`.
_ON_BEDROCK = (
    "ai21|amazon|anthropic|cohere|deepseek|google|luma|meta|minimax|mistral|moonshot|moonshotai|nvidia|openai|qwen"
    "|stability|twelvelabs|writer|zai"
)

#: The first expression that matches a whole name decides. Each is one for RE2 (DuckDB) and for Python alike; without
#: `.`, which they read differently. Open weights (gpt-oss, qwen, llama) are sold by many, so their names say nobody.
_NAMES: tuple[tuple[str, str | None], ...] = (
    (r"(?i)claude[^/@]*", "anthropic"),
    (r"(?i)(bedrock|bedrock_converse)/[\s\S]+|arn:aws[a-z-]*:[\s\S]+", "aws.bedrock"),
    (rf"(?i)([a-z]+(-gov)?\.)?({_ON_BEDROCK})\.[^/]+", "aws.bedrock"),
    (r"(?i)claude[^/]*|vertex(_ai)?/[\s\S]+|(projects/[\s\S]+/)?publishers/[\s\S]+", "gcp.vertex_ai"),
    (r"(?i)openrouter/[\s\S]+", "openrouter"),
    (r"(?i)azure/[\s\S]+", "azure.ai.openai"),
    (r"(?i)azure_ai/[\s\S]+", "azure.ai.inference"),
    (r"(?i)gemini[/-][^/]+", "gcp.gemini"),
    (r"(?i)groq/[\s\S]+", "groq"),
    (r"(?i)ollama(_chat)?/[\s\S]+", "ollama"),
    # OpenRouter writes versions with a dot; with dashes it is Anthropic's own name behind LiteLLM's provider.
    (r"(?i)anthropic/claude-[^/.]+", "anthropic"),
    # Names in capitals with a slash are repositories of Hugging Face, which anybody serves.
    (r"~?[a-z0-9][a-z0-9_.-]*/[a-z0-9][^/]*", "openrouter"),
    (r"(?i)ft:(gpt|o[1-9])[^/]*", "openai"),
    (r"[^/:]+:[^/:]+", "ollama"),
    (r"(?i)gpt-oss[^/]*", None),
    (r"(?i)(gpt|chatgpt|codex|computer-use)-[^/]+|o[1-9](-[^/]+)?", "openai"),
    (r"(?i)(kimi|moonshot)[^/]*", "moonshot_ai"),
    (r"(?i)deepseek[^/]*", "deepseek"),
    (r"(?i)minimax[^/]*", "minimax"),
    (r"(?i)glm-[^/]+", "zai"),
    (r"(?i)grok-[^/]+", "x_ai"),
    (r"(?i)(mistral|ministral|codestral|devstral|magistral|pixtral)-[^/]+", "mistral_ai"),
)


def provider_of(model: str, message_id: str | None = None) -> str:
    """Return SQL for the provider of a model: of `model`, say, a VARCHAR; NULL where its name says none.

    `message_id` is SQL for the id of the answer, if there is one: it decides first.
    """
    parts = [] if message_id is None else [
        f"WHEN starts_with({message_id}, {literal(beginning)}) THEN {literal(provider)}"
        for beginning, provider in _MESSAGE_IDS.items()
    ]  # fmt: skip
    parts += [
        f"WHEN regexp_full_match({model}, {literal(name)}) THEN {'NULL' if provider is None else literal(provider)}"
        for name, provider in _NAMES
    ]
    return f"CASE {' '.join(parts)} END"


def named_provider(model: str) -> str | None:
    """Return the provider of a model by its name alone, as `provider_of` does: "aws.bedrock"; None if it says none."""
    return next((provider for name, provider in _compiled() if name.fullmatch(model)), None)


@functools.cache
def _compiled() -> tuple[tuple[re.Pattern[str], str | None], ...]:
    """Return the expressions for Python: to compile them takes longer than to import all of this package."""
    return tuple((re.compile(name), provider) for name, provider in _NAMES)
