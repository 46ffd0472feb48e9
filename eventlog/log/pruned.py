"""Segments that retention has deleted, as the log itself tells of them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from eventlog.log import reader
from eventlog.log.chains import Link

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


class Account(NamedTuple):
    """What the log says of a pruning, and the segment in which it says so."""

    pruned: Pruned
    recorded_in: str


def read_pruned(root: str | Path, *, damaged: dict[str, str] | None = None) -> dict[str, list[Account]]:
    """Return all accounts of prunings, by the name of the segment. `damaged` is that of reader.read_log."""
    found: dict[str, list[Account]] = {}
    for located, event in reader.read_events(root, PRUNED_EVENT, damaged=damaged):
        try:
            pruned = msgspec.json.decode(event.payload, type=Pruned)
        except msgspec.ValidationError:
            continue
        found.setdefault(pruned.segment, []).append(Account(pruned, located.segment))
    return found


def is_account_of(link: Link, pruned: dict[str, list[Account]]) -> bool:
    """Say whether the log has an account of the pruning of what a seal names."""
    return bool(accounts_of(link, pruned))


def accounts_of(link: Link, pruned: dict[str, list[Account]]) -> list[Account]:
    """Return the accounts of the pruning of what a seal names: those that agree with it in all."""
    seal = link.seal
    sealed = (seal.segment_type, seal.size_bytes, seal.lines, seal.sha256)
    return [
        each
        for each in pruned.get(seal.segment, ())
        if (each.pruned.segment_type, each.pruned.size_bytes, each.pruned.lines, each.pruned.sha256) == sealed
    ]
