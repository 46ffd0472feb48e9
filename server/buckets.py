"""Rates: a bucket of tokens for each key, for events and for bytes."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

#: What may come at once, in seconds' worth.
BURST_S = 10.0
#: Keys that have not asked for the longest time begin anew; a bucket is full again after BURST_S anyway.
_BUCKETS_MAX = 10_000


class Taken(NamedTuple):
    """What became of a request: 0 s to wait, or how long until as much is there; and what is left, in whole tokens."""

    wait_s: float
    remaining: int


class Buckets:
    """Token buckets by name. Safe across threads."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, name: str, amount: float, per_s: float) -> Taken:
        """Take tokens from a bucket that gets `per_s` of them; none are taken where there are too few.

        More than a burst at once is taken from a full bucket, which is empty for longer then: else it could never be.
        """
        size = per_s * BURST_S
        now = self._now()
        with self._lock:
            level, since = self._levels.pop(name, (size, now))
            level = min(size, level + (now - since) * per_s)
            needed = min(amount, size)
            is_enough = level >= needed
            self._levels[name] = (level - amount if is_enough else level, now)
            while len(self._levels) > _BUCKETS_MAX:
                self._levels.popitem(last=False)
        if is_enough:
            return Taken(0.0, max(math.floor(level - amount), 0))
        return Taken((needed - level) / per_s, max(math.floor(level), 0))
