"""One event at a time, by eventlog and by what people would use instead. Each runs in a process of its own.

All record the same: an `llm_call` with eleven fields (about 800 bytes as a line of eventlog) and a context of run,
session, workspace and agent that was set once. With all of them an event has reached the kernel when the call returns.
Each is set up as its documentation recommends for that.
"""

from __future__ import annotations

import contextvars
import datetime
import json
import logging
import os
import random
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.figures import median, percentile
from bench.prose import Prose

CONTEXT = {
    "run_id": "run-5f0c1a2b3c4d", "session_id": "session-0a1b2c3d", "workspace": "atlas", "agent": "planner",
}  # fmt: skip
_DISTINCT = 500
_WARM = 200

Fields = dict[str, Any]
Timings = dict[str, float]


def samples(seed: int) -> list[Fields]:
    """Return the events, the same for all."""
    rng = random.Random(f"emit/{seed}")
    prose = Prose(rng)

    def text(size: int) -> str:
        return str(json.loads(b'"%b"' % prose.take(size)))

    return [
        {
            "provider_name": "anthropic",
            "request_model": "claude-sonnet-4-5",
            "request_temperature": 0.7,
            "input_messages": text(rng.randrange(80, 240)),
            "output_messages": text(rng.randrange(40, 120)),
            "finish_reasons": ["end_turn"],
            "uncached_input_tokens": rng.randrange(20_000),
            "cache_read_tokens": rng.randrange(50_000),
            "output_tokens": rng.randrange(2_000),
            "latency_ms": rng.randrange(9_000),
            "time_to_first_token_ms": rng.randrange(900),
        }
        for _ in range(_DISTINCT)
    ]


def time_each(record: Callable[[Any], object], inputs: list[Any], events: int) -> Timings:
    """Call `record` repeatedly; return mean and p99 of a call in seconds, without the cost of timing."""
    for number in range(_WARM):
        record(inputs[number % len(inputs)])
    taken = _durations_ns(record, inputs, events)
    empty_ns = median(_durations_ns(lambda _: None, inputs, min(events, 2000)))
    mean_ns, p99_ns = sum(taken) / len(taken), percentile(taken, 0.99)
    return {"mean": (mean_ns - empty_ns) / 1e9, "p99": (p99_ns - empty_ns) / 1e9}


def _durations_ns(record: Callable[[Any], object], inputs: list[Any], events: int) -> list[int]:
    clock = time.perf_counter_ns
    taken = []
    for number in range(events):
        sample = inputs[number % len(inputs)]
        started = clock()
        record(sample)
        taken.append(clock() - started)
    return taken


def _check_lines(path: Path, events: int) -> None:
    """Check that the timed events were written."""
    lines = path.read_bytes().count(b"\n")
    if lines != events + _WARM:
        raise RuntimeError(f"{lines} lines were written, not {events + _WARM}")


def _only_segment(folder: str) -> Path:
    (path,) = (Path(folder) / "log" / "llm_call").iterdir()
    return path


def with_eventlog(folder: str, events: int, seed: int) -> Timings:
    """eventlog: default settings, a registered Struct, the context set by `obs.context`."""
    import eventlog as obs
    from eventlog.format.builtin import LlmCall

    obs.configure(root=folder)
    with obs.context(**CONTEXT):
        timings = time_each(lambda fields: obs.emit(LlmCall(**fields)), samples(seed), events)
    obs.shutdown()
    _check_lines(_only_segment(folder), events)
    return timings


def with_structlog(folder: str, events: int, seed: int) -> Timings:
    """structlog with orjson, as its page on performance says; the context in contextvars."""
    import orjson
    import structlog

    path = Path(folder) / "structlog.jsonl"
    with path.open("wb", buffering=0) as file:  # a little faster than a buffer that each event flushes
        structlog.configure(
            cache_logger_on_first_use=True,
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                structlog.processors.format_exc_info,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(serializer=orjson.dumps),
            ],
            logger_factory=structlog.BytesLoggerFactory(file=file),
        )
        logger = structlog.get_logger().bind()
        with structlog.contextvars.bound_contextvars(**CONTEXT):
            timings = time_each(lambda fields: logger.info("llm_call", **fields), samples(seed), events)
        _check_lines(path, events)
    return timings


