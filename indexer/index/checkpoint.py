"""How far each segment has been indexed, and proof that it is still the same segment.

A checkpoint is a row of `segments`, written in the transaction that writes the rows it
accounts for. Besides the offset it holds a hash of the bytes just before it: a file that
was cut, rewritten or replaced no longer matches, and its offset means nothing then.

A torn tail (bytes behind the last newline that nobody is writing) is indexed as well, into
quarantine, but it is not settled: its last byte may follow later, from a copy in progress or a
receiver. The hash is therefore of the bytes before the torn tail.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import duckdb
import msgspec

from eventlog.indexer.index.schema import SEGMENTS
from eventlog.log import reader
from eventlog.log.zst import open_segment

TAIL_BYTES = 4096


class Checkpoint(msgspec.Struct):
    """A row of `segments`. `released` means that the index may be the only home of its rows.

    The last `torn_bytes` of the indexed bytes are a torn tail.
    """

    name: str
    event_type: str
    size_bytes: int = 0
    indexed_offset: int = 0
    lines: int = 0
    events: int = 0
    rejected: int = 0
    sealed: bool = False
    released: bool = False
    tail_hash: str = ""
    torn_bytes: int = 0

    @property
    def settled_offset(self) -> int:
        """Where the last indexed line ends: what stands behind it, a torn tail, may still change."""
        return self.indexed_offset - self.torn_bytes


def read(connection: duckdb.DuckDBPyConnection, names: Iterable[str] | None = None) -> dict[str, Checkpoint]:
    """Return checkpoints by segment name: of the given segments, or all."""
    query = f"SELECT {', '.join(SEGMENTS)} FROM segments"
    if names is None:
        rows = connection.execute(query).fetchall()
    else:
        rows = connection.execute(f"{query} WHERE name IN (SELECT unnest(?))", [list(names)]).fetchall()
    return {row[0]: Checkpoint(*row) for row in rows}


class Moved(Exception):
    """The index has other checkpoints than were known: it is another file by now."""


def write(
    connection: duckdb.DuckDBPyConnection,
    checkpoints: Iterable[Checkpoint],
    *,
    expected: Mapping[str, int] | None = None,
) -> None:
    """Store checkpoints, replacing earlier ones of the same segments.

    Raises Moved where those do not have the offsets that are `expected`, by name; the transaction is of no use then.
    """
    rows = list(checkpoints)
    if not rows:
        return
    found = connection.execute(
        "DELETE FROM segments WHERE name IN (SELECT unnest(?)) RETURNING name, indexed_offset",
        [[each.name for each in rows]],
    ).fetchall()
    if expected is not None and {name: offset for name, offset in found if offset} != expected:
        raise Moved
    columns = ", ".join(f"unnest(?::{kind}[])" for kind in SEGMENTS.values())
    connection.execute(
        f"INSERT INTO segments SELECT {columns}", [[getattr(each, name) for each in rows] for name in SEGMENTS]
    )


def difference(mark: Checkpoint, path: Path, size: int) -> str | None:
    """Return why a file is not the one that was indexed; None where it is, is gone, or has only grown.

    Raises SegmentUnreadable.
    """
    if size < mark.settled_offset:
        return "it is shorter than what was indexed"
    if not mark.tail_hash or not mark.settled_offset:
        return None
    if tail_hash(path, mark.settled_offset) not in (mark.tail_hash, ""):
        return "the bytes before the indexed offset are not the same"
    return None


def tail_hash(path: Path, offset: int) -> str:
    """Hash the bytes just before an offset; "" for a file that is gone. Raises SegmentUnreadable."""
    tail = read_tail(path, offset)
    return "" if tail is None else hash_of(tail)


def read_tail(path: Path, offset: int) -> bytes | None:
    """Return the bytes just before an offset; None for a file that is gone. Raises SegmentUnreadable."""
    start = max(offset - TAIL_BYTES, 0)
    try:
        with open_segment(path) as file:
            return file.pread(offset - start, start)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise reader.unreadable(path, error) from error


def hash_of(tail: bytes) -> str:
    """Hash the bytes just before an offset."""
    return hashlib.blake2b(tail, digest_size=16).hexdigest()
