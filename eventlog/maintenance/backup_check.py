"""Checking a backup: reading its objects again, all of them or a share, and comparing their hashes.

All objects lie on a ring, each at the hash of its key. A run reads those of its share, beginning where the
last run ended: ten runs of 10% read every object, whatever was added in the meantime.

    verified/position.json    where the next run begins; 0 if it is missing or damaged

A damaged object counts as not backed up: the same run copies it again, if the root has it.
An object that no manifest names, because the manifest was lost, counts again: its key holds its hash.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import msgspec

from eventlog.errors import MissingExtra, ObjectUnreadable
from eventlog.format.envelope import EVENT_TYPE
from eventlog.log import layout, zst
from eventlog.log.content import Digests, digests
from eventlog.maintenance import blob_copies, manifest
from eventlog.maintenance.blob_copies import Copier
from eventlog.maintenance.destination import Destination
from eventlog.maintenance.manifest import BackupCatalog, Entry

_POSITION_KEY = "verified/position.json"
_POSITION_MAX_BYTES = 4096
_RING = 2**32
_KEY = re.compile(
    rf"log/([^/]+)/([^/]+)\.([0-9a-f]{{64}})({re.escape(layout.SUFFIX)}|{re.escape(layout.ARCHIVE_SUFFIX)})"
)

#: Called with the objects done and the objects to do.
Progress = Callable[[int, int], None]


class _Position(msgspec.Struct):
    position: int


class Checked(msgspec.Struct):
    """Counts of the objects that were read, and what was learned."""

    objects: int = 0
    bytes: int = 0
    #: Objects that no manifest names, and that are whole.
    unnamed: list[Entry] = msgspec.field(default_factory=list)
    #: Where the next share begins.
    position: int = 0


def note_missing(destination: Destination, catalog: BackupCatalog) -> list[str]:
    """Mark the entries whose object is gone as bad; return the keys of all objects. Raises BackupFailed."""
    keys = destination.list("log")
    existing = set(keys)
    for entry in catalog.entries():
        if entry.key not in existing:
            catalog.bad[entry.key] = "is gone"
    return keys


class Check:
    """Reads the objects of a destination again, or a share of them, from 0 to 1."""

    def __init__(self, destination: Destination, catalog: BackupCatalog, copier: Copier, share: float) -> None:
        self._destination = destination
        self._known = catalog
        self._copier = copier
        self._width = min(_RING, max(1, round(share * _RING)))
        self._start = 0 if self.is_whole else _position(destination)
        self.done = Checked(position=(self._start + self._width) % _RING)

    @property
    def is_whole(self) -> bool:
        """Whether all objects are read."""
        return self._width == _RING

    def run(self, keys: list[str], progress: Progress | None) -> None:
        """Read the objects of segments (`keys`) and of blobs that are in the share. Raises BackupFailed."""
        entries = {entry.key: entry for entry in self._known.entries()}
        segments = [key for key in keys if self._has(key) or key not in entries]
        chunks = [sha256 for sha256 in sorted(self._copier.there) if self._has(blob_copies.key_of(sha256))]
        total = len(segments) + len(chunks)
        for key in segments:
            self._segment(key, entries.get(key))
            self._step(progress, total)
        for sha256 in chunks:
            self._chunk(sha256)
            self._step(progress, total)

    def _step(self, progress: Progress | None, total: int) -> None:
        self.done.objects += 1
        if progress is not None:
            progress(self.done.objects, total)

    def _has(self, key: str) -> bool:
        position = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:4], "big")
        return (position - self._start) % _RING < self._width

    def _segment(self, key: str, entry: Entry | None) -> None:
        if entry is None:
            self._take_up(key)
            return
        try:
            size, sha256, _ = digests(self._counted(self._destination.get(key)))
        except ObjectUnreadable as error:
            self._known.bad[key] = f"cannot be read any more ({error})"
            return
        if (size, sha256) != (entry.stored_bytes, entry.stored_sha256):
            self._known.bad[key] = "is damaged: its SHA-256 is not what it was when it was stored"

    def _chunk(self, sha256: str) -> None:
        data = blob_copies.fetch(self._destination, sha256)
        if data is None:
            why = "is damaged: its bytes do not have the hash that is its name"
            self._copier.mark_damaged(sha256, f"{self._destination.name}/{blob_copies.key_of(sha256)} {why}")
        else:
            self.done.bytes += len(data)

    def _counted(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        for block in blocks:
            self.done.bytes += len(block)
            yield block

    def _take_up(self, key: str) -> None:
        """Add an entry for an object that no manifest names. One whose bytes do not match its key is ignored."""
        match = _KEY.fullmatch(key)
        if match is None or not EVENT_TYPE.fullmatch(match[1]) or layout.created_s(match[2]) is None:
            return
        event_type, segment, stored_sha256, ending = match.groups()
        if self._known.replaces(event_type, segment, stored_sha256):
            return
        archived = ending == layout.ARCHIVE_SUFFIX
        try:
            stored, content = self._contents(key, archived)
        except (ObjectUnreadable, OSError, MissingExtra):
            return
        if stored.sha256 != stored_sha256:
            return
        entry = Entry(
            event_type=event_type,
            segment=segment,
            size_bytes=content.size,
            sha256=content.sha256,
            stored_bytes=stored.size,
            stored_sha256=stored.sha256,
            archived=archived,
        )
        self._known.add(entry)
        self.done.unnamed.append(entry)

    def _contents(self, key: str, archived: bool) -> tuple[Digests, Digests]:
        """Return the digests of an object as stored, and of its uncompressed lines."""
        blocks = self._counted(self._destination.get(key))
        if not archived:
            stored = digests(blocks)
            return stored, stored
        with tempfile.NamedTemporaryFile(suffix=zst.SUFFIX) as file:
            stored = digests(_written(blocks, file))
            file.flush()
            return stored, digests(zst.blocks(Path(file.name)))

    def finish(self) -> None:
        """Store where the next share begins. Raises BackupFailed."""
        if not self.is_whole:
            self._destination.put(_POSITION_KEY, [msgspec.json.encode(_Position(self.done.position))])


def _written(blocks: Iterator[bytes], file: IO[bytes]) -> Iterator[bytes]:
    for block in blocks:
        file.write(block)
        yield block


def _position(destination: Destination) -> int:
    data = b""
    try:
        for block in destination.get(_POSITION_KEY):
            data += block
            if len(data) > _POSITION_MAX_BYTES:
                return 0
        return msgspec.json.decode(data, type=_Position).position % _RING
    except (ObjectUnreadable, msgspec.MsgspecError, UnicodeDecodeError):
        return 0


def still_bad(destination: Destination, catalog: BackupCatalog) -> dict[str, str]:
    """Return the bad objects that manifests still name, with the reasons. Raises BackupFailed.

    Another backup may have replaced some of them in the meantime.
    """
    if not catalog.bad:
        return {}
    named = {entry.key for entry in manifest.read(destination).entries()}
    return {key: why for key, why in catalog.bad.items() if key in named}
