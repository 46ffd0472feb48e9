"""Comparison of an index with a replay of the same bytes: which rows differ from their lines."""

from __future__ import annotations

from collections.abc import Mapping

import duckdb
import msgspec

from eventlog.indexer.index.schema import CONTENT, POSITION, columns
from eventlog.indexer.load.staging import as_table
from eventlog.indexer.sql import literal

#: Number of differing rows that are named: enough to see where to look.
NAMED_MAX = 20


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the live index that differs from its line in the log; the position is that of the line."""

    event_type: str
    segment: str
    line_offset: int
    #: As `the row differs from its line in timestamp, payload`.
    reason: str


def differences(connection: duckdb.DuckDBPyConnection, limits: Mapping[str, int]) -> list[Difference]:
    """Compare the replayed `event_rows` with those of the attached database `live`; return up to NAMED_MAX differences.

    `limits` maps segment names to the offsets up to which to compare.
    """
    rows = (msgspec.json.encode({"segment": name, "upto": upto}) for name, upto in limits.items())
    with as_table(rows, "segment: 'VARCHAR', upto: 'BIGINT'") as table:
        connection.execute(CREATE_LIMITS.format(rows=table))
    rows_of_differences = connection.execute(SELECT_DIFFERENCES).fetchall()
    return [
        Difference(event_type=row[0], segment=row[1], line_offset=row[2], reason=_reason(row[3], row[4], row[5]))
        for row in rows_of_differences
    ]


def _reason(only_in_log: bool, only_in_index: bool, names: list[str]) -> str:
    if only_in_log:
        return "the line has no row"
    if only_in_index:
        return "the row has no such line"
    return f"the row differs from its line in {', '.join(names) or 'its length'}"


# `live` is the compared index. The temporary table `limits` has an offset for each segment.

CREATE_LIMITS = "CREATE OR REPLACE TEMP TABLE limits AS FROM {rows}"
_ALL = columns(CONTENT, POSITION)
_LIVE = "(SELECT old.* FROM live.event_rows old JOIN limits USING (segment) WHERE line_offset < upto)"
_DIFFERING = ", ".join(f"CASE WHEN l.{name} IS DISTINCT FROM r.{name} THEN {literal(name)} END" for name in CONTENT)
SELECT_DIFFERENCES = f"""
WITH live_only AS (SELECT {_ALL} FROM {_LIVE} EXCEPT SELECT {_ALL} FROM event_rows),
     log_only AS (SELECT {_ALL} FROM event_rows EXCEPT SELECT {_ALL} FROM {_LIVE})
SELECT coalesce(l.event_type, r.event_type), coalesce(l.segment, r.segment),
       coalesce(l.line_offset, r.line_offset), l.event_id IS NULL, r.event_id IS NULL,
       [name FOR name IN [{_DIFFERING}] IF name IS NOT NULL]
FROM live_only l FULL JOIN log_only r USING (segment, line_offset)
ORDER BY 2, 3 LIMIT {NAMED_MAX}
"""
