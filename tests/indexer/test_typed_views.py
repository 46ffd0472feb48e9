"""Typed views: what a producer declared is what an analyst selects."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest

import eventlog as obs
from eventlog import schemas
from eventlog.config import Config
from eventlog.recorder import Recorder
from indexer import replay
from tests.indexer.support import index, line, rows, segment


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "_by_name", {})
    monkeypatch.setattr(schemas, "_by_struct", {})


class Level(enum.Enum):
    LOW = "low"


class Inner(msgspec.Struct):
    x: int


class Everything(msgspec.Struct, rename={"renamed": "re named"}):
    text: str
    count: int
    ratio: float
    ok: bool
    moment: dt.datetime
    day: dt.date
    key: uuid.UUID
    price: decimal.Decimal
    level: Level
    tags: list[str]
    inner: Inner
    union: int | str
    anything: Any
    maybe: int | None = None
    renamed: str = ""
    agent: str = "of the payload"


def test_each_kind_of_field_has_its_type(root: Path) -> None:
    """Columns that an envelope field holds already get a prefix."""
    obs.event("every.thing")(Everything)
    recorder = Recorder(Config(root=str(root), strict=True))
    key = uuid.uuid4()
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
    recorder.emit(
        Everything(
            text="é", count=2**53, ratio=1.0, ok=True, moment=moment, day=moment.date(), key=key,
            price=decimal.Decimal("12.30"), level=Level.LOW, tags=["a"], inner=Inner(1), union="u", anything=None,
            renamed="r",
        ),
        agent="of the envelope",
    )  # fmt: skip
    recorder.shutdown()
    index(root)
    names = [
        "text", "count", "ratio", "ok", "moment", "day", "key", "price", "level", "tags", "inner", "union", "maybe",
        "re named", "agent", "payload_agent",
    ]  # fmt: skip
    columns = ", ".join(f'"{name}"' for name in names)
    assert rows(root, f'SELECT {columns} FROM "every.thing"') == [
        (
            "é", 2**53, 1.0, True, moment.replace(tzinfo=None), moment.date(), key, decimal.Decimal("12.300000000000"),
            "low", '["a"]', '{"x":1}', '"u"', None, "r", "of the envelope", "of the payload",
        )
    ]  # fmt: skip
    types = dict(rows(root, "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'every.thing'"))
    assert types["count"] == "BIGINT"
    assert types["maybe"] == "BIGINT"
    assert types["moment"] == "TIMESTAMP"
    assert types["price"] == "DECIMAL(38,12)"
    assert types["ratio"] == "DOUBLE"


def test_a_type_that_changed_has_the_columns_of_all_versions(root: Path) -> None:
    """Rows of the old version have no value in the new columns, and the other way round."""

    def define(version: int, **fields: type) -> type[msgspec.Struct]:
        struct = msgspec.defstruct("Reading", list(fields.items()), module=__name__)
        return obs.event("reading", version=version)(struct)

    recorder = Recorder(Config(root=str(root), strict=True))
    recorder.emit(define(1, old=int, both=int)(old=1, both=1))
    index(root)
    recorder.emit(define(2, both=str, new=float)(both="two", new=2.0))
    recorder.shutdown()
    index(root)
    expected = [(1, 1, "1", None), (2, None, "two", 2.0)]
    query = 'SELECT schema_version, old, "both", new FROM reading ORDER BY 1'
    assert rows(root, query) == expected
    replay.replay(root)
    assert rows(root, query) == expected


def test_a_value_of_the_wrong_type_is_null_and_not_an_error(root: Path) -> None:
    """Lines of other programs keep no promises; the row still counts."""
    obs.event("reading")(msgspec.defstruct("R", [("n", int)]))
    recorder = Recorder(Config(root=str(root)))
    recorder.emit("reading", {"n": 1})
    recorder.shutdown()
    segment(root, line(5, "reading", payload={"n": "many"}), event_type="reading")
    index(root)
    assert sorted(rows(root, "SELECT n FROM reading"), key=str) == [(1,), (None,)]


HOSTILE: dict[str, dict[str, Any]] = {
    "no schema at all": {"anything": 1},
    "reserved name": {"name": "events", "version": 1, "json_schema": {"properties": {"x": {"type": "string"}}}},
    "injection in the name": {"name": 'x"; DROP TABLE events; --', "version": 1, "json_schema": {}},
    "injection in a field": {
        "name": "t",
        "version": 1,
        "json_schema": {"properties": {"a\"; DROP TABLE events; --'": {"type": "string"}, "": {"type": "integer"}}},
    },
    "nonsense schema": {"name": "t", "version": 1, "json_schema": {"$ref": "#/$defs/None", "properties": 5}},
    "endless reference": {
        "name": "t",
        "version": 1,
        "json_schema": {"$ref": "#/$defs/A", "$defs": {"A": {"properties": {"a": {"$ref": "#/$defs/A"}}}}},
    },
    "endless union": {
        "name": "t",
        "version": 1,
        "json_schema": {"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}]}}},
    },
    "too many fields": {
        "name": "t",
        "version": 1,
        "json_schema": {"properties": {f"f{i}": {"type": "string"} for i in range(3000)}},
    },
    "clashing names": {
        "name": "t",
        "version": 1,
        "json_schema": {"properties": {"A": {"type": "string"}, "a": {"type": "integer"}, "Run_ID": {}}},
    },
    "definitions that are a list": {"name": "t", "version": 1, "json_schema": {"$ref": "#/$defs/A", "$defs": []}},
    "odd values": {
        "name": "t",
        "version": 1,
        "json_schema": {"properties": {"a": 1, "b": {"type": ["x"], "enum": "y"}}},
    },
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_schema_harms_nothing(root: Path, case: str) -> None:
    """The rows are there, and so is everything else."""
    segment(root, line(1, "event_schema", payload=HOSTILE[case]), event_type="event_schema")
    segment(root, line(2))
    assert index(root) == []
    assert rows(root, "SELECT count(*) FROM events") == [(2,)]
    if HOSTILE[case].get("name") == "t":
        assert rows(root, "SELECT count(*) FROM t") == [(1,)]


def test_two_types_for_a_field_in_one_version_are_json(root: Path) -> None:
    """Nothing says which is right, so no value is lost."""
    recorder = Recorder(Config(root=str(root), strict=True))
    for kind, value in ((int, 1), (str, "abc"), (int, 2)):
        struct = msgspec.defstruct("R", [("n", kind), ("same", int)], module=__name__)
        obs.event("reading")(struct)
        recorder.emit(struct(n=value, same=3))
    recorder.shutdown()
    index(root)
    assert sorted(rows(root, "SELECT n, same FROM reading")) == [('"abc"', 3), ("1", 3), ("2", 3)]
