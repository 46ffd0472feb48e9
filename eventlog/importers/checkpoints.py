"""Checkpoints: the events in the log that say how far foreign files were imported."""

from __future__ import annotations

import msgspec

from eventlog.format import envelope, ids, timestamps
from eventlog.format.envelope import Envelope
from eventlog.importers.positions import Position
from eventlog.log import layout, reader

CHECKPOINT_EVENT = "import_checkpoint"
#: A file's time may be this much behind the clock that its writer asked.
_SLACK_NS = 2_000_000_000


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Payload of `import_checkpoint`: a source was imported up to `offset` (uncompressed bytes).

    The other fields are those of a Position. Earlier versions logged the first four.
    """

    importer: str
    source: str
    offset: int
    prefix_hash: str | None = None
    base: str = ""
    name: str = ""
    path: str = ""
    head_bytes: int = 0
    head: str = ""
    tail: str | None = None


def read(root: str, importer: str) -> list[Position]:
    """Return what the log says of the sources of an importer, oldest first. Raises SegmentUnreadable."""
    found = []
    for _, event in reader.read_events(root, CHECKPOINT_EVENT):
        try:
            logged = msgspec.json.decode(event.payload, type=Checkpoint)
        except msgspec.MsgspecError:
            continue  # a damaged checkpoint costs a second reading, nothing else
        if logged.importer == importer:
            found.append(_position(logged, event.event_id))
    return found


def of(position: Position, importer: str) -> Envelope:
    """Return the event that says how far a source was imported; equal positions give equal events."""
    payload = envelope.encode_payload(
        Checkpoint(
            importer=importer, source=position.source, offset=position.offset, base=position.base, name=position.name,
            path=position.path, head_bytes=position.head_bytes, head=position.head, tail=position.tail,
        )
    )  # fmt: skip
    return Envelope(
        event_id=ids.derived_id(0, CHECKPOINT_EVENT, bytes(payload)),
        event_type=CHECKPOINT_EVENT,
        timestamp=timestamps.UNKNOWN,
        payload=payload,
    )


def _position(logged: Checkpoint, event_id: str) -> Position:
    return Position(
        source=logged.source, base=logged.base, name=logged.name, path=logged.path or logged.source,
        head_bytes=logged.head_bytes, head=logged.head, offset=logged.offset, tail=logged.tail, counted=False,
        checkpoint=event_id, checkpoint_offset=logged.offset, prefix_hash=logged.prefix_hash,
    )  # fmt: skip


class _Id(msgspec.Struct):
    event_id: str


def ids_since(root: str, begun_ns: int) -> set[str]:
    """Return the ids of the events in all segments that were written to since a moment; of other events too.

    Raises SegmentUnreadable.
    """
    found = set()
    decode = msgspec.json.Decoder(_Id).decode
    for segment in layout.list_log(root).segments:
        if segment.mtime_ns < begun_ns - _SLACK_NS:
            continue
        for line in reader.read_lines(segment.path):
            try:
                found.add(decode(line.data).event_id)
            except (msgspec.MsgspecError, RecursionError):
                continue
    return found
