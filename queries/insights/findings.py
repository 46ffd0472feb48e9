"""Insights into calls: by step, repetition, retries, loops, growth of the context, re-sent tokens, gaps.

Definitions, so that the numbers can be checked:

**By step**: a call is one of the innermost step around it. Steps of one name are counted together, and calls outside of
all steps are counted, too: so the calls add up.

**Repeated**: calls of one tool with equal arguments. The first call is work; the time and the bytes of the others are
counted as waste. (Something outside the log may have changed between them, and made them useful.)

**Retries**: equal tool calls in a row, all but the last of which failed. For models: a failed call, followed by a call
of the same conversation with the same model. A call of which nobody knows how it went has not failed.

**Loops**: the same sequence of tool calls, with equal arguments, LOOP_TIMES or more times in a row.

**Growth**: the input tokens of each call of a conversation: uncached, read from a cache, and written to a cache.
The slope is that of a linear regression, in tokens per call.

**Re-sent**: a model has no memory, so every call sends, and pays for, the whole conversation again; a cache makes that
cheaper, not free. The re-sent tokens of a call are those that the provider read from a cache, or as many as the
previous call of the conversation had, whichever is more, and never more than the call has. (After a context was
shortened, all that is left counts as re-sent.)

**Gaps**: times in which no call was running.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from statistics import linear_regression
from typing import TypeVar

import msgspec

from eventlog.queries.insights.calls import Calls, ModelCall, Step, ToolCall

LOOP_TIMES = 3
_LOOP_LENGTH_MAX = 20
_LISTED_MAX = 20
_IDS_MAX = 50
_ARGUMENTS_CHARS = 200
_SERIES_MAX = 200
_GAPS = 5
_GAP_MIN_S = 1.0


class StepCalls(msgspec.Struct, frozen=True, kw_only=True):
    """The calls in the steps of one name, of which there are `times`; None for calls outside of all steps (0 times).

    `failures` counts the calls that failed.
    """

    step: str | None
    times: int
    llm_calls: int
    tool_calls: int
    failures: int
    input_tokens: int
    output_tokens: int


class Repeated(msgspec.Struct, frozen=True, kw_only=True):
    """Equal calls of a tool. The waste is the time of all but the first call, and the bytes of their results."""

    tool: str
    arguments: str
    times: int
    wasted_ms: float
    wasted_result_bytes: int
    event_ids: list[str]


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """Attempts of one call. `kind` is "tool" or "model"; `wasted_ms` is the time of the failed attempts.

    `succeeded` says how the last one went; None where that is unknown.
    """

    kind: str
    name: str
    arguments: str
    attempts: int
    succeeded: bool | None
    wasted_ms: float
    event_ids: list[str]


class Loop(msgspec.Struct, frozen=True, kw_only=True):
    """A sequence of tool calls, such as `["read", "edit"]`, and how many times it was repeated in a row."""

    tools: list[str]
    times: int
    started: datetime
    finished: datetime
    event_ids: list[str]


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """Input tokens of the calls of a conversation. `slope` is in tokens per call; a long `series` is sampled evenly."""

    context: str
    calls: int
    first: int
    last: int
    largest: int
    largest_event_id: str
    slope: float
    series: list[int]


class Resent(msgspec.Struct, frozen=True, kw_only=True):
    """Input tokens that had been sent before. `share` is their part of all input, 0 to 1."""

    input_tokens: int
    resent_tokens: int
    cached_tokens: int
    share: float


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """A time without a running call, between the events `after_event_id` and `before_event_id`."""

    started: datetime
    finished: datetime
    seconds: float
    after_event_id: str
    before_event_id: str


class Insights(msgspec.Struct, frozen=True, kw_only=True):
    """The insights into a run or a session. Each list begins with the most important entry, and has 20 at most.

    `by_step` is empty where there are no steps. `cut` is true if there were more than `calls.CALLS_MAX` calls of a
    kind, and only the first were analysed.
    """

    run_id: str | None
    session_id: str | None
    llm_calls: int
    tool_calls: int
    by_step: list[StepCalls]
    repeated: list[Repeated]
    retries: list[Retry]
    loops: list[Loop]
    growth: list[Growth]
    resent: Resent | None
    gaps: list[Gap]
    cut: bool


def insights(calls: Calls, *, run_id: str | None = None, session_id: str | None = None) -> Insights:
    """Analyse the calls of a run or a session."""
    conversations = list(_conversations(calls.model_calls))
    return Insights(
        run_id=run_id,
        session_id=session_id,
        llm_calls=len(calls.model_calls),
        tool_calls=len(calls.tool_calls),
        by_step=by_step(calls)[:_LISTED_MAX],
        repeated=repeated(calls.tool_calls)[:_LISTED_MAX],
        retries=retries(calls.tool_calls, conversations)[:_LISTED_MAX],
        loops=loops(calls.tool_calls)[:_LISTED_MAX],
        growth=[growth(conversation) for conversation in conversations if len(conversation) > 1][:_LISTED_MAX],
        resent=resent(conversations),
        gaps=gaps([*calls.model_calls, *calls.tool_calls]),
        cut=calls.cut,
    )


def _conversations(calls: Iterable[ModelCall]) -> Iterator[list[ModelCall]]:
    """Yield the calls of each conversation: the main one first, then the longest."""
    by_context: dict[str, list[ModelCall]] = {}
    for call in calls:
        by_context.setdefault(call.context, []).append(call)
    for context in sorted(by_context, key=lambda context: (context != "", -len(by_context[context]), context)):
        yield by_context[context]


# -- steps -----------------------------------------------------------------------------------


def by_step(calls: Calls) -> list[StepCalls]:
    """Return the calls in the steps of each name, most calls first; without steps an empty list."""
    if not calls.steps:
        return []
    steps = {step.event_id: step for step in calls.steps}
    made: list[ModelCall | ToolCall] = [*calls.model_calls, *calls.tool_calls]
    parents = {each.event_id: each.parent_event_id for each in (*made, *calls.steps)}
    inside: dict[str | None, list[ModelCall | ToolCall]] = {}
    for call in made:
        inside.setdefault(_step_around(call, steps, parents), []).append(call)
    times = Counter(step.name for step in calls.steps)
    found = [_step_calls(name, times[name] if name is not None else 0, each) for name, each in inside.items()]
    return sorted(found, key=lambda each: (-each.llm_calls - each.tool_calls, each.step is None, each.step or ""))


def _step_around(call: ModelCall | ToolCall, steps: dict[str, Step], parents: dict[str, str | None]) -> str | None:
    """Return the name of the innermost step around a call; None outside of all. Parents may form a cycle."""
    seen: set[str] = set()
    current = call.parent_event_id
    while current is not None and current not in seen:
        if current in steps:
            return steps[current].name
        seen.add(current)
        current = parents.get(current)
    return None


def _step_calls(name: str | None, times: int, calls: Sequence[ModelCall | ToolCall]) -> StepCalls:
    model_calls = [call for call in calls if isinstance(call, ModelCall)]
    return StepCalls(
        step=name, times=times, llm_calls=len(model_calls), tool_calls=len(calls) - len(model_calls),
        failures=sum(call.ok is False for call in calls),
        input_tokens=sum(call.input_tokens for call in model_calls),
        output_tokens=sum(call.output_tokens for call in model_calls),
    )  # fmt: skip


# -- tools -----------------------------------------------------------------------------------


def repeated(tool_calls: Iterable[ToolCall]) -> list[Repeated]:
    """Return the calls that were made more than once, the most frequent first."""
    same: dict[tuple[str, str], list[ToolCall]] = {}
    for call in tool_calls:
        same.setdefault((call.tool, call.arguments), []).append(call)
    repetitions = [
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
    return sorted(repetitions, key=lambda entry: (-entry.times, -entry.wasted_ms, entry.tool, entry.arguments))


def retries(tool_calls: Sequence[ToolCall], conversations: Iterable[Sequence[ModelCall]]) -> list[Retry]:
    """Return the calls that failed and were made again at once, most attempts first."""
    retried = [_tool_retry(calls) for calls in _attempts(tool_calls, lambda call: (call.tool, call.arguments))]
    for conversation in conversations:
        retried += map(_model_retry, _attempts(conversation, lambda call: call.model))
    return sorted(retried, key=lambda retry: (-retry.attempts, -retry.wasted_ms, retry.name))


def _tool_retry(calls: Sequence[ToolCall]) -> Retry:
    return Retry(
        kind="tool",
        name=calls[0].tool,
        arguments=_short(calls[0].arguments),
        attempts=len(calls),
        succeeded=calls[-1].ok,
        wasted_ms=sum(call.duration_ms for call in calls if call.ok is False),
        event_ids=[call.event_id for call in calls[:_IDS_MAX]],
    )


def _model_retry(calls: Sequence[ModelCall]) -> Retry:
    return Retry(
        kind="model",
        name=calls[0].model or "",
        arguments="",
        attempts=len(calls),
        succeeded=calls[-1].ok,
        wasted_ms=sum((call.finished - call.started).total_seconds() * 1000 for call in calls if call.ok is False),
        event_ids=[call.event_id for call in calls[:_IDS_MAX]],
    )


def loops(tool_calls: Sequence[ToolCall]) -> list[Loop]:
    """Return repeated sequences of up to 20 calls, the most calls first. Loops inside a listed loop are left out."""
    numbers: dict[tuple[str, str], int] = {}
    sequence = [numbers.setdefault((call.tool, call.arguments), len(numbers)) for call in tool_calls]
    listed: list[Loop] = []
    covered: list[tuple[int, int]] = []
    for length in range(1, min(_LOOP_LENGTH_MAX, len(sequence) // LOOP_TIMES) + 1):
        for start, end in _runs(sequence, length):
            if any(first <= start and end <= last for first, last in covered):
                continue  # a shorter loop, read as one of twice its length
            times = (end - start) // length
            calls = tool_calls[start : start + times * length]
            covered.append((start, end))
            listed.append(
                Loop(
                    tools=[call.tool for call in calls[:length]], times=times, started=calls[0].started,
                    finished=max(call.finished for call in calls),
                    event_ids=[call.event_id for call in calls[:_IDS_MAX]],
                )
            )  # fmt: skip
    return sorted(listed, key=lambda loop: (-loop.times * len(loop.tools), loop.started))


def _runs(sequence: Sequence[int], length: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of each part of a sequence that repeats `length` items LOOP_TIMES or more times."""
    start = 0
    for end in range(length, len(sequence) + 1):
        if end < len(sequence) and sequence[end] == sequence[end - length]:
            continue
        if end - start >= LOOP_TIMES * length:
            yield start, end
        start = end - length + 1


