"""Backing up a log, segment by segment, to a destination.

What is copied
    Of a segment that nobody owns, and of a sealed or archived one: everything, a torn tail
    included. Of one that somebody writes to: up to the last newline; the rest follows with
    a later run. A segment of which the destination has a copy of the same bytes is done; that these are
    the same is told by their hash, or by a file that was not written to since it was hashed (see `unchanged`).
    One with other bytes under the same name is stored beside that copy, and it is said. Besides segments, the
    blobs that their lines name: one that neither side has whole is a failure of each run until it is there.
    Each run looks whether the objects are there; whether they are whole, it looks where it is asked to
    (eventlog.maintenance.backup_check).

How
    1. hash the bytes, and those shorter copies that they should begin with;
    2. store them under a key that holds the hash;
    3. read the object back, and compare the hash;
    4. after some segments, store a manifest that names them: from here on they count;
    5. delete the shorter copies that they replace;
    6. record `segments_backed_up` for those that are finished, so that deleting them locally
       can be allowed; what was recorded before is read from the log, not remembered.
    A run that is killed anywhere is continued by the next one: what a manifest names is not
    copied again.

What happens meanwhile
    Producers go on. A segment that vanishes (released, pruned, archived) is passed over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from eventlog.config import Config
from eventlog.errors import BackupFailed, SegmentUnreadable, WriteFailed
from eventlog.format.control import Role
from eventlog.log import blob_references, layout, reader, zst
from eventlog.log.content import Extent, digests, extent, stored
from eventlog.log.layout import SegmentFile
from eventlog.maintenance import backup_check, file_stamps, manifest
from eventlog.maintenance.backup_check import Check
from eventlog.maintenance.blob_copies import Copier
from eventlog.maintenance.destination import Destination
from eventlog.maintenance.file_stamps import Match
from eventlog.maintenance.manifest import BackupCatalog, Entry
from eventlog.record.recorder import Recorder

BACKED_UP_EVENT = "segments_backed_up"

#: What a killed run has to do again, at most, apart from the segment it was at.
FLUSH_SEGMENTS = 100
FLUSH_BYTES = 256 * 1024 * 1024
_ANNOUNCED_TOGETHER = 1000
_SAID_MAX = 20
_NO_COPY = "there is no other copy, here or at the destination"

#: Called with the bytes done and the bytes to do.
Progress = Callable[[int, int], None]
Say = Callable[[str], None]


class BackedUpSegment(msgspec.Struct, frozen=True):
    """A finished segment of which a verified copy exists. Hash and size are of its uncompressed bytes."""

    segment: str
    sha256: str
    size_bytes: int


class SegmentsBackedUp(msgspec.Struct, frozen=True):
    """Payload of `segments_backed_up`: these segments can be had from the destination."""

    destination: str
    segments: list[BackedUpSegment]


class Done(msgspec.Struct):
    """What a backup did. `failures` says, for each segment that could not be copied, why."""

    copied: int = 0
    copied_bytes: int = 0
    present: int = 0
    #: Large fields, which are kept under `blobs/`.
    blobs_copied: int = 0
    blobs_copied_bytes: int = 0
    blobs_present: int = 0
    #: Objects of the destination that were read again; how many were not as stored, and how many still are not.
    checked: int = 0
    checked_bytes: int = 0
    damaged: int = 0
    still_damaged: int = 0
    #: Segments whose bytes are other ones than the destination had under their name: stored beside that copy.
    differing: list[str] = msgspec.field(default_factory=list)
    failures: list[str] = msgspec.field(default_factory=list)


class _SegmentChanged(Exception):
    """A segment is not what it was a moment ago; the message says in which way."""


def backup(
    root: str | Path,
    destination: Destination,
    *,
    say: Say,
    progress: Progress | None = None,
    dry_run: bool = False,
    check_share: float = 0.0,
) -> Done:
    """Copy to the destination what it does not have. Raises BackupFailed where it cannot be used.

    With `dry_run` nothing is written anywhere; the result says what would be copied. A share (0 to 1) of what
    the destination has is read again first, and what is damaged copied again; shares take turns.
    """
    catalog = manifest.read(destination)
    for damage in catalog.damages:
        say(
            f"{destination.name}/{damage.place} is damaged: {damage.reason}. What is named only there is copied "
            "again; remove that file when every log that is backed up to this place has been"
        )
    done = Done()
    keys = backup_check.note_missing(destination, catalog)
    copier = Copier(root, destination, dry_run=dry_run)
    check = Check(destination, catalog, copier, check_share) if check_share else None
    if check is not None:
        check.run(keys, progress)
        _say_damaged(destination, catalog, copier, done, say)
    listed, extents = _listed(root, catalog, done, say)
    matches = _matches(catalog, listed, extents, done, say)
    present = [each for each in listed if each.name in matches]
    missing = [each for each in present if _is_missing(matches[each.name], extents[each.name])]
    total = sum(extents[each.name].size for each in missing)
    done.present = len(present) - len(missing)
    # After the segments were looked at and before they are copied: no copy refers to a blob that is not there.
    copier.copy_listed()
    run = _Run(destination, catalog, copier, say, progress, total, done, matches)
    if dry_run:
        for segment in missing:
            run.copy_blobs(segment, extents[segment.name].size)
            for entry in catalog.copies(segment.event_type, segment.name):
                catalog.bad.pop(entry.key, None)
        done.copied, done.copied_bytes = len(missing), total
        _finish(done, run, check, dry_run=True)
        return done
    try:
        for entry in check.done.unnamed if check is not None else ():
            run.take_up(entry)
        for segment in missing:
            run.copy(segment, extents[segment.name])
        for segment in present:
            run.note(segment, extents[segment.name].size, again=check is not None and check.is_whole)
    except BaseException:
        # Interrupted, or the network is gone: then this fails as well, and the first error counts.
        with contextlib.suppress(BackupFailed):
            run.flush()
        raise
    run.flush()
    run.merge()
    _finish(done, run, check, dry_run=False)
    finished = [segment for segment in present if extents[segment.name].finished]
    try:
        _announce(root, _unannounced(root, destination.name, run, finished, extents, done), destination.name)
    except WriteFailed as error:  # a log that can only be read (a rescued disk) can be backed up
        say(f"the log does not say that it is backed up, so that prune will not count on it: {error}")
    return done


def _say_damaged(destination: Destination, catalog: BackupCatalog, copier: Copier, done: Done, say: Say) -> None:
    found = [*(f"{destination.name}/{key} {why}" for key, why in catalog.bad.items()), *copier.damaged.values()]
    done.damaged = len(found)
    for each in found[:_SAID_MAX]:
        say(each)
    if len(found) > _SAID_MAX:
        say(f"… and {len(found) - _SAID_MAX:,} more")


def _listed(
    root: str | Path, catalog: BackupCatalog, done: Done, say: Say
) -> tuple[list[SegmentFile], dict[str, Extent]]:
    """Return the segments that can be read, and how much of each is settled.

    What stands in the place of a segment that nothing else has is a failure.
    """
    listing = layout.list_log(root)
    here = {segment.name for segment in listing.segments}
    for entry in listing.skipped:
        name = entry.path.name.removesuffix(zst.SUFFIX).removesuffix(layout.SUFFIX)
        said = f"{str(entry.path)!r}: {entry.reason}"
        if layout.created_s(name) is None or name in here or catalog.copies(entry.path.parent.name, name):
            say(f"left out: {said}")
        else:
            done.failures.append(f"{said}; it has the name of a segment, of which {_NO_COPY}")
    extents: dict[str, Extent] = {}
    for segment in listing.segments:
        try:
            extents[segment.name] = extent(segment)
        except OSError as error:
            done.failures.append(_unreadable(segment, error))
    return [each for each in listing.segments if each.name in extents], extents


def _finish(done: Done, run: _Run, check: Check | None, *, dry_run: bool) -> None:
    """Say what is not backed up in the end."""
    bad = backup_check.still_bad(run.destination, run.catalog)
    blobs = run.copier.done
    done.blobs_copied, done.blobs_copied_bytes, done.blobs_present = blobs.copied, blobs.copied_bytes, blobs.present
    done.failures += run.copier.failures(run.named_missing)
    for key, why in bad.items():
        done.failures.append(
            f"{run.destination.name}/{key} {why}, and this root does not have the same lines; if another root or "
            "backup has them, back that up to this place"
        )
    if check is None:
        return
    done.checked, done.checked_bytes = check.done.objects, check.done.bytes
    done.still_damaged = len(bad) + len(run.copier.damaged)
    if dry_run:
        return
    if check.is_whole and not done.failures:
        manifest.renew(run.destination, run.catalog)
    check.finish()


def _matches(
    catalog: BackupCatalog, segments: list[SegmentFile], extents: dict[str, Extent], done: Done, say: Say
) -> dict[str, Match]:
    """Return by name which copies have the segments' bytes; one that cannot be read, or is gone, is left out."""
    matches: dict[str, Match] = {}
    for segment in segments:
        try:
            matches[segment.name] = file_stamps.find_copy(catalog, segment, extents[segment.name])
        except FileNotFoundError:
            say(_gone(segment))
        except OSError as error:
            done.failures.append(_unreadable(segment, error))
    return matches


