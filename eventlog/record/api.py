"""The module-level functions, which use one shared recorder. It is created when it is first needed.

Recording functions raise only KeyboardInterrupt and SystemExit (STOPS in eventlog.process.guards) and, if the recorder
is strict, EventlogError. `harmless` keeps that promise for code that runs before `emit`.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar, overload

import msgspec

from eventlog import config as _config
from eventlog.config import Mode
from eventlog.errors import ConfigError, EventlogError, MissingExtra
from eventlog.process import forks, threads
from eventlog.process.forks import Phase
from eventlog.process.guards import STOPS, message_of
from eventlog.record.check import Check, examine
from eventlog.record.recorder import Recorder
from eventlog.record.redaction import Redactor
from eventlog.record.sinks import MemorySink, Sink
from eventlog.record.stats import Stats

P = ParamSpec("P")
R = TypeVar("R")

_logger = logging.getLogger("eventlog")
_recorder: Recorder | None = None
_sinks: list[Sink] = []
_redactor: Redactor | None = None
_lock = threading.RLock()
#: The settings of the recorder, and whether `configure` made it.
_resolved: _config.Resolved | None = None
_is_configured = False
#: What was said of settings files.
_said: set[str] = set()


def recorder() -> Recorder:
    """Return the shared recorder, configured from file and environment unless `configure` was called.

    Raises only KeyboardInterrupt and SystemExit: a wrong setting is logged, and the defaults apply.
    """
    if _recorder is not None:
        return _recorder
    with _lock:
        if _recorder is None:
            found = _config.for_agent()
            for problem in found.problems:
                _say(f"{problem}; going on without it under {found.config.root or 'no root: nothing is recorded'}")
            _say_once(found.left_out)
            made = _install(Recorder(found.config), found)
            try:
                _start_background(made)
            except STOPS:
                raise
            except BaseException as error:  # noqa: BLE001 - the installed index side may be broken
                _say(f"{message_of(error)}; events are written to the log and can be indexed later")
        return _recorder  # type: ignore[return-value]  # set by _install, which mypy cannot see


def _say(message: str, level: int = logging.ERROR) -> None:
    if sys.is_finalizing():  # a thread that never runs again may hold a lock of the logging module
        return
    try:
        _logger.log(level, message)
    except STOPS:
        raise
    except BaseException:  # noqa: BLE001 - the agent's own handler or filter
        return


def _say_once(left_out: list[str]) -> None:
    """Log what of a project's file does not count. `configure` may be called again and again."""
    for message in left_out:
        if message not in _said:
            _said.add(message)
            _say(message, logging.WARNING)


def harmless(function: Callable[P, R]) -> Callable[P, R | None]:
    """Wrap a function: an error in it is counted as a lost event, and the call returns None.

    The wrapper raises KeyboardInterrupt and SystemExit and, if the recorder is strict, EventlogError.
    """

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return function(*args, **kwargs)
        except STOPS:
            raise
        except BaseException as error:  # the agent's values raise anything; or the stack has no room
            made = _recorder
            if made is not None:
                if made.config.strict and isinstance(error, EventlogError):  # already counted
                    raise
                try:
                    made.failed(error)
                except RecursionError:
                    made.lost_unnamed(1)
            return None

    return guarded


def configure(**settings: Any) -> None:
    """Replace the shared recorder by one with these settings, such as `root="runs"` (see eventlog.config).

    `redactor` is that of `redact_with`; without it, an earlier redactor stays. Sinks stay. Raises ConfigError,
    and MissingExtra where the mode needs the index side.
    """
    if "redactor" in settings:
        redact_with(settings.pop("redactor"))
    found = _config.resolve(code=settings)
    made = Recorder(found.checked())
    _say_once(found.left_out)
    with _lock:
        before = _recorder
        if before is not None:
            before.shutdown()
        _install(made, found, is_configured=True)
        _start_background(made)


def _start_background(made: Recorder) -> None:
    """Start the indexer thread in modes `dual` and `db_only`, and the sender in mode `remote`.

    By name: the write side must not depend on them. Nothing starts while the interpreter ends. Raises MissingExtra,
    and ConfigError where mode `remote` has no `url`.
    """
    mode = made.config.mode
    if mode in (Mode.FILE_ONLY, Mode.OFF) or threads.interpreter_is_ending():
        return
    if mode is Mode.REMOTE:
        made.sender = made.background = importlib.import_module("eventlog.ship.sender").of(made.config)
        return
    try:
        background = importlib.import_module("eventlog.indexer.background")
    except ModuleNotFoundError as error:
        raise MissingExtra(f"mode {mode.value!r} ({error.name} is missing)", "index") from None
    made.background = background.start(made.config.root, release=mode is Mode.DB_ONLY)


