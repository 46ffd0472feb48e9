"""Which chunks the lines of a log name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventlog.errors import InvalidEvent
from eventlog.format.envelope import decode
from eventlog.log import blobs, reader


class Naming(NamedTuple):
    """A line that names chunks, by its byte offset in the segment."""

    offset: int
    sha256: set[str]


def names(path: Path, *, end: int | None = None) -> Iterator[Naming]:
    """Yield the lines of a segment that name chunks, within its first `end` bytes.

    Raises SegmentUnreadable, and MissingExtra for an archive where there is no zstd.
    """
    for block in reader.read_blocks(path, end=end):
        if blobs.MARK in block.data:
            for line in block.lines():
                found = named(line.data)
                if found:
                    yield Naming(line.offset, found)


def named(line: bytes) -> set[str]:
    """Return the hashes of the chunks that a line names."""
    if blobs.MARK not in line:
        return set()
    try:
        return blobs.references(bytes(decode(line).envelope.payload))
    except (InvalidEvent, msgspec.MsgspecError):
        return set()  # no event: what is wrong with it, indexing says
