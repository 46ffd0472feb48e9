"""From lines to rows, one part of a batch at a time.

    blocks → validated as a whole (eventlog.indexer.load.bulk)             ┐
    lines  → validated one by one → `batch`, or a reason in `rejected`    ┴→ event_rows

Most lines go the first way, straight into the table. A block with anything odd in it goes the second, line by line
(docs/decisions/0005), and so do lines that repeat an id, and all rows of a part if the index has any of its ids.

The result does not depend on the order of batches. An event is identified by its workspace and its event_id (no
workspace counts as a workspace of its own). Of the lines of one event, each distinct content is stored once, at its
first position (segment, offset). The content with the lowest position is the row in `events`, the others are in
`conflicts`. A derived id whose first 48 bits are 0 belongs to an event without a time of its own: its timestamp says
when it was written, and is not part of the content.
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
from eventlog.indexer.index.schema import CONTENT, POSITION, REJECTED, columns
from eventlog.indexer.load import copies
from eventlog.indexer.load.bulk import BlockBuffer
from eventlog.indexer.load.cache import IndexCache
from eventlog.indexer.load.staging import as_csv, as_table
from eventlog.indexer.sql import literal
from eventlog.indexer.views import projections, typed
from eventlog.log.reader import Line

_RAW_MAX_BYTES = 64 * 1024
_SMALL_BYTES = 1024 * 1024
#: DuckDB's own message names a file descriptor, and a reason must be the same in each replay.
_REFUSED = "valid JSON, but refused by DuckDB's JSON reader"

_ENVELOPE_STRUCT = ", ".join(f"{name} {kind}" for name, kind in CONTENT.items() if name != "extra")
_STAGED = f"s: 'VARCHAR', o: 'BIGINT', n: 'BIGINT', x: 'JSON', e: 'STRUCT({_ENVELOPE_STRUCT})'"
_DEFAULTS = {"audit_level": "coalesce(e.audit_level, 'turn')", "schema_version": "coalesce(e.schema_version, 1)"}
_SELECT_STAGED = ", ".join(
    [f"{_DEFAULTS.get(name, f'e.{name}')} AS {name}" for name in CONTENT if name != "extra"]
    + ["x AS extra", "s AS segment", "o AS line_offset", "n AS line_length"]
)
_ALL = columns(CONTENT, POSITION)
#: The condition for ids that were derived for events without a time of their own.
_IS_TIMELESS = (
    "event_id BETWEEN '00000000-0000-8000-0000-000000000000'::UUID AND '00000000-0000-8fff-ffff-ffffffffffff'::UUID"
)
_OF_CONTENT = [name for name in CONTENT if name not in ("event_id", "timestamp")]


def same_event(one: str, other: str) -> str:
    """Return the SQL condition that rows of two tables are of the same event; names or aliases of the tables."""
    return f"{one}.event_id = {other}.event_id AND {one}.workspace IS NOT DISTINCT FROM {other}.workspace"


class Slice(NamedTuple):
    """Lines of one segment, to be validated one by one."""

    segment: str
    event_type: str
    lines: list[Line]


class Rejected(NamedTuple):
    """A line, or a torn tail, that is not an event: where it stands, why, and its first bytes."""

    segment: str
    offset: int
    length: int
    reason: str
    raw: bytes


class Staged(NamedTuple):
    """Lines that were validated one by one: the good ones are in the temporary table `batch`."""

    #: Number of staged lines, by segment.
    events: dict[str, int]
    rejected: list[Rejected]
    event_types: frozenset[str]


class _StagedLine(NamedTuple):
    segment: str
    line: Line
    row: bytes


def stage(connection: duckdb.DuckDBPyConnection, slices: Iterable[Slice]) -> Staged:
    """Validate every line and put the good ones into the temporary table `batch`.

    Call it outside a transaction: a line that DuckDB refuses would abort it.
    """
    staged: list[_StagedLine] = []
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
        return Staged({}, rejected, frozenset(event_types))
    staged, refused = _fill_batch(connection, staged)
    events = Counter(line.segment for line in staged)
    return Staged(events, rejected + refused, frozenset(event_types))


def store(connection: duckdb.DuckDBPyConnection, blocks: BlockBuffer, staged: Staged, cache: IndexCache) -> None:
    """Store validated blocks and staged lines in the index; inside the caller's transaction.

    Raises Refused if DuckDB refuses a line of a validated block; roll the transaction back then.
    """
    has_batch = bool(staged.events)
    try:
        event_types = blocks.event_types | (staged.event_types if has_batch else set())
        marks = (cache.checkpoints.get(name) for name in blocks.events.keys() | staged.events.keys())
        event_types -= {mark.event_type for mark in marks if mark is not None and mark.events}
        sample = partial(_sample, blocks)
        new = cache.unread_sources(event_types)
        if new:
            projections.read_sources(connection, new)
        if event_types and typed.prepare(connection, event_types, sample):
            cache.forget_columns()
            typed.create_views(connection, cache.views)
        if blocks.events:
            if cache.lacks(connection, blocks.ids, blocks.lowest) or not _has_any_id(connection, blocks):
                stored = _insert(connection, blocks, cache)
                if stored != blocks.events.total():
                    raise Refused(f"{stored:,} of {blocks.events.total():,} lines came through")
                cache.add_ids(blocks.ids)
            else:
                statement = ADD_TO_BATCH if has_batch else CREATE_BATCH
                connection.execute(statement.format(rows=blocks.rows))
                has_batch = True
    except (duckdb.InvalidInputException, duckdb.ConversionException) as error:
        raise Refused(str(error).splitlines()[0]) from error
    if has_batch:
        cache.forget_ids()
        merge_batch(connection)
    insert_rejected(connection, staged.rejected)
    if SCHEMA_EVENT in staged.event_types | blocks.event_types:
        typed.create_views(connection, cache.views)


def _sample(blocks: BlockBuffer, event_type: str) -> typed.Sample:
    return blocks.sample(event_type) or contextlib.nullcontext("batch")


def _insert(connection: duckdb.DuckDBPyConnection, blocks: BlockBuffer, cache: IndexCache) -> int:
    """Insert validated blocks; return the number of rows.

    DuckDB's optimizer takes longer than the insertion of a few rows, and cannot improve it (docs/decisions/0021).
    """
    is_small = blocks.size_bytes < _SMALL_BYTES
    if is_small:
        connection.execute("PRAGMA disable_optimizer")
    stored = typed.insert(connection, blocks.rows, blocks.event_types, cache.promoted_columns(connection))
    if is_small:
        connection.execute("PRAGMA enable_optimizer")
    return stored


def roll_back(connection: duckdb.DuckDBPyConnection, cache: IndexCache) -> None:
    """Roll the transaction back after Refused."""
    connection.rollback()
    connection.execute("PRAGMA enable_optimizer")  # an aborted transaction does not accept it
    cache.forget_columns()
    cache.forget_views()


def _has_any_id(connection: duckdb.DuckDBPyConnection, blocks: BlockBuffer) -> bool:
    """Return whether the index has any of the ids in a buffer.

    Ids are ordered by time, so with their range DuckDB skips nearly all of the index by its zone maps.
    """
    low_high = [blocks.lowest, blocks.highest]
    if connection.execute(ANY_ID_IN_RANGE, low_high).fetchone() is None:
        return False
    with as_csv(blocks.ids, "event_id: 'UUID'") as ids:
        return connection.execute(ANY_ID_AMONG.format(ids=ids), low_high).fetchone() is not None


class Refused(Exception):
    """DuckDB's JSON reader refuses a line of a validated block: all lines of the part have to be validated alone."""


