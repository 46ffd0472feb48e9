"""The queries behind a health score: one per check, for all agents at once, and narrowed to one of them.

Each is a SELECT with a row per workspace and agent; an agent without a row has nothing to be judged by.
They are plain text without parameters, so that what a score rests on can be asked again with
`eventlog sql`. docs/health.md says what is made of their columns.
"""

from __future__ import annotations

import textwrap
from datetime import datetime, timedelta

import msgspec

from eventlog.indexer.sql import literal, literals
from eventlog.indexer.views.recorded import ABANDONED_AFTER_S
from eventlog.queries.metrics.aggregates import UNKNOWN, outcome

#: What an agent is compared with is this many windows long, just before the window.
WINDOWS_BEFORE = 7
#: Runs that finished, at least, before one that still goes on can be called too long.
FINISHED_MIN = 5
#: Times the longest of those.
STUCK_TIMES = 3
#: Events that nobody signed are somebody's work only if they are of these types.
WORK = ("run_started", "run_finished", "llm_call", "tool_call", "heartbeat", "claude_code")
#: A sum beyond it is of counts that nobody counted.
_BIGINT_MAX = 2**63 - 1
#: Of runs, so many are named.
_NAMED_MAX = 5


class Window(msgspec.Struct, frozen=True):
    """The time that is judged: `length` up to `now`, which is UTC without a zone."""

    now: datetime
    length: timedelta

    @property
    def since(self) -> datetime:
        """When the window begins."""
        return self.now - self.length

    @property
    def before(self) -> datetime:
        """When the time begins that it is compared with."""
        return self.since - WINDOWS_BEFORE * self.length


def agents(window: Window) -> str:
    """Who there is, and when they were last heard of."""
    return f"""
        SELECT workspace, agent, max(timestamp) AS last_event
        FROM events
        WHERE timestamp < {_at(window.now)} AND (agent IS NOT NULL OR event_type IN ({literals(WORK)}))
        GROUP BY ALL
    """


def run_errors(window: Window) -> str:
    """Runs that finished in the window, and how many of them failed, by type."""
    return f"""
        SELECT workspace, agent, count(*) AS finished, count(*) FILTER (outcome = 'error') AS failed,
               histogram(coalesce(error_type, {literal(UNKNOWN)})) FILTER (outcome = 'error') AS types
        FROM (
            SELECT *, {_outcome(window)} AS outcome
            FROM runs
        )
        WHERE finished >= {_at(window.since)} AND finished < {_at(window.now)}
          AND outcome IN ('ok', 'error')
        GROUP BY ALL
    """


def call_errors(window: Window) -> str:
    """Calls of models in the window, and how many of them failed, by type."""
    return _failed("llm_calls", window)


def tool_errors(window: Window) -> str:
    """Calls of tools in the window, and how many of them failed, by type."""
    return _failed("tool_calls", window)


def _failed(view: str, window: Window) -> str:
    return f"""
        SELECT workspace, agent, count(*) AS calls, count(*) FILTER (NOT ok) AS failed,
               histogram(coalesce(error_type, {literal(UNKNOWN)})) FILTER (NOT ok) AS types
        FROM {view}
        WHERE timestamp >= {_at(window.since)} AND timestamp < {_at(window.now)}
        GROUP BY ALL
    """


def latency(window: Window) -> str:
    """The p95 latency of calls in the window and before, and of how many calls."""
    now = f"FILTER (timestamp >= {_at(window.since)})"
    before = f"FILTER (timestamp < {_at(window.since)})"
    return f"""
        SELECT workspace, agent,
               count(*) {now} AS calls,
               quantile_disc(latency_ms, 0.95) {now} AS p95_ms,
               count(*) {before} AS calls_before,
               quantile_disc(latency_ms, 0.95) {before} AS p95_ms_before
        FROM llm_calls
        WHERE timestamp >= {_at(window.before)} AND timestamp < {_at(window.now)}
          AND latency_ms BETWEEN 0 AND 1e12
        GROUP BY ALL
    """


def cost(window: Window) -> str:
    """What calls cost in the window, in the dearest of those before, and per run, in USD."""
    length_us = window.length // timedelta(microseconds=1)
    return f"""
        SELECT workspace, agent, max(usd) FILTER (ago = 0) AS usd, count(*) FILTER (ago > 0) AS windows_before,
               max(usd) FILTER (ago > 0) AS dearest_usd_before,
               coalesce(sum(runs) FILTER (ago = 0), 0) AS runs, coalesce(sum(runs) FILTER (ago > 0), 0) AS runs_before,
               sum(run_usd) FILTER (ago = 0) / nullif(sum(runs) FILTER (ago = 0), 0) AS usd_per_run,
               sum(run_usd) FILTER (ago > 0) / nullif(sum(runs) FILTER (ago > 0), 0) AS usd_per_run_before
        FROM (
            SELECT workspace, agent, (epoch_us({_at(window.now)}) - epoch_us(timestamp) - 1) // {length_us} AS ago,
                   sum(cost_usd) AS usd, sum(cost_usd) FILTER (run_id IS NOT NULL) AS run_usd,
                   count(DISTINCT run_id) AS runs
            FROM llm_costs
            WHERE timestamp >= {_at(window.before)} AND timestamp < {_at(window.now)} AND cost_usd IS NOT NULL
            GROUP BY ALL
        )
        GROUP BY ALL
    """


