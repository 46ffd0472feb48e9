"""Deliveries that are due: read from the index, sent, and recorded.

A delivery is due while its firing is in the log and its `alert_delivered` is not. So a crash at any point leaves it
due; a crash between sending and recording sends it twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import msgspec

from eventlog.errors import ConfigError, MissingExtra
from eventlog.format import timestamps
from eventlog.format.alerts import AlertDelivered, AlertDeliveryFailed
from eventlog.log.clock import AHEAD_S
from eventlog.queries.alerts import allowed, channels, delivery, rules
from eventlog.queries.alerts.allowed import Allowed
from eventlog.queries.alerts.journal import Journal
from eventlog.queries.rows import rows_as
from eventlog.queries.text import units

#: Messages that one check sends at most.
DUE_MAX = 1000


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A message to be sent: a firing, and the channel that it is due to be delivered to. `fired` is UTC.

    It holds the URLs of channels, and so secrets; what is shown of a delivery is a history.DeliveryState.
    `label` is the channel without secrets, such as `env:SLACK_URL`; `channels` are the URLs of the rule as it was set.
    `failures` counts attempts that failed since the first one or the last retry by hand.
    """

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
    value: Decimal | None
    threshold: Decimal | None
    samples: int | None
    window_s: float | None
    agent: str | None
    model: str | None
    detail: str | None
    channels: list[str]


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to deliver a firing to a channel. `reason` says why it failed.

    A failed attempt is repeated at `retry_at` (UTC); without one it was the last, and the message is a dead letter.
    A history.DeliveryState is what all attempts came to.
    """

    workspace: str | None
    name: str
    firing_id: str
    channel: str
    attempt: int
    ok: bool
    reason: str | None = None
    retry_at: datetime | None = None


class Deliveries(msgspec.Struct, frozen=True, kw_only=True):
    """The attempts of one check, and how many messages that were due it did not try; `note` says why."""

    attempts: list[Delivery]
    undelivered: int = 0
    note: str | None = None


DUE = f"""
    SELECT d.firing_id::VARCHAR AS firing_id, d.workspace, d.name, d.severity, d.channel AS label, d.fired,
           d.failures_in_a_row AS failures, a.state, a.kind, a.summary, a.value, a.threshold, a.samples, a.window_s,
           a.agent, a.model, a.detail, coalesce(TRY_CAST(r.definition -> 'channels' AS VARCHAR[]), []) AS channels
    FROM alert_deliveries d
    JOIN alerts a ON a.firing_id = d.firing_id AND a.workspace IS NOT DISTINCT FROM d.workspace
    JOIN alert_rules r ON r.rule_id = d.rule_id AND r.workspace IS NOT DISTINCT FROM d.workspace
    WHERE d.state = 'pending'
      AND coalesce(d.retry_at <= $1::TIMESTAMP OR d.last_failure > $1::TIMESTAMP + to_seconds({AHEAD_S:g}), true)
      AND coalesce(r.snoozed_until <= $1::TIMESTAMP, true)
    ORDER BY d.last_failure NULLS FIRST, d.fired, d.firing_id, d.channel LIMIT {DUE_MAX}
"""


def read_due(connection: duckdb.DuckDBPyConnection, now: datetime) -> list[Due]:
    """Return at most `DUE_MAX` deliveries that are due: never tried ones first, then by their last attempt."""
    return rows_as(Due, connection.execute(DUE, [timestamps.naive_utc(now)]))


def deliver(
    root: Path,
    journal: Journal,
    due: list[Due],
    *,
    clock: Callable[[], datetime],
    environ: Mapping[str, str],
    limit_s: float,
    timeout_s: float,
    stop: threading.Event,
) -> Deliveries:
    """Send what is due, and record each attempt at once. Raises WriteFailed.

    No attempt is begun after `limit_s` or once `stop` is set; each may take `timeout_s`. A channel that failed is not
    tried again in the same call.
    """
    try:
        permissions = allowed.read(root)
    except ConfigError as error:
        note = f"{allowed.NOT_ALLOWED}: {error}" if due else None
        return Deliveries(attempts=[], undelivered=len(due), note=note)
    deadline = time.monotonic() + limit_s
    attempts: list[Delivery] = []
    failed: set[str] = set()
    for position, message in enumerate(due):
        left = len(due) - position
        if stop.is_set() or time.monotonic() >= deadline:
            return Deliveries(attempts=attempts, undelivered=left, note="there was no time to deliver all that is due")
        if message.label in failed:
            continue
        try:
            reason = _send(message, permissions, environ, timeout_s)
        except MissingExtra as missing:
            return Deliveries(attempts=attempts, undelivered=left, note=str(missing))
        attempts.append(_record(journal, message, reason, clock()))
        if reason is not None:
            failed.add(message.label)
    return Deliveries(attempts=attempts, undelivered=len(due) - len(attempts))


def _send(due: Due, permissions: Allowed, environ: Mapping[str, str], timeout_s: float) -> str | None:
    """Return None if the channel took the message, else why not."""
    channel = next((channel for channel in due.channels if channels.label(channel) == due.label), None)
    if channel is None:
        return "the rule no longer names this channel"
    refused = permissions.why_not(channel)
    if refused is not None:
        return refused
    return delivery.send(channel, message_of(due), environ, timeout_s=timeout_s)


def _record(journal: Journal, due: Due, reason: str | None, at: datetime) -> Delivery:
    attempt = due.failures + 1
    event: AlertDelivered | AlertDeliveryFailed
    if reason is None:
        event = AlertDelivered(name=due.name, firing_id=due.firing_id, channel=due.label, attempt=attempt)
    else:
        # A channel that is not allowed here is not tried again before somebody allows it.
        wait_s = None if reason.startswith(allowed.NOT_ALLOWED) else delivery.backoff_s(attempt)
        event = AlertDeliveryFailed(
            name=due.name,
            firing_id=due.firing_id,
            channel=due.label,
            attempt=attempt,
            reason=reason,
            retry_at=None if wait_s is None else at + timedelta(seconds=wait_s),
        )
    journal.write(event, workspace=due.workspace, at=at)
    return Delivery(workspace=due.workspace, ok=reason is None, **msgspec.structs.asdict(event))


def message_of(due: Due) -> delivery.Message:
    """Return the message for a channel: the summary as its title, and a line for each fact, `severity: critical`."""
    facts = {
        "rule": due.name,
        "severity": due.severity,
        "kind": due.kind,
        "value": rules.value_text(due.kind, due.value),
        "threshold": None if due.threshold is None else units.plain(due.threshold),
        "window": None if due.window_s is None else units.as_option(due.window_s),
        "samples": due.samples,
        "workspace": due.workspace,
        "agent": due.agent,
        "model": due.model,
        "detail": due.detail,
        "fired": timestamps.to_text(due.fired),
        "state": due.state,
        "firing": due.firing_id,
    }
    lines = [due.summary, ""] + [f"{name}: {value}" for name, value in facts.items() if value not in (None, "")]
    severity = due.severity if due.severity in rules.SEVERITIES else "warning"
    return delivery.Message(f"[{severity}] {due.summary}", "\n".join(lines), severity)
