"""Envelope fields of imported lines: from the fields of a line that the options name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eventlog.errors import InvalidEvent
from eventlog.importers.jsonl import ENVELOPE_FIELDS, Jsonl
from tests.conftest import Run, lines_of

NAMES = {name: f"of.{name}" for name in ENVELOPE_FIELDS.values()}


def _envelope(line: dict[str, Any], **options: Any) -> dict[str, Any]:
    (made,) = Jsonl(type_="t", fields=NAMES, **options).envelopes(json.dumps(line).encode(), "s", 0)
    return {name: getattr(made, name) for name in NAMES if getattr(made, name) is not None}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"run_id": "r", "session_id": "s", "parent_event_id": "p"},
         {"run_id": "r", "session_id": "s", "parent_event_id": "p"}),
        ({"run_id": 7, "request_id": 2**70}, {"run_id": "7", "request_id": str(2**70)}),
        ({"turn_number": 3}, {"turn_number": 3}),
        ({"turn_number": "03"}, {"turn_number": 3}),
        ({"run_id": "", "agent": None, "workspace": "w"}, {"workspace": "w"}),
    ],
)  # fmt: skip
def test_fields_of_a_line_become_fields_of_the_envelope(given: dict[str, Any], expected: dict[str, Any]) -> None:
    """Numbers as texts, but for the turn; what is empty or missing is not there."""
    assert _envelope({"of": given}) == expected


@pytest.mark.parametrize(
    "given",
    [{"run_id": True}, {"run_id": ["r"]}, {"run_id": 1.5}, {"turn_number": -1}, {"turn_number": "one"},
     {"turn_number": 2**80}, {"agent": "x" * 100_001}],
)  # fmt: skip
def test_what_a_field_cannot_be_is_said(given: dict[str, Any]) -> None:
    """The line goes to quarantine with it."""
    with pytest.raises(InvalidEvent):
        _envelope({"of": given})


def test_options_are_for_lines_that_say_nothing() -> None:
    """A line's own workspace and agent count first; events of two workspaces have two ids."""
    options = {"workspace": "default", "agent": "nobody"}
    assert _envelope({"of": {"agent": "a"}}, **options) == {"workspace": "default", "agent": "a"}
    made = [
        Jsonl(type_="t", id_field="id", fields=NAMES).envelopes(json.dumps(line).encode(), "s", 0)[0].event_id
        for line in ({"id": 1, "of": {"workspace": "a"}}, {"id": 1, "of": {"workspace": "b"}}, {"id": 1})
    ]
    assert len(set(made)) == 3


def test_fields_are_part_of_the_key_where_there_are_any() -> None:
    """With others, an import begins anew; keys of earlier imports stay."""
    keys = [
        Jsonl(type_="t", **options).key
        for options in (
            {},
            {"unwrap": "log"},
            {"fields": {"run_id": "r"}},
            {"fields": {"agent": "r"}},
            {"records": "r"},
        )
    ]
    assert len(set(keys)) == 5
    assert keys[0] == 'jsonl ["t",null,null,null,null,null,null]'
    with pytest.raises(InvalidEvent, match="no envelope field"):
        Jsonl(type_="t", fields={"event_id": "id"})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"Records":[{"n":1},{"n":2},{"n":1}]}', [{"n": 1}, {"n": 2}, {"n": 1}]),
        (b'{"Records":[]}', []),
        (b'{"Records":"none"}', [{"Records": "none"}]),
        (b'{"n":3}', [{"n": 3}]),
    ],
)
def test_a_list_in_a_line_is_so_many_events(line: bytes, expected: list[Any]) -> None:
    """Each with an id of its own, the same each time; another occurrence of the line is others."""
    format_ = Jsonl(type_="t", records="Records")
    made, again, other = (format_.envelopes(line, "s", occurrence) for occurrence in (0, 0, 1))
    assert [json.loads(bytes(each.payload)) for each in made] == expected
    assert made == again
    assert len({each.event_id for each in (*made, *other)}) == 2 * len(expected)


def test_of_a_list_with_a_bad_record_it_is_said_which(tmp_path: Path) -> None:
    """The whole line goes to quarantine: it can be tried again."""
    format_ = Jsonl(type_="t", records="all.records", time_field="ts")
    with pytest.raises(InvalidEvent, match=r"record 2 of 2 in 'all\.records': there is no time field 'ts'"):
        format_.envelopes(b'{"all":{"records":[{"ts":1768480245},{}]}}', "s", 0)
    with pytest.raises(InvalidEvent, match="record 1 of 1"):
        format_.envelopes(b'{"all":{"records":[7]}}', "s", 0)


def test_the_command(root: Path, run: Run, tmp_path: Path) -> None:
    """A dotted path, a number, and a line that cannot be read."""
    path = tmp_path / "f.jsonl"
    path.write_text('{"trace":{"id":7},"turn":1}\n{"trace":{"id":[]}}\n{}\n')
    done = run("import", "jsonl", str(path), "--type", "t", "--run-field", "trace.id", "--turn-field", "turn")
    assert "2 new events, 1 line in quarantine (the first: field 'trace.id' holds " in done.stdout
    events = [json.loads(line) for line in lines_of(root, "t")]
    assert [(event.get("run_id"), event.get("turn_number")) for event in events] == [("7", 1), (None, None)]
