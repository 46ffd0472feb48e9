"""What agents did in a time, project by project, without a model: asked, edited, run, failed and spent.

    sessions, runs   what was asked: their titles, names and tasks
    tool_calls       which files were edited, which commands were run (tests among them), what failed
    llm_costs        what it cost

What has no project, as recorded runs have none, is grouped by its agent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import duckdb
import msgspec

from eventlog.format.timestamps import naive_utc, utc
from eventlog.indexer.sql import literal
from eventlog.queries.access import sandbox
from eventlog.queries.cost import costs
from eventlog.queries.rows import rows_as_dicts
from eventlog.queries.runs.call_costs import Sum, total

#: The views that are read.
VIEWS = ("events", "llm_calls", "tool_calls", "sessions", "runs")
#: Lists have so many items at most; counts beside them are of all.
ITEMS_MAX = 100
TEXT_CHARS = 200
#: Commands that run tests.
_TESTS = re.compile(
    r"\b(py\.?test|tox|nox|unittest|ctest|rspec|phpunit|vitest|jest|mocha|nextest"
    r"|run test|(npm|pnpm|yarn|bun|cargo|go|mvn|gradlew?|dotnet|mix|swift|deno|bazel|rake|playwright|just) test"
    r"|make (check|test))\b"
)
#: Where a command is run is no part of it.
_ELSEWHERE = re.compile(r"^cd \S+ (&&|;) ")
_SPACES = re.compile(r"\s+")
_TAGS = re.compile(r"</?[a-z_]+>")


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A session or a run: what it is about, and what its calls in this time cost (None where none has a price)."""

    id: str
    text: str
    cost_usd: Decimal | None


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was edited, a command that was run, or a tool that failed: how often, and the last `error`."""

    name: str
    times: int
    failures: int = 0
    error: str | None = None


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """What was done in one project (a folder), or by one agent where no project is known.

    `asked`, `edited`, `commands` and `failed` have the most important items, ITEMS_MAX at most; the counts are of all.
    """

    project: str | None
    agent: str | None
    branches: list[str]
    sessions: int
    runs: int
    asked: list[Asked]
    edited_files: int
    edited: list[Times]
    command_calls: int
    test_calls: int
    test_failures: int
    distinct_commands: int
    commands: list[Times]
    tool_calls: int
    tool_failures: int
    failed: list[Times]
    llm_calls: int
    llm_failures: int
    tokens: int
    cost_usd: Decimal | None
    unpriced: int


class Today(msgspec.Struct, frozen=True, kw_only=True):
    """What was done from `since` to `until` (UTC), the dearest project first; and what all of it cost, in USD."""

    since: datetime
    until: datetime
    projects: list[Project]
    llm_calls: int
    cost_usd: Decimal | None
    unpriced: int


#: A project, else an agent.
Key = tuple[str | None, str | None]


class _Tool(NamedTuple):
    """How often a tool was called in the same way: with a file, a command, or neither."""

    tool: str
    path: str | None
    command: str | None
    times: int
    failures: int
    edits: int
    error: str | None
    last: datetime


def end_of_minute(now: datetime) -> datetime:
    """Return the end of a minute: all that was done until now is before it, and so it is for a minute."""
    return now.replace(second=0, microsecond=0) + timedelta(minutes=1)


def today(connection: duckdb.DuckDBPyConnection, since: datetime, until: datetime) -> Today:
    """Return what was done from `since`, included, to `until`, excluded."""
    bounds = {"since": naive_utc(since), "until": naive_utc(until)}
    calls, resolved = costs.copied(connection, ("session_id", "run_id", "project", "agent"))
    statement = _SPENT.format(costs=costs.subquery(connection, resolved, calls=calls))
    spent = rows_as_dicts(sandbox.execute(connection, statement, bounds))
    connection.execute(_CREATE_SESSIONS, bounds)
    asked = rows_as_dicts(sandbox.execute(connection, _ASKED, bounds))
    tools = sandbox.execute(connection, _TOOLS, bounds).fetchall()
    found = {
        key: _project(
            key,
            [row for row in asked if _key(row) == key],
            [_Tool(*row[2:]) for row in tools if row[:2] == key],
            [row for row in spent if _key(row) == key],
        )
        for key in dict.fromkeys([*map(_key, asked), *(row[:2] for row in tools), *map(_key, spent)])
    }
    projects = sorted(found.values(), key=lambda each: (-(each.cost_usd or 0), each.project or "", each.agent or ""))
    return Today(
        since=utc(since),
        until=utc(until),
        projects=projects,
        llm_calls=sum(each.llm_calls for each in projects),
        cost_usd=total(each.cost_usd for each in projects),
        unpriced=sum(each.unpriced for each in projects),
    )


def _key(row: dict[str, Any]) -> Key:
    return row["project"], row["agent"]


def _project(key: Key, asked: list[dict[str, Any]], tools: list[_Tool], spent: list[dict[str, Any]]) -> Project:
    by_work: dict[tuple[str | None, str | None], list[dict[str, Any]]] = {}
    for row in spent:
        by_work.setdefault((row["session_id"], row["run_id"]), []).append(row)
    files, commands = _by_file(tools, key[0]), _by_command(tools)
    tests = [each for each in commands if _TESTS.search(each.name)]
    cost = _sum(spent)
    return Project(
        project=key[0],
        agent=key[1],
        branches=sorted({row["branch"] for row in asked if row["branch"]}),
        sessions=sum(row["kind"] == "session" for row in asked),
        runs=sum(row["kind"] == "run" for row in asked),
        asked=[_asked(row, spent) for row in asked[:ITEMS_MAX]],
        edited_files=len(files),
        edited=files[:ITEMS_MAX],
        command_calls=sum(each.times for each in commands),
        test_calls=sum(each.times for each in tests),
        test_failures=sum(each.failures for each in tests),
        distinct_commands=len(commands),
        commands=commands[:ITEMS_MAX],
        tool_calls=sum(each.times for each in tools),
        tool_failures=sum(each.failures for each in tools),
        failed=_failed(tools, key[0])[:ITEMS_MAX],
        llm_calls=sum(row["calls"] for row in spent),
        llm_failures=sum(row["failures"] for row in spent),
        tokens=sum(row["tokens"] for row in spent),
        cost_usd=cost.cost_usd,
        unpriced=cost.unpriced,
    )


def _asked(row: dict[str, Any], spent: Iterable[dict[str, Any]]) -> Asked:
    column = f"{row['kind']}_id"
    cost = _sum(each for each in spent if each[column] == row["id"])
    return Asked(id=row["id"], text=_one_line(row["text"] or row["id"]), cost_usd=cost.cost_usd)


def _sum(spent: Iterable[dict[str, Any]]) -> Sum:
    rows = list(spent)
    return Sum.of(total(row["cost_usd"] for row in rows), sum(row["unpriced"] for row in rows))


def _by_file(tools: Iterable[_Tool], project: str | None) -> list[Times]:
    """Return the files that were edited, the most edited first, as seen from the folder of the project."""
    times: dict[str, int] = {}
    for each in tools:
        if each.path is not None and each.edits:
            name = _within(each.path, project)
            times[name] = times.get(name, 0) + each.edits
    return [
        Times(name=name, times=count) for name, count in sorted(times.items(), key=lambda item: (-item[1], item[0]))
    ]


def _within(path: str, project: str | None) -> str:
    return path.removeprefix(f"{project}/") if project else path


def _by_command(tools: Iterable[_Tool]) -> list[Times]:
    """Return the commands that were run, the most frequent first."""
    return _most_first(
        (_ELSEWHERE.sub("", _one_line(each.command)), each)
        for each in tools
        if each.command is not None and each.command.strip()
    )


def _failed(tools: Iterable[_Tool], project: str | None) -> list[Times]:
    """Return what failed, by tool and command or file, the most frequent first."""
    named = (
        (_one_line(" ".join(filter(None, (each.tool, each.command or _within(each.path or "", project))))), each)
        for each in tools
        if each.failures
    )
    return sorted(_most_first(named), key=lambda each: (-each.failures, each.name))


def _most_first(named: Iterable[tuple[str, _Tool]]) -> list[Times]:
    found: dict[str, Times] = {}
    for name, each in named:
        before = found.get(name) or Times(name=name, times=0)
        found[name] = Times(
            name=name,
            times=before.times + each.times,
            failures=before.failures + each.failures,
            error=_error(each.error) or before.error,
        )
    return sorted(found.values(), key=lambda each: (-each.times, each.name))


def _one_line(text: str) -> str:
    return _SPACES.sub(" ", text).strip()[:TEXT_CHARS]


def _error(text: str | None) -> str | None:
    """Return the first line of an error that says something."""
    lines: Iterator[str] = (_one_line(_TAGS.sub("", line)) for line in (text or "").splitlines())
    return next(filter(None, lines), None)


# -- SQL -------------------------------------------------------------------------------------

_IN_TIME = "timestamp >= $since::TIMESTAMP AND timestamp < $until::TIMESTAMP"
#: An agent counts where there is no project.
_AGENT = "CASE WHEN project IS NULL THEN agent END AS agent"
_SPENT = f"""
    SELECT project, {_AGENT}, session_id, run_id, count(*) AS calls, count(*) FILTER (NOT ok) AS failures,
           sum(uncached_input_tokens::HUGEINT + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens
               + output_tokens)::HUGEINT AS tokens,
           sum(cost_usd) AS cost_usd, count(*) FILTER (cost_usd IS NULL) AS unpriced
    FROM {{costs}} WHERE {_IN_TIME} GROUP BY ALL
