"""Control events in the order in which they were recorded (eventlog.log.clock), in SQL."""

from __future__ import annotations

from eventlog.log.clock import AHEAD_S

#: What orders the rows of `recorded`.
ORDER = "(recorded, latest, segment, line_offset)"
#: Times beyond this lie in the future.
HORIZON = f"(now() AT TIME ZONE 'UTC' + to_seconds({AHEAD_S:g}))"


def recorded(condition: str, *, rows: str = "event_rows") -> str:
    """Return a query for the events of a condition, with two columns more.

    `latest` is when one was recorded at the latest, and `recorded` the same where it is believable, else
    that of the last believable one before it in its segment, or the epoch.
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
