"""A search in two steps: which events hold all the words, and which of them are about the words most.

    payloads, as JSON ──scan──→ candidates: the newest FOUND_MAX ──decoded──→ scored (BM25) ──→ the best
    chunks of large fields ──┘ (eventlog.queries.search.blob_search)

The scan is all that depends on the size of the log: DuckDB unpacks every payload and looks for the words
in it, in about a second per million events. An index of words would be faster, and would have to be
written with every batch and kept as large as the texts. JSON has its texts escaped and its keys
between them, so what the scan finds are candidates; the second step reads what they really say.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from eventlog.errors import QueryFailed
from eventlog.format import payloads
from eventlog.log import blobs
from eventlog.queries.access import sandbox
from eventlog.queries.search import blob_search
from eventlog.queries.search import terms as words

LIMIT_MAX = 1000
#: Candidates that are read: so many events, and so many bytes of lines, newest first.
FOUND_MAX = 10_000
READ_MAX_BYTES = 64 * 1024 * 1024
#: The same with large fields put back.
WHOLE_MAX_BYTES = 256 * 1024 * 1024
#: Of eventlog's own book-keeping nobody looks for words.
_UNSEARCHED = (
    "event_schema", "segment_sealed", "segments_backed_up", "segment_pruned", "import_checkpoint", "import_rejected",
    "events_dropped", "index_alarm",
)  # fmt: skip
#: As BM25 is used everywhere: how soon more of the same word counts no more, and how much length counts.
_K1, _B = 1.2, 0.75
_SNIPPET_CHARS = 160
_BEFORE_CHARS = 50
_SPACES = re.compile(r"\s+")


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """An event that holds all words. `marks` are the places of words in the snippet, as start and end."""

    event_id: str
    event_type: str
    timestamp: datetime
    run_id: str | None
    session_id: str | None
    workspace: str | None
    agent: str | None
    score: float
    field: str
    snippet: str
    marks: list[tuple[int, int]]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The best hits, and how many events there are with all words.

    `cut` says that not all were read and ranked, but the newest; `matches` then counts candidates, some of
    which may have a word in a name only.
    """

    words: list[str]
    hits: list[Hit]
    matches: int
    cut: bool


class _Candidate(msgspec.Struct, frozen=True):
    event_id: str
    event_type: str
    timestamp: datetime
    run_id: str | None
    session_id: str | None
    workspace: str | None
    agent: str | None
    line_length: int
    payload: str


class _Statistics(msgspec.Struct, frozen=True):
    """Of what was searched."""

    events: int
    mean_length: float
    candidates: int
    #: For each word, how many events may hold it.
    holding: list[int]
    #: Whether everything was looked at.
    whole: bool


def search(
    connection: duckdb.DuckDBPyConnection,
    root: Path,
    query: str,
    *,
    event_types: Iterable[str] = (),
    agent: str | None = None,
    since: datetime | None = None,
    limit: int = 20,
) -> Found:
    """Return the events that are about the words of a query, the best first. Raises QueryFailed."""
    if not 1 <= limit <= LIMIT_MAX:
        raise QueryFailed(f"limit {limit} is out of range: 1 to {LIMIT_MAX:,}")
    looked_for = words.parse(query)
    conditions, params = _conditions(event_types, agent, since)
    candidates, known = _scan(connection, root, looked_for, conditions, params)
    resolver = blobs.Resolver(root)
    hits: list[Hit] = []
    read = whole_bytes = 0
    for each in candidates:
        payload = resolver.resolve(each.payload.encode(), each.workspace, marked=True)
        whole_bytes += len(payload)
        if read and whole_bytes > WHOLE_MAX_BYTES:
            break
        read += 1
        hit = _hit(each, payload, looked_for, known)
        if hit is not None:
            hits.append(hit)
    hits.sort(key=lambda hit: (-hit.score, -hit.timestamp.timestamp(), hit.event_id, hit.workspace or ""))
    cut = known.candidates > read or not known.whole
    return Found(words=looked_for, hits=hits[:limit], matches=known.candidates if cut else len(hits), cut=cut)


# -- the scan --------------------------------------------------------------------------------


def _conditions(event_types: Iterable[str], agent: str | None, since: datetime | None) -> tuple[str, dict[str, Any]]:
    params: dict[str, Any] = {}
    types = list(event_types)
    if types:
        params["types"] = types
        conditions = ["event_type IN (SELECT unnest($types::VARCHAR[]))"]
    else:
        conditions = [f"event_type NOT IN ({', '.join(repr(each) for each in _UNSEARCHED)})"]
    if agent is not None:
        params["agent"] = agent
        conditions.append("agent = $agent")
    if since is not None:
        params["since"] = since if since.tzinfo is None else since.astimezone(UTC).replace(tzinfo=None)
        conditions.append("timestamp >= $since::TIMESTAMP")
    return " AND ".join(conditions), params


