"""The fingerprint of a segment in its seal, and locating the first byte that differs from it.

The SHA-256 proves *that* bytes are the same. To say *where* they differ, a seal also holds
an Adler-32 of each line (or of each group of lines, in segments with more than 262,144):

- the first check that fails names the line;
- Adler-32 is two sums modulo 65521, A = 1 + Σ b and B = n + Σ (n - i)·b over n bytes b at i
  (RFC 1950, section 8.2). If one byte has changed by d, A has changed by d and B by (n - i)·d,
  so their quotient gives the position of the byte. Putting the old byte back must restore the
  SHA-256: the answer is proved, not guessed.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventlog.log import line_tree, zst
from eventlog.log.content import digests, whole_lines_end

_PRIME = 65521
_CHECKS_MAX = 262_144
#: In longer lines the changed byte is not searched for.
_SEARCHED_MAX_BYTES = 60_000


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """The fingerprint of a segment. `lines` counts complete lines; `torn_bytes` follow the last of them.

    `sha256` is in hex; so is `tree_sha256`, the root of the tree of lines (eventlog.log.line_tree), which proves single
    lines: None in seals of versions without it. `checks` has 4 bytes (Adler-32, big-endian) for each `check_lines`
    lines, a torn one included.
    """

    size_bytes: int
    lines: int
    torn_bytes: int
    sha256: str
    check_lines: int
    checks: bytes
    tree_sha256: str | None = None


class Difference(NamedTuple):
    """The offset of the first byte that differs from a fingerprint, and how it differs.

    `exact` is false where only the line of the first different byte is known.
    """

    offset: int
    change: str
    exact: bool


def fingerprint(path: Path) -> Fingerprint:
    """Return the fingerprint of a segment, plain or archived. Raises OSError."""
    sha, lines, total = hashlib.sha256(), 0, 0
    for block in zst.blocks(path):
        sha.update(block)
        lines += block.count(b"\n")
        total += len(block)
    check_lines = max(1, -(-lines // _CHECKS_MAX))
    groups = _groups(zst.blocks(path), check_lines)
    return Fingerprint(
        size_bytes=total,
        lines=lines,
        torn_bytes=total - whole_lines_end(path, total),
        sha256=sha.hexdigest(),
        check_lines=check_lines,
        checks=b"".join(struct.pack(">I", group.check) for group in groups),
        tree_sha256=line_tree.root(leaf for _, leaf in line_tree.leaves(zst.blocks(path))).hex(),
    )


def sha256(path: Path) -> str:
    """Return the SHA-256 of a segment's uncompressed bytes, in hex. Raises OSError."""
    return digests(zst.blocks(path)).sha256


class _Group(NamedTuple):
    start: int
    end: int
    check: int


def _groups(blocks: Iterable[bytes], check_lines: int) -> Iterable[_Group]:
    """Yield start, end and check of each group of lines; a torn tail belongs to the last one."""
    start = position = 0
    check, lines = 1, 0
    for block in blocks:
        view, begin = memoryview(block), 0
        while (newline := block.find(b"\n", begin)) >= 0:
            check = zlib.adler32(view[begin : newline + 1], check)
            begin = newline + 1
            lines += 1
            if lines == check_lines:
                yield _Group(start, position + begin, check)
                start, check, lines = position + begin, 1, 0
        check = zlib.adler32(view[begin:], check)
        position += len(block)
    if position > start:
        yield _Group(start, position, check)


# -- where bytes differ ----------------------------------------------------------------


def is_same(path: Path, sealed: Fingerprint) -> bool:
    """Say whether a segment has the bytes of a fingerprint. Raises OSError."""
    content = digests(zst.blocks(path))
    return (content.size, content.sha256) == (sealed.size_bytes, sealed.sha256)


def first_difference(path: Path, sealed: Fingerprint) -> Difference | None:
    """Compare a segment with its fingerprint; return None if it has the same bytes. Raises OSError."""
    if is_same(path, sealed):
        return None
    groups = list(_groups(zst.blocks(path), sealed.check_lines))
    checks = [check for (check,) in struct.iter_unpack(">I", sealed.checks)]
    for number, (group, check) in enumerate(zip(groups, checks, strict=False)):
        if group.check != check:
            return _difference_in_group(path, sealed, groups, checks, number)
    end = groups[-1].end if groups else 0
    if len(groups) < len(checks):
        return Difference(end, f"cut off: {sealed.size_bytes - end:,} bytes are missing", True)
    if len(groups) > len(checks):
        start = groups[len(checks)].start
        return Difference(start, f"{end - start:,} bytes were added behind the sealed end", True)
    return Difference(0, "changed in a way that keeps all checks of its lines", False)