def insert_rejected(connection: duckdb.DuckDBPyConnection, rejected: list[Rejected]) -> None:
    """Put lines into quarantine."""
    if not rejected:
        return
    objects = [
        msgspec.json.encode(dict(zip(REJECTED, [*line[:4], base64.b64encode(line.raw).decode()], strict=True)))
        for line in rejected
    ]
    kinds = ", ".join(f"{name}: {literal('VARCHAR' if kind == 'BLOB' else kind)}" for name, kind in REJECTED.items())
    with as_table(objects, kinds) as table:
        connection.execute(INSERT_REJECTED.format(rows=table))


def delete_torn_tails(connection: duckdb.DuckDBPyConnection, offsets: Mapping[str, int]) -> None:
    """Take torn tails out of quarantine, by segment and offset: the rest of these lines has arrived."""
    for segment, offset in offsets.items():
        connection.execute(DELETE_REJECTED, [segment, offset])


def _reject(segment: str, line: Line, reason: str) -> Rejected:
    return Rejected(segment, line.offset, line.length, reason, line.data[:_RAW_MAX_BYTES])


def _stage(part: Slice, line: Line) -> _StagedLine:
    """Validate a line and put its position around it. Raises InvalidEvent with the reason."""
    if line.oversized:
        raise InvalidEvent(f"line of {line.length:,} bytes is over the limit of {envelope.MAX_LINE_BYTES:,}")
    event, extra = envelope.decode(line.data)
    if event.event_type != part.event_type:
        raise InvalidEvent(f"event_type {event.event_type!r} in the folder of {part.event_type!r}")
    position = b'{"s":"%b","o":%d,"n":%d' % (part.segment.encode(), line.offset, line.length)
    if extra is None:
        row = b'%b,"e":%b}' % (position, line.data.strip())
    else:
        row = b'%b,"x":%b,"e":%b}' % (position, msgspec.json.encode(extra), msgspec.json.encode(event))
    return _StagedLine(part.segment, line, row)


