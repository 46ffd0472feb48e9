"""Handing rows to DuckDB: as JSON in memory, read by DuckDB's own parallel reader.

Building rows in Python and binding them one by one is far slower.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

_OBJECT_BYTES = 16 * 1024 * 1024


@contextmanager
def as_table(rows: Iterable[bytes], columns: str) -> Iterator[str]:
    """Yield a FROM clause that reads JSON objects as a table; valid inside the block.

    `columns` is the inside of read_json's `columns` struct: "a: 'BIGINT', b: 'VARCHAR'".
    """
    rows = list(rows)
    largest = max([_OBJECT_BYTES, *map(len, rows)]) + 1024
    # The last row needs its newline, too: without it DuckDB 2.0 fails on large rows that it
    # reads in parallel ("Malformed JSON … at byte 1").
    with _file(b"".join(part for row in rows for part in (row, b"\n"))) as path:
        yield (
            f"read_json('{path}', format = 'newline_delimited', auto_detect = false, "
            f"maximum_object_size = {largest}, columns = {{{columns}}})"
        )


@contextmanager
def _file(data: bytes) -> Iterator[str]:
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("eventlog", os.MFD_CLOEXEC)
        try:
            _write_all(fd, data)
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)
    else:
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            _write_all(file.fileno(), data)
            yield file.name


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
