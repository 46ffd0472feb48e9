"""Verification: comparing the log with its seals, and naming the first byte that differs.

It compares the chains (each seal names the one before it), each seal with its segment, the folder with the
chains (read-only segments without a seal, seals without a segment), and the blobs with the hashes that are their
names, and with the lines that name them. It cannot see changes to segments that are not sealed yet, nor a folder
whose whole chain was re-made: only a head that is stored elsewhere reveals that.

Where logs were merged into one folder, each chain is compared. Where copies of a root have sealed one
segment at different lengths, the longest has to exist, and to begin with the bytes of the others.

Sealing, archiving and pruning may run at the same time: what seems wrong because it was sealed or
pruned since the log was read is checked again before it becomes a finding.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from eventlog.errors import BlobUnreadable, MissingExtra, SegmentUnreadable
from eventlog.log import blob_references, blobs, layout, origin, zst
from eventlog.log.chains import Chains, Fork, Head, Link
from eventlog.log.content import Digests, digests
from eventlog.log.fingerprint import first_difference
from eventlog.log.pruned import accounts_of, read_pruned
from eventlog.log.sealed_or_pruned import SEAL_EVENT
from eventlog.log.segment import is_owned, is_restored
from eventlog.maintenance.sealing import read_chain, whole_seal, without_strays

_STRAY = "a seal that belongs to no chain and names nothing that is or was here: not counted"

#: Called with bytes done and bytes in all.
Progress = Callable[[int, int], None]


class Finding(msgspec.Struct, frozen=True, kw_only=True, rename={"detail": "what"}):
    """A difference between the log and its seals. `detail`, in JSON `what`, says what is wrong.

    `segment` and `offset` (in uncompressed bytes) locate its first byte; for a seal, the seal's own line.
    `exact` is false where only the start of the line is known. For a blob, `segment` is its SHA-256, and
    `event_type` is its folder, `blobs`.
    """

    segment: str
    event_type: str
    offset: int
    detail: str
    exact: bool = True


class ChainEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The newest seal of a chain, as a head (`12:9f86d0…`), and the origin that made it, or None."""

    head: str
    origin: str | None


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a verification: counts, sizes in bytes, and findings.

    `sealed_bytes` were compared. `strays` are seals that do not count: they belong to no chain, and name nothing
    that is or was in the log. `head` is that of the root's own chain. `chains` are all chains that end in this
    log. `forks` are the origins under which two copies of a root have sealed: both branches were compared.
    """

    findings: list[Finding]
    seals: int
    sealed_segments: int
    sealed_bytes: int
    pruned_segments: int
    unsealed_segments: int
    unsealed_bytes: int
    blobs: int
    blob_bytes: int
    head: str | None
    chains: list[ChainEnd]
    forks: list[Fork]
    strays: list[Finding]


def verify(root: str | Path, *, head: Head | None = None, progress: Progress | None = None) -> Verified:
    """Compare the log with its seals and, if given, the chain with a head that was stored elsewhere.

    Damaged and unreadable files become findings. `progress` is called with bytes done and bytes in all.
    """
    damaged: dict[str, str] = {}
    links, strays = without_strays(root, read_chain(root, damaged=damaged))
    chains = Chains(links)
    files = {file.name: file for file in layout.list_log(root).segments}
    seals = chains.by_segment()
    findings = [*_chain_findings(chains), *_head_findings(chains.links, head)]
    present = {name: links for name, links in seals.items() if name in files}
    gone = {name: links for name, links in seals.items() if name not in files}
    stored_blobs = blobs.list_blobs(root)
    chunks = _Chunks(root)
    sealed_bytes, blob_bytes = sum(map(_sealed_bytes, present.values())), sum(blob.size for blob in stored_blobs)
    total, done = sealed_bytes + blob_bytes, 0
    for name, links in list(present.items()):
        if _is_restored_part(root, files[name], links):  # the whole segment is elsewhere, or was pruned
            gone[name] = present.pop(name)
    for name, links in present.items():
        try:
            findings += _segment_findings(root, files[name], links)
            findings += _twin_findings(root, files[name], links)
        except FileNotFoundError:
            gone[name] = links
        done += _sealed_bytes(links)
        if progress is not None:
            progress(done, total)
    for blob in stored_blobs:
        findings += _blob_findings(chunks, blob)
        done += blob.size
        if progress is not None:
            progress(done, total)
    findings += _named_blobs(chunks, files.values())
    findings += _gone_findings(root, list(gone.values()), head, damaged)
    loose = [file for file in files.values() if file.name not in seals]
    findings += _unnamed(root, [file for file in loose if file.sealed])
    findings += [
        _of_file(files[name], 0, reason) for name, reason in damaged.items() if name in files and name not in seals
    ]
    newest = chains.newest(origin.read(root))
    return Verified(
        findings=findings,
        seals=len(chains.links),
        sealed_segments=len(present),
        sealed_bytes=sealed_bytes,
        pruned_segments=len(read_pruned(root, damaged=damaged).keys() - files.keys()),
        unsealed_segments=len(loose),
        unsealed_bytes=sum(file.size for file in loose),
        blobs=len(stored_blobs),
        blob_bytes=blob_bytes,
        head=None if newest is None else str(newest.head),
        chains=[ChainEnd(head=str(link.head), origin=link.seal.origin) for link in chains.ends],
        forks=chains.forks(),
        strays=[_of_seal(link, _STRAY) for link in strays],
    )


def _sealed_bytes(links: list[Link]) -> int:
    return max(link.seal.size_bytes for link in links)


def _gone_findings(
    root: str | Path, gone: list[list[Link]], head: Head | None, damaged: dict[str, str]
) -> Iterator[Finding]:
    """Return findings for sealed segments that are gone, unless a sealed account says that they were pruned.

    With a head, a segment that was pruned since is a finding, too: the head proves no younger account.
    """
    if not gone:
        return
    pruned = read_pruned(root, damaged=damaged)  # last: an account is written, and sealed, before a segment is deleted
    chains = Chains(read_chain(root, damaged={}))
    sealed, proven = chains.by_segment().keys(), set() if head is None else chains.segments_before(head)
    # Seals of other roots, whose logs were merged into this one, are proved by their own heads.
    in_line = set() if head is None else chains.in_line_with(head)
    for links in gone:
        for link in links:
            recorded_in = {account.recorded_in for account in accounts_of(link, pruned)}
            if not recorded_in & sealed:
                yield _missing(link, unsealed=bool(recorded_in))
                break
            if link.sha256 in in_line and not recorded_in & proven:
                yield _pruned_since(link)
                break


def _unnamed(root: str | Path, files: list[layout.SegmentFile]) -> list[Finding]:
    """Return findings for read-only segments that no seal names, not even a new one."""
    # A sealer owns a segment until its seal is written: so look for owners first, then read the chain.
    made_so = [file for file in files if not is_restored(file.path)]
    idle = [file for file in made_so if not os.access(file.path, os.R_OK) or not is_owned(file.path)]
    named = {link.seal.segment for link in read_chain(root, damaged={})} if idle else set()
    detail = "read-only, but no seal names it: its seal was removed, or never made"
    return [_of_file(file, 0, detail) for file in idle if file.name not in named]


def _chain_findings(chains: Chains) -> Iterator[Finding]:
    for broken in chains.breaks():
        yield _of_seal(broken.link, broken.reason)


def _head_findings(chain: list[Link], head: Head | None) -> Iterator[Finding]:
    if head is None:
        return
    numbered = [link for link in chain if link.seal.number == head.number]
    if any(link.sha256 == head.sha256 for link in numbered):
        return
    if numbered:
        detail = f"seal {head.number} is not the one whose hash was kept: its chain was re-made, or cut off"
        yield _of_seal(numbered[0], detail)
    else:
        last = chain[-1].seal_segment if chain else ""
        yield Finding(
            segment=last,
            event_type=SEAL_EVENT,
            offset=chain[-1].offset if chain else 0,
            detail=f"the chain ends before seal {head.number}, whose hash was kept: seals were removed",
        )


def _is_restored_part(root: str | Path, file: layout.SegmentFile, links: list[Link]) -> bool:
    """Say whether a segment was restored from a backup that is older than its last lines, and is right so far."""
    longest = max(links, key=lambda link: link.seal.size_bytes)
    if file.size >= longest.seal.size_bytes or not is_restored(file.path):
        return False
    try:
        difference = first_difference(file.path, whole_seal(root, longest))
    except (OSError, SegmentUnreadable, MissingExtra):
        return False
    return difference is not None and difference.offset == file.size


def _segment_findings(root: str | Path, file: layout.SegmentFile, links: list[Link]) -> Iterator[Finding]:
    """Compare one segment with its seals. Raises FileNotFoundError where it was deleted since it was listed."""
    for kind in sorted({link.seal.segment_type for link in links} - {file.event_type}):
        yield _of_file(file, 0, f"it was sealed as a segment of {kind}")
    try:
        here = digests(zst.blocks(file.path), (link.seal.size_bytes for link in links))
        for link in _not_as_sealed(here, links):
            yield from _difference(root, file, link)
    except FileNotFoundError:
        raise
    except (OSError, MissingExtra) as error:
        yield _of_file(file, 0, f"cannot be read: {error}")


def _twin_findings(root: str | Path, file: layout.SegmentFile, links: list[Link]) -> Iterator[Finding]:
    """Compare the other file of a segment, plain or archived: merged logs and interrupted archiving leave both."""
    plain = layout.segment_path(root, file.event_type, file.name)
    path = plain if file.archived else layout.archive_of(plain)
    try:
        if stat.S_ISREG(path.lstat().st_mode):
            yield from _segment_findings(root, file._replace(path=path, archived=not file.archived), links)
    except FileNotFoundError:
        return


def _not_as_sealed(here: Digests, links: list[Link]) -> list[Link]:
    """Return the seals that a segment does not match, one for each content.

    Behind the end of what one copy of a root has sealed, only bytes that another copy has sealed may follow.
    """
    contents: dict[tuple[int, str], Link] = {}
    for link in links:
        contents.setdefault((link.seal.size_bytes, link.seal.sha256), link)
    whole = (here.size, here.sha256) in contents
    return [
        link
        for (size, sha256), link in contents.items()
        if here.beginnings.get(size) != sha256 or (size < here.size and not whole)
    ]


def _difference(root: str | Path, file: layout.SegmentFile, link: Link) -> Iterator[Finding]:
    """Yield where a segment differs from a seal. Raises OSError, MissingExtra."""
    try:
        difference = first_difference(file.path, whole_seal(root, link))
    except SegmentUnreadable as error:
        finding = _of_file(file, 0, f"not as sealed; in what place, its seal cannot say: {error}")
        yield msgspec.structs.replace(finding, exact=False)
        return
    if difference is not None:
        finding = _of_file(file, difference.offset, difference.change)
        yield msgspec.structs.replace(finding, exact=difference.exact)


class _Chunks:
    """Reads each chunk once, and caches its error."""

    def __init__(self, root: str | Path) -> None:
        self._root = root
        self._errors: dict[str, str | None] = {}

    def error(self, sha256: str) -> str | None:
        """Return why the chunk of this hash cannot be read; None where it can."""
        if sha256 not in self._errors:
            try:
                blobs.read(self._root, sha256)
            except BlobUnreadable as error:
                self._errors[sha256] = str(error)
            else:
                self._errors[sha256] = None
        return self._errors[sha256]


def _blob_findings(chunks: _Chunks, blob: blobs.Blob) -> Iterator[Finding]:
    error = chunks.error(blob.sha256)
    if error is not None:
        yield Finding(segment=blob.sha256, event_type=blobs.FOLDER, offset=0, detail=error, exact=False)


def _named_blobs(chunks: _Chunks, files: Iterable[layout.SegmentFile]) -> Iterator[Finding]:
    """Return a finding for each chunk that cannot be read, at the first line that names it."""
    reported: set[str] = set()
    for file in files:
        with contextlib.suppress(SegmentUnreadable, MissingExtra, OSError):  # the comparison with its seal reports it
            for offset, named in blob_references.names(file.path):
                gone = {sha256 for sha256 in named - reported if chunks.error(sha256) is not None}
                reported |= gone
                for sha256 in sorted(gone):
                    detail = f"this line names the blob {sha256}, which cannot be read: {chunks.error(sha256)}"
                    yield msgspec.structs.replace(_of_file(file, offset, detail), exact=False)


def _missing(link: Link, *, unsealed: bool) -> Finding:
    why = "and was not pruned"
    if unsealed:
        why = "and the account of its pruning is not sealed, so it proves nothing; if you pruned it, try: eventlog seal"
    return _of_gone(link, f"the segment is gone ({_content(link)}), {why}")


def _pruned_since(link: Link) -> Finding:
    detail = f"pruned since the head was kept ({_content(link)}), which the head cannot prove to be all of it"
    return _of_gone(link, detail)


def _content(link: Link) -> str:
    return f"{link.seal.lines:,} lines, {link.seal.size_bytes:,} bytes"


def _of_gone(link: Link, detail: str) -> Finding:
    return Finding(segment=link.seal.segment, event_type=link.seal.segment_type, offset=0, detail=detail)


def _of_seal(link: Link, detail: str) -> Finding:
    return Finding(segment=link.seal_segment, event_type=SEAL_EVENT, offset=link.offset, detail=detail)


def _of_file(file: layout.SegmentFile, offset: int, detail: str) -> Finding:
    return Finding(segment=file.name, event_type=file.event_type, offset=offset, detail=detail)
