"""Validation of whole blocks of lines: all of them are events, or the block is in doubt.

`envelope.decode` checks one line and names its fault. Nearly all lines have none, so this module checks
thousands of them together, which is far faster (docs/decisions/0013). A block in doubt is checked line by line
(docs/decisions/0005). Validation may doubt a good block; it must never accept a line that `decode` refuses.

Three parties check a line. DuckDB's JSON reader parses every line again and refuses a whole part for one bad line:

    msgspec      JSON grammar, field types and limits, no unknown fields, payload is an object
    this module  as many events as lines, event type of the folder, ids, format of timestamps, nesting depth
    DuckDB       a record ends with its line, UTF-8, repeated envelope fields, days that do not exist
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from eventlog.format.envelope import MAX_DEPTH, Envelope, opening_brackets, too_deep
from eventlog.log.reader import Block


class ValidBlock(NamedTuple):
    """The events of a validated block, line by line."""

    #: In lower case, as `0198c0de-0000-7000-8000-000000000001`.
    event_ids: list[str]
    #: In bytes, newlines included.
    lengths: list[int]


class _Object(msgspec.Struct):
    """Any JSON object: msgspec checks the grammar of its members and skips them."""


#: The envelope without its patterns, which msgspec would check by Python's `re`, three times a line.
_PLAIN = {"event_id": str, "event_type": str, "timestamp": str, "payload": _Object}
_Line = msgspec.defstruct(
    "_Line",
    [
        (field.name, _PLAIN.get(field.name, field.type)) if field.required else (field.name, field.type, field.default)
        for field in msgspec.structs.fields(Envelope)
    ],
    kw_only=True,
    forbid_unknown_fields=True,
    gc=False,
)
_lines: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_Line)

_ID_BYTES, _TIME_BYTES = 37, 28  # with a newline
#: Lower case only: the indexer compares ids as text, and DuckDB takes both cases for one id.
_HEX = b"0123456789abcdef"
_DIGITS = b"0123456789"
#: Lines per group in the check of the nesting depth (docs/decisions/0006).
_GROUP = 32
#: All but opening brackets and newlines. Long lines of text have many brackets: to remove all else from a group tells
#: how many each line has, and takes less time than to look at its lines one by one.
_NO_OPENING = bytes(set(range(256)) - set(b"{[\n"))


def validate_block(block: Block, event_type: str) -> ValidBlock | None:
    """Return ids and lengths of a block's lines if each is an event of `event_type`; None if any line is in doubt."""
    if block.oversized:
        return None
    try:
        envelopes = _lines.decode_lines(block.data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    lengths = _lengths(block.data)
    event_ids = [envelope.event_id for envelope in envelopes]
    if (
        len(envelopes) == len(lengths)
        and {envelope.event_type for envelope in envelopes} == {event_type}
        and _are_ids(event_ids)
        and _are_times([envelope.timestamp for envelope in envelopes])
        and not _is_any_too_deep(block.data, lengths)
    ):
        return ValidBlock(event_ids, lengths)
    return None


def _lengths(data: bytes) -> list[int]:
    """Return the lengths of lines, newlines included. (`split` would copy all lines.)"""
    lengths = []
    start = 0
    while end := data.find(b"\n", start) + 1:
        lengths.append(end - start)
        start = end
    return lengths


def _are_ids(texts: list[str]) -> bool:
    """Return whether all texts have the form 8-4-4-4-12 of hexadecimal digits in lower case."""
    joined, count = _joined(texts), len(texts)
    return (
        len(joined) == _ID_BYTES * count
        and joined.translate(None, _HEX) == b"----\n" * count
        and all(joined[index::_ID_BYTES] == b"-" * count for index in (8, 13, 18, 23))
        and joined[36::_ID_BYTES] == b"\n" * count
    )


def _are_times(texts: list[str]) -> bool:
    """Return whether all texts have the log's format of timestamps. DuckDB checks whether the day exists.

    DuckDB would read the year 0 as 1 BC and 24:00 as the next day, so both are refused here.
    """
    joined, count = _joined(texts), len(texts)
    return (
        len(joined) == _TIME_BYTES * count
        and joined.translate(None, _DIGITS) == b"--T::.Z\n" * count
        and all(joined[index::_TIME_BYTES] == mark * count for index, mark in _TIME_MARKS)
        and b"T24" not in joined
        and b"\n0000-" not in b"\n" + joined
    )


_TIME_MARKS = ((4, b"-"), (7, b"-"), (10, b"T"), (13, b":"), (16, b":"), (19, b"."), (26, b"Z"), (27, b"\n"))


def _joined(texts: list[str]) -> bytes:
    return "".join([text + "\n" for text in texts]).encode("utf-8", "surrogatepass")


def _is_any_too_deep(data: bytes, lengths: list[int]) -> bool:
    """Return whether a line nests too deep. A group with few brackets in all has few in each line."""
    start = 0
    for first in range(0, len(lengths), _GROUP):
        group = lengths[first : first + _GROUP]
        end = start + sum(group)
        lines = data[start:end]
        if opening_brackets(lines) > MAX_DEPTH and _is_one_too_deep(lines, group):
            return True
        start = end
    return False


def _is_one_too_deep(lines: bytes, lengths: list[int]) -> bool:
    start = 0
    for opening, length in zip(lines.translate(None, _NO_OPENING).split(b"\n"), lengths, strict=False):
        if len(opening) > MAX_DEPTH and too_deep(lines[start : start + length]):
            return True
        start += length
    return False
