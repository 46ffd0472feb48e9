"""eventlog: the flight recorder for AI agents and edge programs.

    import eventlog as obs

    obs.emit("tool_call", {"tool": "search", "ok": True}, run_id="r1")

    with obs.run("nightly", agent="planner") as run, run.step("retrieve"):
        run.llm_call(request_model="m", usage=response.usage)

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
    redact_with,
    remove_sink,
    shutdown,
    stats,
)
from eventlog.config import Config, Mode
from eventlog.context import carry, context
from eventlog.envelope import Envelope
from eventlog.errors import (
    BlobUnreadable,
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
from eventlog.logs import LogHandler, structlog_processor
from eventlog.recorder import Recorder, Stats
from eventlog.recording import (
    Run,
    Step,
    artifact,
    debug,
    decision,
    error,
    heartbeat,
    llm_call,
    message,
    orchestration,
    run,
    score,
    step,
    timed_llm_call,
    timed_tool_call,
    tool_call,
)
from eventlog.schemas import event
from eventlog.sinks import MemorySink, Sink, StreamSink
from eventlog.totals import RunStats
from eventlog.tracing import traced

__version__ = "0.1.0"

__all__ = [
    "BlobUnreadable",
    "Config",
    "ConfigError",
    "Envelope",
    "EventTypeConflict",
    "EventlogError",
    "ImportFailed",
    "IndexBusy",
    "IndexFailed",
    "InvalidEvent",
    "LogHandler",
    "MemorySink",
    "MissingExtra",
    "Mode",
    "QueryFailed",
    "Recorder",
    "Run",
    "RunStats",
    "Sink",
    "Stats",
    "Step",
    "StreamSink",
    "WriteFailed",
    "add_sink",
    "alert_events",
    "artifact",
    "capture",
    "carry",
    "configure",
    "context",
    "debug",
    "decision",
    "emit",
    "emit_many",
    "error",
    "event",
    "events",
    "flush",
    "heartbeat",
    "llm_call",
    "message",
    "orchestration",
    "recorder",
    "redact_with",
    "remove_sink",
    "run",
    "score",
    "shutdown",
    "stats",
    "step",
    "structlog_processor",
    "timed_llm_call",
    "timed_tool_call",
    "tool_call",
    "traced",
]
