"""Records of a foreign file: plain or compressed, growing or finished, well formed or not.

Traps that real files hold, each with a test: several records glued on one line, no final
newline, empty lines, bytes that are not UTF-8, a byte order mark, lines without end, zeros from a
power cut, halves of characters, UTF-16.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventlog.errors import ImportFailed, MissingExtra
from eventlog.format import json_text
from eventlog.format.envelope import MAX_LINE_BYTES
from eventlog.importers import compression, values

SourceFile = io.BufferedReader
#: Small, since what a block of a damaged archive holds before the damage is lost.
_BLOCK_BYTES = 64 * 1024
_syntax = msgspec.json.Decoder(msgspec.Raw)
_BOM = b"\xef\xbb\xbf"
#: Of more zeros than a line may have, all but one of these stay: a file is known again by its first bytes.
_MANY_ZEROS = bytes(4097)
_TAR, _TAR_AT = b"ustar", 257
_BLANK = b" \t\r\n\v\f\0"
_ZEROS = re.compile(rb"\0+")
#: The first byte of half a character, where a program has written it as if it was one.
_HALF_BYTE = b"\xed"
_NO_NUMBER = re.compile(rb"[:\[,]\s*[+-]?(?:NaN|nan|Infinity|inf)\b")
#: How texts in other encodings begin, by the names that iconv has for them. JSON in UTF-8 has no zeros.
_ENCODINGS = {
    "UTF-32": re.compile(rb"\xff\xfe\0\0|\0\0\xfe\xff"),
    "UTF-16": re.compile(rb"\xff\xfe|\xfe\xff"),
    "UTF-32LE": re.compile(rb"(?:[^\0\n]\0\0\0){4}"),
    "UTF-32BE": re.compile(rb"(?:\0\0\0[^\0\n]){4}"),
    "UTF-16LE": re.compile(rb"(?:[^\0\n]\0){4}"),
    "UTF-16BE": re.compile(rb"(?:\0[^\0\n]){4}"),
}


class SourceLine(NamedTuple):
    """A line of a source, without its newline; `end` is where the next one begins.

    `length` is more than `len(data)` where the line is over the limit and was cut, or began with too many zeros.
    `terminated` is false for a last line that has no newline (yet). `ending` is empty where the file is no JSON lines:
    then a line is an object, with the separators before it (eventlog.importers.values).
    """

    data: bytes
    length: int
    end: int
    terminated: bool
    ending: bytes = b"\n"


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

    Memory is bounded: of a line over the limit only the first part is kept, with few zeros in front.
    """
    first = _read_block(path, file, offset)
    if offset == 0:
        _refuse_kind(path, first)
    if values.begins(first.removeprefix(_BOM)):
        yield from _read_values(path, file, offset, first)
        return
    rest = bytearray()
    dropped = 0
    block = first
    while block:
        *complete, last = block.split(b"\n")
        for part in complete:
            rest += part
            dropped += _bound(rest)
            length = len(rest) + dropped
            offset += length + 1
            yield SourceLine(bytes(rest), length, offset, True)
            rest.clear()
            dropped = 0
        rest += last
        dropped += _bound(rest)
        block = _read_block(path, file, offset)
    if rest:
        length = len(rest) + dropped
        yield SourceLine(bytes(rest), length, offset + length, False)


def _read_values(path: Path, file: SourceFile, offset: int, first: bytes) -> Iterator[SourceLine]:
    """Yield the objects of a file that is no JSON lines as if each was a line; its end is that of the object."""
    end = offset

    def blocks() -> Iterator[bytes]:
        block = first
        while block:
            yield block
            block = _read_block(path, file, end)

    for piece in values.pieces(blocks()):
        end += piece.length
        yield SourceLine(piece.data, piece.length, end, piece.is_whole, b"")


def _read_block(path: Path, file: SourceFile, offset: int) -> bytes:
    try:
        return file.read1(_BLOCK_BYTES)  # what there is: a damaged archive is read up to the damage
    except Exception as error:
        if not compression.is_damage(error):
            raise
        raise ImportFailed(f"{path}: damaged after byte {offset:,} (uncompressed): {error}") from error


def _bound(line: bytearray) -> int:
    """Cut a line that is over the limit, first the zeros in front, but some; return by how many bytes."""
    length = len(line)
    if length > MAX_LINE_BYTES + 1:
        if line.startswith(_MANY_ZEROS):
            del line[len(_MANY_ZEROS) - 1 : length - len(line.lstrip(b"\0"))]
        del line[MAX_LINE_BYTES + 1 :]
    return length - len(line)


