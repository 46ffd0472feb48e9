"""Typed events in the index: columns made from payloads, and the views that show them.

A registered event type logs its JSON Schema, and from then on has a view with a column per
field. What such a column says is a rule over the payload (`_value`). Where a type's schema is
there before its first row, the columns with numbers, times, booleans and short texts are also kept
beside the payload, made by the same rule: reading them is far faster. Which
columns are kept changes no answer, so it may depend on what arrived first; a replay reads
schemas first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import duckdb
import msgspec

from eventlog.format.envelope import EVENT_TYPE
from eventlog.format.schemas import RESERVED, SCHEMA_EVENT, EventSchema
from eventlog.indexer.index.schema import CONTENT, POSITION
from eventlog.indexer.sql import ident, literal
from eventlog.indexer.views import sources
from eventlog.indexer.views.promoted import Kept

_FIELDS_MAX = 1000
#: Every column costs each batch a little, whether anything is in it or not.
KEPT_MAX = 200
_TEXT_MEAN_MAX_BYTES = 40
SAMPLE_ROWS = 1000
#: DuckDB writes out a new column for all rows that there are, in memory. A type that comes when that would
#: be more than this has its columns after the next replay, which reads something of each type first.
NEW_CELLS_MAX = 20_000_000
_SCALARS = {"string": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN"}
_FORMATS = {
    "date-time": "TIMESTAMP",
    "date": "DATE",
    "time": "TIME",
    "uuid": "UUID",
    "decimal": "DECIMAL(38,12)",
}


#: Views of DuckDB's own that it looks for by these names: with one of ours in its place, SHOW TABLES fails.
_OF_DUCKDB = frozenset(
    {
        "duckdb_columns", "duckdb_constraints", "duckdb_databases", "duckdb_indexes", "duckdb_logs", "duckdb_schemas",
        "duckdb_tables", "duckdb_types", "duckdb_views", "pragma_database_list", "sqlite_master", "sqlite_schema",
        "sqlite_temp_master", "sqlite_temp_schema",
    }
)  # fmt: skip

#: Lends a FROM clause.
Sample = AbstractContextManager[str]


# -- schemas ---------------------------------------------------------------------------------


def logged_fields(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, str]]:
    """Return the fields of each event type whose schema is in the log, with their DuckDB types.

    Where a type changed over time these are the fields of all its versions, a later version
    deciding the type of one that it shares with an earlier one. A field that has two types
    in one version is JSON: nothing says which of them is right.
    """
    found = connection.execute(
        f"SELECT payload FROM events WHERE event_type = {literal(SCHEMA_EVENT)}"
        " ORDER BY TRY_CAST(payload ->> 'version' AS BIGINT), event_id, workspace NULLS FIRST"
    ).fetchall()
    fields_by_type: dict[str, dict[str, str]] = {}
    decided: dict[tuple[str, str], int] = {}
    for (payload,) in found:
        try:
            logged = msgspec.json.decode(payload, type=EventSchema)
        except msgspec.MsgspecError:
            continue  # logged by a program that is not ours: it stays visible as an event
        if not EVENT_TYPE.fullmatch(logged.name) or logged.name in RESERVED | _OF_DUCKDB:
            continue
        fields = fields_by_type.setdefault(logged.name, {})
        for field, kind in list_columns(logged.json_schema).items():
            same_version = decided.get((logged.name, field)) == logged.version
            fields[field] = "JSON" if same_version and fields[field] != kind else kind
            decided[logged.name, field] = logged.version
    return {name: dict(list(fields.items())[:_FIELDS_MAX]) for name, fields in fields_by_type.items()}


def list_columns(json_schema: dict[str, Any]) -> dict[str, str]:
    """Return the top-level fields of a JSON Schema with their DuckDB types."""
    top = _resolve(json_schema, json_schema)
    properties = top.get("properties")
    if not isinstance(properties, dict):
        return {}
    return {name: _column_type(part, json_schema) for name, part in properties.items() if name}


def _resolve(part: Any, whole: dict[str, Any]) -> dict[str, Any]:
    """Follow one reference into `$defs`; msgspec writes no chains of them."""
    if not isinstance(part, dict):
        return {}
    reference = part.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        definitions = whole.get("$defs")
        target = definitions.get(reference.removeprefix("#/$defs/")) if isinstance(definitions, dict) else None
        return target if isinstance(target, dict) else {}
    return part


def _column_type(part: Any, whole: dict[str, Any]) -> str:
    part = _resolve(part, whole)
    options = part.get("anyOf")
    if isinstance(options, list):
        parts = [_resolve(option, whole) for option in options]
        kinds = {_plain_type(each) for each in parts if each.get("type") != "null"}
        return kinds.pop() if len(kinds) == 1 else "JSON"
    return _plain_type(part)


def _plain_type(part: dict[str, Any]) -> str:
    values = part.get("enum")
    is_text = isinstance(values, list) and values and all(isinstance(value, str) for value in values)
    if is_text or part.get("type") == "string":
        return _FORMATS.get(str(part.get("format")), "VARCHAR")
    return _SCALARS.get(str(part.get("type")), "JSON")


# -- kept columns ----------------------------------------------------------------------------


def prepare(
    connection: duckdb.DuckDBPyConnection, event_types: Collection[str], sample: Callable[[str], Sample]
) -> bool:
    """Make the kept columns of those event types that are about to get their first rows; say whether any was made.

    `sample` lends a FROM clause with events of a type: of texts, it tells whether they are short.
    """
    rows = connection.execute(
        "SELECT DISTINCT event_type FROM segments WHERE events > 0 AND event_type IN (SELECT unnest(?))",
        [list(event_types)],
    ).fetchall()
    new = set(event_types) - {row[0] for row in rows} - {SCHEMA_EVENT}
    if not new:
        return False
    rows_before = _count(connection)
    logged = logged_fields(connection)
    taken = {each.column.lower() for each in kept_columns(connection)}
    made = False
    for event_type in sorted(new & logged.keys()):
        with sample(event_type) as source:
            fields = _worth_keeping(connection, source, event_type, logged[event_type])
        if rows_before * len(fields) > NEW_CELLS_MAX:
            continue
        for field, kind in fields.items():
            column = Kept(event_type, field, kind).column
            if column.lower() in taken or len(taken) >= KEPT_MAX:  # DuckDB compares names without case
                continue
            connection.execute(f"ALTER TABLE event_rows ADD COLUMN {ident(column)} {kind}")
            taken.add(column.lower())
            made = True
    return made


def _count(connection: duckdb.DuckDBPyConnection) -> int:
    row = connection.execute("SELECT count(*) FROM event_rows").fetchone()
    return int(row[0]) if row else 0


def _worth_keeping(
    connection: duckdb.DuckDBPyConnection, source: str, event_type: str, fields: Mapping[str, str]
) -> dict[str, str]:
    """Choose the fields whose values are small."""
    texts = [field for field, kind in fields.items() if kind == "VARCHAR"]
    means: tuple[float | None, ...] = ()
    if texts:
        lengths = ", ".join(f"avg(strlen(payload ->> {_pointer(field)}))" for field in texts)
        sample = f"(SELECT payload FROM {source} WHERE event_type = {literal(event_type)} LIMIT {SAMPLE_ROWS})"
        means = connection.execute(f"SELECT {lengths} FROM {sample}").fetchone() or ()
    long = {field for field, mean in zip(texts, means, strict=True) if (mean or 0) > _TEXT_MEAN_MAX_BYTES}
    return {field: kind for field, kind in fields.items() if kind != "JSON" and field not in long}


def kept_columns(connection: duckdb.DuckDBPyConnection) -> list[Kept]:
    """Return the columns that are kept, in their order."""
    rows = connection.execute("PRAGMA table_info('event_rows')").fetchall()
    expressions = {column.column: column.expression for column in sources.promoted()}
    places = ((name, name.partition("/"), kind) for _, name, kind, *_ in rows)
    return [
        Kept(event_type, field, kind, expressions.get(name))
        for name, (event_type, slash, field), kind in places
        if slash
    ]


def insert(
    connection: duckdb.DuckDBPyConnection,
    source: str,
    event_types: Collection[str] | None = None,
    kept: Iterable[Kept] | None = None,
) -> int:
    """Insert events from a FROM clause, with just the columns of CONTENT and POSITION; return how many.

    Kept columns are filled. The types, if known, save looking for others, and the kept columns asking for them.
    """
    by_type: dict[str, list[Kept]] = {}
    computed: list[Kept] = []
    for each in kept_columns(connection) if kept is None else kept:
        if event_types is None or each.event_type in event_types:
            (computed if each.expression else by_type.setdefault(each.event_type, [])).append(each)
    # All fields of a payload are taken out in one go: each `->>` would parse it again.
    texts = [
        f"CASE WHEN event_type = {literal(event_type)} THEN "
        f"json_extract_string(payload, [{', '.join(_pointer(each.field) for each in kept)}]) END AS texts_{number}"
        for number, (event_type, kept) in enumerate(by_type.items())
    ]
    values = [
        f"TRY_CAST(texts_{number}[{place}] AS {each.kind})"
        for number, kept in enumerate(by_type.values())
        for place, each in enumerate(kept, start=1)
    ]
    names = [ident(each.column) for kept in (*by_type.values(), computed) for each in kept]
    values += [f"CASE WHEN event_type = {literal(each.event_type)} THEN {each.expression} END" for each in computed]
    taken_out = f" EXCLUDE ({', '.join(f'texts_{number}' for number in range(len(texts)))})" if texts else ""
    kept_values = [f"{value} AS {name}" for value, name in zip(values, names, strict=True)]
    row = connection.execute(
        f"INSERT INTO event_rows BY NAME SELECT {', '.join([f'*{taken_out}', *kept_values])} "
        f"FROM (SELECT {', '.join(['*', *texts])} FROM {source})"
    ).fetchone()
    return int(row[0]) if row else 0


# -- views -----------------------------------------------------------------------------------


def create_views(connection: duckdb.DuckDBPyConnection, made: dict[str, str] | None = None) -> None:
    """Make one view per event type whose schema is in the log; inside a transaction, since each would be a commit.

    `made` holds the statements that made those that are there, by event type, and gets those of the new ones.
    """
    made = {} if made is None else made
    kept = set(kept_columns(connection))
    for event_type, fields in logged_fields(connection).items():
        statement = _view(event_type, fields, kept)
        if made.get(event_type) != statement:
            connection.execute(statement)
            made[event_type] = statement


def _view(event_type: str, fields: Mapping[str, str], kept: Collection[Kept]) -> str:
    envelope_columns = [name for name in CONTENT if name not in ("event_type", "payload", "extra")]
    taken = {name.lower() for name in (*envelope_columns, *POSITION)}
    parts = list(envelope_columns)
    for field, kind in fields.items():
        column = field
        while column.lower() in taken:  # DuckDB compares names without case
            column = f"payload_{column}"
        taken.add(column.lower())
        found = Kept(event_type, field, kind)
        parts.append(f"{ident(found.column) if found in kept else _value(field, kind)} AS {ident(column)}")
    return (
        f"CREATE OR REPLACE VIEW {ident(event_type)} WITH (DEFER_BINDING) AS SELECT {', '.join([*parts, *POSITION])} "
        f"FROM event_rows WHERE event_type = {literal(event_type)}"
    )


def _value(field: str, kind: str) -> str:
    """Return what a field of a payload is, as an expression."""
    return f"payload -> {_pointer(field)}" if kind == "JSON" else f"TRY_CAST(payload ->> {_pointer(field)} AS {kind})"


def _pointer(field: str) -> str:
    pointer = "/" + field.replace("~", "~0").replace("/", "~1")  # RFC 6901: any name can be said
    return literal(pointer)
