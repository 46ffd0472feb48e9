"""The content of a segment: how many of its bytes are final, its hash, and its bytes as stored.

Sizes and hashes are of the uncompressed lines, whether a segment is stored as `.jsonl` or
archived as `.jsonl.zst`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from eventlog.log import layout, zst
from eventlog.log.layout import SegmentFile
from eventlog.log.segment import held_still

BLOCK_BYTES = 5 * 1024 * 1024


class Extent(NamedTuple):
    """How many bytes of a segment are final, and whether the segment is finished (nobody writes to it)."""

    size: int
    finished: bool


class Digests(NamedTuple):
    """Length and SHA-256 (hex) of some bytes, and the SHA-256 of their beginnings, by length."""

    size: int
    sha256: str
    beginnings: dict[int, str]


def extent(segment: SegmentFile) -> Extent:
    """Return how many bytes of a segment are final. Raises OSError.

    All bytes of a segment that nobody owns, its torn tail included; else those up to the last newline. 0 bytes of a
    missing one.
    """
    if segment.sealed:
        return Extent(segment.size, True)
    with held_still(segment.path) as still:
        # Only now: it may have grown since it was listed, and cannot grow while it is held.
        current = layout.refreshed(segment)
        if current is None:
            return Extent(0, False)
        if still:
            return Extent(current.size, True)
    return Extent(whole_lines_end(current.path, current.size), False)


def stored(path: Path, size: int | None = None) -> Iterator[bytes]:
    """Yield the bytes of a file as stored (an archive compressed), or the first `size` of them. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        offset = 0
        while block := os.pread(fd, BLOCK_BYTES if size is None else min(BLOCK_BYTES, size - offset), offset):
            offset += len(block)
            yield block
    finally:
        os.close(fd)


def digests(blocks: Iterable[bytes], sizes: Iterable[int] = ()) -> Digests:
    """Hash some bytes, and their beginnings of these sizes. Beginnings longer than the bytes are left out."""
    running, length = hashlib.sha256(), 0
    wanted = sorted(set(sizes), reverse=True)
    beginnings: dict[int, str] = {}
    if wanted and wanted[-1] == 0:
        beginnings[wanted.pop()] = running.hexdigest()
    for block in blocks:
        start = 0
        while wanted and wanted[-1] <= length + len(block):
            end = wanted.pop() - length
            running.update(block[start:end])
            start = end
            beginnings[length + end] = running.hexdigest()
        running.update(block[start:])
        length += len(block)
    return Digests(length, running.hexdigest(), beginnings)


def whole_lines_end(path: Path, size: int) -> int:
    """Return the offset behind the last newline in the first `size` bytes; 0 without one. Raises OSError."""
    with zst.open_segment(path) as file:
        end = size
        while end > 0:
            start = max(end - BLOCK_BYTES, 0)
            newline = file.pread(end - start, start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
    return 0
