"""Which copy in a backup has the bytes of a segment: told by content, since other bytes can have its name and size.

Reading the whole log in each run would be dear. So a manifest keeps, beside the hash of a copy, a stamp of the file
that was read for it: a hash of its inode, its size, its times and its last bytes. Nobody can set a file's time of
change (ctime), so a file with the same stamp has the same bytes; one with another stamp, or a copy without one, is
hashed.
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
    """The entry of a copy that has a segment's bytes, if there is one, and a stamp for it, if that is to be stored."""

    entry: Entry | None = None
    stamp: str = ""


def find_copy(catalog: BackupCatalog, segment: SegmentFile, found: Extent) -> Match:
    """Find the whole copy that has a segment's settled bytes. Raises OSError."""
    copies = [
        entry
        for entry in catalog.copies(segment.event_type, segment.name)
        if entry.size_bytes == found.size and entry.key not in catalog.bad
    ]
    if not copies:
        return Match()
    stamp = stamp_of(segment.path, wait=found.finished)
    for entry in copies:
        if stamp and entry.stamp == stamp:
            return Match(entry)
    content = digests(zst.blocks(segment.path, found.size))
    for entry in copies:
        if (entry.size_bytes, entry.sha256) == (content.size, content.sha256):
            return Match(entry, stamp)
    return Match()


def stamp_of(path: Path, *, wait: bool) -> str:
    """Return the stamp of a file; `""` where it was written so lately that a further write could leave it as it is.

    With `wait`, such a file is waited for, 20 ms at most. To be taken before the file is hashed. Raises OSError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        found = os.fstat(fd)
        if abs(time.time_ns() - found.st_ctime_ns) < _STEP_NS:
            if not wait:
                return ""
            time.sleep(_STEP_NS / 1e9)
            found = os.fstat(fd)
            if abs(time.time_ns() - found.st_ctime_ns) < _STEP_NS:
                return ""
        tail = os.pread(fd, _TAIL_BYTES, max(found.st_size - _TAIL_BYTES, 0))
    finally:
        os.close(fd)
    facts = f"{found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} ".encode()
    return hashlib.blake2b(facts + tail, digest_size=16).hexdigest()
