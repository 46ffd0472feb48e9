"""A coverage-guided fuzzer of the parsers of lines: `make fuzz`, or `python -m faults.fuzz -max_total_time=60`.

Needs `pip install 'agent-eventlog[fuzz]'`. Arguments are libFuzzer's; a failing input is left in the current folder.
Pass its name to try it again.
"""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path

import atheris
import msgspec

with atheris.instrument_imports(include=["eventlog"]):
    from eventlog.errors import ImportFailed, InvalidEvent
    from eventlog.format import envelope
    from eventlog.format.envelope import Envelope
    from eventlog.importers import records
    from eventlog.importers.claude_code import ClaudeCode
    from eventlog.importers.engine import _rejected
    from eventlog.importers.jsonl import Jsonl
    from eventlog.importers.sources import Format

_FORMATS: list[Format] = [
    ClaudeCode(workspace="w"),
    Jsonl(type_="t", time_field="timestamp", id_field="payload.n"),
    Jsonl(type_field="event_type"),
]
_HERE = Path("source.jsonl")


def _decode(line: bytes) -> None:
    """Check that a line is an envelope that can be written again, or raises InvalidEvent."""
    try:
        found, extra = envelope.decode(line)
    except InvalidEvent:
        return
    assert not set(extra or {}) & set(envelope.FIELDS)
    again, none = envelope.decode(envelope.encode(found).removesuffix(b"\n"))
    assert none is None
    assert msgspec.structs.astuple(again) == msgspec.structs.astuple(found), f"{again} is not {found}"


def _take_apart(data: bytes) -> None:
    """Check that records hold all of a line, and that each is an event or can be stored as rejected."""
    lines = list(records.read_lines(_HERE, io.BufferedReader(io.BytesIO(data)), 0))
    assert b"".join(line.data + b"\n" * line.terminated for line in lines) == data
    for line in lines:
        parts = records.split_records(line)
        if len(parts) < 2:
            assert sum(len(each.data) for each in parts) == len(line.data.removeprefix(b"\xef\xbb\xbf").strip())
        for record in parts:
            assert record.data in line.data
            for format_ in _FORMATS:
                envelope.decode(_event(format_, record).removesuffix(b"\n"))


def _event(format_: Format, record: records.Record) -> bytes:
    """Convert a record like the import engine."""
    made: Envelope | None = None
    try:
        if record.reason is None:
            (made,) = format_.envelopes(record.data, "source", 0)
            return envelope.encode(made)
    except (ValueError, RecursionError, InvalidEvent):
        pass
    return envelope.encode(_rejected(format_, "source", record.data, len(record.data), 0, record.reason or "none"))


def _archive(data: bytes) -> None:
    """Check that a damaged archive is reported as damaged."""
    try:
        packed = gzip.GzipFile(fileobj=io.BytesIO(data))
        for _ in records.read_lines(_HERE, packed, 0):  # type: ignore[arg-type]  # reads like a buffered one
            pass
    except ImportFailed:
        pass


def one_input(data: bytes) -> None:
    """Test one input of the fuzzer."""
    _decode(data.replace(b"\n", b""))
    _take_apart(data)
    _archive(data)


def main() -> None:
    """Fuzz until stopped, starting with one valid line of each kind."""
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
