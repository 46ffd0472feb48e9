"""What can be asked over HTTP: the addresses and their parameters. The answers are in eventlog.server.answers."""

from __future__ import annotations

from typing import Literal

import msgspec

from eventlog.server.parameters import (
    AFTER,
    AGENT,
    AUDIT_LEVEL,
    OF_EVENTS,
    SINCE,
    TYPES,
    UNTIL,
    WORDS,
    WORKSPACE,
    ZONE,
    Parameter,
    limit,
)

#: Costs are grouped by these.
COST_GROUPS = (
    "model", "agent", "workspace", "session", "project", "branch", "subagent", "server", "source", "run", "provider",
)  # fmt: skip
_ID = Parameter("id", "text", "A run, session or request: its id, or any unique prefix of it.", required=True)
SQL = "sql"


class Endpoint(msgspec.Struct, frozen=True):
    """An address. `{id}` in its path is a parameter, too; one `of_the_root` is for keys of all workspaces only.

    Answers of `index` depend on the index alone: whoever has one, and the index has not changed, needs no other.
    """

    name: str
    path: str
    meaning: str
    parameters: tuple[Parameter, ...] = ()
    of_the_root: bool = False
    depends_on: Literal["index", "more"] = "more"

    @property
    def all_parameters(self) -> tuple[Parameter, ...]:
        """Those of its query string."""
        return self.parameters if self.of_the_root else (*self.parameters, WORKSPACE)

    @property
    def of_path(self) -> tuple[Parameter, ...]:
        """That of its path, if it has one."""
        return (_ID,) if "{id}" in self.path else ()


