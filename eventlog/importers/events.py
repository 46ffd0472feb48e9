"""The events that a record of a foreign file becomes: those of its format, or one that keeps it for quarantine."""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

import msgspec

from eventlog.errors import InvalidEvent
from eventlog.format import control, envelope, ids, timestamps
from eventlog.format.envelope import Envelope
from eventlog.importers.records import Record
from eventlog.importers.sources import Format
from eventlog.log import blob_store

REJECTED_EVENT = "import_rejected"
_RAW_KEPT_BYTES = 64 * 1024
_REASON_CHARS = 1000


class Made(NamedTuple):
    """An event of a record, as it is appended."""

    event_id: str
    event_type: str
    line: bytes


class Rejected(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Payload of `import_rejected`: a record as it stood in its source, or the first part of a long one.

    `length` is that of its line, in bytes. `raw_base64` stands instead of `raw` where that is not UTF-8, or very long.
    """

    importer: str
    source: str
    reason: str = ""
    length: int = 0
    raw: str | None = None
    raw_base64: str | None = None

    @property
    def data(self) -> bytes | None:
        """The bytes of the record; None where they are not there."""
        try:
            if self.raw is not None:
                return self.raw.encode()
            return None if self.raw_base64 is None else base64.b64decode(self.raw_base64, validate=True)
        except (binascii.Error, ValueError):
            return None

    @property
    def is_cut(self) -> bool:
        """Whether the log has only the beginning of the record."""
        data = self.data
        return data is None or (self.raw is None and len(data) == _RAW_KEPT_BYTES < self.length)


def of_record(
    format_: Format, record: Record, length: int, source: str, occurrence: int
) -> tuple[list[Made], str | None]:
    """Return the events of a record, and why if there is only one, which keeps it for quarantine.

    `length` is that of its line, in bytes; `occurrence` counts how often the same bytes came before in its source.
    """
    reason = record.reason
    if reason is None:
        try:
            return of_format(format_, record.data, source, occurrence), None
        except InvalidEvent as error:
            reason = str(error)
        except msgspec.ValidationError:
            reason = "not a JSON object"
        except (ValueError, RecursionError) as error:
            reason = f"not JSON: {error}"
    return [_rejected(format_, record.data, length, source, occurrence, reason)], reason


def of_format(format_: Format, data: bytes, source: str, occurrence: int) -> list[Made]:
    """Return what a format makes of a record. Raises InvalidEvent, also for control events, ValueError, RecursionError.

    A foreign line cannot refer to one of our chunks: what looks so is escaped.
    """
    made = []
    for each in format_.envelopes(data, source, occurrence):
        control.check(each.event_type, control.Role.AGENT)
        event = each
        if blob_store.may_have_lookalikes(data):
            payload = blob_store.escape_lookalikes(bytes(each.payload))
            event = msgspec.structs.replace(each, payload=msgspec.Raw(payload))
        made.append(Made(event.event_id, event.event_type, envelope.encode(event)))
    return made


def rejected_id(rejected: Rejected, data: bytes, occurrence: int, workspace: str | None) -> str:
    """Return the id of the event that keeps a record. Its time is not known."""
    key = (rejected.importer, rejected.source, data, str(occurrence))
    return ids.derived_id(0, REJECTED_EVENT, *key, workspace=workspace)


def _rejected(format_: Format, data: bytes, length: int, source: str, occurrence: int, reason: str) -> Made:
    """Return the event that keeps a record which is none, verbatim."""
    payload = Rejected(importer=format_.key, source=source, reason=reason[:_REASON_CHARS], length=length, **_kept(data))
    event = Envelope(
        event_id=rejected_id(payload, data, occurrence, format_.workspace),
        event_type=REJECTED_EVENT,
        timestamp=timestamps.UNKNOWN,
        workspace=format_.workspace,
        agent=format_.agent,
        payload=envelope.encode_payload(payload),
    )
    return Made(event.event_id, REJECTED_EVENT, envelope.encode(event))


def _kept(data: bytes) -> dict[str, str]:
    if len(data) > envelope.MAX_LINE_BYTES // 8:  # escaping may cost six bytes for one
        return {"raw_base64": base64.b64encode(data[:_RAW_KEPT_BYTES]).decode()}
    try:
        return {"raw": data.decode()}
    except UnicodeDecodeError:
        return {"raw_base64": base64.b64encode(data).decode()}
