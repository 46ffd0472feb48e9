"""The built-in typed events of agents.

Field names follow the OpenTelemetry semantic conventions for generative AI (version 1.44) where those have
a name: the attribute without `gen_ai.`, with underscores for dots, and shortened where that is clear.
docs/events.md lists both side by side.

An event is emitted when the work that it describes has ended: its `timestamp` is the end, and `timestamp`
minus the duration is the start. The envelope names agent, run, session and step. Any field may be left out,
unknown fields are stored, and a program may register a struct of its own under one of these names.

Token counts are disjoint: `uncached_input_tokens`, `cache_read_tokens` and the two `cache_write_…_tokens` add up to
the input; `reasoning_tokens` are a part of `output_tokens`. Anthropic counts like this; eventlog.format.usage splits
the counts of OpenAI and OpenTelemetry, whose input includes cached tokens.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from eventlog.format.schemas import built_in

Attributes = dict[str, Any]

# The docstrings of these structs are a part of the schemas that are logged: another text would log each schema again.


@built_in("run_started")
class RunStarted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run begins. `host`, `boot` (id of the machine's boot) and `pid` are its owner."""

    name: str
    task: Any = None
    host: str | None = None
    boot: str | None = None
    pid: int | None = None
    parent_run_id: str | None = None
    attributes: Attributes | None = None


@built_in("run_finished")
class RunFinished(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run is over: `status` is ok, error or cancelled."""

    status: str = "ok"
    duration_ms: float | None = None
    error_type: str | None = None
    error_message: str | None = None
    output: Any = None
    attributes: Attributes | None = None


@built_in("step")
class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A step of a run is over. `kind` is thought, plan, action or observation, or a word of your own.

    Its event id is made when it begins: what happens inside names it as `parent_event_id`.
    """

    name: str
    kind: str = "action"
    duration_ms: float | None = None
    input: Any = None
    output: Any = None
    error_type: str | None = None
    error_message: str | None = None
    attributes: Attributes | None = None


@built_in("llm_call")
class LlmCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model was called. `cost_usd` is what the provider or the caller says that it cost."""

    operation_name: str | None = None
    provider_name: str | None = None
    request_model: str | None = None
    response_model: str | None = None
    response_id: str | None = None
    request_temperature: float | None = None
    request_top_p: float | None = None
    request_max_tokens: int | None = None
    request_parameters: Attributes | None = None
    system_instructions: Any = None
    input_messages: Any = None
    output_messages: Any = None
    tool_definitions: Any = None
    context_statistics: Attributes | None = None
    finish_reasons: list[str] | None = None
    uncached_input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    service_tier: str | None = None
    web_searches: int | None = None
    inference_geo: str | None = None
    usage_problem: str | None = None
    raw_usage: Attributes | None = None
    latency_ms: float | None = None
    time_to_first_token_ms: float | None = None
    cost_usd: Decimal | None = None
    error_type: str | None = None
    error_message: str | None = None
    attributes: Attributes | None = None


@built_in("tool_call")
class ToolCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tool was used. One that failed is not `ok`, or has an `error_type`."""

    tool_name: str | None = None
    tool_call_id: str | None = None
    arguments: Any = None
    result: Any = None
    ok: bool = True
    duration_ms: float | None = None
    error_type: str | None = None
    error_message: str | None = None
    attributes: Attributes | None = None


@built_in("decision_trace")
class DecisionTrace(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was chosen, of what, and why. `confidence` is 0 to 1."""

    question: Any = None
    options: list[Any] | None = None
    chosen: Any = None
    reason: str | None = None
    confidence: float | None = None
    attributes: Attributes | None = None


@built_in("orchestration_event")
class OrchestrationEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something between agents: `action` is handoff, spawn, route, or a word of your own."""

    action: str | None = None
    source_agent: str | None = None
    target_agent: str | None = None
    attributes: Attributes | None = None


@built_in("debug_event")
class DebugEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of a program's own log."""

    level: str | None = None
    logger: str | None = None
    message: Any = None
    stacktrace: str | None = None
    attributes: Attributes | None = None


@built_in("error")
class Error(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something went wrong; `handled` says whether the program went on."""

    error_type: str | None = None
    error_message: str | None = None
    stacktrace: str | None = None
    handled: bool | None = None
    attributes: Attributes | None = None


@built_in("artifact")
class Artifact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something was made: a file, a page, a commit."""

    name: str | None = None
    uri: str | None = None
    media_type: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    attributes: Attributes | None = None


@built_in("heartbeat")
class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An agent is alive, and will say so again within `interval_s`."""

    status: str | None = None
    interval_s: float | None = None
    attributes: Attributes | None = None


@built_in("message")
class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody said something: `role` is user, assistant, system or tool."""

    role: str | None = None
    content: Any = None
    name: str | None = None


@built_in("request")
class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request that came from outside is answered: `status` is ok, error or cancelled.

    What happened for it names it as `request_id`, whatever runs, steps and agents it went through.
    """

    name: str | None = None
    channel: str | None = None
    user_id: str | None = None
    input: Any = None
    output: Any = None
    status: str = "ok"
    duration_ms: float | None = None
    error_type: str | None = None
    error_message: str | None = None
    attributes: Attributes | None = None


@built_in("conversation_state")
class ConversationState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an agent keeps of a conversation from now on; the envelope's `session_id` says which one.

    `status` is active, waiting or ended, or a word of your own.
    """

    status: str | None = None
    summary: str | None = None
    messages: Any = None
    message_count: int | None = None
    context_tokens: int | None = None
    state: Any = None
    attributes: Attributes | None = None


@built_in("score")
class Score(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An evaluation of a run or, with `target_event_id`, of one event."""

    name: str | None = None
    score_value: float | None = None
    score_label: str | None = None
    explanation: str | None = None
    target_event_id: str | None = None
    evaluator: str | None = None


@built_in("price_set")
class PriceSet(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """From `effective_from` on, a model has these prices, in USD per million tokens.

    `model` is the beginning of a model's name, and the longest one that fits counts. Prices are for the
    event's workspace, or for all where it names none; for the provider, the service tier and the place of inference
    that are named, or for any. Without `effective_from` they hold from the event's own time on. `web_search_usd` is for
    one web search of the provider.
    """

    model: str
    provider_name: str | None = None
    service_tier: str | None = None
    inference_geo: str | None = None
    effective_from: datetime | None = None
    effective_until: datetime | None = None
    input_usd_per_mtok: Decimal | None = None
    cache_read_usd_per_mtok: Decimal | None = None
    cache_write_5m_usd_per_mtok: Decimal | None = None
    cache_write_1h_usd_per_mtok: Decimal | None = None
    output_usd_per_mtok: Decimal | None = None
    web_search_usd: Decimal | None = None
    note: str | None = None


@built_in("retention_set")
class RetentionSet(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many days the log keeps the events of a workspace: the envelope's, or all that have no policy of their own.

    Without `keep_days`: for ever. The latest one of a workspace counts (eventlog.indexer.policies).
    """

    keep_days: float | None = None
    note: str | None = None
