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
    from eventlog.importers import events, records
    from eventlog.importers.claude_code import ClaudeCode
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


#: Signs of what is changed on the way: half characters, zeros of a power cut, objects over several lines.
_MENDED = (b"\\u", b"\xed", b"\0", b"\n")


def _take_apart(data: bytes) -> None:
    """Check that records hold all of a line, and that each is an event or can be stored as rejected."""
    try:
        lines = list(records.read_lines(_HERE, io.BufferedReader(io.BytesIO(data)), 0))
    except ImportFailed:  # in another encoding
        return
    assert b"\0" in data or b"".join(line.data + line.ending * line.terminated for line in lines) == data
    for line in lines:
        parts = records.split_records(line)
        is_mended = any(sign in line.data for sign in _MENDED)
        if len(parts) < 2 and not is_mended and line.ending:
            assert sum(len(each.data) for each in parts) == len(line.data.removeprefix(b"\xef\xbb\xbf").strip())
        for record in parts:
            assert is_mended or record.data in line.data
            for format_ in _FORMATS:
                for made in events.of_record(format_, record, line.length, "source", 0)[0]:
                    envelope.decode(made.line.removesuffix(b"\n"))


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
