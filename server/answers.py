"""The answers to what can be asked over HTTP: the structs that the commands print with `--json`.

    Endpoint (eventlog.server.endpoints) ──its name──→ a function here ──ReadStore──→ structs

They run in a reader process (eventlog.server.reading), never in the one that serves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from eventlog.errors import QueryFailed
from eventlog.importers import sources
from eventlog.queries.alerts.history import DeliveryState, Firing, RuleState
from eventlog.queries.conversation.structs import Conversation
from eventlog.queries.cost import budgets
from eventlog.queries.cost.blocks import Block
from eventlog.queries.cost.report import CostReport, Period, PriceInUse, Recomputed
from eventlog.queries.events.lookup import Count, Page
from eventlog.queries.health.score import Health
from eventlog.queries.identity import NotFound, is_event_id
from eventlog.queries.insights.findings import Insights
from eventlog.queries.metrics.aggregates import Metrics
from eventlog.queries.quarantine import Group
from eventlog.queries.runs.difference import Difference
from eventlog.queries.runs.evidence import ExaminedEvent, examined
from eventlog.queries.runs.lookup import PricedRun, Session
from eventlog.queries.runs.requests import Request
from eventlog.queries.runs.tree import Tree
from eventlog.queries.search.search import SearchResult
from eventlog.queries.status import Status, status
from eventlog.queries.store import ReadStore
from eventlog.queries.today import Today, end_of_minute

Arguments = Mapping[str, Any]
Budgets = Mapping[budgets.Per, float | None]
#: Firings that are listed, as by the command.
_FIRINGS_MAX = 1000


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes of an event's line, with its newline, and where they stand: `offset` is in bytes."""

    line: bytes
    segment: str
    offset: int

    @property
    def sha256(self) -> str:
        """The hash of the line with its newline, in hex, as `eventlog export` prints it."""
        return hashlib.sha256(self.line).hexdigest()


class PricesInUse(msgspec.Struct, frozen=True, kw_only=True):
    """The rates of models, and notes on prices."""

    prices: list[PriceInUse]
    notes: list[str]


class Answer(NamedTuple):
    """A struct, and the `after` of the next page if there is one. `is_of_index`: it depends on nothing else."""

    content: Any
    next: str | None = None
    is_of_index: bool = True


class Answering(NamedTuple):
    """How an endpoint is answered, and the types that the answer may have."""

    types: tuple[Any, ...]
    answer: Callable[[ReadStore, Arguments], Answer]


def _plain(answer: Callable[[ReadStore, Arguments], Any]) -> Callable[[ReadStore, Arguments], Answer]:
    return lambda store, arguments: Answer(answer(store, arguments))


# -- events ------------------------------------------------------------------------------------


def _where(arguments: Arguments) -> dict[str, str]:
    names = ("agent", "run_id", "session_id", "request_id")
    return {name: arguments[name] for name in names if arguments[name] is not None}


def _events(store: ReadStore, arguments: Arguments) -> Answer:
    page = store.events.list(
        arguments["type"], since=arguments["since"], until=arguments["until"], where=_where(arguments),
        audit_level=arguments["audit_level"], newest_first=arguments["newest_first"], limit=arguments["limit"],
        after=arguments["after"],
    )  # fmt: skip
    # What a large field is read from is a file beside the log.
    return Answer(page, page.next, all(event.stored_payload is None for event in page.events))


def _event(store: ReadStore, arguments: Arguments) -> ExaminedEvent | Line:
    id_ = arguments["id"]
    located = store.events.get(id_) if is_event_id(id_) else None
    if located is None:
        raise NotFound(f"there is no event {id_!r}")
    if not arguments["raw"]:
        path = Path(located.path).relative_to(store.root)  # where the root is, is nothing to those who ask from afar
        return examined(store.root, msgspec.structs.replace(located, path=str(path)))
    if located.line is None:
        raise NotFound(f"the log has the line of {id_!r} no more: its segment was released, pruned or deleted")
    return Line(line=located.line + b"\n", segment=located.event.segment, offset=located.event.line_offset)


def _counts(store: ReadStore, arguments: Arguments) -> list[Count]:
    return store.events.counts(
        arguments["type"], bucket=arguments["bucket"], since=arguments["since"], until=arguments["until"],
        where=_where(arguments), audit_level=arguments["audit_level"],
    )  # fmt: skip


def _search(store: ReadStore, arguments: Arguments) -> SearchResult:
    return store.search(
        arguments["text"], event_types=arguments["type"], agent=arguments["agent"], since=arguments["since"],
        audit_level=arguments["audit_level"], limit=arguments["limit"], inside=arguments["inside"],
    )  # fmt: skip


# -- runs, sessions, requests ------------------------------------------------------------------


def _words(arguments: Arguments) -> list[str]:
    return [word for text in arguments["words"] for word in text.split()]


def _runs(store: ReadStore, arguments: Arguments) -> Answer:
    rows = store.runs.list(
        agent=arguments["agent"], status=arguments["status"], since=arguments["since"], words=_words(arguments),
        limit=arguments["limit"], after=arguments["after"],
    )  # fmt: skip
    last = rows[-1] if len(rows) == arguments["limit"] else None
    return Answer(rows, None if last is None else last.cursor)


def _sessions(store: ReadStore, arguments: Arguments) -> Answer:
    rows = store.sessions.list(
        agent=arguments["agent"], since=arguments["since"], words=_words(arguments), limit=arguments["limit"],
        after=arguments["after"],
    )  # fmt: skip
    last = rows[-1] if len(rows) == arguments["limit"] else None
    return Answer(rows, None if last is None else last.cursor)


