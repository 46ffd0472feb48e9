"""What owners of agents ask a ReadStore, one class for each topic.

    question → IndexReader, with the views that it reads → the topic's function → structs

Topics take an open connection, so they see what the store sees: everything, or one workspace. They are imported when
they are asked: most programs ask one thing.

All methods raise QueryFailed for what cannot be asked or takes too long, IndexFailed where the root has no index, and
IndexBusy where it is not free in time. Times are in UTC; arguments without a zone are UTC, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from eventlog.format.envelope import AuditLevel
from eventlog.queries.access import sandbox
from eventlog.queries.access.reader import IndexReader
from eventlog.queries.identity import names
from eventlog.queries.rows import rows_as

if TYPE_CHECKING:
    from eventlog.queries.alerts import history
    from eventlog.queries.bundle.export import Bundle
    from eventlog.queries.conversation.lines import LogLines
    from eventlog.queries.conversation.structs import Conversation
    from eventlog.queries.cost.blocks import Block
    from eventlog.queries.cost.report import By, Cost, CostReport, Period, PriceInUse, Recomputed
    from eventlog.queries.events.lookup import Bucket, Count, FoundEvent, Moment, Page
    from eventlog.queries.health import score
    from eventlog.queries.insights.findings import Insights
    from eventlog.queries.metrics import aggregates
    from eventlog.queries.quarantine import Group
    from eventlog.queries.runs.difference import Difference
    from eventlog.queries.runs.lookup import PricedRun, Session
    from eventlog.queries.runs.requests import Request
    from eventlog.queries.runs.tree import Tree
    from eventlog.queries.search.search import SearchResult
    from eventlog.queries.today import Today

DAY = timedelta(days=1)
_EVENTS = ("events",)
_RUNS = ("events", "runs", "steps", "llm_calls", "tool_calls", "sessions", "requests")
_TALK = (*_RUNS, "messages", "copies")
_COSTS = ("llm_calls", "events")
_METRICS = ("events", "runs", "llm_calls", "tool_calls")


class _Answers:
    """Answers of one topic, read through the reader of a store.

    A method `list` comes last in its class: in annotations below it, `list` would not be the type any more.
    """

    def __init__(self, reader: IndexReader) -> None:
        self._reader = reader

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._reader.scope()})"

    def _connection(
        self, views: Collection[str], *, fenced: bool = False
    ) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Open the index with the views that a question reads, within the time limit of the store."""
        return self._reader.trusted(views=views, fenced=fenced, timeout_s=self._reader.timeout_s)


class EventAnswers(_Answers):
    """Events as they were emitted: `store.events()`."""

    def get(self, event_id: str) -> FoundEvent | None:
        """Return one event with its raw line and the path of its segment; None where the index has none of this id.

        `event_id` is given whole, such as `"01a1fc0e-90e7-7614-b5c5-39cd6cbb2847"`. In a store of all workspaces, where
        several have an event of this id, the one without a workspace is meant; QueryFailed where they all have one.
        """
        from eventlog.queries.events import lookup

        statement = lookup.id_statement(event_id)
        with self._reader.trusted(views=_EVENTS, fenced=False) as connection:
            rows = sandbox.execute(connection, *statement).fetchall()
        return lookup.with_line(rows, self._reader.root, self._reader.workspace)

    def counts(
        self,
        event_types: Iterable[str] = (),
        *,
        bucket: Bucket | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        where: Mapping[str, str | int] | None = None,
        audit_level: AuditLevel | None = None,
    ) -> list[Count]:
        """Count events per type, and per bucket of UTC time if one is named: minute, hour, day, week or month.

        With `audit_level`, only events of this level or a higher one: turn, session, export.

        `store.counts(bucket="day")[0]` is `Count(event_type="llm_call", start=datetime(2026, 1, 31, …), events=12)`.
        """
        from eventlog.queries.events import lookup

        statement = lookup.count_statement(
            event_types, bucket=bucket, since=since, until=until, where=where or {}, audit_level=audit_level
        )
        with self._reader.trusted(views=_EVENTS, fenced=False) as connection:
            return rows_as(lookup.Count, sandbox.execute(connection, *statement))

    def list(
        self,
        event_types: Iterable[str] = (),
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        where: Mapping[str, str | int] | None = None,
        audit_level: AuditLevel | None = None,
        newest_first: bool = False,
        limit: int = 100,
        after: str | None = None,
    ) -> Page:
        """Return events in order of (timestamp, event_id, workspace), one page at a time.

        `since` is included, `until` is not; both may be text, such as `"2026-01-31T12:00:00Z"`. `where` compares
        envelope columns, such as `{"run_id": "r1"}`. `audit_level` is the least: `"session"` also finds events of the
        level export. `limit` is 1 to 10,000. Pages are stable while events arrive:
        pass `page.next` as `after` until it is None.
        """
        from eventlog.queries.events import lookup

        statement = lookup.page_statement(
            event_types, since=since, until=until, where=where or {}, audit_level=audit_level,
            newest_first=newest_first, limit=limit, after=after,
        )  # fmt: skip
        with self._reader.trusted(views=_EVENTS, fenced=False) as connection:
            rows = sandbox.execute(connection, *statement).fetchall()
        return lookup.page_of(rows, self._reader.root, limit)

    __call__ = list


