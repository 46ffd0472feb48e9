"""Clocks that were wrong for a while, and what they wrote down.

An event says when it happened by the clock of its producer. Where that ran ahead, its events lie in
the future once the clock is right. None of them may delay what is done now, and none may beat what is recorded
after it. So control events are ordered by when they were *recorded*, as far as the log can tell:

    within a segment   by their place: a line is no older than those before it, whatever times they name
    across segments    by that time, where it is believable; a line from the future counts as old as the
                       last believable one before it in its segment, or as the oldest of all

A clock that is a few minutes ahead of another one is not worth telling.
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

#: Times up to so far ahead of now are believed.
AHEAD_S = 300.0


class Recorded(NamedTuple):
    """An event, when it was recorded at the latest (us since the epoch), and whether that lies in the future."""

    event: Event
    latest_us: int
    is_ahead: bool


def recorded(events: Iterable[Event], *, now_us: int) -> list[Recorded]:
    """Return events in the order in which they were recorded."""
    segments: dict[str, list[Event]] = {}
    for event in events:
        segments.setdefault(event.located.segment, []).append(event)
    ordered = [entry for each in segments.values() for entry in _in_segment(each, now_us + int(AHEAD_S * 1e6))]
    ordered.sort(key=lambda entry: entry[0])
    return [each for _, each in ordered]


_Key = tuple[int, int, str, int]


def _in_segment(events: list[Event], horizon_us: int) -> list[tuple[_Key, Recorded]]:
    latest_us, found = 2**63, []
    for event in sorted(events, key=lambda each: each.located.offset, reverse=True):
        latest_us = min(latest_us, timestamps.to_us(timestamps.parse(event.envelope.timestamp)))
        found.append(Recorded(event, latest_us, latest_us > horizon_us))
    last_us = max((each.latest_us for each in found if not each.is_ahead), default=-(2**63))
    return [
        (
            (
                last_us if each.is_ahead else each.latest_us,
                each.latest_us,
                each.event.located.segment,
                each.event.located.offset,
            ),
            each,
        )
        for each in found
    ]


#: What operators write. Of these few, one from the future is worth a warning.
OPERATOR_TYPES = tuple(name for name, role in control.WRITERS.items() if role is Role.OPERATOR)


def warnings(
    root: str | Path, event_types: Iterable[str] = OPERATOR_TYPES, *, workspaces: tuple[str | None, ...] | None = None
) -> list[str]:
    """Return a warning for each control event from the future behind which nothing was recorded yet.

    `workspaces` bounds whose are told. What cannot be read is passed over.
    """
    now_us = time.time_ns() // 1000
    found = []
    for event_type in event_types:
        for each in recorded(reader.read_events(root, event_type, damaged={}), now_us=now_us):
            event = each.event.envelope
            if each.is_ahead and (workspaces is None or event.workspace in workspaces):
                found.append(
                    f"{event_type} {event.event_id} is dated {event.timestamp}, in the future: a clock was wrong. "
                    "What is recorded after it counts, in another segment only until that time; record it again then"
                )
    return found
