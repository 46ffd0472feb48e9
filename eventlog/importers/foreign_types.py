"""Event types of foreign files: one that is a name of eventlog's own, or of a source, becomes `imported.<type>`.

A foreign file that uses such a name means something else, and must not be able to price, alert or count as a
source's lines.
"""

from __future__ import annotations

from eventlog.format import control, envelope
from eventlog.importers import sources

#: Before the name of a foreign type that is taken.
IMPORTED = "imported."


def is_claimed(event_type: str) -> bool:
    """Say whether a type is eventlog's own or a source's. Raises InvalidSource."""
    return event_type in control.WRITERS or event_type in control.RECORDED or event_type in sources.event_types()


def imported(event_type: str) -> str:
    """Return the type under which lines of a foreign type are imported.

    One of eventlog's own becomes `imported.<type>`, and so on: two foreign types never become one.
    Raises InvalidEvent where that is longer than a type may be.
    """
    return envelope.check_event_type(IMPORTED + event_type) if is_claimed(foreign(event_type)) else event_type


def foreign(event_type: str) -> str:
    """Return a type without the `imported.` before it."""
    while event_type.startswith(IMPORTED):
        event_type = event_type.removeprefix(IMPORTED)
    return event_type


def renamed_from(event_type: str) -> str | None:
    """Return the foreign type that `imported` made this of; None where it changed nothing."""
    if event_type.startswith(IMPORTED) and is_claimed(foreign(event_type)):
        return event_type.removeprefix(IMPORTED)
    return None
