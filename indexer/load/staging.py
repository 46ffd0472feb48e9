"""Handing rows to DuckDB: as text in memory, read by DuckDB's own parallel readers.

Building rows in Python and binding them one by one is far slower.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from eventlog.indexer.sql import literal

_OBJECT_BYTES = 16 * 1024 * 1024


class MemoryFile:
    """A file that only this process sees, in memory where the system has such files; to be closed."""

    def __init__(self) -> None:
        self._size = 0
        self._is_named = not hasattr(os, "memfd_create")
        if self._is_named:
            self._fd, self._path = tempfile.mkstemp(prefix="eventlog-")
        else:
            self._fd = os.memfd_create("eventlog", os.MFD_CLOEXEC)
            self._path = f"/proc/self/fd/{self._fd}"

    def write(self, data: bytes) -> None:
        """Append."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, self._size)
            self._size += written
            view = view[written:]

    def read(self, size: int, offset: int) -> bytes:
        """Return what was written."""
        return os.pread(self._fd, size, offset)

    def finished(self) -> str:
        """Return the path under which to read what was written since it was made or cleared."""
        os.ftruncate(self._fd, self._size)
        return self._path

    def clear(self) -> None:
        """Begin anew. The memory stays, since to get it again costs more than to fill it."""
        self._size = 0

    def close(self) -> None:
        """Let go of it."""
        fd, self._fd = self._fd, -1
        os.close(fd)
        if self._is_named:
            os.unlink(self._path)


@contextmanager
def as_table(rows: Iterable[bytes], columns: str) -> Iterator[str]:
    """Yield a FROM clause that reads JSON objects as a table; valid inside the block.

    `columns` is the inside of read_json's `columns` struct: "a: 'BIGINT', b: 'VARCHAR'".
    """
    rows = list(rows)
    largest = max([_OBJECT_BYTES, *map(len, rows)]) + 1024
    with contextlib.closing(MemoryFile()) as file:
        # The last row needs its newline, too: without it DuckDB 2.0 fails on large rows that it
        # reads in parallel ("Malformed JSON … at byte 1").
        file.write(b"".join(part for row in rows for part in (row, b"\n")))
        yield (
            f"read_json({literal(file.finished())}, format = 'newline_delimited', auto_detect = false, "
            f"maximum_object_size = {largest}, columns = {{{columns}}})"
        )


@contextmanager
def as_csv(values: Iterable[str], column: str) -> Iterator[str]:
    """Like `as_table`, of one column of texts that need no quotes."""
    with contextlib.closing(MemoryFile()) as file:
        file.write("\n".join([*values, ""]).encode())
        yield f"read_csv({literal(file.finished())}, auto_detect = false, header = false, columns = {{{column}}})"
