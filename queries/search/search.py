"""Full-text search: events that may match, then a score for each of them.

    words ──search index, and a look at what it lacks──→ search_matches ──those in doubt are read──→ score (BM25)
    (eventlog.queries.search.matching)                                                               ──→ the best hits

A word that begins a word of a text is a match, and the search index knows it. A phrase, a number or a large field is
in doubt: of these, the newest CANDIDATES_MAX events are read. To find words inside of words, all events are read.

Where no event has all words, those that have some of them are ranked in the same way.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from eventlog.errors import QueryFailed
from eventlog.format.envelope import AuditLevel
from eventlog.format.timestamps import naive_utc
from eventlog.indexer.search import parts
from eventlog.indexer.search.parts import Parts
from eventlog.log import blobs
from eventlog.queries.identity import levels, names
from eventlog.queries.rows import rows_as
from eventlog.queries.search import matching, terms
from eventlog.queries.search.hits import Hit, Reading, Row
from eventlog.queries.search.items import read_items
from eventlog.queries.search.matching import Filters, Statistics

_logger = logging.getLogger("eventlog.queries")
LIMIT_MAX = 1000
#: The newest candidates that are in doubt are read: at most so many events, and so many bytes of lines.
CANDIDATES_MAX = 10_000
READ_MAX_BYTES = 64 * 1024 * 1024
#: The bytes of their payloads with the large fields.
WHOLE_MAX_BYTES = 256 * 1024 * 1024
#: The usual parameters of BM25: how soon repetitions of a word stop counting, and how much the length counts.
_K1, _B = 1.2, 0.75
#: So few rows are fetched one by one, each by its id.
_FEW = 50
_COLUMNS = ", ".join(Row.__struct_fields__).replace("event_id", "event_id::VARCHAR AS event_id")


class SearchResult(msgspec.Struct, frozen=True, kw_only=True):
    """The best hits, best first, and the number of events with all words; with `any_word`, of those with some of them.

    `cut` is true if there were too many candidates, and only the newest were scored. `matches` then counts
    candidates; in some of them, a word may only be part of a field's name. `undated` counts events that may match and
    were left out since they have no time, where a time was asked for. `read` counts events that the search index does
    not have, or not in the way that was asked for: they were read one by one.
    """

    words: list[str]
    hits: list[Hit]
    matches: int
    cut: bool
    undated: int = 0
    read: int = 0
    any_word: bool = False


def search(
    connection: duckdb.DuckDBPyConnection,
    root: Path,
    query: str,
    *,
    usable: Parts,
    inside: bool = False,
    event_types: Iterable[str] = (),
    agent: str | None = None,
    since: datetime | None = None,
    audit_level: AuditLevel | None = None,
    limit: int = 20,
) -> SearchResult:
    """Return the events that have all words of a query, the best first; where there are none, those that have any.

    A query is words and phrases, such as `timeout "exit code 1"`, in any case; `inside` also finds them inside of
    words. `usable` are the parts of the search index: they make it faster, and no other. Without `event_types`, all but
    eventlog's own are searched; `audit_level` is the least. Raises QueryFailed for a query without words or with too
    many of them, and for a limit that is not 1 to LIMIT_MAX.
    """
    if not 1 <= limit <= LIMIT_MAX:
        raise QueryFailed(f"limit {limit} is out of range: 1 to {LIMIT_MAX:,}")
    words = terms.parse(query)
    filters = Filters(names(event_types), agent, since and naive_utc(since), levels(audit_level))
    statistics = _match(connection, root, words, filters, usable, inside=inside)
    ranking = _Ranking(connection, root, words, statistics, inside=inside)
    result = ranking.best(limit, any_word=False)
    if not result.hits and len(words) > 1:
        result = ranking.best(limit, any_word=True)
    return result


def _match(
    connection: duckdb.DuckDBPyConnection, root: Path, words: list[str], filters: Filters, usable: Parts, *,
    inside: bool,
) -> Statistics:  # fmt: skip
    """Fill the table search_matches. A damaged search index is as good as none."""
    items = [] if inside else read_items(connection, words)
    if inside or not all(item.ways for item in items):
        return matching.scan(connection, root, words, filters)
    try:
        return matching.look_up(connection, root, items, filters, usable)
    except (duckdb.InterruptException, duckdb.OutOfMemoryException):
        raise
    except duckdb.Error as error:
        if not usable.in_order:
            raise
        _logger.warning("the search index cannot be read, and is made anew: %s", str(error).partition("\n")[0])
        statistics = matching.look_up(connection, root, items, filters, Parts(usable.folder))
        parts.remove_unreadable(connection, root, usable)
        return statistics


class _Ranking:
    """Ranks the events in search_matches."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, root: Path, words: list[str], statistics: Statistics, *,
        inside: bool,
    ) -> None:  # fmt: skip
        self._connection = connection
        self._root = root
        self._words = words
        self._statistics = statistics
        self._inside = inside
        self._times = [f"times{number}" for number in range(len(words))]

    def best(self, limit: int, *, any_word: bool) -> SearchResult:
        """Return the best of the events that have all words, or any."""
        wanted = (" OR " if any_word else " AND ").join(f"{times} > 0" for times in self._times)
        ((possible, in_doubt, undated),) = self._connection.execute(COUNTS.format(wanted=wanted)).fetchall()
        read, confirmed = self._read_those_in_doubt(wanted, any_word=any_word) if in_doubt else (0, 0)
        statement = BEST.format(
            score=self._score(), wanted=wanted, times=", ".join(self._times),
            confirmed=CONFIRMED.format(times=", ".join(f"texts.{times}" for times in self._times)) if confirmed else "",
        )  # fmt: skip
        hits = self._hits(self._connection.execute(statement, [limit]).fetchall())
        cut = in_doubt > read or not self._statistics.has_all_blobs
        return SearchResult(
            words=self._words, hits=hits, matches=possible if cut else possible - in_doubt + confirmed, cut=cut,
            undated=undated, read=self._statistics.read, any_word=any_word and bool(hits),
        )  # fmt: skip

    def _score(self) -> str:
        """Return SQL for the score of a row."""
        numbers = self._statistics
        length = f"({_K1} * ({1 - _B} + {_B} * line_length / {numbers.mean_length!r}))"
        return " + ".join(
            f"{_rarity(numbers.events, of_word)!r} * {times} * {_K1 + 1} / ({times} + {length})"
            for times, of_word in zip(self._times, numbers.matches_by_word, strict=True)
        )

    def _read_those_in_doubt(self, wanted: str, *, any_word: bool) -> tuple[int, int]:
        """Read the newest events in doubt, and put those that match into the table search_texts.

        Returns how many were read, and how many match.
        """
        limits = {"candidates_max": CANDIDATES_MAX, "bytes_max": READ_MAX_BYTES}
        newest = self._connection.execute(IN_DOUBT.format(wanted=wanted), limits).fetchall()
        resolver = blobs.Resolver(self._root)
        confirmed: list[tuple[str | int | float, ...]] = []
        read = whole_bytes = 0
        for row in self._rows(newest):
            payload = resolver.resolve(row.payload.encode(), row.workspace, marked=True)
            whole_bytes += len(payload)
            if read and whole_bytes > WHOLE_MAX_BYTES:
                break
            read += 1
            times = Reading(payload, self._words, inside=self._inside).times
            if any(times) if any_word else all(times):
                confirmed.append((row.segment, row.line_offset, *times))
        if confirmed:
            columns = [list(column) for column in zip(*confirmed, strict=True)]
            each = ", ".join(f"unnest(?::DOUBLE[]) AS {times}" for times in self._times)
            self._connection.execute(CREATE_TEXTS.format(times=each), columns)
        return read, len(confirmed)

    def _hits(self, best: Sequence[tuple[Any, ...]]) -> list[Hit]:
        """Return the hits for the best rows: (event_id, segment, line_offset, score)."""
        resolver = blobs.Resolver(self._root)
        hits = []
        for row, score in zip(self._rows(best), (score for *_, score in best), strict=True):
            payload = resolver.resolve(row.payload.encode(), row.workspace, marked=True)
            hits.append(Reading(payload, self._words, inside=self._inside).hit(row, score))
        return hits

    def _rows(self, keys: Sequence[tuple[Any, ...]]) -> list[Row]:
        """Return the rows with these keys, in their order: (event_id, segment, line_offset, …)."""
        if not keys:
            return []
        if len(keys) <= _FEW:
            statement = " UNION ALL ".join([ROW_OF_ID] * len(keys))
            params = [value for key in keys for value in key[:3]]
        else:
            statement, params = ROWS_OF_IDS, [list(column) for column in list(zip(*keys, strict=True))[:3]]
        rows = rows_as(Row, self._connection.execute(statement, params))
        by_position = {(row.segment, row.line_offset): row for row in rows}
        return [by_position[segment, line_offset] for _, segment, line_offset, *_ in keys]


