"""A check: from the log to firings, and from firings to channels.

    lock → catch up → end firings of changed rules → measure → fire, resolve → catch up → deliver what is due → catch up

The lock for alerts is held from reading the rules to the last event, so the next check sees everything that this one
did. A firing is in the log, synced, before a channel is notified; a crash in between leaves its deliveries due. A crash
after a channel took a message, and before that is in the log, has it sent once more. See
docs/decisions/0019-alerts-as-events.md.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from eventlog.indexer.indexer import Indexer
from eventlog.queries.access.reader import IndexReader
from eventlog.queries.alerts import delivery, evaluate, outbox, rules, sql_rules
from eventlog.queries.alerts.decisions import Change, Decisions, Outcome
from eventlog.queries.alerts.journal import Journal, locked
from eventlog.queries.alerts.machine import State
from eventlog.queries.alerts.outbox import Delivery

LIMIT_S = 60.0
WAIT_S = 30.0


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What a check did at `at` (UTC): the outcome of every rule, firings that began or ended, and attempts to deliver.

    `undelivered` messages were due and not tried, since the time was used up or an optional dependency is missing;
    `note` says which.
    """

    at: datetime
    rules: list[Outcome]
    fired: list[Change]
    resolved: list[Change]
    deliveries: list[Delivery]
    undelivered: int = 0
    note: str | None = None
    elapsed_s: float = 0.0

    @property
    def is_quiet(self) -> bool:
        """Whether no rule is firing or failing, and everything that was due was delivered."""
        bad = (State.FIRING.value, State.FAILING.value)
        delivered = self.note is None and all(attempt.ok for attempt in self.deliveries)
        return delivered and not any(outcome.state in bad for outcome in self.rules)


def check(
    root: str | Path,
    *,
    now: datetime | None = None,
    limit_s: float = LIMIT_S,
    wait_s: float = WAIT_S,
    delivery_timeout_s: float = delivery.TIMEOUT_S,
    environ: Mapping[str, str] | None = None,
    stop: threading.Event | None = None,
) -> Checked:
    """Evaluate all rules at `now` (UTC), record what changed, and deliver what is due.

    Evaluating may take `limit_s`, and delivering as long again; rules and messages that are not reached are reported,
    and come next time. `environ` has the variables that channels name, such as SLACK_URL for `env:SLACK_URL`; it is
    the environment by default. Set `stop` to end the check early. Raises AlertsBusy and IndexBusy past `wait_s`,
    IndexFailed, WriteFailed.
    """
    root = Path(root)
    environ = os.environ if environ is None else environ
    stop = stop or threading.Event()

    def clock() -> datetime:
        return now or datetime.now(UTC)

    with locked(root, wait_s=wait_s) as journal:
        started = time.monotonic()
        indexer = Indexer(root, timeout_s=wait_s)
        reader = IndexReader(root, wait_s=wait_s)
        indexer.catch_up()
        # After catching up, which may take long: a window must not end before what was just indexed.
        checked_at = clock()
        decisions = _evaluate(
            root, reader, journal, checked_at,
            limit_s=limit_s, wait_s=wait_s, is_present=now is None, stop=stop,
        )  # fmt: skip
        if journal.written:
            indexer.catch_up()
        written = journal.written
        with reader.trusted(timeout_s=limit_s) as connection:
            due = outbox.read_due(connection, checked_at)
        sent = outbox.deliver(
            root, journal, due,
            clock=clock, environ=environ, limit_s=limit_s, timeout_s=delivery_timeout_s, stop=stop,
        )  # fmt: skip
        if journal.written > written:
            indexer.catch_up()
        return Checked(
            at=checked_at,
            rules=decisions.outcomes(),
            fired=decisions.fired,
            resolved=decisions.resolved,
            deliveries=sent.attempts,
            undelivered=sent.undelivered,
            note=sent.note,
            elapsed_s=round(time.monotonic() - started, 3),
        )


def _evaluate(
    root: Path,
    reader: IndexReader,
    journal: Journal,
    now: datetime,
    *,
    limit_s: float,
    wait_s: float,
    is_present: bool,
    stop: threading.Event,
) -> Decisions:
    """Measure all rules within `limit_s`, and record what follows."""
    deadline = time.monotonic() + limit_s
    with reader.trusted(timeout_s=limit_s) as connection:
        all_rules = rules.read(connection, now)
    decisions = Decisions(journal, now, all_rules)
    built_in = [rule for rule in decisions.to_measure if rule.definition.kind != "sql"]
    left_s = max(deadline - time.monotonic(), 0.0)
    readings = evaluate.measure(root, built_in, now, limit_s=left_s, wait_s=wait_s, is_present=is_present)
    for rule, reading in zip(built_in, readings, strict=True):
        decisions.record(rule, reading)
    # Untrusted SQL last: whatever it does, the other rules have been decided and logged.
    sql = evaluate.rotated([rule for rule in decisions.to_measure if rule.definition.kind == "sql"], now)
    left_s = max(deadline - time.monotonic(), 0.0)
    readings = sql_rules.measure(root, sql, limit_s=left_s, stop=stop)
    for rule, reading in zip(sql, readings, strict=True):
        decisions.record(rule, reading)
    return decisions
