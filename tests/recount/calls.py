"""Calls of models and tools: recorded ones, and those of Claude Code's transcripts ("llm_calls", "tool_calls" in
docs/schema.md).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from tests.recount.log import Event, nested, number, text, whole

TOKENS = ("uncached_input", "cache_read", "cache_write_5m", "cache_write_1h", "output")
UNIQUE_ID_CHARS = 20
#: Milliseconds of 30 years; longer durations are mistakes.
MS_MAX = 10**12


class LlmCall(NamedTuple):
    """A call of a model. `tokens` are those of TOKENS; `reported` is the cost in USD that somebody reported.

    `searches` are searches of the web, `place` is where the model ran, `problem` is what was not understood of its
    usage.
    """

    message_id: str
    workspace: str | None
    agent: str | None
    run_id: str | None
    session_id: str | None
    subagent_id: str | None
    source: str
    provider: str | None
    model: str | None
    tier: str | None
    tokens: tuple[int, ...]
    reasoning: int | None
    latency_ms: float | None
    ttft_ms: float | None
    error_type: str | None
    ok: bool
    reported: Decimal | None
    timestamp: datetime
    last_timestamp: datetime
    searches: int = 0
    place: str | None = None
    problem: str | None = None
    event_id: str = ""
    branch: str | None = None


class ToolCall(NamedTuple):
    """A call of a tool; `ok` is None where its result is not known."""

    tool_call_id: str | None
    workspace: str | None
    agent: str | None
    run_id: str | None
    session_id: str | None
    tool: str | None
    timestamp: datetime
    finished: datetime | None
    duration_ms: float | None
    ok: bool | None
    error_type: str | None


def llm_calls(events: list[Event]) -> list[LlmCall]:
    """All calls of models. `events` are without copies."""
    recorded = [_recorded_call(event) for event in events if event.event_type == "llm_call"]
    return [*recorded, *_answers(events), *_failed_requests(events)]


def tool_calls(events: list[Event]) -> list[ToolCall]:
    """All calls of tools. `events` are without copies."""
    return [*(_recorded_tool(event) for event in events if event.event_type == "tool_call"), *_tools(events)]


# -- recorded --------------------------------------------------------------------------------


def counts_of(payload: dict[str, Any]) -> tuple[int, ...]:
    """The tokens of an `llm_call`; 0 where it has none."""
    return tuple(whole(payload.get(f"{name}_tokens")) or 0 for name in TOKENS)


def tool_failed(payload: dict[str, Any]) -> bool:
    return payload.get("ok") is False or text(payload.get("error_type")) is not None


def _tool_ok(payload: dict[str, Any]) -> bool | None:
    """None where `ok` is there and neither true nor false."""
    ok = payload.get("ok", True)
    return False if tool_failed(payload) else True if ok is True else None


def started(timestamp: datetime, duration_ms: float | None) -> datetime:
    """The start of what was written at its end; the end, where a duration is impossible: negative, or over 30 years."""
    if duration_ms is None or not 0 <= duration_ms <= MS_MAX:
        return timestamp
    try:
        return timestamp - timedelta(microseconds=round(duration_ms * 1000))
    except OverflowError:  # before the year 1
        return timestamp


def _recorded_call(event: Event) -> LlmCall:
    payload = event.payload
    error_type = text(payload.get("error_type"))
    return LlmCall(
        message_id=payload.get("response_id") or event.event_id,
        workspace=event.workspace,
        agent=event.agent,
        run_id=event.run_id,
        session_id=event.session_id,
        subagent_id=None,
        source="llm_call",
        provider=text(payload.get("provider_name")),
        model=text(payload.get("response_model")) or text(payload.get("request_model")),
        tier=text(payload.get("service_tier")),
        tokens=counts_of(payload),
        reasoning=whole(payload.get("reasoning_tokens")),
        latency_ms=number(payload.get("latency_ms")),
        ttft_ms=number(payload.get("time_to_first_token_ms")),
        error_type=error_type,
        ok=error_type is None,
        reported=_decimal(payload.get("cost_usd")),
        timestamp=event.timestamp,
        last_timestamp=event.timestamp,
        searches=whole(payload.get("web_searches")) or 0,
        place=text(payload.get("inference_geo")),
        problem=text(payload.get("usage_problem")),
        event_id=event.event_id,
    )


def _decimal(value: Any) -> Decimal | None:
    try:
        return None if value is None or isinstance(value, bool) else Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        return None


def _recorded_tool(event: Event) -> ToolCall:
    payload = event.payload
    duration = number(payload.get("duration_ms"))
    return ToolCall(
        tool_call_id=text(payload.get("tool_call_id")),
        workspace=event.workspace,
        agent=event.agent,
        run_id=event.run_id,
        session_id=event.session_id,
        tool=text(payload.get("tool_name")),
        timestamp=started(event.timestamp, duration),
        finished=event.timestamp,
        duration_ms=duration,
        ok=_tool_ok(payload),
        error_type=text(payload.get("error_type")),
    )


# -- imported --------------------------------------------------------------------------------


class Said(NamedTuple):
    """What somebody said in a line, or in a line within a line. `agent_id` is the id of the subagent."""

    event: Event
    role: str
    message: dict[str, Any]
    request_id: str | None
    agent_id: str | None

    @property
    def message_id(self) -> str | None:
        return text(self.message.get("id"))


def said(events: Iterable[Event]) -> Iterator[Said]:
    """What users and models said in transcripts, in order."""
    for event in sorted((each for each in events if each.event_type == "claude_code"), key=lambda each: each.order):
        payload = event.payload
        kind = payload.get("type")
        agent_id = payload.get("agentId")
        if kind == "progress" and nested(payload, "data", "type") == "agent_progress":
            agent_id = nested(payload, "data", "agentId")
            payload = nested(payload, "data", "message") or {}
            kind = payload.get("type")
        if kind in ("assistant", "user") and isinstance(payload.get("message"), dict):
            yield Said(event, kind, payload["message"], payload.get("requestId"), agent_id)


def _scope(unique_id: str, prefix: str, each: Said) -> tuple[str | None, ...]:
    """Where an id is unique: anywhere, or only in its conversation."""
    if unique_id.startswith(prefix) or len(unique_id) >= UNIQUE_ID_CHARS:
        return ()
    return each.event.session_id, each.agent_id


def _answers(events: list[Event]) -> list[LlmCall]:
    """One call for each message of a model, by the line with a stop reason, else by the last one."""
    messages: dict[tuple[Any, ...], list[Said]] = defaultdict(list)
    for each in said(events):
        if each.role == "assistant" and text(each.message.get("model")) and each.message["model"] != "<synthetic>":
            message_id = each.message_id or each.event.event_id
            messages[each.event.workspace, _scope(message_id, "msg_", each), message_id].append(each)
    inline = _inline_subagents(events)
    calls = []
    for (_, scope, message_id), lines in messages.items():
        requests: dict[str | None, list[Said]] = defaultdict(list)
        first_request = next((line.request_id for line in lines if line.request_id), None)
        for line in lines:
            requests[(line.request_id or first_request) if scope else None].append(line)
        calls += [_answer(message_id, of_request, inline) for of_request in requests.values()]
    return calls


def _answer(message_id: str, lines: list[Said], inline: dict[tuple[str, int], str]) -> LlmCall:
    finished = [line for line in lines if line.message.get("stop_reason") is not None]
    counted = (finished or lines)[-1]
    usage = counted.message.get("usage") or {}
    written, for_an_hour = _written(usage)
    agent_ids = [line.agent_id for line in lines if line.agent_id]
    latencies = [number(line.event.payload.get("durationMs")) for line in lines]
    reported = [_decimal(line.event.payload.get("costUSD")) for line in lines]
    return LlmCall(
        message_id=message_id,
        workspace=counted.event.workspace,
        agent=counted.event.agent,
        run_id=counted.event.run_id,
        session_id=lines[0].event.session_id,
        subagent_id=agent_ids[0] if agent_ids else inline.get(counted.event.place),
        source="claude_code",
        provider=None,
        model=counted.message["model"],
        tier="fast" if usage.get("speed") == "fast" else usage.get("service_tier"),
        tokens=(
            whole(usage.get("input_tokens")) or 0,
            whole(usage.get("cache_read_input_tokens")) or 0,
            written - for_an_hour,
            for_an_hour,
            whole(usage.get("output_tokens")) or 0,
        ),
        reasoning=None,
        latency_ms=max((each for each in latencies if each is not None), default=None),
        ttft_ms=None,
        error_type=None,
        ok=True,
        reported=max((each for each in reported if each is not None), default=None),
        timestamp=lines[0].event.timestamp,
        last_timestamp=lines[-1].event.timestamp,
        searches=whole(nested(usage, "server_tool_use", "web_search_requests")) or 0,
        place=text(usage.get("inference_geo")),
        branch=branch_of(counted.event),
    )


def branch_of(event: Event) -> str | None:
    """The branch of git that a line names."""
    return text(event.payload.get("gitBranch")) or None


def _written(usage: dict[str, Any]) -> tuple[int, int]:
    """Tokens written to a cache: all, and of these for an hour. A split never says more than the total beside it."""
    split = [whole(nested(usage, "cache_creation", f"ephemeral_{each}_input_tokens")) or 0 for each in ("5m", "1h")]
    total = whole(usage.get("cache_creation_input_tokens"))
    if total is None:
        return sum(split), split[1]
    return total, split[1] if sum(split) <= total else 0


def _failed_requests(events: list[Event]) -> Iterator[LlmCall]:
    """Calls that failed: each retry has a line of its own, and the last failure one that Claude Code wrote itself."""
    inline = _inline_subagents(events)
    for event in events:
        payload = event.payload
        retried = payload.get("type") == "system" and payload.get("subtype") == "api_error"
        given_up = nested(payload, "message", "model") == "<synthetic>" and payload.get("isApiErrorMessage") is True
        if event.event_type == "claude_code" and (retried or given_up):
            yield LlmCall(
                message_id=event.event_id,
                workspace=event.workspace,
                agent=event.agent,
                run_id=event.run_id,
                session_id=event.session_id,
                subagent_id=payload.get("agentId") or inline.get(event.place),
                source="claude_code",
                provider=None,
                model=None,
                tier=None,
                tokens=(0, 0, 0, 0, 0),
                reasoning=None,
                latency_ms=None,
                ttft_ms=None,
                error_type=_error_type(payload),
                ok=False,
                reported=None,
                timestamp=event.timestamp,
                last_timestamp=event.timestamp,
                branch=branch_of(event),
            )


def _error_type(payload: dict[str, Any]) -> str:
    error = payload.get("error")
    named = nested(error, "error", "error", "type") or nested(error, "error", "type") or text(error)
    status = nested(error, "status")
    return named or (f"http_{status}" if status is not None else "api_error")


def _inline_subagents(events: Iterable[Event]) -> dict[tuple[str, int], str]:
    """The subagents without an id, by the places of their lines: each is called by the first line of its chain."""
    inline = [
        event
        for event in events
        if event.event_type == "claude_code"
        and event.payload.get("isSidechain") is True
        and event.payload.get("agentId") is None
    ]
    by_uuid = {(event.workspace, event.payload.get("uuid")): event for event in inline}
    found = {}
    for event in inline:
        first, seen = event, {event.place}
        while (before := by_uuid.get((first.workspace, first.payload.get("parentUuid")))) and before.place not in seen:
            first = before
            seen.add(first.place)
        found[event.place] = str(first.payload.get("uuid"))
    return found


class _Turn(NamedTuple):
    """A use of a tool's id: the first line with the call, and the first with its result."""

    calls: list[tuple[Said, dict[str, Any]]]
    results: list[tuple[Said, dict[str, Any]]]
    message_ids: set[str]