def _install(made: Recorder, resolved: _config.Resolved, *, is_configured: bool = False) -> Recorder:
    global _recorder, _resolved, _is_configured
    _resolved, _is_configured = resolved, is_configured
    made.redactor = _redactor
    for sink in _sinks:
        made.add_sink(sink)
    _recorder = made
    return made


@overload
def emit(event: msgspec.Struct, /, **fields: Any) -> str | None: ...
@overload
def emit(event: str, payload: object = None, /, **fields: Any) -> str | None: ...
def emit(event: Any = None, payload: object = None, /, *surplus: object, **fields: Any) -> str | None:
    """Record one event; return its id, a UUID, or None where it was not recorded. See Recorder.emit."""
    try:
        if surplus:
            event = None  # emit_with refuses and counts it
        return (_recorder or recorder()).emit_with(event, payload, fields)
    except RecursionError:  # no room on the stack, not even for a call that counts it
        if _recorder is not None:
            _recorder._drops.total += 1
            _recorder._drops.unnamed += 1
        return None


@overload
def emit_many(events: Iterable[msgspec.Struct], /, **fields: Any) -> list[str]: ...
@overload
def emit_many(events: str, payloads: Iterable[object], /, **fields: Any) -> list[str]: ...
def emit_many(events: str | Iterable[msgspec.Struct], payloads: Iterable[object] = (), /, **fields: Any) -> list[str]:
    """Record many events in one write per type; return the ids of those recorded. See Recorder.emit_many."""
    return (_recorder or recorder()).emit_many(events, payloads, **fields)


def flush() -> bool:
    """Sync everything emitted so far; return whether that worked. Raises WriteFailed, if strict."""
    return recorder().flush()


def stats() -> Stats:
    """Return the counters of the shared recorder, such as `stats().lost`."""
    return recorder().stats()


def check() -> Check:
    """Return whether `emit` would record an event now, and if not, why. Nothing is recorded, created or configured.

    It looks at the settings, at the breaker that suspends writing, and by a probe at the folder and the disk. A
    segment that is open already may take lines where a new one could not be made.
    """
    made, resolved = _recorder, _resolved
    if made is None or resolved is None:
        return examine(_config.for_agent(), is_configured=False, suspended=None, captured=False)
    return examine(resolved, is_configured=_is_configured, suspended=made.suspended_by, captured=made.is_capturing)


def shutdown() -> None:
    """Flush and close everything; also done at interpreter exit. Emitting later still works."""
    if _recorder is not None:
        _recorder.shutdown()
        for sink in _sinks:
            _recorder.guard(sink, "close")


def add_sink(sink: Sink) -> None:
    """Give every line to `sink` as well. It stays when `configure` is called."""
    with _lock:
        recorder().add_sink(sink)
        _sinks.append(sink)


def redact_with(redactor: Redactor | None) -> None:
    """Apply a function to each payload before it is written; None removes it. It stays when `configure` is called.

    `redactor(event_type, payload)` gets a dict after the built-in redaction, and returns the dict to
    record. If it raises, or returns something else, the event is recorded with a note in place of its content.
    Raises ConfigError if it cannot be called.
    """
    global _redactor
    if redactor is not None and not callable(redactor):
        raise ConfigError(f"redactor {redactor!r} is not a function; it takes an event type and a payload")
    with _lock:
        _redactor = redactor
        if _recorder is not None:
            _recorder.redactor = redactor


def remove_sink(sink: Sink) -> None:
    """Flush a sink and stop giving it lines. Unknown sinks are ignored."""
    with _lock:
        if sink in _sinks:
            _sinks.remove(sink)
        recorder().remove_sink(sink)


def capture() -> AbstractContextManager[MemorySink]:
    """Keep events in memory instead of writing them, for tests. A context manager that yields a MemorySink."""
    return recorder().capture()


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()  # a thread that held it stayed behind in the parent


forks.register(Phase.RECORDERS, after_in_child=_after_fork)
atexit.register(shutdown)
