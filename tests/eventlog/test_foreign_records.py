"""Lines that are nearly records: zeros of a power cut, half characters, other encodings, names that stand twice."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.format.envelope import MAX_LINE_BYTES
from eventlog.importers.claude_code import ClaudeCode
from eventlog.importers.codex import Codex
from eventlog.importers.jsonl import Jsonl
from eventlog.importers.records import Record, open_source, read_lines, split_records
from tests.conftest import Run
from tests.eventlog.test_importers import events, import_, payloads

HOLE = b"\0" * 4096


def records(path: Path, content: bytes) -> list[Record]:
    """Write a file, and return its records; the lines account for each of its bytes."""
    path.write_bytes(content)
    with open_source(path) as file:
        lines = list(read_lines(path, file, 0))
    ends = [0, *(line.end for line in lines)]
    assert [line.length + line.terminated for line in lines] == [end - start for start, end in pairwise(ends)]
    assert ends[-1] == len(content)
    return [record for line in lines for record in split_records(line)]


ZEROS: dict[str, tuple[bytes, list[bytes | None]]] = {
    "before a record": (b'{"n":1}\n' + HOLE + b'{"n":2}\n{"n":3}\n', [b'{"n":1}', b'{"n":2}', b'{"n":3}']),
    "alone": (HOLE + b'\n{"n":1}\n', [None, b'{"n":1}']),
    "behind a record": (b'{"n":1}' + HOLE + b"\n", [b'{"n":1}']),
    "between records": (b'{"n":1}' + HOLE + b'{"n":2}{"n":3}\n', [b'{"n":1}', b'{"n":2}', b'{"n":3}']),
    "behind half a record": (b'{"n":1,"te' + HOLE + b'{"n":2}\n', [None, b'{"n":2}']),
    "before half a record": (b'{"n":1}' + HOLE + b't":2}\n', [b'{"n":1}', None]),
    "inside of a record": (b'{"n":"' + HOLE + b'"}\n', [None]),
    "more than a line may have": (b"\0" * (MAX_LINE_BYTES + 99) + b'{"n":1}\n{"n":2}\n', [b'{"n":1}', b'{"n":2}']),
    "more than that, alone": (b"\0" * (MAX_LINE_BYTES * 2 + 99) + b'\n{"n":1}\n', [None, b'{"n":1}']),
    "before a byte order mark": (HOLE + b'\n\xef\xbb\xbf{"n":1}\xef\xbb\xbf{"n":2}\n', [None, b'{"n":1}', b'{"n":2}']),
}


@pytest.mark.parametrize("case", ZEROS)
def test_zeros_cost_no_record(tmp_path: Path, case: str) -> None:
    """Zeros alone are one line in quarantine; JSON never has any."""
    content, expected = ZEROS[case]
    assert [None if each.reason else each.data for each in records(tmp_path / "f", content)] == expected


@given(
    parts=st.lists(
        st.sampled_from([b'{"n":1}', b"\0" * 3, b"\n", b'{"n":', b'"x\\\\"}', b" ", b"7", b"\xff"]), max_size=9
    )
)
def test_a_whole_record_between_zeros_is_always_found(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]
) -> None:
    """Whatever stands around them; no byte but zeros and white space is lost."""
    content = b"".join(parts)
    found = records(tmp_path_factory.getbasetemp() / "parts", content)
    alone = [part.strip() for line in content.split(b"\n") for part in line.split(b"\0")]
    assert sum(each.data == b'{"n":1}' for each in found) >= alone.count(b'{"n":1}')
    kept = b"".join(each.data for each in found)
    blank = b"\0 \n"
    assert kept.translate(None, blank) == content.translate(None, blank)


TEXT = '{"n":1}\n{"n":2,"t":"é"}\n'


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_a_file_in_another_unicode_encoding_is_named(tmp_path: Path, root: Path, encoding: str) -> None:
    """Once, and with the command that converts it; as PowerShell 5 writes them."""
    path = tmp_path / "f.jsonl"
    path.write_bytes(TEXT.encode(encoding))
    name = encoding.upper().replace("-LE", "LE").replace("-BE", "BE")
    (failure,) = import_(root, path, format_=Jsonl(type_="t")).failures
    assert f"this is {name}, not UTF-8; convert it first: iconv -f {name} -t UTF-8" in failure
    assert not (root / "log").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"n":1}\n' + TEXT.encode("utf-16-le"), "not JSON: this is UTF-16LE, not UTF-8"),
        (
            '{"a":"é"}\n'.encode("latin-1"),
            "not UTF-8: invalid continuation byte at byte 6; convert the file, as by iconv",
        ),
        (b'{"a":NaN}\n', "invalid character (byte 5); JSON has no NaN and no Infinity"),
        (b'{"a":[1, -Infinity]}\n', "JSON has no NaN and no Infinity"),
    ],
)
def test_a_line_that_cannot_be_read_says_what_it_is(tmp_path: Path, content: bytes, reason: str) -> None:
    """And what to do."""
    assert reason in next(each.reason for each in records(tmp_path / "f", content) if each.reason)


HALVES: dict[str, tuple[bytes, str]] = {
    "a high one": (rb'{"t":"cut \ud83d"}', "cut \ufffd"),
    "a low one": (rb'{"t":"\uDE00 tail"}', "\ufffd tail"),
    "two high ones": (rb'{"t":"\ud83d\ud83d\ude00"}', "\ufffd\U0001f600"),
    "behind a backslash": (rb'{"t":"\\\ud83d"}', "\\\ufffd"),
    "as bytes": (b'{"t":"\xed\xa0\xbd."}', "\ufffd."),
    "both as bytes": (b'{"t":"\xed\xa0\xbd\xed\xb8\x80"}', "\U0001f600"),
    "none": (rb'{"t":"\\ud83d \ud83d\ude00"}', "\\ud83d \U0001f600"),
}


@pytest.mark.parametrize("case", HALVES)
def test_half_a_character_costs_the_character(root: Path, tmp_path: Path, case: str) -> None:
    """The record is an event, also where others are glued to it."""
    line, text = HALVES[case]
    path = tmp_path / "f.jsonl"
    path.write_bytes(line + b"\n" + line + b'{"t":"glued"}\n')
    done = import_(root, path, format_=Jsonl(type_="t"))
    assert (done.events, done.rejected) == (3, 0)
    assert [each["t"] for each in payloads(root, "t")] == [text, text, "glued"]


def test_emit_takes_what_an_import_takes(root: Path, run: Run) -> None:
    """Half a character, and a byte order mark in front of the first line only."""
    assert run("emit", "note", r'{"t":"cut \ud83d"}').returncode == 0
    done = run("emit", "note", "-", stdin='\ufeff{"t":"first"}\n\ufeff{"t":"second"}\n')
    assert done.returncode == 2
    assert done.stderr.startswith("line 2: ")
    assert [each["t"] for each in payloads(root, "note")] == ["cut \ufffd", "first"]


TWICE: list[tuple[bytes, dict[str, str]]] = [
    (b'{"type":"one","type":"two","at":1768480245,"at":1768480246,"id":"x","id":"y"}', {"type_field": "type"}),
    (b'{ "ty\\u0070e" : "one" , "type":"two", "at":1768480245}', {"type_field": "type"}),
    (b'{"a":{"type":"one","type":"two"},"a":{"type":"three"},"at":1768480245}', {"type_field": "a.type"}),
    (b'{"a.b":"one","a":{"b":"two"},"at":1768480245}', {"type_field": "a.b"}),
]


@pytest.mark.parametrize(("line", "fields"), TWICE)
def test_of_a_name_that_stands_twice_the_first_counts(line: bytes, fields: dict[str, Any]) -> None:
    """For the event's type, its time and its id, as for SQL. The payload stays as it is."""
    (made,) = Jsonl(**fields, time_field="at", id_field="id").envelopes(line, "s", 0)
    once = line.replace(b',"type":"two"', b"").replace(b',"at":1768480246', b"").replace(b',"id":"y"', b"")
    (expected,) = Jsonl(**fields, time_field="at", id_field="id").envelopes(once, "s", 0)
    assert (made.event_type, made.timestamp) == ("one", "2026-01-15T12:30:45.000000Z")
    assert bytes(made.payload) == line
    if b'"id"' in line:
        assert made.event_id == expected.event_id


