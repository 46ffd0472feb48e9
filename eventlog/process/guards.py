"""Guards between an agent and its recording: only the exceptions in STOPS leave a recording function.

Any other exception of an agent's values, handlers, redactors and sinks is counted and logged, also one
that derives from BaseException alone, such as CancelledError: recording waits for no task, so no task is
cancelled in it.
"""

from __future__ import annotations

from eventlog.errors import EventlogError

#: Exceptions that stop the program.
STOPS = (KeyboardInterrupt, SystemExit)
_SHOWN_MAX_CHARS = 80


def message_of(error: BaseException) -> str:
    """Return the message of an error, with its type unless it is an EventlogError: `OSError: disk full`."""
    name = type(error).__name__
    try:
        text = str(error)
    except STOPS:
        raise
    except BaseException:  # noqa: BLE001 - the error's own code
        return f"{name}, whose message cannot be read"
    return text if isinstance(error, EventlogError) else f"{name}: {text}"


def shown(value: object) -> str:
    """Return a value for a message: its repr, cut to 80 characters; `<TypeName>` if its repr raises."""
    try:
        text = repr(value)
    except STOPS:
        raise
    except BaseException:  # noqa: BLE001 - the value's own code
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN_MAX_CHARS else text[:_SHOWN_MAX_CHARS] + "…"