class RunAnswers(_Answers):
    """Runs of agents: `store.runs.list(agent="planner")`, `store.runs.get("nightly-7")`."""

    def get(self, run_id: str) -> Tree:
        """Return the tree of one run: its steps, calls and errors, with tokens and cost in USD.

        Any unique prefix of an id works: `store.runs.get("nightly")`. Raises QueryFailed where there is no such run, or
        several begin so.
        """
        from eventlog.queries.runs import lookup, tree

        with self._connection(_RUNS) as connection:
            run = lookup.find_run(connection, run_id)
            if run is None:
                raise lookup.run_not_found(run_id)
            return tree.run_tree(connection, run)

    def tree(self, run_or_session: str) -> Tree:
        """Return the tree of a run, else of a session, else of a request: what `eventlog show` shows.

        Any unique prefix of an id works. Raises QueryFailed where there is none of them, or several begin so.
        """
        from eventlog.queries.runs import tree

        with self._connection(_RUNS) as connection:
            return tree.find_tree(connection, run_or_session)

    def diff(self, run_a: str, run_b: str) -> Difference:
        """Compare two runs, else two sessions: outcome, cost, steps, tool calls, first prompt.

        `store.runs.diff("nightly-6", "nightly-7").same` says whether nothing but times differs. Any unique prefix of an
        id works. Raises QueryFailed where there is no such run or session, and for one of each.
        """
        from eventlog.queries.runs import difference

        with self._connection(_TALK) as connection:
            return difference.compare(connection, self._reader.root, run_a, run_b)

    def conversation(self, run_or_session: str, *, text_chars: int | None = None) -> Conversation | None:
        """Return what was said and done in a run, else in a session: prompts, answers, thinking, calls of tools.

        `.turns` are in the order of the log, each with its items and what they cost in USD. `text_chars` cuts long
        texts; 20,000 items and 64 Mi characters are returned at most, and the rest is counted. Any unique prefix of an
        id works. None for a request, whose runs have the conversation. Raises QueryFailed where there is none of them,
        or several begin so.
        """
        from eventlog.queries.conversation import building, reading

        limit = reading.TEXT_MAX_CHARS if text_chars is None else text_chars
        with self._connection(_TALK) as connection:
            scope = building.find_scope(connection, run_or_session)
            if scope is None:
                return None
            return building.read_conversation(connection, self._reader.root, scope, text_chars=limit)

    def lines(self, run_or_session: str) -> LogLines | None:
        """Return the lines of a run, else of a session, as they stand in the log, in order of time.

        `.read()` yields them as bytes, `.hashes()` returns their SHA-256. None for a request. Raises QueryFailed where
        there is none of them, or several begin so.
        """
        from eventlog.queries.conversation import building, lines

        with self._connection((*_EVENTS, "runs", "requests")) as connection:
            scope = building.find_scope(connection, run_or_session)
            return None if scope is None else lines.LogLines(self._reader.root, connection, scope)

    def payloads(self, event_ids: Iterable[str], *, workspace: str | None = None) -> dict[str, dict[str, Any]]:
        """Return the payloads of some events by id, as plain Python objects as they were emitted; 64 MiB at most.

        Where several workspaces have an event of one id, that of `workspace` is meant, else the one without any;
        QueryFailed is raised where they all have another one. Ids that are not there are left out, and so are the
        latest events beyond 64 MiB.
        """
        from eventlog.queries.runs import payloads

        with self._connection(_EVENTS) as connection:
            return payloads.read_payloads(connection, self._reader.root, event_ids, workspace)

    def bundle(self, id_: str, output: str | PathLike[str], *, chain: bool = False) -> Bundle:
        """Write all lines of a run, a session or a request to a ZIP file that proves them: docs/bundles.md.

        Any unique prefix of an id works. With `chain`, all seals up to the newest are in it. `.proven` counts the lines
        that a seal proves, such as 11 of `.lines`. Raises QueryFailed for an unknown id and for more than 512 MiB.
        """
        from eventlog.queries.bundle import export

        with self._connection(_RUNS) as connection:
            found = export.find(connection, id_)
        return export.write(self._reader.root, found, Path(output), chain=chain)

    def short_ids(self, ids: Iterable[str]) -> dict[str, str]:
        """Return the shortest prefix of each id of a run, session or request that no other id has.

        Of 8 characters at least; ids that are not longer are left out.
        """
        from eventlog.queries import identity

        with self._connection(_EVENTS) as connection:
            return identity.short_ids(connection, ids)

    def list(
        self,
        *,
        agent: str | None = None,
        status: str | None = None,
        since: datetime | None = None,
        words: Collection[str] = (),
        limit: int = 50,
        after: str | None = None,
    ) -> list[PricedRun]:
        """Return runs, newest first: `[PricedRun(run_id="nightly-7", status="ok", cost_usd=Decimal("0.12"), …), …]`.

        `status` is ok, error (or any word of the program's own), cancelled, running or abandoned, as `outcome` of each
        run; a run whose process is gone is abandoned at once.
        `since` is compared with the start of a run. `words` are in its name, task, agent or id, all of them. `limit`
        is 1 to 10,000. `after` is the `cursor` of the last one of the page before.
        """
        from eventlog.queries.runs import lookup

        narrowed_from = None if self._reader.workspace is not None else lookup.NARROWED_ROWS_MIN
        with self._connection(_RUNS) as connection:
            return lookup.list_runs(
                connection, agent=agent, status=status, since=since, words=words, limit=limit, after=after,
                narrowed_from=narrowed_from,
            )  # fmt: skip

    __call__ = list


