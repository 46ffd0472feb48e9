"""Events of an index: pages in order of time, one by its id, counts per type.

    rows of `events` (in the index) ──→ Event, with large fields put back from `blobs/`
                                    └─→ the raw line, read from its segment

Statements are made before the index is opened, so that odd arguments are refused at once; lines and blobs are read
after it is closed, so that nobody waits for the index meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import msgspec

from eventlog.errors import InvalidEvent, QueryFailed
from eventlog.format import envelope, payloads, timestamps
from eventlog.format.envelope import AuditLevel
from eventlog.indexer.index import schema
from eventlog.indexer.sql import literal
from eventlog.log import blobs, layout, reader
from eventlog.queries.identity import chosen, levels, names

Bucket = Literal["minute", "hour", "day", "week", "month"]
Moment = datetime | str
Row = tuple[Any, ...]

LIMIT_MAX = 10_000
BUCKETS: tuple[Bucket, ...] = ("minute", "hour", "day", "week", "month")
_CANDIDATES = 10


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A row of `events`. `payload` and `extra` are JSON; `segment` and `line_offset` (bytes) say where its line is.

    Large fields that are stored under `blobs/` stand in `payload` as they were emitted, and one that cannot be read
    as a reference with an `error`; then `stored_payload` is the payload as log and index have it.
    """

    event_id: str
    event_type: str
    timestamp: datetime
    run_id: str | None = None
    request_id: str | None = None
    session_id: str | None = None
    parent_event_id: str | None = None
    cycle: int | None = None
    turn_number: int | None = None
    audit_level: str = "turn"
    workspace: str | None = None
    agent: str | None = None
    schema_version: int = 1
    payload: msgspec.Raw
    extra: msgspec.Raw | None = None
    segment: str
    line_offset: int
    line_length: int
    stored_payload: msgspec.Raw | None = None

    def data(self) -> dict[str, Any]:
        """Return the payload as plain Python objects; a number that Python has none for is a text."""
        return payloads.fields(self.payload)


class Page(msgspec.Struct, frozen=True):
    """Some events, and the cursor to pass as `after` for the next ones (None at the end)."""

    events: list[Event]
    next: str | None


class FoundEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event with its line. `line` is None where the log's copy was released or is gone."""

    event: Event
    path: str
    line: bytes | None


class Count(msgspec.Struct, frozen=True):
    """How many events of a type there are in a bucket of time (`start` is None without buckets)."""

    event_type: str
    start: datetime | None
    events: int


_COLUMNS = tuple(name for name in Event.__struct_fields__ if name != "stored_payload")
#: No two events of an index are equal in this order.
_ORDER = ("timestamp", "event_id", "workspace IS NOT NULL", "coalesce(workspace, '')")
_AFTER = "(?::TIMESTAMP, ?::UUID, ?::BOOLEAN, ?::VARCHAR)"
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM events"
_PAGE = f"{_SELECT} WHERE {{conditions}} ORDER BY {{order}} LIMIT {{rows_max}}"
_COUNTS = """
    SELECT event_type, {start} AS start, count(*) AS events FROM events WHERE {conditions}
    GROUP BY ALL ORDER BY start, event_type
"""
#: Events of one id: one without a workspace first.
BY_ID = f"{_SELECT} WHERE event_id = ?::UUID ORDER BY workspace NULLS FIRST LIMIT {_CANDIDATES}"


#: A statement and its parameters.
Statement = tuple[str, list[Any]]


def page_query(conditions: Iterable[str], limit: int, *, newest_first: bool = False) -> str:
    """Return the statement for `limit` events that meet all conditions, in order of (timestamp, id, workspace)."""
    direction = "DESC" if newest_first else "ASC"
    order = ", ".join(f"{column} {direction}" for column in _ORDER)
    return _PAGE.format(conditions=" AND ".join(conditions), order=order, rows_max=limit)


def count_query(conditions: Iterable[str], bucket: Bucket | None) -> str:
    """Return the statement that counts the events that meet all conditions, per type and bucket of UTC time."""
    start = "NULL::TIMESTAMP" if bucket is None else f"date_trunc({literal(bucket)}, timestamp)::TIMESTAMP"
    return _COUNTS.format(start=start, conditions=" AND ".join(conditions))


# -- statements with their parameters, checked before the index is opened --------------------------


def page_statement(
    event_types: Iterable[str],
    *,
    since: Moment | None,
    until: Moment | None,
    where: Mapping[str, str | int],
    audit_level: AuditLevel | None,
    newest_first: bool,
    limit: int,
    after: str | None,
) -> Statement:
    """Return the statement for `limit` events and one more if there is one. Raises QueryFailed for odd arguments."""
    if not 1 <= limit <= LIMIT_MAX:
        raise QueryFailed(f"limit {limit} is out of range: 1 to {LIMIT_MAX:,}; page on with `after`")
    conditions, params = _conditions(event_types, since, until, where, audit_level)
    if after is not None:
        conditions.append(f"({', '.join(_ORDER)}) {'<' if newest_first else '>'} {_AFTER}")
        params += _position(after)
    return page_query(conditions, limit + 1, newest_first=newest_first), params


