"""Control events: the closed list of events that change what eventlog does, and who may write each.

A program that may emit events must not be able to make eventlog delete, price, alert, or report evidence as
complete. So only these roles may write these types (docs/decisions/0026-control-events.md):

    maintenance   eventlog's own code: the recorder (schemas, losses), the indexer, seal, prune, backup, imports,
                  checks of alerts, API keys
    operator      the commands that set prices, policies and rules; `eventlog emit`; a program that calls
                  `configure(operator=True)`

docs/events.md has the same table, and a test compares the two. Read control events with `reader.read_events`,
which accepts a line only in the folder of its type.
"""

from __future__ import annotations

import enum

from eventlog.errors import InvalidEvent


class Role(enum.IntEnum):
    """Who writes events. Each role may write the events of the roles before it."""

    AGENT = 0
    OPERATOR = 1
    MAINTENANCE = 2


#: Event type → the lowest role that may write it.
WRITERS: dict[str, Role] = {
    "event_schema": Role.MAINTENANCE,
    "events_dropped": Role.MAINTENANCE,
    "index_alarm": Role.MAINTENANCE,
    "segment_sealed": Role.MAINTENANCE,
    "segment_pruned": Role.MAINTENANCE,
    "segments_backed_up": Role.MAINTENANCE,
    "import_checkpoint": Role.MAINTENANCE,
    "import_rejected": Role.MAINTENANCE,
    "import_recovered": Role.MAINTENANCE,
    "alert_fired": Role.MAINTENANCE,
    "alert_resolved": Role.MAINTENANCE,
    "alert_delivered": Role.MAINTENANCE,
    "alert_delivery_failed": Role.MAINTENANCE,
    "alert_rule_failed": Role.MAINTENANCE,
    "alert_rule_recovered": Role.MAINTENANCE,
    "api_key_created": Role.MAINTENANCE,
    "api_key_revoked": Role.MAINTENANCE,
    "alert_rule_set": Role.OPERATOR,
    "alert_rule_removed": Role.OPERATOR,
    "alert_snoozed": Role.OPERATOR,
    "alert_acknowledged": Role.OPERATOR,
    "alert_delivery_retried": Role.OPERATOR,
    "price_set": Role.OPERATOR,
    "retention_set": Role.OPERATOR,
}

#: The types of the built-in recording functions: anybody may emit them, but an imported file may not claim them.
RECORDED = frozenset(
    {
        "run_started", "run_finished", "step", "llm_call", "tool_call", "decision_trace", "orchestration_event",
        "debug_event", "error", "artifact", "heartbeat", "message", "request", "conversation_state", "score",
    }
)  # fmt: skip

_COMMANDS = {
    "price_set": "eventlog emit price_set",
    "retention_set": "eventlog emit retention_set",
    "alert_rule_set": "eventlog alerts add",
    "alert_rule_removed": "eventlog alerts rm",
    "alert_snoozed": "eventlog alerts snooze",
    "alert_acknowledged": "eventlog alerts ack",
    "alert_delivery_retried": "eventlog alerts retry",
}


def check(event_type: str, role: Role) -> None:
    """Raise InvalidEvent if this role may not write events of this type."""
    needed = WRITERS.get(event_type)
    if needed is None or role >= needed:
        return
    if needed is Role.OPERATOR:
        raise InvalidEvent(
            f"{event_type} is for the operator alone; use `{_COMMANDS[event_type]}`, or, in an operator's own program, "
            "eventlog.configure(operator=True)"
        )
    raise InvalidEvent(
        f"{event_type} is written by eventlog's own maintenance alone; use another event type for an event of yours"
    )
