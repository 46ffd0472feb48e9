"""Lists of runs and sessions, and the run or session that an id means."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, get_args

import duckdb
import msgspec

from eventlog.errors import QueryFailed
from eventlog.format import timestamps
from eventlog.format.timestamps import naive_utc
from eventlog.indexer.sql import literals
from eventlog.indexer.views import definitions
from eventlog.indexer.views.definitions import Outcome
from eventlog.indexer.views.recorded import RUNS
from eventlog.queries.access import sandbox
from eventlog.queries.identity import Column, NotFound, Scope, chosen
from eventlog.queries.rows import rows_as_dicts
from eventlog.queries.runs import call_costs, owners

LIMIT_MAX = 10_000
CANDIDATES = 5
_LARGE = "(large; eventlog show --verbose has it)"


def cursor(moment: datetime | None, id_: str, workspace: str | None) -> str:
    """Return what to pass as `after` for the page behind a row: its place in the order of a list."""
    text = None if moment is None else timestamps.to_text(moment)
    return msgspec.json.encode((text, id_, workspace)).decode()


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the view `runs`. Times are in UTC, with their zone; `duration_ms` is None until the run has finished.

    `status` is the word that the run reported, or "running" or "abandoned" while it is open; `outcome` is ok, error,
    cancelled, running or abandoned, whatever words a program has. Both are "unknown" of events without a run.
    `starts` counts the runs that used this id, usually 1; None if the index has no `run_started` event of it.
    """

    run_id: str
    name: str | None = None
    task: str | None = None
    workspace: str | None = None
    agent: str | None = None
    session_id: str | None = None
    status: str = "unknown"
    outcome: str = "unknown"
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
        """All input tokens, cached or not."""
        return (
            self.uncached_input_tokens + self.cache_read_tokens
            + self.cache_write_5m_tokens + self.cache_write_1h_tokens
        )  # fmt: skip


class PricedRun(Run, frozen=True, kw_only=True):
    """A run with the cost of its model calls.

    `cost_usd` does not include the `unpriced` calls, and is None where no call has a price.
    """

    cost_usd: Decimal | None = None
    unpriced: int = 0

    @property
    def cursor(self) -> str:
        """Its place in a list: pass that of the last one as `after` for the next page."""
        return cursor(self.started, self.run_id, self.workspace)


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the view `sessions`, with the cost of its model calls. Times are in UTC, with their zone.

    `cost_usd` does not include the `unpriced` calls, and is None where no call has a price.
    """

    session_id: str
    first: datetime | None
    last: datetime | None
    duration_s: int | None
    events: int
    workspace: str | None
    agent: str | None
    project: str | None
    branch: str | None
    summary: str | None
    title: str | None
    title_source: str | None
    llm_calls: int
    tool_calls: int
    tool_failures: int
    models: list[str]
    uncached_input_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    output_tokens: int
    cost_usd: Decimal | None = None
    unpriced: int = 0

    @property
    def cursor(self) -> str:
        """Its place in a list: pass that of the last one as `after` for the next page."""
        return cursor(self.last, self.session_id, self.workspace)

    @property
    def input_tokens(self) -> int:
        """All input tokens, cached or not."""
        return (
            self.uncached_input_tokens + self.cache_read_tokens
            + self.cache_write_5m_tokens + self.cache_write_1h_tokens
        )  # fmt: skip


# -- lists -----------------------------------------------------------------------------------

_OUTCOME = definitions.outcome("now() AT TIME ZONE 'UTC'", "{gone}")
_COLUMNS = {
    "event_id": "event_id::VARCHAR AS event_id",
    "status": f"CASE WHEN finished IS NULL THEN {_OUTCOME} ELSE status END AS status",
    "outcome": f"{_OUTCOME} AS outcome",
}
_SESSION_COLUMNS = ", ".join(name for name in Session.__struct_fields__ if name not in ("cost_usd", "unpriced"))
_RUN_COLUMNS = ", ".join(_COLUMNS.get(name, name) for name in Run.__struct_fields__)


_LISTED = f"""
    FROM runs
    WHERE ($agent::VARCHAR IS NULL OR agent = $agent) AND ($since::TIMESTAMP IS NULL OR started >= $since::TIMESTAMP)
      AND ($outcome::VARCHAR IS NULL OR {_OUTCOME} = $outcome)
      AND {{has_words}} AND {{is_after}}
    ORDER BY started DESC NULLS LAST, run_id, workspace NULLS FIRST LIMIT $limit
