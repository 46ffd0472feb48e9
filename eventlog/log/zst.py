"""Archived segments: <segment>.jsonl.zst, compressed with zstd, and read like plain ones.

Layout
    One zstd frame (RFC 8878) with its content size, so that listing the log needs no
    decompression, and with a checksum at its end. Offsets always mean uncompressed bytes.

Writing
    Of sealed segments only: compress to <segment>.jsonl.zst.part, read that back and compare
    it with the seal, sync, rename, sync the folder, and only then delete the plain file.

What a crash can leave
    A .part file, which the next run overwrites; or both files. Then the plain one is read, until the
    next run deletes it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self, cast

from eventlog.errors import MissingExtra

SUFFIX = ".zst"
BLOCK_BYTES = 1024 * 1024
_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")


class SegmentBytes(Protocol):
    """The uncompressed bytes of a segment, plain or archived. Close it, or use it in a with block."""

    def pread(self, size: int, offset: int) -> bytes:
        """Return up to `size` bytes from an offset; b"" at the end. Raises OSError."""

    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_segment(path: Path) -> SegmentBytes:
    """Open a segment by its plain or its archived path. A plain one may have been archived in the meantime.

    Raises OSError, and MissingExtra for an archive where no zstd library is installed.
    """
    if not path.name.removesuffix(".part").endswith(SUFFIX):
        with contextlib.suppress(FileNotFoundError):
            return _Plain(path)
        path = archived_path(path)
    return _Archived(path)


def archived_path(path: Path) -> Path:
    """Return the path of a plain segment's archive: `….jsonl` → `….jsonl.zst`."""
    return path.with_name(path.name + SUFFIX)


def content_size(path: Path) -> int | None:
    """Return the uncompressed size of an archive in bytes, from its header; None where it has none."""
    try:
        stat = path.lstat()
    except OSError:
        return None
    return _content_size(path, stat.st_ino, stat.st_mtime_ns)


@functools.lru_cache(maxsize=200_000)  # archives never change, and each sweep asks for all of them
def _content_size(path: Path, _inode: int, _mtime_ns: int) -> int | None:
    try:
        with path.open("rb") as file:
            header = file.read(18)
    except OSError:
        return None
    return frame_content_size(header)


def frame_content_size(header: bytes) -> int | None:
    """Return Frame_Content_Size from the first 18 bytes of a zstd frame (RFC 8878, section 3.1.1.1), or None."""
    if header[:4] != _MAGIC or len(header) < 6:
        return None
    start, end = _content_size_field(header[4])
    field = header[start:end]
    if not field or len(field) < end - start:
        return None
    return int.from_bytes(field, "little") + (256 if len(field) == 2 else 0)


def _content_size_field(descriptor: int) -> tuple[int, int]:
    """Return start and end of Frame_Content_Size in a frame; it is the last field of the header, and may be empty."""
    single_segment = descriptor >> 5 & 1
    dictionary_bytes = (0, 1, 2, 4)[descriptor & 3]
    start = 5 + (not single_segment) + dictionary_bytes
    return start, start + (single_segment, 2, 4, 8)[descriptor >> 6]