_context: contextvars.ContextVar[Fields] = contextvars.ContextVar("context")


class _AddContext(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.context = _context.get()
        return True


class _JsonFormatter(logging.Formatter):
    """A minimal formatter: time, level, event, context and fields."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(
            {
                "timestamp": record.created,
                "level": record.levelname,
                "event": record.getMessage(),
                **record.__dict__["context"],
                **record.__dict__["fields"],
            }
        )


def with_logging(folder: str, events: int, seed: int) -> Timings:
    """The standard library: a FileHandler, a small JSON formatter, and a filter that adds the context."""
    path = Path(folder) / "logging.jsonl"
    handler = logging.FileHandler(path)
    handler.setFormatter(_JsonFormatter())
    handler.addFilter(_AddContext())
    logger = logging.getLogger("bench")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    _context.set(CONTEXT)
    timings = time_each(lambda fields: logger.info("llm_call", extra={"fields": fields}), samples(seed), events)
    _check_lines(path, events)
    return timings


def with_loguru(folder: str, events: int, seed: int) -> Timings:
    """loguru: one file, serialize=True, nothing extra on errors; the context by `contextualize`."""
    from loguru import logger

    path = Path(folder) / "loguru.jsonl"
    logger.remove()
    logger.add(path, serialize=True, format="{message}", backtrace=False, diagnose=False)
    with logger.contextualize(**CONTEXT):
        timings = time_each(lambda fields: logger.info("llm_call", **fields), samples(seed), events)
    _check_lines(path, events)
    return timings


def with_sqlite(folder: str, events: int, seed: int) -> Timings:
    """sqlite3: one row per event, each its own transaction, WAL and synchronous=NORMAL as recommended with it."""
    connection = sqlite3.connect(Path(folder) / "events.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(
        "CREATE TABLE events (event_id TEXT, event_type TEXT, timestamp TEXT, run_id TEXT, session_id TEXT,"
        " workspace TEXT, agent TEXT, payload TEXT)"
    )

    def record(fields: Fields) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat()
        row = (str(uuid.uuid4()), "llm_call", now, *CONTEXT.values(), json.dumps(fields))
        connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    timings = time_each(record, samples(seed), events)
    (rows,) = connection.execute("SELECT count(*) FROM events").fetchone()
    if rows != events + _WARM:
        raise RuntimeError(f"{rows} rows were written, not {events + _WARM}")
    connection.close()
    return timings


def with_spans(folder: str, events: int, seed: int) -> Timings:
    """OpenTelemetry: one span per event, the simple processor, the console exporter into a file, one line per span."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

    path = Path(folder) / "spans.jsonl"
    with path.open("w") as file:
        provider = TracerProvider()
        exporter = ConsoleSpanExporter(out=file, formatter=lambda span: span.to_json(indent=None) + "\n")
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        tracer = provider.get_tracer("bench")

        def record(fields: Fields) -> None:
            with tracer.start_as_current_span("llm_call", attributes={**CONTEXT, **fields}):
                pass

        timings = time_each(record, samples(seed), events)
        provider.shutdown()
        _check_lines(path, events)
    return timings


def with_log_records(folder: str, events: int, seed: int) -> Timings:
    """OpenTelemetry: one log record per event, the simple processor, the console exporter, one line per record."""
    from opentelemetry._logs import LogRecord
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import ConsoleLogRecordExporter, SimpleLogRecordProcessor

    path = Path(folder) / "records.jsonl"
    with path.open("w") as file:
        provider = LoggerProvider()
        exporter = ConsoleLogRecordExporter(out=file, formatter=lambda record: record.to_json(indent=None) + "\n")
        provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
        logger = provider.get_logger("bench")

        def record(fields: Fields) -> None:
            logger.emit(LogRecord(timestamp=time.time_ns(), body="llm_call", attributes={**CONTEXT, **fields}))

        timings = time_each(record, samples(seed), events)
        provider.shutdown()
        _check_lines(path, events)
    return timings


def lines_of_eventlog(folder: str, seed: int) -> list[bytes]:
    """Return the lines that eventlog writes for the samples."""
    import eventlog as obs
    from eventlog.format.builtin import LlmCall

    obs.configure(root=folder)
    with obs.context(**CONTEXT):
        obs.emit_many([LlmCall(**fields) for fields in samples(seed)])
    obs.shutdown()
    return _only_segment(folder).read_bytes().splitlines(keepends=True)


def with_bare_write(folder: str, events: int, seed: int) -> Timings:
    """The kernel alone: os.write of the lines that eventlog would write, encoded beforehand."""
    lines = lines_of_eventlog(folder, seed)
    path = Path(folder) / "bare.jsonl"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    timings = time_each(lambda line: os.write(fd, line), lines, events)
    os.close(fd)
    _check_lines(path, events)
    return timings


# -- batches ----------------------------------------------------------------------------------

BATCH = 100


def many_with_eventlog(folder: str, batches: int, seed: int) -> Timings:
    """eventlog: emit_many of a hundred events."""
    import eventlog as obs
    from eventlog.format.builtin import LlmCall

    fields = samples(seed)
    inputs = [fields[at : at + BATCH] for at in range(0, len(fields), BATCH)]
    obs.configure(root=folder)
    with obs.context(**CONTEXT):
        timings = time_each(lambda batch: obs.emit_many([LlmCall(**fields) for fields in batch]), inputs, batches)
    obs.shutdown()
    return timings


def many_with_bare_write(folder: str, batches: int, seed: int) -> Timings:
    """The kernel alone: one os.write of the same hundred lines, encoded beforehand."""
    lines = lines_of_eventlog(folder, seed)
    inputs = [b"".join(lines[at : at + BATCH]) for at in range(0, len(lines), BATCH)]
    fd = os.open(Path(folder) / "bare.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    timings = time_each(lambda batch: os.write(fd, batch), inputs, batches)
    os.close(fd)
    return timings


# -- durable -----------------------------------------------------------------------------------

THREADS = 16


def _time_threads(record: Callable[[Any], object], inputs: list[Any], events: int) -> Timings:
    """Let all threads record their share at the same time; return the time per event."""
    share = events // THREADS
    ready = threading.Barrier(THREADS + 1)

    def work() -> None:
        ready.wait()
        for number in range(share):
            record(inputs[number % len(inputs)])

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    record(inputs[0])
    ready.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    return {"mean": (time.perf_counter() - started) / (share * THREADS)}


def synced_with_eventlog(folder: str, events: int, seed: int) -> Timings:
    """eventlog: durability="synced", one recorder for all threads."""
    import eventlog as obs
    from eventlog.format.builtin import LlmCall

    obs.configure(root=folder, durability="synced")
    timings = _time_threads(lambda fields: obs.emit(LlmCall(**fields), **CONTEXT), samples(seed), events)
    obs.shutdown()
    lines = _only_segment(folder).read_bytes().count(b"\n")
    if lines != events // THREADS * THREADS + 1:
        raise RuntimeError(f"{lines} lines were written, not {events}")
    return timings


def synced_with_fdatasync(folder: str, events: int, seed: int) -> Timings:
    """By hand: os.write and os.fdatasync of one file that all threads append to."""
    lines = lines_of_eventlog(folder, seed)
    fd = os.open(Path(folder) / "bare.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def record(line: bytes) -> None:
        os.write(fd, line)
        os.fdatasync(fd)

    timings = _time_threads(record, lines, events)
    os.close(fd)
    return timings