def _rarity(events: int, matches: int) -> float:
    """Return the inverse document frequency of a word."""
    return math.log(1 + (events - matches + 0.5) / (matches + 0.5))


# -- statements ------------------------------------------------------------------------------

# `{wanted}` is the condition for rows that have all words, or any. Temporary table: `search_texts`, rows in doubt that
# match, and how often each word is in their texts.

COUNTS = """
    SELECT count(*) FILTER (NOT left_out), count(*) FILTER (NOT left_out AND unread), count(*) FILTER (left_out)
    FROM search_matches WHERE {wanted}
"""
IN_DOUBT = """
    SELECT event_id::VARCHAR, segment, line_offset FROM (
        SELECT event_id, segment, line_offset, timestamp, sum(line_length) OVER newest_first AS bytes
        FROM search_matches WHERE ({wanted}) AND unread AND NOT left_out
        WINDOW newest_first AS (ORDER BY timestamp DESC, event_id, segment, line_offset ROWS UNBOUNDED PRECEDING)
        ORDER BY timestamp DESC, event_id, segment, line_offset LIMIT $candidates_max
    )
    WHERE bytes <= $bytes_max ORDER BY timestamp DESC, event_id, segment, line_offset
"""
CREATE_TEXTS = """
    CREATE OR REPLACE TEMP TABLE search_texts AS
    SELECT unnest(?::VARCHAR[]) AS segment, unnest(?::BIGINT[]) AS line_offset, {times}
"""
CONFIRMED = """
    UNION ALL
    SELECT event_id, segment, line_offset, timestamp, workspace, line_length, {times}
    FROM search_matches JOIN search_texts AS texts USING (segment, line_offset)
"""
BEST = """
    SELECT event_id::VARCHAR, segment, line_offset, round({score}, 6) AS score
    FROM (
        SELECT event_id, segment, line_offset, timestamp, workspace, line_length, {times}
        FROM search_matches WHERE ({wanted}) AND NOT unread AND NOT left_out
        {confirmed}
    )
    ORDER BY score DESC, timestamp DESC, event_id, workspace NULLS FIRST, segment, line_offset LIMIT ?
"""
ROW_OF_ID = f"SELECT {_COLUMNS} FROM events WHERE event_id = ?::UUID AND segment = ? AND line_offset = ?"
ROWS_OF_IDS = f"""
    SELECT {_COLUMNS} FROM events SEMI JOIN (
        SELECT unnest(?::UUID[]) AS event_id, unnest(?::VARCHAR[]) AS segment, unnest(?::BIGINT[]) AS line_offset
    ) AS best USING (event_id, segment, line_offset)
"""