def _short(arguments: str) -> str:
    return arguments if len(arguments) <= _ARGUMENTS_CHARS else arguments[:_ARGUMENTS_CHARS] + "…"


C = TypeVar("C", ModelCall, ToolCall)


def _attempts(calls: Iterable[C], key: Callable[[C], object]) -> Iterator[list[C]]:
    """Yield two or more consecutive calls with the same key, all but the last of which failed."""
    attempts: list[C] = []
    for call in calls:
        if attempts and (attempts[-1].ok is not False or key(attempts[-1]) != key(call)):
            if len(attempts) > 1:
                yield attempts
            attempts = []
        attempts.append(call)
    if len(attempts) > 1:
        yield attempts


# -- models ----------------------------------------------------------------------------------


def growth(conversation: Sequence[ModelCall]) -> Growth:
    """Return how the context of a conversation of two or more calls grew."""
    sizes = [call.input_tokens for call in conversation]
    count = len(sizes)
    largest = max(conversation, key=lambda call: call.input_tokens)
    every = -(-count // _SERIES_MAX)
    slope = round(linear_regression(range(count), sizes).slope, 3)
    return Growth(
        context=conversation[0].context, calls=count, first=sizes[0], last=sizes[-1], largest=largest.input_tokens,
        largest_event_id=largest.event_id, slope=slope, series=sizes[::every],
    )  # fmt: skip


def resent(conversations: Iterable[Sequence[ModelCall]]) -> Resent | None:
    """Return how much of the input had been sent before; None if there was no input."""
    total = resent_tokens = cached = 0
    for conversation in conversations:
        previous = 0
        for call in conversation:
            total += call.input_tokens
            cached += call.cache_read_tokens
            resent_tokens += min(max(call.cache_read_tokens, previous), call.input_tokens)
            previous = call.input_tokens or previous  # a failed call reports no tokens
    if not total:
        return None
    share = round(resent_tokens / total, 4)
    return Resent(input_tokens=total, resent_tokens=resent_tokens, cached_tokens=cached, share=share)


def gaps(calls: Iterable[ModelCall | ToolCall]) -> list[Gap]:
    """Return the longest times without a running call, longest first: five at most, of a second or more."""
    longest: list[Gap] = []
    latest: ModelCall | ToolCall | None = None
    for call in sorted(calls, key=lambda call: (call.started, call.finished, call.event_id)):
        if latest is not None and (seconds := (call.started - latest.finished).total_seconds()) >= _GAP_MIN_S:
            longest.append(
                Gap(
                    started=latest.finished, finished=call.started, seconds=seconds,
                    after_event_id=latest.event_id, before_event_id=call.event_id,
                )
            )  # fmt: skip
        if latest is None or call.finished > latest.finished:
            latest = call
    return sorted(longest, key=lambda gap: -gap.seconds)[:_GAPS]
