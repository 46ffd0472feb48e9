"""Logs of agents at work, made event by event, for tests of what is asked about them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from eventlog.config import Config
from eventlog.format.control import Role
from eventlog.record.recorder import Recorder
from tests.indexer.support import index

#: When, what, and fields of the envelope.
Told = tuple[datetime, str | msgspec.Struct, dict[str, Any]]


def record(root: Path, *told: Told) -> list[str]:
    """Emit events and index them; return their ids."""
    recorder = Recorder(Config(root=str(root), strict=True), role=Role.MAINTENANCE)
    ids = []
    for moment, event, fields in told:
        payload = fields.pop("payload", None) if isinstance(event, str) else None
        given = (event, payload) if payload is not None else (event,)
        ids.append(recorder.emit(*given, timestamp=moment, **fields))
    recorder.shutdown()
    index(root)
    return [each for each in ids if each]
