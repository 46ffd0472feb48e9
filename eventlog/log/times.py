"""Which times the lines of a segment have, without decoding them: so that readers can skip what is too old.

A segment's file says nothing about them: events are stamped by their producers' clocks, and the time of a file changes
when it is copied. The lines say it, and so does a seal that was made from them (`latest_timestamp`).

The timestamp of a valid event stands in its line as it is defined (eventlog.format.timestamps), unless letters or
digits are written as escapes, as no encoder does. So the greatest timestamp that stands in a block is at least that of
its events. It may be greater: a payload may hold one, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from eventlog.log import reader
from eventlog.log.layout import SegmentFile
from eventlog.log.sealed_or_pruned import SEAL_EVENT

_TIMESTAMP = re.compile(rb'"timestamp"\s*:\s*"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)"')
#: An escaped letter, digit or sign: the name or the value may be hidden behind some.
_ESCAPED = re.compile(rb"\\u00[2-7]")


def may_reach(lines: bytes, start: str) -> bool:
    """Say whether an event in these lines may have this timestamp or a later one."""
    found: list[bytes] = _TIMESTAMP.findall(lines)
    return (bool(found) and max(found) >= start.encode()) or _ESCAPED.search(lines) is not None


def latest(segment: SegmentFile) -> str | None:
    """Return a timestamp that no event of a segment is later than; None where that is not known.

    Raises SegmentUnreadable.
    """
    greatest = b""
    for block in reader.read_blocks(segment.path, end=segment.size):
        if _ESCAPED.search(block.data) is not None:
            return None
        greatest = max(greatest, *_TIMESTAMP.findall(block.data), b"")
    return greatest.decode() or None


class _Sealed(msgspec.Struct, frozen=True):
    """What is read of a seal."""

    segment: str
    segment_type: str
    size_bytes: int
    latest_timestamp: str | None = None


def latest_sealed(root: str, segments: Iterable[SegmentFile]) -> dict[str, str]:
    """Return what seals say of the latest timestamps of segments, by name. Others are left out.

    A seal counts only for a segment that cannot have changed since by the means of eventlog: it is read-only, or
    archived, and has the size that was sealed.
    """
    sealed = {(each.event_type, each.name, each.size) for each in segments if each.sealed}
    found: dict[str, list[str | None]] = {}
    for _, event in reader.read_events(root, SEAL_EVENT, damaged={}) if sealed else ():
        try:
            seal = msgspec.json.decode(event.payload, type=_Sealed)
        except msgspec.MsgspecError:
            continue
        if (seal.segment_type, seal.segment, seal.size_bytes) in sealed:
            found.setdefault(seal.segment, []).append(seal.latest_timestamp)
    return {name: max(said) for name, seals in found.items() if len(said := [*filter(None, seals)]) == len(seals)}
