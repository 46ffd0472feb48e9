"""The schemas of typed events, logged once per log: the indexer may be another program, years later."""

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
    """What this process knows to be in the log, which it reads once. Threads may share it.

    Two processes may log the same schema at once: same schema, same id, one row.
    """

    def __init__(self, root: str | Path, write: Callable[[str, bytes], None]) -> None:
        self._root = root
        self._write = write
        #: The types that need no look any more.
        self.logged: set[schemas.Registered] = set()
        self._logged_ids: set[str] | None = None

    def ensure(self, registered: schemas.Registered) -> None:
        """Log the schema of a type, unless it is there. Raises WriteFailed and OSError, and what msgspec raises."""
        logged_ids = self._logged_ids
        if logged_ids is None:
            logged_ids = self._logged_ids = _read_ids(self._root)
        event = schemas.schema_envelope(registered)
        if event.event_id not in logged_ids:
            self._write(schemas.SCHEMA_EVENT, envelope.encode(event))
            logged_ids.add(event.event_id)
        self.logged.add(registered)

    def forget(self) -> None:
        """Look again at the next event of each type: the log may be another."""
        self.logged.clear()
        self._logged_ids = None


def _read_ids(root: str | Path) -> set[str]:
    found = set()
    for segment in layout.list_type(root, schemas.SCHEMA_EVENT):
        for line in reader.read_lines(segment.path, max_bytes=_SCAN_MAX_BYTES):
            try:
                found.add(_decoder.decode(line.data).event_id)
            except msgspec.MsgspecError:  # not ours; the index puts it into quarantine
                continue
    return found
