"""The manifests of a backup: which of its objects are verified copies of which segments.

    log/<event_type>/<segment>.<sha256>.jsonl[.zst]    the bytes of a segment
    manifests/<time>-<random>.jsonl                    lines that say which of them count

Every object is written once, under a key that holds the hash of its bytes, and never overwritten. The copy of
a segment that has grown stands beside the shorter one until a manifest names the longer one, so that a crash
leaves the old copy or both. Hosts that share a destination cannot overwrite each other's objects.

A manifest line is an `Entry`: these bytes were stored, read back, and had this hash. An object that no line
names does not count. An entry also names the shorter copies that it replaces, which are its beginnings; their
objects are deleted once the line is stored.

Many small manifests are merged: the new one is stored before the old ones are deleted. A reader that misses a
listed manifest starts again.

An entry does not prove that its object still exists and is whole. An object that is missing or damaged is `bad`,
and counts as not backed up until it is stored again (docs/decisions/0012-backup-objects-are-written-once.md).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator
from typing import Annotated, NamedTuple

import msgspec

from eventlog.errors import BackupFailed, ObjectMissing, ObjectUnreadable
from eventlog.format.envelope import EVENT_TYPE
from eventlog.log import layout
from eventlog.maintenance.destination import Destination

FOLDER = "manifests"
_MERGE_AT = 64
_LINE_MAX_BYTES = 64 * 1024
_READ_TRIES = 5

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Size = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One verified object. `size_bytes` and `sha256` are of the uncompressed lines, `stored_…` of the object.

    `sealed`: the segment was read-only. `replaces`: the `stored_sha256` of shorter copies of the segment.
    `blobs`: the backup had all blobs that its lines name. `stamp`: tells whether the file changed since it was
    read (eventlog.maintenance.file_stamps); "" means that the file has to be hashed again.
    """

    event_type: str
    segment: str
    size_bytes: Size
    sha256: Sha256
    stored_bytes: Size
    stored_sha256: Sha256
    archived: bool = False
    sealed: bool = False
    replaces: tuple[Sha256, ...] = ()
    blobs: bool = False
    stamp: str = ""

    @property
    def file_name(self) -> str:
        """The name of the segment's file in a log, such as `20260102T030405000000Z-0123456789abcdef.jsonl`."""
        return self.segment + (layout.ARCHIVE_SUFFIX if self.archived else layout.SUFFIX)

    @property
    def key(self) -> str:
        """The object's key. It is derived, never read: a manifest cannot point outside the backup."""
        ending = self.file_name.removeprefix(self.segment)
        return f"log/{self.event_type}/{self.segment}.{self.stored_sha256}{ending}"


class Damage(NamedTuple):
    """A manifest, or a line of one (`<key>, line 3`), that cannot be used, and why."""

    location: str
    reason: str


