"""What owners of agents ask, each kind of question answered by a package of its own.

The packages take an open connection, so they see what the store sees: all, or one workspace. They are
loaded when they are asked: most programs ask one thing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from eventlog.queries.access.reader import IndexReader

if TYPE_CHECKING:
    from eventlog.queries.alerts import history
    from eventlog.queries.cost import report
    from eventlog.queries.health import score
    from eventlog.queries.insights.findings import Insights
    from eventlog.queries.metrics import aggregates
    from eventlog.queries.runs.difference import Difference
    from eventlog.queries.runs.lookup import Run, Session
    from eventlog.queries.runs.tree import Tree
    from eventlog.queries.search.search import SearchResult

DAY = timedelta(days=1)
_OF_RUNS = ("events", "runs", "steps", "llm_calls", "tool_calls", "sessions")
_OF_COSTS = ("llm_calls", "events")
_OF_METRICS = ("events", "runs", "llm_calls", "tool_calls")


class Answers:
    """The part of a ReadStore that answers owners of agents. Methods raise QueryFailed, IndexFailed and IndexBusy."""

    root: Path
    _reader: IndexReader

    def _within_limits(
        self, views: Collection[str], *, fenced: bool = True
    ) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        return self._reader.trusted(views=views, fenced=fenced, timeout_s=self._reader.timeout_s)

    # -- what agents did ---------------------------------------------------------------

    def runs(
        self, *, agent: str | None = None, status: str | None = None, since: datetime | None = None, limit: int = 50
    ) -> list[Run]:
        """Return runs, the one that began last first; those whose process is gone are 'abandoned' at once."""
        from eventlog.queries.runs import lookup

        with self._within_limits(views=_OF_RUNS, fenced=False) as connection:
            return lookup.list_runs(connection, agent=agent, status=status, since=since, limit=limit)

    def run(self, run_id: str) -> Tree:
        """Return the tree of a run, by its id or what alone begins so. Raises QueryFailed."""
        from eventlog.queries.runs import lookup, tree

        with self._within_limits(views=_OF_RUNS, fenced=False) as connection:
            known = lookup.find_run(connection, run_id)
            if known is None:
                raise lookup.run_not_found(run_id)
            return tree.run_tree(connection, known)

    def sessions(self, *, agent: str | None = None, since: datetime | None = None, limit: int = 50) -> list[Session]:
        """Return sessions, the one that said something last first."""
        from eventlog.queries.runs import lookup

        with self._within_limits(views=_OF_RUNS, fenced=False) as connection:
            return lookup.list_sessions(connection, agent=agent, since=since, limit=limit)

    def session(self, session_id: str) -> Tree:
        """Return the calls of a session in order, by its id or what alone begins so. Raises QueryFailed."""
        from eventlog.queries.runs import lookup, tree

        with self._within_limits(views=_OF_RUNS, fenced=False) as connection:
            known = lookup.find_session(connection, session_id)
            if known is None:
                raise lookup.session_not_found(session_id)
            return tree.session_tree(connection, known)

    def tree(self, given: str) -> Tree:
        """Return what `run` or else `session` returns: what eventlog show shows. Raises QueryFailed."""
        from eventlog.queries.runs import tree

        with self._within_limits(views=_OF_RUNS, fenced=False) as connection:
            return tree.find_tree(connection, given)

    def payloads(self, event_ids: Iterable[str], *, workspace: str | None = None) -> dict[str, dict[str, Any]]:
        """Return the payloads of some events as plain Python objects, as they were emitted; 64 MiB at most.

        Where several workspaces have an event of one id, that of `workspace` is meant, else the one without any.
        In order of time; those beyond that are left out, as are ids that are not there.
        """
        from eventlog.queries.runs import payloads

        with self._within_limits(views=("events",), fenced=False) as connection:
            return payloads.read_payloads(connection, self.root, event_ids, workspace)

    def diff(self, run_a: str, run_b: str) -> Difference:
        """Compare two runs. Raises QueryFailed."""
        from eventlog.queries.runs import difference

        with self._within_limits(views=_OF_RUNS, fenced=False) as connection:
            return difference.compare(connection, self.root, run_a, run_b)

    def search(
        self,
        query: str,
        *,
        event_types: Iterable[str] = (),
        agent: str | None = None,
        since: datetime | None = None,
        limit: int = 20,
    ) -> SearchResult:
        """Return the events that hold all words and "phrases" of a query, in any case, the best first."""
        from eventlog.queries.search import search as searching

        with self._within_limits(views=("events",), fenced=False) as connection:
            return searching.search(
                connection, self.root, query, event_types=event_types, agent=agent, since=since, limit=limit
            )

    def insights(self, given: str) -> Insights:
        """Return loops and waste of a run or a session, by its id or what alone begins so. Raises QueryFailed."""
        from eventlog.queries import insights

        with self._within_limits(views=_OF_RUNS, fenced=False) as connection:
            return insights.find_insights(connection, given)

    # -- cost --------------------------------------------------------------------------

    def costs(
        self,
        period: report.Period | None = "day",
        *,
        by: report.By | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        now: datetime | None = None,
    ) -> report.CostReport:
        """Return what model calls cost per period of UTC time, and per model, agent, … with `by`; see docs/cost.md."""
        from eventlog.queries.cost import report

        with self._within_limits(views=_OF_COSTS, fenced=False) as connection:
            return report.report(connection, period=period, by=by, since=since, until=until, now=now)

    def recomputed_costs(
        self,
        as_of: datetime,
        *,
        by: report.By = "model",
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> report.Recomputed:
        """Return what model calls would have cost at the prices of one moment, beside what they cost."""
        from eventlog.queries.cost import report

        with self._within_limits(views=_OF_COSTS, fenced=False) as connection:
            return report.recompute(connection, as_of, by=by, since=since, until=until)

    def prices_in_use(self, model: str | None = None) -> tuple[list[report.PriceInUse], list[str]]:
        """Return the rates of the models in use (of those with `model` in their names), and notes on prices."""
        from eventlog.queries.cost import report

        with self._within_limits(views=_OF_COSTS, fenced=False) as connection:
            return report.prices_in_use(connection, model)

    # -- metrics and health ------------------------------------------------------------

    def metrics(
        self,
        bucket: aggregates.Bucket = "day",
        by: Collection[aggregates.Group] = (),
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        agent: str | None = None,
        now: datetime | None = None,
    ) -> list[aggregates.Metrics]:
        """Count runs, calls, errors, tokens, cost and latencies per day or hour of UTC; see `measured.metrics`."""
        from eventlog.queries.metrics import aggregates

        with self._within_limits(views=_OF_METRICS, fenced=False) as connection:
            return aggregates.metrics(connection, bucket, by, since=since, until=until, agent=agent, now=now)

    def health(
        self, agent: str | None = None, *, now: datetime | None = None, window: timedelta = DAY
    ) -> list[score.Health]:
        """Score agents, with what was taken off for which reason, and the SQL behind it; see `score.health`."""
        from eventlog.queries.health import score

        with self._within_limits(views=_OF_METRICS, fenced=False) as connection:
            return score.health(connection, agent, now=now, window=window)

    # -- alerts ------------------------------------------------------------------------

    def alert_rules(self) -> list[history.RuleState]:
        """Return every alert rule that was ever set, the removed ones too, and how it is."""
        from eventlog.queries.alerts import history

        with self._within_limits(views=history.VIEWS) as connection:
            return history.read_rules(connection)

    def alerts(self, *, limit: int = 1000) -> list[history.Firing]:
        """Return what alert rules have fired, the newest first, and how telling it went."""
        from eventlog.queries.alerts import history

        with self._within_limits(views=history.VIEWS) as connection:
            return history.read_firings(connection, limit=limit)

    def alert_deliveries(self, *, limit: int = 10_000) -> list[history.DeliveryState]:
        """Return which channel was, or is to be, told of which firing; dead letters have the state `dead`."""
        from eventlog.queries.alerts import history

        with self._within_limits(views=history.VIEWS) as connection:
            return history.read_deliveries(connection, limit=limit)
