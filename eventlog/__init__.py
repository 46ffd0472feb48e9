"""eventlog: the flight recorder for AI agents and edge programs.

    import eventlog as obs

    obs.emit("tool_call", {"tool": "search", "ok": True}, run_id="r1")

Events go to JSONL files below one folder (see eventlog.config for which). Nothing else is
needed to write them; `pip install 'eventlog[index]'` adds the SQL index over them.
"""

from __future__ import annotations

from eventlog import alert_events, events
from eventlog.api import (
    add_sink,
    capture,
    configure,
    emit,
    emit_many,
    flush,
    recorder,
    remove_sink,
    shutdown,
    stats,
)
from eventlog.config import Config, Mode
from eventlog.context import carry, context
from eventlog.envelope import Envelope
from eventlog.errors import (
    ConfigError,
    EventlogError,
    EventTypeConflict,
    ImportFailed,
    IndexBusy,
    IndexFailed,
    InvalidEvent,
    MissingExtra,
    QueryFailed,
    WriteFailed,
)
from eventlog.recorder import Recorder, Stats
from eventlog.schemas import event
from eventlog.sinks import MemorySink, Sink, StreamSink

__version__ = "0.1.0"

__all__ = [
    "Config",
    "ConfigError",
    "Envelope",
    "EventTypeConflict",
    "EventlogError",
    "ImportFailed",
    "IndexBusy",
    "IndexFailed",
    "InvalidEvent",
    "MemorySink",
    "MissingExtra",
    "Mode",
    "QueryFailed",
    "Recorder",
    "Sink",
    "Stats",
    "StreamSink",
    "WriteFailed",
    "add_sink",
    "alert_events",
    "capture",
    "carry",
    "configure",
    "context",
    "emit",
    "emit_many",
    "event",
    "events",
    "flush",
    "recorder",
    "remove_sink",
    "shutdown",
    "stats",
]