def _difference_in_group(
    path: Path, sealed: Fingerprint, groups: list[_Group], checks: list[int], number: int
) -> Difference:
    """Describe how the first group that differs was changed."""
    group = groups[number]
    is_last = number + 1 == len(groups)
    size_now = groups[-1].end
    if is_last and size_now < sealed.size_bytes and number + 1 <= len(checks):
        missing = sealed.size_bytes - size_now
        if not _read(path, size_now - 1, size_now).endswith(b"\n"):
            return Difference(size_now, f"cut off inside a line: {missing:,} bytes are missing", False)
    if size_now == sealed.size_bytes:
        exact = _one_byte(path, sealed, groups, checks, number)
        if exact is not None:
            return exact
    if sealed.check_lines > 1:
        return Difference(group.start, f"changed within {sealed.check_lines:,} lines from here", False)
    now = [group.check for group in groups]
    removed = sealed.size_bytes - size_now
    if (
        removed > 0
        and group.check in checks[number + 1 :]
        and now[number:] == checks[len(checks) - len(now) + number :]
    ):
        return Difference(group.start, f"removed: {removed:,} bytes of whole lines are missing here", True)
    if removed < 0 and checks[number] in now[number + 1 :]:
        return Difference(group.start, f"added: {-removed:,} bytes of other lines stand here", True)
    if checks[number] in now[number + 1 :]:
        other = groups[now.index(checks[number], number + 1)]
        same = _common_prefix(_read(path, group.start, group.end), _read(path, other.start, other.end))
        return Difference(group.start + same, f"moved: the line of here stands at byte {other.start:,}", True)
    return Difference(group.start, "changed within the line that starts here", False)


def _one_byte(
    path: Path, sealed: Fingerprint, groups: list[_Group], checks: list[int], number: int
) -> Difference | None:
    """Return the byte that changed, if it is only one; the SHA-256 proves it."""
    group = groups[number]
    candidates: list[tuple[int, int]] = []  # (offset, the byte that was there)
    if group.end - group.start <= _SEARCHED_MAX_BYTES:
        data = _read(path, group.start, group.end)
        candidates += [(group.start + i, byte) for i, byte in _substituted(data, group.check, checks[number])]
        candidates += [(group.start + i, 0x0A) for i in _lost_newline(data, checks[number])]
        if number + 1 < len(groups) and groups[number + 1].end - group.start <= _SEARCHED_MAX_BYTES:
            both = _read(path, group.start, groups[number + 1].end)
            check = zlib.adler32(both)
            newline = group.end - group.start - 1
            candidates += [
                (group.start + i, byte) for i, byte in _substituted(both, check, checks[number]) if i == newline
            ]
    for offset, byte in candidates:
        now = _read(path, offset, offset + 1)
        if _sha256_with(path, offset, byte) == sealed.sha256:
            return Difference(offset, f"this byte is 0x{now.hex()}, and was 0x{byte:02x}", True)
    return None


def _substituted(data: bytes, now: int, before: int) -> list[tuple[int, int]]:
    """Return (index, old byte) for the one byte whose change turns check `before` into check `now`, if there is one."""
    delta_a = ((now & 0xFFFF) - (before & 0xFFFF)) % _PRIME
    delta_b = ((now >> 16) - (before >> 16)) % _PRIME
    if delta_a == 0:
        return []
    index = len(data) - delta_b * pow(delta_a, -1, _PRIME) % _PRIME
    change = delta_a if delta_a < _PRIME // 2 else delta_a - _PRIME
    if not 0 <= index < len(data) or not 0 <= data[index] - change <= 255:
        return []
    return [(index, data[index] - change)]


def _lost_newline(data: bytes, before: int) -> list[int]:
    """Return the indexes at which a newline would end a line with the check `before`."""
    indexes, running = [], 1
    for index in range(len(data)):
        if zlib.adler32(b"\n", running) == before:
            indexes.append(index)
        running = zlib.adler32(data[index : index + 1], running)
    return indexes


def _sha256_with(path: Path, offset: int, byte: int) -> str:
    digest, position = hashlib.sha256(), 0
    for block in zst.blocks(path):
        if position <= offset < position + len(block):
            changed = bytearray(block)
            changed[offset - position] = byte
            digest.update(changed)
        else:
            digest.update(block)
        position += len(block)
    return digest.hexdigest()


def _read(path: Path, start: int, end: int) -> bytes:
    with zst.open_segment(path) as file:
        return file.pread(end - start, start)


def _common_prefix(one: bytes, other: bytes) -> int:
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return index
    return min(len(one), len(other))
