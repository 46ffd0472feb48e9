"""ReadStore: the only way that readers get at the index.

    question → the index, opened read-only in its turn → hardened → answer → let go

Each call opens and closes the index, so a store may be kept for as long as one likes
without being in the indexer's way. Times are UTC.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast
from uuid import UUID

import duckdb
import msgspec

from eventlog.errors import InvalidEvent, MissingExtra, QueryFailed
from eventlog.format import envelope, payloads, timestamps
from eventlog.indexer.alarm import ALARM_EVENT
from eventlog.indexer.index import schema
from eventlog.indexer.index.digest import Digest, digest
from eventlog.indexer.sql import ident, literal
from eventlog.log import blobs, layout, reader
from eventlog.queries.access import isolation, sandbox
from eventlog.queries.access.reader import IndexReader
from eventlog.queries.answers import Answers
from eventlog.queries.cost import on_demand
from eventlog.queries.identity import chosen
from eventlog.record.drops import DROPPED_EVENT

Format = Literal["json", "jsonl", "csv", "parquet"]
Bucket = Literal["minute", "hour", "day", "week", "month"]

LIMIT_MAX = 10_000
_BUCKETS: tuple[Bucket, ...] = ("minute", "hour", "day", "week", "month")
_TOTALS = f"""
    SELECT (SELECT count(*) FROM events),
           (SELECT count(*) FROM quarantine),
           (SELECT coalesce(sum(TRY_CAST(payload ->> 'count' AS BIGINT)), 0)::BIGINT
            FROM events WHERE event_type = {literal(DROPPED_EVENT)}),
           (SELECT count(*) FROM events WHERE event_type = {literal(ALARM_EVENT)})
"""
_TIME = "TIMESTAMPFORMAT '%Y-%m-%dT%H:%M:%S.%fZ'"
_COPY = {
    "json": f"FORMAT json, ARRAY true, {_TIME}",
    "jsonl": f"FORMAT json, {_TIME}",
    "csv": f"FORMAT csv, HEADER true, {_TIME}",
    "parquet": "FORMAT parquet, COMPRESSION zstd",
}


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A row of `events`. `payload` and `extra` are JSON; `segment` and `line_offset` its place in the log.

    Large fields that are kept under `blobs/` stand in `payload` as they were emitted, and one that
    cannot be read as a reference with an `error`; then `stored_payload` is the payload as log and index have it.
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


_CANDIDATES = 10
_EVENT_COLUMNS = tuple(name for name in Event.__struct_fields__ if name != "stored_payload")


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


class SegmentState(msgspec.Struct, frozen=True, kw_only=True):
    """A segment: what the log holds and how far the index is. Lag is in bytes."""

    name: str
    event_type: str
    size_bytes: int
    indexed_offset: int
    lines: int
    events: int
    rejected: int
    sealed: bool
    released: bool
    lag_bytes: int


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What the index holds at one moment.

    `dropped` sums up what producers could not write and told of later (`events_dropped`);
    `alarms` counts segments that were not as the indexer left them (`index_alarm`).
    """

    segments: list[SegmentState]
    rows: int
    quarantined: int
    dropped: int
    alarms: int