class _Plain:
    def __init__(self, path: Path) -> None:
        # O_NONBLOCK: a FIFO at the segment's path must not block.
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)

    def pread(self, size: int, offset: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Archived:
    """Decompresses forward. Reading before the start of the last read decompresses from the beginning again."""

    def __init__(self, path: Path) -> None:
        if path.is_symlink():
            raise OSError(errno.ELOOP, "a symbolic link, not followed", str(path))
        self._path = path
        self._stream: io.BufferedReader | None = open_zst(path)
        self._start = 0
        self._buffer = bytearray()

    def pread(self, size: int, offset: int) -> bytes:
        if offset < self._start:
            self.close()
            self._stream, self._start, self._buffer = open_zst(self._path), 0, bytearray()
        while self._start + len(self._buffer) < offset + size:
            block = self._read()
            if not block:
                break
            self._buffer += block
            done = min(offset - self._start, len(self._buffer))
            del self._buffer[:done]
            self._start += done
        return bytes(self._buffer[offset - self._start :][:size])

    def _read(self) -> bytes:
        assert self._stream is not None
        try:
            return self._stream.read(BLOCK_BYTES)
        except (OSError, EOFError) as error:
            raise self._damaged(error) from error
        except Exception as error:
            if not is_zstd_error(error):
                raise
            raise self._damaged(error) from error

    def _damaged(self, reason: object) -> OSError:
        return OSError(errno.EIO, f"damaged archive: {reason}", str(self._path))

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def blocks(path: Path, size: int | None = None) -> Iterator[bytes]:
    """Yield the uncompressed bytes of a segment, or the first `size` of them, in blocks of up to 1 MiB.

    Raises OSError, and MissingExtra for an archive where no zstd library is installed.
    """
    with open_segment(path) as file:
        offset = 0
        while block := file.pread(BLOCK_BYTES if size is None else min(BLOCK_BYTES, size - offset), offset):
            yield block
            offset += len(block)


def check(path: Path) -> None:
    """Read an archive to its end, which verifies its checksum. Raises OSError where it is damaged."""
    for _ in blocks(path):
        pass


def compress(source: Path, target: Path, *, level: int) -> None:
    """Compress a plain file into one frame with its content size, and sync it. Raises OSError, MissingExtra."""
    size = source.stat().st_size
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        with _compressor(file, size, level) as writer:
            for block in blocks(source):
                writer.write(block)
        file.flush()
        os.fsync(file.fileno())


def _compressor(file: io.BufferedWriter, size: int, level: int) -> Any:
    modern, library = _zstd("writing an archive")
    if modern:
        parameter = library.CompressionParameter
        options = {parameter.compression_level: level, parameter.checksum_flag: True}
        compressor = library.ZstdCompressor(options=options)
        compressor.set_pledged_input_size(size)
        return _ModernWriter(compressor, file)
    compressor = library.ZstdCompressor(level=level, write_content_size=True, write_checksum=True)
    return compressor.stream_writer(file, size=size, closefd=False)


class _ModernWriter:
    """Writes with compression.zstd (Python 3.14), whose own file class cannot put the size into the header."""

    def __init__(self, compressor: Any, file: io.BufferedWriter) -> None:
        self._compressor = compressor
        self._file = file

    def write(self, data: bytes) -> None:
        self._file.write(self._compressor.compress(data))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.write(self._compressor.flush())


def open_zst(path: Path) -> io.BufferedReader:
    """Open a zstd file for reading; reads several frames as one. Raises OSError, MissingExtra."""
    file = path.open("rb")
    try:
        return reading(file, path.name)
    except MissingExtra:
        file.close()
        raise


def reading(file: BinaryIO, name: str) -> io.BufferedReader:
    """Return a reader of what a zstd file holds. `name` is for messages. Raises MissingExtra.

    Reading raises EOFError where the file is cut short, and an error of the library (`is_zstd_error`) where it is
    damaged.
    """
    modern, library = _zstd(f"reading {name}")
    if modern:
        return cast("io.BufferedReader", library.open(file, "rb"))
    return io.BufferedReader(BlockFile(file, _content(file, library.ZstdDecompressor().decompressobj)))


def _content(file: BinaryIO, new: Callable[[], Any]) -> Iterator[bytes]:
    """Yield the content of a zstd file, block by block (RFC 8878, section 3.1); `new` makes a decompressor of a frame.

    zstandard's own reader takes a file that was cut off for one that ends. Raises EOFError, after what there is.
    """
    while magic := file.read(4):
        if _SKIPPABLE.match(magic):
            _read(file, int.from_bytes(_read(file, 4), "little"))
            continue
        frame = new()
        yield frame.decompress(magic)  # refuses what is no frame
        descriptor = _read(file, 1)
        yield frame.decompress(descriptor + _read(file, _content_size_field(descriptor[0])[1] - 5))
        is_last = False
        while not is_last:
            head = _read(file, 3)
            bits = int.from_bytes(head, "little")
            is_last, is_run = bool(bits & 1), bits >> 1 & 3 == 1
            length = 1 if is_run else bits >> 3  # a run has its byte once
            block = file.read(length)
            yield frame.decompress(head + block)
            if len(block) < length:
                raise _cut_off()
        if descriptor[0] >> 2 & 1:
            yield frame.decompress(_read(file, 4))  # compares the checksum


def _read(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise _cut_off()
    return data


def _cut_off() -> EOFError:
    return EOFError("it ends inside of a frame")


class BlockFile(io.RawIOBase):
    """Blocks of bytes as a file; it closes the one that they come from."""

    def __init__(self, source: BinaryIO, blocks: Iterator[bytes]) -> None:
        self._source = source
        self._blocks = blocks
        self._block = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._block:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._block = block
        taken = self._block[: len(buffer)]
        buffer[: len(taken)] = taken
        self._block = self._block[len(taken) :]
        return len(taken)

    def close(self) -> None:
        self._source.close()
        super().close()


def is_zstd_error(error: Exception) -> bool:
    """Say whether an exception comes from a zstd library: each one has its own class."""
    return type(error).__module__.split(".")[0] in ("zstandard", "compression", "_zstd")


def _zstd(feature: str) -> tuple[bool, Any]:
    """Return whether the zstd library is that of Python 3.14, and its module. Raises MissingExtra."""
    for modern, name in ((True, "compression.zstd"), (False, "zstandard")):
        with contextlib.suppress(ModuleNotFoundError):
            return modern, importlib.import_module(name)
    raise MissingExtra(f"{feature} (zstd is missing)", "cli")
