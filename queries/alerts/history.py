"""Rules, firings and deliveries as the index has them, for those who read."""

from __future__ import annotations

from datetime import UTC, datetime

import duckdb
import msgspec

from eventlog.format.alerts import AlertRuleSet
from eventlog.queries.alerts import channels, machine, rules
from eventlog.queries.alerts.machine import Reading, State
from eventlog.queries.rows import rows_as

#: The views that the statements here read.
VIEWS = ("alert_rules", "alerts", "alert_deliveries")


class RuleState(msgspec.Struct, frozen=True, kw_only=True):
    """A rule and its state, as it is shown: ok, firing, snoozed, failing or removed. Times are UTC.

    `since` is when the state began, None for ok and snoozed. `condition` is text: `cost over $5.00 in 1h`.
    `sql` is the query of a rule of that kind. `problem` says why it is failing. `channels` are labels without
    secrets, such as `env:SLACK_URL`. `firings` counts those since the rule was set. `acknowledged` is when an operator
    said to have seen the firing that is open now.
    """

    workspace: str | None
    name: str
    rule_id: str
    kind: str
    severity: str
    condition: str
    state: str
    since: datetime | None
    problem: str | None
    channels: list[str]
    firings: int
    set_at: datetime
    removed: datetime | None
    snoozed_until: datetime | None
    acknowledged: datetime | None
    note: str | None
    sql: str | None


class Firing(msgspec.Struct, frozen=True, kw_only=True):
    """A firing of a rule that may be gone by now. `state` is open or resolved. Times are UTC.

    `because` of a resolved one is cleared, changed or removed. `value` and `threshold` are decimal texts in the unit of
    the kind: USD, a share, ms, seconds of silence, or rows. `delivered`, `pending` and `dead` are the labels of the
    channels that took the message, that will be tried, and that were given up on. `acknowledged` is when an operator
    said to have seen it, and `acknowledged_note` what else was said.
    """

    firing_id: str
    workspace: str | None
    name: str
    rule_id: str | None
    kind: str | None
    severity: str | None
    state: str
    fired: datetime
    resolved: datetime | None
    because: str | None
    value: str | None
    threshold: str | None
    samples: int | None
    summary: str | None
    detail: str | None
    acknowledged: datetime | None
    acknowledged_note: str | None
    delivered: list[str]
    pending: list[str]
    dead: list[str]

    @property
    def deliveries(self) -> str:
        """Return how many channels are in each state: `1 delivered, 2 pending`."""
        counts = {"delivered": self.delivered, "pending": self.pending, "dead": self.dead}
        return ", ".join(f"{len(labels)} {state}" for state, labels in counts.items() if labels)


class DeliveryState(msgspec.Struct, frozen=True, kw_only=True):
    """The delivery of a firing to a channel. `state` is delivered, pending, dead, not_allowed or dropped.

    not_allowed: `alerts.toml` does not allow the channel. dropped: the rule was changed or removed before it was
    delivered. `channel` is a label without secrets; `retry_at` (UTC) is the next attempt after a failure. An
    outbox.Delivery is one attempt: its number is `failures` here, and its reason `last_error`, if it failed.
    """

    firing_id: str
    workspace: str | None
    name: str
    severity: str | None
    channel: str
    fired: datetime
    state: str
    delivered: datetime | None
    failures: int
    last_failure: datetime | None
    last_error: str | None
    retry_at: datetime | None


def read_rules(connection: duckdb.DuckDBPyConnection) -> list[RuleState]:
    """Return all rules that were ever set, by workspace and name, as they are now."""
    now = datetime.now(UTC)
    return [_rule_state(rule, now) for rule in rules.read(connection, now)]


def _rule_state(rule: rules.Rule, now: datetime) -> RuleState:
    standing, definition = rule.standing, rule.definition
    problem = rule.problem or rule.failing_because
    state = machine.state(standing, Reading(holds=None if problem else False), now)
    began = {State.REMOVED: rule.removed_at, State.FAILING: rule.failing_since}
    if standing.open is not None:
        began[State.FIRING] = standing.open.fired
    return RuleState(
        workspace=rule.workspace,
        name=rule.name,
        rule_id=rule.rule_id,
        kind=definition.kind,
        severity=definition.severity,
        condition=rules.condition(definition),
        state=state.value,
        since=began.get(state),
        problem=problem,
        channels=list(map(channels.label, definition.channels)),
        firings=rule.firings,
        set_at=rule.set_at,
        removed=rule.removed_at,
        snoozed_until=standing.snoozed_until if standing.is_snoozed(now) else None,
        acknowledged=None if standing.open is None else standing.open.acknowledged,
        note=definition.note,
        sql=definition.sql,
    )


# An amount has 18 decimals in the index.
FIRINGS = """
    WITH deliveries AS (
        SELECT workspace, firing_id, list(channel ORDER BY channel) FILTER (state = 'delivered') AS delivered,
               list(channel ORDER BY channel) FILTER (state = 'pending') AS pending,
               list(channel ORDER BY channel) FILTER (state IN ('dead', 'not_allowed')) AS dead
        FROM alert_deliveries GROUP BY ALL
    )
    SELECT a.firing_id::VARCHAR AS firing_id, a.workspace, a.name, a.rule_id::VARCHAR AS rule_id, a.kind, a.severity,
           a.state, a.fired, a.resolved, a.resolved_because AS because,
           rtrim(rtrim(a.value::VARCHAR, '0'), '.') AS value,
           rtrim(rtrim(a.threshold::VARCHAR, '0'), '.') AS threshold, a.samples, a.summary, a.detail,
           a.acknowledged, a.acknowledged_note,
           coalesce(d.delivered, []) AS delivered, coalesce(d.pending, []) AS pending, coalesce(d.dead, []) AS dead
    FROM alerts a LEFT JOIN deliveries d ON d.firing_id = a.firing_id AND d.workspace IS NOT DISTINCT FROM a.workspace
    ORDER BY a.fired DESC, a.firing_id DESC LIMIT $1
"""


def read_firings(connection: duckdb.DuckDBPyConnection, *, limit: int) -> list[Firing]:
    """Return at most `limit` firings, newest first."""
    return rows_as(Firing, connection.execute(FIRINGS, [limit]))


_COLUMNS = ", ".join(DeliveryState.__struct_fields__).replace("firing_id", "firing_id::VARCHAR AS firing_id")
DELIVERIES = f"SELECT {_COLUMNS} FROM alert_deliveries ORDER BY fired DESC, firing_id DESC, channel LIMIT $1"


def read_deliveries(connection: duckdb.DuckDBPyConnection, *, limit: int) -> list[DeliveryState]:
    """Return at most `limit` deliveries, those of the newest firing first."""
    return rows_as(DeliveryState, connection.execute(DELIVERIES, [limit]))


def definitions(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str | None, str], AlertRuleSet]:
    """Return the definitions of rules that were not removed, by workspace and name. Channels are URLs, with secrets."""
    current = rules.read(connection, datetime.now(UTC))
    return {(rule.workspace, rule.name): rule.definition for rule in current if not rule.standing.removed}
