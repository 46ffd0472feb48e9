"""Runs and sessions: which there are, and which one somebody means."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import duckdb
import msgspec

from eventlog.errors import QueryFailed
from eventlog.queries.access import sandbox
from eventlog.queries.identity import Named, chosen
from eventlog.record import runs as recording

Status = Literal["ok", "error", "cancelled", "running", "abandoned"]

LIMIT_MAX = 10_000
_CANDIDATES = 5
_LARGE = "(large; eventlog show --verbose has it)"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `runs`: durations in ms, times in UTC. `duration_ms` is None until the run is over.

    `starts` is how many times a run was started under this id; None where no event says that it began.
    """

    run_id: str
    name: str | None = None
    task: str | None = None
    workspace: str | None = None
    agent: str | None = None
    session_id: str | None = None
    status: str = "unknown"
    started: datetime | None = None
    finished: datetime | None = None
    last_event: datetime | None = None
    duration_ms: float | None = None
    error_type: str | None = None
    error_message: str | None = None
    events: int = 0
    steps: int = 0
    llm_calls: int = 0
    llm_failures: int = 0
    tool_calls: int = 0
    tool_failures: int = 0
    errors: int = 0
    uncached_input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    parent_run_id: str | None = None
    host: str | None = None
    boot: str | None = None
    pid: int | None = None
    starts: int | None = None
    event_id: str | None = None

    @property
    def input_tokens(self) -> int:
        """All of the input, cached or not."""
        return (
            self.uncached_input_tokens + self.cache_read_tokens
            + self.cache_write_5m_tokens + self.cache_write_1h_tokens
        )  # fmt: skip


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `sessions`. Times in UTC."""

    session_id: str
    first: datetime | None
    last: datetime | None
    duration_s: int | None
    events: int
    workspace: str | None
    agent: str | None
    project: str | None
    summary: str | None
    llm_calls: int
    tool_calls: int
    tool_failures: int
    models: list[str]
    uncached_input_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    output_tokens: int

    @property
    def input_tokens(self) -> int:
        """All of the input, cached or not."""
        return (
            self.uncached_input_tokens + self.cache_read_tokens
            + self.cache_write_5m_tokens + self.cache_write_1h_tokens
        )  # fmt: skip


# -- lists -----------------------------------------------------------------------------------


def runs(
    connection: duckdb.DuckDBPyConnection,
    *,
    agent: str | None = None,
    status: str | None = None,
    since: datetime | None = None,
    limit: int = 50,
) -> list[Run]:
    """Return runs, the one that began last first. `since` looks at when they began.

    A run that says it is running, on this machine in this boot, while no process has its pid, is
    abandoned at once; others are when nothing has come from them for a while.
    """
    if status is not None and status not in get_args(Status):
        raise QueryFailed(f"no run is {status!r}; it is one of {', '.join(get_args(Status))}")
    conditions, params = ["true"], list[Any]()
    if agent is not None:
        conditions.append("agent = ?")
        params.append(agent)
    if since is not None:
        conditions.append("started >= ?::TIMESTAMP")
        params.append(naive(since))
    alive_or_not = status in ("running", "abandoned")
    if status is not None:
        if status == "error":  # a word of a program's own for a run that is over, such as "timeout", too
            conditions.append("finished IS NOT NULL AND status NOT IN ('ok', 'cancelled')")
        else:
            conditions.append("status IN ('running', ?)" if alive_or_not else "status = ?")
            params.append(status)
    # Which of the two it is, only a look at the processes tells.
    ending = "" if alive_or_not else f" LIMIT {checked_limit(limit)}"
    cursor = sandbox.execute(
        connection,
        f"SELECT {', '.join(Run.__struct_fields__)} FROM runs WHERE {' AND '.join(conditions)} "
        f"ORDER BY started DESC NULLS LAST, run_id{ending}",
        params,
    )
    found: list[Run] = []
    while len(found) < checked_limit(limit) and (rows := cursor.fetchmany(limit)):
        found += [run for run in map(of_row, rows) if status in (None, run.status) or status == "error"]
    return found[:limit]


def run(connection: duckdb.DuckDBPyConnection, which: Named) -> Run | None:
    """Return one run; None where none of its events says that it began or ended."""
    rows = connection.execute(
        f"SELECT {', '.join(Run.__struct_fields__)} FROM runs WHERE {which.condition}", which.params
    ).fetchall()
    return of_row(rows[0]) if rows else None


def children(connection: duckdb.DuckDBPyConnection, which: Named) -> list[Run]:
    """Return the runs of the same workspace that name this one as their parent, in order of their beginning."""
    rows = connection.execute(
        f"SELECT {', '.join(Run.__struct_fields__)} FROM runs WHERE parent_run_id = $id AND run_id <> parent_run_id "
        f"AND workspace IS NOT DISTINCT FROM $workspace::VARCHAR ORDER BY started, run_id LIMIT {LIMIT_MAX}",
        which.params,
    ).fetchall()
    return [of_row(row) for row in rows]


def sessions(
    connection: duckdb.DuckDBPyConnection,
    *,
    agent: str | None = None,
    since: datetime | None = None,
    limit: int = 50,
) -> list[Session]:
    """Return sessions, the one that said something last first. `since` looks at when that was."""
    conditions, params = ["true"], list[Any]()
    if agent is not None:
        conditions.append("agent = ?")
        params.append(agent)
    if since is not None:
        conditions.append("last >= ?::TIMESTAMP")
        params.append(naive(since))
    names = Session.__struct_fields__
    rows = sandbox.execute(
        connection,
        f"SELECT {', '.join(names)} FROM sessions WHERE {' AND '.join(conditions)} "
        f"ORDER BY last DESC NULLS LAST, session_id LIMIT {checked_limit(limit)}",
        params,
    ).fetchall()
    return [_session(dict(zip(names, row, strict=True))) for row in rows]


def _session(values: dict[str, Any]) -> Session:
    models = [model for model in values["models"] if model is not None]  # a call may name none
    return Session(**_with_zone(values, "first", "last") | {"models": models})


def of_row(row: tuple[Any, ...]) -> Run:
    values = _with_zone(dict(zip(Run.__struct_fields__, row, strict=True)), "started", "finished", "last_event")
    values["event_id"] = str(values["event_id"])
    if (values["task"] or "").startswith('{"$blob":'):
        values["task"] = _LARGE
    found = Run(**values)
    return msgspec.structs.replace(found, status="abandoned") if _is_dead(found) else found


def _with_zone(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return values | {name: values[name].replace(tzinfo=UTC) for name in names if values[name] is not None}


def naive(moment: datetime) -> datetime:
    """Return a time as the index has it: UTC without a zone. One without a zone is taken as UTC."""
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def checked_limit(limit: int) -> int:
    """Return a limit. Raises QueryFailed for one that is out of range."""
    if not 1 <= limit <= LIMIT_MAX:
        raise QueryFailed(f"limit {limit} is out of range: 1 to {LIMIT_MAX:,}")
    return limit


# -- whose process is gone -------------------------------------------------------------------


def _is_dead(run: Run) -> bool:
    """Whether a running run's owner was a process of this machine, in this boot, and is no more."""
    if run.status != "running" or run.pid is None or run.host is None or run.boot is None:
        return False
    return (run.host, run.boot) == (os.uname().nodename, recording.boot()) and not _is_alive(run.pid)


