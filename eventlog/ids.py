"""Event ids: time-ordered UUIDs, random for new events and derived for repeatable ones.

Both kinds carry the milliseconds since the Unix epoch in their first 48 bits, so ids
sort by time and the index finds a redelivered one by looking at a narrow range.
Layouts: RFC 9562, sections 5.7 (version 7) and 5.8 (version 8).
"""

from __future__ import annotations

import hashlib
import os

_MS_MAX = (1 << 48) - 1
#: Random numbers of 64 bits, fetched many at a time: asking the kernel for one costs ten times as much.
_random: list[int] = []
_FETCH_BYTES = 1024


def _text(value: int) -> str:
    digits = value.to_bytes(16, "big").hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def new_id(time_ns: int) -> str:
    """Return a UUIDv7: 48 bits of ms, 12 bits of the fraction of the ms, 62 random bits.

    The fraction (RFC 9562, section 6.2, method 3) keeps ids of one process in order
    within a millisecond. Randomness comes from the kernel, and forks never repeat it.
    """
    try:
        random = _random.pop()  # one step: no thread and no signal handler gets the same number
    except IndexError:
        _random.extend(memoryview(os.urandom(_FETCH_BYTES)).cast("Q"))
        return new_id(time_ns)
    ms, rest_ns = divmod(time_ns, 1_000_000)
    fraction = (rest_ns << 12) // 1_000_000
    return _text((ms & _MS_MAX) << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | random >> 2)


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


os.register_at_fork(after_in_child=_random.clear)
