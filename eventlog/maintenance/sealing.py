"""Sealing: making segments read-only, and recording their content in a chain of seals.

A seal is a `segment_sealed` event. It holds the fingerprint of one segment, a number, the
SHA-256 of the line of the seal before it, and the origin of its root (eventlog.log.origin): whoever
changes, removes or re-makes a seal must re-make all that follow. The segments that hold seals are
sealed into the same chain. Each run writes its seals to a new segment, and never continues one
that a copy of the root may have as well: so two roots never write under one name.

Sealing one segment, in this order:
    1. lock it, so that nobody owns or adopts it
    2. remove its write permission, and sync it: from now on no writer adopts it, not even after
       a power cut that the seal survives
    3. take the fingerprint
    4. append the seal; sync the seals when all are made

A crash after step 2 leaves a read-only segment without a seal: the next run seals it. Whoever
can rewrite the whole folder can rewrite the chain. Only a head that is stored elsewhere
(`Head`, printed by `eventlog seal`) reveals that (docs/decisions/0009-one-chain-of-seals.md,
docs/decisions/0028-origins-of-chains.md).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventlog.config import SEGMENT_MAX_AGE_S, SEGMENT_MAX_BYTES
from eventlog.errors import InvalidEvent, MissingExtra, SegmentUnreadable
from eventlog.format import envelope, ids, timestamps
from eventlog.format.envelope import Envelope
from eventlog.log import clock, layout, origin, reader, times, zst
from eventlog.log.chains import Chains, Head, Link, Seal
from eventlog.log.content import digests
from eventlog.log.fingerprint import fingerprint
from eventlog.log.layout import SegmentFile
from eventlog.log.pruned import is_account_of, read_pruned
from eventlog.log.sealed_or_pruned import SEAL_EVENT
from eventlog.log.segment import is_owned
from eventlog.log.writer import Writer
from eventlog.maintenance.lock import maintenance
from eventlog.process import forks

_LOCK_TRIES, _LOCK_RETRY_S = 3, 0.01


def read_chain(root: str | Path, *, damaged: dict[str, str] | None = None) -> list[Link]:
    """Return all seals, without their `checks`, sorted by number. Lines that are no seals are skipped.

    Raises SegmentUnreadable; with `damaged`, collects the reasons there instead (see reader.read_log).
    """
    links = []
    for located, event in reader.read_events(root, SEAL_EVENT, damaged=damaged):
        try:
            seal = msgspec.json.decode(event.payload, type=Seal)
        except msgspec.ValidationError:
            continue
        seal = msgspec.structs.replace(seal, checks=b"")
        links.append(Link(seal, hashlib.sha256(located.data).hexdigest(), located.segment, located.offset))
    return sorted(links, key=lambda link: (link.seal.number, link.seal_segment, link.offset))


def whole_seal(root: str | Path, link: Link) -> Seal:
    """Read a seal again with its `checks`. Raises SegmentUnreadable where its line is gone or changed."""
    path = layout.segment_path(root, SEAL_EVENT, link.seal_segment)
    line = reader.read_line_at(path, link.offset)
    if line is None or hashlib.sha256(line).hexdigest() != link.sha256:
        raise SegmentUnreadable(f"{path}: the seal at byte {link.offset:,} is not there any more")
    return msgspec.json.decode(envelope.decode(line).envelope.payload, type=Seal)


def head_of(root: str | Path, links: Iterable[Link]) -> Head | None:
    """Return the newest seal of the chain that the root's next seal will continue; None without seals."""
    newest = Chains(links).newest(origin.read(root))
    return None if newest is None else newest.head


def without_strays(root: str | Path, links: list[Link]) -> tuple[list[Link], list[Link]]:
    """Split seals into those that count, and strays, which anybody could have written and nothing depends on.

    A stray refers to no earlier seal, no later seal refers to it, it has another origin than this root, and it
    names neither a segment of the log nor a pruned one. But where no seal matches a read-only segment, or a
    segment of seals, the seals that name it count: it may have been changed, and may hold the seals before them.
    """
    chains, own, files = Chains(links), origin.read(root), {}
    suspects = [link for link in chains.alone() if link.seal.origin is None or link.seal.origin != own]
    if suspects:
        files = {file.name: file for file in layout.list_log(root).segments}
    pruned = read_pruned(root, damaged={}) if suspects else {}
    seals = chains.by_segment() if suspects else {}
    strays = [
        link
        for link in suspects
        if not (_is_here(files, link) or is_account_of(link, pruned))
        and not (_is_protected(files, link) and not any(_is_here(files, other) for other in seals[link.seal.segment]))
    ]
    gone = {(link.seal_segment, link.offset) for link in strays}
    return [link for link in links if (link.seal_segment, link.offset) not in gone], strays


