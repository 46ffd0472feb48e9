"""What a recorder counts, and the thread beside it that counts as well."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of one recorder since it was created.

    `lost` counts events that could not be written or, with `durability="synced"`, not synced. `suspended`: writes
    keep failing, and the log is only probed now and then. `background_errors` counts errors that background
    threads (sync, heartbeats, indexer, sender) have survived. In mode `remote`, `sent` events are in the server's log,
    and `refused_by_server` never will be. `last_error` is the last message that was logged.
    """

    emitted: int
    emitted_bytes: int
    refused: int
    lost: int
    suspended: bool
    sink_errors: int
    segments_opened: int
    failed_syncs: int
    background_errors: int
    sent: int
    refused_by_server: int
    last_error: str | None


class Background(Protocol):
    """The indexer thread of the modes `dual` and `db_only`, or the sender of `remote`, as seen from the write side."""

    errors: int

    def stop(self, timeout_s: float) -> None:
        """Index, or send, all complete lines, then stop; wait at most `timeout_s`."""


class Sending(Background, Protocol):
    """The sender of mode `remote`: events that the server has taken, and those that it never will."""

    sent: int
    refused: int
