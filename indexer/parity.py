"""Where an index differs from a replay of the same bytes: which rows, and what their lines say."""

from __future__ import annotations

from collections.abc import Mapping

import duckdb
import msgspec

from eventlog.indexer.index.schema import CONTENT, POSITION, columns
from eventlog.indexer.load.staging import as_table
from eventlog.indexer.sql import literal

#: So many differing rows are named; it is a pointer to the place, not a list of damages.
NAMED_MAX = 20


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A place whose row in the live index is not what its line says."""

    event_type: str
    segment: str
    line_offset: int
    what: str


def differences(connection: duckdb.DuckDBPyConnection, limits: Mapping[str, int]) -> list[Difference]:
    """Compare the replayed `events` with those of the attached database `live`, up to the limits."""
    rows = (msgspec.json.encode({"segment": name, "upto": upto}) for name, upto in limits.items())
    with as_table(rows, "segment: 'VARCHAR', upto: 'BIGINT'") as table:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE limits AS FROM {table}")
    content, places = columns(CONTENT), columns(POSITION)
    live = "(SELECT old.* FROM live.events old JOIN limits USING (segment) WHERE line_offset < upto)"
    found = connection.execute(
        f"""
        WITH live_only AS (SELECT {content}, {places} FROM {live} EXCEPT SELECT {content}, {places} FROM events),
             log_only AS (SELECT {content}, {places} FROM events EXCEPT SELECT {content}, {places} FROM {live})
        SELECT coalesce(l.event_type, r.event_type), coalesce(l.segment, r.segment),
               coalesce(l.line_offset, r.line_offset), l.event_id IS NULL, r.event_id IS NULL,
               [name FOR name IN [{_differing()}] IF name IS NOT NULL]
        FROM live_only l FULL JOIN log_only r USING (segment, line_offset)
        ORDER BY 2, 3 LIMIT {NAMED_MAX}
        """
    ).fetchall()
    return [
        Difference(event_type=row[0], segment=row[1], line_offset=row[2], what=_what(row[3], row[4], row[5]))
        for row in found
    ]


def _differing() -> str:
    return ", ".join(f"CASE WHEN l.{name} IS DISTINCT FROM r.{name} THEN {literal(name)} END" for name in CONTENT)


def _what(only_in_log: bool, only_in_index: bool, names: list[str]) -> str:
    if only_in_log:
        return "the line has no row"
    if only_in_index:
        return "the row has no such line"
    return f"the row differs from its line in {', '.join(names) or 'its length'}"
