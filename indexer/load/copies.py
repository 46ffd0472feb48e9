"""Lines that a program copied: a fork, or a session that is resumed, begins with the lines of another one.

Copies are `copied`, and stand in the view `copies` instead of `events`. A source says which they are: by a select
(`CopiedLines` of eventlog.indexer.views.sources), or by the column by which a line and its copies are known, and which
lines say themselves that they are copies (`Copies`). Of the lines with one mark, one is the original, in this order:

1. one that does not say that it is a copy;
2. that of the older session. A session is as old as the first line that no other has, unless as a copy that says so.
   One that shares all of its lines has not gone on since they were copied, and is older than the others; of several,
   the one that ended first;
3. the one that stands first in the log.

Copies have the time and the text of the original, so no line alone shows which it is. All lines of a source are looked
at again when a batch brings a line that is there already, or any line of a session that shares some: so the result
depends on the log alone, not on the order in which it was indexed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import duckdb

from eventlog.indexer.sql import ident, literal
from eventlog.indexer.views import sources
from eventlog.indexer.views.sources import CopiedLines, Copies


def mark(connection: duckdb.DuckDBPyConnection, since: Mapping[str, int], event_types: frozenset[str]) -> None:
    """Mark copies, after rows were stored: those of these types, in each segment from an offset on."""
    arrived: list[list[Any]] = [list(since), list(since.values())]
    for rule in sources.copies():
        if rule.event_type not in event_types:
            continue
        if isinstance(rule, CopiedLines):
            _mark_forks(connection, rule, OF_ARRIVED, arrived)
        else:
            parts = _parts(rule)
            connection.execute(CREATE_ARRIVED.format(**parts), arrived)
            if connection.execute(ANY_SHARED.format(**parts)).fetchone() is not None:
                connection.execute(UPDATE_COPIED.format(**parts))


def mark_all(connection: duckdb.DuckDBPyConnection, event_types: Collection[str] | None = None) -> None:
    """Mark all copies anew, of these types or of all; after rows were stored again at their earlier positions."""
    for rule in sources.copies():
        if event_types is not None and rule.event_type not in event_types:
            continue
        if isinstance(rule, CopiedLines):
            _mark_forks(connection, rule, OF_ALL, [])
        else:
            connection.execute(UPDATE_COPIED.format(**_parts(rule)))


def _mark_forks(connection: duckdb.DuckDBPyConnection, rule: CopiedLines, which: str, params: list[list[Any]]) -> None:
    """Mark the copies of forks anew: of all, or of those that lines of a batch belong to, or to an ancestor of."""
    event_type = literal(rule.event_type)
    connection.execute(CREATE_FORKS.format(forks=rule.forks, which=which.format(event_type=event_type)), params)
    if connection.execute(ANY_FORKS).fetchone() is not None:
        lines = rule.lines.replace("event_rows", "family")
        connection.execute(UPDATE_FORKS.format(event_type=event_type, lines=lines))


def _parts(rule: Copies) -> dict[str, str]:
    return {
        "event_type": literal(rule.event_type),
        "line": ident(rule.line.column),
        "fork": rule.fork,
    }


# -- statements ------------------------------------------------------------------------------

# `{event_type}`, `{line}` and `{fork}` are those of a rule. Temporary table: `arrived`, lines that a batch has brought.

CREATE_ARRIVED = """
CREATE OR REPLACE TEMP TABLE arrived AS
SELECT workspace, session_id, {line} AS line
FROM event_rows JOIN (SELECT unnest(?::VARCHAR[]) AS name, unnest(?::BIGINT[]) AS start) AS since
  ON segment = since.name AND line_offset >= since.start
