"""A content hash of the index that does not depend on the order of rows.

DuckDB's `hash` turns each row into 64 bits, and the hashes are added up. A sum, unlike an exclusive or, also detects
rows that are there twice. Every column of every row counts, the payload included. The hash detects accidents, not
adversaries; seals are for those.

DuckDB may change its hash with a version, so compare only hashes that one version computed (docs/decisions/0013).
"""

from __future__ import annotations

import duckdb
import msgspec

from eventlog.indexer.index.schema import CONTENT, COPIED, POSITION, columns

_MODULUS = 1 << 64


class Digest(msgspec.Struct, frozen=True, kw_only=True):
    """Hashes of all that an index contains. Two indexes with equal digests give the same answers.

    `events` counts copies, too. `content` is over the events alone, so two logs of the same events can be compared by
    it; `places` and `quarantine` also cover the positions of the lines. Each is 16 hexadecimal digits.
    """

    events: int
    content: str
    places: str
    quarantined: int
    quarantine: str


def digest(connection: duckdb.DuckDBPyConnection) -> Digest:
    """Return the digest of an open index; reads every row."""
    events, content = _sum(connection, "event_rows", columns(CONTENT))
    _, places = _sum(connection, "event_rows", f"event_id, {columns(POSITION, COPIED)}")
    quarantined, quarantine = _sum(connection, "quarantine", "segment, line_offset, length, reason, md5(raw)")
    return Digest(events=events, content=content, places=places, quarantined=quarantined, quarantine=quarantine)


def _sum(connection: duckdb.DuckDBPyConnection, table: str, names: str) -> tuple[int, str]:
    row = connection.execute(SUM_OF_HASHES.format(columns=names, table=table)).fetchone()
    count, total = row or (0, 0)
    return count, f"{(total or 0) % _MODULUS:016x}"


SUM_OF_HASHES = "SELECT count(*), sum(hash({columns})) FROM {table}"
