"""What backups hold of segments: what the log says of it, looked at in the backups themselves.

The log says which segments are in which destination (`segments_backed_up`). That is no proof: a
destination may have been wiped since, and a line in the log may be anybody's. Before the only copy of a segment
is deleted, its copy is read whole, and compared by hash.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from eventlog.errors import BackupFailed, EventlogError
from eventlog.log import reader
from eventlog.log.content import digests
from eventlog.log.fingerprint import Fingerprint
from eventlog.log.layout import SegmentFile
from eventlog.maintenance import manifest
from eventlog.maintenance.backup import BACKED_UP_EVENT, SegmentsBackedUp
from eventlog.maintenance.destination import Destination, Folder, open_destination
from eventlog.maintenance.manifest import BackupCatalog, Entry

#: What opening and reading a place can raise, whose name may be anything.
_UNUSABLE = (EventlogError, OSError, ValueError, RuntimeError)


class BackupLookup:
    """BackupLookup of the segments of one root. Each destination's manifests are read once."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root).resolve()
        self._said = _said(root)
        self._places: dict[str, tuple[Destination, BackupCatalog] | None] = {}
        #: What is wrong with a destination, or with a copy in it, in words; each once.
        self.problems: dict[str, None] = {}

    def destinations_with(self, file: SegmentFile, seal: Fingerprint, *, whole: bool) -> list[str]:
        """Return the destinations that hold what was sealed.

        That a manifest names the copy is enough, or, with `whole`, the copy is read and compared.
        """
        said = sorted(place for place, sha256 in self._said.get(file.name, {}).items() if sha256 == seal.sha256)
        return [place for place in said if self._holds(place, file, seal, whole=whole)]

    def _holds(self, name: str, file: SegmentFile, seal: Fingerprint, *, whole: bool) -> bool:
        if name not in self._places:
            self._places[name] = self._opened(name)
        found = self._places[name]
        if found is None:
            return False
        destination, catalog = found
        entries = [
            each
            for each in catalog.copies(file.event_type, file.name)
            if (each.size_bytes, each.sha256) == (seal.size_bytes, seal.sha256)
        ]
        if not entries:
            self.problems[f"{name}: no manifest names {file.event_type}/{file.name} as it was sealed"] = None
        return any(not whole or self._reads_back(destination, each) for each in entries)

    def _opened(self, name: str) -> tuple[Destination, BackupCatalog] | None:
        try:
            destination = open_destination(name)
            if isinstance(destination, Folder) and destination.path.resolve().is_relative_to(self._root):
                raise BackupFailed(f"{name}: it is inside the root, so it is no backup of it")
            catalog = manifest.read(destination)
        except _UNUSABLE as error:
            self.problems[f"{name}: cannot be looked at: {error}"] = None
            return None
        if not catalog.keys:
            self.problems[f"{name}: there is no backup"] = None
            return None
        return destination, catalog

    def _reads_back(self, destination: Destination, entry: Entry) -> bool:
        try:
            size, sha256, _ = digests(destination.get(entry.key))
        except _UNUSABLE as error:
            self.problems[str(error)] = None
            return False
        if (size, sha256) == (entry.stored_bytes, entry.stored_sha256):
            return True
        self.problems[f"{destination.name}: {entry.key} is damaged"] = None
        return False


def _said(root: str | Path) -> dict[str, dict[str, str]]:
    """Return, by segment and destination, the hash of the copy that the log tells of."""
    found: dict[str, dict[str, str]] = {}
    for _, event in reader.read_events(root, BACKED_UP_EVENT):
        with contextlib.suppress(msgspec.MsgspecError):
            backup = msgspec.json.decode(event.payload, type=SegmentsBackedUp)
            for each in backup.segments:
                found.setdefault(each.segment, {})[backup.destination] = each.sha256
    return found