def _is_protected(files: dict[str, SegmentFile], link: Link) -> bool:
    file = files.get(link.seal.segment)
    if file is None or file.event_type != link.seal.segment_type:
        return False
    return file.sealed or file.event_type == SEAL_EVENT  # only one run of sealing ever writes such a segment


def _is_here(files: dict[str, SegmentFile], link: Link) -> bool:
    file = files.get(link.seal.segment)
    if file is None or file.event_type != link.seal.segment_type or file.size < link.seal.size_bytes:
        return False
    try:
        return digests(zst.blocks(file.path, link.seal.size_bytes)).sha256 == link.seal.sha256
    except (OSError, MissingExtra):
        return True  # it cannot be read, so nothing speaks against it


class Finished(NamedTuple):
    """The limits from which on a segment is finished: no writer owns it, or would adopt it any more."""

    max_bytes: int = SEGMENT_MAX_BYTES
    max_age_s: float = SEGMENT_MAX_AGE_S

    def holds(self, file: SegmentFile) -> bool:
        """Say whether a segment is finished: 90% full, too old or torn, and owned by nobody."""
        now_s = time.time()
        # Times in the future are ignored, not waited for: a clock was wrong.
        times_s = (layout.created_s(file.name) or 0, file.mtime_ns / 1e9)
        age_s = now_s - min((time_s for time_s in times_s if time_s <= now_s + clock.AHEAD_S), default=0)
        finished = file.size >= 0.9 * self.max_bytes or age_s > self.max_age_s or not _ends_whole(file)
        return finished and not is_owned(file.path)


def seal(
    root: str | Path,
    event_types: Iterable[str] | None = None,
    *,
    only: Finished | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Seal]:
    """Seal every segment that nobody owns, or `only` the finished ones; return the new seals.

    Without `only`, the segment of the new seals is sealed at the end as well. `progress` is called
    with bytes done and bytes in all. Raises MaintenanceBusy, WriteFailed, and SegmentUnreadable, the last
    after everything else was sealed.
    """
    with maintenance(root):
        chain = _Chain(root)
        try:
            files = [
                file
                for file in layout.list_log(root, event_types).segments
                if file.event_type != SEAL_EVENT and (only is None or file.sealed or only.holds(file))
            ]
            total, done = sum(file.size for file in files), 0
            for file in files:
                chain.add(file)
                done += file.size
                if progress is not None:
                    progress(done, total)
            chain.finish()
            for file in layout.list_type(root, SEAL_EVENT):
                # An earlier run ended after it made this one read-only, and before it sealed it.
                if file.sealed or (chain.made if only is None else only.holds(file)):
                    chain.add(file)
        finally:
            chain.finish()
        if chain.unreadable:
            raise SegmentUnreadable("; ".join(chain.unreadable))
        return chain.made


def seal_held(root: str | Path, event_type: str) -> None:
    """Seal the segments of one type that nobody owns. The caller holds the maintenance lock.

    Raises WriteFailed, and SegmentUnreadable, the latter after everything else was sealed.
    """
    chain = _Chain(root)
    try:
        for file in layout.list_type(root, event_type):
            chain.add(file)
    finally:
        chain.finish()
    if chain.unreadable:
        raise SegmentUnreadable("; ".join(chain.unreadable))


def has_finished(root: str | Path, only: Finished) -> bool:
    """Say whether a run would seal something. It does not read the chain, since it is asked every minute.

    It does not see segments that an interrupted run left read-only and unsealed.
    """
    return any(only.holds(file) for file in layout.list_log(root).segments if not file.sealed)


