"""What owners of agents ask, each kind of question answered by a package of its own.

The packages take an open connection, so they see what the store sees: all, or one workspace. They are
loaded when they are asked: most programs ask one thing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import duckdb

from queries import sandbox
from queries.opening import Opening

if TYPE_CHECKING:
    from queries.cost import report
    from queries.health import score
    from queries.metrics import measured

DAY = timedelta(days=1)
_OF_COSTS = ("llm_calls", "events")


class Answers(Opening):
    """The part of a ReadStore that answers owners of agents. Methods raise QueryFailed, IndexFailed and IndexBusy."""

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
        from queries.cost import report

        with self._open(views=_OF_COSTS, fenced=False) as connection:
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
        from queries.cost import report

        with self._open(views=_OF_COSTS, fenced=False) as connection:
            return report.recompute(connection, as_of, by=by, since=since, until=until)

    def prices_in_use(self, model: str | None = None) -> tuple[list[report.PriceInUse], list[str]]:
        """Return the rates of the models in use (of those with `model` in their names), and notes on prices."""
        from queries.cost import report

        with self._open(views=_OF_COSTS, fenced=False) as connection:
            return report.prices_in_use(connection, model)

    # -- metrics and health ------------------------------------------------------------

    def metrics(
        self,
        bucket: measured.Bucket = "day",
        by: Collection[measured.Group] = (),
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        agent: str | None = None,
        now: datetime | None = None,
    ) -> list[measured.Metrics]:
        """Count runs, calls, errors, tokens, cost and latencies per day or hour of UTC; see `measured.metrics`."""
        from queries.metrics import measured

        with self._counting() as connection:
            return measured.metrics(connection, bucket, by, since=since, until=until, agent=agent, now=now)

    def health(
        self, agent: str | None = None, *, now: datetime | None = None, window: timedelta = DAY
    ) -> list[score.Health]:
        """Score agents, with what was taken off for which reason, and the SQL behind it; see `score.health`."""
        from queries.health import score

        with self._counting() as connection:
            return score.health(connection, agent, now=now, window=window)

    @contextmanager
    def _counting(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with (
            self._open(views=("events", "runs", "llm_calls", "tool_calls"), fenced=False) as connection,
            sandbox.time_limit(connection, self._timeout_s, self._on_stuck),
        ):
            yield connection
