"""How safe an event is when `emit` returns."""

from __future__ import annotations

import enum


class Durability(enum.Enum):
    """What an event survives when its emit has returned."""

    WRITTEN = "written"
    SYNCED = "synced"
