"""A check: from the log to firings, and from firings to channels.

    turn → catch up → settle changed rules → measure → fire, resolve → catch up → deliver what is due → catch up

Whoever checks holds the lock for alerts from the first look to the last event, so the next one sees all that this one
did. Firings are in the log, synced, before anybody is told; a crash in between leaves them due. A crash after a
channel took a message, and before that is in the log, has it told once more.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import msgspec

from eventlog.errors import ConfigError, InvalidEvent, MissingExtra
from eventlog.format import timestamps
from eventlog.format.alerts import AlertDelivered, AlertDeliveryFailed
from eventlog.indexer.indexer import Indexer
from eventlog.log.clock import AHEAD_S
from eventlog.queries.access.reader import IndexReader
from eventlog.queries.alerts import allowed, delivery, evaluate, rules, sql_rules
from eventlog.queries.alerts.allowed import Allowed
from eventlog.queries.alerts.decisions import Change, Outcome, Steps
from eventlog.queries.alerts.journal import Journal, journal, turn
from eventlog.queries.alerts.machine import Reading, State
from eventlog.queries.alerts.rules import Rule

LIMIT_S = 60.0
WAIT_S = 30.0
#: Of what is due, so much is looked at in one check.
_DUE_MAX = 1000


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A channel that was told, or why not. Without `retry_at`, one that failed is a dead letter."""

    workspace: str | None
    name: str
    firing_id: str
    channel: str
    attempt: int
    ok: bool
    reason: str | None = None
    retry_at: datetime | None = None


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What a check did."""

    at: datetime
    rules: list[Outcome]
    fired: list[Change]
    resolved: list[Change]
    deliveries: list[Delivery]
    #: Due, but not tried: the time was used up, or an optional dependency is missing.
    undelivered: int = 0
    note: str | None = None
    elapsed_s: float = 0.0

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is firing and nothing went wrong."""
        bad = (State.FIRING.value, State.FAILING.value)
        told = self.note is None and all(each.ok for each in self.deliveries)
        return told and not any(each.state in bad for each in self.rules)


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

    Evaluating may take `limit_s`, and delivering as long again; what is not reached is said so and comes next time. Set
    `stop` to have it end early. Raises AlertsBusy and IndexBusy past `wait_s`, IndexFailed, WriteFailed.
    """
    run = _Check(Path(root), now, limit_s, wait_s, delivery_timeout_s, os.environ if environ is None else environ, stop)
    with turn(root, wait_s=wait_s), journal(root) as writing:
        return run.run(writing)


class _Check:
    """One check, under the lock."""

    def __init__(
        self,
        root: Path,
        now: datetime | None,
        limit_s: float,
        wait_s: float,
        delivery_timeout_s: float,
        environ: Mapping[str, str],
        stop: threading.Event | None,
    ) -> None:
        self._root, self._limit_s, self._wait_s = root, limit_s, wait_s
        self._delivery_timeout_s, self._environ = delivery_timeout_s, environ
        self._stop = stop or threading.Event()
        self._given = now
        self._indexer = Indexer(root, timeout_s=wait_s)
        self._reader = IndexReader(root, wait_s=wait_s)

    def run(self, writing: Journal) -> Checked:
        begun = time.monotonic()
        self._indexer.catch_up()
        # After catching up, which may take long: a window must not end before what was just indexed.
        now = self._given or datetime.now(UTC)
        deadline = time.monotonic() + self._limit_s
        with self._reader.trusted(timeout_s=self._limit_s) as connection:
            everything = rules.read(connection, now)
        steps = Steps(writing, now, everything)
        built_in = [rule for rule in steps.evaluated if rule.definition.kind != "sql"]
        left_s = max(deadline - time.monotonic(), 0.0)
        measured = evaluate.measure(self._root, built_in, now, limit_s=left_s, wait_s=self._wait_s)
        for rule, reading in zip(built_in, measured.readings, strict=True):
            _take(steps, rule, reading)
        # Other people's SQL last: whatever it does, the others have been decided and logged.
        asked = _rotated([rule for rule in steps.evaluated if rule.definition.kind == "sql"], now)
        left_s = max(deadline - time.monotonic(), 0.0)
        for rule, reading in zip(
            asked, sql_rules.measure(self._root, asked, limit_s=left_s, stop=self._stop) if asked else [], strict=True
        ):
            _take(steps, rule, reading)
        if writing.written:
            self._indexer.catch_up()
        written = writing.written
        deliveries, undelivered, note = self._deliver(writing, now)
        if writing.written > written:
            self._indexer.catch_up()
        return Checked(
            at=now,
            rules=steps.outcomes(),
            fired=steps.fired,
            resolved=steps.resolved,
            deliveries=deliveries,
            undelivered=undelivered,
            note=note,
            elapsed_s=round(time.monotonic() - begun, 3),
        )

    # -- delivering ------------------------------------------------------------------------

    def _deliver(self, writing: Journal, now: datetime) -> tuple[list[Delivery], int, str | None]:
        with self._reader.trusted(timeout_s=self._limit_s) as connection:
            due = due_at(connection, now)
        try:
            permitted = allowed.read(self._root)
        except ConfigError as error:
            return [], len(due), f"{allowed.NOT_ALLOWED}: {error}" if due else None
        deadline = time.monotonic() + self._limit_s
        done: list[Delivery] = []
        failed: set[str] = set()
        for place, each in enumerate(due):
            if self._stop.is_set() or time.monotonic() >= deadline:
                return done, len(due) - place, "there was no time to deliver all that is due"
            if each.label in failed:  # one that does not answer is not waited for again and again
                continue
            try:
                reason = self._tell(each, permitted)
            except MissingExtra as missing:
                return done, len(due) - place, str(missing)
            done.append(_record(writing, each, reason, self._given or datetime.now(UTC)))
            if reason is not None:
                failed.add(each.label)
        return done, len(due) - len(done), None

    def _tell(self, each: Due, permitted: Allowed) -> str | None:
        channel = next((one for one in each.channels if delivery.label(one) == each.label), None)
        if channel is None:
            return "the rule names this channel no more"
        refused = permitted.why_not(channel)
        if refused is not None:
            return refused
        return delivery.send(channel, message(each), self._environ, timeout_s=self._delivery_timeout_s)


def _take(steps: Steps, rule: Rule, reading: Reading) -> None:
    """Have a reading taken; where what it would say cannot be said, that is an error of this rule."""
    try:
        steps.take(rule, reading)
    except (ArithmeticError, InvalidEvent) as error:
        if reading.error is not None:
            raise
        said = f"what was measured cannot be recorded: {type(error).__name__}: {error}"
        steps.take(rule, Reading(holds=None, error=said))


def _rotated(asked: list[Rule], now: datetime) -> list[Rule]:
    """Begin at another rule each minute: where time is short, it is not always the last ones that go without."""
    start = int(now.timestamp()) // 60 % len(asked) if asked else 0
    return asked[start:] + asked[:start]


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A firing and a channel (its label) that is to be told of it. `channels` are the rule's, as they were set."""

    firing_id: str
    workspace: str | None
    name: str
    severity: str
    label: str
    fired: datetime
    failures: int
    state: str
    kind: str
    summary: str
    value: str | None
    threshold: str | None
    samples: int | None
    window_s: float | None
    agent: str | None
    model: str | None
    detail: str | None
    channels: list[str]


