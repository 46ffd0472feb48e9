"""Finds the words of a search in large fields, which are stored in blobs beside the log (eventlog.log.blobs).

Few events have blobs. Each chunk of a blob is read once, however many events share it. A word may also be cut in two by
the border between two chunks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from eventlog.errors import BlobUnreadable
from eventlog.log import blobs
from eventlog.queries.access import sandbox
from eventlog.queries.search import terms

#: At most so many events with blobs are searched, newest first, and so many bytes of chunks.
EVENTS_MAX = 20_000
CHUNKS_MAX_BYTES = 1024**3


class _Chunk(NamedTuple):
    """A chunk's first and last characters, in lower case, and for each word whether the chunk has it."""

    head: str
    tail: str
    has_word: tuple[bool, ...]


class Matcher:
    """Matches the words of a search against JSON in lower case."""

    def __init__(self, words: Sequence[str]) -> None:
        forms = [terms.in_json(word) for word in words]
        self._forms = [literal for literal, _ in forms]
        self._patterns = [None if pattern is None else re.compile(pattern) for _, pattern in forms]
        #: The longest form of any word, in characters: an escaped character has twelve at most.
        self.reach = 12 * max(map(len, words))
        self.none = (False,) * len(forms)

    def matches(self, text: str) -> tuple[bool, ...]:
        """Return for each word whether a text has it."""
        return tuple(
            any(form in text for form in literal)
            or (pattern is not None and "\\u" in text and pattern.search(text) is not None)
            for literal, pattern in zip(self._forms, self._patterns, strict=True)
        )


_CREATE = "CREATE OR REPLACE TEMP TABLE search_in_blobs (segment VARCHAR, line_offset BIGINT, {columns})"
#: The rest of a field that stays in the payload is JSON within JSON, escaped twice: it is searched as text.
_EVENTS_WITH_BLOBS = f"""
    SELECT segment, line_offset, workspace, names, rests, {{tests}} FROM (
        SELECT segment, line_offset, workspace,
               [TRY_CAST(part -> 'sha256' AS VARCHAR[]) FOR part IN parts] AS names,
               [lower((part ->> 'rest')[1:{{reach}}]) FOR part IN parts] AS rests,
               {{rests_text}} AS text
        FROM (
            SELECT segment, line_offset, workspace, json_extract(payload, '$.*."$blob"') AS parts FROM {{source}}
            WHERE {{events}} AND contains(payload::VARCHAR, '"$blob"')
            ORDER BY timestamp DESC, event_id LIMIT {EVENTS_MAX + 1}
        )
    )
"""
_RESTS = "array_to_string([part ->> 'rest' FOR part IN parts], chr(10))"
_STORE = "INSERT INTO search_in_blobs SELECT unnest(?::VARCHAR[]), unnest(?::BIGINT[]), {values}"


def scan(
    connection: duckdb.DuckDBPyConnection,
    root: Path,
    words: Sequence[str],
    tests: Sequence[str],
    source: str,
    events: str,
    params: dict[str, Any],
) -> bool:
    """Make the table `search_in_blobs`: for each event with blobs, which words they have (`in_blob0`, `in_blob1`, …).

    `tests` are the SQL conditions for the words in a column `text`, `source` the FROM clause and `events` the condition
    for the events that are searched, and `params` are the parameters of both. Returns
    whether all blobs of these events were read.
    """
    flags = [f"in_blob{number}" for number in range(len(tests))]
    connection.execute(_CREATE.format(columns=", ".join(f"{flag} BOOLEAN" for flag in flags)))
    if not blobs.folder_of(root).is_dir():
        return True
    matcher = Matcher(words)
    statement = _EVENTS_WITH_BLOBS.format(
        tests=", ".join(tests),
        reach=matcher.reach,
        rests_text=terms.folded_in_sql(_RESTS, words),
        source=source,
        events=events,
    )
    rows = sandbox.execute(connection, statement, params).fetchall()
    chunks = _Chunks(root, matcher)
    matches = []
    for segment, line_offset, workspace, names, rests, *in_rest in rows[:EVENTS_MAX]:
        has_word = [any(texts) for texts in zip(in_rest, *chunks.matches(names, rests, workspace), strict=True)]
        if any(has_word):
            matches.append((segment, line_offset, *has_word))
    if matches:
        columns = [list(column) for column in zip(*matches, strict=True)]
        connection.execute(_STORE.format(values=", ".join(["unnest(?::BOOLEAN[])"] * len(flags))), columns)
    return len(rows) <= EVENTS_MAX and not chunks.has_more


class _Chunks:
    """Chunks and the borders between them, each read once. `has_more` is true if some were too many to read."""

    def __init__(self, root: Path, matcher: Matcher) -> None:
        self._root = root
        self._matcher = matcher
        #: By hash, and by the workspace of the event: an event of another workspace must not see the chunk.
        self._chunks: dict[tuple[str, str | None], _Chunk] = {}
        self._borders: dict[tuple[str, str, str | None], tuple[bool, ...]] = {}
        self._left_bytes = CHUNKS_MAX_BYTES
        self.has_more = False

    def matches(
        self, names: list[list[str | None] | None], rests: list[str | None], workspace: str | None
    ) -> Iterator[tuple[bool, ...]]:
        """Yield the words of each part of an event's large fields: of its chunks, their borders, and the rest."""
        for field_names, rest in zip(names, rests, strict=True):
            chunks = [name for name in field_names or () if name is not None and blobs.NAME.fullmatch(name)]
            if not chunks:
                continue  # a "$blob" that eventlog did not write
            yield from (self._chunk(name, workspace).has_word for name in chunks)
            yield from (self._border(before, after, workspace) for before, after in pairwise(chunks))
            yield self._matcher.matches(self._chunk(chunks[-1], workspace).tail + terms.fold(rest or ""))

    def _border(self, before: str, after: str, workspace: str | None) -> tuple[bool, ...]:
        key = before, after, workspace
        if key not in self._borders:
            joined = self._chunk(before, workspace).tail + self._chunk(after, workspace).head
            self._borders[key] = self._matcher.matches(joined)
        return self._borders[key]

    def _chunk(self, name: str, workspace: str | None) -> _Chunk:
        if (name, workspace) not in self._chunks:
            self._chunks[name, workspace] = self._read(name, workspace)
        return self._chunks[name, workspace]

    def _read(self, name: str, workspace: str | None) -> _Chunk:
        if self._left_bytes <= 0:
            self.has_more = True
            return _Chunk("", "", self._matcher.none)
        try:
            data = blobs.read_of(self._root, name, workspace)
        except BlobUnreadable:  # reported where the event is shown
            return _Chunk("", "", self._matcher.none)
        self._left_bytes -= len(data)
        text = terms.fold(data.decode(errors="replace"))
        return _Chunk(text[: self._matcher.reach], text[-self._matcher.reach :], self._matcher.matches(text))
