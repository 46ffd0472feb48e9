"""Which backups hold a segment: the log says so, and the backups themselves are asked.

`segments_backed_up` events say which segments are in which destination. That proves nothing: a destination
may have been wiped since, and anybody may have written a line of the log. Before the only copy of a segment is
deleted, its copy in the backup is read whole and compared by hash.
"""

from __future__ import annotations

from pathlib import Path

from eventlog.errors import BackupFailed, EventlogError
from eventlog.log.content import digests
from eventlog.log.fingerprint import Fingerprint
from eventlog.log.layout import SegmentFile
from eventlog.maintenance import manifest
from eventlog.maintenance.backup_log import read_copies
from eventlog.maintenance.destination import Destination, is_inside, open_destination
from eventlog.maintenance.manifest import BackupCatalog, Entry

#: What opening and reading a destination can raise; its name comes from the log and may be anything.
_UNUSABLE = (EventlogError, OSError, ValueError, RuntimeError)


class BackupLookup:
    """Finds the copies of one root's segments. Each destination's manifests are read once."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root).resolve()
        self._logged = _logged_copies(root)
        self._opened: dict[str, tuple[Destination, BackupCatalog] | None] = {}
        #: Messages about unusable destinations and damaged copies; each once, in order.
        self.problems: dict[str, None] = {}

    def destinations_with(self, file: SegmentFile, seal: Fingerprint, *, whole: bool) -> list[str]:
        """Return the names of the destinations that hold the bytes of a seal, such as `["s3://bucket/laptop"]`.

        A manifest that names the copy is enough; with `whole`, the copy is read and compared.
        """
        copies = self._logged.get(file.name, {})
        names = sorted(name for name, sha256 in copies.items() if sha256 == seal.sha256)
        return [name for name in names if self._holds(name, file, seal, whole=whole)]

    def _holds(self, name: str, file: SegmentFile, seal: Fingerprint, *, whole: bool) -> bool:
        if name not in self._opened:
            self._opened[name] = self._open(name)
        opened = self._opened[name]
        if opened is None:
            return False
        destination, catalog = opened
        entries = [
            entry
            for entry in catalog.copies(file.event_type, file.name)
            if (entry.size_bytes, entry.sha256) == (seal.size_bytes, seal.sha256)
        ]
        if not entries:
            self.problems[f"{name}: no manifest names {file.event_type}/{file.name} as it was sealed"] = None
        return any(not whole or self._reads_back(destination, entry) for entry in entries)

    def _open(self, name: str) -> tuple[Destination, BackupCatalog] | None:
        try:
            destination = open_destination(name)
            if is_inside(destination, self._root):
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


def _logged_copies(root: str | Path) -> dict[str, dict[str, str]]:
    """Return the SHA-256 of the copies that the log names: {segment: {destination: sha256}}."""
    copies: dict[str, dict[str, str]] = {}
    for destination, copy in read_copies(root):
        copies.setdefault(copy.segment, {})[destination] = copy.sha256
    return copies
