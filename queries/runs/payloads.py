"""Payloads of some events, whole, within a limit."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb

from eventlog.format import payloads
from eventlog.log import blobs

MAX_BYTES = 64 * 1024 * 1024
_PAYLOADS = f"""
    WITH named AS (
        SELECT event_id, segment, line_offset, line_length, timestamp FROM events
        WHERE event_id IN (SELECT TRY_CAST(unnest($ids::VARCHAR[]) AS UUID))
        QUALIFY row_number() OVER (
            PARTITION BY event_id ORDER BY (workspace IS NOT DISTINCT FROM $workspace::VARCHAR) DESC,
                                           workspace NULLS FIRST) = 1
    ), wanted AS (
        SELECT event_id, segment, line_offset,
               sum(line_length) OVER (ORDER BY timestamp, event_id ROWS UNBOUNDED PRECEDING) AS bytes
        FROM named
    )
    SELECT event_id::VARCHAR, workspace, payload
    FROM events SEMI JOIN (FROM wanted WHERE bytes <= {MAX_BYTES}) USING (event_id, segment, line_offset)
    ORDER BY timestamp, event_id
"""


def of(
    connection: duckdb.DuckDBPyConnection, root: Path, event_ids: Iterable[str], workspace: str | None = None
) -> dict[str, dict[str, Any]]:
    """Return payloads by event id, in order of time, as they were emitted; those beyond MAX_BYTES are left out.

    Where several workspaces have an event of one id, that of `workspace` is meant, else the one without a workspace.
    A large field that cannot be read stays a reference, with the reason (see eventlog.log.blobs).
    """
    resolver = blobs.Resolver(root)
    found: dict[str, dict[str, Any]] = {}
    left = MAX_BYTES
    asked = {"ids": list(event_ids), "workspace": workspace}
    for event_id, its_workspace, stored in connection.execute(_PAYLOADS, asked).fetchall():
        payload = resolver.resolve(stored.encode(), its_workspace, marked=True)
        left -= len(payload)
        if left < 0:
            break
        found[event_id] = payloads.fields(payload)
    return found
