"""Records of a foreign file: plain or compressed, growing or finished, well formed or not.

Traps that real files hold, each with a test: several records glued on one line, no final
newline, empty lines, bytes that are not UTF-8, a byte order mark, lines without end.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventlog.errors import ImportFailed, MissingExtra
from eventlog.format.envelope import MAX_LINE_BYTES
from eventlog.importers import compression

SourceFile = io.BufferedReader
#: Small, since what a block of a damaged archive holds before the damage is lost.
_BLOCK_BYTES = 64 * 1024
_syntax = msgspec.json.Decoder(msgspec.Raw)
_BOM = b"\xef\xbb\xbf"


class SourceLine(NamedTuple):
    """A line of a source, without its newline; `end` is where the next one begins.

    `length` is more than `len(data)` where the line is over the limit and was cut.
    `terminated` is false for a last line that has no newline (yet).
    """

    data: bytes
    length: int
    end: int
    terminated: bool


def open_source(path: Path) -> SourceFile:
    """Open a source for reading, decompressed where it is compressed. Raises ImportFailed."""
    try:
        return compression.open_(path)
    except OSError as error:
        raise ImportFailed(f"{path}: cannot be opened: {error.strerror or error}") from error
    except (MissingExtra, ImportError) as error:
        raise ImportFailed(f"{path}: cannot be decompressed: {error}") from error


def path_name(path: Path) -> str:
    """Return a file's one name: absolute, links followed, and always Unicode."""
    return os.path.realpath(path).encode("utf-8", "backslashreplace").decode()


def importer_parts(agent: str | None) -> tuple[str, str]:
    """Return what an importer's options add to the key of each id.

    The empty part is where the workspace stood before it got a place of its own in the hash: events that were
    imported without one keep their ids.
    """
    return "", agent or ""


def is_compressed(path: Path) -> bool:
    """Say whether a source is read through a decompressor (and so cannot be followed)."""
    try:
        return compression.of_file(path) is not None
    except OSError:
        return compression.of_name(path.name) is not None


def skip(file: SourceFile, offset: int) -> None:
    """Move a newly opened source to an offset, by reading where seeking is not possible."""
    if file.seekable():
        file.seek(offset)
        return
    while offset > 0 and (block := file.read(min(offset, _BLOCK_BYTES))):
        offset -= len(block)


def read_lines(path: Path, file: SourceFile, offset: int) -> Iterator[SourceLine]:
    """Yield lines from the current position of `file`, which is `offset`. Raises ImportFailed.

    Memory is bounded: of a line over the limit only the first part is kept.
    """
    rest = bytearray()
    dropped = 0
    while True:
        try:
            block = file.read1(_BLOCK_BYTES)  # what there is: a damaged archive is read up to the damage
        except Exception as error:
            if not compression.is_damage(error):
                raise
            raise ImportFailed(f"{path}: damaged after byte {offset:,} (uncompressed): {error}") from error
        if not block:
            break
        *complete, last = block.split(b"\n")
        for part in complete:
            rest += part
            length = len(rest) + dropped
            offset += length + 1
            yield SourceLine(bytes(rest[: MAX_LINE_BYTES + 1]), length, offset, True)
            rest.clear()
            dropped = 0
        rest += last
        if len(rest) > MAX_LINE_BYTES + 1:
            dropped += len(rest) - (MAX_LINE_BYTES + 1)
            del rest[MAX_LINE_BYTES + 1 :]
    if rest:
        length = len(rest) + dropped
        yield SourceLine(bytes(rest), length, offset + length, False)


class Record(NamedTuple):
    """One JSON value as it stands in the file, or what could not be read, with a reason."""

    data: bytes
    reason: str | None


def split_records(line: SourceLine) -> list[Record]:
    """Take a line apart into its records; usually one, several where they were glued."""
    data = line.data.removeprefix(_BOM).strip()
    if line.length > MAX_LINE_BYTES:
        return [Record(data, f"line of {line.length:,} bytes is over the limit of {MAX_LINE_BYTES:,}")]
    if not data:
        return []
    whole = _record(data)
    return [whole] if whole.reason is None else _unglue(whole)


def _record(data: bytes) -> Record:
    """Judge some bytes by msgspec's strict parser, without making objects of them."""
    try:
        data.decode()
        _syntax.decode(data)
    except UnicodeDecodeError as error:
        return Record(data, f"not UTF-8: {error.reason} at byte {error.start}")
    except (ValueError, RecursionError) as error:
        return Record(data, f"not JSON: {error}")
    return Record(data, None)


def _unglue(whole: Record) -> list[Record]:
    """Split `{…}{…}`. What stands behind the last readable record is kept as unreadable."""
    try:
        text = whole.data.decode()
    except UnicodeDecodeError:
        return [whole]
    decoder = json.JSONDecoder(parse_int=str, parse_float=str)  # numbers may be of any length
    records, position = [], 0
    while position < len(text):
        try:
            _, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            break
        # Python's parser is the more lenient one: judge each part again.
        records.append(_record(text[position:end].encode("utf-8", "surrogatepass")))
        position = end
        while position < len(text) and text[position].isspace():
            position += 1
    if len(records) < 2 or not all(each.data.startswith(b"{") for each in records):
        return [whole]
    if position < len(text):
        records.append(Record(text[position:].encode(), whole.reason))
    return records
