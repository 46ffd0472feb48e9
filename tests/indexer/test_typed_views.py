"""Typed views: an analyst selects the fields that a producer declared."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

import eventlog as obs
from eventlog.config import Config
from eventlog.format import schemas
from eventlog.indexer import replay
from eventlog.indexer.indexer import Indexer
from eventlog.indexer.views import fields, projections, typed
from eventlog.record.recorder import Recorder
from tests.indexer.support import index, line, name, rows, segment


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
    assert types["count"] == "HUGEINT"
    assert types["maybe"] == "HUGEINT"
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
    "enormous numbers": {
        "name": "t",
        "version": 10**400,
        "json_schema": {
            "properties": {
                "a": {"type": "integer", "default": 10**400},
                "b": {"type": "string", "format": "decimal", "multipleOf": 1e-300, "default": {"x": [1]}},
            }
        },
    },
    "odd values": {
        "name": "t",
        "version": 1,
        "json_schema": {"properties": {"a": 1, "b": {"type": ["x"], "enum": "y"}, "c": {"enum": [], "default": "\0"}}},
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


# -- promoted columns ------------------------------------------------------------------------


def _schema(kinds: dict[str, str], version: int = 1) -> bytes:
    """A line of `event_schema` for the type `t`: field names with their JSON types."""
    properties = {field: {"type": kind} for field, kind in kinds.items()}
    payload = {"name": "t", "version": version, "json_schema": {"type": "object", "properties": properties}}
    return line(1000 + version, "event_schema", payload=payload)


def _promoted(root: Path) -> list[str]:
    """The promoted columns, in their order, without those of every index."""
    query = "SELECT column_name FROM duckdb_columns() WHERE table_name = 'event_rows' AND contains(column_name, '/')"
    found = [row[0] for row in rows(root, f"{query} ORDER BY column_index")]
    assert found[: len(projections.promoted())] == [each.column for each in projections.promoted()]
    return found[len(projections.promoted()) :]


_VALUES = [
    {"count": 1, "ratio": 0.5, "ok": True, "model": "m", "prompt": "x" * 1000, "deep": {"a": [1]}},
    {"count": "7", "ratio": 1, "ok": "yes", "model": "é" * 500, "prompt": "", "deep": None},
    {"count": 2.5, "ratio": "nan", "ok": 0, "model": 5, "prompt": ["p"]},
    {"count": 10**30, "ratio": None, "ok": None, "model": {"a": 1}, "deep": "text"},
    {},
]
_KINDS = {
    "count": "integer",
    "ratio": "number",
    "ok": "boolean",
    "model": "string",
    "prompt": "string",
    "deep": "array",
}
_QUERY = "SELECT line_offset, count, ratio, ok, model, prompt, deep, unfit FROM t ORDER BY 1"


def test_small_fields_are_promoted_and_long_texts_are_not(root: Path) -> None:
    """A prompt would double the index; what is asked of in aggregates is small."""
    segment(root, _schema(_KINDS), event_type="event_schema")
    values = [*[{"model": "m", "prompt": "word " * 100}] * 50, *_VALUES]
    segment(root, *(line(n, payload=value) for n, value in enumerate(values)))
    index(root)
    assert _promoted(root) == ["t/count", "t/ratio", "t/ok", "t/model", "t/"]
    assert rows(root, "SELECT * FROM events LIMIT 0") == []
    assert not any("/" in name for (name,) in rows(root, "SELECT column_name FROM (DESCRIBE events)"))


def test_promoted_or_not_the_answers_are_the_same(root: Path) -> None:
    """Whether the schema came first, later, or all is replayed; for values that fit and that do not."""
    path = segment(root, *(line(n, payload=value) for n, value in enumerate(_VALUES)))
    index(root)
    segment(root, _schema(_KINDS), event_type="event_schema")
    with path.open("ab") as file:
        file.write(line(99, payload=_VALUES[0]))
    index(root)
    assert _promoted(root) == []  # there were rows already
    from_payloads = rows(root, _QUERY)
    assert from_payloads[0][1:4] == (1, 0.5, True)
    replay.replay(root)
    assert "t/count" in _promoted(root)
    assert rows(root, _QUERY) == from_payloads
    assert replay.verify(root).equal


def test_lines_that_were_looked_at_one_by_one_have_their_promoted_columns(root: Path) -> None:
    """As have redelivered ones, and the winners of conflicts."""
    segment(root, _schema({"n": "integer"}), event_type="event_schema")
    later = segment(root, line(1), line(2, zz=1), b"bad\n", line(3, payload={"n": 30}), name=name(9))
    index(root)
    segment(root, line(2, zz=1), line(3), line(4), name=name(1))
    index(root)
    assert _promoted(root) == ["t/n", "t/"]
    found = rows(root, "SELECT \"t/n\", (payload ->> 'n')::BIGINT, segment FROM event_rows WHERE event_type = 't'")
    assert min(found) == (1, 1, later.stem)
    assert [each[0] for each in sorted(found)] == [1, 2, 3, 4]
    assert all(promoted == payload for promoted, payload, _ in found)
    assert rows(root, "SELECT n FROM t ORDER BY 1") == [(1,), (2,), (3,), (4,)]


def test_a_later_schema_changes_answers_not_promoted_columns(root: Path) -> None:
    """The column of another type is not used any more; a replay keeps the right one."""
    segment(root, _schema({"n": "integer", "old": "integer"}), event_type="event_schema")
    segment(root, line(1))
    index(root)
    segment(root, _schema({"n": "string", "new": "integer"}, version=2), event_type="event_schema")
    segment(root, line(2, payload={"n": "two", "new": 5}))
    index(root)
    expected = [("1", None, None), ("two", None, 5)]
    assert _promoted(root) == ["t/n", "t/old", "t/"]
    assert rows(root, "SELECT n, old, new FROM t ORDER BY 1") == expected
    replay.replay(root)
    assert _promoted(root) == ["t/n", "t/old", "t/new", "t/"]
    assert rows(root, "SELECT n, old, new FROM t ORDER BY 1") == expected


def test_there_is_a_limit_to_promoted_columns(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs every batch a little. The others are read from the payload."""
    monkeypatch.setattr(typed, "PROMOTED_MAX", len(projections.promoted()) + 2)
    segment(root, _schema({"a": "integer", "b": "integer", "c": "integer"}), event_type="event_schema")
    segment(root, line(1, payload={"a": 1, "b": 2, "c": 3}))
    index(root)
    assert _promoted(root) == ["t/a", "t/b"]
    assert rows(root, "SELECT a, b, c FROM t") == [(1, 2, 3)]


