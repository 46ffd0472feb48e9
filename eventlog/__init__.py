"""eventlog: the flight recorder for AI agents and edge programs.

    import eventlog as obs

    obs.emit("tool_call", {"tool": "search", "ok": True}, run_id="r1")

    with obs.run("nightly", agent="planner") as run, run.step("retrieve"):
        run.llm_call(request_model="m", usage=response.usage)

Events go to JSONL files below one folder (see eventlog.config for which). Nothing else is
needed to write them; `pip install 'agent-eventlog[index]'` adds the SQL index over them:

    from eventlog import ReadStore

    ReadStore("/var/lib/agents").sql("SELECT model, count(*) FROM llm_calls GROUP BY ALL").rows
"""

from __future__ import annotations

import sys

from eventlog.version import __version__ as __version__

TYPE_CHECKING = False  # from `typing`, which takes a while to load; type checkers know the name

#: Commands that need none of these names: what they do before anything is loaded (eventlog.short), and questions.
_SHORT = (
    "emit", "statusline", "hook",
    "cost", "metrics", "requests", "runs", "search", "sessions", "show", "sql", "today",
)  # fmt: skip
#: Whether this process is the console command, called for one of these. Then the names are loaded when one of them is
#: asked for; for any other program, here and now.
is_short = (
    "is_short" not in globals()
    and (getattr(sys, "argv", None) or [""])[0].endswith(("eventlog", "-m", "eventlog/__main__.py"))
    and "".join(sys.argv[1:2]) in _SHORT
)

__all__ = [
    "BlobUnreadable",
    "Check",
    "Config",
    "ConfigError",
    "Envelope",
    "EventTypeConflict",
    "EventlogError",
    "ImportFailed",
    "IndexBusy",
    "IndexFailed",
    "InvalidEvent",
    "InvalidSource",
    "LogHandler",
    "MemorySink",
    "MissingExtra",
    "Mode",
    "QueryFailed",
    "Recorder",
    "Request",
    "Run",
    "RunStats",
    "Sink",
    "Stats",
    "Step",
    "StepStats",
    "StreamSink",
    "WriteFailed",
    "add_sink",
    "alert_events",
    "artifact",
    "capture",
    "carry",
    "check",
    "configure",
    "context",
    "conversation_state",
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
    "request",
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

if TYPE_CHECKING or not is_short:
    from eventlog.config import Config, Mode
    from eventlog.errors import (
        BlobUnreadable,
        ConfigError,
        EventlogError,
        EventTypeConflict,
        ImportFailed,
        IndexBusy,
        IndexFailed,
        InvalidEvent,
        InvalidSource,
        MissingExtra,
        QueryFailed,
        WriteFailed,
    )
    from eventlog.format import alerts as alert_events
    from eventlog.format import builtin as events
    from eventlog.format.envelope import Envelope
    from eventlog.format.schemas import event
    from eventlog.log import blobs
    from eventlog.record.api import (
        add_sink,
        capture,
        check,
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
    from eventlog.record.check import Check
    from eventlog.record.correlation import carry, context
    from eventlog.record.log_handler import LogHandler, structlog_processor
    from eventlog.record.recorder import Recorder
    from eventlog.record.runs import (
        Run,
        artifact,
        conversation_state,
        debug,
        decision,
        error,
        heartbeat,
        llm_call,
        message,
        orchestration,
        request,
        run,
        score,
        step,
        timed_llm_call,
        timed_tool_call,
        tool_call,
    )
    from eventlog.record.sinks import MemorySink, Sink, StreamSink
    from eventlog.record.stats import Stats
    from eventlog.record.steps import Request, Step
    from eventlog.record.totals import RunStats, StepStats
    from eventlog.record.tracing import traced

    # The names that the documentation gave to these modules before they moved. They go in version 0.2.
    sys.modules.update({"eventlog.events": events, "eventlog.alert_events": alert_events, "eventlog.blobs": blobs})

if TYPE_CHECKING:
    from eventlog.queries.store import ReadStore as ReadStore
else:  # hidden from type checkers, which would take any name for one of this module's

    def __getattr__(name: str) -> object:
        """Load ReadStore when it is asked for: it needs DuckDB, and a program that emits does not."""
        if name in __all__ and name not in globals():
            load()
            return globals()[name]
        if name != "ReadStore":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib  # noqa: PLC0415 - see is_short

        try:
            store = importlib.import_module("eventlog.queries.store")
        except ModuleNotFoundError as error:
            if error.name and error.name.split(".")[0] == __name__:
                raise
            raise MissingExtra(f"ReadStore ({error.name} is missing)", "index") from None
        globals()[name] = store.ReadStore
        return store.ReadStore

    def __dir__() -> list[str]:
        """List ReadStore only where it can be loaded: `help(eventlog)` loads all that is listed."""
        import importlib.util  # noqa: PLC0415 - see is_short

        is_there = sys.modules.get("duckdb") or importlib.util.find_spec("duckdb")
        return sorted({*globals(), *__all__, *(["ReadStore"] if is_there else [])})


def load() -> None:
    """Load all names, in a process that has put that off (see is_short)."""
    import importlib  # noqa: PLC0415

    importlib.reload(sys.modules[__name__])
