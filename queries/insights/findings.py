"""What is found in the calls of a run or a session: repetition, retries, loops, growth, re-sent tokens, gaps.

Definitions, so that numbers can be checked:

**Repeated**: calls of one tool with equal arguments. The first is work; time and bytes of the others are waste,
unless the world changed between them, which no log knows.

**Retries**: equal calls one after the other, each but the last of which failed. For models: a failed call, and the
next one of the same conversation with the same model.

**Loops**: the same sequence of tool calls, arguments included, LOOP_TIMES or more times in a row.

**Growth**: input tokens of each call of a conversation, all of them: uncached, read from a cache, and written to one.
The slope is that of the straight line that fits best, in tokens per call.

**Re-sent**: a model keeps nothing between calls, so a conversation is sent, and billed, again with every call; a
cache makes that cheaper, and does not make it free. Of a call, those tokens are re-sent that the provider says it
read from a cache, or as many as the call before it in the same conversation had, whichever is more, and never more
than it has. (After a context was cut short, this counts all of what is left as re-sent.)

**Gaps**: times in which no call was going on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec

from eventlog.queries.insights.calls import Calls, ModelCall, ToolCall

LOOP_TIMES = 3
_LOOP_LENGTH_MAX = 20
_LISTED_MAX = 20
_IDS_MAX = 50
_ARGUMENTS_CHARS = 200
_SERIES_MAX = 200
_GAPS = 5
_GAP_MIN_S = 1.0


class Repeated(msgspec.Struct, frozen=True, kw_only=True):
    """Equal calls of a tool. Waste is what all but the first took, and the bytes of their results."""

    tool: str
    arguments: str
    times: int
    wasted_ms: float
    wasted_result_bytes: int
    event_ids: list[str]


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """Failed, and tried again. `wasted_ms` is the time of the attempts that failed; `kind` is tool or model."""

    kind: str
    name: str
    arguments: str
    attempts: int
    succeeded: bool
    wasted_ms: float
    event_ids: list[str]


class Loop(msgspec.Struct, frozen=True, kw_only=True):
    """A sequence of tool calls, and how often it came in a row."""

    tools: list[str]
    times: int
    started: datetime
    finished: datetime
    event_ids: list[str]


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """Input tokens over the calls of a conversation. `series` has each of them, or evenly spaced ones."""

    context: str
    calls: int
    first: int
    last: int
    largest: int
    largest_event_id: str
    slope: float
    series: list[int]


class Resent(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens that were sent before: `share` of all input, 0 to 1. `cached` are those read from a cache."""

    input_tokens: int
    resent_tokens: int
    cached_tokens: int
    share: float


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """A time in which nothing went on, between the events whose ids these are."""

    started: datetime
    finished: datetime
    seconds: float
    after_event_id: str
    before_event_id: str


