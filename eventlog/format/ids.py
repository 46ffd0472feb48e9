"""Event ids: time-ordered UUIDs, random for new events and derived for repeatable ones.

Both kinds carry the milliseconds since the Unix epoch in their first 48 bits, so ids
sort by time and the index finds a redelivered one by looking at a narrow range.
Layouts: RFC 9562, sections 5.7 (version 7) and 5.8 (version 8).
"""

from __future__ import annotations

import hashlib
import os

from eventlog.process import forks
from eventlog.process.forks import Phase

_MS_MAX = (1 << 48) - 1
_TIME_MAX = (1 << 64) - 1
#: Random texts of 16 hex digits, fetched 128 at a time: fetching them one by one costs ten times as much.
_random: list[str] = []
_FETCHED = 128
#: The first two bits of each are 10, the variant of RFC 9562.
_VARIANT_SET = int.from_bytes(b"\x80\0\0\0\0\0\0\0" * _FETCHED, "big")
_VARIANT_CUT = int.from_bytes(b"\xbf\xff\xff\xff\xff\xff\xff\xff" * _FETCHED, "big")


def _text(value: int) -> str:
    digits = value.to_bytes(16, "big").hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def new_id(time_ns: int) -> str:
    """Return a UUIDv7: 48 bits of ms, 12 bits of the fraction of the ms, 62 random bits.

    The fraction (RFC 9562, section 6.2, method 3) keeps ids of one process in order
    within a millisecond. The random bits come from the kernel; forked children never repeat them.
    """
    try:
        random = _random.pop()  # one step: no thread and no signal handler gets the same one
    except IndexError:
        _fetch()
        return new_id(time_ns)
    time = ((time_ns << 16) // 1_000_000 & _TIME_MAX).to_bytes(8, "big").hex()  # 12 digits of ms, 4 of the fraction
    return f"{time[:8]}-{time[8:12]}-7{time[12:15]}-{random[:4]}-{random[4:]}"


def _fetch() -> None:
    numbers = int.from_bytes(os.urandom(8 * _FETCHED), "big")
    made = (numbers | _VARIANT_SET) & _VARIANT_CUT
    _random.extend(made.to_bytes(8 * _FETCHED, "big").hex("-", 8).split("-"))


def derived_id(time_us: int, *key: str | bytes, workspace: str | None = None) -> str:
    """Return the UUIDv8 of a time, a workspace and a key: same input, same id.

    `time_us` is the event's own timestamp in microseconds since the epoch, 0 without one (times
    before 1970 count as 0). The 74 free bits are a BLAKE2b hash of the workspace and the parts of the key
    (docs/decisions/0003-derived-ids-and-import-checkpoints.md).
    """
    # `person` separates hashes with a workspace from those without: workspace "" and None give different ids.
    digest = hashlib.blake2b(digest_size=10, person=b"" if workspace is None else b"workspace")
    for part in key if workspace is None else (workspace, *key):
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    bits = int.from_bytes(digest.digest(), "big")
    high, low = bits >> 68, bits & ((1 << 62) - 1)
    ms = min(max(time_us // 1000, 0), _MS_MAX)
    return _text(ms << 80 | 0x8 << 76 | high << 64 | 0b10 << 62 | low)


forks.register(Phase.STATE, after_in_child=_random.clear)
