"""Files that are JSON, but no JSON lines: arrays, objects over several lines; and JSON in the text of a field."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.format import timestamps
from eventlog.format.envelope import MAX_LINE_BYTES
from eventlog.importers import values
from eventlog.importers.jsonl import Jsonl
from eventlog.importers.records import open_source, read_lines, skip, split_records
from tests.eventlog.test_importers import events, import_, payloads

OBJECTS: list[dict[str, Any]] = [
    {"n": n, "text": '}"\\{[ é\n' * 3, "inside": [{"a": [1, {}]}, {}], "noise": random.Random(n).random()}
    for n in range(900)
]
FORMS = {
    "an array on one line": json.dumps(OBJECTS),
    "a compact array": json.dumps(OBJECTS, separators=(",", ":"), ensure_ascii=False),
    "an array over lines": json.dumps(OBJECTS, indent=2),
    "an array behind a byte order mark": "\ufeff" + json.dumps(OBJECTS, indent=1),
    "objects over lines": "\n".join(json.dumps(each, indent=4) for each in OBJECTS),
    "an object a line in an array": "[\n" + ",\n".join(map(json.dumps, OBJECTS)) + "\n]\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_each_object_is_a_record(root: Path, tmp_path: Path, form: str) -> None:
    """On one line; a second import adds nothing."""
    path = tmp_path / "f.json"
    path.write_text(FORMS[form])
    done = import_(root, path, format_=Jsonl(type_="t"))
    assert (done.events, done.rejected) == (len(OBJECTS), 0)
    assert payloads(root, "t") == OBJECTS
    assert import_(root, path, format_=Jsonl(type_="t")).events == 0


@pytest.mark.parametrize("form", FORMS)
def test_a_file_is_read_on_behind_any_object(tmp_path: Path, form: str) -> None:
    """The end of a record is that of its object, in bytes."""
    path = tmp_path / "f.json"
    path.write_text(FORMS[form])
    with open_source(path) as file:
        ends = [line.end for line in read_lines(path, file, 0) if split_records(line)]
    for number in (0, 1, 17, len(OBJECTS) - 2, len(OBJECTS) - 1):
        with open_source(path) as file:
            skip(file, ends[number])
            found = [record for line in read_lines(path, file, ends[number]) for record in split_records(line)]
        assert [json.loads(record.data) for record in found] == OBJECTS[number + 1 :]


@pytest.mark.parametrize("form", FORMS)
def test_a_growing_file_gives_each_object_once(root: Path, tmp_path: Path, form: str) -> None:
    """What has no end yet is left for the next import."""
    path, whole = tmp_path / "f.json", FORMS[form].encode()
    for percent in (1, 20, 21, 77, 100):
        path.write_bytes(whole[: len(whole) * percent // 100])
        assert import_(root, path, format_=Jsonl(type_="t")).rejected == 0
    assert {event["payload"]["n"] for event in events(root, "t")} == set(range(len(OBJECTS)))
    assert len({event["event_id"] for event in events(root, "t")}) == len(OBJECTS)


TEXT = st.sampled_from(['{"a":1}', '{"b":[{}, "}\\\\"]}', "[", "]", ",", " ", "\n", '{"c":"\\"{"}', "7", '"x{"', "\0"])


@given(parts=st.lists(TEXT, max_size=12), cuts=st.lists(st.integers(0, 80), max_size=4))
def test_how_a_file_comes_in_blocks_makes_no_difference(parts: list[str], cuts: list[int]) -> None:
    """And the lengths of its pieces add up to what was read."""
    whole = "".join(parts).encode()
    bounds = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    blocks = [whole[start:end] for start, end in pairwise(bounds)]
    found = list(values.pieces(blocks))
    assert found == list(values.pieces([whole]))
    assert sum(piece.length for piece in found) <= len(whole)
    end = 0
    for piece in found:
        assert piece.data == whole[end : end + piece.length]
        end += piece.length


def test_memory_is_bounded_by_one_object(tmp_path: Path) -> None:
    """Of one that is too long, the first part is kept, and the next one is read."""
    path = tmp_path / "f.json"
    path.write_bytes(b'[{"n":"' + b"x" * MAX_LINE_BYTES + b'"},{"n":2}]')
    with open_source(path) as file:
        first, second = (record for line in read_lines(path, file, 0) for record in split_records(line))
    assert "over the limit" in (first.reason or "")
    assert second.data == b'{"n":2}'


@pytest.mark.parametrize("text", ['{"n":1}\n{"n":2}\n', "[2026-01-15] started\n", '{"n":\n', "[1,2]\n[3]\n", "7\n"])
def test_lines_stay_lines(text: str) -> None:
    """Only what cannot be JSON lines is read in another way."""
    assert not values.begins(text.encode())


def wrapped(text: str, **around: Any) -> str:
    return json.dumps({"log": text, "stream": "stdout", **around}) + "\n"


def test_the_event_in_the_log_of_a_container_is_unwrapped(root: Path, tmp_path: Path) -> None:
    """Its own fields come first, then those around it; what is no JSON stays as it is."""
    path = tmp_path / "c.log"
    path.write_text(
        wrapped('{"level":"info","time":1768480246}\n', time="2026-01-15T12:30:45Z")
        + wrapped('{"level":\n"warn"}', time="2026-01-15T12:30:45Z")
        + wrapped("started\n", time="2026-01-15T12:30:45Z")
    )
    import_(root, path, format_=Jsonl(type_="t", time_field="time", unwrap="log"))
    assert [(event["timestamp"][17:19], event["payload"]) for event in events(root, "t")] == [
        ("46", {"level": "info", "time": 1768480246}),
        ("45", {"level": "warn"}),
        ("45", {"log": "started\n", "stream": "stdout", "time": "2026-01-15T12:30:45Z"}),
    ]


def test_unwrapping_belongs_to_the_key_only_where_it_is_asked_for() -> None:
    """And equal events of two lines stay two."""
    assert Jsonl(type_="t").key == 'jsonl ["t",null,null,null,null,null,null]'
    assert Jsonl(type_="t", unwrap="log").key != Jsonl(type_="t").key
    lines = [wrapped('{"a":1}', time=n).encode() for n in range(2)]
    made = [Jsonl(type_="t", unwrap="log").envelopes(line, "s", 0)[0] for line in lines]
    assert made[0].event_id != made[1].event_id
    assert {each.timestamp for each in made} == {timestamps.UNKNOWN}
