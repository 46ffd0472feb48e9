"""Whole payloads of selected events, up to a total size."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb

from eventlog.format import payloads
from eventlog.log import blobs
from eventlog.queries.identity import chosen

MAX_BYTES = 64 * 1024 * 1024
_PAYLOADS = f"""
    WITH named AS (
        SELECT event_id, segment, line_offset, line_length, timestamp,
               list(workspace) OVER (PARTITION BY event_id) AS workspaces
        FROM events WHERE event_id IN (SELECT TRY_CAST(unnest($ids::VARCHAR[]) AS UUID))
        QUALIFY row_number() OVER (
            PARTITION BY event_id ORDER BY (workspace IS NOT DISTINCT FROM $workspace::VARCHAR) DESC,
                                           workspace NULLS FIRST) = 1
    ), wanted AS (
        SELECT event_id, segment, line_offset, workspaces,
               sum(line_length) OVER (ORDER BY timestamp, event_id ROWS UNBOUNDED PRECEDING) AS bytes
        FROM named
    )
    SELECT event_id::VARCHAR, workspace, payload, workspaces
    FROM events JOIN (FROM wanted WHERE bytes <= {MAX_BYTES}) USING (event_id, segment, line_offset)
    ORDER BY timestamp, event_id
"""


def read_payloads(
    connection: duckdb.DuckDBPyConnection, root: Path, event_ids: Iterable[str], workspace: str | None = None
) -> dict[str, dict[str, Any]]:
    """Return payloads as they were emitted, by event id, in order of time: `{"01a1…": {"tool_name": "search"}}`.

    Payloads beyond MAX_BYTES in total are left out. Where several workspaces have an event of one id, that of
    `workspace` is meant, else the one without a workspace; QueryFailed is raised where they all have another one. A
    large field that cannot be read stays a reference, with the reason (see eventlog.log.blobs).
    """
    resolver = blobs.Resolver(root)
    payload_by_id: dict[str, dict[str, Any]] = {}
    left_bytes = MAX_BYTES
    params = {"ids": list(event_ids), "workspace": workspace}
    for event_id, event_workspace, stored, workspaces in connection.execute(_PAYLOADS, params).fetchall():
        if workspace not in workspaces:
            chosen(f"an event {event_id}", workspaces)
        payload = resolver.resolve(stored.encode(), event_workspace, marked=True)
        left_bytes -= len(payload)
        if left_bytes < 0:
            break
        payload_by_id[event_id] = payloads.fields(payload)
    return payload_by_id
