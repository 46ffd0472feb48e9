"""Backing up a log, segment by segment, to a destination.

What is copied
    All of a segment that nobody writes to, with its torn tail. Of a segment that somebody writes to, the lines
    up to its last newline; a later run copies the rest. A segment is done once the destination has a copy of the
    same bytes: their hash says so, or a stamp says that the file did not change since it was hashed
    (eventlog.maintenance.file_stamps). Other bytes under the same name are stored beside the earlier copy, with a
    warning. Blobs that lines name are copied too; one that neither side has whole is a failure of each run until
    it is back. Each run checks that all objects exist; it checks their bytes only when asked to
    (eventlog.maintenance.backup_check).

How
    1. hash the bytes, and their beginnings of the lengths of shorter copies;
    2. store them under a key that holds the hash;
    3. read the object back, and compare the hash;
    4. after some segments, store a manifest that names them: from here on they count;
    5. delete the shorter copies that they replace;
    6. log `segments_backed_up` for finished segments, so that retention may delete them
       (eventlog.maintenance.backup_log).
    The next run continues a killed one: what a manifest names is not copied again.

Meanwhile
    Producers go on writing. A segment that vanishes (released, pruned, archived) is skipped.

docs/decisions/0012-backup-objects-are-written-once.md says why.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from eventlog.errors import BackupFailed, SegmentUnreadable, WriteFailed
from eventlog.log import blob_references, layout, zst
from eventlog.log.content import Extent, digests, extent, stored
from eventlog.log.layout import SegmentFile
from eventlog.maintenance import backup_check, file_stamps, manifest
from eventlog.maintenance.backup_check import Check
from eventlog.maintenance.backup_log import BACKED_UP_EVENT, BackedUpSegment, log_copies, read_copies
from eventlog.maintenance.blob_copies import Copier
from eventlog.maintenance.destination import Destination
from eventlog.maintenance.file_stamps import Match
from eventlog.maintenance.manifest import BackupCatalog, Entry

#: A manifest is written after so many segments or bytes: at most this much is copied again after a kill.
FLUSH_SEGMENTS = 100
FLUSH_BYTES = 256 * 1024 * 1024
_SHOWN_MAX = 20
_NO_COPY = "there is no other copy, here or at the destination"

#: Called with the bytes done and the bytes in all.
Progress = Callable[[int, int], None]
Say = Callable[[str], None]


class Done(msgspec.Struct):
    """What a backup did: counts of segments, and sizes in bytes on disk. `failures` has a message for each failure."""

    copied: int = 0
    copied_bytes: int = 0
    present: int = 0
    #: Chunks of large fields.
    blobs_copied: int = 0
    blobs_copied_bytes: int = 0
    blobs_present: int = 0
    #: Objects of the destination that were read again; how many were damaged, and how many still are.
    checked: int = 0
    checked_bytes: int = 0
    damaged: int = 0
    still_damaged: int = 0
    #: Messages about segments whose bytes differ from the destination's copy: they are stored beside it.
    differing: list[str] = msgspec.field(default_factory=list)
    failures: list[str] = msgspec.field(default_factory=list)


class _SegmentChanged(Exception):
    """A segment changed while it was copied; the message says how."""


class _SegmentGone(Exception):
    """A segment was deleted while it was copied."""


def backup(
    root: str | Path,
    destination: Destination,
    *,
    say: Say,
    progress: Progress | None = None,
    dry_run: bool = False,
    check_share: float = 0.0,
) -> Done:
    """Copy to the destination what it does not have. Raises BackupFailed where the destination cannot be used.

    With `dry_run` nothing is written; the result says what would be copied. With `check_share` (0 to 1), that
    share of the destination's objects is read first, and damaged ones are copied again; the next run reads the next
    share. `say` gets messages for the user.
    """
    catalog = manifest.read(destination)
    for damage in catalog.damages:
        say(
            f"{destination.name}/{damage.location} is damaged: {damage.reason}. Segments that only it names are copied "
            "again; remove that file once every log that is backed up to this place was backed up again"
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
    present = [segment for segment in listed if segment.name in matches]
    missing = [segment for segment in present if _is_missing(matches[segment.name], extents[segment.name])]
    total = sum(extents[segment.name].size for segment in missing)
    done.present = len(present) - len(missing)
    # After the extents were taken and before the segments are copied: no copy refers to a blob that is not there.
    copier.copy_listed()
    run = _Run(destination, catalog, copier, say, progress, total, done, matches)
    if dry_run:
        for segment in missing:
            run.copy_blobs(segment, extents[segment.name].size)
            for entry in catalog.copies(segment.event_type, segment.name):
                catalog.bad.pop(entry.key, None)
        done.copied = len(missing)
        done.copied_bytes = sum(_disk_bytes(segment, extents[segment.name]) for segment in missing)
        _finish(done, run, check, dry_run=True)
        return done
    try:
        for entry in check.done.unnamed if check is not None else ():
            run.count_again(entry)
        for segment in missing:
            run.copy(segment, extents[segment.name])
        for segment in present:
            run.update(segment, extents[segment.name].size, again=check is not None and check.is_whole)
    except BaseException:
        # Interrupted, or the network is gone: then this fails as well, and the first error is raised.
        with contextlib.suppress(BackupFailed):
            run.flush()
        raise
    run.flush()
    run.merge()
    _finish(done, run, check, dry_run=False)
    destination.finish()
    finished = [segment for segment in present if extents[segment.name].finished]
    try:
        log_copies(root, _unlogged(root, destination.name, run, finished, extents, done), destination.name)
    except WriteFailed as error:  # a log that can only be read (a rescued disk) can be backed up
        say(f"the log cannot record that it is backed up, so prune will not rely on this backup: {error}")
    return done


def _say_damaged(destination: Destination, catalog: BackupCatalog, copier: Copier, done: Done, say: Say) -> None:
    messages = [*(f"{destination.name}/{key} {why}" for key, why in catalog.bad.items()), *copier.damaged.values()]
    done.damaged = len(messages)
    for message in messages[:_SHOWN_MAX]:
        say(message)
    if len(messages) > _SHOWN_MAX:
        say(f"… and {len(messages) - _SHOWN_MAX:,} more")


def _disk_bytes(segment: SegmentFile, extent: Extent) -> int:
    """Return what a copy of a segment takes: of an archived one, the compressed bytes."""
    try:
        return segment.path.stat().st_size if segment.archived else extent.size
    except OSError:  # deleted meanwhile
        return extent.size


def _listed(
    root: str | Path, catalog: BackupCatalog, done: Done, say: Say
) -> tuple[list[SegmentFile], dict[str, Extent]]:
    """Return the segments that can be read, and the extent of each by name.

    An entry with the name of a segment of which there is no other copy is a failure.
    """
    listing = layout.list_log(root)
    here = {segment.name for segment in listing.segments}
    for entry in listing.skipped:
        name = entry.path.name.removesuffix(zst.SUFFIX).removesuffix(layout.SUFFIX)
        message = f"{str(entry.path)!r}: {entry.reason}"
        if layout.created_s(name) is None or name in here or catalog.copies(entry.path.parent.name, name):
            say(f"left out: {message}")
        else:
            done.failures.append(f"{message}; it has the name of a segment, of which {_NO_COPY}")
    extents: dict[str, Extent] = {}
    for segment in listing.segments:
        try:
            extents[segment.name] = extent(segment)
        except OSError as error:
            done.failures.append(_unreadable(segment, error))
    return [segment for segment in listing.segments if segment.name in extents], extents


def _finish(done: Done, run: _Run, check: Check | None, *, dry_run: bool) -> None:
    """Complete the result: counts of blobs and checked objects, and failures for what is not backed up."""
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
    """Return, by segment name, the copy with its bytes. A segment that is gone or cannot be read is left out."""
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
    return f"{segment.path} was deleted in the meantime (released, pruned or archived); skipped"


def _is_missing(match: Match, extent: Extent) -> bool:
    if extent.size == 0 and not extent.finished:
        return False
    return match.entry is None


class _Run:
    """One run: copies segments, and makes them count by manifests. Call `flush` last."""

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
        # Each byte is sent, and read back.
        self._steps_total, self._steps = 2 * total, 0
        self._matches = matches
        #: The entries of the copies with the segments' bytes, by segment name.
        self.entries = {name: match.entry for name, match in matches.items() if match.entry is not None}
        #: The names of the segments that this run has copied.
        self.copied: set[str] = set()
        #: Chunks that a failure names already: a line names them, and neither side has them.
        self.named_missing: set[str] = set()
        self._pending: list[Entry] = []

    def copy(self, segment: SegmentFile, extent: Extent) -> None:
        """Copy and verify one segment. An error of this segment alone becomes a failure."""
        steps_after = self._steps + 2 * extent.size
        try:
            entry = self._copied(segment, extent)
        except (FileNotFoundError, _SegmentGone):
            self._say(_gone(segment))
        except _SegmentChanged as error:
            self._done.failures.append(f"{segment.path}: {error}")
        except OSError as error:
            self._done.failures.append(_unreadable(segment, error))
        else:
            self._done.copied += 1
            self._done.copied_bytes += entry.stored_bytes
            self.copied.add(segment.name)
            self.entries[segment.name] = entry
            self._add(entry)
        self._step_to(steps_after)

    def copy_blobs(self, segment: SegmentFile, size: int) -> bool:
        """Copy the blobs that the first `size` bytes of a segment name; return whether the destination has all.

        Of a segment that was deleted in the meantime, with its blobs, that is not known: False, and no failure.
        """
        complete = True
        try:
            for offset, named in blob_references.names(segment.path, end=size):
                for sha256 in sorted(named):
                    why = self.copier.copy(sha256)
                    if why is not None:
                        if layout.refreshed(segment) is None:
                            return False
                        complete = False
                        self._fail_missing(segment, offset, sha256, why)
        except SegmentUnreadable as error:
            self._done.failures.append(str(error))
            return False
        # A file that is gone reads as if it named no blob.
        return complete and layout.refreshed(segment) is not None

    def _fail_missing(self, segment: SegmentFile, offset: int, sha256: str, why: str) -> None:
        if sha256 not in self.named_missing:
            self.named_missing.add(sha256)
            self._done.failures.append(
                f"{segment.path}: byte {offset:,}: this line names the blob {sha256}, which {self.destination.name} "
                f"does not have whole, and {why}"
            )

    def _copied(self, segment: SegmentFile, extent: Extent) -> Entry:
        copies = self.catalog.copies(segment.event_type, segment.name)
        shorter = [copy for copy in copies if copy.size_bytes <= extent.size]
        stamp = file_stamps.stamp_of(segment.path, wait=extent.finished)
        size, sha256, beginnings = digests(zst.blocks(segment.path, extent.size), (copy.size_bytes for copy in shorter))
        if size != extent.size:
            raise _SegmentChanged(f"has {size:,} bytes where there were {extent.size:,}; look at who writes there")
        replaced = [copy for copy in shorter if beginnings[copy.size_bytes] == copy.sha256]
        self._say_differing(segment, size, [copy for copy in shorter if copy not in replaced])
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
            replaces=tuple(copy.stored_sha256 for copy in replaced if copy.stored_sha256 != stored_sha256),
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
        name = self.destination.name
        if differing[0].size_bytes == size:
            why = (
                f"{segment.path} has other bytes than the copy of the same size that {name} has of it: the file was "
                "changed, or two logs went on under one name. Both copies are kept; to see whether it is as it was "
                "sealed, run: eventlog verify"
            )
        else:
            why = (
                f"{segment.path} does not begin with the copy that {name} has of it: two logs "
                "went on under one name. Both copies are kept; use another prefix for one of the logs"
            )
        self._done.differing.append(why)
        self._say(why)

    def update(self, segment: SegmentFile, size: int, *, again: bool) -> None:
        """Update the entry of a segment that an earlier run copied: sealed since, blobs complete, a new stamp.

        With `again`, its blobs are checked even if they were complete.
        """
        entry, stamp = self._matches[segment.name]
        if entry is None or segment.name in self.copied:
            return
        sealed = segment.sealed and not entry.sealed
        complete = (again or not entry.blobs) and self.copy_blobs(segment, size) and not entry.blobs
        if sealed or complete or stamp:
            updated = msgspec.structs.replace(
                entry,
                sealed=entry.sealed or sealed,
                blobs=entry.blobs or complete,
                stamp=stamp or entry.stamp,
                replaces=(),
            )
            self.entries[segment.name] = updated
            self._add(updated)

    def count_again(self, entry: Entry) -> None:
        """Add an object that no manifest names any more to the next manifest."""
        self._add(entry)

    def _add(self, entry: Entry) -> None:
        self._pending.append(entry)
        if len(self._pending) >= FLUSH_SEGMENTS or sum(entry.stored_bytes for entry in self._pending) >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Store a manifest of what was copied, which makes it count. Raises BackupFailed."""
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
        # Only now: until the manifest was stored, the shorter copies counted.
        with self._tidying():
            for key in superfluous:
                self.destination.delete(key)

    def merge(self) -> None:
        """Merge the manifests where there are many."""
        with self._tidying():
            manifest.merge(self.destination, self.catalog)

    @contextlib.contextmanager
    def _tidying(self) -> Iterator[None]:
        """Report a failed deletion only: without the right to delete, the backup is good, and larger."""
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
    """Yield blocks; turn an error of reading the segment into one of this module: it is not one of the destination."""
    try:
        yield from blocks
    except FileNotFoundError:
        raise _SegmentGone from None
    except OSError as error:
        raise _SegmentChanged(f"could be read, and cannot any more: {error.strerror}; check the disk") from error


