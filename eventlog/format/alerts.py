"""The built-in events of alerts: rules, their firings, and the deliveries of those.

A rule is the latest `alert_rule_set` of its workspace and name. The workspace is in the envelope of all these events; a
rule without one is over all workspaces. Rules are set, removed and snoozed by an operator; a check
(eventlog.queries.alerts) writes the rest. `rule_id` is the event id of the `alert_rule_set` that was in force, and
`firing_id` that of the `alert_fired`, so history stays readable when a rule is changed or removed.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import msgspec

from eventlog.format.schemas import built_in


@built_in("alert_rule_set")
class AlertRuleSet(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A rule is set, or replaces the one of its name. docs/alerts.md explains the fields.

    `channels` are Apprise URLs, or `env:NAME` for a URL in the environment of whoever delivers.
    """

    name: str
    kind: str
    threshold: Decimal | None = None
    window_s: float = 3600.0
    agent: str | None = None
    model: str | None = None
    of: str | None = None
    percentile: float | None = None
    at_percent: Decimal | None = None
    min_samples: int = 1
    severity: str = "warning"
    cooldown_s: float = 0.0
    sql: str | None = None
    timeout_s: float | None = None
    channels: list[str] = []
    note: str | None = None


@built_in("alert_rule_removed")
class AlertRuleRemoved(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A rule is removed. Its history stays readable."""

    name: str


@built_in("alert_snoozed")
class AlertSnoozed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A rule neither fires nor delivers before `until`. A time in the past ends an earlier snooze."""

    name: str
    until: datetime
    note: str | None = None


@built_in("alert_acknowledged")
class AlertAcknowledged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An operator has seen a firing."""

    name: str
    firing_id: str
    note: str | None = None


@built_in("alert_fired")
class AlertFired(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The condition of a rule holds. `channels` are labels, without secrets, of those that it is to be delivered to."""

    name: str
    rule_id: str
    kind: str
    severity: str
    summary: str
    value: Decimal | None = None
    threshold: Decimal | None = None
    samples: int | None = None
    window_s: float | None = None
    agent: str | None = None
    model: str | None = None
    detail: str | None = None
    channels: list[str] = []


@built_in("alert_resolved")
class AlertResolved(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A firing is over. `reason` is cleared, changed or removed: the condition, or the rule."""

    name: str
    firing_id: str
    reason: str
    value: Decimal | None = None


@built_in("alert_delivered")
class AlertDelivered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A channel took the message of a firing, at attempt 1, 2, …."""

    name: str
    firing_id: str
    channel: str
    attempt: int


@built_in("alert_delivery_failed")
class AlertDeliveryFailed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A channel did not take a message. Without `retry_at` this was the last attempt: it is a dead letter."""

    name: str
    firing_id: str
    channel: str
    attempt: int
    reason: str
    retry_at: datetime | None = None


@built_in("alert_delivery_retried")
class AlertDeliveryRetried(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An operator retries a dead letter; its attempts count from one again."""

    name: str
    firing_id: str
    channel: str


@built_in("alert_rule_failed")
class AlertRuleFailed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A rule could not be evaluated. Written when it starts to fail, and when it fails for another reason."""

    name: str
    rule_id: str
    reason: str


@built_in("alert_rule_recovered")
class AlertRuleRecovered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A rule that was failing can be evaluated again."""

    name: str
    rule_id: str


ALERT_TYPES = frozenset(
    {
        "alert_rule_set", "alert_rule_removed", "alert_rule_failed", "alert_rule_recovered", "alert_snoozed",
        "alert_fired", "alert_acknowledged", "alert_resolved", "alert_delivered", "alert_delivery_failed",
        "alert_delivery_retried",
    }
)  # fmt: skip
