"""Ordering control events although a clock was wrong.

The timestamp of an event comes from its producer's clock. If that ran ahead, the event lies in the future once
the clock is right. Such an event must not delay others, and must not win over events that were recorded
after it. So control events are sorted by when they were *recorded*, as far as the log can tell:

    within a segment   by their offset: a line is no older than those before it, whatever times they name
    across segments    by that time, where it is believable; a line from the future counts as old as the
                       last believable one before it in its segment, or as the oldest of all

A clock that is up to five minutes ahead is believed (docs/decisions/0026-control-events.md).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from eventlog.format import control, timestamps
from eventlog.format.control import Role
from eventlog.log import reader
from eventlog.log.reader import Event

#: Timestamps up to this far ahead of now are believed.
AHEAD_S = 300.0


class Recorded(NamedTuple):
    """An event, the latest time at which it was recorded (us since the epoch), and whether that is in the future."""

    event: Event
    latest_us: int
    is_ahead: bool


def recorded(events: Iterable[Event], *, now_us: int) -> list[Recorded]:
    """Return events in the order in which they were recorded. `now_us` is in microseconds since the epoch."""
    segments: dict[str, list[Event]] = {}
    for event in events:
        segments.setdefault(event.located.segment, []).append(event)
    horizon_us = now_us + int(AHEAD_S * 1e6)
    ordered = [entry for in_segment in segments.values() for entry in _in_segment(in_segment, horizon_us)]
    ordered.sort(key=lambda entry: entry[0])
    return [entry for _, entry in ordered]


_Key = tuple[int, int, str, int]


def _in_segment(events: list[Event], horizon_us: int) -> list[tuple[_Key, Recorded]]:
    latest_us, entries = 2**63, []
    for event in sorted(events, key=lambda event: event.located.offset, reverse=True):
        latest_us = min(latest_us, timestamps.to_us(timestamps.parse(event.envelope.timestamp)))
        entries.append(Recorded(event, latest_us, latest_us > horizon_us))
    last_us = max((entry.latest_us for entry in entries if not entry.is_ahead), default=-(2**63))
    return [
        (
            (
                last_us if entry.is_ahead else entry.latest_us,
                entry.latest_us,
                entry.event.located.segment,
                entry.event.located.offset,
            ),
            entry,
        )
        for entry in entries
    ]


#: The types of events that operators write. They are few, so one from the future is worth a warning.
OPERATOR_TYPES = tuple(name for name, role in control.WRITERS.items() if role is Role.OPERATOR)


def warnings(
    root: str | Path, event_types: Iterable[str] = OPERATOR_TYPES, *, workspaces: tuple[str | None, ...] | None = None
) -> list[str]:
    """Return a warning for each control event from the future that no later one in its segment corrects.

    With `workspaces`, only for events of these. Segments that cannot be read are skipped.
    """
    now_us = time.time_ns() // 1000
    messages = []
    for event_type in event_types:
        for entry in recorded(reader.read_events(root, event_type, damaged={}), now_us=now_us):
            event = entry.event.envelope
            if entry.is_ahead and (workspaces is None or event.workspace in workspaces):
                messages.append(
                    f"{event_type} {event.event_id} is dated {event.timestamp}, in the future: a clock was wrong. "
                    "What is recorded after it counts, in another segment only until that time; record it again then"
                )
    return messages
