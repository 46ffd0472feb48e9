"""Reading token usage, as providers report it, into counts that mean the same for all of them.

    uncached_input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens
        disjoint: their sum is the whole input of the model
    output_tokens, and reasoning_tokens as a part of it

The rules; eventlog.format.usage_dialects has the names, and eventlog.indexer.views.usage the same rules in SQL:

- The first dialect with one of its marks applies. What is null is absent, and absent counts stay absent.
- A count is a whole number from 0 to COUNT_MAX; 12.0 is one. Anything else that stands where a count should is not
  counted, and is the call's `problem`, since its cost would be wrong: negative, fractional and huge numbers, texts,
  booleans, lists and objects alike. Likewise a tier, speed or place that is no text, and details that are no object.
- A part never wins over the total beside it: parts that add up to more are not counted. Cache writes without a duration
  count as ones of 5 minutes, which is Anthropic's default. More from and to the cache than there was input, or more
  reasoning than output, is a problem, since it is not known what of it is wrong.
- What compaction used is added; what an advisor used is a call of its own; an unknown kind of iteration is a problem.
- An object without any count that is known is a problem.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from eventlog.format.usage_dialects import (
    ADDED,
    ADVISOR,
    ANTHROPIC,
    COUNT_MAX,
    DIALECTS,
    FAST,
    INFERENCE_GEO,
    ITERATIONS,
    ITERATIONS_END,
    LISTS,
    SERVICE_TIER,
    SHOWN_MAX_CHARS,
    SPEED,
    SUMMED,
    TOKENS,
    WEB_SEARCHES,
    Dialect,
    Path,
)  # fmt: skip


class Advice(msgspec.Struct, frozen=True):
    """What a second model used inside of a call: `model` is its name, and `raw` its usage object."""

    model: str | None
    counts: dict[str, int]
    service_tier: str | None
    problem: str | None
    raw: Mapping[str, Any]


class Reading(msgspec.Struct, frozen=True):
    """What a usage object says.

    counts         those of TOKENS that it has, such as {"uncached_input_tokens": 900, "output_tokens": 40}
    service_tier   `standard`, `batch`, …; `fast` for Anthropic's fast mode
    web_searches   searches of the web by the provider
    inference_geo  where the model ran, such as `us`
    problem        the first thing that was not understood, such as `input_tokens: -4`: the call has no known cost
    advice         calls of other models inside of this call
    """

    counts: dict[str, int]
    service_tier: str | None = None
    web_searches: int | None = None
    inference_geo: str | None = None
    problem: str | None = None
    advice: tuple[Advice, ...] = ()


def read(usage: Mapping[str, Any]) -> Reading:
    """Return what a usage object says. Never raises for plain data (dicts, lists, texts, numbers, None)."""
    reader = _Reader(usage)
    dialect = _dialect(usage)
    if dialect is not None:
        counts = reader.counts(dialect)
    else:
        counts = [None] * len(TOKENS)
        names = [str(name) for name, value in usage.items() if value is not None]
        if names:
            reader.note("no known count among " + ", ".join(names)[:SHOWN_MAX_CHARS])
    web_searches = reader.first(WEB_SEARCHES)
    tier = reader.text(SERVICE_TIER)
    speed = reader.text(SPEED)
    place = reader.text(INFERENCE_GEO)
    advice: tuple[Advice, ...] = ()
    iterations = usage.get(ITERATIONS)
    if iterations is not None:
        # The fast mode of a call is its own; its advisors have the tier of the call.
        counts, advice = reader.iterations(iterations, counts, None if FAST in (speed, tier) else tier)
    return Reading(_named(counts), FAST if speed == FAST else tier, web_searches, place, reader.problem, advice)


Counts = list[int | None]


def _named(counts: Counts) -> dict[str, int]:
    return {name: count for name, count in zip(TOKENS, counts, strict=True) if count is not None}


def _dialect(usage: Mapping[str, Any]) -> Dialect | None:
    for dialect in DIALECTS:
        for mark in dialect.marks:
            if usage.get(mark) is not None:
                return dialect
    return None


class _Reader:
    """Reads one object, and keeps the first problem."""

    def __init__(self, usage: Mapping[str, Any]) -> None:
        self._usage = usage
        self.problem: str | None = None

    def note(self, problem: str) -> None:
        if self.problem is None:
            self.problem = problem

    def _odd(self, path: Iterable[str], value: object) -> None:
        if self.problem is None:
            self.problem = f"{'.'.join(path)}: {_shown(value)}"

    def _at(self, path: Path) -> Any:
        """Return what stands at a path; None if nothing does."""
        value = self._usage.get(path[0])
        if len(path) == 1 or value is None:
            return value
        if path[0] in LISTS:
            if isinstance(value, list):
                kind, count = LISTS[path[0]]
                entries = (entry for entry in value if isinstance(entry, Mapping) and entry.get(kind) == path[1])
                return next(entries, {}).get(count)
        elif isinstance(value, Mapping):
            return value.get(path[1])
        self._odd(path[:1], value)
        return None

    def count(self, path: Path) -> int | None:
        value = self._at(path)
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= COUNT_MAX:
            whole = int(value)
            if whole == value:
                return whole
        self._odd(path, value)
        return None

    def first(self, paths: tuple[Path, ...]) -> int | None:
        found = None
        for path in paths:
            count = self.count(path)
            found = count if found is None else found
        return found

    def _sum(self, paths: tuple[Path, ...]) -> int | None:
        return _added(self.count(path) for path in paths)

    def text(self, path: Path) -> str | None:
        value = self._at(path)
        if value is None or isinstance(value, str):
            return value or None
        self._odd(path, value)
        return None

    def counts(self, dialect: Dialect) -> Counts:
        """Return the counts of TOKENS, in this order."""
        total_input, output = self._sum(dialect.input), self._sum(dialect.output)
        cached = self.first(dialect.cache_read)
        short, long = _writes(*(self.first(paths) for paths in (
            dialect.cache_write, dialect.cache_write_rest, dialect.cache_write_5m, dialect.cache_write_1h
        )))  # fmt: skip
        reasoning, total = self.first(dialect.reasoning), self.first(dialect.total)
        uncached = total_input
        if total_input is not None and dialect.input_includes_cache:
            parts = (cached or 0) + (short or 0) + (long or 0)
            if parts > total_input:
                self.note(f"cache: {parts} of {total_input} input tokens")
                cached = short = long = None
            else:
                uncached = total_input - parts
        if output is not None and reasoning:
            if total is not None and total == (total_input or 0) + output + reasoning:
                output += reasoning  # this provider's output does not include reasoning
            if reasoning > output:
                self.note(f"reasoning: {reasoning} of {output} output tokens")
                reasoning = None
        return [uncached, cached, short, long, output, reasoning]

    def iterations(self, entries: object, counts: Counts, tier: str | None) -> tuple[Counts, tuple[Advice, ...]]:
        """Return the counts with those of compaction, and what advisors used."""
        if not isinstance(entries, list):
            self._odd((ITERATIONS,), entries)
            return counts, ()
        if len(entries) >= ITERATIONS_END:
            self.note(f"{ITERATIONS}: {ITERATIONS_END} entries or more")
            return counts, ()
        advice = []
        for entry in entries:
            kind = entry.get("type") if isinstance(entry, Mapping) else None
            if kind == ADVISOR:
                advice.append(_advice(entry, tier))
            elif kind == ADDED:
                reader = _Reader(entry)
                pairs = zip(counts, reader.counts(ANTHROPIC), strict=True)
                counts = [_added(pair) for pair in pairs]
                if reader.problem is not None:
                    self.note(f"{ITERATIONS}.{reader.problem}")
            elif kind not in SUMMED:
                self.note(f"{ITERATIONS}: unknown type {_shown(kind)}")
        return counts, tuple(advice)


def _advice(entry: Mapping[str, Any], tier: str | None) -> Advice:
    reader = _Reader(entry)
    counts = reader.counts(ANTHROPIC)
    model = reader.text(("model",))
    is_fast = entry.get(SPEED[0]) == FAST
    return Advice(model, _named(counts), FAST if is_fast else tier, reader.problem, entry)


def _writes(total: int | None, rest: int | None, short: int | None, long: int | None) -> tuple[int | None, int | None]:
    """Return cache writes of 5 minutes and of 1 hour; those without a duration count as 5 minutes."""
    if total is None:
        return _added((short, rest)), long
    if (short or 0) + (long or 0) > total:
        return total, None
    return total - (long or 0), long


def _added(counts: Iterable[int | None]) -> int | None:
    found = [count for count in counts if count is not None]
    return sum(found) if found else None


def _shown(value: object) -> str:
    """Return a value as it is shown in a problem: `-4`, `"12"`, `true`."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, int | float) and not isinstance(value, bool) and not -COUNT_MAX <= value <= COUNT_MAX:
        return "a huge number"
    return msgspec.json.encode(value).decode(errors="replace")[:SHOWN_MAX_CHARS]