"""
_LIST_RUNS = f"SELECT {_RUN_COLUMNS} {_LISTED}"
_LIST_RUN_IDS = f"SELECT DISTINCT run_id FROM (SELECT run_id {_LISTED})"
#: The view `runs` over the events of these runs alone, which gives the same rows of them. It is no question of the
#: whole view, since DuckDB sums up all runs before it joins them.
_OF_THESE = f"event_rows AS NOT MATERIALIZED (FROM event_rows WHERE run_id IN ({{ids}})), runs AS ({RUNS})"
#: In a smaller index, one more question takes longer than all runs; more ids than this make a long statement.
NARROWED_ROWS_MIN, _NARROWED_IDS_MAX = 100_000, 1000
_WITH = "WITH {views} {statement}"
_COUNT_ROWS = "SELECT count(*) FROM event_rows"
_RUNS_IN = f"SELECT {_RUN_COLUMNS} FROM runs WHERE {{scope}} ORDER BY started, run_id LIMIT {LIMIT_MAX}"
_CHILD_RUNS = f"""
    SELECT {_RUN_COLUMNS} FROM runs
    WHERE parent_run_id = $id AND run_id <> parent_run_id AND workspace IS NOT DISTINCT FROM $workspace::VARCHAR
    ORDER BY started, run_id LIMIT {LIMIT_MAX}
"""
_LIST_SESSIONS = f"""
    SELECT {_SESSION_COLUMNS} FROM sessions
    WHERE ($agent::VARCHAR IS NULL OR agent = $agent) AND ($since::TIMESTAMP IS NULL OR last >= $since::TIMESTAMP)
      AND {{has_words}} AND {{is_after}}
    ORDER BY last DESC NULLS LAST, session_id, workspace NULLS FIRST LIMIT $limit
"""
_ONE_SESSION = f"""
    SELECT {_SESSION_COLUMNS} FROM sessions
    WHERE session_id = $id AND workspace IS NOT DISTINCT FROM $workspace::VARCHAR
