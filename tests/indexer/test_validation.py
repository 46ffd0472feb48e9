"""Validation of whole blocks: it accepts no line that would be refused, and the rows are the same as line by line."""

from __future__ import annotations

import random
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.errors import InvalidEvent
from eventlog.format import envelope
from eventlog.indexer.index.digest import Digest
from eventlog.indexer.load import bulk
from eventlog.indexer.load.validation import validate_block
from eventlog.log.reader import Block, read_blocks
from eventlog.record.recorder import Recorder
from faults.hostile_bytes import hostile_lines
from tests.indexer.support import digest_of, index, line, rows, segment
from tests.indexer.test_any_bytes import _changed


def block(*lines: bytes) -> Block:
    """Lines as they stand in a segment."""
    data = b"".join(lines)
    return Block(0, len(data), data)


def test_what_emit_writes_is_valid(root: Path, recorder: Recorder) -> None:
    """With each field of the envelope: else every line would be checked alone, and only the time would show it."""
    recorder.emit("t", {})
    recorder.emit(
        "t", {"text": "é\u2028\"\\\n", "many": [{"a": [1.5, None, True]}] * 40},
        run_id="r", request_id="q", session_id="s", parent_event_id="p", cycle=-(2**63), turn_number=2**63 - 1,
        audit_level="export", workspace="w", agent="x" * 10_000, schema_version=7,
        timestamp="1000-02-28T23:59:59.999999Z", dedupe_key="k",
    )  # fmt: skip
    recorder.shutdown()
    (found,) = read_blocks(next((root / "log/t").iterdir()))
    valid = validate_block(found, "t")
    assert valid is not None
    lines = [each.data for each in found.lines()]
    assert valid.event_ids == [envelope.decode(each).envelope.event_id for each in lines]
    assert valid.lengths == [len(each) + 1 for each in lines]


#: One of these stands between good lines. It is odd, not always wrong: a doubt is enough.
DOUBTFUL = {
    "not JSON": b"x\n",
    "empty": b"\n",
    "spaces alone": b"  \n",
    "two on a line": line(7)[:-1] + line(8),
    "another type": line(7, "u"),
    "a field unknown": line(7, extra=1),
    "a number for text": line(7, run_id=5),
    "text for a number": line(7, cycle="5"),
    "a level unknown": line(7, audit_level="all"),
    "text too long": line(7, agent="x" * 10_001),
    "version 0": line(7, schema_version=0),
    "payload is text": line(7, payload="x"),
    "payload is a list": line(7, payload=[]),
    "no payload": line(7).replace(b',"payload":{"n":7}', b""),
    "id in upper case": line(7, event_id="ABCDEF00-0000-7000-8000-000000000000"),
    "id without hyphens": line(7, event_id="0123456789abcdef0123456789abcdef0123"),
    "id with hyphens elsewhere": line(7, event_id="012345678-9ab-cdef-0123-456789abcdef"),
    "id in braces": line(7, event_id="{12345678-1234-1234-1234-123456789012}"),
    "two ids, one short and one long": line(7, event_id="01234567-89ab-cdef-0123-456789abcde")
    + line(8, event_id="01234567-89ab-cdef-0123-456789abcdef0"),
    "a newline in an id": line(7, event_id="01234567-89ab-cdef-0123-456789abcde\n"),
    "a day without a time": line(7, timestamp="2026-01-01"),
    "a zone": line(7, timestamp="2026-01-01T00:00:00.00+00:00"),
    "24 hours": line(7, timestamp="2026-01-01T24:00:00.000000Z"),
    "the year 0": line(7, timestamp="0000-01-01T00:00:00.000000Z"),
    "digits that are none": line(7, timestamp="２026-01-01T00:00:00.000000Z"),
    "257 deep": line(7).replace(b"7}", b"[" * 255 + b"]" * 255 + b"}"),
    "257 objects deep": line(7).replace(b"7}", b'{"a":' * 255 + b"1" + b"}" * 255 + b"}"),
    "NaN": line(7).replace(b"7}", b"NaN}"),
    "a comma too many": line(7).replace(b"7}", b"7,}"),
    "a byte order mark": b"\xef\xbb\xbf" + line(7),
}


