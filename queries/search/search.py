"""Full-text search in two steps: a scan for events that have the words, and a score for each of them.

    payloads, as JSON ──scan──→ candidates: the newest CANDIDATES_MAX ──decode──→ score (BM25) ──→ the best hits
    blobs of large fields ──┘ (eventlog.queries.search.blob_search)

Only the scan depends on the size of the log: DuckDB reads every payload, about a million events per second. An
inverted index would be faster, but every batch would have to update it, and it would be as large as the texts. In
JSON, texts are escaped and mixed with keys, so the scan finds candidates; the second step decodes them.

Where no event has all words, those that have some of them are ranked in the same way.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import msgspec

from eventlog.errors import QueryFailed
from eventlog.format import payloads
from eventlog.format.envelope import AuditLevel
from eventlog.format.timestamps import naive_utc
from eventlog.log import blobs
from eventlog.queries.access import sandbox
from eventlog.queries.identity import levels, names
from eventlog.queries.rows import rows_as
from eventlog.queries.search import blob_search, terms

LIMIT_MAX = 1000
#: The newest candidates are read and scored: at most so many events, and so many bytes of lines.
CANDIDATES_MAX = 10_000
READ_MAX_BYTES = 64 * 1024 * 1024
#: The bytes of their payloads with the large fields.
WHOLE_MAX_BYTES = 256 * 1024 * 1024
#: Types of eventlog's own events, which are not searched unless they are named.
_UNSEARCHED = (
    "event_schema", "segment_sealed", "segments_backed_up", "segment_pruned", "import_checkpoint", "import_rejected",
    "import_recovered",
    "events_dropped", "index_alarm",
)  # fmt: skip
#: The usual parameters of BM25: how soon repetitions of a word stop counting, and how much the length counts.
_K1, _B = 1.2, 0.75
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


class SearchResult(msgspec.Struct, frozen=True, kw_only=True):
    """The best hits, best first, and the number of events with all words; with `any_word`, of those with some of them.

    `cut` is true if there were too many candidates, and only the newest were scored. `matches` then counts
    candidates; in some of them, a word may only be part of a field's name. `undated` counts events that may match and
    were left out since they have no time, where a time was asked for.
    """

    words: list[str]
    hits: list[Hit]
    matches: int
    cut: bool
    undated: int = 0
    any_word: bool = False


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
    """Numbers of the scan: the events, and the mean length of their lines in bytes."""

    events: int
    mean_length: float
    #: For each word, the number of events that may have it.
    matches_by_word: list[int]
    #: Whether all blobs were read.
    has_all_blobs: bool


def search(
    connection: duckdb.DuckDBPyConnection,
    root: Path,
    query: str,
    *,
    event_types: Iterable[str] = (),
    agent: str | None = None,
    since: datetime | None = None,
    audit_level: AuditLevel | None = None,
    limit: int = 20,
) -> SearchResult:
    """Return the events that have all words of a query, the best first; where there are none, those that have any.

    A query is words and phrases, such as `timeout "exit code 1"`, in any case. Without `event_types`, all but
    eventlog's own are searched; `audit_level` is the least. Raises QueryFailed for a query without words or with too
    many of them, and for a limit that is not 1 to LIMIT_MAX.
    """
    if not 1 <= limit <= LIMIT_MAX:
        raise QueryFailed(f"limit {limit} is out of range: 1 to {LIMIT_MAX:,}")
    words = terms.parse(query)
    filters = _Filters(names(event_types), agent, since and naive_utc(since), levels(audit_level))
    statistics = _scan(connection, root, words, filters)
    found = _ranked(connection, root, words, statistics, any_word=False)
    if not found.hits and len(words) > 1:
        found = _ranked(connection, root, words, statistics, any_word=True)
    return msgspec.structs.replace(found, hits=found.hits[:limit])


def _ranked(
    connection: duckdb.DuckDBPyConnection, root: Path, words: list[str], statistics: _Statistics, *, any_word: bool
) -> SearchResult:
    """Return all hits among the candidates of a scan, best first."""
    wanted = (" OR " if any_word else " AND ").join(_flags(words))
    ((possible, undated),) = connection.execute(_COUNTS.format(wanted=wanted)).fetchall()
    limits = {"candidates_max": CANDIDATES_MAX, "bytes_max": READ_MAX_BYTES}
    candidates = rows_as(_Candidate, connection.execute(_CANDIDATES.format(wanted=wanted), limits))
    resolver = blobs.Resolver(root)
    hits: list[Hit] = []
    read = whole_bytes = 0
    for candidate in candidates:
        payload = resolver.resolve(candidate.payload.encode(), candidate.workspace, marked=True)
        whole_bytes += len(payload)
        if read and whole_bytes > WHOLE_MAX_BYTES:
            break
        read += 1
        hit = _hit(candidate, payload, words, statistics, any_word=any_word)
        if hit is not None:
            hits.append(hit)
    hits.sort(key=_best_first)
    cut = possible > read or not statistics.has_all_blobs
    return SearchResult(
        words=words, hits=hits, matches=possible if cut else len(hits), cut=cut, undated=undated,
        any_word=any_word and bool(hits),
    )  # fmt: skip


def _best_first(hit: Hit) -> tuple[float, float, str, str]:
    when = 0.0 if hit.timestamp is None else hit.timestamp.timestamp()
    return -hit.score, -when, hit.event_id, hit.workspace or ""


# -- the scan --------------------------------------------------------------------------------


class _Filters(NamedTuple):
    """Which events are searched: of these types (none: of all but eventlog's own), of an agent, from a time on, …"""

    types: list[str]
    agent: str | None
    since: datetime | None
    levels: list[AuditLevel] | None


#: Which events are searched, besides their types. Those without a time are found, to be counted.
_FILTER = """
    ($agent::VARCHAR IS NULL OR agent = $agent)
    AND ($levels::VARCHAR[] IS NULL OR list_contains($levels::VARCHAR[], audit_level))
    AND ($since::TIMESTAMP IS NULL OR timestamp >= $since::TIMESTAMP OR timestamp = 'epoch')
"""
_IS_LEFT_OUT = "$since::TIMESTAMP IS NOT NULL AND timestamp = 'epoch' AND $since::TIMESTAMP > 'epoch'"
_OF_TYPES = "event_type IN (SELECT unnest($types::VARCHAR[]))"
_OF_ALL_TYPES = f"event_type NOT IN {_UNSEARCHED}"
_HAS_BLOBS = "SELECT 1 FROM search_in_blobs LIMIT 1"
_WITH_BLOBS = "events LEFT JOIN search_in_blobs USING (segment, line_offset)"
#: An id alone does not identify an event where the store has all workspaces; its segment and offset do.
_SCAN = """
    CREATE OR REPLACE TEMP TABLE search_matches AS
    SELECT * FROM (
        SELECT event_id, segment, line_offset, timestamp, line_length, {left_out} AS left_out, {tests}
        FROM (SELECT *, {text} AS text FROM {source} WHERE {events})
    ) WHERE {any_word}
"""
_COUNTS = """
    SELECT count(*) FILTER (NOT left_out), count(*) FILTER (left_out) FROM search_matches WHERE {wanted}
"""
_COUNTS_BY_WORD = "SELECT {counts} FROM search_matches"
_CANDIDATES = f"""
    WITH newest AS (
        SELECT event_id, segment, line_offset, sum(line_length) OVER newest_first AS bytes
        FROM search_matches WHERE ({{wanted}}) AND NOT left_out
        WINDOW newest_first AS (ORDER BY timestamp DESC, event_id, segment, line_offset ROWS UNBOUNDED PRECEDING)
        ORDER BY timestamp DESC, event_id, segment, line_offset LIMIT $candidates_max
    )
    SELECT {", ".join(_Candidate.__struct_fields__).replace("event_id", "event_id::VARCHAR AS event_id")}
    FROM events SEMI JOIN (FROM newest WHERE bytes <= $bytes_max) USING (event_id, segment, line_offset)
    ORDER BY timestamp DESC, events.event_id
"""
_TOTALS = "SELECT count(*), avg(line_length) FROM events WHERE {events}"


def _scan(
    connection: duckdb.DuckDBPyConnection,
    root: Path,
    words: list[str],
    filters: _Filters,
) -> _Statistics:
    """Mark the events whose JSON may have words, in the table search_matches; return what the scores need."""
    events = f"{_OF_TYPES if filters.types else _OF_ALL_TYPES} AND {_FILTER}"
    filter_params: dict[str, Any] = filters._asdict()
    if not filters.types:
        del filter_params["types"]
    tests, params = [], filter_params
    for number, word in enumerate(words):
        test, word_params = _test(number, word)
        tests.append(test)
        params = params | word_params
    has_all_blobs = blob_search.scan(connection, root, words, tests, events, params)
    source = "events"
    if connection.execute(_HAS_BLOBS).fetchall():
        tests = [f"({test} OR coalesce(in_blob{number}, false))" for number, test in enumerate(tests)]
        source = _WITH_BLOBS
    flags = _flags(words)
    sandbox.execute(
        connection,
        _SCAN.format(
            tests=", ".join(f"{test} AS {flag}" for test, flag in zip(tests, flags, strict=True)),
            text=terms.folded_in_sql("payload::VARCHAR", words), source=source, events=events,
            any_word=" OR ".join(flags),
            left_out=_IS_LEFT_OUT,
        ),
        params,
    )  # fmt: skip
    counts = ", ".join(f"count(*) FILTER ({flag} AND NOT left_out)" for flag in flags)
    (matches_by_word,) = connection.execute(_COUNTS_BY_WORD.format(counts=counts)).fetchall()
    totals = sandbox.execute(connection, _TOTALS.format(events=events), filter_params)
    ((count, mean_length),) = totals.fetchall()
    return _Statistics(count, mean_length or 1.0, [*matches_by_word], has_all_blobs)


def _flags(words: list[str]) -> list[str]:
    """Return the columns of search_matches that say whether an event has each word."""
    return [f"has{number}" for number in range(len(words))]


def _test(number: int, word: str) -> tuple[str, dict[str, str]]:
    """Return the condition for a word in the lower-case `text`, and its parameters."""
    forms, pattern = terms.in_json(word)
    params = {f"word{number}_{form_number}": form for form_number, form in enumerate(forms)}
    # DuckDB makes the word lower case by the same rules as the text.
    tests = [f"contains(text, lower(${name}))" for name in params]
    if pattern is not None:
        params[f"pattern{number}"] = pattern
        tests.append(f"(contains(text, '\\u') AND regexp_matches(text, $pattern{number}))")
    return f"({' OR '.join(tests)})", params


# -- the score -------------------------------------------------------------------------------


def _hit(
    candidate: _Candidate, payload: bytes, words: list[str], statistics: _Statistics, *, any_word: bool
) -> Hit | None:
    """Score a candidate; None if its texts do not have every word, or not any."""
    texts = [(text, terms.fold(text.text)) for text in terms.texts(payloads.decode(payload))]
    found = [[terms.occurrences(word, lowered) or text.has_number(word) for word in words] for text, lowered in texts]
    counts = [sum(of_word) for of_word in zip(*found, strict=True)]
    if not counts or not (any(counts) if any_word else all(counts)):
        return None
    length = _K1 * (1 - _B + _B * candidate.line_length / statistics.mean_length)
    score = sum(
        _rarity(statistics.events, matches) * count * (_K1 + 1) / (count + length)
        for count, matches in zip(counts, statistics.matches_by_word, strict=True)
    )
    number = max(range(len(texts)), key=lambda number: sum(map(bool, found[number])))
    best, lowered = texts[number]
    snippet, marks = excerpt(best.text, lowered, [lowered if best.has_number(word) else word for word in words])
    return Hit(
        event_id=candidate.event_id, event_type=candidate.event_type,
        timestamp=None if candidate.timestamp == _UNDATED else candidate.timestamp,
        run_id=candidate.run_id, session_id=candidate.session_id,
        workspace=candidate.workspace, agent=candidate.agent, score=round(score, 6), field=best.path,
        snippet=snippet, marks=marks,
    )  # fmt: skip


def _rarity(events: int, matches: int) -> float:
    """Return the inverse document frequency of a word."""
    return math.log(1 + (events - matches + 0.5) / (matches + 0.5))


def excerpt(text: str, lowered: str, words: list[str]) -> tuple[str, list[tuple[int, int]]]:
    """Return a snippet of a text around its first word, on one line, and the (start, end) of each word in it."""
    # A few letters have another length in lower case; then offsets in `lowered` are not offsets in the text.
    source = text if len(text) == len(lowered) else lowered
    first = min((at for word in words if (at := lowered.find(word)) >= 0), default=0)
    start = max(first - _BEFORE_CHARS, 0)
    end = start + _SNIPPET_CHARS
    piece = ("…" if start else "") + source[start:end] + ("…" if end < len(source) else "")
    snippet = _SPACES.sub(" ", piece)
    in_snippet = terms.fold(snippet)
    marks: list[tuple[int, int]] = []
    if len(in_snippet) == len(snippet):
        for word in words:
            on_one_line = _SPACES.sub(" ", word)
            marks += [match.span() for match in re.finditer(re.escape(on_one_line), in_snippet)]
    return snippet, _merged(marks)


def _merged(marks: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(marks):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