def _gone(segment: SegmentFile) -> str:
    return f"{segment.path} is gone meanwhile (released, pruned or archived); passed over"


def _is_missing(match: Match, found: Extent) -> bool:
    if found.size == 0 and not found.finished:
        return False
    return match.entry is None


class _Run:
    """One run: copies segments, and makes them count in batches. `flush` has to be called last."""

    def __init__(
        self,
        destination: Destination,
        catalog: BackupCatalog,
        copier: Copier,
        say: Say,
        progress: Progress | None,
        total: int,
        done: Done,
        matches: dict[str, Match],
    ) -> None:
        self.destination = destination
        self.catalog = catalog
        self.copier = copier
        self._say = say
        self._progress = progress
        self._done = done
        # Each byte goes there, and comes back to be compared.
        self._steps_total, self._steps = 2 * total, 0
        self._matches = matches
        #: By the names of segments: the entries of the copies that have their bytes.
        self.entries = {name: match.entry for name, match in matches.items() if match.entry is not None}
        #: The segments that this run has copied.
        self.copied: set[str] = set()
        #: Chunks of which it was said that a line names them, and nobody has them.
        self.named_missing: set[str] = set()
        self._pending: list[Entry] = []

    def copy(self, segment: SegmentFile, found: Extent) -> None:
        """Copy and verify one segment. What is wrong with it alone becomes a failure."""
        steps_after = self._steps + 2 * found.size
        try:
            entry = self._copied(segment, found)
        except FileNotFoundError:
            self._say(_gone(segment))
        except _SegmentChanged as error:
            self._done.failures.append(f"{segment.path}: {error}")
        except OSError as error:
            self._done.failures.append(_unreadable(segment, error))
        else:
            self._done.copied += 1
            self._done.copied_bytes += entry.size_bytes
            self.copied.add(segment.name)
            self.entries[segment.name] = entry
            self._note(entry)
        self._step_to(steps_after)

    def copy_blobs(self, segment: SegmentFile, size: int) -> bool:
        """Have the destination have the blobs that the lines of a segment name; say whether it has them all."""
        complete = True
        try:
            for offset, named in blob_references.names(segment.path, end=size):
                for sha256 in sorted(named):
                    why = self.copier.copy(sha256)
                    if why is not None:
                        complete = False
                        self._note_missing(segment, offset, sha256, why)
        except SegmentUnreadable as error:
            self._done.failures.append(str(error))
            return False
        return complete

    def _note_missing(self, segment: SegmentFile, offset: int, sha256: str, why: str) -> None:
        if sha256 not in self.named_missing:
            self.named_missing.add(sha256)
            self._done.failures.append(
                f"{segment.path}: byte {offset:,}: this line names the blob {sha256}, which {self.destination.name} "
                f"does not have whole, and {why}"
            )

    def _copied(self, segment: SegmentFile, found: Extent) -> Entry:
        copies = self.catalog.copies(segment.event_type, segment.name)
        shorter = [each for each in copies if each.size_bytes <= found.size]
        stamp = file_stamps.stamp_of(segment.path, wait=found.finished)
        size, sha256, beginnings = digests(zst.blocks(segment.path, found.size), (each.size_bytes for each in shorter))
        if size != found.size:
            raise _SegmentChanged(f"has {size:,} bytes where there were {found.size:,}; look at who writes there")
        replaced = [each for each in shorter if beginnings[each.size_bytes] == each.sha256]
        self._say_differing(segment, size, [each for each in shorter if each not in replaced])
        complete = self.copy_blobs(segment, size)
        stored_bytes, stored_sha256, _ = digests(stored(segment.path)) if segment.archived else (size, sha256, {})
        entry = Entry(
            event_type=segment.event_type,
            segment=segment.name,
            size_bytes=size,
            sha256=sha256,
            stored_bytes=stored_bytes,
            stored_sha256=stored_sha256,
            archived=segment.archived,
            sealed=segment.sealed,
            replaces=tuple(each.stored_sha256 for each in replaced if each.stored_sha256 != stored_sha256),
            blobs=complete,
            stamp=stamp,
        )
        self.destination.put(entry.key, _readable(self._counted(stored(segment.path, stored_bytes))))
        back_bytes, back_sha256, _ = digests(self._counted(self.destination.get(entry.key)))
        if back_sha256 != stored_sha256:
            raise BackupFailed(
                f"{self.destination.name}: {entry.key} does not read back as it was sent "
                f"({back_bytes:,} of {stored_bytes:,} bytes); check the place's disk, and run the same again"
            )
        return entry

    def _say_differing(self, segment: SegmentFile, size: int, differing: list[Entry]) -> None:
        if not differing:
            return
        place = self.destination.name
        if differing[0].size_bytes == size:
            why = (
                f"{segment.path} has other bytes than the copy of the same size that {place} has of it: the file was "
                "changed, or two logs went on under one name. Both copies are kept; to see whether it is as it was "
                "sealed, run: eventlog verify"
            )
        else:
            why = (
                f"{segment.path} does not begin with the copy that {place} has of it: two logs "
                "went on under one name. Both copies are kept; use another prefix for one of the logs"
            )
        self._done.differing.append(why)
        self._say(why)

    def note(self, segment: SegmentFile, size: int, *, again: bool) -> None:
        """Note what has become of a segment that was copied before: it was sealed, or its blobs are there by now.

        Also what its file is, where it had to be hashed to know it.

        With `again`, its blobs are looked for though they were there once.
        """
        entry, stamp = self._matches[segment.name]
        if entry is None or segment.name in self.copied:
            return
        sealed = segment.sealed and not entry.sealed
        complete = (again or not entry.blobs) and self.copy_blobs(segment, size) and not entry.blobs
        if sealed or complete or stamp:
            noted = msgspec.structs.replace(
                entry,
                sealed=entry.sealed or sealed,
                blobs=entry.blobs or complete,
                stamp=stamp or entry.stamp,
                replaces=(),
            )
            self.entries[segment.name] = noted
            self._note(noted)

    def take_up(self, entry: Entry) -> None:
        """Make an object count that no manifest names any more."""
        self._note(entry)

    def _note(self, entry: Entry) -> None:
        self._pending.append(entry)
        if len(self._pending) >= FLUSH_SEGMENTS or sum(each.stored_bytes for each in self._pending) >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Make what was copied count. Raises BackupFailed."""
        if not self._pending:
            return
        self.catalog.keys.append(manifest.write(self.destination, self._pending))
        superfluous = [
            copy.key
            for entry in self._pending
            for copy in self.catalog.copies(entry.event_type, entry.segment)
            if copy.stored_sha256 in entry.replaces
        ]
        for entry in self._pending:
            self.catalog.add(entry)
            self.catalog.bad.pop(entry.key, None)
        self._pending.clear()
        for key in superfluous:
            self.catalog.bad.pop(key, None)
        # Only now: until the manifest was stored, the shorter copies were the ones that counted.
        with self._tidying():
            for key in superfluous:
                self.destination.delete(key)

    def merge(self) -> None:
        """Keep the manifests few."""
        with self._tidying():
            manifest.merge(self.destination, self.catalog)

    @contextlib.contextmanager
    def _tidying(self) -> Iterator[None]:
        """Whoever may write but not delete has a good backup, only a larger one."""
        try:
            yield
        except BackupFailed as error:
            self._say(f"superfluous objects stay where they are: {error}")

    def _counted(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        for block in blocks:
            yield block
            self._step_to(self._steps + len(block))

    def _step_to(self, steps: int) -> None:
        self._steps = min(steps, self._steps_total)
        if self._progress is not None:
            self._progress(self._steps, self._steps_total)


def _unreadable(segment: SegmentFile, error: OSError) -> str:
    return f"{segment.path}: cannot be read: {error.strerror}; check its permissions and the disk"


def _readable(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Tell an error of reading a segment from one of the folder that it is written to."""
    try:
        yield from blocks
    except OSError as error:
        raise _SegmentChanged(f"could be read, and cannot any more: {error.strerror}; check the disk") from error


