"""Any JSON lines: each object becomes the payload of an event, verbatim."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from eventlog.errors import InvalidEvent
from eventlog.format import envelope, ids, json_text, payloads, timestamps
from eventlog.format.envelope import Envelope
from eventlog.format.foreign_times import Times
from eventlog.importers import compression, foreign_types, pipe
from eventlog.importers.records import SourceLine, importer_parts, path_name, split_records
from eventlog.process.guards import shown

Fields = dict[str, msgspec.Raw]
_list = msgspec.json.Decoder(list[msgspec.Raw])
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_ODD = re.compile(r"[^a-z0-9_.-]+")
#: Names that often hold the time, in the order in which they are suggested.
TIME_FIELDS = ("timestamp", "@timestamp", "ts", "time", "created_at", "EventTime", "datetime", "date")
_UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)
#: Lines name few types, again and again.
_TYPES_KEPT = 1000

_KEY = "jsonl "
#: The options in the order in which they stand in a key; further ones are in an object behind them.
_IN_KEY = ("type_", "type_field", "time_field", "id_field", "source", "workspace", "agent", "time_format", "time_zone")
#: The envelope fields that a field of the line may give, by the names of their options (`--run-field`).
ENVELOPE_FIELDS = {
    "run": "run_id",
    "session": "session_id",
    "request": "request_id",
    "parent": "parent_event_id",
    "turn": "turn_number",
    "agent": "agent",
    "workspace": "workspace",
}


class Jsonl:
    """A JSONL format told by options.

    `type_` names the event type, or `type_field` the field whose value does (`PushEvent`
    becomes `push_event`, and a name of eventlog's own `imported.<name>`, see eventlog.importers.foreign_types).
    Fields are named as they stand, or as a dotted path. `time_format` and `time_zone` are those of
    eventlog.format.foreign_times.Times. Raises InvalidEvent for a `type_` that is a name of eventlog's own.

    `unwrap` names a field whose text is JSON, an object, which becomes the payload in place of the line around it, as
    container logs have it. Other fields are looked up in both, first in the object. A line without one stays as it is.

    `records` names a field that holds a list of objects, as `{"Records": […]}` of cloud services does: each of them is
    an event. A line without such a list is one event.

    `fields` names, for envelope fields, the fields of the line that hold them: `{"run_id": "trace.id"}`. Where a line
    has none, `workspace` and `agent` are those that are given here.
    """

    #: Other content may come under a name: a log is rotated.
    rotates = True

    def __init__(
        self,
        *,
        type_: str | None = None,
        type_field: str | None = None,
        time_field: str | None = None,
        id_field: str | None = None,
        source: str | None = None,
        workspace: str | None = None,
        agent: str | None = None,
        time_format: str | None = None,
        time_zone: str | None = None,
        unwrap: str | None = None,
        fields: Mapping[str, str] | None = None,
        records: str | None = None,
    ) -> None:
        if (type_ is None) == (type_field is None):
            raise InvalidEvent("give either an event type or the field that holds it")
        self._type = None if type_ is None else _own_type(type_)
        self._type_field = type_field
        self._time_field = time_field
        self._id_field = id_field
        self._source = source
        envelope.encode_fields({"workspace": workspace, "agent": agent})
        self.workspace = workspace
        self.agent = agent or None
        self._times = Times(time_format, time_zone)
        # The key of earlier imports stays what it was: options that came later are there only where they are given.
        options: list[object] = [type_, type_field, time_field, id_field, source, workspace, self.agent]
        if time_format is not None or time_zone is not None:
            if time_field is None:
                raise InvalidEvent("a time format or a time zone is for a time field; name it")
            options += [time_format, time_zone]
        self._unwrap = unwrap
        self._envelope_fields = dict(fields or {})
        if unknown := self._envelope_fields.keys() - ENVELOPE_FIELDS.values():
            raise InvalidEvent(f"{min(unknown)} is no envelope field that a line can give")
        self._records = records
        more = {"unwrap": unwrap, "fields": self._envelope_fields, "records": records}
        if given := {name: value for name, value in more.items() if value}:
            options.append(given)
        self.key = _KEY + msgspec.json.encode(options).decode()

    @classmethod
    def of_key(cls, key: str, **changed: Any) -> Jsonl | None:
        """Return the format with this key, but for some options, such as `time_field`; None for another key.

        Raises InvalidEvent for options that exclude each other.
        """
        try:
            given = msgspec.json.decode(key.removeprefix(_KEY), type=list[str | dict[str, Any] | None])
            more = given.pop() if given and isinstance(given[-1], dict) else None
            options: dict[str, Any] = dict(zip(_IN_KEY, given, strict=False)) | (more if isinstance(more, dict) else {})
            is_known = key.startswith(_KEY) and cls(**options).key == key
        except (msgspec.MsgspecError, TypeError, InvalidEvent):  # of another importer, or of another version
            return None
        return cls(**(options | changed)) if is_known else None

    def source_name(self, path: Path) -> str:
        """The given name, else the file's full path without an ending for compression.

        The path, because two devices' files may hold equal lines that are not the same event.
        """
        if path == Path(pipe.NAME):
            return self._source or pipe.NAME
        return self._source or compression.plain_name(path_name(path))

    def envelopes(self, data: bytes, source: str, occurrence: int) -> list[Envelope]:
        """Return the one event of a line, or those of the list that it holds."""
        records = self._records_of(data)
        if records is None:
            return [self._envelope(data, source, str(occurrence))]
        made, seen = [], Counter[bytes]()
        for number, record in enumerate(records, start=1):
            try:
                made.append(self._envelope(record, source, f"{occurrence}.{seen[record]}"))
            except (InvalidEvent, ValueError, RecursionError) as error:
                raise InvalidEvent(f"record {number:,} of {len(records):,} in {self._records!r}: {error}") from None
            seen[record] += 1
        return made

    def _records_of(self, data: bytes) -> list[bytes] | None:
        if self._records is None:
            return None
        try:
            held = _member(json_text.members(data), self._records)
            return None if held is None else [bytes(each) for each in _list.decode(held)]
        except msgspec.MsgspecError:  # no list
            return None

    def _envelope(self, data: bytes, source: str, occurrence: str) -> Envelope:
        fields, payload = json_text.members(data), data
        if self._unwrap is not None and (inner := _json_in(_pick(fields, self._unwrap))) is not None:
            fields, payload = fields | json_text.members(inner), inner
        event_type = self._type or self._event_type(fields)
        moment = self._moment(fields)
        shared = {"workspace": self.workspace, "agent": self.agent} | self._shared(fields)
        return Envelope(
            event_id=ids.derived_id(
                timestamps.to_us(moment),
                event_type, *importer_parts(self.agent), *self._key(fields, data, source, occurrence),
                workspace=shared["workspace"],
            ),
            event_type=event_type,
            timestamp=timestamps.to_text(moment),
            payload=msgspec.Raw(payload),
            **shared,
        )  # fmt: skip

    def _shared(self, fields: Fields) -> dict[str, Any]:
        """Return the envelope fields that a line gives. Raises InvalidEvent for a value that one cannot have."""
        if not self._envelope_fields:
            return {}
        picked = ((name, field, _pick(fields, field)) for name, field in self._envelope_fields.items())
        given = {name: _envelope_value(name, field, value) for name, field, value in picked if value not in (None, "")}
        if given:
            envelope.encode_fields(given)
        return given

    def _event_type(self, fields: Fields) -> str:
        value = _pick(fields, self._type_field)
        if value is None:
            raise InvalidEvent(f"there is no type field {self._type_field!r}")
        return _as_event_type(value)

    def _key(self, fields: Fields, data: bytes, source: str, occurrence: str) -> tuple[str | bytes, ...]:
        value = _pick(fields, self._id_field)
        if not _identifies(value):
            return "content", source, data, occurrence
        return "id", msgspec.json.encode(value)

    def _moment(self, fields: Fields) -> datetime:
        if self._time_field is None:
            return _UNKNOWN
        value = _pick(fields, self._time_field)
        if value is None:
            raise InvalidEvent(f"there is no time field {self._time_field!r}")
        try:
            return self._times.read(value)
        except ValueError as error:
            held = f"time field {self._time_field!r} holds {shown(value)}"
            raise InvalidEvent(f"{held}, which cannot be read as a time: {error}") from None


def guess_time_field(line: bytes) -> str | None:
    """Return the first field of a line that looks like its time, for a hint to the user."""
    try:
        fields = msgspec.json.decode(line, type=dict[str, Any])
    except (ValueError, RecursionError):
        return None
    return next((name for name in TIME_FIELDS if timestamps.from_foreign(fields.get(name)) is not None), None)


def _pick(fields: Fields, name: str | None) -> Any:
    """Return a field by its name, which may itself hold dots, else by a dotted path; None if absent.

    Only the field is made into an object: what else the line holds may be of any size.
    """
    try:
        found = _member(fields, name)
        return None if found is None else payloads.decode(found)
    except (ValueError, RecursionError):
        return None


def _member(fields: Fields, name: str | None) -> msgspec.Raw | None:
    """Return a field as it stands. Raises ValueError, RecursionError."""
    if name is None or name in fields:
        return None if name is None else fields[name]
    *path, last = name.split(".")
    for part in path:
        if part not in fields:
            return None
        fields = json_text.members(bytes(fields[part]))
    return fields.get(last)


def _json_in(value: object) -> bytes | None:
    """Return the JSON object that a field holds, as text or as it is, on one line; None if it holds none."""
    text = value.encode() if isinstance(value, str) else msgspec.json.encode(value)
    records = split_records(SourceLine(text, len(text), len(text), True))
    is_object = len(records) == 1 and records[0].reason is None and records[0].data.startswith(b"{")
    return records[0].data if is_object else None


def _envelope_value(name: str, field: str, value: object) -> str | int:
    """Return what a field of a line says as an envelope field: a text, or a number as one; of a turn, the number."""
    if isinstance(value, str | int) and not isinstance(value, bool):
        if name != "turn_number":
            return str(value)
        if str(value).isascii() and str(value).isdigit():
            return int(value)
    raise InvalidEvent(f"field {field!r} holds {shown(value)}, which is no {name}")


def _identifies(value: object) -> bool:
    """Say whether a value can be an id: empty ones, true and false would make one event of many."""
    if isinstance(value, str):
        return bool(value.strip())
    return not isinstance(value, bool) and (bool(value) or value == 0)


def _as_event_type(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidEvent(f"the type field holds {str(value)[:80]!r}, which is not text")
    return _type_of(value)


@functools.lru_cache(_TYPES_KEPT)
def _type_of(value: str) -> str:
    name = _ODD.sub("_", _HUMP.sub("_", value).lower()).strip("_.-")
    return foreign_types.imported(envelope.check_event_type(name[:100]))


def _own_type(name: str) -> str:
    """Return the type that somebody chose for foreign lines. Raises InvalidEvent."""
    envelope.check_event_type(name)
    if foreign_types.is_claimed(name):
        raise InvalidEvent(
            f"{name} is a type of eventlog's own, and foreign lines are none of these; use another, "
            f"for instance --type {foreign_types.imported(name)}"
        )
    return name
