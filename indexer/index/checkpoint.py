"""Checkpoints: how far each segment is indexed, and a hash that tells whether it is still the same file.

A checkpoint is a row of `segments`, written in the transaction that writes the rows it accounts for. Besides the
offset it has a hash of the bytes just before it. The hash of a file that was cut, rewritten or replaced differs, and
the offset means nothing then.

A torn tail (bytes after the last newline that nobody is writing) is indexed as well, into quarantine. But its rest may
still arrive, from a copy in progress or a receiver, so the hash is of the bytes before the torn tail.
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
    """A row of `segments`; docs/schema.md describes the columns.

    `released` means that perhaps only the index still has the segment's rows. The last `torn_bytes` of the indexed
    bytes are a torn tail.
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
    def complete_offset(self) -> int:
        """Where the last complete line ends. A torn tail, which may still change, starts here."""
        return self.indexed_offset - self.torn_bytes


def read(connection: duckdb.DuckDBPyConnection, names: Iterable[str] | None = None) -> dict[str, Checkpoint]:
    """Return checkpoints by segment name: of the segments `names`, or of all."""
    if names is None:
        rows = connection.execute(SELECT_ALL).fetchall()
    else:
        rows = connection.execute(SELECT_NAMED, [list(names)]).fetchall()
    marks = (Checkpoint(**dict(zip(SEGMENTS, row, strict=True))) for row in rows)
    return {mark.name: mark for mark in marks}


class Moved(Exception):
    """The index has other checkpoints than the cache: it is another file by now."""


def write(
    connection: duckdb.DuckDBPyConnection,
    checkpoints: Iterable[Checkpoint],
    *,
    expected: Mapping[str, int] | None = None,
) -> None:
    """Store checkpoints, replacing earlier ones of the same segments; inside the caller's transaction.

    `expected` maps segment names to the offsets that the index should have now. Raises Moved if it has others; roll
    the transaction back then.
    """
    rows = list(checkpoints)
    if not rows:
        return
    deleted = connection.execute(DELETE_NAMED, [[mark.name for mark in rows]]).fetchall()
    if expected is not None and {name: offset for name, offset in deleted if offset} != expected:
        raise Moved
    connection.execute(INSERT, [[getattr(mark, name) for mark in rows] for name in SEGMENTS])


SELECT_ALL = f"SELECT {', '.join(SEGMENTS)} FROM segments"
SELECT_NAMED = f"{SELECT_ALL} WHERE name IN (SELECT unnest(?))"
DELETE_NAMED = "DELETE FROM segments WHERE name IN (SELECT unnest(?)) RETURNING name, indexed_offset"
INSERT = f"INSERT INTO segments SELECT {', '.join(f'unnest(?::{kind}[])' for kind in SEGMENTS.values())}"

#: Why a file is not the one that was indexed. Part of `index_alarm` events and of their ids: do not change them.
SHORTER = "it is shorter than what was indexed"
OTHER_BYTES = "the bytes before the indexed offset are not the same"


def difference(mark: Checkpoint, path: Path, size: int) -> str | None:
    """Return SHORTER or OTHER_BYTES if a file is not the one that was indexed; None if it is, has grown, or is gone.

    `size` is the file's size in bytes. Raises SegmentUnreadable.
    """
    if size < mark.complete_offset:
        return SHORTER
    if not mark.tail_hash or not mark.complete_offset:
        return None
    if tail_hash(path, mark.complete_offset) not in (mark.tail_hash, ""):
        return OTHER_BYTES
    return None


def tail_hash(path: Path, offset: int) -> str:
    """Hash the bytes before an offset, 4 KiB at most; "" for a file that is gone. Raises SegmentUnreadable."""
    tail = read_tail(path, offset)
    return "" if tail is None else hash_of(tail)


def read_tail(path: Path, offset: int) -> bytes | None:
    """Return up to 4 KiB before an offset; None for a file that is gone. Raises SegmentUnreadable."""
    start = max(offset - TAIL_BYTES, 0)
    try:
        with open_segment(path) as file:
            return file.pread(offset - start, start)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise reader.unreadable(path, error) from error


def hash_of(tail: bytes) -> str:
    """Return the hash of a tail, 32 hexadecimal digits."""
    return hashlib.blake2b(tail, digest_size=16).hexdigest()
