"""Open streams: what each client is sent, how many there may be, and how each of them ends.

    after an id → Backlog, from the log, as fast as the client reads → batches of Live, from a queue

A client that reads too slowly for its queue is told so (`gap`), and its stream ends: the id of that frame is where the
client stands, so that when it comes back with it, it gets everything from the log, at its own pace. How a frame is
written is the business of a `Framing`; all else is the same for each of them.

A stream ends when its client goes, when its key does not hold any more, when the server stops, or with a gap. One
timer looks after all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from eventlog.config.server import Limits
from eventlog.errors import EventlogError
from eventlog.server.backlog import Backlog, Batch, Frame, Wanted
from eventlog.server.callers import Caller, Callers
from eventlog.server.live import Live
from eventlog.server.positions import After, resume
from eventlog.server.problems import Problem, too_busy

R = TypeVar("R")
#: A part of an HTTP body, or a message of a WebSocket.
Payload = bytes | str
#: Sends payloads, and waits while the client reads nothing. Raises OSError where it has gone.
Write = Callable[[Sequence[Payload]], Awaitable[None]]

_logger = logging.getLogger("eventlog.server")
_TICK_S = 0.25
#: How long a stream that is ended may take to say so.
LAST_WORDS_S = 0.3
#: Sent at once, and held for one client, in bytes.
_PART_BYTES = 256 * 1024
_QUEUE_MAX_BYTES = 8 * 1024 * 1024
_READING_THREADS = 2


class End(enum.Enum):
    """Why a stream ended."""

    CLIENT_LEFT = "client_left"
    GAP = "gap"
    KEY_INVALID = "unauthorized"
    STOPPING = "stopping"
    FAILED = "internal_error"


class Framing(Protocol):
    """How frames are written."""

    def events(self, frames: Sequence[Frame]) -> list[Payload]:
        """Return what is sent for events."""

    def ping(self, position: str) -> Payload:
        """Return what says that the stream lives, and where it stands."""

    def gap(self, position: str, missed: int) -> Payload:
        """Return what says that events were left out after a position."""


class Encoded(NamedTuple):
    """The wanted events of a batch as they are sent, and how many they are."""

    payloads: list[Payload]
    events: int
    size_bytes: int


class Encoding:
    """Encodes each batch once for all streams that want the same of it."""

    def __init__(self) -> None:
        self._batch: Batch | None = None
        self._encoded: dict[tuple[Wanted, Framing], Encoded] = {}

    def of(self, batch: Batch, wanted: Wanted, framing: Framing) -> Encoded:
        """Return the wanted events of a batch."""
        if batch is not self._batch:
            self._batch, self._encoded = batch, {}
        encoded = self._encoded.get((wanted, framing))
        if encoded is None:
            frames = [frame for frame in batch.frames if wanted.has(frame.envelope)]
            payloads = framing.events(frames) if frames else []
            encoded = Encoded(payloads, len(frames), sum(map(len, payloads)))
            self._encoded[wanted, framing] = encoded
        return encoded


class Stream:
    """What one client is sent: what comes `after` an id, or from now on. Use `run` once."""

    def __init__(self, streams: Streams, caller: Caller, wanted: Wanted, after: After | None, framing: Framing):
        self.caller = caller
        self.ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self.sent_at = time.monotonic()
        self._streams = streams
        self._wanted = wanted
        self._after = after
        self._framing = framing
        self._queue: deque[tuple[Encoded, Batch]] = deque()
        self._events = self._bytes = self._missed = 0
        self._wake = asyncio.Event()
        self._is_ping_due = False

    # -- called in the event loop ----------------------------------------------------------

    def offer(self, batch: Batch) -> None:
        """Queue what is wanted of a batch; with too much in the queue, forget all of it, and count."""
        encoded = self._streams.encoding.of(batch, self._wanted, self._framing)
        if not encoded.events:
            return
        self._events += encoded.events
        self._bytes += encoded.size_bytes
        is_over = self._events > self._streams.queue_max or self._bytes > _QUEUE_MAX_BYTES
        if self._missed or (self._queue and is_over):
            self._missed = self._events
            self._queue.clear()
        else:
            self._queue.append((encoded, batch))
        self._wake.set()

    def fail(self) -> None:
        """End, because the log is not read any more."""
        self.end(End.FAILED)

    def end(self, reason: End) -> None:
        """End the stream, once."""
        if not self.ended.done():
            self.ended.set_result(reason)
            self._wake.set()

    def ping_if_silent(self, silent_s: float) -> None:
        """Have the stream say that it lives, where it has sent nothing for so long."""
        if time.monotonic() - self.sent_at >= silent_s:
            self._is_ping_due = True
            self._wake.set()

    # -- sending -------------------------------------------------------------------------

    async def run(self, write: Write) -> bool:
        """Send until the stream ends; return whether the client has read enough to be told that."""
        writer = asyncio.create_task(self._send_all(write))
        try:
            either: list[asyncio.Future[Any]] = [writer, self.ended]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not writer.done():
                await asyncio.wait([writer], timeout=LAST_WORDS_S)
            return writer.done()
        finally:
            self.end(End.CLIENT_LEFT)
            writer.cancel()
            self._streams.live.leave(self)
            with contextlib.suppress(asyncio.CancelledError):
                await writer

    async def _send_all(self, write: Write) -> None:
        try:
            await self._send_live(await self._catch_up(write), write)
        except OSError:
            self.end(End.CLIENT_LEFT)
        except (EventlogError, TimeoutError) as error:
            _logger.warning("a stream ends: %s", error)
            self.end(End.FAILED)
        except Exception:
            _logger.exception("a stream has failed")
            self.end(End.FAILED)

    async def _catch_up(self, write: Write) -> Batch:
        """Send what was appended after the id that the client came with; return where the log stands behind that."""
        latest = await self._streams.live.listen(self)
        after = self._after
        if after is None:
            await self._write(write, [self._framing.ping(latest.cursor.id())])
            return latest
        cursor = await self._streams.read(lambda: resume(after, latest.files))
        await self._write(write, [self._framing.ping(cursor.id())])
        while not self.ended.done():
            await self._send_backlog(Backlog(cursor, latest.files, latest.cursor, self._wanted), write)
            if not self._missed:  # what was appended meanwhile is in the queue
                break
            newer = self._streams.live.now()
            if newer is None:
                break
            self._forget_queue()
            cursor.carry(latest.files, newer.files)
            latest = newer
        return latest

    async def _send_backlog(self, backlog: Backlog, write: Write) -> None:
        try:
            while not self.ended.done():
                frames = await self._streams.read(backlog.next)
                if frames is None:
                    return
                if frames:
                    await self._write(write, self._framing.events(frames))
                elif self._is_ping_due:
                    await self._write(write, [self._framing.ping(backlog.cursor.id())])
        finally:
            await asyncio.shield(self._streams.read(backlog.close))

    async def _send_live(self, latest: Batch, write: Write) -> None:
        while not self.ended.done():
            if self._queue:
                payloads, latest = self._taken()
                await self._write(write, payloads)
            elif self._missed:
                await self._write(write, [self._framing.gap(latest.cursor.id(), self._missed)])
                self._streams.gaps += 1
                self.end(End.GAP)
            elif self._is_ping_due:
                latest = self._streams.live.now() or latest  # nothing is queued: all that is wanted of it was sent
                await self._write(write, [self._framing.ping(latest.cursor.id())])
            else:
                self._wake.clear()
                await self._wake.wait()

    def _taken(self) -> tuple[list[Payload], Batch]:
        """Take some of the queue."""
        payloads: list[Payload] = []
        size = 0
        while self._queue and size < _PART_BYTES:
            encoded, latest = self._queue.popleft()
            payloads += encoded.payloads
            size += encoded.size_bytes
            self._events -= encoded.events
        self._bytes -= size
        return payloads, latest

    def _forget_queue(self) -> None:
        self._queue.clear()
        self._events = self._bytes = self._missed = 0

    async def _write(self, write: Write, payloads: Sequence[Payload]) -> None:
        await write(payloads)
        self.sent_at = time.monotonic()
        self._is_ping_due = False


class Streams:
    """All open streams of a server."""

    def __init__(self, root: Path, callers: Callers, limits: Limits) -> None:
        self.live = Live(root)
        self.encoding = Encoding()
        self.queue_max = limits.stream_queue_max
        self._callers = callers
        self._limits = limits
        self._open: set[Stream] = set()
        #: Streams that ended because their client was too slow.
        self.gaps = 0
        self._is_stopping = False
        self._slots = 0
        self._slots_by_key: Counter[str] = Counter()
        self._pool = ThreadPoolExecutor(_READING_THREADS, thread_name_prefix="eventlog-streams")

    @property
    def open_count(self) -> int:
        """How many streams are open."""
        return len(self._open)

    async def read(self, work: Callable[[], R]) -> R:
        """Read the log in one of a few threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Count one stream during the block. Raises Problem where there are too many."""
        if self._slots >= self._limits.streams_max:
            raise too_busy("too_many_streams", "this server has as many streams open as it may; try again", after_s=5)
        self._slots += 1
        try:
            yield
        finally:
            self._slots -= 1

    @contextmanager
    def opened(self, caller: Caller, wanted: Wanted, after: After | None, framing: Framing) -> Iterator[Stream]:
        """Open a stream for the block. Raises Problem where its key has too many."""
        key_id = caller.key.key_id
        if self._is_stopping:
            raise too_busy("stopping", "this server is ending; try again")
        if self._slots_by_key[key_id] >= self._limits.streams_per_key_max:
            detail = "this key has as many streams open as it may; close one, or try again"
            raise Problem(429, "too_many_streams_of_key", detail, headers={"Retry-After": "5"})
        self._slots_by_key[key_id] += 1
        stream = Stream(self, caller, wanted, after, framing)
        self._open.add(stream)
        try:
            yield stream
        finally:
            self._open.discard(stream)
            self._slots_by_key[key_id] -= 1
            if not self._slots_by_key[key_id]:
                del self._slots_by_key[key_id]

    async def look_after(self, stopping: asyncio.Event) -> None:
        """End streams whose keys are revoked, have silent ones say that they live, and end all when `stopping`."""
        while not stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), _TICK_S)
            is_valid: dict[Caller, bool] = {}
            for stream in list(self._open):
                caller = stream.caller
                if caller not in is_valid:
                    is_valid[caller] = self._callers.is_still_valid(caller)
                if not is_valid[caller]:
                    stream.end(End.KEY_INVALID)
                stream.ping_if_silent(self._limits.ping_s)
        self._is_stopping = True
        for stream in list(self._open):
            stream.end(End.STOPPING)

    def close(self) -> None:
        """Stop reading."""
        self.live.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
