"""Control events in the order in which they were recorded, in SQL (eventlog.log.clock has the rule)."""

from __future__ import annotations

from eventlog.log.clock import AHEAD_S

#: The ORDER BY key of rows of `recorded`.
ORDER = "(recorded, latest, segment, line_offset)"
#: Times after this are in the future: a clock ran ahead.
HORIZON = f"(now() AT TIME ZONE 'UTC' + to_seconds({AHEAD_S:g}))"


def recorded(condition: str, *, rows: str = "event_rows") -> str:
    """Return a query for events that match an SQL condition, with the additional columns `latest` and `recorded`.

    `latest` is the latest time at which an event can have been recorded: the earliest timestamp from its line to the
    end of its segment. `recorded` is the same; if it is in the future, the last `latest` of the segment that is not, or
    the epoch. `rows` is the table to read.
    """
    return f"""
    SELECT *,
           CASE WHEN latest <= {HORIZON} THEN latest
                ELSE coalesce(max(latest) FILTER (latest <= {HORIZON}) OVER (PARTITION BY segment), TIMESTAMP 'epoch')
           END AS recorded
    FROM (
        SELECT event_id, event_type, timestamp, workspace, payload, segment, line_offset,
               min(timestamp) OVER (PARTITION BY segment ORDER BY line_offset
                                    ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS latest
        FROM {rows} WHERE {condition}
    )"""
