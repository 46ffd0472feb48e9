"""Blobs in a backup, and back from there.

    blobs/<2 hex digits>/<sha256>    as in the log

An object is named by the hash of its bytes, so that one which is there need not be copied again, a
killed run leaves nothing to repair, and whoever fetches one can tell whether it is what was stored.
Blobs go before the segments that may refer to them, both ways.

A backup copies what the root lists, and besides that what the lines name: a chunk that is named, and that
neither the root nor the destination has whole, is an error of the backup.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import msgspec

from eventlog.errors import BackupFailed, BlobUnreadable, ObjectUnreadable
from eventlog.format.envelope import MAX_LINE_BYTES
from eventlog.log import blobs
from eventlog.log.blob_store import BlobStore
from eventlog.maintenance.destination import Destination
from eventlog.process.root_files import kind_of

#: What stands at the key of a folder is listed only if it is something else: a link to nothing, a file.
_FOLDER_KEY = re.compile(rf"{blobs.FOLDER}/[0-9a-f]{{2}}")


class Copied(msgspec.Struct):
    """What was done with blobs. `failures` says, for each that could not be copied, why."""

    copied: int = 0
    copied_bytes: int = 0
    present: int = 0
    failures: list[str] = msgspec.field(default_factory=list)


class Copier:
    """Copies chunks to a destination, each once. Raises BackupFailed where that cannot be used."""

    def __init__(self, root: str | Path, destination: Destination, *, dry_run: bool = False) -> None:
        self._root = root
        self._destination = destination
        self._dry_run = dry_run
        self._errors: dict[str, str] = {}
        #: Chunks that the destination has, but not whole, and why.
        self.damaged: dict[str, str] = {}
        self.done = Copied()

    @cached_property
    def there(self) -> set[str]:
        """The hashes of the chunks that the destination has."""
        return {digest for key in self._destination.list(blobs.FOLDER) if (digest := _digest(key)) is not None}

    def distrust(self, sha256: str, why: str) -> None:
        """Take a chunk of the destination for one that it does not have."""
        self.there.discard(sha256)
        self.damaged[sha256] = why

    def copy_listed(self) -> None:
        """Copy the chunks that the root has."""
        for blob in blobs.list_blobs(self._root):
            if blob.sha256 in self.there:
                self.done.present += 1
            else:
                self.copy(blob.sha256)

    def copy(self, sha256: str) -> str | None:
        """Have the destination have a chunk; return None, or why it has not."""
        if sha256 in self._errors:
            return self._errors[sha256]
        if sha256 in self.there:
            return None
        try:
            data = blobs.read(self._root, sha256)
        except BlobUnreadable as error:
            self._errors[sha256] = str(error)
            return self._errors[sha256]
        if not self._dry_run:
            self._put(sha256, data)
        self.there.add(sha256)
        self.damaged.pop(sha256, None)
        self.done.copied += 1
        self.done.copied_bytes += len(data)
        return None

    def _put(self, sha256: str, data: bytes) -> None:
        """Store a chunk, and read it back."""
        key = key_of(sha256)
        self._destination.put(key, [data])
        if fetched(self._destination, sha256) is None:
            self._destination.delete(key)
            raise BackupFailed(
                f"{self._destination.name}: {key} does not read back as it was sent; "
                "check the place's disk, and run the same again"
            )

    def failures(self, said: set[str]) -> list[str]:
        """Return why chunks were not copied, apart from those of which it was `said`."""
        bad = {sha256: f"{why}, and the root does not have it whole" for sha256, why in self.damaged.items()}
        return [why for sha256, why in (self._errors | bad).items() if sha256 not in said]


def from_source(
    root: str | Path, source: Destination, *, dry_run: bool = False, full: Callable[[Path, OSError], BackupFailed]
) -> Copied:
    """Bring back the blobs that the root does not have, or has damaged. Raises BackupFailed, and what `full` makes."""
    done = Copied()
    store = BlobStore(root, min_bytes=0, synced=True)
    blocked: dict[Path, str] = {}
    for key in source.list(blobs.FOLDER):
        digest = _digest(key)
        if digest is None:
            if _FOLDER_KEY.fullmatch(key):
                done.failures.append(f"{source.name}/{key} is not a folder, so that its blobs cannot be restored")
            continue
        if _is_here(root, digest):
            done.present += 1
            continue
        if (odd := _odd_folder(blobs.path_of(root, digest))) is not None:
            blocked[odd] = f"{odd} is {kind_of(odd) or 'a file'}, so that no blobs can be restored there"
            continue
        if dry_run:
            done.copied += 1
            continue
        data = fetched(source, digest)
        if data is None:
            done.failures.append(
                f"{source.name}/{key} is damaged: its bytes do not have the hash that is its name; nothing of it was "
                "restored. If its log still exists, try: eventlog backup --verify"
            )
            continue
        try:
            store.put(data)
        except OSError as error:
            raise full(blobs.path_of(root, digest), error) from error
        done.copied += 1
        done.copied_bytes += len(data)
    done.failures += [f"{why}; move it away, and run the same again" for why in blocked.values()]
    return done


def _odd_folder(path: Path) -> Path | None:
    """Return what stands in the place of a chunk's folder, or of the folder of all, and is no folder."""
    for folder in (path.parent.parent, path.parent):
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            return folder
    return None


def key_of(sha256: str) -> str:
    """Return the key of a chunk's object."""
    return f"{blobs.FOLDER}/{sha256[:2]}/{sha256}"


def _digest(key: str) -> str | None:
    digest = key.rpartition("/")[2]
    return digest if blobs.NAME.fullmatch(digest) and key == key_of(digest) else None


def _is_here(root: str | Path, digest: str) -> bool:
    try:
        blobs.read(root, digest)
    except BlobUnreadable:
        return False
    return True


def fetched(place: Destination, sha256: str) -> bytes | None:
    """Return a chunk, or None where the object is not that. Raises BackupFailed."""
    parts: list[bytes] = []
    size = 0
    try:
        for block in place.get(key_of(sha256)):
            parts.append(block)
            size += len(block)
            if size > MAX_LINE_BYTES:  # no blob is that long
                return None
    except ObjectUnreadable:  # removed since it was listed, or no file
        return None
    data = b"".join(parts)
    return data if hashlib.sha256(data).hexdigest() == sha256 else None