ENDPOINTS = (
    Endpoint(
        "events", "/v1/events", "Events in order of time, in pages: `next` is the `after` of the next one.",
        (
            TYPES, *OF_EVENTS, SINCE, UNTIL, AUDIT_LEVEL, limit(100, 10_000), AFTER,
            Parameter("newest_first", "flag", "In reverse order.", default=False), ZONE,
        ),
        depends_on="index",
    ),
    Endpoint(
        "event", "/v1/events/{id}", "One event with its line, and how far the log backs it, by its whole id.",
        (Parameter("raw", "flag", "The bytes of its line, instead.", default=False),),
    ),
    Endpoint(
        "runs", "/v1/runs", "Runs, newest first, with what they cost.",
        (
            WORDS, AGENT,
            Parameter("status", "text", "In this state.", choices=("ok", "error", "cancelled", "running", "abandoned")),
            SINCE, limit(50), AFTER, ZONE,
        ),
    ),
    Endpoint("run", "/v1/runs/{id}", "One run as a tree of its steps, calls and errors."),
    Endpoint(
        "diff", "/v1/diff", "Where two runs or two sessions differ.",
        (
            Parameter("a", "text", "A run or a session.", required=True),
            Parameter("b", "text", "The other one.", required=True),
        ),
    ),
    Endpoint(
        "sessions", "/v1/sessions", "Sessions, the one with the newest event first, with what they cost.",
        (WORDS, AGENT, SINCE, limit(50), AFTER, ZONE), depends_on="index",
    ),
    Endpoint("session", "/v1/sessions/{id}", "One session as a tree of its calls."),
    Endpoint(
        "messages", "/v1/messages/{id}", "What was said and done in a run or a session, turn by turn.",
        (Parameter("text_chars", "number", "Longer texts are cut; else all of them is there.", most=100_000_000),),
    ),
    Endpoint(
        "requests", "/v1/requests", "Requests, the one with the newest event first.",
        (AGENT, SINCE, AUDIT_LEVEL, limit(50), AFTER, ZONE), depends_on="index",
    ),
    Endpoint("request", "/v1/requests/{id}", "One request as a tree of all its events."),
    Endpoint(
        "cost", "/v1/cost", "What model calls cost, per period and group.",
        (
            Parameter(
                "period", "text", "One sum for each; `day`, or with `by`, `total`, if not given.",
                choices=("day", "week", "month", "total"),
            ),
            Parameter("by", "text", "One row for each of these.", choices=COST_GROUPS),
            SINCE, UNTIL, Parameter("budget", "amount", "Compare the month with this amount of USD."), ZONE,
        ),
    ),
    Endpoint(
        "cost_blocks", "/v1/cost/blocks", "What model calls cost, per block of five hours.",
        (
            Parameter("active", "flag", "Only the block that is running.", default=False),
            Parameter("source", "text", "Only calls of this source, such as codex."), SINCE, UNTIL, ZONE,
        ),
    ),
    Endpoint(
        "cost_prices", "/v1/cost/prices", "The rates of the models in use.",
        (Parameter("model", "text", "With this in their names."),),
    ),
    Endpoint(
        "cost_recompute", "/v1/cost/recompute", "What past calls would have cost at the prices of one moment.",
        (
            Parameter("as_of", "time", "The moment.", required=True),
            Parameter("by", "text", "One row for each of these.", default="model", choices=COST_GROUPS),
            SINCE, UNTIL, ZONE,
        ),
    ),
    Endpoint(
        "metrics", "/v1/metrics", "Counts, tokens, costs and latencies per day or hour.",
        (
            Parameter("every", "text", "How long a bucket is.", default="daily", choices=("daily", "hourly")),
            Parameter(
                "by", "text", "One row for each of these; may be repeated.", choices=("workspace", "agent", "model"),
                many=True,
            ),
            AGENT, SINCE, UNTIL, ZONE,
        ),
    ),
    Endpoint(
        "health", "/v1/health", "Scores of agents, and what took points off.",
        (
            AGENT, Parameter("window", "age", "The time that is scored.", default="24h"),
            Parameter("at", "time", "As of this time instead of now."), ZONE,
        ),
    ),
    Endpoint(
        "alerts", "/v1/alerts", "Alert rules; or firings, or messages that could not be delivered.",
        (
            Parameter("history", "flag", "Firings, newest first, instead of rules.", default=False),
            Parameter("dead", "flag", "Messages that were given up on, instead of rules.", default=False),
            Parameter("all", "flag", "Removed rules, too.", default=False),
        ),
    ),
    Endpoint("insights", "/v1/insights/{id}", "Loops and waste of a run or a session."),
    Endpoint(
        "search", "/v1/search", "Events by words, the best first.",
        (
            Parameter("text", "text", 'Words and "phrases".', required=True),
            TYPES, AGENT, SINCE, AUDIT_LEVEL, limit(20), ZONE,
            Parameter("inside", "flag", "Find them inside of words, too: every event is read.", default=False),
        ),
    ),
    Endpoint(
        "counts", "/v1/counts", "How many events of each type there are, also per bucket of UTC time.",
        (
            TYPES, *OF_EVENTS, SINCE, UNTIL, AUDIT_LEVEL,
            Parameter(
                "bucket", "text", "Per bucket of time.", choices=("minute", "hour", "day", "week", "month")
            ),
            ZONE,
        ),
        depends_on="index",
    ),
    Endpoint(
        "today", "/v1/today", "What was asked, edited, run, failed and spent, project by project.",
        (Parameter("since", "time", "From this time on.", default="today"), UNTIL, ZONE),
    ),
    Endpoint(
        "quarantine", "/v1/quarantine", "Why lines are in quarantine.", (limit(50),), depends_on="index"
    ),
    Endpoint("status", "/v1/status", "The state of log and index.", of_the_root=True),
)  # fmt: skip
BY_NAME = {endpoint.name: endpoint for endpoint in ENDPOINTS}


class SqlQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/sql`: one SELECT, with `params` for its `?` or `$name`. `timeout_s` is in seconds."""

    query: str
    params: list[str | int | float | bool | None] | dict[str, str | int | float | bool | None] = []
    format: Literal["json", "jsonl", "csv", "parquet"] = "json"
    limit: int = 10_000
    timeout_s: float | None = None
    workspace: str | None = None