def _fill_batch(
    connection: duckdb.DuckDBPyConnection, staged: list[_StagedLine]
) -> tuple[list[_StagedLine], list[Rejected]]:
    """Create the temporary table `batch`; return the lines in it, and those that DuckDB's parser refused.

    The first attempt nearly always succeeds. If not, each line is searched for faults that only DuckDB minds, and
    then the lines are halved until the faulty ones stand alone (docs/decisions/0005).
    """
    rejected: list[Rejected] = []
    reason = _try_fill(connection, staged)
    if reason is None:
        return staged, rejected
    good = []
    for line in staged:
        fault = _fault_for_duckdb(line.line.data)
        if fault is None:
            good.append(line)
        else:
            rejected.append(_reject(line.segment, line.line, fault))
    if _try_fill(connection, good) is None:
        return good, rejected
    bad = {id(line) for line in _isolate(connection, good)}
    rejected += [_reject(line.segment, line.line, _REFUSED) for line in good if id(line) in bad]
    good = [line for line in good if id(line) not in bad]
    reason = _try_fill(connection, good)
    if reason is not None:  # each line passes alone but not together: not the lines' fault
        raise duckdb.Error(reason)
    return good, rejected


def _isolate(connection: duckdb.DuckDBPyConnection, staged: list[_StagedLine]) -> list[_StagedLine]:
    if _try_fill(connection, staged) is None:
        return []
    if len(staged) == 1:
        return staged
    middle = len(staged) // 2
    return _isolate(connection, staged[:middle]) + _isolate(connection, staged[middle:])


def _try_fill(connection: duckdb.DuckDBPyConnection, staged: list[_StagedLine]) -> str | None:
    """Fill `batch`; return None, or DuckDB's reason for a refusal."""
    with as_table([line.row for line in staged], _STAGED) as table:
        try:
            connection.execute(CREATE_BATCH_OF_STAGED.format(rows=table))
        except (duckdb.InvalidInputException, duckdb.ConversionException) as error:
            return str(error).splitlines()[0]
    return None


