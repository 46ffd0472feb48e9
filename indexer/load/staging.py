"""Staging: rows are handed to DuckDB as text in memory, which its own parallel readers parse.

To build rows in Python and bind them one by one is far slower (docs/decisions/0005).
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
    """A file that only this process sees; close it after use. A memfd, or a temporary file where there is none."""

    def __init__(self) -> None:
        self._size = 0
        self._is_named = not hasattr(os, "memfd_create")
        if self._is_named:
            self._fd, self._path = tempfile.mkstemp(prefix="eventlog-")
        else:
            self._fd = os.memfd_create("eventlog", os.MFD_CLOEXEC)
            self._path = f"/proc/self/fd/{self._fd}"

    def write(self, data: bytes) -> None:
        """Append bytes to the file."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, self._size)
            self._size += written
            view = view[written:]

    def read(self, size: int, offset: int) -> bytes:
        """Return up to `size` bytes of the file from a byte offset."""
        return os.pread(self._fd, size, offset)

    def finished(self) -> str:
        """Truncate the file to what was written since `clear`; return its path, as `/proc/self/fd/7`."""
        os.ftruncate(self._fd, self._size)
        return self._path

    def clear(self) -> None:
        """Start again at offset 0. The memory is reused: allocating it again costs more than filling it."""
        self._size = 0

    def close(self) -> None:
        """Close the file and free its memory."""
        fd, self._fd = self._fd, -1
        os.close(fd)
        if self._is_named:
            os.unlink(self._path)


@contextmanager
def as_table(rows: Iterable[bytes], columns: str) -> Iterator[str]:
    """Yield a FROM clause that reads JSON objects as a table; valid inside the `with` block.

    `rows` are objects without newlines, as `b'{"a":1,"b":"x"}'`. `columns` is the body of read_json's `columns`
    struct: "a: 'BIGINT', b: 'VARCHAR'".
    """
    rows = list(rows)
    largest = max([_OBJECT_BYTES, *map(len, rows)]) + 1024
    with contextlib.closing(MemoryFile()) as file:
        # The last row needs its newline, too: DuckDB 2.0 reads large rows in parallel, and fails without it
        # ("Malformed JSON … at byte 1").
        file.write(b"".join(part for row in rows for part in (row, b"\n")))
        yield (
            f"read_json({literal(file.finished())}, format = 'newline_delimited', auto_detect = false, "
            f"maximum_object_size = {largest}, columns = {{{columns}}})"
        )


@contextmanager
def as_csv(values: Iterable[str], column: str) -> Iterator[str]:
    """Yield a FROM clause that reads texts as one column; valid inside the `with` block.

    The texts need no quotes, as ids do. `column` is a name and a type: "event_id: 'UUID'".
    """
    with contextlib.closing(MemoryFile()) as file:
        file.write("\n".join([*values, ""]).encode())
        yield f"read_csv({literal(file.finished())}, auto_detect = false, header = false, columns = {{{column}}})"
