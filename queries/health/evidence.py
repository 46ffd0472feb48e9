"""The queries behind a health score, one per check.

Each is a SELECT with a row per workspace and agent; an agent without a row has no data for the check. `of_window` and
`of_agent` fill in the window and the agent as text, not as parameters, so that people can repeat the query with
`eventlog sql`. docs/health.md says how points follow from the columns.
"""

from __future__ import annotations

import textwrap
from datetime import datetime, timedelta

import msgspec

from eventlog.format.timestamps import MS_MAX
from eventlog.importers import sources
from eventlog.indexer.sql import literal, literals
from eventlog.indexer.views import definitions
from eventlog.indexer.views.definitions import ABANDONED_AFTER_S, FAILED, NOBODY_IS_GONE
from eventlog.queries.metrics.aggregates import UNKNOWN

#: An agent is compared with itself in this many windows before the window.
WINDOWS_BEFORE = 7
#: An open run can be too long only if the agent has at least this many finished runs, …
FINISHED_MIN = 5
#: … and it is open for so many times the longest of them.
STUCK_TIMES = 3
#: Events without an agent count as the work of an unnamed agent only if they are of these types, or a source's.
WORK = ("run_started", "run_finished", "llm_call", "tool_call", "heartbeat")
#: Stuck runs that are named.
_NAMED_MAX = 5


class Window(msgspec.Struct, frozen=True):
    """The time that is scored: `length` before `now`, which is UTC without a zone.

    `gone` is SQL for whether the process of an open run is gone, if that is known (see `runs.owners`).
    """

    now: datetime
    length: timedelta
    gone: str = NOBODY_IS_GONE

    @property
    def since(self) -> datetime:
        """The start of the window."""
        return self.now - self.length

    @property
    def before(self) -> datetime:
        """The start of the time that the window is compared with."""
        return self.since - WINDOWS_BEFORE * self.length


#: How a run stood at the end of the window, for any clock.
_OUTCOME = definitions.outcome("{now}", "{gone}").replace(" WHEN", "\n                   WHEN")

