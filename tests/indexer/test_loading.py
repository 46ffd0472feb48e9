"""From lines to rows: which lines are rows, which go to quarantine, and that order does not matter."""

from __future__ import annotations

import itertools
import json
import random
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pytest

from eventlog.format import ids
from eventlog.indexer import replay
from eventlog.indexer.index import index_file
from eventlog.indexer.load import batch, loader
from eventlog.indexer.views import projections
from eventlog.log import layout, reader
from tests.indexer.support import COUNT, digest_of, index, line, name, rows, segment

WITHOUT_PLACE = "SELECT * EXCLUDE (segment, line_offset, line_length) FROM events ORDER BY event_id"


def test_every_field_of_a_line_is_a_column(root: Path) -> None:
    """Typed, with defaults filled in, and unknown envelope fields kept."""
    full: dict[str, Any] = {
        "run_id": "r", "request_id": "q", "session_id": "s", "parent_event_id": "p", "cycle": 2**62,
        "turn_number": -1, "audit_level": "export", "workspace": "w", "agent": "a", "schema_version": 3,
        "future": {"x": [1]}, "étage": "ü",
    }  # fmt: skip
    path = segment(root, line(1), line(2, **full))
    index(root)
    first, second = rows(root, "FROM events ORDER BY event_id")
    id_1, id_2 = (UUID(ids.derived_id(n * 1000, str(n))) for n in (1, 2))
    assert first == (
        id_1, "t", datetime(2026, 1, 1, 0, 0, 1), *[None] * 6, "turn", None, None, 1, '{"n":1}', None,
        path.stem, 0, len(line(1)),
    )  # fmt: skip
    assert second == (
        id_2, "t", datetime(2026, 1, 1, 0, 0, 2), "r", "q", "s", "p", 2**62, -1, "export", "w", "a", 3, '{"n":2}',
        '{"future":{"x":[1]},"étage":"ü"}', path.stem, len(line(1)), len(line(2, **full)),
    )  # fmt: skip


ID = json.loads(line(1))["event_id"]


