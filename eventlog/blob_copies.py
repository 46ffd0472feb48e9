"""Blobs in a backup, and back from there.

    blobs/<2 hex digits>/<sha256>    as in the log

An object is named by the hash of its bytes, so that one which is there need not be copied again, a
killed run leaves nothing to repair, and whoever fetches one can tell whether it is what was stored.
Blobs go before the segments that may refer to them, both ways.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from eventlog import blobs
from eventlog.destination import Destination
from eventlog.envelope import MAX_LINE_BYTES
from eventlog.errors import BackupFailed, BlobUnreadable, ObjectMissing


class Copied(msgspec.Struct):
    """What was done with blobs. `failures` says, for each that could not be copied, why."""

    copied: int = 0
    copied_bytes: int = 0
    present: int = 0
    failures: list[str] = msgspec.field(default_factory=list)


def to_destination(root: str | Path, destination: Destination, *, dry_run: bool = False) -> Copied:
    """Copy the blobs that the destination does not have. Raises BackupFailed where it cannot be used.

    Each is read back and compared before the next one goes.
    """
    done = Copied()
    here = blobs.list_blobs(root)
    there = set(_keys(destination)) if here else set()
    for blob in here:
        key = _key(blob.sha256)
        if key in there:
            done.present += 1
            continue
        try:
            data = blobs.read(root, blob.sha256)
        except BlobUnreadable as error:
            done.failures.append(str(error))
            continue
        if not dry_run:
            destination.put(key, [data])
            if _fetched(destination, blob.sha256) is None:
                destination.delete(key)
                raise BackupFailed(
                    f"{destination.name}: {key} does not read back as it was sent; "
                    "check the place's disk, and run the same again"
                )
        done.copied += 1
        done.copied_bytes += blob.size
    return done


def from_source(
    root: str | Path, source: Destination, *, dry_run: bool = False, full: Callable[[Path, OSError], BackupFailed]
) -> Copied:
    """Bring back the blobs that the root does not have, or has damaged. Raises BackupFailed, and what `full` makes."""
    done = Copied()
    store = blobs.BlobStore(root, min_bytes=0, synced=True)
    for key in _keys(source):
        digest = key.rpartition("/")[2]
        if not blobs.NAME.fullmatch(digest) or key != _key(digest):
            continue
        if _is_here(root, digest):
            done.present += 1
            continue
        if dry_run:
            done.copied += 1
            continue
        try:
            data = _fetched(source, digest)
        except ObjectMissing:  # removed since it was listed
            data = None
        if data is None:
            done.failures.append(
                f"{source.name}/{key} is damaged: its bytes do not have the hash that is its name; nothing of it was "
                "restored. If its log still exists, remove that file, and back the log up again"
            )
            continue
        try:
            store.put(data)
        except OSError as error:
            raise full(blobs.path_of(root, digest), error) from error
        done.copied += 1
        done.copied_bytes += len(data)
    return done


def _keys(place: Destination) -> list[str]:
    return place.list(blobs.FOLDER)


def _key(digest: str) -> str:
    return f"{blobs.FOLDER}/{digest[:2]}/{digest}"


def _is_here(root: str | Path, digest: str) -> bool:
    try:
        blobs.read(root, digest)
    except BlobUnreadable:
        return False
    return True


def _fetched(place: Destination, digest: str) -> bytes | None:
    """Return an object, or None where it does not have its hash. Raises BackupFailed."""
    parts: list[bytes] = []
    size = 0
    for block in place.get(_key(digest)):
        parts.append(block)
        size += len(block)
        if size > MAX_LINE_BYTES:  # no blob is that long
            return None
    data = b"".join(parts)
    return data if hashlib.sha256(data).hexdigest() == digest else None
