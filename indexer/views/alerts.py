"""Views of the events of alerts (eventlog.format.alerts): rules, firings and deliveries.

Events apply in the order in which they were recorded (see `ordering`), whatever their timestamps. An event that refers
to another counts only if both are of one workspace; otherwise one workspace could resolve another's alerts.
"""

from __future__ import annotations

from eventlog.indexer.sql import literal
from eventlog.indexer.views.ordering import ORDER, recorded

#: As many decimals as a cost has (eventlog.queries.cost.costs).
_AMOUNT = "DECIMAL(38,18)"


def _field(name: str, kind: str = "VARCHAR", payload: str = "payload") -> str:
    text = f"{payload} ->> {literal(name)}"
    return f"({text})" if kind == "VARCHAR" else f"TRY_CAST({text} AS {kind})"


# A snooze and a failure belong to the rule that existed when they were recorded: a rule that is removed and set again
# starts without them.
RULES = f"""
WITH changes AS (
    SELECT *, {_field("name")} AS name, event_type = 'alert_rule_set' AS is_set
    FROM ({recorded("event_type IN ('alert_rule_set', 'alert_rule_removed')")})
), rules AS (
    SELECT workspace, name, arg_max(timestamp, {ORDER}) FILTER (is_set) AS set_at,
           arg_max(event_id, {ORDER}) FILTER (is_set) AS rule_id,
           arg_max(payload, {ORDER}) FILTER (is_set) AS definition,
           arg_max(timestamp, {ORDER}) FILTER (NOT is_set) AS last_removed,
           max(recorded) FILTER (NOT is_set) AS removed_order, arg_max(is_set, {ORDER}) AS there
    FROM changes WHERE name IS NOT NULL GROUP BY workspace, name
), snoozes AS (
    SELECT workspace, {_field("name")} AS name, arg_max(timestamp, {ORDER}) AS snoozed_at,
           max(recorded) AS snoozed_order,
           arg_max(CASE WHEN until > timestamp THEN TRY(until - (timestamp - recorded)) ELSE until END, {ORDER})
               AS snoozed_until
    FROM (SELECT *, {_field("until", "TIMESTAMP")} AS until FROM ({recorded("event_type = 'alert_snoozed'")}))
    GROUP BY workspace, name
), troubles AS (
    SELECT workspace, {_field("rule_id", "UUID")} AS rule_id,
           arg_max({{'reason': payload ->> 'reason', 'failing_since': timestamp}}, {ORDER}) AS trouble
    FROM ({recorded("event_type IN ('alert_rule_failed', 'alert_rule_recovered')")}) GROUP BY ALL
)
SELECT r.workspace, r.name, r.rule_id, {_field("kind", payload="definition")} AS kind,
       {_field("threshold", _AMOUNT, "definition")} AS threshold,
       coalesce({_field("window_s", "DOUBLE", "definition")}, 3600) AS window_s,
       {_field("agent", payload="definition")} AS agent, {_field("model", payload="definition")} AS model,
       coalesce({_field("severity", payload="definition")}, 'warning') AS severity,
       coalesce({_field("cooldown_s", "DOUBLE", "definition")}, 0) AS cooldown_s, definition, set_at,
       greatest(set_at, last_removed, snoozed_at) AS changed, CASE WHEN NOT there THEN last_removed END AS removed,
       CASE WHEN there AND snoozed_order >= coalesce(removed_order, snoozed_order) THEN snoozed_until END
           AS snoozed_until,
       CASE WHEN trouble.reason IS NOT NULL THEN trouble.failing_since END AS failing_since,
       trouble.reason AS failing_because
FROM rules r
LEFT JOIN snoozes s ON s.workspace IS NOT DISTINCT FROM r.workspace AND s.name = r.name
LEFT JOIN troubles t ON t.workspace IS NOT DISTINCT FROM r.workspace AND t.rule_id = r.rule_id
WHERE r.rule_id IS NOT NULL
"""

