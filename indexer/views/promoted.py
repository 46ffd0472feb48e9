"""What is kept of payloads in columns of their own, beside them."""

from __future__ import annotations

from typing import NamedTuple


class Kept(NamedTuple):
    """A column of `event_rows` that is filled from the payloads of one event type.

    It holds the payload's field of that name, or what `expression` makes of `payload`, which is SQL without other
    columns in it.
    """

    event_type: str
    field: str
    kind: str
    expression: str | None = None

    @property
    def column(self) -> str:
        return f"{self.event_type}/{self.field}"