def _scan(
    connection: duckdb.DuckDBPyConnection, root: Path, looked_for: list[str], conditions: str, params: dict[str, Any]
) -> tuple[list[_Candidate], _Statistics]:
    tests, narrowing = [], params
    for place, word in enumerate(looked_for):
        test, named = _test(place, word)
        tests.append(test)
        params = params | named
    # An id alone is not enough to tell events apart where the store is of all workspaces: their places are.
    wanted = "event_id, segment, line_offset, timestamp, line_length"
    whole = blob_search.find(connection, root, looked_for, tests, conditions, params)
    source = "events"
    if connection.execute("SELECT 1 FROM search_apart LIMIT 1").fetchall():
        tests = [f"({test} OR coalesce(apart{place}, false))" for place, test in enumerate(tests)]
        source = "events LEFT JOIN search_apart USING (segment, line_offset)"
    text = words.folded_in_sql("payload::VARCHAR", looked_for)
    holds = [f"h{place}" for place in range(len(tests))]
    every, some = " AND ".join(holds), " OR ".join(holds)
    sandbox.execute(
        connection,
        f"""
        CREATE OR REPLACE TEMP TABLE search_holding AS
        SELECT * FROM (
            SELECT {wanted}, {", ".join(f"{test} AS {hold}" for test, hold in zip(tests, holds, strict=True))}
            FROM (SELECT *, {text} AS text FROM {source} WHERE {conditions})
        ) WHERE {some}
        """,
        params,
    )
    counts = ", ".join(f"count(*) FILTER ({hold})" for hold in [every, *holds])
    ((candidates, *holding),) = connection.execute(f"SELECT {counts} FROM search_holding").fetchall()
    rows = connection.execute(
        f"""
        WITH newest AS (
            SELECT event_id, segment, line_offset, sum(line_length) OVER of_all AS bytes
            FROM search_holding WHERE {every}
            WINDOW of_all AS (ORDER BY timestamp DESC, event_id, segment, line_offset ROWS UNBOUNDED PRECEDING)
            ORDER BY timestamp DESC, event_id, segment, line_offset LIMIT {FOUND_MAX}
        )
        SELECT {", ".join(name if name != "event_id" else "event_id::VARCHAR" for name in _Candidate.__struct_fields__)}
        FROM events SEMI JOIN (FROM newest WHERE bytes <= {READ_MAX_BYTES}) USING (event_id, segment, line_offset)
        ORDER BY timestamp DESC, event_id
        """
    ).fetchall()
    totals = sandbox.execute(connection, f"SELECT count(*), avg(line_length) FROM events WHERE {conditions}", narrowing)
    ((events, mean_length),) = totals.fetchall()
    return [_Candidate(*row) for row in rows], _Statistics(events, mean_length or 1.0, candidates, holding, whole)


def _test(place: int, word: str) -> tuple[str, dict[str, str]]:
    """Return the condition by which the scan finds a word in the lower-case `text`, and its parameters."""
    forms, pattern = words.in_json(word)
    params = {f"w{place}_{number}": form for number, form in enumerate(forms)}
    # By DuckDB's own rules for lower case, as the text.
    tests = [f"contains(text, lower(${name}))" for name in params]
    if pattern is not None:
        params[f"p{place}"] = pattern
        tests.append(f"(contains(text, '\\u') AND regexp_matches(text, $p{place}))")
    return f"({' OR '.join(tests)})", params


# -- the score -------------------------------------------------------------------------------


def _hit(candidate: _Candidate, payload: bytes, looked_for: list[str], known: _Statistics) -> Hit | None:
    """Score a candidate; None where not every word is in its texts."""
    places = [(place, words.fold(place.text)) for place in words.texts(payloads.decode(payload))]
    counts = [sum(words.occurrences(word, lowered) for _, lowered in places) for word in looked_for]
    if not all(counts):
        return None
    length = _K1 * (1 - _B + _B * candidate.line_length / known.mean_length)
    score = sum(
        _rarity(known.events, holding) * count * (_K1 + 1) / (count + length)
        for count, holding in zip(counts, known.holding, strict=True)
    )
    best, lowered = max(places, key=lambda each: sum(word in each[1] for word in looked_for))
    snippet, marks = excerpt(best.text, lowered, looked_for)
    return Hit(
        event_id=candidate.event_id, event_type=candidate.event_type,
        timestamp=candidate.timestamp.replace(tzinfo=UTC), run_id=candidate.run_id, session_id=candidate.session_id,
        workspace=candidate.workspace, agent=candidate.agent, score=round(score, 6), field=best.path,
        snippet=snippet, marks=marks,
    )  # fmt: skip


def _rarity(events: int, holding: int) -> float:
    return math.log(1 + (events - holding + 0.5) / (holding + 0.5))


def excerpt(text: str, lowered: str, looked_for: list[str]) -> tuple[str, list[tuple[int, int]]]:
    """Return a piece of a text around the first word that is in it, on one line, and where words stand in the piece."""
    # A few letters have another length in lower case; then the place in the original is not known.
    source = text if len(text) == len(lowered) else lowered
    first = min((at for word in looked_for if (at := lowered.find(word)) >= 0), default=0)
    start = max(first - _BEFORE_CHARS, 0)
    end = start + _SNIPPET_CHARS
    piece = ("…" if start else "") + source[start:end] + ("…" if end < len(source) else "")
    snippet = _SPACES.sub(" ", piece)
    in_snippet = words.fold(snippet)
    marks: list[tuple[int, int]] = []
    if len(in_snippet) == len(snippet):
        for word in looked_for:
            on_one_line = _SPACES.sub(" ", word)
            marks += [(each.start(), each.end()) for each in re.finditer(re.escape(on_one_line), in_snippet)]
    return snippet, _merged(marks)


def _merged(marks: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(marks):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
