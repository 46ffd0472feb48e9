"""Finding the copy of a segment in a backup by content, without reading every file in every run.

Name and size prove nothing: other bytes can have both. So a manifest stores, beside the hash of a copy, a stamp of
the file that was read for it: a hash of its inode, size, times and last bytes. Programs cannot set the change time
(ctime), so a file with the same stamp has the same bytes. A file with another stamp, or one whose copy has no stamp,
is hashed (docs/decisions/0012-backup-objects-are-written-once.md).
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import NamedTuple

from eventlog.log import zst
from eventlog.log.content import Extent, digests
from eventlog.log.layout import SegmentFile
from eventlog.maintenance.manifest import BackupCatalog, Entry

_TAIL_BYTES = 4096
#: The kernel's clock for files moves in steps of up to 10 ms: of two writes in one step, the second changes no time.
_STEP_NS = 20_000_000


class Match(NamedTuple):
    """The entry of a copy with a segment's bytes, or None; and a stamp to be stored with it, or ""."""

    entry: Entry | None = None
    stamp: str = ""


def find_copy(catalog: BackupCatalog, segment: SegmentFile, extent: Extent) -> Match:
    """Find the whole copy that has the first `extent.size` bytes of a segment. Raises OSError."""
    copies = [
        entry
        for entry in catalog.copies(segment.event_type, segment.name)
        if entry.size_bytes == extent.size and entry.key not in catalog.bad
    ]
    if not copies:
        return Match()
    stamp = stamp_of(segment.path, wait=extent.finished)
    for entry in copies:
        if stamp and entry.stamp == stamp:
            return Match(entry)
    content = digests(zst.blocks(segment.path, extent.size))
    for entry in copies:
        if (entry.size_bytes, entry.sha256) == (content.size, content.sha256):
            return Match(entry, stamp)
    return Match()


def stamp_of(path: Path, *, wait: bool) -> str:
    """Return the stamp of a file, 32 hex digits; "" where it changed so recently that another write could keep it.

    With `wait`, waits up to 20 ms for such a file. Call it before hashing the file. Raises OSError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        if abs(time.time_ns() - status.st_ctime_ns) < _STEP_NS:
            if not wait:
                return ""
            time.sleep(_STEP_NS / 1e9)
            status = os.fstat(fd)
            if abs(time.time_ns() - status.st_ctime_ns) < _STEP_NS:
                return ""
        tail = os.pread(fd, _TAIL_BYTES, max(status.st_size - _TAIL_BYTES, 0))
    finally:
        os.close(fd)
    facts = f"{status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} ".encode()
    return hashlib.blake2b(facts + tail, digest_size=16).hexdigest()
