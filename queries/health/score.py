"""The health score of agents: 100 minus the penalties for a window of time, each with its reason and its SQL."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import duckdb
import msgspec

from eventlog.errors import QueryFailed
from eventlog.format.timestamps import naive_utc, utc
from eventlog.queries.cost import costs
from eventlog.queries.health import evidence
from eventlog.queries.health.evidence import Window
from eventlog.queries.health.penalties import CHECKS, Check, Row
from eventlog.queries.rows import rows_as_dicts
from eventlog.queries.runs import owners

WINDOW = timedelta(hours=24)
WINDOW_MIN, WINDOW_MAX = timedelta(minutes=1), timedelta(days=366)
#: Each grade, and the lowest score that has it.
GRADES = (("A", 90), ("B", 80), ("C", 70), ("D", 60), ("F", 0))

#: Scored in one call.
AGENTS_MAX = 10_000

#: Workspace and name.
Agent = tuple[str | None, str | None]


class Penalty(msgspec.Struct, frozen=True, kw_only=True):
    """The points, 0 to `points_max`, that a check took off, and in `found` the reason.

    `judged` is false where there was too little data. `query` is the SQL of the evidence, for `eventlog sql`.
    """

    name: str
    points: int
    points_max: int
    judged: bool
    found: str
    query: str


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The score of an agent, 0 to 100, and its grade, A to F; both None if no check had enough data.

    The window is from `since`, included, to `until`, excluded. `last_event` is the last one before `until`. Times are
    in UTC.
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
    """Return the health of all agents, or of the agents with this name, sorted by workspace and name.

    The `window` before `now` (the present by default) is scored, and compared with the seven windows before it. For a
    `now` in the past, the index already has the later events of its runs. Raises QueryFailed for a window that is not
    1 minute to 366 days, a `now` at the beginning of time, and for more than AGENTS_MAX agents.
    """
    if not WINDOW_MIN <= window <= WINDOW_MAX:
        raise QueryFailed(f"a window of {window} is out of range: 1 minute to {WINDOW_MAX.days} days")
    try:
        scored = Window(naive_utc(now or datetime.now(UTC)), window)
        _ = scored.before
    except OverflowError:
        raise QueryFailed(f"{now} is too early: there is no time before it") from None
    if now is None:
        scored = Window(scored.now, window, owners.gone(connection))
    costs.provide(connection)
    last = {key: row["last_event"] for key, row in _rows(connection, evidence.AGENTS, scored).items()}
    if len(last) > AGENTS_MAX:
        raise QueryFailed(f"there are more than {AGENTS_MAX:,} agents; look at one workspace at a time")
    rows = {check.name: _rows(connection, check.query, scored) for check in CHECKS}
    agents = sorted({*last, *rows["drops"]}, key=lambda key: tuple((part is not None, part or "") for part in key))
    return [
        _health(key, scored, last.get(key), {name: by_agent.get(key) for name, by_agent in rows.items()})
        for key in agents
        if agent is None or key[1] == agent
    ]


def _rows(connection: duckdb.DuckDBPyConnection, query: str, window: Window) -> dict[Agent, Row]:
    rows = rows_as_dicts(connection.execute(evidence.of_window(query, window)))
    return {(row["workspace"], row["agent"]): row for row in rows}


def _health(agent: Agent, window: Window, last_event: datetime | None, rows: dict[str, Row | None]) -> Health:
    penalties = [_penalty(check, rows[check.name], window, agent) for check in CHECKS]
    score = None
    if any(penalty.judged for penalty in penalties):
        score = max(0, 100 - sum(penalty.points for penalty in penalties))
    return Health(
        workspace=agent[0],
        agent=agent[1],
        score=score,
        grade=None if score is None else grade(score),
        since=utc(window.since),
        until=utc(window.now),
        last_event=last_event,
        penalties=penalties,
    )


def grade(score: int) -> str:
    """Return the grade of a score: 85 has "B"."""
    return next(name for name, least in GRADES if score >= least)


def rounded(points: Fraction | int) -> int:
    """Return points as a whole number, halves up: 2 for 3/2, 7 for 7."""
    return math.floor(points + Fraction(1, 2))


def _penalty(check: Check, row: Row | None, window: Window, agent: Agent) -> Penalty:
    points, words = (None, check.missing) if row is None else check.judge(row)
    return Penalty(
        name=check.name,
        points=0 if points is None else rounded(points),
        points_max=check.points_max,
        judged=points is not None,
        found=words,
        query=evidence.of_agent(evidence.of_window(check.query, window), *agent),
    )