ALERTS = f"""
WITH ends AS (
    SELECT workspace, {_field("firing_id", "UUID")} AS firing_id, min(timestamp) AS resolved,
           arg_min(payload ->> 'reason', {ORDER}) AS resolved_because
    FROM ({recorded("event_type = 'alert_resolved'")}) GROUP BY ALL
), acknowledgements AS (
    SELECT workspace, {_field("firing_id", "UUID")} AS firing_id, min(timestamp) AS acknowledged,
           arg_max(payload ->> 'note', {ORDER}) AS acknowledged_note
    FROM ({recorded("event_type = 'alert_acknowledged'")}) GROUP BY ALL
)
SELECT f.event_id AS firing_id, f.workspace, {_field("name", payload="f.payload")} AS name,
       {_field("severity", payload="f.payload")} AS severity, {_field("kind", payload="f.payload")} AS kind,
       CASE WHEN resolved IS NULL THEN 'open' ELSE 'resolved' END AS state, f.timestamp AS fired, resolved,
       resolved_because, {_field("value", _AMOUNT, "f.payload")} AS value,
       {_field("threshold", _AMOUNT, "f.payload")} AS threshold, {_field("samples", "BIGINT", "f.payload")} AS samples,
       {_field("window_s", "DOUBLE", "f.payload")} AS window_s, {_field("agent", payload="f.payload")} AS agent,
       {_field("model", payload="f.payload")} AS model, {_field("summary", payload="f.payload")} AS summary,
       {_field("detail", payload="f.payload")} AS detail, {_field("rule_id", "UUID", "f.payload")} AS rule_id,
       coalesce(TRY_CAST(f.payload -> 'channels' AS VARCHAR[]), []) AS channels,
       acknowledged, acknowledged_note
FROM (FROM event_rows WHERE event_type = 'alert_fired') f
LEFT JOIN ends ON ends.workspace IS NOT DISTINCT FROM f.workspace AND ends.firing_id = f.event_id
LEFT JOIN acknowledgements a ON a.workspace IS NOT DISTINCT FROM f.workspace AND a.firing_id = f.event_id
"""

# Attempts count since the last retry by hand. What was not delivered before its rule was changed or removed is dropped:
# the owner no longer wants it to go there.
DELIVERIES = f"""
WITH tries AS (
    SELECT workspace, event_type, timestamp, recorded, latest, segment, line_offset,
           {_field("firing_id", "UUID")} AS firing_id,
           {_field("channel")} AS channel, payload ->> 'reason' AS reason,
           {_field("retry_at", "TIMESTAMP")} AS retry_at,
           max({{'recorded': recorded, 'latest': latest}}) FILTER (event_type = 'alert_delivery_retried')
               OVER (PARTITION BY workspace, firing_id, channel) AS retried
    FROM ({recorded("event_type IN ('alert_delivered', 'alert_delivery_failed', 'alert_delivery_retried')")})
), attempts AS (
    SELECT workspace, firing_id, channel, min(timestamp) FILTER (event_type = 'alert_delivered') AS delivered,
           count(*) FILTER (event_type = 'alert_delivery_failed') AS failures,
           count(*) FILTER (event_type = 'alert_delivery_failed'
               AND coalesce({{'recorded': recorded, 'latest': latest}} >= retried, true))
               AS failures_in_a_row,
           arg_max(timestamp, {ORDER}) FILTER (event_type = 'alert_delivery_failed') AS last_failure,
           arg_max(reason, {ORDER}) FILTER (event_type = 'alert_delivery_failed') AS last_error,
           arg_max({{'type': event_type, 'retry_at': retry_at}}, {ORDER}) AS last
    FROM tries GROUP BY ALL
), due AS (
    SELECT firing_id, workspace, name, severity, rule_id, fired, unnest(list_distinct(channels)) AS channel FROM alerts
)
SELECT d.firing_id, d.workspace, d.name, d.severity, d.channel, d.fired,
       CASE WHEN delivered IS NOT NULL THEN 'delivered'
            WHEN t.last.type = 'alert_delivery_failed' AND t.last.retry_at IS NULL
                THEN CASE WHEN starts_with(t.last_error, 'not allowed here') THEN 'not_allowed' ELSE 'dead' END
            WHEN r.rule_id IS NULL THEN 'dropped'
            ELSE 'pending' END AS state,
       delivered, coalesce(failures, 0) AS failures, coalesce(failures_in_a_row, 0) AS failures_in_a_row,
       last_failure, last_error, CASE WHEN delivered IS NULL THEN t.last.retry_at END AS retry_at, d.rule_id
FROM due d
LEFT JOIN attempts t
    ON t.workspace IS NOT DISTINCT FROM d.workspace AND t.firing_id = d.firing_id AND t.channel = d.channel
LEFT JOIN (FROM alert_rules WHERE removed IS NULL) r
    ON r.workspace IS NOT DISTINCT FROM d.workspace AND r.rule_id = d.rule_id
"""

DEAD_LETTERS = """
SELECT * EXCLUDE (state, delivered, retry_at) FROM alert_deliveries WHERE state IN ('dead', 'not_allowed')
"""

VIEWS = {
    "alert_rules": RULES,
    "alerts": ALERTS,
    "alert_deliveries": DELIVERIES,
    "alert_dead_letters": DEAD_LETTERS,
}