def id_statement(event_id: str) -> Statement:
    """Return the statement for the events of one id: one for each workspace that has it. Raises QueryFailed."""
    return BY_ID, [_uuid(event_id)]


def count_statement(
    event_types: Iterable[str],
    *,
    bucket: Bucket | None,
    since: Moment | None,
    until: Moment | None,
    where: Mapping[str, str | int],
    audit_level: AuditLevel | None,
) -> Statement:
    """Return the statement that counts events per type, and per bucket of UTC time if one is named.

    Raises QueryFailed for odd arguments.
    """
    if bucket is not None and bucket not in BUCKETS:
        raise QueryFailed(f"unknown bucket {bucket!r}; use one of {', '.join(BUCKETS)}")
    conditions, params = _conditions(event_types, since, until, where, audit_level)
    return count_query(conditions, bucket), params


def _conditions(
    event_types: Iterable[str],
    since: Moment | None,
    until: Moment | None,
    where: Mapping[str, str | int],
    audit_level: AuditLevel | None,
) -> tuple[list[str], list[Any]]:
    conditions: list[str] = ["true"]
    params: list[Any] = []
    types = names(event_types)
    if types:
        conditions.append("event_type IN (SELECT unnest(?))")
        params.append(types)
    if audit_level is not None:
        conditions.append("audit_level IN (SELECT unnest(?))")
        params.append(levels(audit_level))
    for sign, moment in ((">=", since), ("<", until)):
        if moment is not None:
            conditions.append(f"timestamp {sign} ?::TIMESTAMP")
            params.append(_moment(moment))
    for name, value in where.items():
        if name not in schema.CONTENT or name in ("payload", "extra", "timestamp"):
            raise QueryFailed(f"cannot filter by {name!r}; use an envelope column such as run_id, or sql()")
        # Cast what is compared with, never the column: that could fail on the value of a row, and reveal it.
        conditions.append(f"{name} = ?::{schema.CONTENT[name]}")
        params.append(_uuid(str(value)) if name == "event_id" else value)
    return conditions, params


def _moment(moment: Moment) -> str:
    try:
        return timestamps.to_text(moment if isinstance(moment, datetime) else timestamps.parse(moment)).rstrip("Z")
    except (ValueError, TypeError):
        raise QueryFailed(f"{moment!r} is not a time; use ISO 8601, for instance 2026-01-31T12:00:00Z") from None


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise QueryFailed(f"{text!r} is not an event id; it looks like 01a1fc0e-90e7-7614-b5c5-39cd6cbb2847") from None


# -- from files ------------------------------------------------------------------------------


def page_of(rows: list[Row], root: Path, limit: int) -> Page:
    """Return the first `limit` rows as a page, with the cursor of its end if there are more."""
    resolver = blobs.Resolver(root)
    events = [_event(row, resolver) for row in rows[:limit]]
    return Page(events, _cursor(events[-1]) if len(rows) > limit else None)


def with_line(rows: list[Row], root: Path, workspace: str | None) -> FoundEvent | None:
    """Return the event that is meant by the rows of one id, with its raw line; None where there are no rows.

    `workspace` is that of the reader, who may see no line of another. Raises QueryFailed where several workspaces
    have the event and none of them is meant.
    """
    if not rows:
        return None
    event = _event(rows[0], blobs.Resolver(root))
    chosen(f"an event {event.event_id}", [row[_COLUMNS.index("workspace")] for row in rows])
    path = layout.segment_path(root, event.event_type, event.segment)
    if not path.exists() and layout.archive_of(path).exists():
        path = layout.archive_of(path)
    line = reader.read_line_at(path, event.line_offset)
    if line is not None and workspace is not None and not _is_line_of(line, event):
        line = None  # the segment is not what it was when it was indexed: this may be anybody's
    return FoundEvent(event=event, path=str(path), line=line)


def _event(row: Row, resolver: blobs.Resolver) -> Event:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["event_id"] = str(values["event_id"])
    values["timestamp"] = timestamps.utc(values["timestamp"])
    for name in ("payload", "extra"):
        if values[name] is not None:
            values[name] = msgspec.Raw(values[name].encode())
    stored = bytes(values["payload"])
    whole = resolver.resolve(stored, values["workspace"], marked=True)
    if whole != stored:
        values |= {"payload": msgspec.Raw(whole), "stored_payload": msgspec.Raw(stored)}
    return Event(**values)


def _is_line_of(line: bytes, event: Event) -> bool:
    try:
        decoded = envelope.decode(line).envelope
    except InvalidEvent:
        return False
    return (decoded.event_id, decoded.workspace) == (event.event_id, event.workspace)


def _cursor(event: Event) -> str:
    position = f"{timestamps.to_text(event.timestamp)},{event.event_id}"
    return position if event.workspace is None else f"{position},{event.workspace}"


def _position(cursor: str) -> tuple[str, str, bool, str]:
    moment, _, rest = cursor.partition(",")
    event_id, comma, workspace = rest.partition(",")
    return _moment(moment), _uuid(event_id), bool(comma), workspace
