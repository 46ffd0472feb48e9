"""What the indexer logs when it finds the log other than it left it."""

from __future__ import annotations

import msgspec

ALARM_EVENT = "index_alarm"


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of `index_alarm`: something in the log is not as the indexer left it."""

    segment: str
    segment_type: str
    indexed_offset: int
    size: int
    what: str