def test_names_that_differ_in_case_alone_or_hold_anything(root: Path) -> None:
    """DuckDB takes the first two for one."""
    fields = {"n": "integer", "N": "integer", "a/b~'\"": "integer"}
    segment(root, _schema(fields), event_type="event_schema")
    segment(root, line(1, payload={"n": 1, "N": 2, "a/b~'\"": 3}))
    index(root)
    assert _promoted(root) == ["t/n", "t/a/b~'\"", "t/"]
    assert rows(root, 'SELECT n, "payload_N", "a/b~\'""" FROM t') == [(1, 2, 3)]


def test_the_schema_in_the_same_batch_comes_first(root: Path) -> None:
    """Whatever the names of the segments say."""
    segment(root, line(1), name=name(1))
    segment(root, _schema({"n": "integer"}), event_type="event_schema", name=name(2))
    index(root)
    assert _promoted(root) == ["t/n", "t/"]


def test_no_view_takes_the_place_of_one_of_duckdbs(root: Path) -> None:
    """SHOW TABLES asks for it by its name."""
    schema = {"name": "duckdb_tables", "version": 1, "json_schema": {"properties": {"n": {"type": "integer"}}}}
    segment(root, line(1, event_type="event_schema", payload=schema), event_type="event_schema")
    segment(root, line(2, event_type="duckdb_tables"), event_type="duckdb_tables")
    index(root)
    assert ("events",) in rows(root, "SHOW TABLES")
    assert ("duckdb_tables",) not in rows(root, "SHOW TABLES")
    assert rows(root, "SELECT count(*) FROM events WHERE event_type = 'duckdb_tables'") == [(1,)]
    with duckdb.connect() as connection:
        known = connection.execute("SELECT view_name FROM duckdb_views() WHERE internal AND schema_name = 'main'")
        assert {name for (name,) in known.fetchall()} <= fields._OF_DUCKDB


def _checkpoints(root: Path) -> int:
    """Return how often the file was written to: the headers count the checkpoints."""
    data = (root / "index.duckdb").read_bytes()[: 3 * 4096]
    return max(int.from_bytes(data[start + 8 : start + 16], "little") for start in (4096, 8192))


def test_a_replay_makes_all_views_in_one_transaction(root: Path) -> None:
    """Each in one of its own would be a commit, and a write to the file, per type."""
    recorder = Recorder(Config(root=str(root), strict=True))
    made = [msgspec.defstruct(f"Kind{k}", [("n", int)], module=__name__) for k in range(80)]
    for k, struct in enumerate(made):
        recorder.emit(obs.event(f"kind.k{k}")(struct)(k))
    recorder.shutdown()
    index(root)
    replay.replay(root)
    assert _checkpoints(root) < 60
    assert rows(root, 'SELECT n FROM "kind.k79"') == [(79,)]


class Watched:
    """A connection, and the views that are made through it."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection
        self.made: list[str] = []

    def execute(self, query: str, *arguments: Any) -> duckdb.DuckDBPyConnection:
        if query.startswith("CREATE OR REPLACE VIEW"):
            self.made.append(query.split('"')[1])
        return self.connection.execute(query, *arguments)


def test_an_indexer_makes_only_the_views_that_are_new_or_others(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of all types again with each type that comes."""
    made: list[str] = []
    real = typed.create_views

    def watched(connection: duckdb.DuckDBPyConnection, views: dict[str, str] | None = None) -> None:
        there = Watched(connection)
        real(there, views)  # type: ignore[arg-type]  # all that it asks of a connection
        made.extend(there.made)

    monkeypatch.setattr(typed, "create_views", watched)
    recorder, indexer = Recorder(Config(root=str(root), strict=True)), Indexer(root)
    for k in range(6):
        struct = msgspec.defstruct(f"Late{k}", [("n", int)], module=__name__)
        recorder.emit(obs.event(f"late.k{k}")(struct)(k))
        indexer.catch_up()
    recorder.shutdown()
    assert len(made) <= 2 * 6  # one for the schema, and perhaps another for the promoted column
    assert {name: rows(root, f'SELECT n FROM "{name}"') for name in set(made)} == {
        f"late.k{k}": [(k,)] for k in range(6)
    }


def test_views_that_were_rolled_back_are_made_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an indexer knows of them goes with the transaction."""
    recorder, indexer = Recorder(Config(root=str(root), strict=True)), Indexer(root)
    recorder.emit(obs.event("first.one")(msgspec.defstruct("First", [("n", int)], module=__name__))(1))
    with monkeypatch.context() as patch:
        patch.setattr("eventlog.indexer.index.checkpoint.write", _fail)
        with pytest.raises(RuntimeError):
            indexer.catch_up()
    indexer.catch_up()
    recorder.shutdown()
    assert rows(root, 'SELECT n FROM "first.one"') == [(1,)]


def _fail(*_: object, **__: object) -> None:
    raise RuntimeError("in the middle of a batch")
