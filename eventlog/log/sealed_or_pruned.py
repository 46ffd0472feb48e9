"""Segments that are closed for good, though a copy of them may look as if one could go on there.

A segment that was sealed or pruned may come back writable: a folder was copied over the log. Nobody must
continue it, or its name would stand for two different files. The log itself says which were sealed or
pruned; only what was written since the segment was made can say it, so that little is read.
"""

from __future__ import annotations

from pathlib import Path

from eventlog.errors import MissingExtra, SegmentUnreadable
from eventlog.log import layout, reader
from eventlog.log.pruned import PRUNED_EVENT

SEAL_EVENT = "segment_sealed"


def was_sealed_or_pruned(root: str | Path, name: str) -> bool:
    """Say whether a seal or a pruning names a segment. What cannot be read says nothing."""
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
