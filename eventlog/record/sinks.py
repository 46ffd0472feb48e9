"""Sinks: they get encoded lines besides the log or, in tests, instead of it.

A sink gets the same bytes as the log: one or more complete lines of one event
type, after they were written, on the thread that emitted them. The contract, tested over
every sink in tests/eventlog/test_sinks.py:

- lines arrive in the order in which the thread emitted them, each exactly once;
- an exception in a sink is counted and logged once; the log and other sinks go on;
- `flush` and `close` may be called at any time, also twice.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import IO, Protocol

import msgspec

from eventlog.format.envelope import Envelope
from eventlog.process import forks
from eventlog.process.forks import Phase

_decoder = msgspec.json.Decoder(Envelope)


class Sink(Protocol):
    """Anything that takes lines. The log's own writer is one. What its methods raise is counted and logged."""

    def write(self, event_type: str, data: bytes) -> None:
        """Take one or more complete lines of one event type, newlines included."""

    def flush(self) -> None:
        """Write out what is buffered."""

    def close(self) -> None:
        """Flush and release resources."""


class MemorySink:
    """Keeps events in memory; what `eventlog.capture()` yields. Safe across threads."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._lock = threading.RLock()
        _sinks.add(self)

    def write(self, event_type: str, data: bytes) -> None:
        """See Sink.write."""
        with self._lock:
            self._lines += data.split(b"\n")[:-1]

    def flush(self) -> None:
        """Nothing is buffered."""

    def close(self) -> None:
        """The events stay readable."""

    def __len__(self) -> int:
        return len(self.lines)

    def __iter__(self) -> Iterator[Envelope]:
        return iter(self.events)

    def __repr__(self) -> str:
        return f"<MemorySink: {', '.join(event.event_type for event in self) or 'empty'}>"

    @property
    def events(self) -> list[Envelope]:
        """All events so far, in order of emission, decoded from their lines."""
        return [_decoder.decode(line) for line in self.lines]

    @property
    def lines(self) -> list[bytes]:
        """All lines so far, as the log would have them, without newlines."""
        with self._lock:
            return list(self._lines)

    def of_type(self, event_type: str) -> list[Envelope]:
        """Return the events of one type, in order of emission."""
        return [event for event in self.events if event.event_type == event_type]


class StreamSink:
    """Copies every line to a binary stream, for instance `sys.stderr.buffer` while debugging.

    The stream belongs to the caller: `close` flushes it and leaves it open.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._lock = threading.RLock()
        _sinks.add(self)

    def write(self, event_type: str, data: bytes) -> None:
        """See Sink.write. Raises what the stream raises."""
        with self._lock:
            self._stream.write(data)

    def flush(self) -> None:
        """Flush the stream unless it is closed. Raises what the stream raises."""
        with self._lock:
            if not self._stream.closed:
                self._stream.flush()

    def close(self) -> None:
        """Flush the stream, and leave it open."""
        self.flush()


def _renew_lock(sink: MemorySink | StreamSink) -> None:
    sink._lock = threading.RLock()  # a thread that held it stayed behind in the parent


_sinks = forks.Instances[MemorySink | StreamSink](Phase.STATE, after_in_child=_renew_lock)