class SessionAnswers(_Answers):
    """Sessions, imported ones included: `store.sessions.list()`, `store.sessions.get("01a1fc0e")`."""

    def get(self, session_id: str) -> Tree:
        """Return the calls of one session in order, with tokens and cost in USD. Any unique prefix of an id works.

        Raises QueryFailed where there is no such session, or several begin so.
        """
        from eventlog.queries.runs import lookup, tree

        with self._connection(_RUNS) as connection:
            session = lookup.find_session(connection, session_id)
            if session is None:
                raise lookup.session_not_found(session_id)
            return tree.session_tree(connection, session)

    def count(self) -> int:
        """Return how many sessions there are; faster than a list of them."""
        from eventlog.queries.runs import lookup

        with self._connection(_EVENTS) as connection:
            return lookup.count_sessions(connection)

    def list(
        self,
        *,
        agent: str | None = None,
        since: datetime | None = None,
        words: Collection[str] = (),
        limit: int = 50,
        after: str | None = None,
    ) -> list[Session]:
        """Return sessions, the one with the newest event first: `[Session(session_id=…, llm_calls=12, …), …]`.

        `since` is compared with their newest event; `duration_s` is in seconds. `words` are in its title, project,
        branch, agent or id, all of them. `limit` is 1 to 10,000. `after` is
        the `cursor` of the last one of the page before.
        """
        from eventlog.queries.runs import lookup

        with self._connection(_RUNS) as connection:
            return lookup.list_sessions(connection, agent=agent, since=since, words=words, limit=limit, after=after)

    __call__ = list


