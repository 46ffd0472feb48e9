"""What is in quarantine, by source and reason: lines of the log that are no events, and what imports rejected."""

from __future__ import annotations

from typing import Literal

import duckdb
import msgspec

from eventlog.errors import QueryFailed
from eventlog.queries.access import sandbox
from eventlog.queries.rows import rows_as

LIMIT_MAX = 10_000


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Lines of one source that are in quarantine for one reason, whatever the numbers in it; `reason` is one of theirs.

    `kind` is "import" for what an import rejected (`source` is what it was imported from), "conflict" for a line whose
    id another one has, and "line" for other lines of the log that are no events (`source` is their event type). First
    and last are in the order of segments and offsets (in bytes).
    """

    kind: Literal["import", "conflict", "line"]
    source: str | None
    reason: str
    lines: int
    first_segment: str
    first_offset: int
    last_segment: str
    last_offset: int


#: A store of one workspace sees no segments; and no line in it that is no event, whose type that would be.
_SEGMENTS = "LEFT JOIN (SELECT name, event_type FROM segments) AS place ON name = lines.segment"
_GROUPS = """
    SELECT kind, source, min(reason) AS reason, count(*) AS lines,
           arg_min(segment, (segment, line_offset)) AS first_segment,
           arg_min(line_offset, (segment, line_offset)) AS first_offset,
           arg_max(segment, (segment, line_offset)) AS last_segment,
           arg_max(line_offset, (segment, line_offset)) AS last_offset
    FROM (
        SELECT lines.segment, lines.line_offset, lines.reason,
               CASE WHEN imported.segment IS NOT NULL THEN 'import'
                    WHEN event_id IS NOT NULL THEN 'conflict' ELSE 'line' END AS kind,
               CASE WHEN imported.segment IS NOT NULL THEN imported.source ELSE {event_type} END AS source
        FROM quarantine AS lines
        LEFT JOIN (
            SELECT segment, line_offset, payload ->> 'source' AS source
            FROM events WHERE event_type = 'import_rejected'
        ) AS imported
          ON imported.segment = lines.segment AND imported.line_offset = lines.line_offset
        {segments}
    ) GROUP BY kind, source, regexp_replace(reason, '[0-9][0-9,]*', '0', 'g')
    ORDER BY lines DESC, kind, source NULLS FIRST, reason LIMIT $limit
"""


def read_quarantine(connection: duckdb.DuckDBPyConnection, *, of_all: bool, limit: int) -> list[Group]:
    """Return what is in quarantine, the largest groups first; `of_all`: the connection sees all workspaces.

    Raises QueryFailed for a limit that is not 1 to LIMIT_MAX.
    """
    if not 1 <= limit <= LIMIT_MAX:
        raise QueryFailed(f"limit {limit} is out of range: 1 to {LIMIT_MAX:,}")
    event_type, segments = ("place.event_type", _SEGMENTS) if of_all else ("NULL::VARCHAR", "")
    statement = _GROUPS.format(event_type=event_type, segments=segments)
    return rows_as(Group, sandbox.execute(connection, statement, {"limit": limit}))
