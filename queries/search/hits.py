"""A hit: an event with the words of a search, where they stand in it, and a piece of the text around them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec

from eventlog.format import payloads
from eventlog.queries.search import terms
from eventlog.queries.search.terms import PayloadText

_SNIPPET_CHARS = 160
_BEFORE_CHARS = 50
_SPACES = re.compile(r"\s+")
#: The time of an event whose own time is not known (docs/format.md).
_UNDATED = datetime(1970, 1, 1, tzinfo=UTC)


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """An event with the words, for instance in the field `output_messages.0.content`. A higher score is better.

    `timestamp` is None where the event's own line has no time. `marks` are the words in the snippet, as (start, end)
    in characters.
    """

    event_id: str
    event_type: str
    timestamp: datetime | None
    run_id: str | None
    session_id: str | None
    workspace: str | None
    agent: str | None
    score: float
    field: str
    snippet: str
    marks: list[tuple[int, int]]


class Row(msgspec.Struct, frozen=True):
    """A row of `events` that may be a hit."""

    event_id: str
    event_type: str
    segment: str
    line_offset: int
    timestamp: datetime
    run_id: str | None
    session_id: str | None
    workspace: str | None
    agent: str | None
    payload: str


class Reading:
    """The texts of a payload, and how often each of some words stands in each of them."""

    def __init__(self, payload: bytes, words: Sequence[str], *, inside: bool) -> None:
        self._words = words
        self._inside = inside
        self._texts = [(text, terms.fold(text.text)) for text in terms.texts(payloads.decode(payload))]
        self._times = [[self._count(word, *text) for word in words] for text in self._texts]
        #: How often each word is in the payload.
        self.times = [float(sum(of_word)) for of_word in zip(*self._times, strict=True)] or [0.0] * len(words)

    def _count(self, word: str, text: PayloadText, lowered: str) -> float:
        return terms.occurrences(word, lowered, inside=self._inside) or float(text.has_number(word))

    def hit(self, row: Row, score: float) -> Hit:
        """Return the hit for a row, with the text that has most of the words."""
        number = max(range(len(self._texts)), key=lambda number: sum(map(bool, self._times[number])))
        best, lowered = self._texts[number]
        marked = [lowered if best.has_number(word) else word for word in self._words]
        snippet, marks = excerpt(best.text, lowered, marked, inside=self._inside)
        return Hit(
            event_id=row.event_id, event_type=row.event_type,
            timestamp=None if row.timestamp == _UNDATED else row.timestamp,
            run_id=row.run_id, session_id=row.session_id, workspace=row.workspace, agent=row.agent, score=score,
            field=best.path, snippet=snippet, marks=marks,
        )  # fmt: skip


def excerpt(text: str, lowered: str, words: list[str], *, inside: bool) -> tuple[str, list[tuple[int, int]]]:
    """Return a snippet of a text around its first word, on one line, and the (start, end) of each word in it."""
    # A few letters have another length in lower case; then offsets in `lowered` are not offsets in the text.
    source = text if len(text) == len(lowered) else lowered
    firsts = [next(_places(word, lowered, inside), None) for word in words]
    first = min((at for at in firsts if at is not None), default=0)
    start = max(first - _BEFORE_CHARS, 0)
    end = start + _SNIPPET_CHARS
    piece = ("…" if start else "") + source[start:end] + ("…" if end < len(source) else "")
    snippet = _SPACES.sub(" ", piece)
    in_snippet = terms.fold(snippet)
    marks: list[tuple[int, int]] = []
    if len(in_snippet) == len(snippet):
        for word in words:
            on_one_line = _SPACES.sub(" ", word)
            marks += [(at, at + len(on_one_line)) for at in _places(on_one_line, in_snippet, inside)]
    return snippet, _merged(marks)


def _places(word: str, lowered: str, inside: bool) -> Iterator[int]:
    return (at for at, _ in terms.places(word, lowered, inside=inside))


def _merged(marks: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(marks):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