_DUE = f"""
    SELECT d.firing_id::VARCHAR, d.workspace, d.name, d.severity, d.channel, d.fired, d.failures_in_a_row, a.state,
           a.kind, a.summary, a.value::VARCHAR, a.threshold::VARCHAR, a.samples, a.window_s, a.agent, a.model, a.detail,
           coalesce(TRY_CAST(r.definition -> 'channels' AS VARCHAR[]), [])
    FROM alert_deliveries d
    JOIN alerts a ON a.firing_id = d.firing_id AND a.workspace IS NOT DISTINCT FROM d.workspace
    JOIN alert_rules r ON r.rule_id = d.rule_id AND r.workspace IS NOT DISTINCT FROM d.workspace
    WHERE d.state = 'pending'
      AND coalesce(d.retry_at <= $1::TIMESTAMP OR d.last_failure > $1::TIMESTAMP + to_seconds({AHEAD_S:g}), true)
      AND coalesce(r.snoozed_until <= $1::TIMESTAMP, true)
    ORDER BY d.last_failure NULLS FIRST, d.fired, d.firing_id, d.channel LIMIT {_DUE_MAX}
"""


def due_at(connection: duckdb.DuckDBPyConnection, now: datetime) -> list[Due]:
    """Return what is to be delivered at a moment: what was tried longest ago first."""
    rows = connection.execute(_DUE, [timestamps.to_text(now).rstrip("Z")]).fetchall()
    return [Due(**dict(zip(Due.__struct_fields__, row, strict=True))) for row in rows]


def message(each: Due) -> delivery.Message:
    """Return what is told of a firing."""
    facts = {
        "rule": each.name,
        "severity": each.severity,
        "kind": each.kind,
        "value": each.value and rules.shown(each.kind, Decimal(each.value)),
        "threshold": each.threshold and rules.plain(Decimal(each.threshold)),
        "window": each.window_s and rules.span(each.window_s),
        "samples": each.samples,
        "workspace": each.workspace,
        "agent": each.agent,
        "model": each.model,
        "detail": each.detail,
        "fired": timestamps.to_text(rules.utc(each.fired)),
        "state": each.state,
        "firing": each.firing_id,
    }
    lines = [each.summary, ""] + [f"{name}: {value}" for name, value in facts.items() if value not in (None, "")]
    severity = each.severity if each.severity in rules.SEVERITIES else "warning"
    return delivery.Message(f"[{severity}] {each.summary}", "\n".join(lines), severity)


def _record(writing: Journal, each: Due, reason: str | None, at: datetime) -> Delivery:
    attempt = each.failures + 1
    retry_at = None
    event: AlertDelivered | AlertDeliveryFailed
    if reason is None:
        event = AlertDelivered(name=each.name, firing_id=each.firing_id, channel=each.label, attempt=attempt)
    else:
        # What is not allowed here is not tried again before somebody says so.
        wait_s = None if reason.startswith(allowed.NOT_ALLOWED) else delivery.backoff_s(attempt)
        retry_at = None if wait_s is None else at + timedelta(seconds=wait_s)
        event = AlertDeliveryFailed(
            name=each.name,
            firing_id=each.firing_id,
            channel=each.label,
            attempt=attempt,
            reason=reason,
            retry_at=retry_at,
        )
    writing.write(event, workspace=each.workspace, at=at)
    return Delivery(
        workspace=each.workspace,
        name=each.name,
        firing_id=each.firing_id,
        channel=each.label,
        attempt=attempt,
        ok=reason is None,
        reason=reason,
        retry_at=retry_at,
    )
