"""Checks an event of the index against its line in the log, and the line's segment against its seal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from eventlog.errors import InvalidEvent, MissingExtra, SegmentUnreadable
from eventlog.format import envelope, payloads, timestamps
from eventlog.log import blobs, fingerprint, layout
from eventlog.maintenance import sealing
from eventlog.queries.events.lookup import Event, FoundEvent

_FIELDS = [name for name in envelope.FIELDS if name not in ("payload", "timestamp", "event_id")]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """How far an event of the index is backed by the log.

    `same`: the line is still at its offset and has the same content; `why` says what was compared, or what differs.
    `seal`: the number of the seal of the segment, None if it is not sealed. `as_sealed`: whether the segment still has
    the sealed bytes, None if that is not known; `seal_why` says why.
    """

    same: bool
    why: str
    seal: int | None = None
    as_sealed: bool | None = None
    seal_why: str


class ExaminedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event with its line, and how far the log backs it: `eventlog show EVENT --json`."""

    event: Event
    path: str
    line: str | None
    evidence: Evidence


def examined(root: Path, located: FoundEvent) -> ExaminedEvent:
    """Return an event that was found, examined."""
    line = None if located.line is None else located.line.decode(errors="replace")
    return ExaminedEvent(event=located.event, path=located.path, line=line, evidence=examine(root, located))


def examine(root: Path, located: FoundEvent) -> Evidence:
    """Compare an event with its line, and the line's segment with its seal. Never raises for a damaged log."""
    differing = list(_differences(located))
    seal, as_sealed, seal_why = _sealed(root, located.event)
    return Evidence(
        same=not differing,
        why="; ".join(differing) or "the line at this place has this id and the same content",
        seal=seal,
        as_sealed=as_sealed,
        seal_why=seal_why,
    )


def _differences(located: FoundEvent) -> Iterator[str]:
    event, line = located.event, located.line
    if line is None:
        yield "there is no line at this place any more: the segment was released, pruned or deleted"
        return
    if len(line) + 1 != event.line_length:
        yield f"the line has {len(line) + 1:,} bytes, and had {event.line_length:,} when it was indexed"
    try:
        decoded = envelope.decode(line)
    except InvalidEvent as error:
        yield f"the line is no event any more: {error}"
        return
    logged = decoded.envelope
    if logged.event_id.lower() != event.event_id.lower():
        yield f"the line is another event, {logged.event_id}"
        return
    if timestamps.parse(logged.timestamp) != event.timestamp:
        yield f"timestamp: the line says {logged.timestamp}"
    for name in _FIELDS:
        if getattr(logged, name) != getattr(event, name):
            yield f"{name}: the line says {getattr(logged, name)!r}, the row {getattr(event, name)!r}"
    stored = event.payload if event.stored_payload is None else event.stored_payload
    if payloads.decode(logged.payload) != payloads.decode(stored):
        yield "the payload differs"
    for name, value in event.data().items():
        reason = blobs.error_of(value)
        if reason is not None:
            yield f"{name} is stored in blobs, and cannot be read: {reason}"
    extra = None if decoded.extra is None else {name: payloads.decode(raw) for name, raw in decoded.extra.items()}
    if extra != (None if event.extra is None else payloads.decode(event.extra)):
        yield "the unknown fields differ"


def _sealed(root: Path, event: Event) -> tuple[int | None, bool | None, str]:
    try:
        links = [link for link in sealing.read_chain(root, damaged={}) if link.seal.segment == event.segment]
        if not links:
            return None, None, "the segment is not sealed yet"
        seal = links[0].seal
        path = layout.segment_path(root, event.event_type, event.segment)
        for candidate in {(link.seal.size_bytes, link.seal.sha256): link.seal for link in reversed(links)}.values():
            if fingerprint.is_same(path, candidate):
                return candidate.number, True, f"the segment is as in seal {candidate.number}"
        return seal.number, False, f"the segment is not as in seal {seal.number}; eventlog verify says where it differs"
    except FileNotFoundError:
        return seal.number, None, f"the segment of seal {seal.number} is gone"
    except (OSError, MissingExtra, SegmentUnreadable) as error:
        return None, None, f"the segment cannot be compared with its seal: {error}"
