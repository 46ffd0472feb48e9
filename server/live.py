"""The log as it grows: one thread reads and decodes each new line once, for all streams.

    any process appends → file notification | timer → this thread: stat, read, decode → the event loop → each stream

Notifications are hints, as in eventlog.indexer.watch: they say which segments to look at, and all of the log is looked
at now and then. The thread runs while somebody listens. It hands over one batch, and reads the next one when the event
loop has taken that: so memory is bounded, and streams send what they have before there is more.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import watchfiles

from eventlog.errors import EventlogError
from eventlog.format.envelope import EVENT_TYPE, Envelope
from eventlog.log import layout, reader
from eventlog.log.layout import SegmentFile
from eventlog.server.backlog import Batch, Frame, event_of
from eventlog.server.positions import Cursor, Progress

_logger = logging.getLogger("eventlog.server")
#: How long watchfiles collects notifications before it hands them over.
_DEBOUNCE_MS, _STEP_MS = 50, 25
_WAKE_S = 0.25
#: All of the log is looked at this often, but for sealed segments, which are looked at every minute.
_SWEEP_S = 1.0
_WHOLE_SWEEP_S = 60.0
#: A sweep that takes long, of a log with many segments, is made less often: this many times as long as it takes.
_SWEEP_REST = 20
_BATCH_LINES = 250
_BATCH_BYTES = 1024 * 1024
#: How long a client waits for the first look at the log.
_START_S = 30.0
_MESSAGES_MAX = 100


class Listener(Protocol):
    """Who is told of new lines, in the event loop."""

    def offer(self, batch: Batch) -> None:
        """Take a batch. Never waits."""

    def fail(self) -> None:
        """Learn that there will be no more."""


class Live:
    """Hands new lines to listeners. Use it in one event loop."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listeners: dict[Listener, None] = {}
        self._reader: _Reader | None = None
        self._latest: Batch | None = None
        self._ready = asyncio.Event()

    async def listen(self, listener: Listener) -> Batch:
        """Return where the log stands now; `listener` gets all batches after that. Raises TimeoutError."""
        async with asyncio.timeout(_START_S):
            while self._latest is None:
                if self._reader is None:
                    self._ready.clear()
                    self._reader = _Reader(self._root, self)
                    self._reader.start()
                await self._ready.wait()
        self._listeners[listener] = None
        return self._latest

    def now(self) -> Batch | None:
        """Return where the log stands, for one that listens: all further batches are after that."""
        return self._latest

    def leave(self, listener: Listener) -> None:
        """Tell a listener nothing more. Without listeners nothing is read."""
        self._listeners.pop(listener, None)
        if not self._listeners:
            self.close()

    def close(self) -> None:
        """End the thread, without waiting for it."""
        if self._reader is not None:
            self._reader.stop.set()
        self._reader = self._latest = None
        self._ready.set()  # who waits for the first batch starts another thread

    # -- called by the thread, in the event loop -------------------------------------------

    def publish(self, source: _Reader, batch: Batch) -> None:
        """Hand a batch to all listeners."""
        if source is self._reader:
            self._latest = batch
            self._ready.set()
            for listener in list(self._listeners):
                listener.offer(batch)
        source.is_taken.set()

    def failed(self, source: _Reader) -> None:
        """Tell all listeners that there will be no more."""
        if source is self._reader:
            for listener in list(self._listeners):
                listener.fail()
            self._reader = self._latest = None


class _New(NamedTuple):
    """A new line, and the latest time that it or a line before it in the same segment and batch has."""

    latest: str
    file: SegmentFile
    line: reader.Line
    event: Envelope