def _unlogged(
    root: str | Path,
    destination: str,
    run: _Run,
    finished: list[SegmentFile],
    extents: dict[str, Extent],
    done: Done,
) -> list[BackedUpSegment]:
    """Return the finished segments that are backed up, and that the log does not name yet as such."""
    logged = {(copy.segment, copy.sha256) for name, copy in read_copies(root) if name == destination}
    unlogged: list[BackedUpSegment] = []
    for segment in finished:
        # The segment of these events grows with each of them: logging its own copy would never end.
        if segment.event_type == BACKED_UP_EVENT and not segment.sealed:
            continue
        size = extents[segment.name].size
        entry = run.entries.get(segment.name)
        if entry is None or not entry.blobs or (segment.name, entry.sha256) in logged:
            continue
        try:
            # This event allows the segment to be deleted, so a stamp is not enough: the bytes are hashed.
            if segment.name in run.copied or digests(zst.blocks(segment.path, size)).sha256 == entry.sha256:
                unlogged.append(BackedUpSegment(segment.name, entry.sha256, entry.size_bytes))
            else:
                done.failures.append(
                    f"{segment.path}: was changed while it was backed up to {destination}; look at who writes there, "
                    "and run the same again"
                )
        except FileNotFoundError:
            pass  # deleted in the meantime: there is nothing left to delete
        except OSError as error:
            done.failures.append(_unreadable(segment, error))
    return unlogged
