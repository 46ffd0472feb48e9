"""Copying blobs to a backup, and restoring them.

    blobs/<2 hex digits>/<sha256>    the same keys as in the log

An object is named by the hash of its bytes. So an existing one need not be copied again, a killed run
leaves nothing to repair, and whoever fetches an object can tell whether it is whole. In both directions, blobs
are copied before the segments that may refer to them.

A backup copies the chunks in the root, and checks those that lines name: a named chunk that neither the root
nor the destination has whole is a failure of the backup.
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

#: The key of a folder is listed only where something else stands there: a link to nothing, a file.
_FOLDER_KEY = re.compile(rf"{blobs.FOLDER}/[0-9a-f]{{2}}")


class Copied(msgspec.Struct):
    """Counts of blobs: `present` were there already. `failures` has a message for each that was not copied."""

    copied: int = 0
    copied_bytes: int = 0
    present: int = 0
    failures: list[str] = msgspec.field(default_factory=list)


class Copier:
    """Copies chunks to a destination, each once. Its methods raise BackupFailed where that cannot be used."""

    def __init__(self, root: str | Path, destination: Destination, *, dry_run: bool = False) -> None:
        self._root = root
        self._destination = destination
        self._dry_run = dry_run
        self._errors: dict[str, str] = {}
        #: Damaged chunks of the destination, by SHA-256, with the reason.
        self.damaged: dict[str, str] = {}
        self.done = Copied()

    @cached_property
    def there(self) -> set[str]:
        """The hashes of the chunks that the destination has."""
        return {digest for key in self._destination.list(blobs.FOLDER) if (digest := _digest(key)) is not None}

    def mark_damaged(self, sha256: str, why: str) -> None:
        """Treat a chunk of the destination as missing: it is copied again if the root has it."""
        self.there.discard(sha256)
        self.damaged[sha256] = why

    def copy_listed(self) -> None:
        """Copy the chunks that are in the root."""
        for blob in blobs.list_blobs(self._root):
            if blob.sha256 in self.there:
                self.done.present += 1
            else:
                self.copy(blob.sha256)

    def copy(self, sha256: str) -> str | None:
        """Copy a chunk unless the destination has it; return None, or why that is impossible."""
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
        if fetch(self._destination, sha256) is None:
            self._destination.delete(key)
            raise BackupFailed(
                f"{self._destination.name}: {key} does not read back as it was sent; "
                "check the place's disk, and run the same again"
            )

    def failures(self, reported: set[str]) -> list[str]:
        """Return why chunks were not copied, except for those (by SHA-256) that were `reported` already."""
        bad = {sha256: f"{why}, and the root does not have it whole" for sha256, why in self.damaged.items()}
        return [why for sha256, why in (self._errors | bad).items() if sha256 not in reported]


def from_source(
    root: str | Path, source: Destination, *, dry_run: bool = False, full: Callable[[Path, OSError], BackupFailed]
) -> Copied:
    """Restore the blobs that are missing or damaged in the root.

    Raises BackupFailed: its own, or the one that `full(path, error)` returns where a blob cannot be written.
    """
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
        data = fetch(source, digest)
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
    """Return the path of a chunk's parent folders that is no folder; None where both are, or are missing."""
    for folder in (path.parent.parent, path.parent):
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            return folder
    return None


def key_of(sha256: str) -> str:
    """Return the key of a chunk's object, such as `blobs/9f/9f86…`."""
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


def fetch(destination: Destination, sha256: str) -> bytes | None:
    """Return a chunk of a backup; None where its object is missing or damaged. Raises BackupFailed."""
    parts: list[bytes] = []
    size = 0
    try:
        for block in destination.get(key_of(sha256)):
            parts.append(block)
            size += len(block)
            if size > MAX_LINE_BYTES:  # no blob is that long
                return None
    except ObjectUnreadable:  # removed since it was listed, or no file
        return None
    data = b"".join(parts)
    return data if hashlib.sha256(data).hexdigest() == sha256 else None