class _Reader(threading.Thread):
    """Reads what is new from when it was started."""

    def __init__(self, root: Path, live: Live) -> None:
        super().__init__(name="eventlog-live", daemon=True)
        self.stop = threading.Event()
        #: Set when the event loop has taken the last batch.
        self.is_taken = threading.Event()
        self._root = root
        self._live = live
        self._loop = asyncio.get_running_loop()
        self._files: dict[str, Progress] = {}
        self._cursor = Cursor()
        self._new: list[_New] = []
        self._bytes = 0
        #: Segments of the next batch, and the latest time that one of their new lines has.
        self._changed: dict[str, str] = {}
        self._has_news = True
        self._is_watching = False
        self._sweep_due = self._whole_sweep_due = 0.0
        self._refused: set[str] = set()

    def run(self) -> None:
        try:
            self._begin()
            for changed in self._wakes():
                try:
                    self._look(changed)
                except (EventlogError, OSError) as error:
                    self._say(f"the stream cannot read the log: {error}; trying again")
                    self.stop.wait(_WAKE_S)
        except Exception:
            _logger.exception("the thread of the stream has failed")
        finally:
            if not self.stop.is_set() and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._live.failed, self)

    def _begin(self) -> None:
        """Take all that is in the log for sent."""
        for file in layout.list_log(self._root).segments:
            self._files[file.name] = Progress(file, _line_end(file), file.size)
        self._cursor = Cursor.at_end(self._files)
        self._whole_sweep_due = time.monotonic() + _WHOLE_SWEEP_S
        self._hand_over()

    def _look(self, changed: set[str]) -> None:
        """Hand over what is new."""
        started = time.monotonic()
        if is_sweep := started >= self._sweep_due:
            self._sweep(is_whole=started >= self._whole_sweep_due)
        else:
            self._look_at(changed)
        self._hand_over()
        if is_sweep:
            self._cursor = Cursor.at_end(self._files)
            pause_s = _SWEEP_S if self._is_watching else _WAKE_S
            self._sweep_due = time.monotonic() + max(pause_s, (time.monotonic() - started) * _SWEEP_REST)

    def _sweep(self, *, is_whole: bool) -> None:
        skipped = set() if is_whole else {name for name, each in self._files.items() if each.file.sealed}
        listed = layout.list_log(self._root, skip=skipped).segments
        for file in listed:
            self._read(file)
        gone = self._files.keys() - skipped - {file.name for file in listed}
        for name in gone:
            del self._files[name]
        self._has_news = self._has_news or bool(gone)
        if is_whole:
            self._whole_sweep_due = time.monotonic() + _WHOLE_SWEEP_S

    def _look_at(self, paths: set[str]) -> None:
        """Read the segments at some paths, and new ones beside them."""
        folders = set()
        for path in paths:
            folder, _, file_name = path.rpartition(os.sep)
            progress = self._files.get(file_name.partition(".")[0])
            if progress is None:
                folders |= {os.path.basename(folder), file_name}  # a new segment, or the folder of a new type
            elif (file := layout.refreshed(progress.file)) is not None:
                self._read(file)
        for event_type in filter(EVENT_TYPE.fullmatch, folders):
            for file in layout.list_type(self._root, event_type):
                self._read(file)

    def _read(self, file: SegmentFile) -> None:
        """Read the new lines of a segment."""
        before = self._files.get(file.name)
        if before is not None and file.size <= before.seen:
            if file != before.file:
                self._note(before._replace(file=file))
            return
        offset, seen = (0, 0) if before is None else (before.offset, before.seen)
        if before is not None:
            self._cursor.list_again(before)
        try:
            for line in reader.read_lines(file.path, offset, end=file.size):
                if not self._take(file, line):
                    return
                offset = line.offset + line.length
            seen = file.size
        except EventlogError as error:
            self._say(f"the stream cannot read a segment: {error}; trying again")
        self._note(Progress(file, offset, max(seen, offset)))

    def _note(self, progress: Progress) -> None:
        self._files[progress.file.name] = progress
        self._changed.setdefault(progress.file.name, "")
        self._has_news = True

    def _take(self, file: SegmentFile, line: reader.Line) -> bool:
        """Add a line to the batch; hand that over where it is full. Return False where nobody wants more."""
        event = event_of(line, file.event_type)
        if event is not None:
            latest = max(event.timestamp, self._changed.get(file.name, ""))
            self._changed[file.name] = latest
            self._new.append(_New(latest, file, line, event))
            self._bytes += line.length
        if len(self._new) >= _BATCH_LINES or self._bytes >= _BATCH_BYTES:
            end = line.offset + line.length
            self._note(Progress(file, end, end))
            self._hand_over()
        return not self.stop.is_set()

    def _frames(self) -> list[Frame]:
        """Return the new lines by their times, those of one segment in their order, and move the cursor behind them."""
        frames = []
        for _, file, line, event in sorted(self._new, key=lambda new: new.latest):
            end = line.offset + line.length
            self._cursor.advance(Progress(file, end, end))
            frames.append(Frame(self._cursor.id_of(file.name, line.offset), event, line.data))
        for name in self._changed.keys() & self._cursor.listed.keys() & self._files.keys():
            self._cursor.advance(self._files[name])
        self._new, self._bytes, self._changed = [], 0, {}
        return frames

    def _hand_over(self) -> None:
        """Give the batch to the event loop, and wait until it was taken."""
        if not self._has_news or self.stop.is_set():
            return
        self._cursor.trim()
        batch = Batch(self._frames(), dict(self._files), self._cursor.copy())
        self._has_news = False
        self.is_taken.clear()
        self._loop.call_soon_threadsafe(self._live.publish, self, batch)
        while not self.is_taken.wait(_WAKE_S) and not self.stop.is_set():
            pass

    def _wakes(self) -> Iterator[set[str]]:
        """Yield the paths that changed, after each notification and every _WAKE_S seconds."""
        folder = layout.log_folder(self._root)
        while not self.stop.is_set():
            if folder.is_dir():
                try:
                    for changes in watchfiles.watch(
                        folder, watch_filter=None, debounce=_DEBOUNCE_MS, step=_STEP_MS, stop_event=self.stop,
                        rust_timeout=int(_WAKE_S * 1000), yield_on_timeout=True, raise_interrupt=False,
                    ):  # fmt: skip
                        self._is_watching = True
                        yield {path for _, path in changes}
                except (OSError, RuntimeError) as error:
                    self._say(f"no file notifications ({error}); the stream looks every {_WAKE_S:g} s instead")
                self._is_watching = False
            self.stop.wait(_WAKE_S)
            yield set()

    def _say(self, message: str) -> None:
        """Log a message, once."""
        if message not in self._refused and len(self._refused) < _MESSAGES_MAX:
            self._refused.add(message)
            _logger.warning("%s", message)


def _line_end(file: SegmentFile) -> int:
    """Return where the last complete line of a segment ends. A sealed one has nothing behind it that comes later."""
    if file.sealed:
        return file.size
    lines = reader.last_lines(file, 1)
    return lines[-1].offset + len(lines[-1].data) + 1 if lines else 0