def _fault_for_duckdb(line: bytes) -> str | None:
    """Return the reason if a line repeats an envelope field or names a day that does not exist.

    `envelope.decode` accepts both. DuckDB refuses such a line, alone or among others, so the fate of a line never
    depends on its neighbours in a batch.
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
    """Move the rows of `batch` into `event_rows` and `conflicts`, by the rule at the top of this module."""
    is_any_indexed = _drop_redelivered(connection)
    event_types = _types_of(connection, "batch")
    if not event_types:  # all were there; the statement for no rows takes as long to plan as for many
        return
    connection.execute(CREATE_CONTENDED_INDEXED if is_any_indexed else CREATE_CONTENDED)
    row = connection.execute(COUNT_CONTENDED).fetchone()
    if not row or not row[0]:
        typed.insert(connection, "batch", event_types)
        return
    typed.insert(connection, f"batch ANTI JOIN contended ON {same_event('batch', 'contended')}", event_types)
    _merge_contended(connection)


def _types_of(connection: duckdb.DuckDBPyConnection, table: str) -> set[str]:
    return {row[0] for row in connection.execute(SELECT_TYPES.format(table=table)).fetchall()}


def _drop_redelivered(connection: duckdb.DuckDBPyConnection) -> bool:
    """Drop plain redeliveries from `batch`: same event, same content, a later position.

    Returns whether the index has any id of the batch, and then leaves the rows with these ids, of whatever workspace,
    in the temporary table `indexed`. Ids are ordered by time, so with the range of the batch DuckDB skips nearly all
    of the index by its zone maps.
    """
    low_high = connection.execute(ID_RANGE_OF_BATCH).fetchone()
    connection.execute(CREATE_INDEXED, low_high)
    row = connection.execute(COUNT_INDEXED).fetchone()
    if not row or not row[0]:
        return False
    connection.execute(DELETE_REDELIVERED)
    return True


def _merge_contended(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(CREATE_VERSIONS)
    connection.execute(DELETE_CONTENDED_ROWS)
    connection.execute(DELETE_CONTENDED_CONFLICTS)
    event_types = _types_of(connection, "versions")
    typed.insert(connection, f"(SELECT {_ALL} FROM versions WHERE position = 1)", event_types)
    connection.execute(INSERT_CONFLICTS)
    copies.mark_all(connection, event_types)


# -- statements ------------------------------------------------------------------------------

# `{rows}` and `{ids}` are FROM clauses, `{table}` is one of these temporary tables: `batch`, rows to be stored;
# `indexed`, rows of the index with ids of the batch; `contended`, events with several lines; `versions`, their distinct
# contents in order of position.

CREATE_BATCH_OF_STAGED = f"CREATE OR REPLACE TEMP TABLE batch AS SELECT {_SELECT_STAGED} FROM {{rows}}"
CREATE_BATCH = f"CREATE OR REPLACE TEMP TABLE batch AS SELECT {_ALL} FROM {{rows}}"
ADD_TO_BATCH = f"INSERT INTO batch SELECT {_ALL} FROM {{rows}}"
ANY_ID_IN_RANGE = "SELECT 1 FROM event_rows WHERE event_id BETWEEN ?::UUID AND ?::UUID LIMIT 1"
ANY_ID_AMONG = (
    "SELECT 1 FROM event_rows WHERE event_id BETWEEN ?::UUID AND ?::UUID "
    "AND event_id IN (SELECT event_id FROM {ids}) LIMIT 1"
)
INSERT_REJECTED = "INSERT INTO rejected SELECT segment, line_offset, length, reason, from_base64(raw) FROM {rows}"
DELETE_REJECTED = "DELETE FROM rejected WHERE segment = ? AND line_offset = ?"

ID_RANGE_OF_BATCH = "SELECT min(event_id)::VARCHAR, max(event_id)::VARCHAR FROM batch"
CREATE_INDEXED = f"""
CREATE OR REPLACE TEMP TABLE indexed AS SELECT {_ALL} FROM event_rows
WHERE event_id BETWEEN ?::UUID AND ?::UUID AND event_id IN (SELECT event_id FROM batch)
"""
COUNT_INDEXED = "SELECT count(*) FROM indexed"
DELETE_REDELIVERED = f"""
DELETE FROM batch USING indexed
WHERE indexed.event_id = batch.event_id
  AND {" AND ".join(f"indexed.{name} IS NOT DISTINCT FROM batch.{name}" for name in _OF_CONTENT)}
  AND (indexed.timestamp = batch.timestamp OR batch.{_IS_TIMELESS})
  AND (indexed.segment, indexed.line_offset) <= (batch.segment, batch.line_offset)
"""
CREATE_CONTENDED = """
CREATE OR REPLACE TEMP TABLE contended AS
SELECT workspace, event_id FROM batch GROUP BY workspace, event_id HAVING count(*) > 1
"""
CREATE_CONTENDED_INDEXED = f"""{CREATE_CONTENDED}
UNION SELECT workspace, event_id FROM batch SEMI JOIN indexed ON {same_event("batch", "indexed")}
"""
COUNT_CONTENDED = "SELECT count(*) FROM contended"
_CONTENDED_LINES = " UNION ALL ".join(
    f"SELECT {_ALL} FROM {table} SEMI JOIN contended ON {same_event(table, 'contended')}"
    for table in ("batch", "event_rows", "conflicts")
)
CREATE_VERSIONS = f"""
CREATE OR REPLACE TEMP TABLE versions AS
WITH contents AS (
    SELECT event_id, CASE WHEN NOT {_IS_TIMELESS} THEN timestamp END AS its_time, {", ".join(_OF_CONTENT)},
           min((segment, line_offset, line_length)) AS first,
           arg_min(timestamp, (segment, line_offset, line_length)) AS timestamp
    FROM ({_CONTENDED_LINES}) GROUP BY event_id, its_time, {", ".join(_OF_CONTENT)}
)
SELECT event_id, timestamp, {", ".join(_OF_CONTENT)},
       first[1] AS segment, first[2] AS line_offset, first[3] AS line_length,
       row_number() OVER (PARTITION BY workspace, event_id ORDER BY first) AS position
FROM contents
"""
DELETE_CONTENDED_ROWS = f"DELETE FROM event_rows USING contended WHERE {same_event('event_rows', 'contended')}"
DELETE_CONTENDED_CONFLICTS = f"DELETE FROM conflicts USING contended WHERE {same_event('conflicts', 'contended')}"
SELECT_TYPES = "SELECT DISTINCT event_type FROM {table}"
INSERT_CONFLICTS = f"INSERT INTO conflicts SELECT {_ALL} FROM versions WHERE position > 1"
