"""The recorder: from a call of `emit` to lines in a sink.

    emit → context + config → redaction → blobs → one line of bytes → writer → stream → segment

By default nothing here raises into the program that emits: a refused or failed event is
counted in `stats()` and logged (once a minute for each kind of reason), and the program goes on. After five
failures in a row the log is only probed now and then; when it takes lines again, an
`events_dropped` event says what was lost. With `strict=True` the same errors are raised.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from eventlog.config import Config, Mode
from eventlog.durability import Durability
from eventlog.errors import EventlogError, InvalidEvent, WriteFailed, WritingSuspended
from eventlog.format import control, envelope, ids, json_text, schemas, timestamps
from eventlog.format.envelope import Envelope
from eventlog.log import blobs
from eventlog.log.blob_store import BlobStore
from eventlog.log.writer import Writer
from eventlog.process import forks
from eventlog.process.forks import Phase
from eventlog.process.guards import STOPS, message_of, shown
from eventlog.record import correlation, drops, heartbeats, redaction
from eventlog.record.breaker import Breaker
from eventlog.record.reports import WINDOW_S, Reports
from eventlog.record.schema_log import SchemaLog
from eventlog.record.sinks import MemorySink, Sink
from eventlog.record.stats import Background, Sending, Stats

_logger = logging.getLogger("eventlog")
_STOP_TIMEOUT_S = 10.0
_NO_REASON = "events were lost for an unknown reason"

#: Envelope fields that a caller may pass, and those of them that no two events share.
_OF_ONE_EVENT = ("event_id", "timestamp", "dedupe_key")
_FIELDS = correlation.FIELDS | {"schema_version", *_OF_ONE_EVENT}

T = TypeVar("T")
Coerce = Callable[[msgspec.Struct], msgspec.Struct]


class Recorder:
    """Records events with one configuration. Safe across threads, asyncio and fork."""

    def __init__(
        self, config: Config, *, redactor: redaction.Redactor | None = None, role: control.Role | None = None
    ) -> None:
        self.config = config
        #: Which control events it may write; by default as configured.
        if role is None:
            role = control.Role.OPERATOR if config.operator else control.Role.AGENT
        self._role = role
        self.off = config.mode is Mode.OFF
        #: The user's function that is applied to payloads after the built-in redaction.
        self.redactor = redactor
        self._redacts = config.redact
        self._blobs = BlobStore(
            config.root,
            min_bytes=config.blob_min_bytes,
            synced=config.durability is Durability.SYNCED,
            on_failure=self._report,
        )
        self._large_bytes = self._blobs.min_bytes
        self._writer = Writer(
            config.root,
            segment_max_bytes=config.segment_max_bytes,
            segment_max_age_s=config.segment_max_age_s,
            durability=config.durability,
            sync_interval_s=config.sync_interval_s,
            on_failure=lambda error: self._report(message_of(error)),
            before_sync=self._blobs,
            releases=config.mode is Mode.DB_ONLY,
            on_rewrite=self._on_rewrite,
        )
        self._breaker = Breaker()
        self._drops = drops.Drops()
        self._log: Sink = self._writer
        self._sinks: tuple[Sink, ...] = ()
        self._workspace, self._agent = config.workspace, config.agent
        self._schema_log = SchemaLog(config.root, self._writer.write)
        #: Started by record/api.py, which assembles the recorder; `shutdown` ends it.
        self.background: Background | None = None
        self.sender: Sending | None = None
        # Reentrant: a signal handler may emit while the program is in here.
        self._count_lock = threading.RLock()
        self._emitted = self._emitted_bytes = self._refused = self._sink_errors = 0
        self._last_error: str | None = None
        self._reports = Reports()
        _recorders.add(self)

    # -- recording ---------------------------------------------------------------------

    def emit(self, event: str | msgspec.Struct, payload: object = None, /, **fields: Any) -> str | None:
        """Record one event; return its id, a UUID, or None where it was not recorded.

        Takes a registered Struct, or an event type and its payload. `fields` are envelope fields;
        `timestamp` (datetime or ISO 8601 text) is when it happened. Events with the same `dedupe_key`,
        workspace, type and `timestamp` (to the millisecond) are one row of the index, however often
        they are emitted; without a `timestamp`, those with the same key, workspace and type are.
        A strict recorder raises InvalidEvent and WriteFailed; another one counts and logs them.
        """
        return self.emit_with(event, payload, fields)

    def emit_with(
        self, event: str | msgspec.Struct, payload: object, fields: dict[str, Any], coerce: Coerce | None = None
    ) -> str | None:
        """Like `emit`, with the fields in a dict: unpacking them once more takes as long as `write` itself.

        If a typed event is refused, `coerce` returns the event to record in its place.
        """
        if self.off:
            return None
        event_type = None
        try:
            try:
                event_type, event_id, line = self.line(event, payload, fields)
            except Exception as error:
                if coerce is None or isinstance(event, str):
                    raise
                event_type, event_id, line = self.line(coerce(event), None, fields)
                self._report(f"{event_type} was changed so that it could be recorded: {message_of(error)}")
            self._deliver(event_type, line, 1)
        except STOPS:
            raise
        except BaseException as error:  # noqa: BLE001 - the promise of emit: no error stops an agent
            try:
                self.failed(error, 1, event_type)
            except RecursionError:  # no room on the stack: any other call raises, too
                self.lost_unnamed(1)
            return None
        return event_id

    def emit_many(
        self, events: str | Iterable[msgspec.Struct], payloads: Iterable[object] = (), /, **fields: Any
    ) -> list[str]:
        """Record many events in one write per type; return the ids of those recorded.

        Takes registered Structs, or an event type and an iterable of payloads. A refused event
        does not keep the others from being recorded. Raises as `emit` does, if strict.
        """
        if self.off:
            return []
        try:
            if isinstance(events, str):
                return self._record(lambda payload: self.line(events, payload, fields), payloads)
            return self._record(lambda event: self.line(event, None, fields), events)
        except STOPS:
            raise
        except BaseException as error:  # as in emit
            if self.config.strict and isinstance(error, EventlogError):  # it is counted already
                raise
            self.failed(error, 1)
            return []

    def record(self, envelopes: Iterable[Envelope]) -> list[str]:
        """Record finished envelopes, as importers make them; return the ids of those recorded. Raises as `emit`."""
        if self.off:
            return []
        return self._record(self._line_of, envelopes)

    def _line_of(self, event: Envelope) -> tuple[str, str, bytes]:
        """Return event type, event id and line of a finished envelope. Raises InvalidEvent."""
        event_type = envelope.check_event_type(event.event_type)
        control.check(event_type, self._role)
        return event_type, event.event_id, envelope.encode(event)

    def _record(self, line_of: Callable[[T], tuple[str, str, bytes]], events: Iterable[T]) -> list[str]:
        lines: dict[str, list[bytes]] = {}
        event_ids: dict[str, list[str]] = {}
        recorded: list[str] = []
        try:
            iterator = self._iterator(events)
            while (taken := self._taken(iterator)) is not None:
                try:
                    event_type, event_id, line = line_of(*taken)
                except STOPS:
                    raise
                except BaseException as error:  # noqa: BLE001 - as in emit
                    self.failed(error, 1)
                else:
                    lines.setdefault(event_type, []).append(line)
                    event_ids.setdefault(event_type, []).append(event_id)
        finally:  # events before a failure, or before Ctrl-C, are recorded all the same
            for event_type, its_lines in lines.items():
                count = self.record_lines(event_type, its_lines)
                recorded += event_ids[event_type][:count]
        return recorded

    def _iterator(self, events: Iterable[T]) -> Iterator[T]:
        try:
            return iter(events)
        except STOPS:
            raise
        except BaseException as error:  # noqa: BLE001 - as in emit
            unusable = InvalidEvent(f"{type(events).__name__} is no iterable of events or payloads")
            self.failed(unusable if isinstance(error, TypeError) else error)
            return iter(())

    def _taken(self, iterator: Iterator[T]) -> tuple[T] | None:
        """Take the next item of the caller's iterable. If it raises, count that, and end the iteration."""
        try:
            return (next(iterator),)
        except StopIteration:
            return None
        except STOPS:
            raise
        except BaseException as error:  # as in emit
            if self.config.strict and isinstance(error, EventlogError):  # an importer's, of its source
                raise
            reason = f"the iterable of events failed, and what it had left was not recorded: {message_of(error)}"
            self.failed(WriteFailed(reason))
            return None

    def record_lines(self, event_type: str, lines: list[bytes]) -> int:
        """Record lines made by `envelope.encode` in one write; return how many of the first ones were recorded.

        Raises as `emit` does, if strict.
        """
        if self.off:
            return 0
        try:
            control.check(event_type, self._role)
            self._deliver(event_type, b"".join(lines), len(lines))
        except WriteFailed as error:
            self.failed(error, len(lines) - error.lines_written, event_type)
            return error.lines_written
        except STOPS:
            raise
        except BaseException as error:  # noqa: BLE001 - as in emit
            self.failed(error, len(lines), event_type)
            return 0
        return len(lines)

    def line(self, event: str | msgspec.Struct, payload: object, options: dict[str, Any]) -> tuple[str, str, bytes]:
        """Return event type, event id and line of an event, for `record_lines`. Raises InvalidEvent.

        Takes what `emit` takes; `options` are its envelope fields.
        """
        if isinstance(event, str):
            event_type = envelope.check_event_type(event)
            registered = schemas.of_name(event_type)
            data = envelope.payload_json({} if payload is None else payload)
        else:
            if payload is not None:
                raise InvalidEvent("emit takes a typed event alone, or an event type and a payload")
            registered = schemas.of_struct(type(event))
            event_type, data = registered.name, envelope.struct_json(event)
        if event_type in control.WRITERS:  # checked here: a call for every event takes longer than the check
            control.check(event_type, self._role)
        version = 1
        if registered is None:
            envelope.check_json(data)
        else:
            schemas.check(registered, data)
            if registered not in self._schema_log.logged:
                self._log_schema(registered)
            version = registered.version
        if self._redacts:
            data = redaction.redact(data)
        if self.redactor is not None:
            data = self._redacted(event_type, registered, data)
        if options:
            event_id, timestamp, fields = self._with_options(event_type, version, options)
        else:
            now_ns = time.time_ns()
            event_id, timestamp, fields = ids.new_id(now_ns), timestamps.from_ns(now_ns), self._shared(version)
        if (
            len(data) > self._large_bytes
            or blobs.DOLLAR in data
            or (blobs.BACKSLASH in data and blobs.ESCAPED_DOLLAR in data)
        ) and self._log is self._writer:
            data = self._blobs.take_out(data, envelope.workspace_of(fields))
        return event_type, event_id, envelope.line(event_id, event_type, timestamp, fields, data)

    def _redacted(self, event_type: str, registered: schemas.Registered | None, data: bytes) -> bytes:
        """Apply the user's redactor to a payload. A typed event still has to fit its type."""
        if self.redactor is None:
            return data
        data = redaction.redact_with(self.redactor, event_type, data)
        if registered is not None:
            try:
                schemas.check(registered, data)
            except InvalidEvent:
                if not redaction.is_withheld(data):
                    return redaction.withheld(f"what the redactor returned is no {event_type}")
        return data

    def _shared(self, version: int) -> bytes:
        """Return the encoded correlation fields used when the caller passes none; cached per context."""
        here = correlation.current()
        key = (self._workspace, self._agent, version)
        fields = here.encoded.get(key)
        if fields is None:
            fields = here.encoded[key] = self._encoded(version, {})
        return fields

    def _encoded(self, version: int, options: Mapping[str, Any]) -> bytes:
        defaults = {"workspace": self._workspace, "agent": self._agent, "schema_version": version}
        settings = {**defaults, **correlation.current().values, **options}
        given = {name: value for name, value in settings.items() if value is not None}
        try:
            return envelope.encode_fields(given)
        except InvalidEvent:
            mended = {name: _mended(name, value) for name, value in given.items()}
            if mended == given:
                raise
            return envelope.encode_fields(mended)

    def _with_options(self, event_type: str, version: int, options: dict[str, Any]) -> tuple[str, str, bytes]:
        """Return event id, timestamp and encoded fields when the caller passes some of them. Raises InvalidEvent."""
        if options.keys() - _FIELDS:
            unknown = min(options.keys() - _FIELDS)
            raise InvalidEvent(f"unknown envelope field {unknown!r}; known: {', '.join(sorted(_FIELDS))}")
        event_id, moment, key = (options.get(name) for name in _OF_ONE_EVENT)
        now_ns = time.time_ns()
        timestamp = timestamps.from_ns(now_ns) if moment is None else _event_time(moment)
        shared = {name: value for name, value in options.items() if name not in _OF_ONE_EVENT}
        fields = self._encoded(version, shared) if shared else self._shared(version)
        if event_id is not None:
            event_id = envelope.encode_event_id(event_id)
        elif key is None:
            event_id = ids.new_id(now_ns)
        else:
            # Without a timestamp the id contains no time: the clock would give each emit another id.
            time_us = 0 if moment is None else timestamps.to_us(timestamps.parse(timestamp))
            workspace = envelope.workspace_of(fields)
            event_id = ids.derived_id(time_us, event_type, _key(key), workspace=workspace)
        return event_id, timestamp, fields

    def _log_schema(self, registered: schemas.Registered) -> None:
        """Record the schema of a type once per log."""
        if self._log is not self._writer:
            return
        try:
            self._schema_log.ensure(registered)
        except WriteFailed:
            return  # the event that follows meets the same, and what is said of that counts it
        except Exception as error:  # noqa: BLE001 - the event itself is written, even while nothing can be imported
            reason = message_of(error)
            self._report(f"the schema of {registered.name} was not logged, the next emit tries again: {reason}")

    def _deliver(self, event_type: str, data: bytes, count: int) -> None:
        breaker = self._breaker
        if breaker.failures and not breaker.allows():
            raise WritingSuspended(f"writing is suspended, since it keeps failing: {self._breaker.cause}")
        try:
            self._log.write(event_type, data)
        except WriteFailed as error:
            breaker.failed(str(error))
            written = data[: error.bytes_written]
            if written:
                self._delivered(event_type, written, error.lines_written)
            raise
        if breaker.failures:
            breaker.succeeded()
        self._delivered(event_type, data, count)
        if self._drops.total and self._drops.pending:
            self._report_drops()

    def _report_drops(self) -> None:
        """Record `events_dropped` for lost events, now that the log takes lines."""
        if self._log is not self._writer:
            return
        try:
            while (report := self._drops.next_report(self.config.workspace, self.config.agent)) is not None:
                self._writer.write(report.event_type, envelope.encode(report))
                self._drops.reported(report)
        except STOPS:
            raise
        except BaseException:  # noqa: BLE001 - the event before it was written; this report is tried again
            return

    def _delivered(self, event_type: str, data: bytes, count: int) -> None:
        size = len(data)
        with self._count_lock:  # no call in here: a signal handler may emit in the middle of one, and count too
            self._emitted += count
            self._emitted_bytes += size
        for sink in self._sinks:
            self.guard(sink, "write", event_type, data)

    @property
    def suspended_by(self) -> str | None:
        """Why writes keep failing, while writing is suspended; else None."""
        return self._breaker.cause if self._breaker.is_open else None

    @property
    def is_capturing(self) -> bool:
        """Whether events stay in memory (see `capture`)."""
        return self._log is not self._writer

    # -- sinks -------------------------------------------------------------------------

    def add_sink(self, sink: Sink) -> None:
        """Give every line to `sink` as well, from now on."""
        self._sinks = (*self._sinks, sink)

    def remove_sink(self, sink: Sink) -> None:
        """Flush a sink and stop giving it lines. Unknown sinks are ignored."""
        if sink in self._sinks:
            self._sinks = tuple(other for other in self._sinks if other is not sink)
            self.guard(sink, "flush")

    @contextmanager
    def capture(self) -> Iterator[MemorySink]:
        """Keep events in memory instead of writing them, for tests; yield the MemorySink."""
        memory, log_before, off_before = MemorySink(), self._log, self.off
        self._log, self.off = memory, False
        try:
            yield memory
        finally:
            self._log, self.off = log_before, off_before

    def guard(self, sink: Sink, method: str, *arguments: object) -> None:
        """Call a method of a sink; count and log what it raises. Raises KeyboardInterrupt and SystemExit only."""
        try:
            getattr(sink, method)(*arguments)
        except STOPS:
            raise
        except BaseException as error:  # noqa: BLE001 - a subscriber's fault is not the agent's
            with self._count_lock:
                self._sink_errors += 1
            self._report(f"a sink failed: {message_of(error)}")

    # -- life --------------------------------------------------------------------------

    def flush(self) -> bool:
        """Sync everything emitted so far; return whether that worked. Raises WriteFailed, if strict."""
        try:
            self._log.flush()
        except STOPS:
            raise
        except BaseException as error:  # noqa: BLE001 - as in emit
            self.failed(error, 0)
            return False
        for sink in self._sinks:
            self.guard(sink, "flush")
        return True

    def shutdown(self) -> None:
        """Flush log and sinks, close all segments, stop the indexer thread. Emitting later still works."""
        self._report_drops()
        self.flush()
        self._writer.abandon()
        background, self.background = self.background, None
        if background is not None:
            background.stop(_STOP_TIMEOUT_S)

    def after_fork(self) -> None:
        """In a forked child: start with segments, locks and counters of its own."""
        self._count_lock = threading.RLock()
        self._emitted = self._emitted_bytes = self._refused = self._sink_errors = 0
        self.background = self.sender = None  # threads stay behind in the parent, which sees our files
        self._writer.after_fork()
        self._blobs.after_fork()
        self._breaker, self._drops = Breaker(), drops.Drops()

    def stats(self) -> Stats:
        """Return the current counters."""
        background = self.background.errors if self.background is not None else 0
        with self._count_lock:  # no call in here either: a thread that stops inside would block all others
            emitted, emitted_bytes, refused = self._emitted, self._emitted_bytes, self._refused
            sink_errors, last_error = self._sink_errors, self._last_error
        return Stats(
            emitted=emitted,
            emitted_bytes=emitted_bytes,
            refused=refused,
            lost=self._drops.total,
            suspended=self._breaker.is_open,
            sink_errors=sink_errors,
            segments_opened=self._writer.segments_opened,
            failed_syncs=self._writer.failed_syncs,
            background_errors=self._writer.background_errors + heartbeats.errors + background,
            sent=self.sender.sent if self.sender else 0,
            refused_by_server=self.sender.refused if self.sender else 0,
            last_error=last_error,
        )

    def lost_unnamed(self, count: int) -> None:
        """Count lost events without calling anything: only the frame of this call has to fit on the stack."""
        drops = self._drops
        drops.total += count
        drops.unnamed += count

    def failed(self, error: BaseException, count: int = 1, event_type: str | None = None) -> None:
        """Count events that were not recorded; log the error or, if strict, raise it as an EventlogError."""
        try:
            ours = error if isinstance(error, EventlogError) else WriteFailed(message_of(error))
            message = str(ours)
            if isinstance(ours, InvalidEvent):
                with self._count_lock:
                    self._refused += count
            else:
                self._drops.add(event_type, count, message, reported=self.config.strict)
        except STOPS:
            raise
        except BaseException:  # noqa: BLE001 - no memory, no clock
            self.lost_unnamed(count)
            message, ours = _NO_REASON, WriteFailed(_NO_REASON)
        if self.config.strict:
            raise ours from (None if ours is error else error)
        if not isinstance(ours, WritingSuspended):
            self._report(message)

    def _on_rewrite(self, event_type: str, reason: str, lost: int) -> None:
        """Handle lines that the writer had to write again: the log, and its schemas, may have been moved away."""
        self._schema_log.forget()
        if lost:
            self._drops.add(event_type, lost, reason, reported=False)
        self._report(reason)

    def _report(self, message: str) -> None:
        """Log a message, unless one of its kind was logged lately. Raises only STOPS."""
        try:
            now_s = time.monotonic()
            with self._count_lock:
                self._last_error = message
                if not self._reports.is_due(message, now_s):
                    return
                refused = self._refused
            if sys.is_finalizing():  # a thread that never runs again may hold a lock of the logging module
                return
            _logger.warning(
                "%s (so far %d refused, %d lost; more of the kind is counted in stats(), silent for %d s)",
                message, refused, self._drops.total, WINDOW_S,
            )  # fmt: skip
        except STOPS:
            raise
        except BaseException:  # noqa: BLE001 - the agent's own handler, filter or clock
            return


def _mended(name: str, value: object) -> object:
    """Return an envelope field without half characters. Not of a workspace: two of them would become one."""
    return json_text.whole(value) if type(value) is str and name != "workspace" else value


def _event_time(moment: object) -> str:
    try:
        return timestamps.to_text(moment if isinstance(moment, datetime) else timestamps.parse(moment))  # type: ignore[arg-type]  # a wrong type is caught below
    except Exception:  # noqa: BLE001 - what is no time raises many things, and a time zone of the agent's any
        raise InvalidEvent(f"timestamp {shown(moment)} is not a time; use a datetime or ISO 8601 text") from None


def _key(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - its own code
        raise InvalidEvent(f"dedupe_key {shown(value)} has no text; use a str") from None


_recorders = forks.Instances[Recorder](Phase.RECORDERS, after_in_child=Recorder.after_fork)