def _is_alive(pid: int) -> bool:
    if not 0 < pid < 2**31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


# -- which one is meant ----------------------------------------------------------------------


def run_named(connection: duckdb.DuckDBPyConnection, given: str) -> Named | None:
    """Return the run that is called so, or whose id alone begins so; None where there is none.

    Events may belong to a run that nobody began; it counts, too. Where several workspaces have one of this id, the
    one without a workspace is meant. Raises QueryFailed, with candidates, where several begin so.
    """
    return _named(connection, given, "run_id", "run")


def session_named(connection: duckdb.DuckDBPyConnection, given: str) -> Named | None:
    """Return a session, as `run_named` does a run."""
    return _named(connection, given, "session_id", "session")


def _named(
    connection: duckdb.DuckDBPyConnection, given: str, column: Literal["run_id", "session_id"], noun: str
) -> Named | None:
    if not given:
        return None
    rows = connection.execute(
        f"SELECT {column}, list(DISTINCT workspace) AS workspaces, max(timestamp) AS last FROM events "
        f"WHERE starts_with({column}, ?) GROUP BY 1 ORDER BY {column} = ? DESC, last DESC, 1 LIMIT {_CANDIDATES + 1}",
        [given, given],
    ).fetchall()
    if not rows:
        return None
    found = [str(row[0]) for row in rows]
    if found[0] == given or len(found) == 1:
        return Named(column, found[0], chosen(f"a {noun} {found[0]!r}", rows[0][1]))
    more = ", …" if len(found) > _CANDIDATES else ""
    raise QueryFailed(f"several {noun}s begin with {given!r}: {', '.join(found[:_CANDIDATES])}{more}; give more of it")


def no_such_run(given: str) -> QueryFailed:
    """Make the error for a run that is not there."""
    return QueryFailed(f"there is no run {given!r}; try: eventlog runs (and eventlog index, for what is new)")


def no_such_session(given: str) -> QueryFailed:
    """Make the error for a session that is not there."""
    return QueryFailed(f"there is no session {given!r}; try: eventlog sessions")


def neither(given: str) -> QueryFailed:
    """Make the error for what is neither a run nor a session."""
    return QueryFailed(f"there is no run or session {given!r}; try: eventlog runs, or: eventlog sessions")
