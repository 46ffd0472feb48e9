"""From lines to rows, one batch at a time.

    blocks → proven as a whole (eventlog.indexer.load.bulk)                     ┐
    lines  → checked one by one → `batch`, or a reason in quarantine ┴→ event_rows

Most lines go the first way, straight into the table. Those of a block with anything odd in it go
the second, and so do all of a batch whose ids the index has met before.

Nothing here depends on the order in which batches arrive. An event is known by its workspace and
its event_id; no workspace is a workspace like any other. Of the lines of one event, each distinct
content is kept once, at its first place (segment, offset); the content with the first place of all
is the row in `events`, the others are conflicts. A derived id whose first 48 bits are 0 belongs to an
event that has no time of its own: its timestamp, which says when it was written, is not a part of the content.
That rule can be applied to any part of the log in any order and ends the same.
"""

from __future__ import annotations

import base64
import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import NamedTuple

import duckdb
import msgspec

from eventlog.errors import InvalidEvent
from eventlog.format import envelope
from eventlog.format.schemas import SCHEMA_EVENT
from eventlog.indexer.index.schema import CONTENT, PLACE, REJECTED, columns
from eventlog.indexer.load.bulk import Bulk
from eventlog.indexer.load.cache import Known
from eventlog.indexer.load.staging import as_csv, as_table
from eventlog.indexer.sql import literal
from eventlog.indexer.views import typed
from eventlog.log.reader import Line

_RAW_MAX_BYTES = 64 * 1024
_SMALL_BYTES = 1024 * 1024
_OPTIMIZE = "PRAGMA enable_optimizer"
#: Not DuckDB's own words: they name a file descriptor, and reasons must not differ between runs.
_REFUSED = "valid JSON, but refused by DuckDB's JSON reader"

_ENVELOPE_STRUCT = ", ".join(f"{name} {kind}" for name, kind in CONTENT.items() if name != "extra")
_STAGED = f"s: 'VARCHAR', o: 'BIGINT', n: 'BIGINT', x: 'JSON', e: 'STRUCT({_ENVELOPE_STRUCT})'"
_DEFAULTS = {"audit_level": "coalesce(e.audit_level, 'turn')", "schema_version": "coalesce(e.schema_version, 1)"}
_SELECT_STAGED = ", ".join(
    [f"{_DEFAULTS.get(name, f'e.{name}')} AS {name}" for name in CONTENT if name != "extra"]
    + ["x AS extra", "s AS segment", "o AS line_offset", "n AS line_length"]
)
_ALL = columns(CONTENT, PLACE)
#: The condition for ids that were derived for events without a time of their own.
_IS_TIMELESS = (
    "event_id BETWEEN '00000000-0000-8000-0000-000000000000'::UUID AND '00000000-0000-8fff-ffff-ffffffffffff'::UUID"
)
_OF_CONTENT = [name for name in CONTENT if name not in ("event_id", "timestamp")]


def same_event(one: str, other: str) -> str:
    """Return the condition under which two rows are of the same event."""
    return f"{one}.event_id = {other}.event_id AND {one}.workspace IS NOT DISTINCT FROM {other}.workspace"


class Slice(NamedTuple):
    """Consecutive lines of one segment."""

    segment: str
    event_type: str
    lines: list[Line]


class Rejected(NamedTuple):
    """A line, or a torn tail, that is no event, and why."""

    segment: str
    offset: int
    length: int
    reason: str
    raw: bytes


class Checked(NamedTuple):
    """Lines that were looked at: how many events per segment wait in `batch`, and what was rejected."""

    events: dict[str, int]
    rejected: list[Rejected]
    event_types: frozenset[str]


class _Staged(NamedTuple):
    segment: str
    line: Line
    row: bytes