def heartbeat(window: Window) -> str:
    """The last heartbeat, what it said, and when the next one was due at the latest that was announced."""
    return f"""
        SELECT workspace, agent, max(timestamp) AS last, arg_max(status, (timestamp, event_id)) AS status,
               arg_max(interval_s, (timestamp, event_id)) FILTER (interval_s BETWEEN 0.001 AND 1e9) AS interval_s,
               date_sub('microsecond', last, {_at(window.now)}) / 1e6 AS silent_s
        FROM (
            SELECT *, coalesce(payload ->> 'status', '') AS status,
                   TRY_CAST(payload ->> 'interval_s' AS DOUBLE) AS interval_s
            FROM events
            WHERE event_type = 'heartbeat' AND timestamp >= {_at(window.before)} AND timestamp < {_at(window.now)}
        )
        GROUP BY ALL HAVING interval_s IS NOT NULL
    """


def drops(window: Window) -> str:
    """Events that were lost, whose they were as far as is known, and how many events came through."""
    return f"""
        WITH told AS (
            SELECT segment, line_offset, workspace, agent, TRY_CAST(payload ->> 'count' AS BIGINT) AS lost,
                   TRY_CAST(payload ->> 'pid' AS BIGINT) AS pid, payload ->> 'cause' AS cause,
                   coalesce(TRY_CAST(payload ->> 'since' AS TIMESTAMP), timestamp) AS first_lost,
                   coalesce(TRY_CAST(payload ->> 'until' AS TIMESTAMP), timestamp) AS last_lost
            FROM events
            WHERE event_type = 'events_dropped' AND timestamp >= {_at(window.since)} AND timestamp < {_at(window.now)}
        ), in_runs AS (
            SELECT DISTINCT told.segment, told.line_offset, runs.workspace, runs.agent, lost, cause
            FROM told JOIN runs ON runs.pid = told.pid
             AND (told.workspace IS NULL OR runs.workspace = told.workspace)
             AND runs.started BETWEEN {_at(window.before)} AND last_lost
             AND coalesce(runs.finished, last_lost) >= first_lost
            WHERE told.agent IS NULL AND runs.agent IS NOT NULL
        ), lost AS (
            FROM in_runs
            UNION ALL
            SELECT segment, line_offset, workspace, agent, lost, cause FROM told
            WHERE agent IS NOT NULL OR (segment, line_offset) NOT IN (SELECT (segment, line_offset) FROM in_runs)
        ), seen AS (
            SELECT workspace, agent, count(*) AS events FROM events
            WHERE timestamp >= {_at(window.since)} AND timestamp < {_at(window.now)}
            GROUP BY ALL
        )
        SELECT lost.workspace, lost.agent, coalesce(TRY_CAST(sum(lost) AS BIGINT), {_BIGINT_MAX}) AS dropped,
               count(*) AS reports, max(cause) AS cause, coalesce(any_value(events), 0) AS events
        FROM lost LEFT JOIN seen
          ON lost.workspace IS NOT DISTINCT FROM seen.workspace AND lost.agent IS NOT DISTINCT FROM seen.agent
        WHERE lost > 0
        GROUP BY ALL
    """


def stuck_runs(window: Window) -> str:
    """Runs of the window: finished, given up, under way, and under way for far too long."""
    now = _at(window.now)
    too_long = (
        f"age_ms > greatest({STUCK_TIMES} * longest_ms, {1000 * ABANDONED_AFTER_S})"
        f" AND finished_before >= {FINISHED_MIN}"
    )
    return f"""
        SELECT workspace, agent, count(*) FILTER (finished >= {_at(window.since)}) AS finished,
               count(*) FILTER (outcome = 'abandoned') AS abandoned,
               count(*) FILTER (outcome = 'running') AS running,
               count(*) FILTER (outcome = 'running' AND {too_long}) AS stuck,
               any_value(longest_ms) AS longest_ms,
               list(run_id ORDER BY last_event DESC)
                   FILTER (outcome = 'abandoned' OR outcome = 'running' AND {too_long}) [1:{_NAMED_MAX}] AS run_ids
        FROM (
            SELECT *, {_outcome(window)} AS outcome,
                   date_sub('millisecond', started, {now}) AS age_ms,
                   max(duration_ms) FILTER (finished < {now}) OVER of_agent AS longest_ms,
                   count(*) FILTER (finished < {now}) OVER of_agent AS finished_before
            FROM runs
            WHERE coalesce(finished, last_event) >= {_at(window.before)} AND coalesce(started, finished) < {now}
            WINDOW of_agent AS (PARTITION BY workspace, agent)
        )
        WHERE last_event >= {_at(window.since)} AND (finished IS NULL OR finished < {now})
        GROUP BY ALL
    """


def of_agent(query: str, workspace: str | None, agent: str | None) -> str:
    """Return one of these queries for one agent."""
    inner = textwrap.indent(textwrap.dedent(query).strip(), "    ")
    return (
        f"SELECT * EXCLUDE (workspace, agent) FROM (\n{inner}\n)\n"
        f"WHERE workspace IS NOT DISTINCT FROM {_text(workspace)} AND agent IS NOT DISTINCT FROM {_text(agent)}"
    )


def _outcome(window: Window) -> str:
    return outcome(_at(window.now)).replace(" WHEN", "\n                       WHEN")


def _at(moment: datetime) -> str:
    return f"TIMESTAMP {literal(str(moment))}"


def _text(value: str | None) -> str:
    return "NULL" if value is None else literal(value)
