"""Restoring a log from a backup, without losing a line that is in the log.

| the segment in the log                        | what happens                          |
| --------------------------------------------- | ------------------------------------- |
| is missing                                    | it is restored                        |
| has the same bytes                            | nothing                               |
| begins with the backup's bytes                | nothing: it has grown since           |
| is a beginning of the backup's, nobody writes | it is replaced                        |
| is that, but somebody writes to it            | it stays, and that is a failure       |
| has other bytes                               | both are kept, and that is a failure  |

A restored segment may lack lines that were written after the backup. So no writer continues one: it gets its
final mode (`segment.RESTORED_MODE`) before its name, and writers begin another segment. Where a seal or a
pruning says that a segment had other bytes than the copy, the copy is restored under a name made of its own hash,
so that the sealed name stands for the sealed bytes alone. The same is done with the shorter of two copies that
diverged. Seals and prunings are restored first, because they say so.

Each object is written to `<root>/restore.partial`, hashed on the way, synced, and only then linked into the log.
A killed run leaves that file, which the next run overwrites; segments that it has restored have the same bytes.
One restore at a time works on a root: it locks `<root>/restore.lock`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from eventlog.errors import BackupFailed, MaintenanceBusy, ObjectUnreadable
from eventlog.log import layout, zst
from eventlog.log.content import Digests, digests
from eventlog.log.pruned import PRUNED_EVENT, read_pruned
from eventlog.log.sealed_or_pruned import SEAL_EVENT
from eventlog.log.segment import is_owned, name_file, protect_restored, replace_if_finished, sync_folder
from eventlog.maintenance import blob_copies, manifest, sealing
from eventlog.maintenance.backup import Progress
from eventlog.maintenance.destination import Destination
from eventlog.maintenance.manifest import Entry
from eventlog.process import forks, root_files

#: Restored first: these events say which bytes other segments have.
_FIRST = frozenset({SEAL_EVENT, PRUNED_EVENT})


class Restored(msgspec.Struct):
    """Counts of segments, sizes in bytes. `failures` has a message for each segment that was not restored."""

    restored: int = 0
    restored_bytes: int = 0
    present: int = 0
    #: Chunks of large fields.
    blobs_restored: int = 0
    blobs_present: int = 0
    failures: list[str] = msgspec.field(default_factory=list)
    #: Messages about copies that were restored under another name.
    renamed: list[str] = msgspec.field(default_factory=list)


class _Refused(Exception):
    """This segment is not restored; the message says why."""


class _Differs(_Refused):
    """The log has another file of this name."""


class _Sealed(Exception):
    """While the copy was fetched, the segment was sealed or pruned with other bytes."""


def restore(
    root: str | Path,
    source: Destination,
    *,
    progress: Progress | None = None,
    dry_run: bool = False,
) -> Restored:
    """Restore the segments and blobs of a backup that the log of `root` does not have.

    With `dry_run` nothing is downloaded or written; the result says what would be tried. Raises BackupFailed where
    there is no backup, it cannot be reached, or the disk is full; MaintenanceBusy where another restore works on
    the root.
    """
    catalog = manifest.read(source)
    segments = catalog.segments()
    if not segments and not catalog.damages:
        lost = "its manifests are gone: try eventlog backup --verify" if source.list("log") else "check the name"
        raise BackupFailed(f"{source.name}: there is no backup (no manifests); {lost}")
    done = Restored(
        failures=[
            f"{source.name}/{location} is damaged: {reason}; segments that only it names are not restored"
            for location, reason in catalog.damages
        ]
    )
    with contextlib.nullcontext() if dry_run else _alone(Path(root)):
        _restore_blobs(Path(root), source, done, dry_run=dry_run)  # first: no line may name a missing blob
        run = _Run(Path(root), source, progress, sum(copies[0].stored_bytes for copies in segments), dry=dry_run)
        for copies in sorted(segments, key=lambda copies: copies[0].event_type not in _FIRST):
            if copies[0].event_type not in _FIRST:
                run.learn_contents()
            _restore_one(run, copies, done)
        if not dry_run:
            _protect_sealed(Path(root))
    return done


def _restore_blobs(root: Path, source: Destination, done: Restored, *, dry_run: bool = False) -> None:
    copied = blob_copies.from_source(root, source, dry_run=dry_run, full=_full)
    done.blobs_restored, done.blobs_present = copied.copied, copied.present
    done.failures += copied.failures


def _protect_sealed(root: Path) -> None:
    """Make sealed segments read-only: a backup may hold a segment from before its seal, and the seal."""
    sealed = {link.seal.segment for link in sealing.read_chain(root, damaged={})}
    try:
        for file in layout.list_log(root).segments:
            if file.name in sealed:
                sealing.protect(file)
    except OSError as error:
        raise _full(root, error) from error


def _restore_one(run: _Run, copies: list[Entry], done: Restored) -> None:
    entry = copies[0]
    try:
        fetched = run.restore(copies, done.renamed)
    except (_Refused, ObjectUnreadable) as error:
        done.failures.append(f"{entry.event_type}/{entry.segment}: {error}")
    else:
        if fetched:
            done.restored += 1
            done.restored_bytes += entry.stored_bytes
        else:
            done.present += 1


class _Run:
    """The state of one restore."""

    def __init__(
        self, root: Path, source: Destination, progress: Progress | None, total_bytes: int, *, dry: bool = False
    ) -> None:
        self._root = root
        self._source = source
        self._progress = progress
        self._done_bytes, self._total_bytes = 0, total_bytes
        self._dry = dry
        self._contents: dict[str, set[tuple[int, str]]] | None = None
        self._learned_from: list[tuple[str, int, int]] = []

    def learn_contents(self) -> None:
        """Read the sizes and hashes of segments, by name, from seals and prunings, if there are new ones."""
        files = [
            (file.name, file.size, file.mtime_ns) for kind in _FIRST for file in layout.list_type(self._root, kind)
        ]
        if self._contents is not None and files == self._learned_from:
            return
        self._contents, self._learned_from = {}, files
        for link in sealing.read_chain(self._root, damaged={}):
            self._contents.setdefault(link.seal.segment, set()).add((link.seal.size_bytes, link.seal.sha256))
        for name, accounts in read_pruned(self._root, damaged={}).items():
            self._contents.setdefault(name, set()).update(
                (account.pruned.size_bytes, account.pruned.sha256) for account in accounts
            )

    def restore(self, copies: list[Entry], renamed: list[str]) -> bool:
        """Restore a segment from its longest copy, and copies that diverged from it; return False if the log has it.

        Appends a message to `renamed` for each copy that is restored under another name. Raises _Refused.
        """
        entry, *shorter = self._in_order(copies)
        done_after = self._done_bytes + entry.stored_bytes
        sizes = {copy.size_bytes for copy in shorter}
        contents = (self._contents or {}).get(entry.segment)
        name = entry.segment
        if contents and not self._is_as_sealed(entry) and not self._is_here(entry):
            name = _name_of(entry)
        differs = False
        try:
            fetched, beginnings = self._restore_as(entry, name, sizes)
        except _Sealed:
            name = _name_of(entry)
            fetched, beginnings = self._restore_as(entry, name, sizes)
            contents = (self._contents or {}).get(entry.segment)
        except _Differs:
            name, differs = _name_of(entry), True
            fetched, beginnings = self._restore_as(entry, name, sizes)
        if fetched and contents and not differs and name != entry.segment:
            sealed = max(size for size, _ in contents)
            why = f"the copy has {entry.size_bytes:,} bytes, and {sealed:,} were sealed"
            renamed.append(f"{entry.event_type}/{entry.segment}: {why}; it is restored as {name}")
        for copy in shorter:
            if not self._dry and beginnings[copy.size_bytes] != copy.sha256:
                self._restore_diverged(copy, renamed)
        self._step_to(done_after)
        if differs:
            raise _Refused(
                f"the log has other bytes than the backup, and they stay; the backup's are restored as {name}"
            )
        return fetched

    def _in_order(self, copies: list[Entry]) -> list[Entry]:
        """Among the longest copies, put the one as sealed first, or else the one that the log has."""
        longest = [copy for copy in copies if copy.size_bytes == copies[0].size_bytes]
        if len(longest) > 1:
            longest.sort(key=lambda copy: (not self._is_as_sealed(copy), not self._is_here(copy)))
        return [*longest, *copies[len(longest) :]]

    def _restore_diverged(self, entry: Entry, renamed: list[str]) -> None:
        """Restore a copy that is not the beginning of the longest one, unless the log has it under its own name."""
        if self._is_here(entry):
            return
        name = _name_of(entry)
        if self._restore_as(entry, name, set())[0]:
            why = "two logs went on under this name, or its file was changed"
            renamed.append(f"{entry.event_type}/{entry.segment}: {why}; the other copy is restored as {name}")

    def _is_here(self, entry: Entry) -> bool:
        """Say whether the log has all bytes of a copy under the copy's name."""
        try:
            here = self._find(entry, entry.segment)
            return here is not None and _compared(here, entry, set()).size == entry.size_bytes
        except _Refused:
            return False

    def _restore_as(self, entry: Entry, name: str, sizes: set[int]) -> tuple[bool, dict[int, str]]:
        """Restore a copy under a name; return False if the log has it, and the hashes of its beginnings by size."""
        here = self._find(entry, name)
        local = None if here is None else _compared(here, entry, sizes)
        if local is not None and local.size == entry.size_bytes:
            return False, local.beginnings
        return True, {} if self._dry else self._fetch_and_link(entry, name, here, local, sizes)

    def _find(self, entry: Entry, name: str) -> Path | None:
        """Return the path of a segment in the log, plain or archived; None if it is missing. Raises _Refused."""
        plain = layout.segment_path(self._root, entry.event_type, name)
        if plain.parent.is_symlink():
            raise _Refused(f"{plain.parent} is a symbolic link, which eventlog does not follow")
        for path in (plain, plain.with_name(plain.name + zst.SUFFIX)):
            try:
                if not stat.S_ISREG(path.lstat().st_mode):
                    raise _Refused(f"{path} is there, and is not a regular file; move it away")
            except FileNotFoundError:
                continue
            return path
        return None

    def _fetch_and_link(
        self, entry: Entry, name: str, here: Path | None, local: Digests | None, sizes: set[int]
    ) -> dict[int, str]:
        """Fetch a copy and give it a name; return the hashes of its beginnings of these sizes."""
        partial = self._root / ("restore.partial" + zst.SUFFIX * entry.archived)
        try:
            beginnings = self._fetch(entry, partial, sizes if local is None else sizes | {local.size})
            if local is not None and beginnings[local.size] != local.sha256:
                raise _Differs("the log has other bytes than the backup; both stay as they are")
            self._link(entry, name, partial, here, local)
        finally:
            partial.unlink(missing_ok=True)
        return beginnings

    def _fetch(self, entry: Entry, partial: Path, sizes: set[int]) -> dict[int, str]:
        """Download and verify an object; return the hashes of the segment's beginnings of these sizes."""
        whole = digests(self._written(entry, partial), () if entry.archived else sizes)
        if (whole.size, whole.sha256) != (entry.stored_bytes, entry.stored_sha256):
            raise _Refused(
                f"{self._source.name}/{entry.key} is damaged: its SHA-256 is not what it was when it was backed up, "
                "and nothing of it was restored. If its log still exists, try: eventlog backup --verify"
            )
        return digests(zst.blocks(partial), sizes).beginnings if entry.archived and sizes else whole.beginnings

    def _is_as_sealed(self, entry: Entry) -> bool:
        return (entry.size_bytes, entry.sha256) in (self._contents or {}).get(entry.segment, ())

    def _is_sealed_otherwise(self, entry: Entry) -> bool:
        """Say whether a seal or pruning, perhaps a new one, names other bytes of a segment than the copy's."""
        if self._contents is None:  # these are the seals and prunings themselves
            return False
        self.learn_contents()
        return entry.segment in self._contents and not self._is_as_sealed(entry)

    def _written(self, entry: Entry, partial: Path) -> Iterator[bytes]:
        """Write the blocks of an object to a file, and yield each; sync the file behind the last one."""
        left = entry.stored_bytes
        with _writing(partial) as fd:
            for block in self._source.get(entry.key):
                left -= len(block)
                if left < 0:  # do not fill the disk with bytes that are refused anyway
                    raise _Refused(f"{self._source.name}/{entry.key} is longer than it was when it was backed up")
                rest = memoryview(block)
                while rest:
                    rest = rest[os.write(fd, rest) :]
                self._step_to(self._done_bytes + len(block))
                yield block
            protect_restored(fd, is_whole=self._is_as_sealed(entry))
            os.fsync(fd)

    def _step_to(self, done_bytes: int) -> None:
        self._done_bytes = done_bytes
        if self._progress is not None:
            self._progress(done_bytes, self._total_bytes)

    def _link(self, entry: Entry, name: str, partial: Path, here: Path | None, local: Digests | None) -> None:
        """Give the verified file its name in the log, durably."""
        path = layout.segment_path(self._root, entry.event_type, name)
        path = path.with_name(path.name + zst.SUFFIX * entry.archived)
        try:
            for folder in (path.parent.parent, path.parent):
                folder.mkdir(mode=0o700, exist_ok=True)
            if name == entry.segment and self._is_sealed_otherwise(entry):
                raise _Sealed
            if here is None or local is None:
                name_file(partial, path)
            elif not replace_if_finished(here, local.size, partial, path):
                raise _Refused("somebody writes to the log's copy, which is shorter; stop it, and run the same again")
            for folder in (path.parent, path.parent.parent, self._root):
                sync_folder(folder)
        except FileExistsError:
            raise _Refused(f"{path} was created in the meantime; run the same again") from None
        except OSError as error:
            raise _full(path, error) from error