"""


def list_runs(
    connection: duckdb.DuckDBPyConnection,
    *,
    agent: str | None = None,
    status: str | None = None,
    since: datetime | None = None,
    words: Collection[str] = (),
    limit: int = 50,
    after: str | None = None,
    narrowed_from: int | None = None,
) -> list[PricedRun]:
    """List runs, newest first: those that started at `since` or later, 1 to LIMIT_MAX of them.

    In an index of `narrowed_from` rows or more, first it is found which runs these are, and only they are summed up;
    None: never, as in a workspace, whose reader does not see the table of events.

    With `words`, those that have each of them in name, task, agent or id, in any case. `after` is the `cursor` of the
    last one of the page before.

    `status` is one of `Outcome`; a run with a status of the program's own, such as "timeout", is an error. A run whose
    process has died on this machine since the last boot is `abandoned` at once; other runs are after a time without
    events. Raises QueryFailed for an unknown status and a limit out of range.
    """
    if status is not None and status not in get_args(Outcome):
        raise QueryFailed(f"unknown status {status!r}; use one of {', '.join(get_args(Outcome))}")
    params = {"agent": agent, "outcome": status, "since": since and naive_utc(since), "limit": checked_limit(limit)}
    is_after, position = after_position(after, "started", "run_id")
    params |= position
    gone = definitions.NOBODY_IS_GONE if status is None else owners.gone(connection)

    def listed(statement: str, views: str = "") -> list[dict[str, Any]]:
        columns = ("name", "task", "agent", "run_id")
        statement = statement.replace("{gone}", gone).replace("{is_after}", is_after)
        return _with_words(connection, statement, params, words, columns, views=views)

    of_these = ""
    if narrowed_from is not None and limit <= _NARROWED_IDS_MAX and _count_rows(connection) >= narrowed_from:
        ids = listed(_LIST_RUN_IDS)
        if not ids:
            return []
        of_these = _OF_THESE.replace("{ids}", literals(row["run_id"] for row in ids))
    rows = listed(_LIST_RUNS, of_these)
    if status is None and any(row["finished"] is None and owners.is_of_here(row["host"], row["boot"]) for row in rows):
        gone = owners.gone(connection)
        rows = listed(_LIST_RUNS, of_these)
    found = [PricedRun(**_plain(row)) for row in rows]
    sums = call_costs.sums(connection, "run_id", [run.run_id for run in found if run.llm_calls])
    return [call_costs.with_sum(run, sums.get((run.run_id, run.workspace))) for run in found]


def _count_rows(connection: duckdb.DuckDBPyConnection) -> int:
    ((count,),) = connection.execute(_COUNT_ROWS).fetchall()
    return int(count)


def read_run(connection: duckdb.DuckDBPyConnection, run: Scope, gone: str | None = None) -> Run | None:
    """Return one run; None if the index has neither its `run_started` nor its `run_finished`.

    `gone` is what `owners.gone` returned, for who reads many runs.
    """
    return next(iter(_runs(connection, run.within(_RUNS_IN), run, gone)), None)


def runs_in(connection: duckdb.DuckDBPyConnection, scope: Scope) -> list[Run]:
    """Return the runs of a session, or a run itself, in order of their start."""
    return _runs(connection, scope.within(_RUNS_IN), scope)


def child_runs(connection: duckdb.DuckDBPyConnection, parent: Scope) -> list[Run]:
    """Return the runs of the same workspace whose `parent_run_id` is this run, in order of their start."""
    return _runs(connection, _CHILD_RUNS, parent)


def _runs(connection: duckdb.DuckDBPyConnection, statement: str, scope: Scope, gone: str | None = None) -> list[Run]:
    statement = statement.replace("{gone}", gone or owners.gone(connection))
    return [Run(**_plain(row)) for row in rows_as_dicts(connection.execute(statement, scope.params))]


def list_sessions(
    connection: duckdb.DuckDBPyConnection,
    *,
    agent: str | None = None,
    since: datetime | None = None,
    words: Collection[str] = (),
    limit: int = 50,
    after: str | None = None,
) -> list[Session]:
    """List sessions, the one with the latest event first: those with an event at `since` or later.

    With `words`, those that have each of them in title, summary, project, branch, agent or id, in any case. `after` is
    the `cursor` of the last one of the page before; a session that gets events meanwhile moves to the first page.
    Raises QueryFailed for a limit that is not 1 to LIMIT_MAX.
    """
    is_after, position = after_position(after, "last", "session_id")
    params = {"agent": agent, "since": since and naive_utc(since), "limit": checked_limit(limit), **position}
    columns = ("title", "summary", "project", "branch", "agent", "session_id")
    statement = _LIST_SESSIONS.replace("{is_after}", is_after)
    return _sessions(connection, _with_words(connection, statement, params, words, columns))


def read_session(connection: duckdb.DuckDBPyConnection, session: Scope) -> Session | None:
    """Return one session; None if no event names it."""
    rows = rows_as_dicts(connection.execute(_ONE_SESSION, session.params))
    return next(iter(_sessions(connection, rows)), None)


def _sessions(connection: duckdb.DuckDBPyConnection, rows: list[dict[str, Any]]) -> list[Session]:
    """Return rows of the view `sessions` with their costs."""
    for row in rows:
        row["models"] = [model for model in row["models"] if model is not None]  # a call may name none
    found = [Session(**row) for row in rows]
    sums = call_costs.sums(connection, "session_id", [session.session_id for session in found if session.llm_calls])
    return [call_costs.with_sum(session, sums.get((session.session_id, session.workspace))) for session in found]


def _with_words(
    connection: duckdb.DuckDBPyConnection,
    statement: str,
    params: dict[str, Any],
    words: Collection[str],
    columns: Collection[str],
    *,
    views: str = "",
) -> list[dict[str, Any]]:
    """Return the rows of a list of which some columns have all words, in any case; `views` are those of a WITH."""
    has_words = "true"
    if words:
        text = f"lower(concat_ws(chr(10), {', '.join(columns)}))"
        has_words = f"len([word FOR word IN $words::VARCHAR[] IF NOT contains({text}, lower(word))]) = 0"
        params = {**params, "words": [*words]}
    statement = statement.replace("{has_words}", has_words)
    if views:  # last: ids in them may be anything
        statement = _WITH.replace("{statement}", statement).replace("{views}", views)
    return rows_as_dicts(sandbox.execute(connection, statement, params))


_COUNT_SESSIONS = """
    SELECT count(*) FROM (SELECT DISTINCT workspace, session_id FROM events WHERE session_id IS NOT NULL)
"""


def count_sessions(connection: duckdb.DuckDBPyConnection) -> int:
    """Return how many sessions there are, without reading what they did."""
    ((count,),) = connection.execute(_COUNT_SESSIONS).fetchall()
    return int(count)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of `runs` with a sentence in place of a task that is a large field."""
    return row | {"task": _LARGE} if (row["task"] or "").startswith('{"$blob":') else row


# -- pages -----------------------------------------------------------------------------------


