"""Event ids: time-ordered UUIDs, random for new events and derived for repeatable ones.

Both kinds carry the milliseconds since the Unix epoch in their first 48 bits, so ids
sort by time and the index finds a redelivered one by looking at a narrow range.
Layouts: RFC 9562, sections 5.7 (version 7) and 5.8 (version 8).
"""

from __future__ import annotations

import hashlib
import os

_MS_MAX = (1 << 48) - 1


def _text(value: int) -> str:
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def new_id(time_ns: int) -> str:
    """Return a UUIDv7: 48 bits of ms, 12 bits of the fraction of the ms, 62 random bits.

    The fraction (RFC 9562, section 6.2, method 3) keeps ids of one process in order
    within a millisecond. Randomness comes from the kernel, so forks never repeat it.
    """
    ms, rest_ns = divmod(time_ns, 1_000_000)
    fraction = (rest_ns << 12) // 1_000_000
    random = int.from_bytes(os.urandom(8), "big") >> 2
    return _text((ms & _MS_MAX) << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | random)


def derived_id(time_us: int, *key: str | bytes) -> str:
    """Return the UUIDv8 that belongs to this time and key: same input, same id.

    `time_us` is the event's own timestamp in microseconds since the epoch (times before
    1970 count as 0). The 74 free bits are a BLAKE2b hash of the key's parts.
    """
    digest = hashlib.blake2b(digest_size=10)
    for part in key:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    bits = int.from_bytes(digest.digest(), "big")
    high, low = bits >> 68, bits & ((1 << 62) - 1)
    ms = min(max(time_us // 1000, 0), _MS_MAX)
    return _text(ms << 80 | 0x8 << 76 | high << 64 | 0b10 << 62 | low)