def _requests(store: ReadStore, arguments: Arguments) -> Answer:
    rows = store.requests.list(
        agent=arguments["agent"], since=arguments["since"], audit_level=arguments["audit_level"],
        limit=arguments["limit"], after=arguments["after"],
    )  # fmt: skip
    last = rows[-1] if len(rows) == arguments["limit"] else None
    return Answer(rows, None if last is None else last.cursor)


def _messages(store: ReadStore, arguments: Arguments) -> Conversation:
    conversation = store.runs.conversation(arguments["id"], text_chars=arguments["text_chars"])
    if conversation is None:
        raise QueryFailed(f"{arguments['id']!r} is a request; ask for the messages of its runs")
    return conversation


# -- sums --------------------------------------------------------------------------------------


def _cost(store: ReadStore, arguments: Arguments) -> CostReport:
    by = arguments["by"]
    named: Period | Literal["total"] = arguments["period"] or ("day" if by is None else "total")
    period = None if named == "total" else named
    report = store.cost.report(
        period, by=by, since=arguments["since"], until=arguments["until"], zone=arguments["zone"]
    )
    of_settings: Budgets = arguments["budgets"]
    limits = {per: None if usd is None else Decimal(str(usd)) for per, usd in of_settings.items()}
    if arguments["budget"] is not None:
        limits["month"] = arguments["budget"]
    return budgets.with_budgets(report, limits)


def _blocks(store: ReadStore, arguments: Arguments) -> list[Block]:
    source = arguments["source"]
    known = ("llm_call", *(name for each in sources.all_sources() for name in each.event_types))
    if source is not None and source.replace("-", "_") not in known:
        raise QueryFailed(f"unknown source {source!r}; there are: {', '.join(known)}")
    rows = store.cost.blocks(
        source=source and source.replace("-", "_"), since=arguments["since"], until=arguments["until"]
    )
    return [block for block in rows if block.active] if arguments["active"] else rows


def _prices(store: ReadStore, arguments: Arguments) -> PricesInUse:
    prices, notes = store.cost.prices(arguments["model"])
    return PricesInUse(prices=prices, notes=notes)


def _recomputed(store: ReadStore, arguments: Arguments) -> Recomputed:
    return store.cost.recomputed(
        arguments["as_of"], by=arguments["by"], since=arguments["since"], until=arguments["until"]
    )


def _metrics(store: ReadStore, arguments: Arguments) -> list[Metrics]:
    return store.metrics(
        "day" if arguments["every"] == "daily" else "hour", arguments["by"], since=arguments["since"],
        until=arguments["until"], agent=arguments["agent"], zone=arguments["zone"],
    )  # fmt: skip


def _health(store: ReadStore, arguments: Arguments) -> list[Health]:
    agent = arguments["agent"]
    scores = store.health(agent, now=arguments["at"], window=timedelta(seconds=arguments["window"]))
    if agent is not None and not scores:
        raise NotFound(f"no event names the agent {agent!r}")
    return scores


def _alerts(store: ReadStore, arguments: Arguments) -> list[RuleState] | list[Firing] | list[DeliveryState]:
    if arguments["history"] and arguments["dead"]:
        raise QueryFailed("history and dead exclude each other; use one at a time")
    if arguments["history"]:
        return store.alerts.list(limit=_FIRINGS_MAX)
    if arguments["dead"]:
        return [letter for letter in store.alerts.deliveries() if letter.state in ("dead", "not_allowed")]
    return [rule for rule in store.alerts.rules() if arguments["all"] or rule.state != "removed"]


def _today(store: ReadStore, arguments: Arguments) -> Today:
    until = arguments["until"]
    return store.today(arguments["since"], end_of_minute(datetime.now(UTC)) if until is None else until)


ANSWERS: dict[str, Answering] = {
    "events": Answering((Page,), _events),
    "event": Answering((ExaminedEvent,), _plain(_event)),
    "runs": Answering((list[PricedRun],), _runs),
    "run": Answering((Tree,), _plain(lambda store, arguments: store.runs.get(arguments["id"]))),
    "diff": Answering((Difference,), _plain(lambda store, arguments: store.runs.diff(arguments["a"], arguments["b"]))),
    "sessions": Answering((list[Session],), _sessions),
    "session": Answering((Tree,), _plain(lambda store, arguments: store.sessions.get(arguments["id"]))),
    "messages": Answering((Conversation,), _plain(_messages)),
    "requests": Answering((list[Request],), _requests),
    "request": Answering((Tree,), _plain(lambda store, arguments: store.requests.get(arguments["id"]))),
    "cost": Answering((CostReport,), _plain(_cost)),
    "cost_blocks": Answering((list[Block],), _plain(_blocks)),
    "cost_prices": Answering((PricesInUse,), _plain(_prices)),
    "cost_recompute": Answering((Recomputed,), _plain(_recomputed)),
    "metrics": Answering((list[Metrics],), _plain(_metrics)),
    "health": Answering((list[Health],), _plain(_health)),
    "alerts": Answering((list[RuleState], list[Firing], list[DeliveryState]), _plain(_alerts)),
    "insights": Answering((Insights,), _plain(lambda store, arguments: store.insights(arguments["id"]))),
    "search": Answering((SearchResult,), _plain(_search)),
    "counts": Answering((list[Count],), _plain(_counts)),
    "today": Answering((Today,), _plain(_today)),
    "quarantine": Answering(
        (list[Group],), _plain(lambda store, arguments: store.quarantine(limit=arguments["limit"]))
    ),
    "status": Answering((Status,), _plain(lambda store, _: status(store.root, wait_s=1.0))),
}  # fmt: skip