"""
_CREATE_SESSIONS = """
    CREATE OR REPLACE TEMP TABLE sessions_of_today AS
    SELECT session_id, workspace, project, agent, branch, title, title_source, last FROM sessions
    WHERE last >= $since::TIMESTAMP AND first < $until::TIMESTAMP
"""
#: A session without a title of its own is named by its id; one that only runs are in is told by them.
_ASKED = f"""
    SELECT 'session' AS kind, project, {_AGENT}, branch, session_id AS id, last,
           CASE WHEN title_source <> 'project' THEN title END AS text
    FROM sessions_of_today WHERE session_id NOT IN (
        SELECT session_id FROM runs WHERE session_id IS NOT NULL AND last_event >= $since::TIMESTAMP)
    UNION ALL BY NAME
    SELECT 'run' AS kind, NULL::VARCHAR AS project, agent, NULL::VARCHAR AS branch, run_id AS id, last_event AS last,
           concat_ws(': ', name, CASE WHEN NOT starts_with(task, '{{"$blob":') THEN task END) AS text
    FROM runs WHERE last_event >= $since::TIMESTAMP AND started < $until::TIMESTAMP
    ORDER BY last DESC, id
"""
_COMMAND = """coalesce(input -> '$.command', input -> '$.cmd',
                       CASE WHEN json_type(input) = 'ARRAY' THEN input END)"""
_EDITS = r"(?i)^(multi_?|notebook_?)?(edit|write|create|update)(_?file)?$|^apply_patch$|str_replace"
_PATCHED = r"(?m)^\*\*\* (?:Update|Add|Delete) File: (.+)$"
# Patches name several files, or none that is read; what a file was edited with is no command.
_TOOLS = f"""
    WITH calls AS (
        SELECT project, CASE WHEN project IS NULL THEN tool_calls.agent END AS agent, coalesce(tool, 'a tool') AS tool,
               input, output, ok, error_type, timestamp, {_COMMAND} AS given,
               CASE json_type(given) WHEN 'ARRAY' THEN given ->> '$[#-1]' WHEN 'VARCHAR' THEN given ->> '$' END AS said,
               CASE WHEN json_type(input) = 'VARCHAR' THEN input ->> '$'
                    ELSE coalesce(input ->> '$.input', input ->> '$.patch', said) END AS patch,
               coalesce(regexp_matches(tool, {literal(_EDITS)}), false) AS is_edit
        FROM tool_calls LEFT JOIN sessions_of_today
          ON tool_calls.session_id = sessions_of_today.session_id
         AND tool_calls.workspace IS NOT DISTINCT FROM sessions_of_today.workspace
        WHERE {_IN_TIME}
    ), read AS (
        SELECT *, contains(coalesce(patch, ''), '*** Begin Patch') AS is_patch,
               CASE WHEN is_patch THEN regexp_extract_all(patch, {literal(_PATCHED)}, 1)
                    WHEN tool = 'apply_patch' AND json_type(input) = 'OBJECT' THEN json_keys(input)
                    ELSE [coalesce(input ->> '$.file_path', input ->> '$.notebook_path', input ->> '$.path')] END
                   AS paths,
               CASE WHEN is_patch OR is_edit THEN NULL ELSE said[1:1000] END AS command
        FROM calls
    ), each_file AS (
        SELECT *, unnest(CASE WHEN len(paths) > 0 THEN paths ELSE [NULL::VARCHAR] END) AS path,
               generate_subscripts(CASE WHEN len(paths) > 0 THEN paths ELSE [NULL::VARCHAR] END, 1) = 1 AS counts
        FROM read
    )
    SELECT project, agent, tool, path, command, count(*) FILTER (counts) AS times,
           count(*) FILTER (counts AND NOT ok) AS failures,
           count(*) FILTER ((is_edit OR is_patch) AND ok IS DISTINCT FROM false) AS edits,
           arg_max(coalesce(error_type, CASE json_type(output) WHEN 'VARCHAR' THEN output ->> '$'
                                             ELSE output ->> '$[0].text' END)[1:500], timestamp)
               FILTER (NOT ok) AS error,
           max(timestamp) AS last
    FROM each_file GROUP BY ALL
"""
