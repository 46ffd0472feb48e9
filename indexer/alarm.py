"""The event that reports a change of the log behind the indexer's back."""

from __future__ import annotations

import msgspec

ALARM_EVENT = "index_alarm"


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of `index_alarm`: a segment of the log is not the file that was indexed."""

    segment: str
    segment_type: str
    indexed_offset: int
    size: int
    #: In the payload it is called `what`.
    reason: str = msgspec.field(name="what")
