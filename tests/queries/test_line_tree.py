"""The tree of hashes over the lines of a segment, against the definition in RFC 9162."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.log import line_tree
from eventlog.queries.bundle import verify


def leaf(line: bytes) -> bytes:
    return hashlib.sha256(b"\0" + line).digest()


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def defined(lines: list[bytes]) -> bytes:
    """MTH(D[n]) as the RFC writes it."""
    if len(lines) < 2:
        return leaf(lines[0]) if lines else hashlib.sha256().digest()
    k = 1
    while k * 2 < len(lines):
        k *= 2
    return node(defined(lines[:k]), defined(lines[k:]))


def test_the_tree_of_three_lines_by_hand() -> None:
    """The first two below one node, the third beside it."""
    a, b, c = b"a\n", b"\n", b"torn"
    hashes = [hash_ for _, hash_ in line_tree.leaves([a + b + c])]
    assert hashes == [leaf(a), leaf(b), leaf(c)]
    assert line_tree.root(hashes) == node(node(leaf(a), leaf(b)), leaf(c))
    levels = line_tree.Levels(hashes)
    assert levels.proof(0) == [leaf(b), leaf(c)]
    assert levels.proof(2) == [node(leaf(a), leaf(b))]
    assert line_tree.root([]) == hashlib.sha256(b"").digest()


@settings(max_examples=80, deadline=None)
@given(st.lists(st.binary(max_size=4).map(lambda data: data.replace(b"\n", b"") + b"\n"), max_size=40), st.data())
def test_each_line_is_proven_and_no_other(lines: list[bytes], data: st.DataObject) -> None:
    """However the bytes come in blocks; and the root is as defined."""
    whole = b"".join(lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    blocks = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    found = list(line_tree.leaves(blocks))
    hashes = [hash_ for _, hash_ in found]
    assert [offset for offset, _ in found] == [sum(map(len, lines[:n])) for n in range(len(lines))]
    assert line_tree.root(hashes) == defined(lines)
    seal = {"lines": len(lines), "torn_bytes": 0, "tree_sha256": line_tree.root(hashes).hex()}
    levels = line_tree.Levels(hashes)
    for index, line in enumerate(lines):
        proof = [beside.hex() for beside in levels.proof(index)]
        assert verify.in_tree(line, index, proof, seal)
        assert not verify.in_tree(b"x" + line, index, proof, seal)
        assert not verify.in_tree(line, index, [*proof, "00" * 32], seal)
        assert not verify.in_tree(line, index + len(lines), proof, seal)
        for other in {0, index ^ 1} - {index}:
            if other < len(lines) and lines[other] != line:
                assert not verify.in_tree(lines[other], index, proof, seal)
