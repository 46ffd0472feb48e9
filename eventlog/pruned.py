"""Segments that retention has deleted, as the log itself tells of them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from eventlog import reader

PRUNED_EVENT = "segment_pruned"


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of `segment_pruned`: what was deleted, and where its content still is.

    `seal` is the number of its seal, and `origin` that of the chain; `indexed` says that its rows were
    in the index of that time, and `backups` names the destinations that hold a verified copy.
    """

    segment: str
    segment_type: str
    size_bytes: int
    lines: int
    sha256: str
    seal: int
    indexed: bool
    backups: list[str]
    origin: str | None = None


def read_pruned(root: str | Path, *, damaged: dict[str, str] | None = None) -> dict[str, list[Pruned]]:
    """Return all accounts of prunings, by the name of the segment. `damaged` is that of reader.read_log."""
    found: dict[str, list[Pruned]] = {}
    for _, event in reader.read_events(root, PRUNED_EVENT, damaged=damaged):
        try:
            pruned = msgspec.json.decode(event.payload, type=Pruned)
        except msgspec.ValidationError:
            continue
        found.setdefault(pruned.segment, []).append(pruned)
    return found