def check(connection: duckdb.DuckDBPyConnection, slices: Iterable[Slice]) -> Checked:
    """Check every line and put the good ones into the temporary table `batch`.

    Not inside a transaction: a line that DuckDB refuses would abort it.
    """
    staged: list[_Staged] = []
    rejected: list[Rejected] = []
    event_types: set[str] = set()
    for part in slices:
        event_types.add(part.event_type)
        for line in part.lines:
            try:
                staged.append(_stage(part, line))
            except InvalidEvent as error:
                rejected.append(_reject(part.segment, line, str(error)))
    if not staged:
        return Checked({}, rejected, frozenset(event_types))
    staged, refused = _fill_batch(connection, staged)
    events = Counter(each.segment for each in staged)
    return Checked(events, rejected + refused, frozenset(event_types))


def store(connection: duckdb.DuckDBPyConnection, bulk: Bulk, checked: Checked, known: Known) -> None:
    """Move what was proven, and what was checked, to where it belongs; inside the caller's transaction.

    Raises Refused where DuckDB refuses a proven line; the transaction is of no use then.
    """
    waiting = bool(checked.events)
    try:
        coming = bulk.event_types | (checked.event_types if waiting else set())
        marks = (known.marks.get(name) for name in bulk.events.keys() | checked.events.keys())
        coming -= {mark.event_type for mark in marks if mark is not None and mark.events}
        sample = partial(_sample, bulk)
        if coming and typed.prepare(connection, coming, sample):
            known.forget_columns()
            typed.create_views(connection, known.views)
        if bulk.events:
            if known.lacks(connection, bulk.ids, bulk.lowest) or not _is_met(connection, bulk):
                stored = _insert(connection, bulk, known)
                if stored != bulk.events.total():
                    raise Refused(f"{stored:,} of {bulk.events.total():,} lines came through")
                known.add_ids(bulk.ids)
            else:
                into = "INSERT INTO batch" if waiting else "CREATE OR REPLACE TEMP TABLE batch AS"
                connection.execute(f"{into} SELECT {_ALL} FROM {bulk.rows}")
                waiting = True
    except (duckdb.InvalidInputException, duckdb.ConversionException) as error:
        raise Refused(str(error).splitlines()[0]) from error
    if waiting:
        known.forget_ids()
        merge_batch(connection)
    insert_rejected(connection, checked.rejected)
    if SCHEMA_EVENT in checked.event_types | bulk.event_types:
        typed.create_views(connection, known.views)


def _sample(bulk: Bulk, event_type: str) -> typed.Sample:
    return bulk.sample(event_type) or contextlib.nullcontext("batch")


def _insert(connection: duckdb.DuckDBPyConnection, bulk: Bulk, known: Known) -> int:
    """Insert what was proven; return how many that were.

    DuckDB's optimizer takes longer than a few rows, and there is nothing for it to find.
    """
    is_small = bulk.size_bytes < _SMALL_BYTES
    if is_small:
        connection.execute("PRAGMA disable_optimizer")
    stored = typed.insert(connection, bulk.rows, bulk.event_types, known.kept_columns(connection))
    if is_small:
        connection.execute(_OPTIMIZE)
    return stored


def undo(connection: duckdb.DuckDBPyConnection, known: Known) -> None:
    """Roll back after Refused."""
    connection.rollback()
    connection.execute(_OPTIMIZE)  # which an aborted transaction does not let one say
    known.forget_columns()
    known.forget_views()


def _is_met(connection: duckdb.DuckDBPyConnection, bulk: Bulk) -> bool:
    """Say whether the index has any of these ids.

    Ids are ordered by time, so their range lets DuckDB skip nearly all of the index by its zone maps.
    """
    in_range = "SELECT 1 FROM event_rows WHERE event_id BETWEEN ?::UUID AND ?::UUID"
    low_high = [bulk.lowest, bulk.highest]
    if connection.execute(f"{in_range} LIMIT 1", low_high).fetchone() is None:
        return False
    with as_csv(bulk.ids, "event_id: 'UUID'") as ids:
        among = f"event_id IN (SELECT event_id FROM {ids})"
        return connection.execute(f"{in_range} AND {among} LIMIT 1", low_high).fetchone() is not None


class Refused(Exception):
    """DuckDB's JSON reader refuses a line that is proven: all lines must be looked at one by one."""


