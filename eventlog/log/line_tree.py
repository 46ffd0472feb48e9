"""A tree of hashes over the lines of a segment: it proves that one line is in a segment without showing the others.

The tree is that of Certificate Transparency (RFC 9162, section 2.1), with SHA-256:

    leaf   SHA-256(0x00, line with its newline); bytes behind the last newline are a leaf as well
    node   SHA-256(0x01, left, right); the left part has the largest power of two of leaves that is less than all

A proof of leaf `i` of `n` are the hashes beside the way from the leaf to the root, about log2(n) of them. Whoever knows
the root, which stands in the segment's seal, computes it from the line and the proof.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

#: The root of no leaves.
EMPTY = hashlib.sha256().digest()


def leaves(blocks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and the leaf hash of each line of some bytes, however they are cut into blocks."""
    start = position = 0
    begun = None
    for block in blocks:
        begin = 0
        while (newline := block.find(b"\n", begin)) >= 0:
            leaf = begun or hashlib.sha256(b"\0")
            leaf.update(block[begin : newline + 1])
            yield start, leaf.digest()
            begun, begin = None, newline + 1
            start = position + begin
        if begin < len(block):
            begun = begun or hashlib.sha256(b"\0")
            begun.update(block[begin:])
        position += len(block)
    if begun is not None:
        yield start, begun.digest()


def root(hashes: Iterable[bytes]) -> bytes:
    """Return the root over leaf hashes, in memory that grows with the logarithm of their number."""
    stack: list[tuple[int, bytes]] = []  # complete subtrees: number of leaves, root
    for leaf in hashes:
        size, right = 1, leaf
        while stack and stack[-1][0] == size:
            right = _node(stack.pop()[1], right)
            size *= 2
        stack.append((size, right))
    if not stack:
        return EMPTY
    right = stack.pop()[1]
    while stack:
        right = _node(stack.pop()[1], right)
    return right


class Levels:
    """All nodes of a tree, level by level, for the proofs of many lines."""

    def __init__(self, hashes: list[bytes]) -> None:
        self._levels = [hashes]
        while len(level := self._levels[-1]) > 1:
            pairs = zip(level[::2], level[1::2], strict=False)
            # The last of an odd number goes up as it is: it is the whole right part of a node further up.
            self._levels.append([_node(left, right) for left, right in pairs] + (level[-1:] if len(level) % 2 else []))

    def proof(self, index: int) -> list[bytes]:
        """Return the hashes that lead from the leaf at `index` to the root, the one beside the leaf first."""
        path = []
        for level in self._levels[:-1]:
            beside = index ^ 1
            if beside < len(level):
                path.append(level[beside])
            index //= 2
        return path


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()
