"""Payloads of some events, whole, within a limit."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb

from eventlog import blobs, payloads

MAX_BYTES = 64 * 1024 * 1024
_PAYLOADS = f"""
    WITH wanted AS (
        SELECT event_id, sum(line_length) OVER (ORDER BY timestamp, event_id ROWS UNBOUNDED PRECEDING) AS bytes
        FROM events WHERE event_id IN (SELECT TRY_CAST(unnest(?::VARCHAR[]) AS UUID))
    )
    SELECT event_id::VARCHAR, payload FROM events
    WHERE event_id IN (SELECT event_id FROM wanted WHERE bytes <= {MAX_BYTES}) ORDER BY timestamp, event_id
"""


def of(connection: duckdb.DuckDBPyConnection, root: Path, event_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return payloads by event id, in order of time, as they were emitted; those beyond MAX_BYTES are left out.

    A large field that cannot be read stays a reference, with the reason (see eventlog.blobs).
    """
    resolver = blobs.Resolver(root)
    found: dict[str, dict[str, Any]] = {}
    left = MAX_BYTES
    for event_id, stored in connection.execute(_PAYLOADS, [list(event_ids)]).fetchall():
        payload = resolver.resolve(stored.encode(), marked=True)
        left -= len(payload)
        if left < 0:
            break
        found[event_id] = payloads.fields(payload)
    return found
