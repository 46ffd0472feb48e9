"""Compressed sources: gzip, zstd, xz and bzip2, recognised by their first bytes.

Names are no guide: rotation makes `app.log.1` of what was compressed, Windows writes `.GZ`. Only where the name says
that a file is compressed and its bytes do not, the name counts, too: the file is damaged, or has the wrong name.

All of a file is read: streams one behind the other, with zeros between or behind them. What ends inside of a stream is
an error, after all that could be read.
"""

from __future__ import annotations

import gzip
import importlib
import io
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

from eventlog.errors import ImportFailed
from eventlog.log.zst import BlockFile, is_zstd_error, open_zst

_FIRST_BYTES = 16
_BLOCK_BYTES = 64 * 1024
#: xz asks for as much memory as its file says: `xz -9` for 65 MiB.
_MEMORY_MAX_BYTES = 512 * 1024 * 1024


class Compression(NamedTuple):
    """A format: its name, the endings of its files, how they begin, and how they are opened."""

    name: str
    endings: tuple[str, ...]
    magic: re.Pattern[bytes]
    open: Callable[[Path], io.BufferedReader]


def _open_gzip(path: Path) -> io.BufferedReader:
    return cast("io.BufferedReader", gzip.open(path, "rb"))


def _open_xz(path: Path) -> io.BufferedReader:
    lzma = importlib.import_module("lzma")  # a Python may have been built without it
    return _streams(path, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _MEMORY_MAX_BYTES))


def _open_bzip2(path: Path) -> io.BufferedReader:
    return _streams(path, importlib.import_module("bz2").BZ2Decompressor)


#: The first bytes of an empty bzip2 file are those of its end.
COMPRESSIONS = (
    Compression("gzip", (".gz", ".gzip"), re.compile(rb"\x1f\x8b\x08"), _open_gzip),
    Compression("zstd", (".zst", ".zstd"), re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"), open_zst),
    Compression("xz", (".xz",), re.compile(rb"\xfd7zXZ\0"), _open_xz),
    Compression("bzip2", (".bz2",), re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"), _open_bzip2),
)
ENDINGS = tuple(ending for compression in COMPRESSIONS for ending in compression.endings)

#: What people take for JSON lines, too, and what it is.
_UNREADABLE = (
    (re.compile(rb"PK\x03\x04"), "a zip archive; unpack it first"),
    (re.compile(rb"\x04\x22\x4d\x18"), "compressed with lz4; decompress it first"),
    (re.compile(rb"\x1f\x9d"), "compressed with compress; decompress it first"),
    (re.compile(rb"7z\xbc\xaf\x27\x1c"), "a 7z archive; unpack it first"),
    (re.compile(rb"PAR1"), "a Parquet file; convert it to JSON lines first"),
    (re.compile(rb"SQLite format 3\0"), "an SQLite database; export its rows as JSON lines first"),
)


def of_file(path: Path) -> Compression | None:
    """Return how a file is compressed, by its first bytes, else by its name; None where it is plain. Raises OSError."""
    return of_bytes(_first_bytes(path)) or of_name(path.name)


def of_name(name: str) -> Compression | None:
    """Return the compression that a file's name ends in, in upper or lower case; None if there is none."""
    return next((each for each in COMPRESSIONS if name.lower().endswith(each.endings)), None)


def plain_name(name: str) -> str:
    """Return a name, or a path, without the ending of a compression."""
    ending = next((ending for ending in ENDINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]


def open_(path: Path) -> io.BufferedReader:
    """Open a file, decompressed where it is compressed. Raises OSError, ImportError, ImportFailed, MissingExtra."""
    first = _first_bytes(path)
    for magic, what in _UNREADABLE:
        if magic.match(first):
            raise ImportFailed(f"{path}: this is {what}")
    found, named = of_bytes(first), of_name(path.name)
    if found is not None:
        return found.open(path)
    if named is not None and first:
        raise ImportFailed(
            f"{path}: damaged after byte 0: it is named as {named.name} and does not begin so; "
            "if it is not compressed, rename it"
        )
    return path.open("rb")


def is_damage(error: Exception) -> bool:
    """Say whether a file that cannot be decompressed raises such an error when it is read."""
    known = isinstance(error, OSError | EOFError | ValueError | zlib.error)
    return known or is_zstd_error(error) or type(error).__module__ == "_lzma"


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_FIRST_BYTES)


def of_bytes(first: bytes) -> Compression | None:
    """Return the compression of content that begins so; None where it is plain."""
    return next((each for each in COMPRESSIONS if each.magic.match(first)), None)


def _streams(path: Path, decompressor: Callable[[], Any]) -> io.BufferedReader:
    file = path.open("rb")
    return io.BufferedReader(BlockFile(file, _decompressed(file, decompressor)))


def _decompressed(file: io.BufferedReader, decompressor: Callable[[], Any]) -> Iterator[bytes]:
    """Yield what streams hold that stand one behind the other.

    Python's own files take damage at the start of a later stream for the end of the file.
    """
    waiting = b""
    while True:
        while not (waiting := waiting.lstrip(b"\0")):
            if not (waiting := file.read(_BLOCK_BYTES)):
                return
        stream = decompressor()
        while not stream.eof:
            if stream.needs_input and not waiting and not (waiting := file.read(_BLOCK_BYTES)):
                raise EOFError("it ends inside of a stream")
            yield stream.decompress(waiting, _BLOCK_BYTES)
            waiting = b""
        waiting = stream.unused_data
