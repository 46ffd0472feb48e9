"""The chunks of large fields that the lines of a segment name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventlog.errors import InvalidEvent
from eventlog.format.envelope import decode
from eventlog.log import blobs, reader


class Naming(NamedTuple):
    """The byte offset of a line in its segment, and the SHA-256 of the chunks that it names."""

    offset: int
    sha256: set[str]


def names(path: Path, *, end: int | None = None) -> Iterator[Naming]:
    """Yield the lines of a segment that name chunks, in its first `end` bytes.

    Raises SegmentUnreadable, and MissingExtra for an archive where no zstd library is installed.
    """
    for block in reader.read_blocks(path, end=end):
        if blobs.MARK in block.data:
            for line in block.lines():
                digests = named(line.data)
                if digests:
                    yield Naming(line.offset, digests)


def named(line: bytes) -> set[str]:
    """Return the SHA-256 of the chunks that a line names."""
    if blobs.MARK not in line:
        return set()
    try:
        return blobs.references(bytes(decode(line).envelope.payload))
    except (InvalidEvent, msgspec.MsgspecError):
        return set()  # no event: the index quarantines it with the reason
