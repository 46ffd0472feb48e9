"""Rules, firings and deliveries for those who read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import duckdb
import msgspec

from eventlog.format.alerts import AlertRuleSet
from eventlog.queries.alerts import delivery, rules

#: What is read here.
VIEWS = ("alert_rules", "alerts", "alert_deliveries")


class RuleState(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that was set. `state` is ok, firing, snoozed, failing or removed; `since` when that began, if known.

    `channels` are shown without what may be secret.
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
    note: str | None


class Firing(msgspec.Struct, frozen=True, kw_only=True):
    """A firing of a rule, whether that is still there or not. `state` is open or resolved. Amounts are text.

    Of the channels that it was for, `delivered` took the message, `pending` will be told, and `dead` were given up on.
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
    delivered: list[str]
    pending: list[str]
    dead: list[str]

    @property
    def told(self) -> str:
        """Return how telling it went, in words."""
        counts = {"delivered": self.delivered, "pending": self.pending, "dead": self.dead}
        return ", ".join(f"{len(channels)} {state}" for state, channels in counts.items() if channels)


class DeliveryState(msgspec.Struct, frozen=True, kw_only=True):
    """A channel that is to be told of a firing. `state` is delivered, pending, dead, not_allowed or dropped.

    not_allowed: its channel is none of those that `alerts.toml` allows; dropped: its rule was changed or removed.
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
    """Return all rules that were ever set, by workspace and name."""
    times = {
        (row[0], row[1]): row[2:]
        for row in connection.execute("SELECT workspace, name, removed, failing_since FROM alert_rules").fetchall()
    }
    now = datetime.now(UTC)
    found = []
    for rule in rules.read(connection, now):
        removed, failing_since = times[rule.workspace, rule.name]
        found.append(_state(rule, _utc(removed), _utc(failing_since), now))
    return found


def _state(rule: rules.Rule, removed: datetime | None, failing_since: datetime | None, now: datetime) -> RuleState:
    standing, what = rule.standing, rule.definition
    state, since = "ok", None
    if standing.removed:
        state, since = "removed", removed
    elif rule.problem or rule.failing_because:
        state, since = "failing", failing_since
    elif standing.is_snoozed(now):
        state = "snoozed"
    elif standing.open is not None:
        state, since = "firing", standing.open.fired
    return RuleState(
        workspace=rule.workspace,
        name=rule.name,
        rule_id=rule.rule_id,
        kind=what.kind,
        severity=what.severity,
        condition=rules.condition(what),
        state=state,
        since=since,
        problem=rule.problem or rule.failing_because,
        channels=list(map(delivery.label, what.channels)),
        firings=rule.firings,
        set_at=rule.set_at,
        removed=removed,
        snoozed_until=standing.snoozed_until if standing.is_snoozed(now) else None,
        note=what.note,
    )


_FIRINGS = """
    WITH told AS (
        SELECT workspace, firing_id, list(channel ORDER BY channel) FILTER (state = 'delivered') AS delivered,
               list(channel ORDER BY channel) FILTER (state = 'pending') AS pending,
               list(channel ORDER BY channel) FILTER (state IN ('dead', 'not_allowed')) AS dead
        FROM alert_deliveries GROUP BY ALL
    )
    SELECT a.firing_id::VARCHAR AS firing_id, a.workspace, a.name, a.rule_id::VARCHAR AS rule_id, a.kind, a.severity,
           a.state, a.fired, a.resolved, a.resolved_because AS because, a.value::VARCHAR AS value,
           a.threshold::VARCHAR AS threshold, a.samples, a.summary, a.detail, coalesce(t.delivered, []) AS delivered,
           coalesce(t.pending, []) AS pending, coalesce(t.dead, []) AS dead
    FROM alerts a LEFT JOIN told t ON t.firing_id = a.firing_id AND t.workspace IS NOT DISTINCT FROM a.workspace
    ORDER BY a.fired DESC, a.firing_id DESC LIMIT $1
"""


def read_firings(connection: duckdb.DuckDBPyConnection, *, limit: int) -> list[Firing]:
    """Return firings, the newest first."""
    return [Firing(**_amounts(row)) for row in _rows(connection, _FIRINGS, [limit])]


def _amounts(row: dict[str, Any]) -> dict[str, Any]:
    for name in ("value", "threshold"):
        text = row[name]
        row[name] = text.rstrip("0").rstrip(".") if text and "." in text else text
    return row


_COLUMNS = ", ".join(DeliveryState.__struct_fields__).replace("firing_id", "firing_id::VARCHAR AS firing_id")
_DELIVERIES = f"SELECT {_COLUMNS} FROM alert_deliveries ORDER BY fired DESC, firing_id DESC, channel LIMIT $1"


def read_deliveries(connection: duckdb.DuckDBPyConnection, *, limit: int) -> list[DeliveryState]:
    """Return what was, is or was to be delivered, by firing, the newest first."""
    return [DeliveryState(**row) for row in _rows(connection, _DELIVERIES, [limit])]


def _rows(connection: duckdb.DuckDBPyConnection, query: str, params: list[Any]) -> list[dict[str, Any]]:
    cursor = connection.execute(query, params)
    names = [column[0] for column in cursor.description or []]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    for row in rows:
        row.update({name: _utc(value) for name, value in row.items() if isinstance(value, datetime)})
    return rows


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else rules.utc(moment)


def definitions(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str | None, str], AlertRuleSet]:
    """Return the rules that are there, by workspace and name, with their channels as they were given."""
    found = rules.read(connection, datetime.now(UTC))
    return {(rule.workspace, rule.name): rule.definition for rule in found if not rule.standing.removed}
