"""The built-in event types that the short way knows: their fields, and the event that records their schema.

A table in place of the structs of eventlog.format.builtin, which need msgspec; a test derives it from them. Types with
fields that take more than a look at their kind are left to the full way, as control events are.
"""

from __future__ import annotations

Fields = dict[str, "type | tuple[type, ...]"]

_NUMBER = (int, float)
_MORE: Fields = {"attributes": dict}
_ERROR: Fields = {"error_type": str, "error_message": str, **_MORE}

#: Event type → the id of the `event_schema` event that has to be in the log, and the fields that are checked. A field
#: that is not there is not checked, and one that is null is left to the full way.
TYPES: dict[str, tuple[str, Fields]] = {
    "run_started": (
        "00000000-0000-8313-aded-bc6b045e7cef",
        {"name": str, "host": str, "boot": str, "pid": int, "parent_run_id": str, **_MORE},
    ),
    "run_finished": ("00000000-0000-82fc-97c8-fa0d7e310b8e", {"status": str, "duration_ms": _NUMBER, **_ERROR}),
    "step": ("00000000-0000-8b81-a908-1c63b2f33c6a", {"name": str, "kind": str, "duration_ms": _NUMBER, **_ERROR}),
    "tool_call": (
        "00000000-0000-85f9-ad3b-80d445c2ee1b",
        {"tool_name": str, "tool_call_id": str, "ok": bool, "duration_ms": _NUMBER, **_ERROR},
    ),
    "orchestration_event": (
        "00000000-0000-8252-8dd2-1ac4753fb0c0",
        {"action": str, "source_agent": str, "target_agent": str, **_MORE},
    ),
    "debug_event": ("00000000-0000-856d-93cb-311e520fe595", {"level": str, "logger": str, "stacktrace": str, **_MORE}),
    "error": ("00000000-0000-8070-87ad-4afdd439df4f", {"stacktrace": str, "handled": bool, **_ERROR}),
    "artifact": (
        "00000000-0000-8cfb-b76d-0c6566d634a5",
        {"name": str, "uri": str, "media_type": str, "size_bytes": int, "sha256": str, **_MORE},
    ),
    "heartbeat": ("00000000-0000-82e0-ae08-ae03cc222dbd", {"status": str, "interval_s": _NUMBER, **_MORE}),
    "message": ("00000000-0000-8475-8ffc-f74e45502d26", {"role": str, "name": str}),
    "request": (
        "00000000-0000-8b0a-a50a-961d67b21893",
        {"name": str, "channel": str, "user_id": str, "status": str, "duration_ms": _NUMBER, **_ERROR},
    ),
    "conversation_state": (
        "00000000-0000-810d-8e3a-09d502fa4db2",
        {"status": str, "summary": str, "message_count": int, "context_tokens": int, **_MORE},
    ),
    "score": (
        "00000000-0000-8670-b065-ef61112f90a5",
        {
            "name": str, "score_value": _NUMBER, "score_label": str, "explanation": str, "target_event_id": str,
            "evaluator": str,
        },
    ),
}  # fmt: skip
#: Of these, the fields that must be there.
REQUIRED = {"run_started": ("name",), "step": ("name",)}
#: Types with a struct or a writer of their own that are left to the full way.
OTHERS = frozenset(
    {
        "llm_call", "decision_trace", "price_set", "retention_set", "event_schema", "events_dropped", "index_alarm",
        "segment_sealed", "segment_pruned", "segments_backed_up", "import_checkpoint", "import_rejected",
        "import_recovered", "alert_fired", "alert_resolved", "alert_delivered", "alert_delivery_failed",
        "alert_delivery_retried", "alert_rule_failed", "alert_rule_recovered", "alert_rule_set", "alert_rule_removed",
        "alert_snoozed", "alert_acknowledged", "api_key_created", "api_key_revoked",
    }
)  # fmt: skip


def fits(event_type: str, members: dict[str, object]) -> bool:
    """Say whether a payload is certain to fit its type."""
    if event_type in OTHERS:
        return False
    if event_type not in TYPES:
        return True
    fields = TYPES[event_type][1]
    return all(name in members for name in REQUIRED.get(event_type, ())) and all(
        isinstance(members[name], kind) and (kind is bool or not isinstance(members[name], bool))
        for name, kind in fields.items()
        if name in members
    )
