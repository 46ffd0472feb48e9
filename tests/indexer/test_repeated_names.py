"""Names that stand twice in an object: SQL, Python and the importer that made the row give one answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from eventlog.format import json_text, payloads
from eventlog.importers.jsonl import Jsonl
from eventlog.queries.store import ReadStore
from tests.eventlog.test_importers import import_
from tests.indexer.support import index

NAMES = st.sampled_from(['"a"', '"b"', '"\\u0061"', '"\\u0022"'])
SPACE = st.sampled_from(["", " ", "\t"])


def _object(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.tuples(NAMES, SPACE, values).map(lambda parts: f"{parts[0]}{parts[1]}:{parts[1]}{parts[2]}")
    return st.lists(member, max_size=5).map(lambda members: f"{{{','.join(members)}}}")


VALUES = st.recursive(
    st.sampled_from(["1", "2.50", '"x"', '"\\u0022:"', "null", '"a"', "1e3"]),
    lambda inner: _object(inner) | st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]"),
    max_leaves=12,
)
CONNECTION = duckdb.connect()


def as_sql_reads(text: str) -> Any:
    """Return what SQL says of JSON, taken apart by its own operators."""
    row = CONNECTION.execute(
        "SELECT json_type($1::JSON), json_keys($1::JSON), json_array_length($1::JSON)", [text]
    ).fetchone()
    assert row is not None
    kind, names, length = row
    if kind == "OBJECT":
        return {name: as_sql_reads(_one("SELECT $1::JSON -> $2", text, name)) for name in names}
    if kind == "ARRAY":
        return [as_sql_reads(_one("SELECT $1::JSON -> $2::INTEGER", text, number)) for number in range(length)]
    return json.loads(text)


def _one(query: str, *values: object) -> str:
    row = CONNECTION.execute(query, list(values)).fetchone()
    assert row is not None
    return str(row[0])


@given(text=_object(VALUES))
def test_python_reads_what_sql_reads(text: str) -> None:
    """At every depth."""
    expected = as_sql_reads(text)
    assert payloads.decode(text.encode()) == expected
    members = json_text.members(text.encode())
    assert {name: payloads.decode(raw) for name, raw in members.items()} == expected
    assert list(members) == list(expected)
    once = json_text.once(text.encode())
    assert msgspec.json.decode(once, type=dict[str, msgspec.Raw]).keys() == expected.keys()


@given(text=_object(VALUES))
def test_the_row_says_what_its_payload_says(text: str) -> None:
    """Its type, its time and its id come from the fields that SQL finds."""
    line = f'{{"t":"first","t":"second","at":1768480245,"at":1,"id":{text},"id":2}}'.encode()
    (made,) = Jsonl(type_field="t", time_field="at", id_field="id").envelopes(line, "s", 0)
    once = json.dumps({"t": "first", "at": 1768480245, "id": as_sql_reads(text)}).encode()
    (expected,) = Jsonl(type_field="t", time_field="at", id_field="id").envelopes(once, "s", 0)
    assert (made.event_type, made.timestamp) == (expected.event_type, expected.timestamp)
    if as_sql_reads(text):
        assert made.event_id == expected.event_id


def test_an_imported_line_gives_one_answer(root: Path, tmp_path: Path) -> None:
    """In the row, in SQL and in Python; also a large one, whose fields are taken apart."""
    path = tmp_path / "f.jsonl"
    large = '{"type":"one","type":"two","at":1768480246,"n":1,"n":2,"text":"%s","text":"$blob"}' % ("x" * 300_000)
    path.write_text('{"type":"one","type":"two","at":1768480245,"at":1,"n":1,"n":2}\n' + large + "\n")
    import_(root, path, format_=Jsonl(type_field="type", time_field="at"))
    index(root)
    store = ReadStore(root)
    rows = store.sql(
        "SELECT event_id::VARCHAR, event_type, payload->>'type', payload->>'n' "
        "FROM events WHERE event_type NOT LIKE 'import%' ORDER BY timestamp"
    ).rows
    assert [row[1:] for row in rows] == [("one", "one", "1")] * 2
    for row in rows:
        found = store.event(row[0])
        assert found is not None
        assert (found.event.data()["type"], found.event.data()["n"]) == ("one", 1)
