"""What a bundle proves its lines with: the seals of their segments, and proofs from the tree of lines in each seal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventlog.errors import MissingExtra, SegmentUnreadable
from eventlog.log import layout, line_tree, reader, zst
from eventlog.log.chains import Chains, Link
from eventlog.log.layout import SegmentFile
from eventlog.log.sealed_or_pruned import SEAL_EVENT
from eventlog.maintenance import sealing

NOT_SEALED = "the segment is not sealed yet; run eventlog seal and export again"
NO_TREE = "the segment was sealed by a version of eventlog that made no tree of lines"
NOT_AS_SEALED = "the segment is not as it was sealed; run eventlog verify"


class ProvenLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line: `offset` and `length` in bytes, newline included; its place in the tree, and the proof (hex)."""

    event_id: str
    offset: int
    length: int
    sha256: str
    index: int
    proof: list[str]


class SealLine(msgspec.Struct, frozen=True, kw_only=True):
    """A seal: the hash of its line, where it stands, and the proof that it is in that segment, if that is sealed."""

    sha256: str
    segment: str
    offset: int
    index: int | None = None
    proof: list[str] | None = None


class Wanted(NamedTuple):
    """An event whose line is wanted."""

    event_id: str
    offset: int
    length: int


class SegmentLines(NamedTuple):
    """The wanted lines of a segment with their proofs; without a seal that proves them, `why_not` says why."""

    file: SegmentFile
    lines: list[ProvenLine]
    data: list[bytes]
    link: Link | None
    why_not: str | None


def read_segment(file: SegmentFile, wanted: Iterable[Wanted], seals: list[Link]) -> SegmentLines:
    """Read lines of a segment, and make their proofs. A line that is not there any more is left out.

    Raises SegmentUnreadable, MissingExtra.
    """
    whole, places, hashes = _tree(file.path)
    places_of = {offset: index for index, offset in enumerate(places)}
    link, why_not = _seal_of(whole, seals)
    levels = line_tree.Levels(hashes) if link is not None else None
    lines, data = [], []
    with zst.open_segment(file.path) as opened:
        for each in wanted:
            raw = opened.pread(each.length, each.offset)
            index = places_of.get(each.offset)
            if index is None or len(raw) != each.length or not raw.endswith(b"\n"):
                continue
            proof = [] if levels is None else [beside.hex() for beside in levels.proof(index)]
            lines.append(
                ProvenLine(
                    event_id=each.event_id, offset=each.offset, length=each.length,
                    sha256=hashlib.sha256(raw).hexdigest(), index=index, proof=proof,
                )
            )  # fmt: skip
            data.append(raw)
    return SegmentLines(file, lines, data, link, why_not)


def _tree(path: Path) -> tuple[tuple[int, str], list[int], list[bytes]]:
    """Return size and SHA-256 of a segment, and offset and leaf hash of each of its lines."""
    sha, size = hashlib.sha256(), 0

    def blocks() -> Iterator[bytes]:
        nonlocal size
        for block in zst.blocks(path):
            sha.update(block)
            size += len(block)
            yield block

    places, hashes = [], []
    try:
        for offset, leaf in line_tree.leaves(blocks()):
            places.append(offset)
            hashes.append(leaf)
    except OSError as error:
        raise reader.unreadable(path, error) from None
    return (size, sha.hexdigest()), places, hashes


def _seal_of(whole: tuple[int, str], seals: list[Link]) -> tuple[Link | None, str | None]:
    same = [link for link in seals if (link.seal.size_bytes, link.seal.sha256) == whole]
    if not seals:
        return None, NOT_SEALED
    if not same:
        return None, NOT_AS_SEALED
    with_tree = [link for link in same if link.seal.tree_sha256 is not None]
    return (with_tree[0], None) if with_tree else (None, NO_TREE)


class Seals:
    """The seals of a log, and the lines of those that a bundle needs."""

    def __init__(self, root: Path) -> None:
        self._root = root
        links, _ = sealing.without_strays(root, sealing.read_chain(root, damaged={}))
        self._links = Chains(links).links
        self.by_segment = Chains(links).by_segment()

    def lines(self, needed: Iterable[Link], *, chain: bool) -> tuple[list[SealLine], list[bytes]]:
        """Return the seals that these need, sorted by number, and their lines with newlines.

        Besides these: the seals of the segments that they stand in, and with `chain` all seals from the first of them
        to the newest. Raises SegmentUnreadable where the line of a seal is gone.
        """
        files = {file.name: file for file in layout.list_type(self._root, SEAL_EVENT)}
        waiting = list(needed)
        if chain and waiting:
            first = min(link.seal.number for link in waiting)
            waiting += [link for link in self._links if link.seal.number >= first]
        found: dict[str, tuple[Link, SealLine, bytes]] = {}
        while waiting:
            link = waiting.pop()
            if link.sha256 in found:
                continue
            listed, line, outer = self._read(link, files)
            found[link.sha256] = (link, listed, line)
            if outer is not None:
                waiting.append(outer)
        ordered = sorted(found.values(), key=lambda each: (each[0].seal.number, each[0].sha256))
        return [listed for _, listed, _ in ordered], [line for _, _, line in ordered]

    def _read(self, link: Link, files: dict[str, SegmentFile]) -> tuple[SealLine, bytes, Link | None]:
        """Return a seal's line, and the seal of the segment that it stands in if there is one."""
        file = files.get(link.seal_segment)
        line = None if file is None else reader.read_line_at(file.path, link.offset)
        if file is None or line is None or hashlib.sha256(line).hexdigest() != link.sha256:
            raise SegmentUnreadable(
                f"the seal {link.head} is not in {link.seal_segment} any more; try: eventlog verify"
            )
        listed = SealLine(sha256=link.sha256, segment=link.seal_segment, offset=link.offset)
        outer = self.by_segment.get(link.seal_segment, [])
        try:
            wanted = [Wanted("", link.offset, len(line) + 1)]
            found = read_segment(file, wanted, outer) if outer else None
        except (SegmentUnreadable, MissingExtra):
            found = None
        if found is None or found.link is None:
            return listed, line + b"\n", None
        (proven,) = found.lines
        return (
            msgspec.structs.replace(listed, index=proven.index, proof=proven.proof), line + b"\n", found.link,
        )  # fmt: skip