def _name_of(entry: Entry) -> str:
    """Return another name for a copy whose name is taken: the same for the same bytes on every machine."""
    created, _, _ = entry.segment.partition("-")
    return f"{created}-{entry.sha256[:16]}"


def _compared(here: Path, entry: Entry, sizes: set[int]) -> Digests:
    """Return size and hash of the log's copy, up to the backup's length. Raises _Refused where they differ."""
    try:
        local = digests(zst.blocks(here, entry.size_bytes), sizes)
    except OSError as error:
        raise _Refused(f"{here} cannot be read: {error.strerror}; check its permissions and the disk") from error
    if local.size == entry.size_bytes and local.sha256 != entry.sha256:
        raise _Differs("the log has other bytes than the backup; both stay as they are")
    if local.size < entry.size_bytes and here.suffix == zst.SUFFIX:
        raise _Refused(f"{here} is archived, and yet shorter than the backup; move it away, and run the same again")
    if local.size < entry.size_bytes and is_owned(here):
        raise _Refused("somebody writes to the log's copy, which is shorter; stop it, and run the same again")
    return local


@contextmanager
def _writing(path: Path) -> Iterator[int]:
    try:
        path.unlink(missing_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            yield fd
        finally:
            os.close(fd)
    except OSError as error:
        raise _full(path, error) from error


def _full(path: Path, error: OSError) -> BackupFailed:
    return BackupFailed(
        f"{path}: cannot be written: {error.strerror}; check permissions and free space, and run the same again: "
        "what was restored stays"
    )


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold the lock of restores, without waiting. Raises MaintenanceBusy."""
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = root_files.open_lock(root / "restore.lock")
    except OSError as error:
        raise _full(root, error) from error
    with forks.held(fd):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MaintenanceBusy(f"{root}: another restore is at work; wait for its end") from None
        yield
