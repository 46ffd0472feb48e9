"""Events that could not be written: counted, and reported to the log when it takes lines again.

    add … → next_report → (the log takes it) → reported

A report stays what it is until the log has taken it: where a try left it in the log after
all, only unsynced, the next one repeats the same event id, and the index counts it once.
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
#: A report names this many event types; the rest is summed up under "other".
_TYPES_MAX = 100
_UNNAMED_CAUSE = "an error that left no room, or no clock, to say more"
_TURN_TIMEOUT_S = 1.0


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
    """What one recorder has lost: in all, and not yet reported. Threads may share it.

    A signal handler or a finalizer that emits may be in here while its own thread is: what
    changes is changed in steps that hold no call.
    """

    def __init__(self) -> None:
        self._lock = locks.Lock()
        self.total = 0
        #: Lost, and counted by a step that holds no call: there was no room on the stack, or no clock.
        self.unnamed = 0
        self._unreported: dict[str, int] = {}
        self._since_ns = self._until_ns = 0
        self._cause = ""
        self._report_due: Envelope | None = None

    @property
    def pending(self) -> bool:
        """Whether there is something to tell."""
        return self._report_due is not None or bool(self._unreported) or self.unnamed > 0

    def add(self, event_type: str | None, count: int, cause: str, *, reported: bool) -> None:
        """Count lost events. `event_type` is None where the error came before it was known.

        With `reported` the caller knows of it, as of an exception, and the log need not.
        """
        if count <= 0:
            return
        kind = event_type or _UNKNOWN_TYPE
        now_ns = time.time_ns()
        with locks.held(self._lock, _TURN_TIMEOUT_S):
            self.total += count
            if reported:
                return
            self._until_ns = now_ns
            if not self._unreported:
                self._since_ns = now_ns
            self._cause = cause
            if kind not in self._unreported:
                self._unreported[kind] = 0
            self._unreported[kind] += count

    def next_report(self, workspace: str | None, agent: str | None) -> Envelope | None:
        """Return the event to write next, the same until it is `reported`; None where there is none."""
        if count := self.unnamed:
            self.add(None, count, _UNNAMED_CAUSE, reported=False)
            self.unnamed -= count
            self.total -= count  # it was in there already
        with locks.held(self._lock, _TURN_TIMEOUT_S):
            if self._report_due is None and self._unreported:
                nothing: dict[str, int] = {}
                unreported, self._unreported = self._unreported, nothing
                self._report_due = _envelope(self._report(unreported), workspace, agent)
            return self._report_due

    def reported(self, report: Envelope) -> None:
        """The log has taken the report."""
        with locks.held(self._lock, _TURN_TIMEOUT_S):
            if self._report_due is report:
                self._report_due = None

    def _report(self, unreported: dict[str, int]) -> EventsDropped:
        count = sum(unreported.values())
        # Not by a Counter, which imports when it is asked for some of the most common.
        named = dict(sorted(unreported.items(), key=itemgetter(1), reverse=True)[:_TYPES_MAX])
        other = count - sum(named.values())
        return EventsDropped(
            count=count,
            event_types=named | ({"other": other} if other else {}),
            since=timestamps.from_ns(self._since_ns),
            until=timestamps.from_ns(self._until_ns),
            cause=self._cause.encode("utf-8", "backslashreplace").decode(),
            pid=os.getpid(),
        )


def _envelope(report: EventsDropped, workspace: str | None, agent: str | None) -> Envelope:
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
