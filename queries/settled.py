"""Whether an answer stays right while nothing is recorded, or time alone changes it."""

from __future__ import annotations

from datetime import datetime

import duckdb

from eventlog.format.timestamps import naive_utc

#: What is dated ahead of the clock counts, or counts otherwise, when that time has come.
_AHEAD = "SELECT count(*) FROM events WHERE timestamp > $now::TIMESTAMP"
_UNDECIDED = "SELECT count(*) FROM runs WHERE finished IS NULL AND abandoned_at >= $now::TIMESTAMP"
VIEWS = ("events", "runs")


def is_settled(connection: duckdb.DuckDBPyConnection, now: datetime, *, of_runs: bool) -> bool:
    """Say whether no event is dated after a moment.

    `of_runs`: no run may become abandoned either, by its silence or the end of its process.
    """
    questions = (_AHEAD, _UNDECIDED) if of_runs else (_AHEAD,)
    rows = [row for question in questions for row in connection.execute(question, {"now": naive_utc(now)}).fetchall()]
    return not any(count for (count,) in rows)
