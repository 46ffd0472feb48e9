"""Lost events: counted, and reported by an `events_dropped` event when the log takes lines again.

    add … → next_report → (the log takes it) → reported

A report does not change until the log has taken it: if a failed try left it in the log after
all, only unsynced, the next try repeats the same event id, and the index has one row.
"""

from __future__ import annotations

import os
import time
from operator import itemgetter

import msgspec

from eventlog.format import envelope, ids, timestamps
from eventlog.format.envelope import Envelope
from eventlog.process import locks

DROPPED_EVENT = "events_dropped"
_UNKNOWN_TYPE = "unknown"
#: A report names this many event types; all others are counted as "other".
_TYPES_MAX = 100
_UNNAMED_CAUSE = "an error that left no room, or no clock, to say more"
_TURN_TIMEOUT_S = 1.0


class EventsDropped(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of `events_dropped`: how many events of which types were lost, when and why.

    `event_types` has the count of each type, such as {"llm_call": 12}. `since` and `until` are the times of the
    first and the last lost event; `cause` is the last error.
    """

    count: int
    event_types: dict[str, int]
    since: str
    until: str
    cause: str
    pid: int


class _Lost:
    """What one report tells of."""

    __slots__ = ("cause", "since_ns", "types", "until_ns")

    def __init__(self) -> None:
        self.types: dict[str, int] = {}
        self.since_ns = self.until_ns = 0
        self.cause = ""


class Drops:
    """Counts the events that one recorder has lost, and those not yet reported. Threads may share it.

    A signal handler or a finalizer that emits may interrupt these methods in their own thread: so state
    changes by statements without a call.
    """

    def __init__(self) -> None:
        self._lock = locks.Lock()
        self.total = 0
        #: Lost events that could only be counted, without type or time: the stack had no room, or the clock failed.
        self.unnamed = 0
        self._unreported = _Lost()
        #: What the next report tells of, until it could be put together: the clock or the randomness may fail.
        self._telling: _Lost | None = None
        self._report_due: Envelope | None = None

    @property
    def pending(self) -> bool:
        """Whether there is something to report."""
        waits = self._report_due is not None or self._telling is not None
        return waits or bool(self._unreported.types) or self.unnamed > 0

    def add(self, event_type: str | None, count: int, cause: str, *, reported: bool) -> None:
        """Count lost events. `event_type` is None where the error came before the type was read.

        With `reported`, the caller got an exception: they count in `total`, and are not reported again.
        """
        if count <= 0:
            return
        kind = event_type or _UNKNOWN_TYPE
        now_ns = time.time_ns()
        with locks.held(self._lock, _TURN_TIMEOUT_S):
            self.total += count
            if reported:
                return
            lost = self._unreported
            lost.until_ns = now_ns
            if not lost.types:
                lost.since_ns = now_ns
            lost.cause = cause
            if kind not in lost.types:
                lost.types[kind] = 0
            lost.types[kind] += count

    def next_report(self, workspace: str | None, agent: str | None) -> Envelope | None:
        """Return the event to write next, the same one until `reported` is called; None if nothing is pending.

        Raises what the clock or the randomness raises; the next call tells of the same events.
        """
        if count := self.unnamed:
            self.add(None, count, _UNNAMED_CAUSE, reported=False)
            self.unnamed -= count
            self.total -= count  # they are counted in there already
        with locks.held(self._lock, _TURN_TIMEOUT_S):
            if self._report_due is None:
                if self._telling is None and self._unreported.types:
                    nothing = _Lost()
                    self._telling, self._unreported = self._unreported, nothing
                if (telling := self._telling) is not None:
                    report = _envelope(_payload(telling), workspace, agent)
                    if self._telling is telling:  # else a signal handler has put it together meanwhile
                        self._report_due, self._telling = report, None
            return self._report_due

    def reported(self, report: Envelope) -> None:
        """Mark a report as written to the log."""
        with locks.held(self._lock, _TURN_TIMEOUT_S):
            if self._report_due is report:
                self._report_due = None


def _payload(lost: _Lost) -> EventsDropped:
    count = sum(lost.types.values())
    # Without a Counter: its most_common imports heapq.
    named = dict(sorted(lost.types.items(), key=itemgetter(1), reverse=True)[:_TYPES_MAX])
    other = count - sum(named.values())
    return EventsDropped(
        count=count,
        event_types=named | ({"other": other} if other else {}),
        since=timestamps.from_ns(lost.since_ns),
        until=timestamps.from_ns(lost.until_ns),
        cause=lost.cause.encode("utf-8", "backslashreplace").decode(),
        pid=os.getpid(),
    )


def _envelope(report: EventsDropped, workspace: str | None, agent: str | None) -> Envelope:
    """Return the `events_dropped` event of a report."""
    now_ns = time.time_ns()
    return Envelope(
        event_id=ids.new_id(now_ns),
        event_type=DROPPED_EVENT,
        timestamp=timestamps.from_ns(now_ns),
        workspace=workspace,
        agent=agent,
        payload=envelope.encode_payload(report),
    )
