"""The built-in events of alerts: rules, what came of them, and what was delivered of that.

A rule is its latest `alert_rule_set`, by workspace and name; the workspace stands in the envelope
of all these events, and one without it is for all workspaces. The rest is written by whoever
checks (eventlog.queries.alerts). `rule_id` is the event id of the `alert_rule_set` that was in force, and
`firing_id` that of the `alert_fired`: so history stays readable when a rule is changed or removed.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import msgspec

from eventlog.format.schemas import built_in


@built_in("alert_rule_set")
class AlertRuleSet(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A rule is made, or takes the place of the one of its name. docs/alerts.md says what the fields mean.

    `channels` are Apprise URLs, or `env:NAME` for one that stands in the environment of whoever delivers.
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
    """A rule is no more. What it did stays readable."""

    name: str


@built_in("alert_snoozed")
class AlertSnoozed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Until then a rule neither fires nor delivers. A time that is past ends an earlier snooze."""

    name: str
    until: datetime
    note: str | None = None


@built_in("alert_fired")
class AlertFired(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a rule watches for has come to be. `channels` are those to tell, without their secrets."""

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
    """A channel took the message of a firing, at the given attempt."""

    name: str
    firing_id: str
    channel: str
    attempt: int


@built_in("alert_delivery_failed")
class AlertDeliveryFailed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A channel did not. Without `retry_at` it was the last attempt: the message is a dead letter."""

    name: str
    firing_id: str
    channel: str
    attempt: int
    reason: str
    retry_at: datetime | None = None


@built_in("alert_delivery_retried")
class AlertDeliveryRetried(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody wants a dead letter to be tried again, from the first attempt on."""

    name: str
    firing_id: str
    channel: str


@built_in("alert_rule_failed")
class AlertRuleFailed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A rule could not be evaluated; written when it begins to fail, or fails for another reason."""

    name: str
    rule_id: str
    reason: str


@built_in("alert_rule_recovered")
class AlertRuleRecovered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A rule that could not be evaluated can be."""

    name: str
    rule_id: str


ALERT_TYPES = frozenset(
    {
        "alert_rule_set", "alert_rule_removed", "alert_rule_failed", "alert_rule_recovered", "alert_snoozed",
        "alert_fired", "alert_resolved", "alert_delivered", "alert_delivery_failed", "alert_delivery_retried",
    }
)  # fmt: skip