def _tools(events: list[Event]) -> list[ToolCall]:
    turns: dict[tuple[Any, ...], list[_Turn]] = defaultdict(lambda: [_Turn([], [], set())])
    for each in said(events):
        content = each.message.get("content")
        for block in content if isinstance(content, list) else ():
            kind = block.get("type") if isinstance(block, dict) else None
            if kind not in ("tool_use", "tool_result"):
                continue
            call_id = str(block.get("id") or block.get("tool_use_id"))
            scope = _scope(call_id, "toolu_", each)
            of_id = turns[each.event.workspace, scope, call_id]
            if kind == "tool_result":
                of_id[-1].results.append((each, block))
                continue
            message_id = each.message_id or each.event.event_id
            if scope and of_id[-1].message_ids and all(message_id not in turn.message_ids for turn in of_id):
                of_id.append(_Turn([], [], set()))
            of_id[-1].calls.append((each, block))
            of_id[-1].message_ids.add(message_id)
    return [_tool(call_id, turn) for (*_, call_id), of_id in turns.items() for turn in of_id if turn.calls]


def _tool(call_id: str, turn: _Turn) -> ToolCall:
    line, block = turn.calls[0]
    finished = turn.results[0][0].event.timestamp if turn.results else None
    began = line.event.timestamp
    return ToolCall(
        tool_call_id=call_id,
        workspace=line.event.workspace,
        agent=line.event.agent,
        run_id=line.event.run_id,
        session_id=line.event.session_id,
        tool=block.get("name"),
        timestamp=began,
        finished=finished,
        duration_ms=None if finished is None else float((finished - began) // timedelta(milliseconds=1)),
        ok=turn.results[0][1].get("is_error") is not True if turn.results else None,
        error_type=None,
    )
