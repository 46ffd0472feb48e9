"""The rows of a SELECT, in the form that `eventlog sql --format` writes, through a pipe and not through the disk.

    DuckDB ──COPY──→ a FIFO ──→ bytes, up to a limit ──→ the answer

What is over the limit is not made: the reading end is closed, and DuckDB's next write fails.
"""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path

from eventlog.errors import QueryFailed
from eventlog.queries.store import ReadStore
from eventlog.server.endpoints import SqlQuestion

_PART_BYTES = 1 << 20


class TooLarge(QueryFailed):
    """An answer has more bytes than one may have."""


def too_large(max_bytes: int) -> TooLarge:
    """Return the error for an answer that is over the limit."""
    return TooLarge(f"the answer is over {max_bytes:,} bytes; narrow the question, or ask for it page by page")


def rows(store: ReadStore, question: SqlQuestion, *, max_bytes: int, timeout_s: float) -> tuple[bytes, int]:
    """Return the rows of a query in its format, and how many. Raises QueryFailed, and TooLarge over `max_bytes`."""
    with tempfile.TemporaryDirectory(prefix="eventlog-rows-") as folder:
        fifo = Path(folder, "rows")
        os.mkfifo(fifo, 0o600)
        # Both ends, so that opening one waits for nobody; the end of writing is a byte of our own.
        reading = _Reading(fifo, max_bytes)
        reading.start()
        try:
            count = store.copy(
                question.query, fifo, question.format, question.params, row_limit=question.limit, timeout_s=timeout_s
            )
        except QueryFailed:
            if reading.is_over:
                raise too_large(max_bytes) from None
            raise
        finally:
            reading.finish()
        if reading.is_over:
            raise too_large(max_bytes)
        return b"".join(reading.parts), count


class _Reading(threading.Thread):
    """Reads a FIFO until all writers have closed it, or the limit is passed."""

    def __init__(self, fifo: Path, max_bytes: int) -> None:
        super().__init__(daemon=True)
        self._max_bytes = max_bytes
        self._fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        # With a writer of our own there is no end before DuckDB has begun.
        self._writer = os.open(fifo, os.O_WRONLY | os.O_CLOEXEC)
        os.set_blocking(self._fd, True)
        self.parts: list[bytes] = []
        self.is_over = False

    def run(self) -> None:
        size = 0
        while part := os.read(self._fd, _PART_BYTES):
            size += len(part)
            if size > self._max_bytes:
                self.is_over = True
                self.parts.clear()
                break
            self.parts.append(part)
        os.close(self._fd)

    def finish(self) -> None:
        """Wait for the last byte."""
        os.close(self._writer)
        self.join()