def insert_rejected(connection: duckdb.DuckDBPyConnection, rejected: list[Rejected]) -> None:
    """Put lines into quarantine."""
    if not rejected:
        return
    objects = [
        msgspec.json.encode(dict(zip(REJECTED, [*each[:4], base64.b64encode(each.raw).decode()], strict=True)))
        for each in rejected
    ]
    kinds = ", ".join(f"{name}: {literal('VARCHAR' if kind == 'BLOB' else kind)}" for name, kind in REJECTED.items())
    with as_table(objects, kinds) as table:
        connection.execute(
            f"INSERT INTO rejected SELECT segment, line_offset, length, reason, from_base64(raw) FROM {table}"
        )


def take_back(connection: duckdb.DuckDBPyConnection, offsets: Mapping[str, int]) -> None:
    """Take torn tails out of quarantine, by segment and offset: there is more of those lines now."""
    for segment, offset in offsets.items():
        connection.execute("DELETE FROM rejected WHERE segment = ? AND line_offset = ?", [segment, offset])


def _reject(segment: str, line: Line, reason: str) -> Rejected:
    return Rejected(segment, line.offset, line.length, reason, line.data[:_RAW_MAX_BYTES])


def _stage(part: Slice, line: Line) -> _Staged:
    """Check a line and wrap it with its place. Raises InvalidEvent with the reason."""
    if line.oversized:
        raise InvalidEvent(f"line of {line.length:,} bytes is over the limit of {envelope.MAX_LINE_BYTES:,}")
    found, extra = envelope.decode(line.data)
    if found.event_type != part.event_type:
        raise InvalidEvent(f"event_type {found.event_type!r} in the folder of {part.event_type!r}")
    place = b'{"s":"%b","o":%d,"n":%d' % (part.segment.encode(), line.offset, line.length)
    if extra is None:
        row = b'%b,"e":%b}' % (place, line.data.strip())
    else:
        row = b'%b,"x":%b,"e":%b}' % (place, msgspec.json.encode(extra), msgspec.json.encode(found))
    return _Staged(part.segment, line, row)


def _fill_batch(connection: duckdb.DuckDBPyConnection, staged: list[_Staged]) -> tuple[list[_Staged], list[Rejected]]:
    """Make the temporary table `batch`; return what is in it, and what DuckDB's parser refused.

    Nearly always the first attempt succeeds. Where it does not, the lines are looked at
    more closely, and then halved until the ones at fault stand alone.
    """
    rejected: list[Rejected] = []
    reason = _try_fill(connection, staged)
    if reason is None:
        return staged, rejected
    good = []
    for each in staged:
        fault = _close_look(each.line.data)
        if fault is None:
            good.append(each)
        else:
            rejected.append(_reject(each.segment, each.line, fault))
    if _try_fill(connection, good) is None:
        return good, rejected
    bad = {id(each) for each in _isolate(connection, good)}
    rejected += [_reject(each.segment, each.line, _REFUSED) for each in good if id(each) in bad]
    good = [each for each in good if id(each) not in bad]
    reason = _try_fill(connection, good)
    if reason is not None:  # each passes alone but not together: not the lines' fault
        raise duckdb.Error(reason)
    return good, rejected


def _isolate(connection: duckdb.DuckDBPyConnection, staged: list[_Staged]) -> list[_Staged]:
    if _try_fill(connection, staged) is None:
        return []
    if len(staged) == 1:
        return staged
    middle = len(staged) // 2
    return _isolate(connection, staged[:middle]) + _isolate(connection, staged[middle:])


def _try_fill(connection: duckdb.DuckDBPyConnection, staged: list[_Staged]) -> str | None:
    """Fill `batch`; return None, or why DuckDB would not."""
    with as_table([each.row for each in staged], _STAGED) as table:
        try:
            connection.execute(f"CREATE OR REPLACE TEMP TABLE batch AS SELECT {_SELECT_STAGED} FROM {table}")
        except (duckdb.InvalidInputException, duckdb.ConversionException) as error:
            return str(error).splitlines()[0]
    return None