WHERE event_type = {event_type} AND {line} IS NOT NULL
"""
_SAME_LINE = "arrived.line = rows.{line} AND arrived.workspace IS NOT DISTINCT FROM rows.workspace"
ANY_SHARED = f"""
WITH sharing AS (
    SELECT DISTINCT workspace, session_id FROM event_rows rows
    WHERE {{line}} IN (SELECT {{line}} FROM event_rows WHERE copied AND event_type = {{event_type}})
)
SELECT 1 WHERE EXISTS (
    SELECT 1 FROM event_rows rows SEMI JOIN arrived ON {_SAME_LINE}
    WHERE event_type = {{event_type}} GROUP BY workspace, {{line}} HAVING count(*) > 1
) OR EXISTS (
    SELECT 1 FROM arrived JOIN sharing ON arrived.session_id IS NOT DISTINCT FROM sharing.session_id
        AND arrived.workspace IS NOT DISTINCT FROM sharing.workspace
)
"""
UPDATE_COPIED = """
WITH lines AS (
    SELECT rowid AS id, workspace, session_id, {line} AS line, coalesce(({fork})::BOOLEAN, false) AS fork,
           timestamp, segment, line_offset, count(*) OVER of_line AS times,
           count(*) FILTER (NOT coalesce(({fork})::BOOLEAN, false)) OVER of_line AS unmarked
    FROM event_rows WHERE event_type = {event_type} AND {line} IS NOT NULL
    WINDOW of_line AS (PARTITION BY workspace, {line})
), ages AS (
    SELECT workspace, session_id, max(timestamp) AS ended,
           min(timestamp) FILTER (NOT fork AND unmarked = 1 AND timestamp > 'epoch') AS began
    FROM lines GROUP BY workspace, session_id
), ranked AS (
    SELECT id, row_number() OVER (
               PARTITION BY lines.workspace, line ORDER BY fork, began NULLS FIRST, ended, segment, line_offset
           ) AS position
    FROM lines JOIN ages
      ON ages.session_id IS NOT DISTINCT FROM lines.session_id AND ages.workspace IS NOT DISTINCT FROM lines.workspace
    WHERE times > 1
)
UPDATE event_rows SET copied = CASE WHEN position > 1 THEN true END FROM ranked
WHERE event_rows.rowid = ranked.id AND copied IS DISTINCT FROM CASE WHEN position > 1 THEN true END
"""
# Of forks: temporary table `forks`, those whose copies are marked anew, a row for each of their ancestors.
CREATE_FORKS = """
CREATE OR REPLACE TEMP TABLE forks AS
SELECT DISTINCT fork.workspace, fork.session_id, ancestor FROM ({forks}) AS fork {which}
"""
OF_ARRIVED = """
SEMI JOIN (
    SELECT DISTINCT workspace, session_id
    FROM event_rows JOIN (SELECT unnest(?::VARCHAR[]) AS name, unnest(?::BIGINT[]) AS start) AS since
      ON segment = since.name AND line_offset >= since.start
    WHERE event_type = {event_type}
) AS arrived
  ON arrived.session_id IN (fork.session_id, ancestor) AND arrived.workspace IS NOT DISTINCT FROM fork.workspace
"""
OF_ALL = ""
ANY_FORKS = "SELECT 1 FROM forks LIMIT 1"
UPDATE_FORKS = """
WITH family AS (
    SELECT * FROM event_rows SEMI JOIN (
        SELECT workspace, session_id FROM forks UNION SELECT workspace, ancestor FROM forks
    ) AS member
      ON event_rows.session_id = member.session_id AND event_rows.workspace IS NOT DISTINCT FROM member.workspace
), found AS (
    SELECT rows.rowid AS id, CASE WHEN lines.event_id IS NOT NULL THEN true END AS mark
    FROM event_rows AS rows
    SEMI JOIN forks
      ON rows.session_id = forks.session_id AND rows.workspace IS NOT DISTINCT FROM forks.workspace
    LEFT JOIN ({lines}) AS lines
      ON rows.event_id = lines.event_id AND rows.workspace IS NOT DISTINCT FROM lines.workspace
    WHERE event_type = {event_type}
)
UPDATE event_rows SET copied = mark FROM found WHERE event_rows.rowid = found.id AND copied IS DISTINCT FROM mark
"""
