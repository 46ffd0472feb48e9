"""What is recorded, in a line: for `eventlog` without a command."""

from __future__ import annotations

from datetime import UTC, datetime

from eventlog.cli.text import counted
from eventlog.errors import EventlogError
from eventlog.queries.store import ReadStore
from eventlog.queries.text.units import duration

_WAIT_S, _TIMEOUT_S = 1.0, 5.0
#: Sessions by their ids: to make the view of them takes long.
_COUNTS = """
    SELECT count(*), (SELECT count(*) FROM runs),
           count(DISTINCT (workspace, session_id)) FILTER (session_id IS NOT NULL), max(timestamp)
    FROM events
"""


def counts(root: str, catch_up_s: float) -> str:
    """Return `5,429 events, 145 runs, 12 sessions, the newest 2 m 05 s ago,`; "" where that takes too long."""
    try:
        store = ReadStore(root, wait_s=_WAIT_S, timeout_s=_TIMEOUT_S)
        behind = store.catch_up(catch_up_s, say=lambda _: None)
        ((events, runs, sessions, newest),) = store.sql(_COUNTS).rows
    except EventlogError:
        return ""
    parts = [counted(events, "event"), counted(runs, "run"), counted(sessions, "session")]
    if newest is not None:
        age_ms = (datetime.now(UTC).replace(tzinfo=None) - newest).total_seconds() * 1000
        parts.append(f"the newest {duration(max(age_ms, 0))} ago,")
    return ("at least " if behind else "") + ", ".join(parts)