def _close_look(line: bytes) -> str | None:
    """Find what the fast check lets through: repeated envelope fields and days that do not exist.

    Each of these makes DuckDB refuse the line, alone or among others, so that what becomes
    of a line never depends on its neighbours in a batch.
    """
    repeated = envelope.repeated_field(line)
    if repeated is not None:
        return f"envelope field {repeated!r} stands twice"
    moment = envelope.decode(line).envelope.timestamp
    try:
        datetime.fromisoformat(moment)
    except ValueError as error:
        return f"timestamp {moment!r} is not a time: {error}"
    return None


def merge_batch(connection: duckdb.DuckDBPyConnection) -> None:
    """Move `batch` into `event_rows` and `conflicts`, by the rule at the top of this module."""
    known = _drop_redelivered(connection)
    met = f"UNION SELECT workspace, event_id FROM batch SEMI JOIN met ON {same_event('batch', 'met')}"
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE contended AS
            SELECT workspace, event_id FROM batch GROUP BY workspace, event_id HAVING count(*) > 1
            {met if known else ""}
        """
    )
    row = connection.execute("SELECT count(*) FROM contended").fetchone()
    if not row or not row[0]:
        typed.insert(connection, "batch")
        return
    typed.insert(connection, f"batch ANTI JOIN contended ON {same_event('batch', 'contended')}")
    _settle_contended(connection)


def _drop_redelivered(connection: duckdb.DuckDBPyConnection) -> bool:
    """Drop the plain case of redelivery from `batch`: same event, same content, a later place.

    Returns whether any id of the batch is already in the index, and then leaves their rows, whatever workspace they
    are of, in `met`. Ids are ordered by time, so the range of the batch lets DuckDB skip nearly all of the index by
    its zone maps.
    """
    low_high = connection.execute("SELECT min(event_id)::VARCHAR, max(event_id)::VARCHAR FROM batch").fetchone()
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE met AS SELECT {_ALL} FROM event_rows
        WHERE event_id BETWEEN ?::UUID AND ?::UUID AND event_id IN (SELECT event_id FROM batch)
        """,
        low_high,
    )
    row = connection.execute("SELECT count(*) FROM met").fetchone()
    if not row or not row[0]:
        return False
    same = " AND ".join(f"met.{name} IS NOT DISTINCT FROM batch.{name}" for name in _OF_CONTENT)
    connection.execute(
        f"""
        DELETE FROM batch USING met
        WHERE met.event_id = batch.event_id AND {same}
          AND (met.timestamp = batch.timestamp OR batch.{_IS_TIMELESS})
          AND (met.segment, met.line_offset) <= (batch.segment, batch.line_offset)
        """
    )
    return True


def _settle_contended(connection: duckdb.DuckDBPyConnection) -> None:
    content = ", ".join(_OF_CONTENT)
    place = "(segment, line_offset, line_length)"
    pool = " UNION ALL ".join(
        f"SELECT {_ALL} FROM {table} SEMI JOIN contended ON {same_event(table, 'contended')}"
        for table in ("batch", "event_rows", "conflicts")
    )
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE versions AS
        WITH contents AS (
            SELECT event_id, CASE WHEN NOT {_IS_TIMELESS} THEN timestamp END AS its_time, {content},
                   min({place}) AS place, arg_min(timestamp, {place}) AS timestamp
            FROM ({pool}) GROUP BY event_id, its_time, {content}
        )
        SELECT event_id, timestamp, {content}, place[1] AS segment, place[2] AS line_offset, place[3] AS line_length,
               row_number() OVER (PARTITION BY workspace, event_id ORDER BY place) AS position
        FROM contents
        """
    )
    for table in ("event_rows", "conflicts"):
        connection.execute(f"DELETE FROM {table} USING contended WHERE {same_event(table, 'contended')}")
    typed.insert(connection, f"(SELECT {_ALL} FROM versions WHERE position = 1)")
    connection.execute(f"INSERT INTO conflicts SELECT {_ALL} FROM versions WHERE position > 1")
