"""A content hash of the index that does not depend on the order of rows.

Each row is hashed to 64 bits by DuckDB's own `hash` (for accidents, not for adversaries; seals are
for those), and the hashes are added up. A sum, unlike an exclusive or, also tells rows that stand
there twice. Everything in a row counts, the payload too, and every row is read to compute it.

DuckDB may change its hash from one version to another: compare what one version computed.
"""

from __future__ import annotations

import duckdb
import msgspec

from eventlog.indexer.index.schema import CONTENT, POSITION, columns

_MODULUS = 1 << 64


class Digest(msgspec.Struct, frozen=True, kw_only=True):
    """What an index contains. Two indexes with equal digests answer alike.

    `content` is over what the events say and is comparable between different logs of the
    same events; `places` and `quarantine` also cover where the lines stand.
    """

    events: int
    content: str
    places: str
    quarantined: int
    quarantine: str


def digest(connection: duckdb.DuckDBPyConnection) -> Digest:
    """Compute the digest of an open index."""
    events, content = _sum(connection, "events", columns(CONTENT))
    _, places = _sum(connection, "events", f"event_id, {columns(POSITION)}")
    quarantined, quarantine = _sum(connection, "quarantine", "segment, line_offset, length, reason, md5(raw)")
    return Digest(events=events, content=content, places=places, quarantined=quarantined, quarantine=quarantine)


def _sum(connection: duckdb.DuckDBPyConnection, table: str, names: str) -> tuple[int, str]:
    row = connection.execute(f"SELECT count(*), sum(hash({names})) FROM {table}").fetchone()
    count, total = row or (0, 0)
    return count, f"{(total or 0) % _MODULUS:016x}"