def after_position(after: str | None, moment: str, id_column: str) -> tuple[str, dict[str, Any]]:
    """Return the condition for the rows behind a cursor, and its parameters. Raises QueryFailed for no cursor.

    Rows are in order of the column `moment` (latest first, those without a time last), then of id and workspace.
    """
    if after is None:
        return "true", {}
    try:
        text, id_, workspace = msgspec.json.decode(after, type=tuple[str | None, str, str | None])
        at = None if text is None else timestamps.to_text(timestamps.parse(text)).rstrip("Z")
    except (msgspec.MsgspecError, ValueError):
        raise QueryFailed(f"{after!r} is no place in this list; take `after` from the page before") from None
    rest = (
        f"({id_column}, workspace IS NOT NULL, coalesce(workspace, '')) "
        "> ($after_id::VARCHAR, $after_in IS NOT NULL, coalesce($after_in::VARCHAR, ''))"
    )
    if at is None:
        return f"({moment} IS NULL AND {rest})", {"after_id": id_, "after_in": workspace}
    later = f"{moment} < $after_at::TIMESTAMP OR {moment} IS NULL OR ({moment} = $after_at::TIMESTAMP AND {rest})"
    return f"({later})", {"after_at": at, "after_id": id_, "after_in": workspace}


def checked_limit(limit: int) -> int:
    """Return a limit. Raises QueryFailed if it is not 1 to LIMIT_MAX."""
    if not 1 <= limit <= LIMIT_MAX:
        raise QueryFailed(f"limit {limit} is out of range: 1 to {LIMIT_MAX:,}")
    return limit


# -- the run or session that an id means -----------------------------------------------------

_IDS_WITH_PREFIX = {
    column: f"""
        SELECT {column}, list(DISTINCT workspace) AS workspaces, max(timestamp) AS last FROM events
        WHERE starts_with({column}, $prefix)
        GROUP BY 1 ORDER BY {column} = $prefix DESC, last DESC, 1 LIMIT {CANDIDATES + 1}
    """
    for column in ("run_id", "session_id")
}


def find_run(connection: duckdb.DuckDBPyConnection, prefix: str) -> Scope | None:
    """Return the run with this id, or with the only id that starts with it; None if there is none.

    A run counts if any event names it, also without a `run_started`. If several workspaces have a run of this id, the
    run without a workspace is meant. Raises QueryFailed, naming candidates, if several ids start so, or if several
    workspaces have the run.
    """
    return _find(connection, prefix, "run_id", "run")


def find_session(connection: duckdb.DuckDBPyConnection, prefix: str) -> Scope | None:
    """Return the session with this id, or with the only id that starts with it; as `find_run` does."""
    return _find(connection, prefix, "session_id", "session")


def _find(
    connection: duckdb.DuckDBPyConnection, prefix: str, column: Literal["run_id", "session_id"], noun: str
) -> Scope | None:
    if not prefix:
        return None
    rows = connection.execute(_IDS_WITH_PREFIX[column], {"prefix": prefix}).fetchall()
    return only_one(rows, prefix, column, noun)


def only_one(rows: list[tuple[Any, ...]], prefix: str, column: Column, noun: str) -> Scope | None:
    """Return which of the ids that begin with `prefix` is meant; None without rows. Raises QueryFailed.

    A row is an id with its workspaces; the id that equals `prefix` comes first. `noun` is for errors, such as "run".
    """
    if not rows:
        return None
    ids = [str(row[0]) for row in rows]
    if ids[0] == prefix or len(ids) == 1:
        return Scope(column, ids[0], chosen(f"a {noun} {ids[0]!r}", rows[0][1]))
    more = ", …" if len(ids) > CANDIDATES else ""
    raise QueryFailed(
        f"several {noun}s begin with {prefix!r}: {', '.join(ids[:CANDIDATES])}{more}; give more of the id"
    )


def run_not_found(run_id: str) -> NotFound:
    """Return the error for an id that no run has."""
    return NotFound(f"there is no run {run_id!r}; try: eventlog runs")


def run_or_session_not_found(id_: str) -> NotFound:
    """Return the error for an id that neither a run nor a session has."""
    return NotFound(f"there is no run {id_!r}, and no such session; try: eventlog runs or eventlog sessions")


def session_not_found(session_id: str) -> NotFound:
    """Return the error for an id that no session has."""
    return NotFound(f"there is no session {session_id!r}; try: eventlog sessions")


def request_not_found(request_id: str) -> NotFound:
    """Return the error for an id that no request has."""
    return NotFound(f"there is no request {request_id!r}; try: eventlog requests")


def not_found(id_: str) -> NotFound:
    """Return the error for an id that no run, session or request has."""
    return NotFound(
        f"there is no run, session or request {id_!r}; try: eventlog runs, eventlog sessions or eventlog requests"
    )
