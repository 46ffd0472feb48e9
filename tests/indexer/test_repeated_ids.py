"""Lines that repeat an id leave a block alone: the others are stored with it, in one piece."""

from __future__ import annotations

import contextlib
from pathlib import Path
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.indexer.index.digest import Digest
from eventlog.indexer.load import bulk
from eventlog.indexer.load.bulk import BlockBuffer
from eventlog.indexer.views import typed
from eventlog.log.reader import Block, Line
from tests.indexer.support import COUNT, digest_of, index, line, rows, segment


def block(offset: int, numbers: list[int]) -> Block:
    data = b"".join(line(number) for number in numbers)
    return Block(offset, len(data), data)


@settings(max_examples=100)
@given(st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=8), max_size=5))
def test_each_line_is_either_buffered_or_left_over(blocks: list[list[int]]) -> None:
    """At its own offset, and each id is buffered once: at its first line."""
    offset, lines, left_over, buffered_lines = 0, set[Line](), set[Line](), 0
    with contextlib.closing(BlockBuffer()) as buffer:
        for numbers in blocks:
            given_ = block(offset, numbers)
            offset += given_.length
            lines |= set(given_.lines())
            added = buffer.add("s", "t", given_)
            assert added.buffered + len(added.rest) == len(numbers)
            left_over |= set(added.rest)
            buffered_lines += added.buffered
        buffered = {each for _, _, part in buffer.blocks() for each in part.lines()}
        assert len(buffered) == buffered_lines == buffer.events.total() == len(buffer.ids)
    assert buffered | left_over == lines
    assert not buffered & left_over
    firsts = {each.data: each for each in sorted(lines, key=lambda each: each.offset, reverse=True)}
    assert buffered == set(firsts.values())


def repeating(root: Path) -> None:
    """A log in which lines come again, with the same content and with another, within a segment and in the next."""
    segment(root, *map(line, (1, 2, 2, 3)), line(1, agent="other"), line(4), line(1))
    segment(root, line(5), line(3), line(6), line(5, agent="other"), line(2))


def _without_blocks(root: Path) -> Digest:
    with mock.patch.object(bulk, "validate_block", return_value=None):
        index(root)
    return digest_of(root)


def test_rows_are_the_same_as_line_by_line(root: Path, tmp_path: Path) -> None:
    """The first line of an id is its row, another content is a conflict, and the same again is nothing."""
    repeating(root)
    index(root)
    assert rows(root, COUNT) == [(6, 6)]
    assert rows(root, "SELECT payload ->> '/n', line_offset FROM conflicts ORDER BY 1") == [
        ("1", 4 * len(line(1))), ("5", 2 * len(line(1)) + len(line(6))),
    ]  # fmt: skip
    (tmp_path / "other").mkdir()
    (root / "log").rename(tmp_path / "other" / "log")
    assert _without_blocks(tmp_path / "other") == digest_of(root)


def test_lines_that_bring_nothing_new_are_not_inserted(root: Path) -> None:
    """To plan an insert takes longer than to find out that it would insert nothing."""
    segment(root, *map(line, (1, 2, 3, 2, 1)))
    with mock.patch.object(typed, "insert", wraps=typed.insert) as insert:
        index(root)
    assert insert.call_count == 1
    assert rows(root, COUNT) == [(3, 3)]