class RequestAnswers(_Answers):
    """Requests that recorded events name: `store.requests.list()`, `store.requests.get("req-7")`."""

    def get(self, request_id: str) -> Tree:
        """Return the tree of all events of one request, in whatever runs, with tokens and cost in USD.

        Its `request` is the row of the list. Any unique prefix of an id works. Raises QueryFailed where there is no
        such request, or several begin so.
        """
        from eventlog.queries.runs import lookup, requests, tree

        with self._connection(_RUNS) as connection:
            request = requests.find_request(connection, request_id)
            if request is None:
                raise lookup.request_not_found(request_id)
            return tree.request_tree(connection, request)

    def list(
        self,
        *,
        agent: str | None = None,
        since: datetime | None = None,
        audit_level: AuditLevel | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> list[Request]:
        """Return requests, the one with the newest event first: `[Request(request_id="req-7", decisions=2, …), …]`.

        `cost_usd` is that of their model calls in USD, without the `unpriced` ones. `since` is compared with their
        newest event, `audit_level` is the least of their own. `limit` is 1 to 10,000. `after` is the `cursor`
        of the last one of the page before.
        """
        from eventlog.queries.runs import requests

        with self._connection(_RUNS) as connection:
            return requests.list_requests(
                connection, agent=agent, since=since, audit_level=audit_level, limit=limit, after=after
            )

    __call__ = list


class SearchAnswers(_Answers):
    """Full-text search: `store.search('rate limit "exit code 1"')`."""

    def __call__(
        self,
        query: str,
        *,
        event_types: Iterable[str] = (),
        agent: str | None = None,
        since: datetime | None = None,
        audit_level: AuditLevel | None = None,
        limit: int = 20,
        inside: bool = False,
    ) -> SearchResult:
        """Return the events that hold all words and "phrases" of a query, in any case, the best first.

        A word is one of the text, or the beginning of one; with `inside` it may stand anywhere, and each event is read.
        `.hits` are at most `limit` (1 to 1,000), with a snippet and the marks of the words in it (offsets in
        characters); `.matches` counts all events. `audit_level` is the least of the events. Raises QueryFailed for a
        query without words.
        """
        from eventlog.queries.search import search

        ask = partial(
            search.search, root=self._reader.root, query=query, inside=inside, event_types=names(event_types),
            agent=agent, since=since, audit_level=audit_level, limit=limit,
        )  # fmt: skip
        with self._reader.searching(views=_EVENTS) as (connection, usable), suppress(duckdb.OutOfMemoryException):
            return ask(connection, usable=usable)
        with self._reader.searching(views=_EVENTS, is_retry=True) as (connection, usable):
            return ask(connection, usable=usable)


class QuarantineAnswers(_Answers):
    """What is in quarantine: `store.quarantine()`."""

    def __call__(self, *, limit: int = 50) -> list[Group]:
        """Count the lines in quarantine by source and reason, most first: `[Group(kind="import", lines=12, …), …]`.

        Each has the first and the last place. `limit` is 1 to 10,000.
        """
        from eventlog.queries import quarantine

        with self._connection(("events", "quarantine", "conflicts")) as connection:
            return quarantine.read_quarantine(connection, of_all=self._reader.workspace is None, limit=limit)


class InsightAnswers(_Answers):
    """Loops and waste: `store.insights("nightly-7")`."""

    def __call__(self, run_or_session: str) -> Insights:
        """Return repeated calls, retries, loops, growth of the context and gaps of a run or a session.

        Durations are in ms, gaps in seconds, sizes in bytes. Any unique prefix of an id works. Raises QueryFailed where
        there is neither a run nor a session, or several begin so.
        """
        from eventlog.queries import insights

        with self._connection(_RUNS) as connection:
            return insights.find_insights(connection, run_or_session)


class CostAnswers(_Answers):
    """What model calls cost, in USD: `store.cost.by("model")`; docs/cost.md says how it is computed."""

    def report(
        self,
        period: Period | None = "day",
        *,
        by: By | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        now: datetime | None = None,
        zone: tzinfo | None = UTC,
    ) -> CostReport:
        """Sum up costs per period (day, week, month; None for one sum), and per group with `by`.

        `.rows` are in order of time, then cost; amounts are Decimals of USD, None where nothing has a price:
        `store.costs("month").total.cost_usd` is `Decimal("12.5")`. Calls without a price are in no sum, but in
        `.unpriced`. `now` is the moment for `.today`. Days are those of `zone`, such as `ZoneInfo("Europe/Berlin")`;
        None is the zone of this machine. Raises QueryFailed for an unknown period or group.
        """
        from eventlog.queries.cost import report

        with self._connection((*_COSTS, *(report.VIEWS.get(by, ()) if by else ()))) as connection:
            return report.report(connection, period=period, by=by, since=since, until=until, now=now, zone=zone)

    def by(self, group: By, *, since: datetime | None = None, until: datetime | None = None) -> list[Cost]:
        """Return one row of costs per model, agent, session, run, project, branch, subagent, server, …: dearest first.

        `store.cost.by("model")[0].group` is `"claude-opus-4-1"`, or None for calls that name none. Raises QueryFailed
        for an unknown group.
        """
        return self.report(None, by=group, since=since, until=until).rows

    def blocks(
        self,
        *,
        source: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        now: datetime | None = None,
    ) -> list[Block]:
        """Return the blocks of five hours, in order, that reach into the time from `since` to `until`.

        Of one `source` of calls (`"codex"`), or of all. `now` is the moment that the active block is known by,
        which has rates: `store.cost.blocks()[-1].usd_per_hour`.
        """
        from eventlog.queries.cost import blocks

        with self._connection(_COSTS) as connection:
            return blocks.blocks(connection, source=source, since=since, until=until, now=now)

    def recomputed(
        self,
        as_of: datetime,
        *,
        by: By = "model",
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Recomputed:
        """Return what calls would have cost at the prices in force at `as_of`, beside what they cost, in USD.

        Costs that were reported stay as they are. Raises QueryFailed for an unknown group.
        """
        from eventlog.queries.cost import report

        with self._connection((*_COSTS, *report.VIEWS.get(by, ()))) as connection:
            return report.recompute(connection, as_of, by=by, since=since, until=until)

    def prices(self, model: str | None = None) -> tuple[list[PriceInUse], list[str]]:
        """Return the rates of the models in use, in USD per million tokens, and notes on prices.

        With `model`, only those with it in their names, such as `"opus"`. `rate` is None where there is no price.
        """
        from eventlog.queries.cost import report

        with self._connection(_COSTS) as connection:
            return report.prices_in_use(connection, model)


class TodayAnswers(_Answers):
    """What was done in a time: `store.today(since, until).projects[0].asked`."""

    def __call__(self, since: datetime, until: datetime) -> Today:
        """Return what was asked, edited, run, failed and spent from `since` to `until`, the dearest project first."""
        from eventlog.queries import today

        with self._connection(today.VIEWS) as connection:
            return today.today(connection, since, until)


class MetricAnswers(_Answers):
    """Figures per hour or day: `store.metrics("hour", by=["agent"])`."""

    def __call__(
        self,
        bucket: aggregates.Bucket = "day",
        by: Collection[aggregates.Group] = (),
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        agent: str | None = None,
        now: datetime | None = None,
        zone: tzinfo | None = UTC,
    ) -> list[aggregates.Metrics]:
        """Count runs, calls, errors, tokens, cost (USD) and latencies (ms) per day or hour, in order of time.

        `by` holds any of workspace, agent and model. Only what is at `since` or later and before `until` counts, also
        where they cut a bucket; buckets without events are left out. `now` (the present by default) decides which
        open runs are abandoned. Days and hours are those of `zone`; None is the zone of this machine. Raises
        QueryFailed for an unknown bucket or group.
        """
        from eventlog.queries.metrics import aggregates

        with self._connection(_METRICS) as connection:
            return aggregates.metrics(connection, bucket, by, since=since, until=until, agent=agent, now=now, zone=zone)


class HealthAnswers(_Answers):
    """Scores of agents: `store.health("planner")`; docs/health.md has the formula."""

    def __call__(
        self, agent: str | None = None, *, now: datetime | None = None, window: timedelta = DAY
    ) -> list[score.Health]:
        """Score agents from 0 to 100, and say what took points off, with the SQL behind it.

        An agent is judged by the `window` before `now` (1 minute to 366 days), compared with the seven windows before.
        `score` and `grade` (A to F) are None where there is nothing to judge. Raises QueryFailed for a window out of
        range.
        """
        from eventlog.queries.health import score

        with self._connection(_METRICS) as connection:
            return score.health(connection, agent, now=now, window=window)


class AlertAnswers(_Answers):
    """What alert rules have found: `store.alerts.list()` are firings, beside `rules()` and `deliveries()`."""

    def rules(self) -> list[history.RuleState]:
        """Return every alert rule that was ever set, removed ones too, by workspace and name.

        `state` is ok, firing, snoozed, failing or removed.
        """
        from eventlog.queries.alerts import history

        with self._connection(history.VIEWS, fenced=True) as connection:
            return history.read_rules(connection)

    def deliveries(self, *, limit: int = 10_000) -> list[history.DeliveryState]:
        """Return which channel was, or is to be, notified of which firing, newest first.

        `state` is delivered, pending, dead, not_allowed or dropped.
        """
        from eventlog.queries.alerts import history

        with self._connection(history.VIEWS, fenced=True) as connection:
            return history.read_deliveries(connection, limit=limit)

    def list(self, *, limit: int = 1000) -> list[history.Firing]:
        """Return the firings of alert rules, newest first, and how delivering them went.

        `state` is open or resolved; amounts are text, such as `value="12.5"`.
        """
        from eventlog.queries.alerts import history

        with self._connection(history.VIEWS, fenced=True) as connection:
            return history.read_firings(connection, limit=limit)

    __call__ = list
