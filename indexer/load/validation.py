"""Proving, for a whole block of lines at once, that all of them are events.

`envelope.decode` looks at one line and says what is wrong with it. Nearly always nothing is, and
then the same questions are answered for thousands of lines together, far faster. A block
that is not proven is looked at line by line: a proof may fail without need, and must never hold
where `decode` would refuse a line.

What is asked here, and what is left to DuckDB's JSON reader, which parses every line again and
refuses the whole batch where one is at fault:

    msgspec     JSON grammar, field types and limits, no unknown fields, payload is an object
    here        as many events as lines, the event type of the folder, ids, the form of times, depth
    DuckDB      a record ends with its line, UTF-8, repeated envelope fields, days that do not exist
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from eventlog.format.envelope import MAX_DEPTH, Envelope, opening_brackets, too_deep
from eventlog.log.reader import Block


class Proof(NamedTuple):
    """The event ids of a block's lines, and their lengths in bytes, newlines included."""

    event_ids: list[str]
    lengths: list[int]


class _Object(msgspec.Struct):
    """Any JSON object; its members are checked for grammar and skipped."""


#: As the envelope, but for the patterns: those are Python's `re`, three times per line.
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
#: Lower case only: ids are joined as text here and there, and DuckDB takes both cases for one id.
_HEX = b"0123456789abcdef"
_DIGITS = b"0123456789"
#: So many lines are looked at together for their depth.
_GROUP = 32


def prove(block: Block, event_type: str) -> Proof | None:
    """Return what a block holds if every line of it is an event of this type; None in any doubt."""
    if block.oversized:
        return None
    try:
        found = _lines.decode_lines(block.data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    lengths = _lengths(block.data)
    event_ids = [each.event_id for each in found]
    if (
        len(found) == len(lengths)
        and {each.event_type for each in found} == {event_type}
        and _are_ids(event_ids)
        and _are_times([each.timestamp for each in found])
        and not _is_any_too_deep(block.data, lengths)
    ):
        return Proof(event_ids, lengths)
    return None


def _lengths(data: bytes) -> list[int]:
    """Return the lengths of lines, newlines included; not by `split`, which copies them all."""
    lengths = []
    start = 0
    while end := data.find(b"\n", start) + 1:
        lengths.append(end - start)
        start = end
    return lengths


def _are_ids(texts: list[str]) -> bool:
    """Say whether all have the form 8-4-4-4-12 of hexadecimal digits in lower case."""
    joined, count = _joined(texts), len(texts)
    return (
        len(joined) == _ID_BYTES * count
        and joined.translate(None, _HEX) == b"----\n" * count
        and all(joined[place::_ID_BYTES] == b"-" * count for place in (8, 13, 18, 23))
        and joined[36::_ID_BYTES] == b"\n" * count
    )


def _are_times(texts: list[str]) -> bool:
    """Say whether all have the one form of time in the log; whether the day exists is not asked here.

    DuckDB takes the year 0 for 1 BC, and 24:00 for the next day.
    """
    joined, count = _joined(texts), len(texts)
    return (
        len(joined) == _TIME_BYTES * count
        and joined.translate(None, _DIGITS) == b"--T::.Z\n" * count
        and all(joined[place::_TIME_BYTES] == mark * count for place, mark in _TIME_MARKS)
        and b"T24" not in joined
        and b"\n0000-" not in b"\n" + joined
    )


_TIME_MARKS = ((4, b"-"), (7, b"-"), (10, b"T"), (13, b":"), (16, b":"), (19, b"."), (26, b"Z"), (27, b"\n"))


def _joined(texts: list[str]) -> bytes:
    return "".join([text + "\n" for text in texts]).encode("utf-8", "surrogatepass")


def _is_any_too_deep(data: bytes, lengths: list[int]) -> bool:
    """Say whether a line nests too deep. What has few brackets in all has few in each line."""
    start = 0
    for first in range(0, len(lengths), _GROUP):
        group = lengths[first : first + _GROUP]
        end = start + sum(group)
        if opening_brackets(data[start:end]) > MAX_DEPTH and _is_one_too_deep(data, start, group):
            return True
        start = end
    return False


def _is_one_too_deep(data: bytes, start: int, lengths: list[int]) -> bool:
    for length in lengths:
        if too_deep(data[start : start + length]):
            return True
        start += length
    return False
