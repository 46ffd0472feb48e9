"""What keeps recording out of an agent's way: of all that can be raised, only STOPS leaves it.

Whatever else comes out of an agent's own values, handlers, redactors and sinks is counted and logged:
also what derives from BaseException alone, such as a CancelledError. Nothing in here waits for a task,
so no task is cancelled here.
"""

from __future__ import annotations

from eventlog.errors import EventlogError

#: Somebody wants the program to stop.
STOPS = (KeyboardInterrupt, SystemExit)
_SHOWN_MAX_CHARS = 80


def message_of(error: BaseException) -> str:
    """Return what an error says, with its type where it is not one of eventlog's own."""
    name = type(error).__name__
    try:
        text = str(error)
    except STOPS:
        raise
    except BaseException:  # noqa: BLE001 - the error's own code
        return f"{name}, whose message cannot be read"
    return text if isinstance(error, EventlogError) else f"{name}: {text}"


def shown(value: object) -> str:
    """Return a value for a message, as its repr if that works, and cut."""
    try:
        text = repr(value)
    except STOPS:
        raise
    except BaseException:  # noqa: BLE001 - the value's own code
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN_MAX_CHARS else text[:_SHOWN_MAX_CHARS] + "…"
