"""ReadStore: how programs read a root.

    question → the index, opened read-only in its turn → hardened → answer → closed

Each call opens and closes the index, so that a store which lives on is never in the indexer's way. Times are in UTC.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from eventlog.errors import QueryFailed
from eventlog.indexer.index.digest import Digest, digest
from eventlog.queries import answers
from eventlog.queries.access.reader import IndexReader
from eventlog.queries.access.select import Select
from eventlog.queries.cost import on_demand
from eventlog.queries.status import State, state


class ReadStore:
    """Answers questions about one root: `ReadStore(root).runs.list(agent="planner")`.

        events      list() get(id) counts()                 also store.event(id), store.counts()
        runs        list() get(id) tree(id) diff(a, b) payloads(ids)   also store.run(id), store.tree(id), …
        sessions    list() get(id)                          also store.session(id)
        cost        by(group) report() recomputed(t) prices()   also store.costs(), store.recomputed_costs(t), …
        alerts      list() rules() deliveries()             also store.alert_rules(), store.alert_deliveries()
        sql         (query) arrow() pandas() copy()         also store.arrow(), store.pandas(), store.copy()
        search      ("words")      insights  (id)      metrics  ("day")      health  ("agent")
        state()     digest()

    An answer with `list()` may be called itself: `store.runs(limit=5)` is `store.runs.list(limit=5)`.

    Every question raises IndexFailed where the root has no index (run `eventlog index`), IndexBusy where another
    process holds it for more than `wait_s`, and QueryFailed where it is stopped after `timeout_s` or cannot be
    asked. With a `workspace`, answers are as if the log held its events and nothing else.

    `on_stuck` is for a process that exists for one query: it is called where DuckDB does not stop in time, and ends
    the process. Without it, such queries run in a process of their own.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        workspace: str | None = None,
        wait_s: float = 30.0,
        timeout_s: float = 60.0,
        on_stuck: Callable[[QueryFailed], None] | None = None,
    ) -> None:
        self._reader = reader = IndexReader(
            root, workspace=workspace, wait_s=wait_s, timeout_s=timeout_s, on_stuck=on_stuck, on_demand=on_demand.TABLES
        )
        self.root = reader.root
        self.workspace = reader.workspace

        self.events = answers.EventAnswers(reader)
        self.runs = answers.RunAnswers(reader)
        self.sessions = answers.SessionAnswers(reader)
        self.search = answers.SearchAnswers(reader)
        self.insights = answers.InsightAnswers(reader)
        self.cost = answers.CostAnswers(reader)
        self.metrics = answers.MetricAnswers(reader)
        self.health = answers.HealthAnswers(reader)
        self.alerts = answers.AlertAnswers(reader)
        self.sql = Select(reader)

        # Shorter names, as they were before there were topics.
        self.event, self.counts = self.events.get, self.events.counts
        self.run, self.tree, self.diff, self.payloads = (
            self.runs.get, self.runs.tree, self.runs.diff, self.runs.payloads,
        )  # fmt: skip
        self.session = self.sessions.get
        self.costs, self.recomputed_costs, self.prices_in_use = (
            self.cost.report, self.cost.recomputed, self.cost.prices,
        )  # fmt: skip
        self.alert_rules, self.alert_deliveries = self.alerts.rules, self.alerts.deliveries
        self.arrow, self.pandas, self.copy = self.sql.arrow, self.sql.pandas, self.sql.copy

    def state(self) -> State:
        """Return what the index holds, and how many bytes of each segment it has not read yet.

        Raises QueryFailed in a store of one workspace.
        """
        self._refuse_in_workspace("state()")
        with self._reader.trusted() as connection:
            return state(connection, self.root)

    def digest(self) -> Digest:
        """Return the content hash of the index: equal for indexes of the same events, in whatever order they came.

        Raises QueryFailed in a store of one workspace.
        """
        self._refuse_in_workspace("digest()")
        with self._reader.trusted() as connection:
            return digest(connection)

    def _refuse_in_workspace(self, question: str) -> None:
        if self.workspace is not None:
            raise QueryFailed(f"{question} is of the whole log, and this store is of the workspace {self.workspace!r}")
