"""Archiving: compressing sealed segments in place. Readers see no difference.

The plain file is deleted only after the archive was read back and its SHA-256 is that of the seal.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from eventlog.errors import SegmentUnreadable
from eventlog.log import layout, zst
from eventlog.log.chains import Chains, Link
from eventlog.log.fingerprint import sha256
from eventlog.log.layout import SegmentFile
from eventlog.log.segment import sync_folder
from eventlog.maintenance.lock import maintenance
from eventlog.maintenance.sealing import read_chain
from eventlog.maintenance.verification import Progress

#: The zstd level above which real agent logs get little smaller for the time that it takes.
LEVEL = 12


class Archived(msgspec.Struct, frozen=True, kw_only=True):
    """What was archived. `refused` has a message for each segment that is not as sealed; it stays as it is."""

    segments: int
    bytes_before: int
    bytes_after: int
    refused: list[str]


def archive_sealed(
    root: str | Path,
    event_types: Iterable[str] | None = None,
    *,
    level: int = LEVEL,
    progress: Progress | None = None,
) -> Archived:
    """Compress every sealed segment. Raises MaintenanceBusy, MissingExtra, OSError."""
    with maintenance(root):
        seals = Chains(read_chain(root)).by_segment()
        waiting = [file for file in layout.list_log(root, event_types).segments if _is_waiting(file, seals)]
        total, done = sum(file.size for file in waiting), 0
        before = after = segments = 0
        refused = []
        for file in waiting:
            try:
                stored = _archive(file, seals[file.name], level)
            except SegmentUnreadable as error:
                refused.append(str(error))
            else:
                before, after, segments = before + file.size, after + stored, segments + 1
            done += file.size
            if progress is not None:
                progress(done, total)
        return Archived(segments=segments, bytes_before=before, bytes_after=after, refused=refused)


def _is_waiting(file: SegmentFile, seals: dict[str, list[Link]]) -> bool:
    return file.sealed and not file.archived and file.name in seals


def _archive(file: SegmentFile, seals: list[Link], level: int) -> int:
    """Compress one segment; return its stored size. Raises SegmentUnreadable where it matches none of its seals."""
    target = zst.archived_path(file.path)
    part = target.with_name(target.name + layout.PART_SUFFIX)
    stat = file.path.stat()
    part.unlink(missing_ok=True)  # a killed run may have left a read-only one
    try:
        zst.compress(file.path, part, level=level)
        os.utime(part, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        part.chmod(stat.st_mode & 0o555)
        if sha256(part) not in {link.seal.sha256 for link in seals}:
            raise SegmentUnreadable(f"{file.path}: not what was sealed, so not archived; try: eventlog verify")
        part.replace(target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
    sync_folder(target.parent)  # the archive must survive a power cut before its source is deleted
    file.path.unlink()
    return target.stat().st_size