@pytest.mark.parametrize("case", DOUBTFUL)
def test_one_odd_line_puts_the_block_in_doubt(case: str) -> None:
    """DuckDB alone would take most of these."""
    assert validate_block(block(line(1), line(2)), "t") is not None
    assert validate_block(block(line(1), DOUBTFUL[case], line(2)), "t") is None


@given(seeds=st.lists(st.integers(0, 2**32), min_size=1, max_size=4))
@settings(max_examples=300)
def test_no_refused_line_is_valid(seeds: list[int]) -> None:
    """Whatever was changed in a line; apart from what is DuckDB's to refuse, which it does again for every line."""
    lines = [_changed(seed) + b"\n" for seed in seeds if b"\n" not in _changed(seed)]
    valid = validate_block(block(*lines), "t") if lines else None
    if valid is not None:
        assert len(valid.lengths) == len(lines)
        for each in lines:
            assert _is_event(each[:-1]) or _is_for_duckdb_to_refuse(each[:-1])


def _is_event(data: bytes) -> bool:
    try:
        return envelope.decode(data).envelope.event_type == "t"
    except InvalidEvent:
        return False


def _is_for_duckdb_to_refuse(data: bytes) -> bool:
    try:
        return envelope.repeated_field(data) is not None
    except UnicodeDecodeError:
        return True


def _indexed(root: Path, *, one_by_one: bool) -> tuple[Digest, list[tuple[object, ...]]]:
    with mock.patch.object(bulk, "validate_block", (lambda *_: None) if one_by_one else validate_block):
        index(root)
    found = digest_of(root), rows(root, "SELECT * EXCLUDE tail_hash FROM segments ORDER BY ALL")
    (root / "index.duckdb").unlink()
    return found


def test_hostile_lines_become_the_same_one_by_one(root: Path) -> None:
    """Rows, reasons, places and counts: which way a line went is not to be seen in the index."""
    for number, each in enumerate(hostile_lines(random.Random(3))):
        if len(each) < 1_000_000:
            segment(root, line(2 * number), each + b"\n", line(2 * number + 1))
    assert _indexed(root, one_by_one=False) == _indexed(root, one_by_one=True)


@given(seeds=st.lists(st.integers(0, 2**32), max_size=30), again=st.booleans())
@settings(max_examples=15)
def test_any_lines_become_the_same_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, seeds: list[int], again: bool
) -> None:
    """Redelivered ones and conflicts, too."""
    root = tmp_path_factory.mktemp("root")
    lines = [_changed(seed) + b"\n" for seed in seeds]
    segment(root, *lines, line(1), line(2))
    segment(root, *(lines if again else ()), line(3), line(1), line(2, payload={"other": 1}))
    assert _indexed(root, one_by_one=False) == _indexed(root, one_by_one=True)


@pytest.mark.parametrize(
    "refused",
    [
        line(7, timestamp="2026-02-30T00:00:00.000000Z"),
        line(7).replace(b'"payload"', b'"cycle":1,"cycle":2,"payload"'),
        line(7).replace(b'"n":7', b'"n":"\xff"'),
        line(7).replace(b'"n":7', b'"n":"\xed\xa0\x80"'),
    ],
)
def test_what_only_duckdb_refuses_is_looked_at_again(root: Path, refused: bytes) -> None:
    """The whole part is; its good lines become rows."""
    assert validate_block(block(refused), "t") is not None
    path = segment(root, line(1), refused, line(2))
    index(root)
    assert rows(root, "SELECT payload ->> 'n' FROM events ORDER BY 1") == [("1",), ("2",)]
    assert rows(root, "SELECT line_offset, length FROM quarantine") == [(len(line(1)), len(refused))]
    assert rows(root, "SELECT lines, events, rejected, indexed_offset FROM segments") == [
        (3, 2, 1, path.stat().st_size)
    ]


def test_a_line_break_in_the_wrong_place_is_not_made_up_for(root: Path) -> None:
    """Two records on two lines, of which the first line has one and a half."""
    one_and_a_half, rest = line(7)[:-1] + b"{\n", line(8)[1:]
    assert validate_block(block(one_and_a_half, rest), "t") is not None
    segment(root, line(1), one_and_a_half, rest, line(2))
    index(root)
    assert rows(root, "SELECT payload ->> 'n' FROM events ORDER BY 1") == [("1",), ("2",)]
    assert rows(root, "SELECT length FROM quarantine ORDER BY line_offset") == [(len(one_and_a_half),), (len(rest),)]
