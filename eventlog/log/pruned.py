"""`segment_pruned` events: which segments retention has deleted."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from eventlog.log import reader
from eventlog.log.chains import Link

PRUNED_EVENT = "segment_pruned"


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of `segment_pruned`: the deleted segment, and where its content still is.

    `seal` is the number of its seal, `origin` the origin of that chain. `indexed`: its rows were in the index
    when it was deleted. `backups`: the names of destinations with a verified copy.
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
    """A record of a pruning, and the segment that it is written in."""

    pruned: Pruned
    recorded_in: str


def read_pruned(root: str | Path, *, damaged: dict[str, str] | None = None) -> dict[str, list[Account]]:
    """Return all accounts of prunings, by the name of the pruned segment. `damaged` is that of reader.read_log.

    Raises SegmentUnreadable.
    """
    accounts: dict[str, list[Account]] = {}
    for located, event in reader.read_events(root, PRUNED_EVENT, damaged=damaged):
        try:
            pruned = msgspec.json.decode(event.payload, type=Pruned)
        except msgspec.ValidationError:
            continue
        accounts.setdefault(pruned.segment, []).append(Account(pruned, located.segment))
    return accounts


def is_account_of(link: Link, accounts: dict[str, list[Account]]) -> bool:
    """Say whether the log has an account of the pruning of a sealed segment."""
    return bool(accounts_of(link, accounts))


def accounts_of(link: Link, accounts: dict[str, list[Account]]) -> list[Account]:
    """Return the accounts of the pruning of a sealed segment that agree with its seal in type, size, lines and hash."""
    seal = link.seal
    sealed = (seal.segment_type, seal.size_bytes, seal.lines, seal.sha256)
    return [
        account
        for account in accounts.get(seal.segment, ())
        for pruned in [account.pruned]
        if (pruned.segment_type, pruned.size_bytes, pruned.lines, pruned.sha256) == sealed
    ]
