"""The chains of seals in a log: their order, forks and breaks.

Each seal names the line of the seal before it, so that all seals of a log form a tree. The log of one root
has one chain. If a root was copied, the seals of the copy have a new origin, and continue from the last seal that
both have. The logs of several roots, merged into one folder, have several chains, each of which can be
verified. Only seals of one origin that branch are a *fork*: two copies of a root sealed under one id
(docs/decisions/0009-one-chain-of-seals.md, docs/decisions/0028-origins-of-chains.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, NamedTuple

import msgspec

from eventlog.log.fingerprint import Fingerprint
from eventlog.log.origin import Id

NUMBER_MAX = 2**53 - 1


class Seal(Fingerprint, frozen=True, kw_only=True):
    """Payload of `segment_sealed`: the fingerprint of a segment, and its position in the chain.

    `previous` is the SHA-256, in hex, of the line (without its newline) of seal `number` - 1; None for seal 1.
    `origin` is None for seals of versions without origins. No event of the segment is later than `latest_timestamp`;
    None where that is not known.
    """

    number: Annotated[int, msgspec.Meta(ge=1, le=NUMBER_MAX)]
    previous: str | None
    segment: str
    segment_type: str
    first_event_id: str | None
    last_event_id: str | None
    origin: Id | None = None
    latest_timestamp: str | None = None


class Link(NamedTuple):
    """A seal, the SHA-256 of its line, and the segment and byte offset of that line.

    `seal` has no `checks`, which are most of its bytes: `sealing.whole_seal` reads them.
    """

    seal: Seal
    sha256: str
    seal_segment: str
    offset: int

    @property
    def head(self) -> Head:
        """The number and hash of the seal."""
        return Head(self.seal.number, self.sha256)


class Head(NamedTuple):
    """The newest seal of a chain, as text `12:9f86d0…`. Stored elsewhere, it proves the whole chain before it."""

    number: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.number}:{self.sha256}"


class Fork(msgspec.Struct, frozen=True, kw_only=True):
    """Seals of one origin that branch after seal `after` (0: they share none); `heads` are the ends."""

    origin: str | None
    after: int
    heads: list[str]


class Break(NamedTuple):
    """A seal at which the chain is broken, and why."""

    link: Link
    reason: str


class Chains:
    """All seals of a log. A line that is in the log twice counts once."""

    def __init__(self, links: Iterable[Link]) -> None:
        self.links: list[Link] = []
        self._by_hash: dict[str, Link] = {}
        for link in sorted(links, key=_in_order):
            if self._by_hash.setdefault(link.sha256, link) is link:
                self.links.append(link)
        self._after: dict[str, list[Link]] = {}
        for link in self.links:
            before = self._before(link)
            if before is not None:
                self._after.setdefault(before.sha256, []).append(link)
        #: The newest seal of each chain: no other seal refers to it.
        self.ends = [link for link in self.links if link.sha256 not in self._after]
        self._ends_by_number: dict[int, list[Link]] = {}
        for link in self.ends:
            self._ends_by_number.setdefault(link.seal.number, []).append(link)

    def _before(self, link: Link) -> Link | None:
        return None if link.seal.previous is None else self._by_hash.get(link.seal.previous)

    def by_segment(self) -> dict[str, list[Link]]:
        """Return the seals of each segment, by its name, sorted by number."""
        links: dict[str, list[Link]] = {}
        for link in self.links:
            links.setdefault(link.seal.segment, []).append(link)
        return links

    def newest(self, origin: str | None) -> Link | None:
        """Return the seal that a root continues: the last of its own chain, else of the longest whole chain."""
        own = self._tips(origin) if origin is not None else []
        whole = self._whole()
        choice = own or [link for link in self.ends if link.sha256 in whole]
        return max(choice, key=lambda link: (link.sha256 in whole, *_in_order(link)), default=None)

    def _tips(self, origin: str | None) -> list[Link]:
        """Return the seals of an origin that no later seal of that origin refers to."""
        return [link for link in self.links if link.seal.origin == origin and not self._followers(link)]

    def _followers(self, link: Link) -> list[Link]:
        return [later for later in self._after.get(link.sha256, ()) if later.seal.origin == link.seal.origin]

    def _whole(self) -> set[str]:
        """Return the hashes of the seals before which none is missing."""
        whole: set[str] = set()
        for link in self.links:
            before = self._before(link)
            starts = link.seal.number == 1 and link.seal.previous is None
            if starts or (before is not None and before.sha256 in whole and _follows(before, link)):
                whole.add(link.sha256)
        return whole

    def alone(self) -> list[Link]:
        """Return the seals that refer to no existing seal, and that no other seal refers to."""
        return [link for link in self.ends if self._before(link) is None]

    def segments_before(self, head: Head) -> set[str]:
        """Return the names of the segments that a head and the seals before it seal."""
        names: set[str] = set()
        link = self._by_hash.get(head.sha256)
        while link is not None:
            names.add(link.seal.segment)
            link = self._before(link)
        return names

    def in_line_with(self, head: Head) -> set[str]:
        """Return the hashes of a head, of the seals before it, and of those after it."""
        hashes: set[str] = set()
        link = self._by_hash.get(head.sha256)
        waiting = [] if link is None else [link]
        while waiting:
            later = waiting.pop()
            hashes.add(later.sha256)
            waiting += self._after.get(later.sha256, ())
        while link is not None:
            hashes.add(link.sha256)
            link = self._before(link)
        return hashes

    def forks(self) -> list[Fork]:
        """Return a Fork for each origin whose seals branch."""
        branched: dict[str | None, int] = {}
        for origin, followers in self._branches():
            if len(followers) > 1:
                after = min(link.seal.number for link in followers) - 1
                branched[origin] = min(after, branched.get(origin, after))
        return [
            Fork(origin=origin, after=after, heads=[str(link.head) for link in self._tips(origin)])
            for origin, after in branched.items()
        ]

    def _branches(self) -> Iterator[tuple[str | None, list[Link]]]:
        """Yield the seals of one origin that follow the same seal, and those that an origin begins with."""
        begins: dict[str | None, list[Link]] = {}
        for link in self.links:
            yield link.seal.origin, self._followers(link)
            before = self._before(link)
            # If the seal before is missing, the chain is broken here, and does not begin here.
            if link.seal.previous is None or (before is not None and before.seal.origin != link.seal.origin):
                begins.setdefault(link.seal.origin, []).append(link)
        yield from begins.items()

    def breaks(self) -> Iterator[Break]:
        """Yield the seals before which one is missing or changed, and those that repeat a segment of their chain."""
        changed: set[str] = set()
        for link in self.links:
            number, before = link.seal.number, self._before(link)
            if before is not None:
                if not _follows(before, link):
                    yield Break(link, f"it has the number {number}, and the seal before it {before.seal.number}")
            elif link.seal.previous is not None or number > 1:
                below = self._numbers_below(link)
                other = self._in_its_place(link, begins=not below)
                if other is None:
                    yield Break(link, _missing(number, below))
                elif other.sha256 not in changed:
                    changed.add(other.sha256)
                    reason = (
                        f"seal {number - 1} is not the one that seal {number} was made after: it was changed or re-made"
                    )
                    yield Break(other, reason)
        yield from self._sealed_twice()

    def _numbers_below(self, link: Link) -> list[int]:
        numbers = (other.seal.number for other in self.links if other.seal.origin == link.seal.origin)
        return [number for number in numbers if number < link.seal.number]

    def _in_its_place(self, link: Link, *, begins: bool) -> Link | None:
        """Return the seal that has the number of the missing one before this seal, and that no seal refers to.

        It has the same origin, unless an origin `begins` with this seal.
        """
        candidates = self._ends_by_number.get(link.seal.number - 1, ())
        return next((other for other in candidates if begins or other.seal.origin == link.seal.origin), None)

    def _sealed_twice(self) -> Iterator[Break]:
        """Yield later seals of the same segment in one chain: they cannot correct the first one."""
        repeated = [links for links in self.by_segment().values() if len(links) > 1]
        spans = self._spans() if repeated else {}
        for links in repeated:
            first: list[Link] = []
            for link in links:
                earlier = next((other for other in first if _holds(spans[other.sha256], spans[link.sha256])), None)
                if earlier is None:
                    first.append(link)
                else:
                    reason = f"segment {link.seal.segment} was sealed before, by seal {earlier.seal.number}"
                    yield Break(link, reason)

    def _spans(self) -> dict[str, tuple[int, int]]:
        """Return an interval for each seal that contains those of all seals after it, and of no others."""
        begun: dict[str, int] = {}
        spans: dict[str, tuple[int, int]] = {}
        waiting = [(link, False) for link in self.links if self._before(link) is None]
        while waiting:
            link, done = waiting.pop()
            if done:
                spans[link.sha256] = (begun[link.sha256], len(begun))
                continue
            begun[link.sha256] = len(begun)
            waiting.append((link, True))
            waiting += [(later, False) for later in self._after.get(link.sha256, ())]
        return spans


def _in_order(link: Link) -> tuple[int, str, int]:
    return link.seal.number, link.seal_segment, link.offset


def _missing(number: int, below: list[int]) -> str:
    first = max(below, default=0) + 1
    missing = f"{first}" if first >= number - 1 else f"{first} to {number - 1}"
    return f"the seal before this one is missing (number {missing})"


def _follows(before: Link, link: Link) -> bool:
    return link.seal.number == before.seal.number + 1


def _holds(outer: tuple[int, int], inner: tuple[int, int]) -> bool:
    return outer[0] < inner[0] and inner[1] <= outer[1]
