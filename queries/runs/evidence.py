"""Whether a row is what its line in the log says, and whether that line is as it was sealed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from eventlog.errors import InvalidEvent, MissingExtra, SegmentUnreadable
from eventlog.format import envelope, payloads, timestamps
from eventlog.log import blobs, fingerprint, layout
from eventlog.maintenance import sealing

if TYPE_CHECKING:
    from eventlog.queries.store import Event, FoundEvent

_FIELDS = [name for name in envelope.FIELDS if name not in ("payload", "timestamp", "event_id")]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What speaks for a row. `seal` is the number of the seal of its segment, None where it has none.

    `same` says that the line at this place is there and says the same as the row, and `why` what it was
    compared with, or what differs. `as_sealed` is None where nothing was sealed, or it cannot be told.
    """

    same: bool
    why: str
    seal: int | None = None
    as_sealed: bool | None = None
    seal_why: str


def examine(root: Path, found: FoundEvent) -> Evidence:
    """Compare a row with its line, and the line's segment with its seal."""
    differing = list(_differences(found))
    seal, as_sealed, seal_why = _sealed(root, found.event)
    return Evidence(
        same=not differing,
        why="; ".join(differing) or "the line at this place has this id and the same content",
        seal=seal,
        as_sealed=as_sealed,
        seal_why=seal_why,
    )


def _differences(found: FoundEvent) -> Iterator[str]:
    event, line = found.event, found.line
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
    said = decoded.envelope
    if said.event_id.lower() != event.event_id.lower():
        yield f"the line is another event, {said.event_id}"
        return
    if timestamps.parse(said.timestamp) != event.timestamp:
        yield f"timestamp: the line says {said.timestamp}"
    for name in _FIELDS:
        if getattr(said, name) != getattr(event, name):
            yield f"{name}: the line says {getattr(said, name)!r}, the row {getattr(event, name)!r}"
    stored = event.payload if event.stored_payload is None else event.stored_payload
    if _plain(said.payload) != _plain(stored):
        yield "the payload differs"
    for name, value in event.data().items():
        missing = blobs.error_of(value)
        if missing is not None:
            yield f"{name} is kept apart, and is not there: {missing}"
    extra = None if decoded.extra is None else {name: _plain(raw) for name, raw in decoded.extra.items()}
    if extra != (None if event.extra is None else _plain(event.extra)):
        yield "the fields that this version does not know differ"


def _plain(raw: msgspec.Raw) -> Any:
    return payloads.decode(raw)


def _sealed(root: Path, event: Event) -> tuple[int | None, bool | None, str]:
    try:
        links = [link for link in sealing.read_chain(root, damaged={}) if link.seal.segment == event.segment]
        if not links:
            return None, None, "the segment is not sealed yet"
        seal = links[0].seal
        path = layout.segment_path(root, event.event_type, event.segment)
        for each in {(link.seal.size_bytes, link.seal.sha256): link.seal for link in reversed(links)}.values():
            if fingerprint.is_same(path, each):
                return each.number, True, f"the segment is as in seal {each.number}"
        return seal.number, False, f"the segment is not as in seal {seal.number}; eventlog verify says where it differs"
    except FileNotFoundError:
        return seal.number, None, f"the segment of seal {seal.number} is gone"
    except (OSError, MissingExtra, SegmentUnreadable) as error:
        return None, None, f"the segment cannot be compared with its seal: {error}"
