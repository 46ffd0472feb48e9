"""Retention policies: how long the log keeps the events of each workspace. Policies are events themselves.

A `retention_set` event sets the policy of the workspace in its envelope. Without a workspace it sets the default: for
workspaces without a policy and for events without a workspace. The policy that was recorded last counts
(eventlog.log.clock), whatever its timestamp. Without any policy, events are kept forever.

The age of an event counts from its timestamp or from the last write to its segment, whichever is later. So events that
were imported today are young, however old they are, and so are events that a wrong clock dated back.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import msgspec

from eventlog.errors import InvalidEvent, QueryFailed
from eventlog.format import envelope, timestamps
from eventlog.format.builtin import RetentionSet
from eventlog.log import clock, reader
from eventlog.log.layout import SegmentFile

RETENTION_EVENT = "retention_set"
_DAY_S = 86_400.0


class Policies:
    """The policies of a log at one moment: which segments may be deleted.

    `older_than_s` is the minimum age in seconds of events without a policy, and of others if it is longer than their
    policy. Raises QueryFailed if there is neither age nor policy.
    """

    def __init__(self, root: str | Path, older_than_s: float | None) -> None:
        self._now_ns = time.time_ns()
        self._keep_s = _read(root, self._now_ns)
        self._older_than_s = older_than_s
        if older_than_s is None and not self._keep_s:
            raise QueryFailed(
                "there is neither age nor policy: give an age (--older-than 30d), or record a policy, for instance: "
                "eventlog emit retention_set '{\"keep_days\": 30}' --workspace W"
            )

    def keep_s(self, workspace: str | None) -> float | None:
        """Return how long the workspace's own policy keeps its events, in seconds; None if it has none."""
        return self._keep_s.get(workspace)

    def old(self, files: list[SegmentFile]) -> list[SegmentFile]:
        """Return the segments that are old enough for some policy, by the time of their last write alone."""
        least_s = min([self._least_s(keep_s) for keep_s in self._keep_s.values()] + self._older_than())
        return [file for file in files if self._age_s(file.mtime_ns) > least_s]

    def reason_to_keep(self, file: SegmentFile) -> str | None:
        """Return why a segment must stay, as `holds events of workspace 'w', …`; None if it may go. Raises OSError."""
        if not self._keep_s:
            return None  # its age is all that counts
        seen: set[str | None] = set()
        written_age_s = self._age_s(file.mtime_ns)
        for line in reader.read_lines(file.path, end=file.size):
            workspace, age_s = None, written_age_s
            try:
                event = envelope.decode(line.data).envelope
            except InvalidEvent:
                pass  # a line that is no event has no workspace
            else:
                workspace = event.workspace
                age_s = min(age_s, self._age_s(timestamps.to_us(timestamps.parse(event.timestamp)) * 1000))
            if workspace in seen and age_s == written_age_s:
                continue
            seen.add(workspace)
            if age_s <= self._min_age_s(workspace):
                return f"holds events of {_name_of(workspace)}, which are kept {self._how_long(workspace)}"
        return None

    def _min_age_s(self, workspace: str | None) -> float:
        """Return how old the events of a workspace must be to be deleted, in seconds."""
        if workspace in self._keep_s or None in self._keep_s:
            return self._least_s(self._keep_s.get(workspace, self._keep_s.get(None, math.inf)))
        return math.inf if self._older_than_s is None else self._older_than_s

    def _least_s(self, keep_s: float) -> float:
        return max([keep_s, *self._older_than()])

    def _older_than(self) -> list[float]:
        return [] if self._older_than_s is None else [self._older_than_s]

    def _age_s(self, moment_ns: int) -> float:
        return (self._now_ns - moment_ns) / 1e9

    def _how_long(self, workspace: str | None) -> str:
        min_age_s = self._min_age_s(workspace)
        return "for ever" if math.isinf(min_age_s) else f"{min_age_s / _DAY_S:g} days"


def _name_of(workspace: str | None) -> str:
    return "no workspace" if workspace is None else f"workspace {workspace!r}"


def _read(root: str | Path, now_ns: int) -> dict[str | None, float]:
    """Return how many seconds each workspace's events are kept; forever if a policy cannot be read."""
    latest: dict[str | None, float] = {}
    for policy in clock.recorded(reader.read_events(root, RETENTION_EVENT), now_us=now_ns // 1000):
        event = policy.event.envelope
        latest[event.workspace] = _keep_s(event.payload)
    return latest


def _keep_s(payload: msgspec.Raw) -> float:
    try:
        days = msgspec.json.decode(payload, type=RetentionSet).keep_days
    except msgspec.MsgspecError:
        return math.inf
    return math.inf if days is None or days < 0 else days * _DAY_S