class _Chain:
    """Continues the chain of a root."""

    def __init__(self, root: str | Path) -> None:
        self._root = root
        links, _ = without_strays(root, read_chain(root))
        self._sealed = {link.seal.segment for link in links}
        self._head = head_of(root, links)
        self._origin: str | None = None
        self._writer: Writer | None = None
        self.made: list[Seal] = []
        self.unreadable: list[str] = []

    def add(self, file: SegmentFile) -> None:
        """Seal a segment, unless it is sealed, owned or empty."""
        if file.name in self._sealed or file.archived:
            protect(file)
            return
        with _taken(file.path) as fd:
            if fd is None:
                return
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or not status.st_size:
                return
            self._origin = self._origin or origin.read_or_make(self._root)
            try:
                _protect(fd, status)
                self._append(file, status.st_mtime_ns)
            except (OSError, SegmentUnreadable) as error:
                self.unreadable.append(f"{file.path}: cannot be sealed: {error}")

    def _append(self, file: SegmentFile, written_ns: int) -> None:
        number, previous = (1, None) if self._head is None else (self._head.number + 1, self._head.sha256)
        first, last = _ids(file)
        made = Seal(
            number=number,
            previous=previous,
            segment=file.name,
            segment_type=file.event_type,
            first_event_id=first,
            last_event_id=last,
            origin=self._origin,
            latest_timestamp=times.latest(file),
            **msgspec.structs.asdict(fingerprint(file.path)),
        )
        line = envelope.encode(_envelope(made, written_ns))
        if self._writer is None:
            self._writer = Writer(
                self._root, segment_max_bytes=SEGMENT_MAX_BYTES, segment_max_age_s=SEGMENT_MAX_AGE_S, adopts=False
            )
        self._writer.write(SEAL_EVENT, line)
        self._head = Head(number, hashlib.sha256(line[:-1]).hexdigest())
        self._sealed.add(file.name)
        self.made.append(made)

    def finish(self) -> None:
        """Sync the seals and close their segment. Raises WriteFailed."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def protect(file: SegmentFile) -> None:
    """Make a segment that a seal names read-only, so that no writer appends behind the sealed end. Raises OSError.

    It is writable where a backup copied it before it was sealed, and its seal after.
    """
    if file.sealed:
        return
    with _taken(file.path) as fd:
        if fd is not None:
            _protect(fd, os.fstat(fd))


def _protect(fd: int, status: os.stat_result) -> None:
    os.fchmod(fd, stat.S_IMODE(status.st_mode) & 0o555)
    os.fsync(fd)


def _envelope(made: Seal, written_ns: int) -> Envelope:
    """Return the event of a seal. If one origin seals a segment twice, id and time are the same."""
    created_us = int((layout.created_s(made.segment) or 0) * 1e6)
    return Envelope(
        event_id=ids.derived_id(created_us, SEAL_EVENT, made.segment, made.origin or ""),
        event_type=SEAL_EVENT,
        timestamp=timestamps.from_ns(written_ns),
        payload=envelope.encode_payload(made),
    )


def _ids(file: SegmentFile) -> tuple[str | None, str | None]:
    """Return the ids of the first and the last event; None where that line is no event."""
    first = next(reader.read_lines(file.path, max_bytes=1), None)
    last = reader.last_lines(file, 1)
    return _event_id(first and first.data), _event_id(last[0].data if last else None)


def _event_id(line: bytes | None) -> str | None:
    try:
        return None if line is None else envelope.decode(line).envelope.event_id
    except InvalidEvent:
        return None


@contextmanager
def _taken(path: Path) -> Iterator[int | None]:
    """Own a segment for the length of the block; yield its descriptor, or None where somebody else owns it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        yield None
        return
    with forks.held(fd):
        yield fd if _locked(fd) else None


def _locked(fd: int) -> bool:
    """Try to lock a segment. An indexer that reads its tail holds it for milliseconds, a writer for long."""
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_RETRY_S)
        else:
            return True
    return False


def _ends_whole(file: SegmentFile) -> bool:
    try:
        with zst.open_segment(file.path) as opened:
            return not file.size or opened.pread(1, file.size - 1) == b"\n"
    except OSError:  # deleted in the meantime, or not readable: nothing says that it is torn
        return True
