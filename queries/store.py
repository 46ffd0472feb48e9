"""ReadStore: how programs read a root.

    question → the index, opened read-only in its turn → hardened → answer → closed

Each call opens and closes the index, so that a store which lives on is never in the indexer's way. Times are in UTC.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from eventlog.errors import QueryFailed
from eventlog.indexer.index.digest import Digest, digest
from eventlog.queries import answers, settled, snapshot
from eventlog.queries.access.freshness import Behind
from eventlog.queries.access.reader import IndexReader
from eventlog.queries.access.selection import Select
from eventlog.queries.cost import on_demand
from eventlog.queries.status import State, state

P = ParamSpec("P")
R = TypeVar("R")


class _Shortcut(Generic[P, R]):
    """A question of a topic under a name of the store's: `store.costs` is `store.cost.report`."""

    def __init__(self, topic: str, question: Callable[Concatenate[Any, P], R]) -> None:
        self._topic = topic
        self._name = question.__name__
        self.__doc__ = question.__doc__

    @overload
    def __get__(self, store: None, owner: type[ReadStore]) -> Self: ...
    @overload
    def __get__(self, store: ReadStore, owner: type[ReadStore]) -> Callable[P, R]: ...
    def __get__(self, store: ReadStore | None, owner: type[ReadStore]) -> Self | Callable[P, R]:
        if store is None:
            return self
        question: Callable[P, R] = getattr(getattr(store, self._topic), self._name)
        return question


