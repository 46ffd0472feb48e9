"""Events that could not be written: counted, and told to the log when it takes lines again."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter

import msgspec

from eventlog import envelope, ids, timestamps
from eventlog.envelope import Envelope

DROPPED_EVENT = "events_dropped"
_UNKNOWN_TYPE = "unknown"
#: A report names this many event types; the rest is summed up under "other".
_TYPES_MAX = 100


class EventsDropped(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of `events_dropped`: how many events of which types were lost, when and why.

    `since` and `until` are the wall clock at the first and the last of them; `cause` is the
    last error.
    """

    count: int
    event_types: dict[str, int]
    since: str
    until: str
    cause: str
    pid: int


class Drops:
    """What one recorder has lost: in all, and not yet told. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.total = 0
        self._untold: Counter[str] = Counter()
        self._since_ns = self._until_ns = 0
        self._cause = ""

    @property
    def pending(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._untold)

    def add(self, event_type: str | None, count: int, cause: str, *, told: bool) -> None:
        """Count lost events. `event_type` is None where the error came before it was known.

        With `told` the caller knows of it, as of an exception, and the log need not.
        """
        if count <= 0:
            return
        with self._lock:
            self.total += count
            if told:
                return
            self._until_ns = time.time_ns()
            self._since_ns = self._since_ns if self._untold else self._until_ns
            self._untold[event_type or _UNKNOWN_TYPE] += count
            self._cause = cause

    def take(self) -> EventsDropped | None:
        """Return what is to be told, as told from now on; None where there is nothing."""
        with self._lock:
            untold, self._untold = self._untold, Counter()
            if not untold:
                return None
            named = dict(untold.most_common(_TYPES_MAX))
            other = untold.total() - sum(named.values())
            return EventsDropped(
                count=untold.total(),
                event_types=named | ({"other": other} if other else {}),
                since=timestamps.from_ns(self._since_ns),
                until=timestamps.from_ns(self._until_ns),
                cause=self._cause.encode("utf-8", "backslashreplace").decode(),
                pid=os.getpid(),
            )

    def put_back(self, report: EventsDropped) -> None:
        """The report could not be written either: keep it for later."""
        with self._lock:
            self._untold.update(report.event_types)
            self._since_ns = timestamps.to_us(timestamps.parse(report.since)) * 1000


def drop_envelope(report: EventsDropped, workspace: str | None, agent: str | None) -> Envelope:
    """Return the event that tells of lost ones."""
    now_ns = time.time_ns()
    return Envelope(
        event_id=ids.new_id(now_ns),
        event_type=DROPPED_EVENT,
        timestamp=timestamps.from_ns(now_ns),
        workspace=workspace,
        agent=agent,
        payload=envelope.encode_payload(report),
    )
