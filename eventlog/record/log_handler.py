"""Recording a program's own log lines as `debug_event` events, in the context in which they were logged.

    logging.getLogger().addHandler(obs.LogHandler(level=logging.INFO))
    structlog.configure(processors=[..., obs.structlog_processor, structlog.processors.JSONRenderer()])

Neither ever raises. Log lines of eventlog itself are left out: an event about an event that could not be
written would be another one that cannot be written.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

from eventlog.errors import EventlogError
from eventlog.format import builtin
from eventlog.record import coercion, runs, steps
from eventlog.record.api import harmless

_OWN_LOGGER = "eventlog"
#: The attributes of every record; all others come from `extra`.
_STANDARD = frozenset({*vars(logging.LogRecord("", 0, "", 0, "", (), None)), "message", "asctime", "taskName"})
#: Set while a line is recorded: lines that sinks and values log in between would recurse for ever.
_recording: ContextVar[bool] = ContextVar("eventlog_logs", default=False)


class LogHandler(logging.Handler):
    """Records log records as `debug_event`: level, logger, message, stack trace, and `extra` as attributes."""

    def emit(self, record: logging.LogRecord) -> None:
        """Record a log record. Never raises."""
        with contextlib.suppress(EventlogError):  # a strict recorder; it has counted the lost event
            self._emit(record)

    @harmless
    def _emit(self, record: logging.LogRecord) -> None:
        values = vars(record)  # a record that was received over a network may lack any of them
        name, level = values.get("name"), values.get("levelname")
        if (isinstance(name, str) and _is_own(name)) or _recording.get():
            return
        try:
            message: object = record.getMessage()
        except Exception:  # noqa: BLE001 - arguments that do not fit, or a __str__ that fails
            message = f"{coercion.text(values.get('msg'))} {coercion.text(values.get('args'))}"
        extra = {key: value for key, value in values.items() if key not in _STANDARD}
        stack = _stack(values.get("exc_info")) or values.get("exc_text") or values.get("stack_info")
        _record(level.lower() if isinstance(level, str) else level, name, message, stack, extra)


def structlog_processor(
    logger: Any, method_name: str, event_dict: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Record a structlog entry as `debug_event`, and return it unchanged. Never raises.

    Put it after the processors that add level, logger name and exception, and before the renderer.
    """
    with contextlib.suppress(EventlogError):  # as above
        _record_entry(logger, method_name, event_dict)
    return event_dict


@harmless
def _record_entry(logger: Any, method_name: str, event_dict: MutableMapping[str, Any]) -> None:
    name = event_dict.get("logger") or event_dict.get("logger_name") or getattr(logger, "name", None)
    if _recording.get() or (isinstance(name, str) and _is_own(name)):
        return
    rest = {key: value for key, value in event_dict.items() if key not in _OF_STRUCTLOG}
    stack = event_dict.get("exception") or _stack(event_dict.get("exc_info")) or event_dict.get("stack")
    level = event_dict.get("level") or method_name
    _record(level, name if isinstance(name, str) else None, event_dict.get("event"), stack, rest)


_OF_STRUCTLOG = frozenset({"event", "level", "logger", "logger_name", "exception", "exc_info", "stack", "stack_info"})


def _is_own(name: str) -> bool:
    return name == _OWN_LOGGER or name.startswith(_OWN_LOGGER + ".")


def _record(level: Any, logger: str | None, message: object, stack: Any, extra: dict[str, Any]) -> None:
    token = _recording.set(True)
    try:
        steps.record(
            builtin.DebugEvent(
                level=level,
                logger=logger,
                message=message,
                stacktrace=stack[-runs.STACKTRACE_MAX_CHARS :] if isinstance(stack, str) else None,
                attributes=extra or None,
            )
        )
    finally:
        _recording.reset(token)


def _stack(exc_info: Any) -> str | None:
    """Return the traceback of an `exc_info` of logging or structlog: a tuple, an exception, or True."""
    if isinstance(exc_info, tuple):
        exc_info = exc_info[1] if len(exc_info) == 3 else None
    elif exc_info and not isinstance(exc_info, BaseException):
        exc_info = sys.exception()
    return runs.stack_of(exc_info) if isinstance(exc_info, BaseException) else None
