"""Does the log say that a segment was sealed or pruned? Then no writer may continue it.

Such a segment may come back writable, when a folder is copied over the log. A writer that continued it would make
its name stand for two different files. Only segments of seals and prunings that were written to after it was created
can name it, so little is read (docs/decisions/0023-one-name-several-files.md).
"""

from __future__ import annotations

from pathlib import Path

from eventlog.errors import MissingExtra, SegmentUnreadable
from eventlog.log import layout, reader
from eventlog.log.pruned import PRUNED_EVENT

SEAL_EVENT = "segment_sealed"


def was_sealed_or_pruned(root: str | Path, name: str) -> bool:
    """Say whether a seal or a pruning names a segment. Segments that cannot be read are skipped."""
    created_ns = int((layout.created_s(name) or 0) * 1e9)
    needle = f'"segment":"{name}"'.encode()
    for event_type in (SEAL_EVENT, PRUNED_EVENT):
        for file in layout.list_type(root, event_type):
            if file.mtime_ns < created_ns:
                continue
            try:
                if any(needle in block.data for block in reader.read_blocks(file.path)):
                    return True
            except (SegmentUnreadable, MissingExtra):
                continue
    return False
