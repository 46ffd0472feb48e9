"""Records of a file that is JSON, but no JSON lines: an array of objects, or objects over several lines.

The file is taken apart at the ends of its objects, by quotes and brackets alone: what stands in them is judged later.
Memory is bounded by one object. A piece ends with the last byte of its object, so that a file that goes on, with a
comma or without, can be read on from there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from eventlog.format.envelope import MAX_LINE_BYTES

#: How one begins: an array, what is left of one behind an object, an object that has a line for each member.
_BEGINS = re.compile(rb"\s*(?:\[\s*(?:[{\]]|\Z)|,\s*(?:\{|\Z)|\]\s*(?:\[|\Z)|\{[ \t\r]*\n\s*(?:[\"}]|\Z))")
_BRACKET_OR_QUOTE = re.compile(rb'["{}\[\]]')
_QUOTE_OR_BACKSLASH = re.compile(rb'["\\]')
#: What may stand between objects; zeros and a byte order mark, too.
BETWEEN = b"[], \t\r\n\0\xef\xbb\xbf"


class Piece(NamedTuple):
    """An object, or what else stands before one, behind the separators that are between it and the piece before.

    `length` is more than `len(data)` where it is over the limit and was cut. `is_whole` is false where the file ends
    inside of it.
    """

    data: bytes
    length: int
    is_whole: bool


def begins(first: bytes) -> bool:
    """Say whether a file, or the rest of one, begins as one that is no JSON lines."""
    return _BEGINS.match(first) is not None


def pieces(blocks: Iterable[bytes]) -> Iterator[Piece]:
    """Yield the objects of a file that comes in blocks."""
    scanner, data, length = _Scanner(), bytearray(), 0
    for block in blocks:
        start = 0
        for position, is_end in scanner.edges(block):
            _add(data, block[start:position])
            length += position - start
            start = position
            if is_end or data.strip(BETWEEN):
                yield Piece(bytes(data), length, True)
                length = 0
                data.clear()
        _add(data, block[start:])
        length += len(block) - start
    if data.strip(BETWEEN):
        yield Piece(bytes(data), length, False)


def _add(data: bytearray, more: bytes) -> None:
    data += more[: MAX_LINE_BYTES + 1 - len(data)]


class _Scanner:
    """Finds where objects begin and end that are in no other one."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_text = False
        #: Bytes of the next block that a backslash at the end of this one escapes.
        self._escaped = 0

    def edges(self, block: bytes) -> Iterator[tuple[int, bool]]:
        """Yield the positions of edges in the next block of a file, and whether each is an end."""
        position = self._escaped
        self._escaped = max(0, position - len(block))
        while match := (_QUOTE_OR_BACKSLASH if self._in_text else _BRACKET_OR_QUOTE).search(block, position):
            position = match.end()
            found = match[0]
            if found == b"\\":
                position += 1
                self._escaped = max(0, position - len(block))
            elif found == b'"':
                self._in_text = not self._in_text
            elif found == b"{" or (found == b"[" and self._depth):
                self._depth += 1
                if self._depth == 1:
                    yield match.start(), False
            elif found in b"]}" and self._depth:
                self._depth -= 1
                if not self._depth:
                    yield position, True