class ReadStore:
    """Answers questions about one root: `ReadStore(root).runs.list(agent="planner")`.

        events      list() get(id) counts()                 also store.event(id), store.counts()
        runs        list() get(id) tree(id) diff(a, b) payloads(ids) bundle(id, path)
                    conversation(id) lines(id)              also store.run(id), store.conversation(id), …
        sessions    list() get(id)                          also store.session(id)
        requests    list() get(id)                          also store.request(id)
        cost        by(group) report() blocks() recomputed(t) prices()   also store.costs(), …
        today       (since, until)
        alerts      list() rules() deliveries()             also store.alert_rules(), store.alert_deliveries()
        sql         (query) arrow() pandas() copy()         also store.arrow(), store.pandas(), store.copy()
        search      ("words")      insights  (id)      metrics  ("day")      health  ("agent")
        state()     digest()       snapshot(path)

    An answer with `list()` may be called itself: `store.runs(limit=5)` is `store.runs.list(limit=5)`.

    Every question raises IndexFailed where the root has no index (run `eventlog index`), IndexBusy where another
    process holds it for more than `wait_s`, and QueryFailed where it is stopped after `timeout_s` or cannot be
    asked. With a `workspace`, answers are as if the log held its events and nothing else.

    Answers are those of the index, which may be behind the log: a program that asks often had better not write to it
    with each question, and its answers should not differ in how long they take. With `catch_up_s`, each question first
    indexes what is new, if that takes no longer (see `catch_up`); the commands use 0.5.

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
        catch_up_s: float | None = None,
        on_stuck: Callable[[QueryFailed], None] | None = None,
    ) -> None:
        self._reader = IndexReader(
            root, workspace=workspace, wait_s=wait_s, timeout_s=timeout_s, catch_up_s=catch_up_s, on_stuck=on_stuck,
            on_demand=on_demand.TABLES,
        )  # fmt: skip
        self.root = self._reader.root
        self.workspace = self._reader.workspace

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._reader.scope()})"

    # -- topics: made when they are asked, and on the class, so that a subclass may answer otherwise ------------------

    @cached_property
    def events(self) -> answers.EventAnswers:
        """Events as they were emitted."""
        return answers.EventAnswers(self._reader)

    @cached_property
    def runs(self) -> answers.RunAnswers:
        """Runs of agents."""
        return answers.RunAnswers(self._reader)

    @cached_property
    def sessions(self) -> answers.SessionAnswers:
        """Sessions: runs and calls of one conversation."""
        return answers.SessionAnswers(self._reader)

    @cached_property
    def requests(self) -> answers.RequestAnswers:
        """Requests: all that was done to answer one."""
        return answers.RequestAnswers(self._reader)

    @cached_property
    def search(self) -> answers.SearchAnswers:
        """Events that hold words."""
        return answers.SearchAnswers(self._reader)

    @cached_property
    def quarantine(self) -> answers.QuarantineAnswers:
        """Lines that are no events."""
        return answers.QuarantineAnswers(self._reader)

    @cached_property
    def insights(self) -> answers.InsightAnswers:
        """Loops and waste of a run or a session."""
        return answers.InsightAnswers(self._reader)

    @cached_property
    def cost(self) -> answers.CostAnswers:
        """What model calls cost."""
        return answers.CostAnswers(self._reader)

    @cached_property
    def metrics(self) -> answers.MetricAnswers:
        """Counts, tokens, cost and latencies per bucket of time."""
        return answers.MetricAnswers(self._reader)

    @cached_property
    def today(self) -> answers.TodayAnswers:
        """What was done in a time, project by project."""
        return answers.TodayAnswers(self._reader)

    @cached_property
    def health(self) -> answers.HealthAnswers:
        """Scores of agents, with their reasons."""
        return answers.HealthAnswers(self._reader)

    @cached_property
    def alerts(self) -> answers.AlertAnswers:
        """Rules, firings and deliveries of alerts."""
        return answers.AlertAnswers(self._reader)

    @cached_property
    def sql(self) -> Select:
        """Untrusted SQL: one SELECT."""
        return Select(self._reader)

    # -- shorter names for some of their questions ---------------------------------------------------------------------

    event = _Shortcut("events", answers.EventAnswers.get)
    counts = _Shortcut("events", answers.EventAnswers.counts)
    run = _Shortcut("runs", answers.RunAnswers.get)
    tree = _Shortcut("runs", answers.RunAnswers.tree)
    conversation = _Shortcut("runs", answers.RunAnswers.conversation)
    diff = _Shortcut("runs", answers.RunAnswers.diff)
    payloads = _Shortcut("runs", answers.RunAnswers.payloads)
    session = _Shortcut("sessions", answers.SessionAnswers.get)
    request = _Shortcut("requests", answers.RequestAnswers.get)
    costs = _Shortcut("cost", answers.CostAnswers.report)
    recomputed_costs = _Shortcut("cost", answers.CostAnswers.recomputed)
    prices_in_use = _Shortcut("cost", answers.CostAnswers.prices)
    alert_rules = _Shortcut("alerts", answers.AlertAnswers.rules)
    alert_deliveries = _Shortcut("alerts", answers.AlertAnswers.deliveries)
    arrow = _Shortcut("sql", Select.arrow)
    pandas = _Shortcut("sql", Select.pandas)
    copy = _Shortcut("sql", Select.copy)

    # -- the index as a whole ------------------------------------------------------------------------------------------

    def catch_up(
        self,
        within_s: float = 0.5,
        *,
        say: Callable[[str], None] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Behind | None:
        """Index what is new in the log, if that takes no longer than `within_s`; return what is left, None for nothing.

        It ends after the batch in which that time is over. Where the index is held or read-only, nothing is indexed,
        and none is raised; in a store of one workspace neither. `say` gets warnings, which are logged without it, and
        `progress` bytes done and total. Raises IndexBusy, and IndexFailed where there is no index and none is made.
        """
        more: dict[str, Any] = {} if say is None else {"say": say}
        return self._reader.catch_up(within_s, progress=progress, **more)

    def state(self) -> State:
        """Return what the index holds, and how many bytes of each segment it has not read yet.

        Raises QueryFailed in a store of one workspace.
        """
        self._refuse_in_workspace("state()")
        with self._reader.trusted() as connection:
            return state(connection, self.root)

    def is_settled(self, now: datetime, *, of_runs: bool = True) -> bool:
        """Say whether an answer of `now` is also one of later, if nothing is recorded: no event is dated after it.

        `of_runs`: no run may become abandoned either, by its silence or the end of its process.
        """
        with self._reader.trusted(views=settled.VIEWS, fenced=False) as connection:
            return settled.is_settled(connection, now, of_runs=of_runs)

    def snapshot(self, path: str | Path) -> snapshot.Snapshot:
        """Write all that a query sees into one DuckDB file that other tools read, with a table for each view.

        `store.snapshot("log.duckdb").tables` is `{"events": 5429, "llm_costs": 1224, …}`, rows by table. DuckDB 1.2 and
        later read it. An older file is replaced, once the new one is whole. Raises QueryFailed where it cannot be
        written.
        """
        return snapshot.write(self._reader, Path(path))

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
