"""The lines of a log that a server has not got yet, in batches for one request each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventlog.errors import BlobUnreadable, InvalidEvent, SegmentUnreadable
from eventlog.format import control, envelope
from eventlog.log import blobs, layout, reader
from eventlog.log.layout import SegmentFile

EVENTS_MAX = 500
_BYTES_MAX = 1024 * 1024


class Batch(NamedTuple):
    """Events as JSON, and up to which offset they are of each segment. `unsendable` lines have a reason each."""

    events: list[bytes]
    offsets: dict[str, int]
    unsendable: list[str]


def segment_key(segment: SegmentFile) -> str:
    """Return the name of a segment in `sending.json`."""
    return f"{segment.event_type}/{segment.name}"


def of_log(root: str | Path, sent: Mapping[str, int], *, events_max: int = EVENTS_MAX) -> Iterator[Batch]:
    """Yield what was not sent, oldest segments of each type first. Large fields are put back into their events.

    Control events stay: no ordinary key may write them. `sent` is looked at as it is when a segment is begun. A segment
    that became shorter is sent anew. Raises OSError.
    """
    batch = Batch([], {}, [])
    size = 0
    for segment in layout.list_log(root).segments:
        name = segment_key(segment)
        offset = sent.get(name, 0)
        if segment.event_type in control.WRITERS or segment.size == offset:
            continue
        try:
            for line in reader.read_lines(segment.path, offset if offset < segment.size else 0):
                try:
                    event = _whole(root, line.data)
                    batch.events.append(event)
                    size += len(event)
                except (InvalidEvent, BlobUnreadable, msgspec.MsgspecError) as error:
                    batch.unsendable.append(f"{name}, byte {line.offset:,}: {error}")
                batch.offsets[name] = line.offset + line.length
                if len(batch.events) >= events_max or size >= _BYTES_MAX:
                    yield batch
                    batch, size = Batch([], {}, []), 0
        except SegmentUnreadable as error:
            batch.unsendable.append(str(error))
    if batch.offsets or batch.unsendable:
        yield batch


def _whole(root: str | Path, line: bytes) -> bytes:
    """Return an event with its large fields in it. Raises InvalidEvent for what is none."""
    if blobs.MARK not in line:
        envelope.decode(line)
        return line
    event = envelope.decode(line).envelope
    payload = blobs.resolve(root, bytes(event.payload), event.workspace)
    return msgspec.json.encode(msgspec.structs.replace(event, payload=msgspec.Raw(payload)))
