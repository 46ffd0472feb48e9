"""Appending what came over HTTP: a few threads of its own, and a bound in bytes on everything that waits for them.

    request → room for its bytes → one of a few threads → Recorder → the log, synced → answer

Never in the event loop: an append waits for the disk, and there all other requests would wait with it; in threads the
recorder's syncs are shared between requests. Never in the pool that questions use: these would fill it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar

from eventlog.server.problems import too_busy

R = TypeVar("R")


class Intake:
    """A pool of threads for appending, and a count of the bytes that are held for it."""

    def __init__(self, *, threads: int, queue_max_bytes: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="eventlog-intake")
        self._max_bytes = queue_max_bytes
        self._lock = threading.Lock()
        self.held_bytes = 0
        self.refused = 0

    def room(self) -> Room:
        """Return room for one request, of no bytes yet."""
        return Room(self)

    def hold(self, size: int) -> None:
        """Count bytes. Raises Problem where they would be too many; a first request has room, however large it is."""
        with self._lock:
            if self.held_bytes and self.held_bytes + size > self._max_bytes:
                self.refused += 1
                raise too_busy("queue_full", "more events wait than may wait; send these again")
            self.held_bytes += size

    def let_go(self, size: int) -> None:
        """Count bytes no more."""
        with self._lock:
            self.held_bytes -= size

    @property
    def is_full(self) -> bool:
        """Whether nearly as much is held as may be."""
        return self.held_bytes >= 0.9 * self._max_bytes

    async def run(self, room: Room, work: Callable[[], R]) -> R:
        """Run `work` in a thread. It is finished even where the client has gone: what was taken is written."""
        future = self._pool.submit(work)
        room.is_lent = True
        future.add_done_callback(lambda _: room.free())
        return await asyncio.shield(asyncio.wrap_future(future))

    def close(self) -> None:
        """Finish what was taken. Waits for it."""
        self._pool.shutdown()


class Room:
    """The bytes that one request holds, until its work is done or the `with` block ends before that."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._size = 0
        #: Whether a thread works on these bytes.
        self.is_lent = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.is_lent:
            self.free()

    def take(self, size: int) -> None:
        """Hold more bytes. Raises Problem where there is no room for them."""
        self._intake.hold(size)
        self._size += size

    def free(self) -> None:
        """Hold nothing any more."""
        self._intake.let_go(self._size)
        self._size = 0
