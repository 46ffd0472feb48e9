"""Standard input as the content of a source: it is read once, and as it comes."""

from __future__ import annotations

import io
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eventlog.importers.content import COMPARED_BYTES, Content
from eventlog.importers.records import SourceLine, read_lines

#: What stands for standard input where a file is named.
NAME = "-"
_READY_S = 0.2


class Pipe(Content):
    """What another program writes to us. Its first bytes are read when it is opened, to know it again by."""

    can_be_read_again = False

    def __init__(self, file: io.BufferedReader) -> None:
        self.path, self.name, self.file = Path(NAME), NAME, NAME
        self.compressed = True  # it has no later either
        self.version = 0, 0
        self._file = file
        self._first = b""
        while len(self._first) < COMPARED_BYTES and (not self._first or self._has_more(_READY_S)):
            block = file.read1(COMPARED_BYTES - len(self._first))
            if not block:
                break
            self._first += block

    def beginning(self) -> bytes:
        """Return the first bytes that came, at most COMPARED_BYTES."""
        return self._first

    def before(self, offset: int, size: int = COMPARED_BYTES) -> bytes | None:
        """Return nothing: what was read is gone."""
        return b"" if offset == 0 else None

    def lines(self, offset: int) -> Iterator[SourceLine]:
        """Yield the lines, from the first one. Raises ImportFailed."""
        return read_lines(self.path, io.BufferedReader(_Joined(self._first, self._file)), 0)

    def is_waiting(self) -> bool:
        """Say whether the next line may take its time."""
        return not self._has_more(0)

    def _has_more(self, timeout_s: float) -> bool:
        return bool(select.select([self._file], [], [], timeout_s)[0])


class _Joined(io.RawIOBase):
    """Some bytes, and then what a file has."""

    def __init__(self, first: bytes, file: io.BufferedReader) -> None:
        self._first = first
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._first[: len(buffer)] or self._file.read1(len(buffer))
        self._first = self._first[len(block) :]
        buffer[: len(block)] = block
        return len(block)
