"""The health of agents: 100 minus the penalties of a window of time, with what was found and how to find it again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import msgspec

from eventlog.errors import QueryFailed
from eventlog.queries.cost import costs
from eventlog.queries.health import evidence
from eventlog.queries.health.evidence import Window
from eventlog.queries.health.penalties import CHECKS, Check, Row
from eventlog.queries.metrics.aggregates import naive

WINDOW = timedelta(hours=24)
WINDOW_MIN, WINDOW_MAX = timedelta(minutes=1), timedelta(days=366)
#: The least score of each grade.
GRADES = (("A", 90), ("B", 80), ("C", 70), ("D", 60), ("F", 0))

#: More than anybody has.
AGENTS_MAX = 10_000

#: Of whom: workspace and agent.
Who = tuple[str | None, str | None]


class Penalty(msgspec.Struct, frozen=True, kw_only=True):
    """Points taken off, 0 to `points_max`, for what was `found`. `judged` is false where there was too little to judge.

    `query` is the SQL that found it, for `eventlog sql`.
    """

    name: str
    points: int
    points_max: int
    judged: bool
    found: str
    query: str


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The score of an agent, 100 minus the points of its penalties, 0 at least; and its grade, A to F.

    Both are None where nothing could be judged. From `since` on, and before `until`; `last_event` is before that.
    All times are UTC.
    """

    workspace: str | None
    agent: str | None
    score: int | None
    grade: str | None
    since: datetime
    until: datetime
    last_event: datetime | None
    penalties: list[Penalty]


def health(
    connection: duckdb.DuckDBPyConnection,
    agent: str | None = None,
    *,
    now: datetime | None = None,
    window: timedelta = WINDOW,
) -> list[Health]:
    """Return the health of all agents, or of those of a name, by workspace and name. Raises QueryFailed.

    An agent is judged by the `window` before `now`, compared with the seven windows before that. What the
    index holds is looked at as it is, so that of a past `now` later news of its runs are known.
    """
    if not WINDOW_MIN <= window <= WINDOW_MAX:
        raise QueryFailed(f"a window of {window} is out of range: 1 minute to {WINDOW_MAX.days} days")
    try:
        judged = Window(naive(now) or datetime.now(UTC).replace(tzinfo=None), window)
        _ = judged.before
    except OverflowError:
        raise QueryFailed(f"{now} is too early: there is no time before it") from None
    costs.provide(connection)
    last = {who: row["last_event"] for who, row in _rows(connection, evidence.agents(judged)).items()}
    if len(last) > AGENTS_MAX:
        raise QueryFailed(f"there are more than {AGENTS_MAX:,} agents; look at one workspace at a time")
    found = {check.name: _rows(connection, check.evidence(judged)) for check in CHECKS}
    everyone = sorted({*last, *found["drops"]}, key=lambda who: tuple((each is not None, each or "") for each in who))
    return [
        _health(who, judged, last.get(who), {name: rows.get(who) for name, rows in found.items()})
        for who in everyone
        if agent is None or who[1] == agent
    ]


def _rows(connection: duckdb.DuckDBPyConnection, query: str) -> dict[Who, Row]:
    cursor = connection.execute(query)
    names = [column[0] for column in cursor.description or []]
    rows: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return {(row["workspace"], row["agent"]): row for row in rows}


def _health(who: Who, window: Window, last_event: datetime | None, found: dict[str, Row | None]) -> Health:
    penalties = [_penalty(check, found[check.name], window, who) for check in CHECKS]
    score = None
    if any(each.judged for each in penalties):
        score = max(0, 100 - sum(each.points for each in penalties))
    return Health(
        workspace=who[0],
        agent=who[1],
        score=score,
        grade=None if score is None else grade(score),
        since=window.since.replace(tzinfo=UTC),
        until=window.now.replace(tzinfo=UTC),
        last_event=None if last_event is None else last_event.replace(tzinfo=UTC),
        penalties=penalties,
    )


def grade(score: int) -> str:
    """Return the grade of a score."""
    return next(name for name, least in GRADES if score >= least)


def _penalty(check: Check, row: Row | None, window: Window, who: Who) -> Penalty:
    points, words = (None, check.missing) if row is None else check.judge(row)
    return Penalty(
        name=check.name,
        points=0 if points is None else int(points + 0.5),
        points_max=check.points_max,
        judged=points is not None,
        found=words,
        query=evidence.of_agent(check.evidence(window), *who),
    )
