"""Which events may match: the temporary table `search_matches`, with how often each word of the query is there.

    search index ──words──→ rows ──join──→ events, filtered ┐
    rows that it lacks ──read one by one, filtered──────────┴→ search_matches

Both ways count by one rule, so an answer does not depend on what the search index has. Only events that pass the
filters are counted and ranked, in a workspace only its own: what others write has no say in an answer.

`unread` rows are those whose texts have to be looked at, because a phrase, a number or a large field may be in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import msgspec

from eventlog.format.envelope import AuditLevel
from eventlog.indexer.search import words as index_words
from eventlog.indexer.search.parts import Parts
from eventlog.indexer.sql import literal
from eventlog.queries.access import sandbox
from eventlog.queries.search import blob_search, terms
from eventlog.queries.search.items import Item, Term

#: More than any segment has bytes.
_OFFSETS = 2**40
#: Types of eventlog's own events, which are not searched unless they are named.
_UNSEARCHED = (
    "event_schema", "segment_sealed", "segments_backed_up", "segment_pruned", "import_checkpoint", "import_rejected",
    "import_recovered",
    "events_dropped", "index_alarm",
)  # fmt: skip


class Filters(NamedTuple):
    """Which events are searched: of these types (none: of all but eventlog's own), of an agent, from a time on, …"""

    types: list[str]
    agent: str | None
    since: datetime | None
    levels: list[AuditLevel] | None

    @property
    def condition(self) -> str:
        """SQL, with `params`. Events without a time are not left out: they are counted."""
        conditions = [_CONDITIONS[name] for name in self.params]
        return " AND ".join(conditions if self.types else [_OF_ALL_TYPES, *conditions])

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of `condition`, by name."""
        return {name: value for name, value in self._asdict().items() if value is not None and value != []}

    @property
    def left_out(self) -> str:
        """SQL: whether an event is left out since it has no time."""
        return "false" if self.since is None else _LEFT_OUT


class Statistics(msgspec.Struct, frozen=True):
    """Numbers of the events that pass the filters, and the mean length of their lines in bytes."""

    events: int
    mean_length: float
    #: For each word, the number of events that may have it.
    matches_by_word: list[int]
    #: Whether all blobs were read.
    has_all_blobs: bool
    #: Events that were read one by one.
    read: int


def scan(connection: duckdb.DuckDBPyConnection, root: Path, words: Sequence[str], filters: Filters) -> Statistics:
    """Fill search_matches from all events, whether their JSON has the words anywhere; each is to be read."""
    tests, params = _tests(words)
    params |= filters.params
    has_all_blobs = blob_search.scan(connection, root, words, tests, "events", filters.condition, params)
    tests = [f"({test} OR coalesce(in_blob{number}, false))" for number, test in enumerate(tests)]
    sandbox.execute(
        connection,
        CREATE_MATCHES_BY_SCAN.format(
            tests=", ".join(f"({test})::INTEGER AS times{number}" for number, test in enumerate(tests)),
            text=terms.folded_in_sql("payload::VARCHAR", words), events=filters.condition, left_out=filters.left_out,
            any_word=" OR ".join(f"times{number} > 0" for number in range(len(words))),
        ),
        params,
    )  # fmt: skip
    statistics = _statistics(connection, filters, len(words), has_all_blobs)
    return msgspec.structs.replace(statistics, read=statistics.events)


def look_up(
    connection: duckdb.DuckDBPyConnection, root: Path, items: Sequence[Item], filters: Filters, usable: Parts
) -> Statistics:
    """Fill search_matches from the search index, and from the events that it lacks.

    Raises duckdb.Error where the files of the search index cannot be read.
    """
    wanted = list(dict.fromkeys(term for item in items for way in item.ways for term in way))
    source = _lacking(connection, usable)
    _create_from_index(connection, items, wanted, filters, usable)
    read, has_all_blobs = 0, True
    if source is not None:
        has_all_blobs = _add_lacking(connection, root, items, wanted, filters, source)
        ((read,),) = sandbox.execute(
            connection, COUNT_READ.format(source=source, events=filters.condition), filters.params
        ).fetchall()
    statistics = _statistics(connection, filters, len(items), has_all_blobs)
    return msgspec.structs.replace(statistics, read=read)


def _statistics(connection: duckdb.DuckDBPyConnection, filters: Filters, words: int, has_all_blobs: bool) -> Statistics:
    counts = ", ".join(f"count(*) FILTER (times{number} > 0 AND NOT left_out)" for number in range(words))
    (matches_by_word,) = connection.execute(COUNTS_BY_WORD.format(counts=counts)).fetchall()
    totals = sandbox.execute(connection, TOTALS.format(events=filters.condition), filters.params)
    ((count, mean_length),) = totals.fetchall()
    return Statistics(count, mean_length or 1.0, [*matches_by_word], has_all_blobs, 0)


# -- from the search index -------------------------------------------------------------------


def _create_from_index(
    connection: duckdb.DuckDBPyConnection, items: Sequence[Item], wanted: list[Term], filters: Filters, usable: Parts
) -> None:
    numbers = range(len(wanted))
    times = ", ".join(f"{_times(item, wanted)} AS times{number}" for number, item in enumerate(items))
    any_word = " OR ".join(f"times{number} > 0" for number in range(len(items)))
    if usable.in_order:
        hits = " UNION ALL ".join(_hits(number, term, usable) for number, term in enumerate(wanted))
        terms_ = ", ".join(f"coalesce(sum(times) FILTER (term = {number}), 0) AS term{number}" for number in numbers)
        # Step by step: DuckDB cannot guess how few rows have a word, and would begin with all of them.
        connection.execute(CREATE_DOCS.format(term_counts=terms_, hits=hits, times=times, any_word=any_word))
        connection.execute(CREATE_SEGMENTS, [list(usable.covered), list(range(len(usable.covered)))])
        connection.execute(CREATE_ROWS.format(docs=usable.docs))
    else:
        none = ", ".join(f"0.0::DOUBLE AS times{number}" for number in range(len(items)))
        connection.execute(CREATE_SEGMENTS, [[], []])
        connection.execute(CREATE_NO_ROWS.format(times=none))
    counts = ", ".join(f"times{number}" for number in range(len(items)))
    unread = "false" if all(item.is_exact for item in items) else "true"
    sandbox.execute(
        connection,
        CREATE_MATCHES.format(times=counts, unread=unread, events=filters.condition, left_out=filters.left_out),
        filters.params,
    )


def _hits(number: int, term: Term, usable: Parts) -> str:
    """Return SQL for the rows that have a term, and how often; a longer word counts half."""
    word = literal(term.word)
    is_it = f"word = {word}"
    if term.is_beginning:
        is_it = f"word >= {word} AND word < {literal(_after(term.word))}"
    return HITS.format(number=number, word=word, all_words=usable.words, is_it=is_it)


def _after(word: str) -> str:
    """Return the first text, in order of code points, after all that begin with a word."""
    code = ord(word[-1]) + 1
    return word[:-1] + chr(0xE000 if code == 0xD800 else code)  # surrogates are no characters


def _times(item: Item, wanted: list[Term]) -> str:
    """Return SQL for how often an item may be there, from the columns of terms."""
    if item.is_exact:
        return f"term{wanted.index(item.ways[0][0])}"
    ways = (" AND ".join(f"term{wanted.index(term)} > 0" for term in way) for way in item.ways)
    return f"(CASE WHEN {' OR '.join(f'({way})' for way in ways)} THEN 1.0 ELSE 0.0 END)"


# -- from events that it lacks ---------------------------------------------------------------


def _lacking(connection: duckdb.DuckDBPyConnection, usable: Parts) -> str | None:
    """Return SQL for the events that the search index lacks; None if there are none."""
    if not usable.in_order:
        return "events"
    sources = []
    if usable.behind:
        connection.execute(CREATE_BEHIND, [list(usable.behind), list(usable.behind.values())])
        sources.append(ROWS_BEHIND)
    if any(part.apart for part in usable.in_order):
        connection.execute(CREATE_APART.format(docs=usable.docs))
        sources.append(ROWS_APART)
    return f"({' UNION ALL '.join(sources)})" if sources else None


def _add_lacking(
    connection: duckdb.DuckDBPyConnection, root: Path, items: Sequence[Item], wanted: list[Term], filters: Filters,
    source: str,
) -> bool:  # fmt: skip
    """Add the events that the search index lacks; return whether all their blobs were read.

    Most are ruled out by a look at their JSON as it is. In others, words are counted as the search index does it; those
    with large fields are to be read.
    """
    words = [item.word for item in items]
    tests, params = _tests(words)
    params |= filters.params
    has_all_blobs = blob_search.scan(connection, root, words, tests, source, filters.condition, params)
    term_tests, term_params = _tests([term.word for term in wanted], "term")
    ways = (" AND ".join(term_tests[wanted.index(term)] for term in way) for item in items for way in item.ways)
    times = ", ".join(
        f"CASE WHEN has_blobs THEN (test{number})::DOUBLE ELSE {_times(item, wanted)} END AS times{number}"
        for number, item in enumerate(items)
    )
    lists = ", ".join(
        f"{index_words.beginnings('folded', term.word)} AS list{number}" for number, term in enumerate(wanted)
    )
    statement = ADD_LACKING.format(
        times=times, lists=lists, source=source, events=filters.condition, left_out=filters.left_out,
        unread="has_blobs" if all(item.is_exact for item in items) else "true",
        term_counts=", ".join(_count(number, term) for number, term in enumerate(wanted)),
        tests=", ".join(
            f"({test} OR coalesce(in_blob{number}, false)) AS test{number}" for number, test in enumerate(tests)
        ),
        text=terms.folded_in_sql("payload::VARCHAR", [*words, *(term.word for term in wanted)]),
        folded=index_words.folded(index_words.TEXTS), has_blobs=index_words.HAS_BLOBS,
        may_match=" OR ".join(f"({way})" for way in ways),
        any_word=" OR ".join(f"times{number} > 0" for number in range(len(items))),
    )  # fmt: skip
    sandbox.execute(connection, statement, params | term_params)
    return has_all_blobs


def _count(number: int, term: Term) -> str:
    whole = f"len(list_filter(list{number}, lambda word: word = {literal(term.word)}))"
    times = f"(0.5 * len(list{number}) + 0.5 * {whole})" if term.is_beginning else whole
    return f"{times} AS term{number}"


def _tests(words: Sequence[str], prefix: str = "word") -> tuple[list[str], dict[str, Any]]:
    """Return the conditions for words anywhere in the lower-case JSON `text`, and their parameters."""
    tests: list[str] = []
    params: dict[str, Any] = {}
    for number, word in enumerate(words):
        forms, pattern = terms.in_json(word)
        own = {f"{prefix}{number}_{form_number}": form for form_number, form in enumerate(forms)}
        # DuckDB makes the word lower case by the same rules as the text.
        any_form = [f"contains(text, lower(${name}))" for name in own]
        if pattern is not None:
            name = f"{prefix}{number}_pattern"
            own[name] = pattern
            any_form.append(f"(contains(text, '\\u') AND regexp_matches(text, ${name}))")
        tests.append(f"({' OR '.join(any_form)})")
        params |= own
    return tests, params


# -- statements ------------------------------------------------------------------------------

_CONDITIONS = {
    "types": "event_type IN (SELECT unnest($types::VARCHAR[]))",
    "agent": "agent = $agent",
    "since": "(timestamp >= $since::TIMESTAMP OR timestamp = 'epoch')",
    "levels": "audit_level IN (SELECT unnest($levels::VARCHAR[]))",
}
_OF_ALL_TYPES = f"event_type NOT IN {_UNSEARCHED}"
_LEFT_OUT = "(timestamp = 'epoch' AND $since::TIMESTAMP > 'epoch')"
#: An id alone does not identify an event where the store has all workspaces; its segment and offset do.
_ROW = "event_id, segment, line_offset, timestamp, workspace, line_length, {left_out} AS left_out"
CREATE_MATCHES_BY_SCAN = f"""
    CREATE OR REPLACE TEMP TABLE search_matches AS
    FROM (
        SELECT {_ROW}, true AS unread, {{tests}}
        FROM (
            SELECT *, {{text}} AS text FROM events LEFT JOIN search_in_blobs USING (segment, line_offset)
            WHERE {{events}}
        )
    ) WHERE {{any_word}}
"""
HITS = """
    SELECT doc, {number} AS term, times * (CASE WHEN word = {word} THEN 1 ELSE 0.5 END)::DOUBLE AS times
    FROM {all_words} WHERE {is_it}
"""
CREATE_DOCS = """
    CREATE OR REPLACE TEMP TABLE search_docs AS
    FROM (SELECT doc, {times} FROM (SELECT doc, {term_counts} FROM ({hits}) GROUP BY doc)) WHERE {any_word}
"""
#: Positions as numbers: DuckDB joins them in half the time and memory that segments as texts take.
CREATE_SEGMENTS = """
    CREATE OR REPLACE TEMP TABLE search_segments AS
    SELECT unnest(?::VARCHAR[]) AS segment, unnest(?::BIGINT[]) AS number
"""
_POSITION = f"(number * {_OFFSETS} + line_offset)"
CREATE_ROWS = f"""
    CREATE OR REPLACE TEMP TABLE search_rows AS
    SELECT {_POSITION} AS position, search_docs.* EXCLUDE (doc)
    FROM search_docs
    JOIN (SELECT doc, segment, line_offset FROM {{docs}}) AS docs USING (doc)
    JOIN search_segments USING (segment)
"""
CREATE_NO_ROWS = """
    CREATE OR REPLACE TEMP TABLE search_rows AS SELECT NULL::BIGINT AS position, {times} LIMIT 0
"""
CREATE_MATCHES = f"""
    CREATE OR REPLACE TEMP TABLE search_matches AS
    SELECT {_ROW}, {{unread}} AS unread, {{times}}
    FROM events JOIN search_segments USING (segment) JOIN search_rows ON {_POSITION} = search_rows.position
    WHERE {{events}}
"""
ADD_LACKING = f"""
    INSERT INTO search_matches
    FROM (
        SELECT event_id, segment, line_offset, timestamp, workspace, line_length, left_out, {{unread}} AS unread,
               {{times}}
        FROM (
            SELECT *, {{term_counts}}
            FROM (
                SELECT *, {{lists}}
                FROM (
                    SELECT {_ROW}, has_blobs, {{tests}}, CASE WHEN NOT has_blobs THEN {{folded}} END AS folded
                    FROM (
                        SELECT *, {{has_blobs}} AS has_blobs, {{text}} AS text
                        FROM {{source}} LEFT JOIN search_in_blobs USING (segment, line_offset)
                        WHERE {{events}}
                    )
                    WHERE has_blobs OR {{may_match}}
                )
            )
        )
    ) WHERE {{any_word}}
"""
COUNT_READ = "SELECT count(*) FROM {source} WHERE {events}"
CREATE_BEHIND = """
    CREATE OR REPLACE TEMP TABLE search_behind AS
    SELECT unnest(?::VARCHAR[]) AS segment, unnest(?::BIGINT[]) AS covered
"""
ROWS_BEHIND = "SELECT events.* FROM events JOIN search_behind USING (segment) WHERE line_offset >= covered"
CREATE_APART = """
    CREATE OR REPLACE TEMP TABLE search_apart AS SELECT segment, line_offset FROM {docs} WHERE has_blobs
"""
ROWS_APART = "SELECT events.* FROM events SEMI JOIN search_apart USING (segment, line_offset)"
COUNTS_BY_WORD = "SELECT {counts} FROM search_matches"
TOTALS = "SELECT count(*), avg(line_length) FROM events WHERE {events}"
