"""Bodies of `POST /v1/events` as lines of the log: one verdict for each event.

    body → one object, an array, or JSON lines → events → Recorder.line → one write for each type → verdicts

Good events are taken even if others are refused. An id is in the answer only if its line is in the log, synced.
"""

from __future__ import annotations

import errno
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from eventlog.errors import InvalidEvent, WriteFailed, WritingSuspended
from eventlog.format import control
from eventlog.format.control import Role
from eventlog.record.recorder import Recorder
from eventlog.server.problems import Problem, too_busy

#: Longer idempotency keys are refused: they are kept nowhere, but hashed with each event.
_KEY_MAX_CHARS = 1000
#: What a message of ours may quote of an event.
_DETAIL_MAX_CHARS = 500
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


class SentEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One event as a client sends it; docs/server.md has the fields. What is null is absent."""

    event_type: str
    payload: msgspec.Raw = msgspec.Raw(b"{}")
    timestamp: str | None = None
    event_id: str | None = None
    dedupe_key: str | None = None
    run_id: str | None = None
    request_id: str | None = None
    session_id: str | None = None
    parent_event_id: str | None = None
    cycle: int | None = None
    turn_number: int | None = None
    audit_level: str | None = None
    workspace: str | None = None
    agent: str | None = None
    schema_version: int | None = None


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was not taken: its place in the body, from 0, a stable code, and what is wrong."""

    index: int
    code: str
    detail: str


class Verdicts(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. `ids` are those of the accepted events, in their order in the body."""

    accepted: int
    ids: list[str]
    rejected: list[Rejected]


class Sender(NamedTuple):
    """What decides about the events of a request: the workspace of the key (None: any), and its role."""

    workspace: str | None
    role: Role
    idempotency_key: str | None = None


_FIELDS = [name for name in SentEvent.__struct_fields__ if name not in ("event_type", "payload")]
_values_of = operator.attrgetter(*_FIELDS)
_any = msgspec.json.Decoder(msgspec.Raw)
_array = msgspec.json.Decoder(list[msgspec.Raw])
_sent = msgspec.json.Decoder(SentEvent)


Events = Sequence[bytes | msgspec.Raw]


def append(recorder: Recorder, events: Events, sender: Sender) -> Verdicts:
    """Append events, each given as JSON; return a verdict on each.

    Raises Problem where the log takes nothing (503, 507): then nothing was acknowledged, and all may be sent again.
    """
    if sender.idempotency_key is not None and len(sender.idempotency_key) > _KEY_MAX_CHARS:
        raise Problem(400, "bad_idempotency_key", f"Idempotency-Key is longer than {_KEY_MAX_CHARS:,} characters")
    rejected: dict[int, Rejected] = {}
    by_type: dict[str, list[tuple[int, str, bytes]]] = {}
    for index, event in enumerate(events):
        try:
            event_type, event_id, line = _line(recorder, event, sender, index)
        except _Refused as error:
            rejected[index] = Rejected(index=index, code=error.code, detail=str(error)[:_DETAIL_MAX_CHARS])
        else:
            by_type.setdefault(event_type, []).append((index, event_id, line))
    accepted = _written(recorder, by_type, rejected)
    return Verdicts(
        accepted=len(accepted),
        ids=[accepted[index] for index in sorted(accepted)],
        rejected=[rejected[index] for index in sorted(rejected)],
    )


def split(body: bytes, *, events_max: int) -> Events:
    """Return the events of a body, each as JSON. Raises Problem for none (400), and for too many (413)."""
    try:
        if body.lstrip()[:1] == b"[":
            events: Events = _array.decode(body)
        else:
            events = [_any.decode(body)]
    except (msgspec.MsgspecError, RecursionError):
        events = [line for line in body.split(b"\n") if line.strip()]  # JSON lines, of which some may be broken
        if len(events) == 1:
            raise Problem(400, "not_json", "the body is neither a JSON object, nor an array, nor JSON lines") from None
    if not events:
        raise Problem(400, "no_events", "the body holds no events")
    if len(events) > events_max:
        raise Problem(413, "too_many_events", f"{len(events):,} events are over the limit of {events_max:,}")
    return events


class _Refused(Exception):
    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


_NOT_WRITTEN = "not_written"


def _line(recorder: Recorder, event: bytes | msgspec.Raw, sender: Sender, index: int) -> tuple[str, str, bytes]:
    try:
        sent = _sent.decode(event)
    except msgspec.ValidationError as error:
        raise _Refused("invalid_event", f"{error}; `eventlog docs server` has the fields") from None
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise _Refused("not_json", f"this is no JSON: {error}") from None
    if sender.workspace is not None and sent.workspace not in (None, sender.workspace):
        raise _Refused("foreign_workspace", "the event names another workspace than that of the key; leave it out")
    given = zip(_FIELDS, _values_of(sent), strict=True)
    fields: dict[str, Any] = {name: value for name, value in given if value is not None}
    if sender.workspace is not None:
        fields["workspace"] = sender.workspace
    if sender.idempotency_key is not None and "dedupe_key" not in fields and "event_id" not in fields:
        fields["dedupe_key"] = f"{sender.idempotency_key}/{index}"
    try:
        if sent.event_type in control.WRITERS:
            control.check(sent.event_type, sender.role)
        return recorder.line(sent.event_type, _on_one_line(sent.payload), fields)
    except InvalidEvent as error:
        code = "control_event" if sent.event_type in control.WRITERS else "invalid_event"
        raise _Refused(code, str(error)) from None


def _on_one_line(payload: msgspec.Raw) -> msgspec.Raw:
    """Return a payload without newlines between its parts; texts have none."""
    data = bytes(payload)
    return msgspec.Raw(msgspec.json.format(data, indent=-1)) if b"\n" in data else payload


def _written(
    recorder: Recorder, by_type: dict[str, list[tuple[int, str, bytes]]], rejected: dict[int, Rejected]
) -> dict[int, str]:
    """Append the lines, type by type; return the ids of those that are in the log, by their index.

    Raises Problem if the first write fails: nothing was taken.
    """
    accepted: dict[int, str] = {}
    for event_type, lines in by_type.items():
        count, failure = len(lines), None
        try:
            recorder.record_lines(event_type, [line for *_, line in lines])
        except WriteFailed as error:
            if not accepted and not error.lines_written:
                raise unwritten(error) from None
            count, failure = error.lines_written, error
        accepted.update((index, event_id) for index, event_id, _ in lines[:count])
        for index, *_ in lines[count:]:
            assert failure is not None
            detail = (
                "it is not in the log: the disk is full" if _is_full(failure) else "it is not in the log; send it again"
            )
            rejected[index] = Rejected(index=index, code=_NOT_WRITTEN, detail=detail)
    return accepted


def unwritten(error: WriteFailed) -> Problem:
    """Return the answer where the log took nothing: 507 for a full disk, else 503."""
    if _is_full(error):
        return Problem(
            507, "disk_full", "the disk of the log is full; nothing was taken", headers={"Retry-After": "30"}
        )
    if isinstance(error, WritingSuspended):
        return too_busy("log_suspended", "the log takes no lines at present; nothing was taken", after_s=5)
    return too_busy(_NOT_WRITTEN, "the log took no lines; nothing was taken", after_s=5)


def _is_full(error: WriteFailed) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _FULL_DISK