def test_the_first_counts_in_files_of_agents_too() -> None:
    """For the session, the time and the request."""
    line = b'{"sessionId":"a","timestamp":"2026-01-15T12:30:45Z","requestId":"r"'
    (made,) = ClaudeCode().envelopes(line + b',"sessionId":"b","timestamp":5,"requestId":1}', "s", 0)
    assert (made.session_id, made.request_id, made.timestamp) == ("a", "r", "2026-01-15T12:30:45.000000Z")
    (made,) = Codex().envelopes(b'{"payload":{"turn_id":"a","turn_id":"b"},"payload":{"turn_id":"c"}}', "s", 0)
    assert made.request_id == "a"


@pytest.mark.parametrize("value", ["", "  ", False, True, None, [], {}])
def test_what_is_no_id_identifies_nothing(root: Path, tmp_path: Path, value: Any) -> None:
    """Two lines with it are two events; else the second would be a conflict."""
    path = tmp_path / "f.jsonl"
    path.write_text("".join(json.dumps({"id": value, "n": n}) + "\n" for n in range(2)))
    import_(root, path, format_=Jsonl(type_="t", id_field="id"))
    assert len({event["event_id"] for event in events(root, "t")}) == 2


@pytest.mark.parametrize("value", [0, 0.5, "0", "x", 2**64 + 1, {"$oid": "5"}])
def test_any_other_value_is_an_id(root: Path, tmp_path: Path, value: Any) -> None:
    """Zero, too."""
    path = tmp_path / "f.jsonl"
    path.write_text("".join(json.dumps({"id": value, "n": n}) + "\n" for n in range(2)))
    import_(root, path, format_=Jsonl(type_="t", id_field="id"))
    assert len({event["event_id"] for event in events(root, "t")}) == 1
