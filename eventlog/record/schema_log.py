"""Logging the schemas of typed events, once per log: the indexer may be another program, years later.

docs/decisions/0004-schemas-are-events.md says why.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from eventlog.format import envelope, schemas
from eventlog.log import layout, reader

_SCAN_MAX_BYTES = 1024 * 1024


class _Identified(msgspec.Struct, frozen=True):
    event_id: str


_decoder = msgspec.json.Decoder(_Identified)


class SchemaLog:
    """Records each schema that the log does not have; it reads once which it has. Threads may share it.

    Two processes may log the same schema at the same time: same schema, same event id, one row.
    """

    def __init__(self, root: str | Path, write: Callable[[str, bytes], None]) -> None:
        self._root = root
        self._write = write
        #: The types whose schema is known to be in the log.
        self.logged: set[schemas.Registered] = set()
        self._logged_ids: set[str] | None = None

    def ensure(self, registered: schemas.Registered) -> None:
        """Log the schema of a type unless the log has it. Raises WriteFailed, OSError, and what msgspec raises."""
        logged_ids = self._logged_ids
        if logged_ids is None:
            logged_ids = self._logged_ids = _read_ids(self._root)
        event = schemas.schema_envelope(registered)
        if event.event_id not in logged_ids:
            self._write(schemas.SCHEMA_EVENT, envelope.encode(event))
            logged_ids.add(event.event_id)
        self.logged.add(registered)

    def forget(self) -> None:
        """Check again at the next event of each type: the log may have been moved away."""
        self.logged.clear()
        self._logged_ids = None


def _read_ids(root: str | Path) -> set[str]:
    event_ids = set()
    for segment in layout.list_type(root, schemas.SCHEMA_EVENT):
        for line in reader.read_lines(segment.path, max_bytes=_SCAN_MAX_BYTES):
            try:
                event_ids.add(_decoder.decode(line.data).event_id)
            except msgspec.MsgspecError:  # no event; the index quarantines it
                continue
    return event_ids