class Insights(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was found. Lists begin with what weighs most, and have LISTED_MAX entries at most."""

    run_id: str | None
    session_id: str | None
    llm_calls: int
    tool_calls: int
    repeated: list[Repeated]
    retries: list[Retry]
    loops: list[Loop]
    growth: list[Growth]
    resent: Resent | None
    gaps: list[Gap]
    cut: bool


def insights(calls: Calls, *, run_id: str | None = None, session_id: str | None = None) -> Insights:
    """Look at calls."""
    conversations = list(_conversations(calls.models))
    return Insights(
        run_id=run_id,
        session_id=session_id,
        llm_calls=len(calls.models),
        tool_calls=len(calls.tools),
        repeated=repeated(calls.tools)[:_LISTED_MAX],
        retries=retries(calls.tools, conversations)[:_LISTED_MAX],
        loops=loops(calls.tools)[:_LISTED_MAX],
        growth=[growth(each) for each in conversations if len(each) > 1][:_LISTED_MAX],
        resent=resent(conversations),
        gaps=gaps([*calls.models, *calls.tools]),
        cut=calls.cut,
    )


def _conversations(models: Iterable[ModelCall]) -> Iterator[list[ModelCall]]:
    """Yield the calls of each conversation; the main one comes first, then the longest."""
    by_context: dict[str, list[ModelCall]] = {}
    for call in models:
        by_context.setdefault(call.context, []).append(call)
    for context in sorted(by_context, key=lambda each: (each != "", -len(by_context[each]), each)):
        yield by_context[context]


# -- tools -----------------------------------------------------------------------------------


def repeated(tools: Iterable[ToolCall]) -> list[Repeated]:
    """Return calls that were made more than once, those that took longest first."""
    same: dict[tuple[str, str], list[ToolCall]] = {}
    for call in tools:
        same.setdefault((call.tool, call.arguments), []).append(call)
    found = [
        Repeated(
            tool=tool,
            arguments=_short(arguments),
            times=len(calls),
            wasted_ms=sum(call.duration_ms for call in calls[1:]),
            wasted_result_bytes=sum(call.result_bytes for call in calls[1:]),
            event_ids=[call.event_id for call in calls[:_IDS_MAX]],
        )
        for (tool, arguments), calls in same.items()
        if len(calls) > 1
    ]
    return sorted(found, key=lambda each: (-each.times, -each.wasted_ms, each.tool, each.arguments))


def retries(tools: Sequence[ToolCall], conversations: Iterable[Sequence[ModelCall]]) -> list[Retry]:
    """Return what failed and was tried again at once, most attempts first."""
    found = [_tool_retry(calls) for calls in _attempts(tools, lambda call: (call.tool, call.arguments))]
    for conversation in conversations:
        found += map(_model_retry, _attempts(conversation, lambda call: call.model))
    return sorted(found, key=lambda each: (-each.attempts, -each.wasted_ms, each.name))


def _tool_retry(calls: Sequence[ToolCall]) -> Retry:
    return Retry(
        kind="tool",
        name=calls[0].tool,
        arguments=_short(calls[0].arguments),
        attempts=len(calls),
        succeeded=calls[-1].ok,
        wasted_ms=sum(call.duration_ms for call in calls if not call.ok),
        event_ids=[call.event_id for call in calls[:_IDS_MAX]],
    )


def _model_retry(calls: Sequence[ModelCall]) -> Retry:
    return Retry(
        kind="model",
        name=calls[0].model or "",
        arguments="",
        attempts=len(calls),
        succeeded=calls[-1].ok,
        wasted_ms=sum((call.finished - call.started).total_seconds() * 1000 for call in calls if not call.ok),
        event_ids=[call.event_id for call in calls[:_IDS_MAX]],
    )


def loops(tools: Sequence[ToolCall]) -> list[Loop]:
    """Return what came again and again, most often first; within a loop, shorter ones are not looked for."""
    numbers: dict[tuple[str, str], int] = {}
    sequence = [numbers.setdefault((call.tool, call.arguments), len(numbers)) for call in tools]
    found: list[Loop] = []
    taken: list[tuple[int, int]] = []
    for length in range(1, min(_LOOP_LENGTH_MAX, len(sequence) // LOOP_TIMES) + 1):
        for start, end in _runs(sequence, length):
            if any(begun <= start and end <= over for begun, over in taken):
                continue  # a shorter loop, seen as one of twice its length
            times = (end - start) // length
            calls = tools[start : start + times * length]
            taken.append((start, end))
            found.append(
                Loop(
                    tools=[call.tool for call in calls[:length]], times=times, started=calls[0].started,
                    finished=max(call.finished for call in calls),
                    event_ids=[call.event_id for call in calls[:_IDS_MAX]],
                )
            )  # fmt: skip
    return sorted(found, key=lambda each: (-each.times * len(each.tools), each.started))


def _runs(sequence: Sequence[int], length: int) -> Iterator[tuple[int, int]]:
    """Yield from where to where a sequence repeats itself with a period, LOOP_TIMES or more times."""
    start = 0
    for place in range(length, len(sequence) + 1):
        if place < len(sequence) and sequence[place] == sequence[place - length]:
            continue
        if place - start >= LOOP_TIMES * length:
            yield start, place
        start = place - length + 1


def _short(arguments: str) -> str:
    return arguments if len(arguments) <= _ARGUMENTS_CHARS else arguments[:_ARGUMENTS_CHARS] + "…"


C = TypeVar("C", ModelCall, ToolCall)


def _attempts(calls: Iterable[C], what: Callable[[C], object]) -> Iterator[list[C]]:
    """Yield calls of the same that stand one behind the other, each but the last of which failed."""
    attempts: list[C] = []
    for call in calls:
        if attempts and (attempts[-1].ok or what(attempts[-1]) != what(call)):
            if len(attempts) > 1:
                yield attempts
            attempts = []
        attempts.append(call)
    if len(attempts) > 1:
        yield attempts


# -- models ----------------------------------------------------------------------------------


def growth(conversation: Sequence[ModelCall]) -> Growth:
    """Return how the context of a conversation grew."""
    sizes = [call.input_tokens for call in conversation]
    count = len(sizes)
    mean_place, mean_size = (count - 1) / 2, sum(sizes) / count
    spread = sum((place - mean_place) ** 2 for place in range(count))
    together = sum((place - mean_place) * (size - mean_size) for place, size in enumerate(sizes))
    largest = max(conversation, key=lambda call: call.input_tokens)
    every = -(-count // _SERIES_MAX)
    return Growth(
        context=conversation[0].context, calls=count, first=sizes[0], last=sizes[-1], largest=largest.input_tokens,
        largest_event_id=largest.event_id, slope=round(together / spread, 3) if spread else 0.0, series=sizes[::every],
    )  # fmt: skip


def resent(conversations: Iterable[Sequence[ModelCall]]) -> Resent | None:
    """Return how much of the input had been sent before; None where there was none."""
    total = again = cached = 0
    for conversation in conversations:
        before = 0
        for call in conversation:
            total += call.input_tokens
            cached += call.cache_read_tokens
            again += min(max(call.cache_read_tokens, before), call.input_tokens)
            before = call.input_tokens or before  # a call that failed tells nothing of its context
    if not total:
        return None
    return Resent(input_tokens=total, resent_tokens=again, cached_tokens=cached, share=round(again / total, 4))


def gaps(calls: Iterable[ModelCall | ToolCall]) -> list[Gap]:
    """Return the longest times without a call, longest first."""
    found: list[Gap] = []
    latest: ModelCall | ToolCall | None = None
    for call in sorted(calls, key=lambda each: (each.started, each.finished, each.event_id)):
        if latest is not None and (seconds := (call.started - latest.finished).total_seconds()) >= _GAP_MIN_S:
            found.append(
                Gap(
                    started=latest.finished, finished=call.started, seconds=seconds,
                    after_event_id=latest.event_id, before_event_id=call.event_id,
                )
            )  # fmt: skip
        if latest is None or call.finished > latest.finished:
            latest = call
    return sorted(found, key=lambda gap: -gap.seconds)[:_GAPS]