def _unannounced(
    root: str | Path,
    destination: str,
    run: _Run,
    finished: list[SegmentFile],
    extents: dict[str, Extent],
    done: Done,
) -> list[BackedUpSegment]:
    """Return the finished segments of which the log does not say yet that they are backed up."""
    said = _announced(root, destination)
    found: list[BackedUpSegment] = []
    for segment in finished:
        # The segment of these events grows with each of them: announcing it would never end.
        if segment.event_type == BACKED_UP_EVENT and not segment.sealed:
            continue
        size = extents[segment.name].size
        entry = run.entries.get(segment.name)
        if entry is None or not entry.blobs or (segment.name, entry.sha256) in said:
            continue
        try:
            # On this word a segment may be deleted, so that a stamp is not enough for it.
            if segment.name in run.copied or digests(zst.blocks(segment.path, size)).sha256 == entry.sha256:
                found.append(BackedUpSegment(segment.name, entry.sha256, entry.size_bytes))
            else:
                done.failures.append(
                    f"{segment.path}: was changed while it was backed up to {destination}; look at who writes there, "
                    "and run the same again"
                )
        except FileNotFoundError:
            pass  # gone meanwhile: there is nothing left to delete
        except OSError as error:
            done.failures.append(_unreadable(segment, error))
    return found


def _announce(root: str | Path, segments: list[BackedUpSegment], destination: str) -> None:
    if not segments:
        return
    recorder = Recorder(Config(root=str(root), strict=True), role=Role.MAINTENANCE)
    try:
        for start in range(0, len(segments), _ANNOUNCED_TOGETHER):
            together = segments[start : start + _ANNOUNCED_TOGETHER]
            recorder.emit(BACKED_UP_EVENT, SegmentsBackedUp(destination, together))
    finally:
        recorder.shutdown()


def _announced(root: str | Path, destination: str) -> set[tuple[str, str]]:
    """Return (segment, sha256) of all that the log says to be at the destination."""
    found: set[tuple[str, str]] = set()
    for _, event in reader.read_events(root, BACKED_UP_EVENT):
        with contextlib.suppress(msgspec.MsgspecError):
            backed_up = msgspec.json.decode(event.payload, type=SegmentsBackedUp)
            if backed_up.destination == destination:
                found.update((each.segment, each.sha256) for each in backed_up.segments)
    return found