def _refuse_kind(path: Path, first: bytes) -> None:
    """Raise ImportFailed for what is no text in UTF-8, but is known: each of its lines would be rejected."""
    packed = compression.of_bytes(first)
    if packed is not None:  # through a pipe, or compressed twice
        raise ImportFailed(f"{path}: this is compressed with {packed.name}; decompress it first")
    if first[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        raise ImportFailed(f"{path}: this is a tar archive; unpack it first")
    name = next((name for name, begins in _ENCODINGS.items() if begins.match(first)), None)
    if name is not None:
        raise ImportFailed(f"{path}: this is {name}, not UTF-8; convert it first: iconv -f {name} -t UTF-8 FILE > NEW")


class Record(NamedTuple):
    """One JSON value as it stands in the file, or what could not be read, with a reason.

    Half characters, which no parser takes, are U+FFFD (eventlog.format.json_text).
    """

    data: bytes
    reason: str | None


def split_records(line: SourceLine) -> list[Record]:
    """Take a line apart into its records; usually one, several where they were glued."""
    if len(line.data) > MAX_LINE_BYTES:
        reason = f"line of {line.length:,} bytes is over the limit of {MAX_LINE_BYTES:,}"
        return [Record(line.data.removeprefix(_BOM).strip(), reason)]
    blank = _BLANK if line.ending else values.BETWEEN
    data = line.data.strip(blank).removeprefix(_BOM).strip(blank)
    if data:
        return _records(data)
    if b"\0" in line.data:
        reason = f"only zeros, {line.length:,} of them, as a power cut leaves for what was not written"
        return [Record(line.data, reason)]
    return []


def _records(data: bytes) -> list[Record]:
    whole = _record(data)
    if whole.reason is None:
        return [whole]
    return _between_zeros(whole) or _unglue(whole) or [whole]


def _record(data: bytes) -> Record:
    """Judge some bytes by msgspec's strict parser, without making objects of them."""
    try:
        data.decode()
        _syntax.decode(data)
    except (ValueError, RecursionError) as error:
        mended = _without_halves(data)
        return Record(data, _reason(data, error)) if mended is None else Record(_on_one_line(mended), None)
    return Record(_on_one_line(data), None)


def _on_one_line(data: bytes) -> bytes:
    return msgspec.json.format(data, indent=-1) if b"\n" in data else data


def _without_halves(data: bytes) -> bytes | None:
    """Return what is JSON but for half characters, with U+FFFD for each; None for anything else."""
    if not (json_text.may_have_halves(data) or _HALF_BYTE in data):
        return None
    try:
        mended = json_text.without_halves(data)
        _syntax.decode(mended)
    except (ValueError, RecursionError):
        return None
    return mended


def _reason(data: bytes, error: Exception) -> str:
    for name, begins in _ENCODINGS.items():
        if begins.match(data):
            return f"not JSON: this is {name}, not UTF-8; convert the file: iconv -f {name} -t UTF-8"
    if isinstance(error, UnicodeDecodeError):
        advice = "convert the file, as by iconv -f WINDOWS-1252 -t UTF-8, if it is in another encoding"
        return f"not UTF-8: {error.reason} at byte {error.start}; {advice}"
    if _NO_NUMBER.search(data):
        return f"not JSON: {error}; JSON has no NaN and no Infinity"
    return f"not JSON: {error}"


def _between_zeros(whole: Record) -> list[Record]:
    """Take apart what stands between zeros, where there is a record in it; JSON itself has none.

    After a power cut they stand for what was not written: the end of one record, and the beginning of another.
    """
    parts = [part for each in _ZEROS.split(whole.data) if (part := each.strip())]
    if len(parts) == 1 or not any(part.startswith(b"{") and part.endswith(b"}") for part in parts):
        return []
    records = [record for part in parts for record in _records(part)]
    return records if any(record.reason is None and record.data.startswith(b"{") for record in records) else []


def _unglue(whole: Record) -> list[Record]:
    """Split `{…}{…}`. What stands behind the last readable record is kept as unreadable."""
    try:
        text = whole.data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return []
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
        while position < len(text) and (text[position].isspace() or text[position] == "\ufeff"):
            position += 1
    if len(records) < 2 or not all(each.data.startswith(b"{") for each in records):
        return []
    if position < len(text):
        records.append(Record(text[position:].encode("utf-8", "surrogatepass"), whole.reason))
    return records
