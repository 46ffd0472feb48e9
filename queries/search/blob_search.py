"""Words in large fields, which are kept beside the log in chunks (eventlog.log.blobs).

Events that name chunks are few; their chunks are read here, each once, however many events share it. A word
may also stand where one chunk ends and the next begins.
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

#: Of the newest events with chunks so many are looked at, and so many bytes of chunks.
EVENTS_MAX = 20_000
CHUNKS_MAX_BYTES = 1024**3

Tests = Sequence[str]


class _Ends(NamedTuple):
    """A chunk: how it begins and ends, in lower case, and which words are in it."""

    head: str
    tail: str
    holds: tuple[bool, ...]


class Words:
    """What is looked for, as it may stand in JSON."""

    def __init__(self, looked_for: Sequence[str]) -> None:
        forms = [terms.in_json(word) for word in looked_for]
        self._forms = [literal for literal, _ in forms]
        self._patterns = [None if pattern is None else re.compile(pattern) for _, pattern in forms]
        #: More than any form of any word has: an escaped character has twelve at most.
        self.reach = 12 * max(map(len, looked_for))
        self.none = (False,) * len(forms)

    def held_by(self, text: str) -> tuple[bool, ...]:
        """Say of each word whether it is in a text of JSON in lower case."""
        return tuple(
            any(form in text for form in literal)
            or (pattern is not None and "\\u" in text and pattern.search(text) is not None)
            for literal, pattern in zip(self._forms, self._patterns, strict=True)
        )


def find(
    connection: duckdb.DuckDBPyConnection,
    root: Path,
    looked_for: Sequence[str],
    tests: Tests,
    conditions: str,
    params: dict[str, Any],
) -> bool:
    """Make the table `search_apart`: events that have chunks, and which words are in those.

    Return whether all of them were read. `tests` are the words' conditions on a `text`.
    """
    holds = [f"apart{place}" for place in range(len(tests))]
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE search_apart "
        f"(segment VARCHAR, line_offset BIGINT, {' BOOLEAN, '.join(holds)} BOOLEAN)"
    )
    if not blobs.folder_of(root).is_dir():
        return True
    looking = Words(looked_for)
    text = terms.folded_in_sql("array_to_string([each ->> 'rest' FOR each IN parts], chr(10))", looked_for)
    # The rest of a field is JSON within JSON, escaped twice: it is looked at as it was.
    rows = sandbox.execute(
        connection,
        f"""
        SELECT segment, line_offset, workspace, names, rests, {", ".join(tests)} FROM (
            SELECT segment, line_offset, workspace,
                   [TRY_CAST(each -> 'sha256' AS VARCHAR[]) FOR each IN parts] AS names,
                   [lower((each ->> 'rest')[1:{looking.reach}]) FOR each IN parts] AS rests,
                   {text} AS text
            FROM (
                SELECT segment, line_offset, workspace, json_extract(payload, '$.*."$blob"') AS parts FROM events
                WHERE {conditions} AND contains(payload::VARCHAR, '"$blob"')
                ORDER BY timestamp DESC, event_id LIMIT {EVENTS_MAX + 1}
            )
        )
        """,
        params,
    ).fetchall()
    chunks = _Chunks(root, looking)
    found = []
    for segment, line_offset, workspace, names, rests, *in_rest in rows[:EVENTS_MAX]:
        held = [any(each) for each in zip(in_rest, *chunks.texts(names, rests, workspace), strict=True)]
        if any(held):
            found.append((segment, line_offset, *held))
    if found:
        columns = [list(column) for column in zip(*found, strict=True)]
        unnested = ", ".join(["unnest(?::VARCHAR[])", "unnest(?::BIGINT[])", *["unnest(?::BOOLEAN[])"] * len(holds)])
        connection.execute(f"INSERT INTO search_apart SELECT {unnested}", columns)
    return len(rows) <= EVENTS_MAX and not chunks.over


class _Chunks:
    """Chunks, read once each, and the places where they meet."""

    def __init__(self, root: Path, looking: Words) -> None:
        self._root = root
        self._looking = looking
        #: By hash, and by the workspace of the events that name them: those of another get nothing of a chunk.
        self._known: dict[tuple[str, str | None], _Ends] = {}
        self._seams: dict[tuple[str, str, str | None], tuple[bool, ...]] = {}
        self._left_bytes = CHUNKS_MAX_BYTES
        self.over = False

    def texts(
        self, names: list[list[str | None] | None], rests: list[str | None], workspace: str | None
    ) -> Iterator[tuple[bool, ...]]:
        """Yield what is in the chunks of an event's fields, and at their seams."""
        for chunks, rest in zip(names, rests, strict=True):
            named = [name for name in chunks or () if name is not None and blobs.NAME.fullmatch(name)]
            if not named:
                continue  # another program's own idea of a $blob
            yield from (self._chunk(name, workspace).holds for name in named)
            yield from (self._seam(one, other, workspace) for one, other in pairwise(named))
            yield self._looking.held_by(self._chunk(named[-1], workspace).tail + terms.fold(rest or ""))

    def _seam(self, one: str, other: str, workspace: str | None) -> tuple[bool, ...]:
        key = one, other, workspace
        if key not in self._seams:
            joined = self._chunk(one, workspace).tail + self._chunk(other, workspace).head
            self._seams[key] = self._looking.held_by(joined)
        return self._seams[key]

    def _chunk(self, name: str, workspace: str | None) -> _Ends:
        if (name, workspace) not in self._known:
            self._known[name, workspace] = self._read(name, workspace)
        return self._known[name, workspace]

    def _read(self, name: str, workspace: str | None) -> _Ends:
        if self._left_bytes <= 0:
            self.over = True
            return _Ends("", "", self._looking.none)
        try:
            data = blobs.read_of(self._root, name, workspace)
        except BlobUnreadable:  # whoever shows the event is told
            return _Ends("", "", self._looking.none)
        self._left_bytes -= len(data)
        text = terms.fold(data.decode(errors="replace"))
        return _Ends(text[: self._looking.reach], text[-self._looking.reach :], self._looking.held_by(text))