#: Each agent, and its last event.
AGENTS = """
    SELECT workspace, agent, max(timestamp) AS last_event
    FROM events
    WHERE timestamp < {now} AND (agent IS NOT NULL OR event_type IN ({work}))
    GROUP BY ALL
"""
#: Runs that finished in the window, and how many of them failed, by type.
RUN_ERRORS = f"""
    SELECT workspace, agent, count(*) AS finished, count(*) FILTER (outcome = 'error') AS failed,
           histogram(coalesce(error_type, {literal(UNKNOWN)})) FILTER (outcome = 'error') AS types
    FROM (
        SELECT * REPLACE ({_OUTCOME} AS outcome)
        FROM runs
    )
    WHERE finished >= {{since}} AND finished < {{now}}
      AND outcome IN ('ok', 'error')
    GROUP BY ALL
"""
_FAILURES = f"""
    SELECT workspace, agent, count(*) AS calls, count(*) FILTER ({FAILED}) AS failed,
           histogram(coalesce(error_type, {literal(UNKNOWN)})) FILTER ({FAILED}) AS types
    FROM {{view}}
    WHERE timestamp >= {{since}} AND timestamp < {{now}}
    GROUP BY ALL
"""
#: Model calls in the window, and how many of them failed, by type.
CALL_ERRORS = _FAILURES.replace("{view}", "llm_calls")
#: Tool calls in the window, and how many of them failed, by type.
TOOL_ERRORS = _FAILURES.replace("{view}", "tool_calls")
#: The p95 latency and the number of model calls, in the window and before.
LATENCY = f"""
    SELECT workspace, agent,
           count(*) FILTER (timestamp >= {{since}}) AS calls,
           quantile_disc(latency_ms, 0.95) FILTER (timestamp >= {{since}}) AS p95_ms,
           count(*) FILTER (timestamp < {{since}}) AS calls_before,
           quantile_disc(latency_ms, 0.95) FILTER (timestamp < {{since}}) AS p95_ms_before
    FROM llm_calls
    WHERE timestamp >= {{before}} AND timestamp < {{now}}
      AND latency_ms BETWEEN 0 AND {MS_MAX:.0f}
    GROUP BY ALL
"""
#: The cost in the window and in the most expensive window before, and runs with a cost and what they cost, in USD. A
#: run is in the window of its last call with a price, as a whole, and so counts once.
COST = """
    WITH priced AS (
        SELECT workspace, agent, run_id, cost_usd,
               (epoch_us({now}) - epoch_us(timestamp) - 1) // {length_us} AS ago
        FROM llm_costs
        WHERE timestamp >= {before} AND timestamp < {now} AND cost_usd IS NOT NULL
    ), by_window AS (
        SELECT workspace, agent, max(usd) FILTER (ago = 0) AS usd, count(*) FILTER (ago > 0) AS windows_before,
               max(usd) FILTER (ago > 0) AS dearest_usd_before
        FROM (SELECT workspace, agent, ago, sum(cost_usd) AS usd FROM priced GROUP BY ALL)
        GROUP BY ALL
    ), by_run AS (
        SELECT workspace, agent, count(*) FILTER (ago = 0) AS runs, count(*) FILTER (ago > 0) AS runs_before,
               coalesce(sum(usd) FILTER (ago = 0), 0) AS run_usd,
               coalesce(sum(usd) FILTER (ago > 0), 0) AS run_usd_before
        FROM (
            SELECT workspace, agent, run_id, min(ago) AS ago, sum(cost_usd) AS usd
            FROM priced WHERE run_id IS NOT NULL GROUP BY ALL
        )
        GROUP BY ALL
    )
    SELECT by_window.*, coalesce(runs, 0) AS runs, coalesce(runs_before, 0) AS runs_before,
           coalesce(run_usd, 0) AS run_usd, coalesce(run_usd_before, 0) AS run_usd_before
    FROM by_window LEFT JOIN by_run
      ON by_window.workspace IS NOT DISTINCT FROM by_run.workspace
     AND by_window.agent IS NOT DISTINCT FROM by_run.agent
"""
#: The last heartbeat, its status, its interval, and the time since then.
HEARTBEAT = """
    SELECT workspace, agent, max(timestamp) AS last, arg_max(status, (timestamp, event_id)) AS status,
           arg_max(interval_s, (timestamp, event_id)) FILTER (interval_s BETWEEN 0.001 AND 1e9) AS interval_s,
           date_sub('microsecond', last, {now}) / 1e6 AS silent_s
    FROM (
        SELECT *, coalesce(payload ->> 'status', '') AS status,
               TRY_CAST((payload -> 'interval_s')::VARCHAR AS DOUBLE) AS interval_s
        FROM events
        WHERE event_type = 'heartbeat' AND timestamp >= {before} AND timestamp < {now}
    )
    GROUP BY ALL HAVING interval_s IS NOT NULL
"""
#: Events that were lost, by the agent that lost them as far as that is known, and the events that were recorded.
DROPS = """
    WITH reported AS (
        SELECT segment, line_offset, workspace, agent, TRY_CAST(payload ->> 'count' AS BIGINT) AS lost,
               TRY_CAST(payload ->> 'pid' AS BIGINT) AS pid, payload ->> 'cause' AS cause,
               coalesce(TRY_CAST(payload ->> 'since' AS TIMESTAMP), timestamp) AS first_lost,
               coalesce(TRY_CAST(payload ->> 'until' AS TIMESTAMP), timestamp) AS last_lost
        FROM events
        WHERE event_type = 'events_dropped' AND timestamp >= {since} AND timestamp < {now}
    ), in_runs AS (
        SELECT DISTINCT reported.segment, reported.line_offset, runs.workspace, runs.agent, lost, cause
        FROM reported JOIN runs ON runs.pid = reported.pid
         AND (reported.workspace IS NULL OR runs.workspace = reported.workspace)
         AND runs.started BETWEEN {before} AND last_lost
         AND coalesce(runs.finished, last_lost) >= first_lost
        WHERE reported.agent IS NULL AND runs.agent IS NOT NULL
    ), lost AS (
        FROM in_runs
        UNION ALL
        SELECT segment, line_offset, workspace, agent, lost, cause FROM reported
        WHERE agent IS NOT NULL OR (segment, line_offset) NOT IN (SELECT (segment, line_offset) FROM in_runs)
    ), recorded AS (
        SELECT workspace, agent, count(*) AS events FROM events
        WHERE timestamp >= {since} AND timestamp < {now}
        GROUP BY ALL
    )
    SELECT lost.workspace, lost.agent, sum(lost) AS dropped,
           count(*) AS reports, max(cause) AS cause, coalesce(any_value(events), 0) AS events
    FROM lost LEFT JOIN recorded
      ON lost.workspace IS NOT DISTINCT FROM recorded.workspace AND lost.agent IS NOT DISTINCT FROM recorded.agent
    WHERE lost > 0
    GROUP BY ALL
"""
_TOO_LONG = (
    f"age_ms > greatest({STUCK_TIMES} * longest_ms, {1000 * ABANDONED_AFTER_S}) AND finished_before >= {FINISHED_MIN}"
)
#: Runs that finished or were abandoned in the window, that are under way at its end, and of these, for far too long.
STUCK_RUNS = f"""
    SELECT workspace, agent, count(*) FILTER (outcome NOT IN ('abandoned', 'running')) AS finished,
           count(*) FILTER (outcome = 'abandoned') AS abandoned,
           count(*) FILTER (outcome = 'running') AS running,
           count(*) FILTER (outcome = 'running' AND {_TOO_LONG}) AS stuck,
           any_value(longest_ms) AS longest_ms,
           list(run_id ORDER BY last_event DESC, run_id)
               FILTER (outcome = 'abandoned' OR outcome = 'running' AND {_TOO_LONG}) [1:{_NAMED_MAX}] AS run_ids
    FROM (
        SELECT * REPLACE ({_OUTCOME} AS outcome),
               date_sub('millisecond', started, {{now}}) AS age_ms,
               max(duration_ms) FILTER (finished < {{now}} AND duration_ms BETWEEN 0 AND {MS_MAX:.0f})
                   OVER of_agent AS longest_ms,
               count(*) FILTER (finished < {{now}}) OVER of_agent AS finished_before
        FROM runs
        WHERE coalesce(finished, abandoned_at, last_event) >= {{before}} AND coalesce(finished, started) < {{now}}
        WINDOW of_agent AS (PARTITION BY workspace, agent)
    )
    WHERE CASE outcome WHEN 'running' THEN true
                       WHEN 'abandoned' THEN abandoned_at >= {{since}}
                       ELSE finished >= {{since}} AND finished < {{now}} END
    GROUP BY ALL
"""


_OF_AGENT = """\
SELECT * EXCLUDE (workspace, agent) FROM (
{query}
)
WHERE workspace IS NOT DISTINCT FROM {workspace} AND agent IS NOT DISTINCT FROM {agent}"""


def of_window(query: str, window: Window) -> str:
    """Return one of these queries for a window, as plain SQL."""
    return query.format(
        now=_at(window.now),
        since=_at(window.since),
        before=_at(window.before),
        gone=window.gone,
        length_us=window.length // timedelta(microseconds=1),
        work=literals((*WORK, *sources.event_types())),
    )


def of_agent(query: str, workspace: str | None, agent: str | None) -> str:
    """Return a query of `of_window` for one agent."""
    inner = textwrap.indent(textwrap.dedent(query).strip(), "    ")
    return _OF_AGENT.format(query=inner, workspace=_text(workspace), agent=_text(agent))


def _at(moment: datetime) -> str:
    return f"TIMESTAMP {literal(str(moment))}"


def _text(value: str | None) -> str:
    return "NULL" if value is None else literal(value)
