"""The content of a foreign file: what is in it, whatever it is called and whether it is compressed.

Content is known again by its first bytes and by those before the place up to which it was read: a log goes on under
another name after its rotation, and compressed after that.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from eventlog.errors import ImportFailed
from eventlog.importers import compression
from eventlog.importers.positions import Position
from eventlog.importers.records import (
    SourceFile,
    SourceLine,
    is_compressed,
    open_source,
    path_name,
    read_lines,
    skip,
)

#: How many bytes at the beginning, and before the place up to which it was read, are compared.
COMPARED_BYTES = 4096
_BLOCK_BYTES = 1024 * 1024


class Content:
    """An open foreign file. Close it, or use it in a with block.

    `file` says which one it is (`2049:131`, device and inode), also when it is renamed. `version` is its
    size and when it was changed, in ns, as of its opening.
    """

    can_be_read_again = True

    def __init__(self, path: Path) -> None:
        """Open a file. Raises ImportFailed."""
        self.path = path
        self.name = path_name(path)
        self.compressed = is_compressed(path)
        self._file = open_source(path)
        try:
            stat = os.stat(path) if self.compressed else os.fstat(self._file.fileno())
        except OSError as error:
            self._file.close()
            raise ImportFailed(f"{path}: cannot be read: {error.strerror or error}") from error
        self.file = id_of(stat)
        self.version = stat.st_size, stat.st_mtime_ns

    def __enter__(self) -> Content:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def look_again(self) -> bool:
        """Take note of what the file has become; return whether it changed. For files that are not compressed."""
        stat = os.fstat(self._file.fileno())
        before, self.version = self.version, (stat.st_size, stat.st_mtime_ns)
        return before != self.version

    def is_waiting(self) -> bool:
        """Say whether the next line may take its time. A file's do not."""
        return False

    def lines(self, offset: int) -> Iterator[SourceLine]:
        """Yield the lines behind an offset, in uncompressed bytes. Raises ImportFailed."""
        file = self._from_start()
        skip(file, offset)
        yield from read_lines(self.path, file, offset)

    def beginning(self) -> bytes:
        """Return the first bytes, at most COMPARED_BYTES. Raises ImportFailed."""
        return self._read(0, COMPARED_BYTES)

    def before(self, offset: int, size: int = COMPARED_BYTES) -> bytes | None:
        """Return up to `size` bytes before an offset; None where the content ends before it. Raises ImportFailed."""
        size = min(size, offset)
        found = self._read(offset - size, size)
        return found if len(found) == size else None

    def prefix_hash(self, offset: int) -> str | None:
        """Return the hash of all bytes before an offset, as earlier versions logged it; None where it ends before."""
        found = hashlib.blake2b(digest_size=16)
        with open_source(self.path) as file:
            while offset > 0:
                block = file.read(min(offset, _BLOCK_BYTES))
                if not block:
                    return None
                found.update(block)
                offset -= len(block)
        return found.hexdigest()

    def continues(self, position: Position) -> bool:
        """Say whether this is the content that was imported up to a position, and what came after that."""
        try:
            if position.prefix_hash is not None:
                return self.prefix_hash(position.offset) == position.prefix_hash
            head, before = self.before(position.head_bytes), self.before(position.offset)
        except ImportFailed:  # a damaged archive; its import says so
            return False
        if head is None or before is None or (head and fingerprint(head) != position.head):
            return False
        return position.tail is None or fingerprint(before) == position.tail

    def still_continues(self, position: Position) -> bool:
        """Say whether lines that were just read behind a position are of its content.

        A log that is copied and cut off begins anew in the same file: what is read of it then may be of either.
        """
        if not self.can_be_read_again:
            return True
        return self._is_in_its_place() if self.compressed else self.continues(position)

    def _is_in_its_place(self) -> bool:
        """Say whether the file is still there under its name: what is compressed is opened by it again and again."""
        return file_of(self.path) == self.file

    def recognise_in(self, position: Position) -> None:
        """Note in a position the first bytes by which the content is known again, unless they have changed."""
        if position.head_bytes < COMPARED_BYTES:
            with contextlib.suppress(ImportFailed):  # a damaged archive; its import says so
                head = self.beginning()
                known = head[: position.head_bytes]
                if not known or fingerprint(known) == position.head:
                    position.head_bytes, position.head = len(head), fingerprint(head)

    def begins_with(self, other: Content) -> bool:
        """Say whether all of some other content is at the beginning of this one. Raises ImportFailed."""
        offset = 0
        while block := other._read(offset, _BLOCK_BYTES):
            if self._read(offset, len(block)) != block:
                return False
            offset += len(block)
        return True

    def _read(self, offset: int, size: int) -> bytes:
        """Return some bytes, whatever `lines` is reading meanwhile."""
        try:
            if not self.compressed:
                return os.pread(self._file.fileno(), size, offset)
            with open_source(self.path) as file:
                skip(file, offset)
                found = file.read(size)
            if not self._is_in_its_place():
                raise ImportFailed(f"{self.path}: another file has taken its name meanwhile; the next import goes on")
            return found
        except ImportFailed:
            raise
        except Exception as error:
            if not compression.is_damage(error):
                raise
            raise ImportFailed(f"{self.path}: damaged before byte {offset + size:,} (uncompressed): {error}") from error

    def _from_start(self) -> SourceFile:
        if self.compressed:
            self._file.close()
            self._file = open_source(self.path)
        else:
            self._file.seek(0)
        return self._file


def fingerprint(data: bytes) -> str:
    """Return the hash by which bytes are known again."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def id_of(stat: os.stat_result) -> str:
    """Return which file it is, by its device and inode: `2049:131`."""
    return f"{stat.st_dev}:{stat.st_ino}"


def file_of(path: Path | str) -> str | None:
    """Return which file stands at a path, as `2049:131`; None where there is none."""
    try:
        return id_of(os.stat(path))
    except OSError:
        return None