class Result(msgspec.Struct, frozen=True):
    """Rows of a query. `cut` says that there were more than the row limit."""

    columns: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]
    cut: bool

    def dicts(self) -> list[dict[str, Any]]:
        """Return the rows as dicts by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


class ReadStore(Answers):
    """Reads one root. Raises IndexFailed where it has no index, IndexBusy past `wait_s`.

    SQL is stopped after `timeout_s`, in a process of its own where it calls what DuckDB does not interrupt; see
    `IndexReader`.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        workspace: str | None = None,
        wait_s: float = 30.0,
        timeout_s: float = 60.0,
        on_stuck: Callable[[QueryFailed], None] | None = None,
    ) -> None:
        self._reader = IndexReader(
            root, workspace=workspace, wait_s=wait_s, timeout_s=timeout_s, on_stuck=on_stuck, on_demand=on_demand.TABLES
        )
        self.root, self.workspace = self._reader.root, self._reader.workspace

    # -- events ------------------------------------------------------------------------

    def events(
        self,
        event_types: Iterable[str] = (),
        *,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        where: Mapping[str, str | int] | None = None,
        newest_first: bool = False,
        limit: int = 100,
        after: str | None = None,
    ) -> Page:
        """Return events in order of (timestamp, event_id, workspace), one page at a time.

        `since` is included, `until` is not. `where` compares envelope columns, such as
        `{"run_id": "r1"}`. Pages are stable while events arrive: `after` is a position.
        """
        if not 1 <= limit <= LIMIT_MAX:
            raise QueryFailed(f"limit {limit} is out of range: 1 to {LIMIT_MAX:,}; page on with `after`")
        conditions, params = _conditions(event_types, since, until, where or {})
        if after is not None:
            sign = "<" if newest_first else ">"
            conditions.append(f"({', '.join(_ORDER)}) {sign} (?::TIMESTAMP, ?::UUID, ?::BOOLEAN, ?::VARCHAR)")
            params += _position(after)
        order = "DESC" if newest_first else "ASC"
        query = (
            f"SELECT {', '.join(_EVENT_COLUMNS)} FROM events WHERE {' AND '.join(conditions)} "
            f"ORDER BY {', '.join(f'{each} {order}' for each in _ORDER)} LIMIT {limit + 1}"
        )
        with self._reader.trusted(views=("events",), fenced=False) as connection:
            rows = sandbox.execute(connection, query, params).fetchall()
        resolver = blobs.Resolver(self.root)
        events = [_event(row, resolver) for row in rows[:limit]]
        return Page(events, _cursor(events[-1]) if len(rows) > limit else None)

    def event(self, event_id: str) -> FoundEvent | None:
        """Return one event with its raw line, or None.

        In a store of all workspaces, where several have an event of this id, the one without a workspace is meant.
        Raises QueryFailed where they all have one.
        """
        query = (
            f"SELECT {', '.join(_EVENT_COLUMNS)} FROM events WHERE event_id = ?::UUID "
            f"ORDER BY workspace NULLS FIRST LIMIT {_CANDIDATES}"
        )
        with self._reader.trusted(views=("events",), fenced=False) as connection:
            rows = sandbox.execute(connection, query, [_uuid(event_id)]).fetchall()
        if not rows:
            return None
        event = _event(rows[0], blobs.Resolver(self.root))
        chosen(f"an event {event.event_id}", [row[_EVENT_COLUMNS.index("workspace")] for row in rows])
        path = layout.segment_path(self.root, event.event_type, event.segment)
        if not path.exists() and layout.archive_of(path).exists():
            path = layout.archive_of(path)
        line = reader.read_line_at(path, event.line_offset)
        if line is not None and self.workspace is not None and not _is_line_of(line, event):
            line = None  # the segment is not what it was when it was indexed: this may be anybody's
        return FoundEvent(event=event, path=str(path), line=line)

    def counts(
        self,
        event_types: Iterable[str] = (),
        *,
        bucket: Bucket | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        where: Mapping[str, str | int] | None = None,
    ) -> list[Count]:
        """Count events per type, and per bucket of UTC time if one is given."""
        if bucket is not None and bucket not in _BUCKETS:
            raise QueryFailed(f"unknown bucket {bucket!r}; use one of {', '.join(_BUCKETS)}")
        conditions, params = _conditions(event_types, since, until, where or {})
        start = "NULL::TIMESTAMP" if bucket is None else f"date_trunc({literal(bucket)}, timestamp)::TIMESTAMP"
        query = (
            f"SELECT event_type, {start} AS start, count(*) FROM events WHERE {' AND '.join(conditions)} "
            "GROUP BY ALL ORDER BY start, event_type"
        )
        with self._reader.trusted(views=("events",), fenced=False) as connection:
            rows = sandbox.execute(connection, query, params).fetchall()
        return [Count(row[0], _utc(row[1]) if row[1] else None, row[2]) for row in rows]

    # -- the state of log and index ----------------------------------------------------

    def state(self) -> State:
        """Return what the index holds, and how far it is behind the log."""
        self._refuse_in_workspace("state()")
        names = [name for name in SegmentState.__struct_fields__ if name != "lag_bytes"]
        with self._reader.trusted() as connection:
            ((rows, quarantined, dropped, alarms),) = connection.execute(_TOTALS).fetchall()
            found = connection.execute(f"SELECT {', '.join(names)} FROM segments").fetchall()
        segments = self._segments({row[0]: dict(zip(names, row, strict=True)) for row in found})
        return State(segments=segments, rows=rows, quarantined=quarantined, dropped=dropped, alarms=alarms)

    def _segments(self, known: dict[str, dict[str, Any]]) -> list[SegmentState]:
        """Return every segment that the log or the index knows, with its lag."""
        files = layout.list_log(self.root).segments
        for file in files:
            state = known.setdefault(
                file.name,
                {"event_type": file.event_type, "name": file.name, "released": False}
                | dict.fromkeys(("indexed_offset", "lines", "events", "rejected"), 0),
            )
            state |= {"size_bytes": max(file.size, state.get("size_bytes", 0)), "sealed": file.sealed}
        there = {file.name for file in files}
        states = [
            SegmentState(
                **state, lag_bytes=max(state["size_bytes"] - state["indexed_offset"], 0) if name in there else 0
            )
            for name, state in known.items()
        ]
        return sorted(states, key=lambda state: (state.event_type, state.name))

    def digest(self) -> Digest:
        """Return the content hash of the index."""
        self._refuse_in_workspace("digest()")
        with self._reader.trusted() as connection:
            return digest(connection)

    def _refuse_in_workspace(self, what: str) -> None:
        if self.workspace is not None:
            raise QueryFailed(f"{what} is of the whole log, and this store is of the workspace {self.workspace!r}")

    # -- SQL ---------------------------------------------------------------------------

    def sql(
        self,
        query: str,
        params: Sequence[Any] | dict[str, Any] | None = None,
        *,
        row_limit: int = 100_000,
        timeout_s: float | None = None,
    ) -> Result:
        """Run one SELECT; it sees the index and nothing else. Raises QueryFailed.

        At most `row_limit` rows come back, and the result says whether there were more.
        """
        if question := self._reader.isolated("sql", timeout_s, query, params, row_limit=row_limit):
            return cast("Result", isolation.ask(question))
        with self._reader.untrusted(query, timeout_s=timeout_s) as (connection, statement):
            cursor = sandbox.execute(connection, statement, params)
            described = cursor.description or []
            rows = cursor.fetchmany(row_limit + 1)
        columns = [column[0] for column in described]
        return Result(columns, [str(column[1]) for column in described], rows[:row_limit], len(rows) > row_limit)

    def arrow(self, query: str, params: Sequence[Any] | dict[str, Any] | None = None) -> Any:
        """Run one SELECT; return a `pyarrow.Table`. Raises MissingExtra without pyarrow."""
        _need("pyarrow", "arrow")
        if question := self._reader.isolated("arrow", None, query, params):
            return isolation.ask(question)
        with self._reader.untrusted(query) as (connection, statement):
            return connection.sql(statement, params=params).to_arrow_table()

    def pandas(self, query: str, params: Sequence[Any] | dict[str, Any] | None = None) -> Any:
        """Run one SELECT; return a `pandas.DataFrame`. Raises MissingExtra without pandas."""
        _need("pandas", "pandas")
        if question := self._reader.isolated("pandas", None, query, params):
            return isolation.ask(question)
        with self._reader.untrusted(query) as (connection, statement):
            return sandbox.execute(connection, statement, params).df()

    def copy(
        self,
        query: str,
        path: str | Path,
        format_: Format,
        params: Sequence[Any] | dict[str, Any] | None = None,
        *,
        row_limit: int | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Write the rows of one SELECT to a file; return how many. The file appears when it is whole."""
        if question := self._reader.isolated("copy", timeout_s, query, str(path), format_, params, row_limit=row_limit):
            return int(isolation.ask(question))
        limit = "" if row_limit is None else f" LIMIT {int(row_limit)}"
        target = Path(os.path.realpath(path))
        # A device or a pipe is written to as it is; a file appears when it is whole.
        is_file = target.is_file() or not target.exists()
        part = target.with_name(f".{target.name}.{os.getpid()}-{os.urandom(4).hex()}.part") if is_file else target
        if not target.parent.is_dir():
            raise QueryFailed(f"there is no folder {target.parent} to write {target.name} to")
        try:
            if is_file:  # before DuckDB, which would let everybody read it
                os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            with self._reader.untrusted(query, timeout_s=timeout_s, may_write=part) as (connection, statement):
                rows_of = _finite(connection, statement, params) if format_ in ("json", "jsonl") else statement
                rows = sandbox.execute(
                    connection,
                    f"COPY (SELECT * FROM (\n{rows_of}\n){limit}) TO {literal(str(part))} "
                    f"({_COPY[format_]}, USE_TMP_FILE false)",
                    params,
                ).fetchall()
            if is_file:
                part.replace(target)
        except OSError as error:
            raise QueryFailed(f"{target} cannot be written: {error.strerror}") from error
        finally:
            if is_file:
                part.unlink(missing_ok=True)
        return int(rows[0][0])


def _finite(
    connection: duckdb.DuckDBPyConnection, statement: str, params: Sequence[Any] | dict[str, Any] | None
) -> str:
    """Have NaN and infinities written as null: DuckDB would write words that JSON does not know."""
    described = sandbox.execute(connection, f"DESCRIBE {statement}", params).fetchall()
    floats = [ident(row[0]) for row in described if row[1] in ("DOUBLE", "FLOAT")]
    if not floats:
        return statement
    finite = ", ".join(f"CASE WHEN isfinite({name}) THEN {name} END AS {name}" for name in floats)
    return f"SELECT * REPLACE ({finite}) FROM (\n{statement}\n)"


def _conditions(
    event_types: Iterable[str],
    since: datetime | str | None,
    until: datetime | str | None,
    where: Mapping[str, str | int],
) -> tuple[list[str], list[Any]]:
    conditions: list[str] = ["true"]
    params: list[Any] = []
    types = list(event_types)
    if types:
        conditions.append("event_type IN (SELECT unnest(?))")
        params.append(types)
    for sign, moment in ((">=", since), ("<", until)):
        if moment is not None:
            conditions.append(f"timestamp {sign} ?::TIMESTAMP")
            params.append(_moment(moment))
    for name, value in where.items():
        if name not in schema.CONTENT or name in ("payload", "extra", "timestamp"):
            raise QueryFailed(f"cannot filter by {name!r}; use an envelope column such as run_id, or sql()")
        # Cast what is compared with, never the column: that could fail on the value of a row, and tell it.
        conditions.append(f"{name} = ?::{schema.CONTENT[name]}")
        params.append(_uuid(str(value)) if name == "event_id" else value)
    return conditions, params


def _moment(moment: datetime | str) -> str:
    try:
        return timestamps.to_text(moment if isinstance(moment, datetime) else timestamps.parse(moment)).rstrip("Z")
    except (ValueError, TypeError):
        raise QueryFailed(f"{moment!r} is not a time; use ISO 8601, for instance 2026-01-31T12:00:00Z") from None


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise QueryFailed(f"{text!r} is not an event id; it looks like 01a1fc0e-90e7-7614-b5c5-39cd6cbb2847") from None


def _is_line_of(line: bytes, event: Event) -> bool:
    try:
        found = envelope.decode(line).envelope
    except InvalidEvent:
        return False
    return (found.event_id, found.workspace) == (event.event_id, event.workspace)


#: Nothing in an index has the same place in this order as anything else.
_ORDER = ("timestamp", "event_id", "workspace IS NOT NULL", "coalesce(workspace, '')")


def _cursor(event: Event) -> str:
    place = f"{timestamps.to_text(event.timestamp)},{event.event_id}"
    return place if event.workspace is None else f"{place},{event.workspace}"


def _position(cursor: str) -> tuple[str, str, bool, str]:
    moment, _, rest = cursor.partition(",")
    event_id, comma, workspace = rest.partition(",")
    return _moment(moment), _uuid(event_id), bool(comma), workspace


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)


def _event(row: tuple[Any, ...], resolver: blobs.Resolver) -> Event:
    values = dict(zip(_EVENT_COLUMNS, row, strict=True))
    values["event_id"] = str(values["event_id"])
    values["timestamp"] = _utc(values["timestamp"])
    for name in ("payload", "extra"):
        if values[name] is not None:
            values[name] = msgspec.Raw(values[name].encode())
    stored = bytes(values["payload"])
    whole = resolver.resolve(stored, values["workspace"], marked=True)
    if whole != stored:
        values |= {"payload": msgspec.Raw(whole), "stored_payload": msgspec.Raw(stored)}
    return Event(**values)


def _need(module: str, extra: str) -> None:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError:
        raise MissingExtra(f"a result as {extra}", extra) from None
