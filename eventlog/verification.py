"""Is the log what was sealed? Recomputes every seal, and names the first byte that differs.

Four things are compared: the chain (each seal names the one before it), each seal with its
segment, the folder with the chain (read-only segments without a seal, seals without a
segment), and the blobs with the hashes that are their names, and with the lines that name them.
What cannot be seen from here: changes to segments that are not sealed yet, and a folder whose whole
chain was re-made, which only a head kept elsewhere gives away.

Sealing, archiving and pruning may go on meanwhile: what looks wrong because it was sealed or
pruned since the log was read is looked up again before it becomes a finding.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from eventlog import blobs, log, reader
from eventlog.envelope import decode
from eventlog.errors import BlobUnreadable, InvalidEvent, MissingExtra, SegmentUnreadable
from eventlog.fingerprint import first_difference, is_same
from eventlog.pruned import Pruned, read_pruned
from eventlog.sealing import SEAL_EVENT, Head, Link, head_of, read_chain, whole_seal
from eventlog.segment import is_owned

#: Called with bytes done and bytes in all.
Progress = Callable[[int, int], None]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it was sealed.

    `segment` and `offset` (in uncompressed bytes) are where it is seen first; for a seal, that
    of its own line. `exact` is false where only the start of the line is known. For a blob, `segment`
    is its hash and `event_type` is `blobs`, the folder that it is in.
    """

    segment: str
    event_type: str
    offset: int
    what: str
    exact: bool = True


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found. `sealed_bytes` are those that were compared."""

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


def verify(root: str | Path, *, head: Head | None = None, progress: Progress | None = None) -> Verified:
    """Compare the log with its seals, and the chain with a head that was kept elsewhere, if given."""
    damaged: dict[str, str] = {}
    chain = read_chain(root, damaged=damaged)
    files = {file.name: file for file in log.list_log(root).segments}
    seals: dict[str, Link] = {}
    for link in chain:
        seals.setdefault(link.seal.segment, link)  # a later one cannot make good what the first says
    findings = [*_chain_findings(chain), *_head_findings(chain, head)]
    present = [link for name, link in seals.items() if name in files]
    kept = blobs.list_blobs(root)
    sealed_bytes, blob_bytes = sum(link.seal.size_bytes for link in present), sum(each.size for each in kept)
    total, done = sealed_bytes + blob_bytes, 0
    gone = [link for name, link in seals.items() if name not in files]
    for link in present:
        try:
            findings += _segment_findings(root, files[link.seal.segment], link)
        except FileNotFoundError:
            gone.append(link)
        done += link.seal.size_bytes
        if progress is not None:
            progress(done, total)
    findings += _missing_blobs(root, files.values())
    for blob in kept:
        findings += _blob_findings(root, blob)
        done += blob.size
        if progress is not None:
            progress(done, total)
    pruned = read_pruned(root, damaged=damaged)  # last: an account of it is written before a segment is deleted
    findings += [_missing(link) for link in gone if not _is_told(link, pruned)]
    loose = [file for file in files.values() if file.name not in seals]
    findings += _unnamed(root, [file for file in loose if file.sealed])
    findings += [
        _of_file(files[name], 0, reason) for name, reason in damaged.items() if name in files and name not in seals
    ]
    newest = head_of(chain)
    return Verified(
        findings=findings,
        seals=len(chain),
        sealed_segments=len(present),
        sealed_bytes=sealed_bytes,
        pruned_segments=len(pruned),
        unsealed_segments=len(loose),
        unsealed_bytes=sum(file.size for file in loose),
        blobs=len(kept),
        blob_bytes=blob_bytes,
        head=None if newest is None else str(newest),
    )


def _is_told(link: Link, pruned: dict[str, Pruned]) -> bool:
    told = pruned.get(link.seal.segment)
    return told is not None and told.sha256 == link.seal.sha256


def _unnamed(root: str | Path, files: list[log.SegmentFile]) -> list[Finding]:
    """Return findings for read-only segments that no seal names, by now either."""
    # Whoever seals a segment holds it until the seal is written, so first this and then the chain.
    idle = [file for file in files if not os.access(file.path, os.R_OK) or not is_owned(file.path)]
    named = {link.seal.segment for link in read_chain(root, damaged={})} if idle else set()
    what = "read-only, but no seal names it: its seal was removed, or never made"
    return [_of_file(file, 0, what) for file in idle if file.name not in named]


def _chain_findings(chain: list[Link]) -> Iterator[Finding]:
    """Each seal has the number after, and the hash of, the one before it."""
    before: Link | None = None
    for link in chain:
        number = 0 if before is None else before.seal.number
        if before is not None and link.seal.number == number:
            if link.sha256 != before.sha256:
                yield _of_seal(link, f"a second, different seal has the number {number}: one of them was re-made")
            continue
        if link.seal.number > number + 1:
            missing = f"{number + 1}" if link.seal.number == number + 2 else f"{number + 1} to {link.seal.number - 1}"
            yield _of_seal(link, f"the seal before this one is missing (number {missing})")
        elif before is not None and link.seal.previous != before.sha256:
            yield _of_seal(
                before,
                f"seal {number} is not the one that seal {link.seal.number} was made after: it was changed or re-made",
            )
        before = link
    yield from _sealed_twice(chain)


def _sealed_twice(chain: list[Link]) -> Iterator[Finding]:
    first: dict[str, Link] = {}
    for link in chain:
        known = first.setdefault(link.seal.segment, link)
        if known.seal.number != link.seal.number:
            yield _of_seal(link, f"segment {link.seal.segment} was sealed before, by seal {known.seal.number}")


def _head_findings(chain: list[Link], head: Head | None) -> Iterator[Finding]:
    if head is None:
        return
    found = [link for link in chain if link.seal.number == head.number]
    if any(link.sha256 == head.sha256 for link in found):
        return
    if found:
        yield _of_seal(found[0], f"seal {head.number} is not the one whose hash was kept: the chain was re-made")
    else:
        last = chain[-1].place if chain else ""
        yield Finding(
            segment=last,
            event_type=SEAL_EVENT,
            offset=chain[-1].offset if chain else 0,
            what=f"the chain ends before seal {head.number}, whose hash was kept: seals were removed",
        )


def _segment_findings(root: str | Path, file: log.SegmentFile, link: Link) -> Iterator[Finding]:
    """Compare one segment. Raises FileNotFoundError where it is gone since it was listed."""
    if file.event_type != link.seal.segment_type:
        yield _of_file(file, 0, f"it was sealed as a segment of {link.seal.segment_type}")
    try:
        if is_same(file.path, link.seal):
            return
        difference = first_difference(file.path, whole_seal(root, link))
    except FileNotFoundError:
        raise
    except SegmentUnreadable as error:
        finding = _of_file(file, 0, f"not as sealed; in what place, its seal cannot say: {error}")
        yield msgspec.structs.replace(finding, exact=False)
        return
    except (OSError, MissingExtra) as error:
        yield _of_file(file, 0, f"cannot be read: {error}")
        return
    if difference is not None:
        finding = _of_file(file, difference.offset, difference.what)
        yield msgspec.structs.replace(finding, exact=difference.exact)


def _blob_findings(root: str | Path, blob: blobs.Blob) -> Iterator[Finding]:
    try:
        blobs.read(root, blob.sha256)
    except BlobUnreadable as error:
        yield Finding(segment=blob.sha256, event_type=blobs.FOLDER, offset=0, what=str(error), exact=False)


def _missing_blobs(root: str | Path, files: Iterable[log.SegmentFile]) -> Iterator[Finding]:
    """Return a finding for each line that names blobs which are not there: where they are missed first."""
    missed: set[str] = set()
    for file in files:
        with contextlib.suppress(SegmentUnreadable, MissingExtra, OSError):  # found by comparing it with its seal
            for block in reader.read_blocks(file.path):
                if blobs.REFERENCE not in block.data:
                    continue
                for line in block.lines():
                    gone = {each for each in _named(line.data) - missed if not blobs.path_of(root, each).exists()}
                    missed |= gone
                    for sha256 in sorted(gone):
                        what = f"the blob {sha256} is missing, which this line names; try: eventlog restore"
                        yield msgspec.structs.replace(_of_file(file, line.offset, what), exact=False)


def _named(line: bytes) -> set[str]:
    if blobs.REFERENCE not in line:
        return set()
    try:
        return blobs.references(bytes(decode(line).envelope.payload))
    except (InvalidEvent, msgspec.MsgspecError):
        return set()  # no event: what is wrong with it, indexing says


def _missing(link: Link) -> Finding:
    return Finding(
        segment=link.seal.segment,
        event_type=link.seal.segment_type,
        offset=0,
        what=f"the segment is gone ({link.seal.lines:,} lines, {link.seal.size_bytes:,} bytes), and was not pruned",
    )


def _of_seal(link: Link, what: str) -> Finding:
    return Finding(segment=link.place, event_type=SEAL_EVENT, offset=link.offset, what=what)


def _of_file(file: log.SegmentFile, offset: int, what: str) -> Finding:
    return Finding(segment=file.name, event_type=file.event_type, offset=offset, what=what)
