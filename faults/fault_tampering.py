"""Sealed segments that are changed: by single bits, and by hand."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from eventlog.format import envelope, ids, timestamps
from eventlog.format.envelope import Envelope
from eventlog.log import layout, zst
from eventlog.log.layout import SegmentFile
from eventlog.maintenance import archiving, sealing, verification
from faults.campaign import Plan, fault

_SEGMENT_BYTES = 64 * 1024 * 1024
_T = TypeVar("_T")
_FIRST_NS = 1_760_000_000_000_000_000


def _segment(root: Path, event_type: str, size: int, rng: random.Random) -> Path:
    """Write a segment of lines like those of agents: 0.2 to 4 kB, mostly small, 800 bytes on average."""
    path = layout.segment_path(root, event_type, layout.new_segment_name(_FIRST_NS + rng.randrange(10**15)))
    path.parent.mkdir(parents=True, exist_ok=True)
    words = [rng.randbytes(rng.randint(1, 6)).hex() for _ in range(2000)]
    done, number = 0, 0
    with path.open("wb") as file:
        while done < size:
            number += 1
            moment_ns = _FIRST_NS + number * 1_000_000
            text = " ".join(rng.choices(words, k=int(10 * 25 ** rng.random())))
            done += file.write(
                envelope.encode(
                    Envelope(
                        event_id=ids.new_id(moment_ns),
                        event_type=event_type,
                        timestamp=timestamps.from_ns(moment_ns),
                        payload=msgspec.Raw(msgspec.json.encode({"number": number, "text": text})),
                    )
                )
            )
    return path


# -- single bits -------------------------------------------------------------------------


@fault("bit flips", "one bit of a sealed segment at a time, anywhere, plain and archived")
def bit_flips(plan: Plan) -> str:
    root, found = plan.root, {False: 0, True: 0}
    for each in range(3):
        _segment(root, f"kind{each}", 12_000, plan.rng)
    sealing.seal(root)
    harmless = 0
    for archived in (False, True):
        if archived:
            archiving.archive_sealed(root)
        files = [file for file in layout.list_log(root).segments if file.sealed]
        stored = {file.path: file.path.stat().st_size for file in files}
        for _ in range(plan.times(1000)):
            file = plan.rng.choices(files, list(stored.values()))[0]
            if _flip(plan, root, file, plan.rng.randrange(stored[file.path] * 8)):
                found[archived] += 1
            else:
                harmless += 1
        plan.check(not verification.verify(root).findings, "findings after all bits were put back")
    return (
        f"{found[False]:,} in plain segments, each found at its very byte; {found[True]:,} in archives, each found; "
        f"{harmless} in archives that mean nothing to zstd: the content is the same"
    )


def _flip(plan: Plan, root: Path, file: SegmentFile, bit: int) -> bool:
    """Flip a bit, verify, flip it back; return whether it was found. Only a flip without effect may not be found."""
    content = None if not file.archived else b"".join(zst.blocks(file.path))
    place, before = bit // 8, file.path.read_bytes()
    mode = file.path.stat().st_mode
    _overwrite(file.path, place, bytes([before[place] ^ 1 << bit % 8]), mode)
    findings = verification.verify(root).findings
    same = file.archived and not findings and b"".join(zst.blocks(file.path)) == content
    _overwrite(file.path, place, before[place : place + 1], mode)
    where = f"bit {bit % 8} of byte {place} of {file.path}"
    plan.check(findings or same, f"{where} was flipped, and not found")
    if not file.archived:
        exact = [(each.segment, each.offset) for each in findings if each.exact]
        plan.check((file.name, place) in exact, f"{where} was flipped; found instead: {findings}")
    return bool(findings)


def _overwrite(path: Path, place: int, data: bytes, mode: int) -> None:
    path.chmod(0o600)
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), data, place)
    path.chmod(mode)
    zst._content_size.cache_clear()  # it goes by time stamps, which are coarser than this


# -- by hand -----------------------------------------------------------------------------


class _Change(NamedTuple):
    """Changed bytes, and where they first differ from the sealed ones."""

    data: bytes
    offset: int


def _changed_byte(data: bytes, rng: random.Random) -> _Change:
    place = rng.randrange(len(data))
    return _Change(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :], place)


def _removed_line(data: bytes, rng: random.Random) -> _Change:
    start, end = _line(data, rng.randrange(len(data) // 2))
    return _Change(data[:start] + data[end:], start)


def _swapped_lines(data: bytes, rng: random.Random) -> _Change:
    start, end = _line(data, rng.randrange(len(data) // 2))
    _, behind = _line(data, end)
    swapped = data[:start] + data[end:behind] + data[start:end] + data[behind:]
    return _Change(swapped, next(place for place in range(start, behind) if swapped[place] != data[place]))


def _truncated(data: bytes, rng: random.Random) -> _Change:
    place = rng.randrange(len(data) // 2, len(data))
    return _Change(data[:place], place)


def _truncated_at_a_line(data: bytes, rng: random.Random) -> _Change:
    _, end = _line(data, rng.randrange(len(data) // 2))
    return _Change(data[:end], end)


def _line(data: bytes, place: int) -> tuple[int, int]:
    return data.rfind(b"\n", 0, place) + 1, data.index(b"\n", place) + 1


_CHANGES: tuple[Callable[[bytes, random.Random], _Change], ...] = (
    _changed_byte,
    _removed_line,
    _swapped_lines,
    _truncated,
    _truncated_at_a_line,
)


@fault("tampering", "a sealed segment of 64 MiB: changed byte, removed line, swapped lines, cut off; by hand")
def tampering(plan: Plan) -> str:
    root = plan.root
    size = max(1 << 20, plan.times(_SEGMENT_BYTES))
    path = _segment(root, "kind", size, plan.rng)
    (seconds, _), data = _timed(lambda: sealing.seal(root)), path.read_bytes()
    sealing_mb_s = size / 1e6 / seconds
    seconds, clean = _timed(lambda: verification.verify(root))
    plan.check(not clean.findings, f"findings in a log that nobody changed: {clean.findings}")
    verifying_mb_s = size / 1e6 / seconds
    told = []
    for change in _CHANGES:
        changed = change(data, plan.rng)
        _replace(path, changed.data)
        name = change.__name__.strip("_").replace("_", " ")
        seconds, verified = _timed(lambda: verification.verify(root))
        findings = [each for each in verified.findings if each.segment == layout.list_type(root, "kind")[0].name]
        plan.check(len(findings) == 1, f"{name} at byte {changed.offset}: found {findings}")
        off = changed.offset - findings[0].offset
        plan.check(off == 0 if findings[0].exact else 0 <= off < 64_000, f"{name} at {changed.offset}: {findings}")
        told.append(f"{name} {'at its byte' if off == 0 else f'{off:,} bytes before it'} in {seconds:.1f} s")
    return (
        f"{size / 2**20:.0f} MiB, {data.count(10):,} lines: sealed at {sealing_mb_s:.0f} MB/s, verified at "
        f"{verifying_mb_s:.0f} MB/s; {', '.join(told)}"
    )


def _replace(path: Path, data: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(data)
    path.chmod(0o444)


def _timed(call: Callable[[], _T]) -> tuple[float, _T]:
    started = time.monotonic()
    done = call()
    return time.monotonic() - started, done