def raw(**changes: object) -> bytes:
    """A line with some fields changed; a value of None removes one."""
    event = json.loads(line(7)) | changes
    return json.dumps({key: value for key, value in event.items() if value is not None}).encode() + b"\n"


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"\n", "empty line"),
    "blank": (b"  \t \r\n", "empty line"),
    "nonsense": (b"nonsense\n", "not JSON"),
    "half": (line(7)[:50] + b"\n", "not JSON"),
    "glued": (line(7)[:-1] + line(8), "trailing characters"),
    "array": (b"[1]\n", "Expected `object`, got `array`"),
    "BOM": (b"\xef\xbb\xbf" + line(7), "byte order mark"),
    "NUL": (line(7)[:-2] + b"\0}\n", "not JSON"),
    "not UTF-8": (line(7).replace(b'"n"', b'"\xff"'), "not UTF-8: invalid start byte at byte"),
    "lone surrogate": (line(7).replace(b'"n"', b'"\\ud800"'), "not JSON"),
    "surrogate in a field": (raw(run_id="\ud800"), "not JSON"),
    "deep": (line(7).replace(b"7}", b"[" * 300 + b"]" * 300 + b"}"), "nested deeper than 256"),
    "very deep": (line(7).replace(b"7}", b"[" * 100_000 + b"]" * 100_000 + b"}"), "nested deeper than 256"),
    "too long": (line(7, payload={"x": "y" * 17_000_000}), "is over the limit"),
    "no id": (raw(event_id=None), "missing required field `event_id`"),
    "no payload": (raw(payload=None), "missing required field `payload`"),
    "payload null": (line(7).replace(b'{"n":7}', b"null"), "payload is not an object"),
    "payload array": (raw(payload=[1]), "payload is not an object"),
    "bad id": (raw(event_id="7"), "matching regex"),
    "other type": (raw(event_type="other"), "event_type 'other' in the folder of 't'"),
    "bad type": (raw(event_type="../t"), "matching regex"),
    "time without zone": (raw(timestamp="2026-01-01T00:00:00.000000"), "matching regex"),
    "time with offset": (raw(timestamp="2026-01-01T00:00:00.000000+02:00"), "matching regex"),
    "short time": (raw(timestamp="2026-01-01T00:00:00Z"), "matching regex"),
    "no such day": (raw(timestamp="2026-02-30T00:00:00.000000Z"), "is not a time"),
    "year 0": (raw(timestamp="0000-01-01T00:00:00.000000Z"), "matching regex"),
    "leap second": (raw(timestamp="2026-06-30T23:59:60.000000Z"), "matching regex"),
    "huge number": (raw(cycle=2**64), "`int` <= 9223372036854775807"),
    "float cycle": (raw(cycle=1.5), "Expected `int | null`"),
    "unknown level": (raw(audit_level="loud"), "Invalid enum value"),
    "field twice": (line(7).replace(b'{"event_id"', b'{"payload":{},"event_id"', 1), "'payload' stands twice"),
    "id twice": (line(7).replace(b'{"event_id"', b'{"event_id":"x","event_id"', 1), "matching regex"),
    "same id twice": (line(7).replace(b'{"event_id"', f'{{"event_id":"{ID}","event_id"'.encode(), 1), "stands twice"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_line_goes_to_quarantine_and_indexing_goes_on(root: Path, case: str) -> None:
    """With its place, its length, a reason and the bytes; the lines around it are rows."""
    bad, reason = BAD[case]
    path = segment(root, line(1), bad, line(2))
    assert index(root) == []
    ((where, offset, length, why, kept, event_id),) = rows(root, "FROM quarantine")
    assert (where, offset, length, event_id) == (path.stem, len(line(1)), len(bad), None)
    assert reason in why
    assert kept == bad[:-1][: 64 * 1024]
    assert rows(root, "SELECT payload ->> 'n' FROM events ORDER BY ALL") == [("1",), ("2",)]
    assert rows(root, "SELECT lines, events, rejected, indexed_offset FROM segments") == [
        (3, 2, 1, path.stat().st_size)
    ]
    assert replay.verify(root).equal


def test_all_bad_lines_together(root: Path) -> None:
    """Many at once, among good ones, each with its own reason."""
    bad = [text for text, _ in BAD.values()]
    good = [line(n) for n in range(100, 200)]
    mixed = [*bad, *good]
    random.Random(1).shuffle(mixed)
    path = segment(root, *mixed)
    index(root)
    assert rows(root, "SELECT count(*) FROM events") == [(100,)]
    assert rows(root, "SELECT count(*), sum(length) FROM quarantine") == [(len(bad), sum(map(len, bad)))]
    assert rows(root, "SELECT sum(line_length) FROM events") == [(path.stat().st_size - sum(map(len, bad)),)]


GOOD: dict[str, tuple[bytes, str]] = {
    "CRLF": (line(7)[:-1] + b"\r\n", '{"n":7}'),
    "spaces": (b"  " + line(7)[:-1].replace(b":", b" : ", 3) + b"  \n", '{"n":7}'),
    "escapes": (line(7).replace(b'"n":7', rb'"n":"\u00e9\u2603\ud83d\ude00\/\u0000"'), '{"n":"é☃😀/\\u0000"}'),
    "duplicate keys inside the payload": (line(7).replace(b'"n":7', b'"n":1,"n":2'), '{"n":1,"n":2}'),
    "huge number inside the payload": (line(7).replace(b":7", b":" + b"9" * 60), '{"n":' + "9" * 60 + "}"),
    "empty payload": (raw(payload={}), "{}"),
    "quotes and backslashes": (
        raw(payload={'a"\\': "'; DROP TABLE events; --"}),
        '{"a\\"\\\\":"\'; DROP TABLE events; --"}',
    ),
    "256 deep": (line(7).replace(b"7}", b"[" * 254 + b"]" * 254 + b"}"), '{"n":' + "[" * 254 + "]" * 254 + "}"),
    "many brackets, not deep": (raw(payload={"n": [[]] * 300}), '{"n":[' + ",".join(["[]"] * 300) + "]}"),
    "brackets in text": (raw(payload={"n": "[{" * 300}), '{"n":"' + "[{" * 300 + '"}'),
    "15 MB": (raw(payload={"n": "x" * 15_000_000}), '{"n":"' + "x" * 15_000_000 + '"}'),
}


@pytest.mark.parametrize("case", GOOD)
def test_what_is_odd_but_valid_is_a_row(root: Path, case: str) -> None:
    """Nothing that JSON allows is lost."""
    text, payload = GOOD[case]
    segment(root, text)
    index(root)
    assert rows(root, "SELECT payload FROM events") == [(payload,)]
    assert rows(root, "FROM quarantine") == []


def test_a_redelivered_event_is_one_row_at_its_first_place(root: Path) -> None:
    """Within a batch, across batches, across segments, in whatever order they are found."""
    second = segment(root, line(1), line(2), line(1), name=name(2))
    index(root)
    first = segment(root, line(0), line(1), name=name(1))
    segment(root, line(2), name=name(3))
    index(root)
    found = rows(root, "SELECT payload ->> 'n', segment, line_offset FROM events ORDER BY event_id")
    assert found == [("0", first.stem, 0), ("1", first.stem, len(line(0))), ("2", second.stem, len(line(1)))]
    assert rows(root, "FROM quarantine") == []
    assert replay.verify(root).equal


def test_the_same_id_with_other_content_is_a_conflict(root: Path) -> None:
    """The first stays, each other content is in quarantine once, wherever it came from first."""
    segment(
        root, line(1), line(1, payload={"n": "other"}), line(1), line(1, run_id="r"), line(1, payload={"n": "other"})
    )
    index(root)
    assert rows(root, "SELECT payload ->> 'n', line_offset FROM events") == [("1", 0)]
    found = rows(
        root,
        "SELECT line_offset, length, reason, decode(raw)::JSON ->> '$.payload.n', event_id FROM quarantine ORDER BY 1",
    )
    id_1 = UUID(ids.derived_id(1000, "1"))
    reason = "conflict: an earlier line has the same event_id and other content"
    other = line(1, payload={"n": "other"})
    assert found == [
        (len(line(1)), len(other), reason, "other", id_1),
        (2 * len(line(1)) + len(other), len(line(1, run_id="r")), reason, "1", id_1),
    ]


@pytest.mark.parametrize("seed", range(4))
def test_the_index_does_not_depend_on_the_order_in_which_lines_were_found(tmp_path: Path, seed: int) -> None:
    """Redeliveries and conflicts spread over segments that appear in any order: always what a replay gives."""
    random_ = random.Random(seed)
    variants = [line(n, payload={"v": v}) for n in range(4) for v in range(3)]
    segments = {name(i): [random_.choice(variants) for _ in range(random_.randint(1, 5))] for i in range(6)}
    found = set()
    for k, order in enumerate(itertools.islice(itertools.permutations(segments), 0, 720, 240)):
        root = tmp_path / str(k)
        for each in order:
            segment(root, *segments[each], name=each)
            index(root)
        found.add(digest_of(root))
        assert replay.verify(root).equal
    assert len(found) == 1


def test_many_lines_in_many_batches(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are bounded in bytes; all lines come through, once."""
    monkeypatch.setattr(batch.index_batch, "__kwdefaults__", {"cache": None, "limits": None, "max_bytes": 3000})
    for i in range(20):
        segment(root, *(line(n) for n in range(i * 50, i * 50 + 60)))
    index(root)
    assert rows(root, "SELECT count(*), count(DISTINCT event_id) FROM events") == [(1010, 1010)]
    assert replay.verify(root).equal


NEIGHBOURS = {
    "an unknown field twice": line(7).replace(b'"payload"', b'"zz":1,"zz":2,"payload"'),
    "unknown, and a known one twice": line(7).replace(b'"payload"', b'"zz":1,"cycle":1,"cycle":1,"payload"'),
    "a day that does not exist": raw(timestamp="2026-02-30T00:00:00.000000Z", zz=1),
}


@pytest.mark.parametrize("case", NEIGHBOURS)
def test_what_becomes_of_a_line_does_not_depend_on_its_neighbours(root: Path, case: str) -> None:
    """Alone in a batch, or beside a line that makes DuckDB refuse the batch."""
    path = segment(root, NEIGHBOURS[case])
    index(root)
    with path.open("ab") as file:
        file.write(line(8).replace(b'"payload"', b'"cycle":1,"cycle":2,"payload"'))
    index(root)
    assert replay.verify(root).equal
    assert rows(root, "SELECT count(*) FROM events") == [(case == "an unknown field twice",)]


@pytest.mark.parametrize(
    "payload", [{}, {"reason": "r", "raw_base64": "!!!"}, {"reason": 5, "raw": 7}, {"raw_base64": None, "raw": "x"}]
)
def test_an_odd_import_rejected_event_does_not_break_quarantine(root: Path, payload: dict[str, Any]) -> None:
    """Anybody may emit one."""
    segment(root, line(1, "import_rejected", payload=payload), event_type="import_rejected")
    index(root)
    ((reason, kept),) = rows(root, "SELECT reason, raw FROM quarantine")
    assert reason.startswith("import: ")
    assert kept
    assert replay.verify(root).equal


def test_large_events_beside_each_other(root: Path) -> None:
    """DuckDB reads what it is handed in parallel, and must find the end of the last one."""
    for count, size in ((2, 12_000_000), (3, 6_000_000), (5, 4_000_000)):
        segment(root, *(line(count * 10 + n, payload={"n": n, "x": "y" * size}) for n in range(count)))
        index(root)
    assert rows(root, "SELECT count(*), max(line_length) > 12_000_000 FROM events") == [(10, True)]
    assert rows(root, "FROM rejected") == []


def test_a_huge_number_beside_a_refused_line(root: Path) -> None:
    """Python refuses to make an integer of 5,000 digits; it need not."""
    huge = line(1).replace(b":1}", b":" + b"9" * 5000 + b"}")
    segment(root, huge, raw(timestamp="2026-02-30T00:00:00.000000Z"))
    index(root)
    assert rows(root, "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM quarantine)") == [(1, 1)]


def test_a_copy_of_a_segment_in_another_folder_is_left_alone(root: Path) -> None:
    """Its name is its identity; there are no two of it, and no endless rebuild."""
    path = segment(root, line(1), event_type="a")
    copy = segment(root, line(1), event_type="b", name=path.stem)
    assert index(root) == [f"left alone: '{copy}': {path} has the same name"]
    with path.open("ab") as file:
        file.write(line(2, "a"))
    index(root)
    assert rows(root, "SELECT count(*) FROM segments") == [(1,)]
    assert replay.verify(root).equal


@pytest.mark.parametrize("folder", ["a", "z"])
def test_of_two_segments_of_one_name_the_one_at_home_counts(root: Path, folder: str) -> None:
    """A stray copy in a folder that is listed earlier once kept the segment from being read on."""
    path = segment(root, line(1), event_type="t")
    index(root)
    copy = segment(root, line(1), event_type=folder, name=path.stem)
    with path.open("ab") as file:
        file.write(line(2))
    assert index(root) == [f"left alone: '{copy}': {path} has the same name"]
    assert rows(root, "SELECT count(*) FROM events") == [(2,)]
    assert replay.verify(root).equal


def test_a_commit_that_fails_says_why(root: Path) -> None:
    """DuckDB has rolled back by then, and a second rollback would only say that."""

    class Full:
        """A connection whose commits fail as on a full disk."""

        def __init__(self, real: duckdb.DuckDBPyConnection) -> None:
            self.real = real

        def __getattr__(self, name: str) -> object:
            return getattr(self.real, name)

        def commit(self) -> None:
            self.real.rollback()
            raise duckdb.IOException("No space left on device")

    segment(root, line(1))
    with index_file.writing(root) as connection:
        projections.create(connection)
        with pytest.raises(duckdb.IOException, match="No space left"):
            batch.index_batch(Full(connection), layout.list_log(root).segments)  # type: ignore[arg-type]
    index(root)
    assert rows(root, "SELECT count(*) FROM events") == [(1,)]


@pytest.mark.parametrize("odd", [b"", line(7, zz=1), line(7, timestamp="2026-02-30T00:00:00.000000Z")])
def test_a_part_is_stored_while_the_next_is_read(root: Path, monkeypatch: pytest.MonkeyPatch, odd: bytes) -> None:
    """However long storing takes: the memory of a part is not taken from under it."""
    monkeypatch.setattr(batch, "PART_BYTES", 4000)
    real = loader.store

    def slowly(*arguments: Any) -> None:
        time.sleep(0.05)
        real(*arguments)

    monkeypatch.setattr(loader, "store", slowly)
    segment(root, line(5000, "event_schema", payload=_N), event_type="event_schema")
    for i in range(6):
        segment(root, *(line(n) for n in range(100 + i * 50, 150 + i * 50)), odd)
    index(root)
    events = 1 + 300 + (b"zz" in odd)
    assert rows(root, COUNT) == [(events, events)]
    lines = 6 if b"zz" in odd else 0  # redelivered ones are events of their segments, too
    assert rows(root, "SELECT sum(events)::INT, sum(lines)::INT FROM segments") == [(301 + lines, 301 + 6 * bool(odd))]
    assert rows(root, "SELECT count(*) FROM quarantine") == [(6 if b"02-30" in odd else 0,)]
    assert rows(root, "SELECT count(n) FROM t") == [(events - 1,)]
    assert replay.verify(root).equal


_N = {"name": "t", "version": 1, "json_schema": {"type": "object", "properties": {"n": {"type": "integer"}}}}


def test_many_odd_lines_make_parts_of_few_bytes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes far more memory than its one byte."""
    monkeypatch.setattr(batch, "PART_LINES", 50)
    monkeypatch.setattr(reader, "_BLOCK_BYTES", 64)
    segment(root, line(1), b"\n" * 1000, line(2))
    index(root)
    assert rows(root, "SELECT lines, events, rejected FROM segments") == [(1002, 2, 1000)]
    assert replay.verify(root).equal


def test_a_file_rewritten_while_it_is_stored_is_found_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint tells of the bytes that were read, not of those that are there by then."""
    path = segment(root, line(1), line(2))
    real = loader.store

    def rewriting(*arguments: Any) -> None:
        real(*arguments)
        path.write_bytes(line(3) + line(4))

    with monkeypatch.context() as patch:
        patch.setattr(loader, "store", rewriting)
        index(root)
    with path.open("ab") as file:
        file.write(line(5))
    assert any("alarm" in said for said in index(root))
    assert replay.verify(root).equal
    assert rows(root, "SELECT payload ->> 'n' FROM events WHERE event_type = 't' ORDER BY 1") == [
        ("1",),
        ("2",),
        ("3",),
        ("4",),
        ("5",),
    ]