class BackupCatalog:
    """All entries of a destination, without those that others replace."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], dict[str, Entry]] = {}
        self._replaced: dict[tuple[str, str], set[str]] = {}
        self.damages: list[Damage] = []
        #: The keys of manifests that were read without damage, and of the others.
        self.keys: list[str] = []
        self.damaged_keys: list[str] = []
        #: Why an object is missing or damaged, by its key.
        self.bad: dict[str, str] = {}

    def add(self, entry: Entry) -> None:
        """Add an entry. The order of entries does not matter."""
        name = (entry.event_type, entry.segment)
        replaced = self._replaced.setdefault(name, set())
        replaced.update(entry.replaces)
        entries = self._entries.setdefault(name, {})
        before = entries.get(entry.stored_sha256)
        # The same bytes, sealed later: keep what either entry knows.
        entries[entry.stored_sha256] = msgspec.structs.replace(
            entry,
            sealed=entry.sealed or (before is not None and before.sealed),
            blobs=entry.blobs or (before is not None and before.blobs),
            stamp=entry.stamp or (before.stamp if before is not None else ""),
            replaces=tuple(sorted({*entry.replaces, *(before.replaces if before else ())})),
        )
        for stored in replaced:
            entries.pop(stored, None)

    def replaces(self, event_type: str, segment: str, stored_sha256: str) -> bool:
        """Say whether a copy of a segment was replaced by a longer one."""
        return stored_sha256 in self._replaced.get((event_type, segment), ())

    def entries(self) -> list[Entry]:
        """Return the entries of all segments."""
        return [entry for copies in self.segments() for entry in copies]

    def copies(self, event_type: str, segment: str) -> list[Entry]:
        """Return the entries of a segment, longest first. More than one is unusual."""
        entries = self._entries.get((event_type, segment), {}).values()
        return sorted(entries, key=lambda entry: (-entry.size_bytes, entry.stored_sha256))

    def segments(self) -> list[list[Entry]]:
        """Return the copies of each segment, sorted by type and name."""
        return [self.copies(*name) for name in sorted(self._entries)]


def read(destination: Destination) -> BackupCatalog:
    """Read all manifests; damaged ones are listed in `damages`. Raises BackupFailed."""
    for _ in range(_READ_TRIES):
        catalog = BackupCatalog()
        try:
            for key in destination.list(FOLDER):
                _read_one(destination, key, catalog)
        except ObjectMissing:  # merged by another run since it was listed
            continue
        return catalog
    raise BackupFailed(f"{destination.name}: the manifests change faster than they can be read; try again")


def write(destination: Destination, entries: Iterable[Entry]) -> str:
    """Store a manifest, read it back, and return its key, such as `manifests/….jsonl`. Raises BackupFailed."""
    data = b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)
    key = f"{FOLDER}/{layout.new_segment_name(time.time_ns())}.jsonl"
    destination.put(key, [data])
    if hashlib.sha256(b"".join(destination.get(key))).digest() != hashlib.sha256(data).digest():
        raise BackupFailed(f"{destination.name}: {key} does not read back as it was stored; check the place's disk")
    return key


def merge(destination: Destination, catalog: BackupCatalog) -> None:
    """Merge the manifests into one where there are 64 or more. Raises BackupFailed; nothing is lost then."""
    if len(catalog.keys) >= _MERGE_AT:
        _replace(destination, catalog, catalog.keys)


def renew(destination: Destination, catalog: BackupCatalog) -> None:
    """Replace all manifests by a new one where one is damaged. Raises BackupFailed.

    Only for a run that has read every object: it has found those whose lines are lost by their keys.
    """
    if catalog.damaged_keys:
        _replace(destination, catalog, [*catalog.keys, *catalog.damaged_keys])
        catalog.damaged_keys.clear()


def _replace(destination: Destination, catalog: BackupCatalog, keys: list[str]) -> None:
    merged = write(destination, catalog.entries())
    for key in keys:
        destination.delete(key)
    catalog.keys = [merged]


def _read_one(destination: Destination, key: str, catalog: BackupCatalog) -> None:
    damages = len(catalog.damages)
    try:
        for number, line in enumerate(_lines(destination.get(key)), 1):
            try:
                catalog.add(_checked(line))
            except (msgspec.MsgspecError, ValueError) as error:
                catalog.damages.append(Damage(f"{key}, line {number}", str(error)))
    except ObjectMissing:
        raise
    except ObjectUnreadable as error:
        catalog.damages.append(Damage(key, str(error)))
    (catalog.keys if len(catalog.damages) == damages else catalog.damaged_keys).append(key)


def _lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
        if len(rest) > _LINE_MAX_BYTES:
            yield rest  # it is refused: no manifest line is that long
            return
    if rest:
        yield rest


def _checked(line: bytes) -> Entry:
    """Decode a line and check everything in it: file names are made of it. Raises ValueError and MsgspecError."""
    if len(line) > _LINE_MAX_BYTES:
        raise ValueError("the line is too long")
    entry = msgspec.json.decode(line, type=Entry)
    if not EVENT_TYPE.fullmatch(entry.event_type):
        raise ValueError(f"{entry.event_type!r} is not an event type")
    if layout.created_s(entry.segment) is None:
        raise ValueError(f"{entry.segment!r} is not the name of a segment")
    if not entry.archived and (entry.size_bytes, entry.sha256) != (entry.stored_bytes, entry.stored_sha256):
        raise ValueError("it is not archived, and yet stored otherwise than it is")
    return entry
