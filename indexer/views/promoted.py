"""What is kept of payloads in columns of their own, beside them."""

from __future__ import annotations

from typing import NamedTuple


class Kept(NamedTuple):
    """A field of a typed event that has a column in `event_rows`."""

    event_type: str
    field: str
    kind: str

    @property
    def column(self) -> str:
        return f"{self.event_type}/{self.field}"
