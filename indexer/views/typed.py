"""Typed events in the index: promoted columns, and a view for each event type with a schema.

A registered event type logs its JSON Schema, and from then on has a view with a column for each field. A rule computes
the column from the payload (`_value`). If the schema is in the index before the first row of the type, fields with
numbers, times, booleans and short texts are also stored as promoted columns, by the same rule: reading them is far
faster (docs/decisions/0014). Which columns are promoted changes no answer, so it may depend on the order of arrival; a
replay reads schemas first.
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
from eventlog.indexer.views.promoted import PromotedColumn

_FIELDS_MAX = 1000
#: Every column costs each batch a little, even if it is empty.
PROMOTED_MAX = 200
_TEXT_MEAN_MAX_BYTES = 40
SAMPLE_ROWS = 1000
#: DuckDB writes a new column for all existing rows, in memory. If that would be more values than this, a type gets its
#: columns with the next replay, which reads a segment of each type first.
NEW_CELLS_MAX = 20_000_000
_SCALARS = {"string": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN"}
_FORMATS = {
    "date-time": "TIMESTAMP",
    "date": "DATE",
    "time": "TIME",
    "uuid": "UUID",
    "decimal": "DECIMAL(38,12)",
}


#: Names of DuckDB's own views: if one of ours hid them, SHOW TABLES would fail.
_OF_DUCKDB = frozenset(
    {
        "duckdb_columns", "duckdb_constraints", "duckdb_databases", "duckdb_indexes", "duckdb_logs", "duckdb_schemas",
        "duckdb_tables", "duckdb_types", "duckdb_views", "pragma_database_list", "sqlite_master", "sqlite_schema",
        "sqlite_temp_master", "sqlite_temp_schema",
    }
)  # fmt: skip

#: A context manager for a FROM clause.
Sample = AbstractContextManager[str]


# -- schemas ---------------------------------------------------------------------------------


def logged_fields(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, str]]:
    """Return the fields and their DuckDB types of each event type whose schema is in the index.

    As `{"reading": {"celsius": "DOUBLE", "place": "VARCHAR"}}`. If a type has several versions these are the fields of
    all of them; the latest version that has a field decides its type. A field with two types in one version is JSON.
    """
    schemas = connection.execute(SELECT_SCHEMAS).fetchall()
    fields_by_type: dict[str, dict[str, str]] = {}
    decided: dict[tuple[str, str], int] = {}
    for (payload,) in schemas:
        try:
            logged = msgspec.json.decode(payload, type=EventSchema)
        except msgspec.MsgspecError:
            continue  # written by another program; it is an event like others
        if not EVENT_TYPE.fullmatch(logged.name) or logged.name in RESERVED | _OF_DUCKDB:
            continue
        fields = fields_by_type.setdefault(logged.name, {})
        for field, kind in list_columns(logged.json_schema).items():
            same_version = decided.get((logged.name, field)) == logged.version
            fields[field] = "JSON" if same_version and fields[field] != kind else kind
            decided[logged.name, field] = logged.version
    return {name: dict(list(fields.items())[:_FIELDS_MAX]) for name, fields in fields_by_type.items()}


def list_columns(json_schema: dict[str, Any]) -> dict[str, str]:
    """Return the top-level fields of a JSON Schema with their DuckDB types, as `{"celsius": "DOUBLE"}`."""
    top = _resolve(json_schema, json_schema)
    properties = top.get("properties")
    if not isinstance(properties, dict):
        return {}
    return {name: _column_type(part, json_schema) for name, part in properties.items() if name}


def _resolve(part: Any, whole: dict[str, Any]) -> dict[str, Any]:
    """Follow one reference into `$defs`; msgspec writes no chains of references."""
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
        kinds = {_plain_type(option) for option in parts if option.get("type") != "null"}
        return kinds.pop() if len(kinds) == 1 else "JSON"
    return _plain_type(part)


def _plain_type(part: dict[str, Any]) -> str:
    values = part.get("enum")
    is_text = isinstance(values, list) and values and all(isinstance(value, str) for value in values)
    if is_text or part.get("type") == "string":
        return _FORMATS.get(str(part.get("format")), "VARCHAR")
    return _SCALARS.get(str(part.get("type")), "JSON")


# -- promoted columns ------------------------------------------------------------------------


def prepare(
    connection: duckdb.DuckDBPyConnection, event_types: Collection[str], sample: Callable[[str], Sample]
) -> bool:
    """Add promoted columns for those of the event types that have no rows yet; return whether any was added.

    `sample` returns a context manager for a FROM clause with events of a type, which shows whether texts are short.
    """
    rows = connection.execute(SELECT_TYPES_WITH_ROWS, [list(event_types)]).fetchall()
    new = set(event_types) - {row[0] for row in rows} - {SCHEMA_EVENT}
    if not new:
        return False
    rows_before = _count(connection)
    logged = logged_fields(connection)
    names = {column.column.lower() for column in promoted_columns(connection)}
    is_any_added = False
    for event_type in sorted(new & logged.keys()):
        with sample(event_type) as source:
            fields = _worth_promoting(connection, source, event_type, logged[event_type])
        if rows_before * len(fields) > NEW_CELLS_MAX:
            continue
        for field, kind in fields.items():
            column = PromotedColumn(event_type, field, kind).column
            if column.lower() in names or len(names) >= PROMOTED_MAX:  # DuckDB compares names without case
                continue
            connection.execute(ADD_COLUMN.format(column=ident(column), kind=kind))
            names.add(column.lower())
            is_any_added = True
    return is_any_added


def _count(connection: duckdb.DuckDBPyConnection) -> int:
    row = connection.execute(COUNT_ROWS).fetchone()
    return int(row[0]) if row else 0


def _worth_promoting(
    connection: duckdb.DuckDBPyConnection, source: str, event_type: str, fields: Mapping[str, str]
) -> dict[str, str]:
    """Choose the fields whose values are small."""
    texts = [field for field, kind in fields.items() if kind == "VARCHAR"]
    means: tuple[float | None, ...] = ()
    if texts:
        lengths = ", ".join(f"avg(strlen(payload ->> {_pointer(field)}))" for field in texts)
        statement = SELECT_OF_SAMPLE.format(columns=lengths, rows=source, event_type=literal(event_type))
        means = connection.execute(statement).fetchone() or ()
    long = {field for field, mean in zip(texts, means, strict=True) if (mean or 0) > _TEXT_MEAN_MAX_BYTES}
    return {field: kind for field, kind in fields.items() if kind != "JSON" and field not in long}


def promoted_columns(connection: duckdb.DuckDBPyConnection) -> list[PromotedColumn]:
    """Return the promoted columns of an index, in their order."""
    rows = connection.execute("PRAGMA table_info('event_rows')").fetchall()
    computed = {column.column: (column.expression, column.steps) for column in sources.promoted()}
    columns = ((name, name.partition("/"), kind) for _, name, kind, *_ in rows)
    return [
        PromotedColumn(event_type, field, kind, *computed.get(name, ()))
        for name, (event_type, slash, field), kind in columns
        if slash
    ]


def insert(
    connection: duckdb.DuckDBPyConnection,
    source: str,
    event_types: Collection[str] | None = None,
    promoted: Iterable[PromotedColumn] | None = None,
) -> int:
    """Insert events from a FROM clause with the columns of CONTENT and POSITION; return how many.

    Promoted columns are filled. Pass the event types and the index's promoted columns if you know them: without the
    types, columns of all types are computed; without the columns, the index is asked for them.
    """
    by_type: dict[str, list[PromotedColumn]] = {}
    computed: list[PromotedColumn] = []
    for column in promoted_columns(connection) if promoted is None else promoted:
        if event_types is None or column.event_type in event_types:
            (computed if column.expression else by_type.setdefault(column.event_type, [])).append(column)
    # All fields of a payload are extracted at once: each `->>` would parse it again.
    texts = [
        f"CASE WHEN event_type = {literal(event_type)} THEN "
        f"json_extract_string(payload, [{_pointers(columns)}]) END AS texts_{number}"
        for number, (event_type, columns) in enumerate(by_type.items())
    ]
    values = [
        f"TRY_CAST(texts_{number}[{index}] AS {column.kind})"
        for number, columns in enumerate(by_type.values())
        for index, column in enumerate(columns, start=1)
    ]
    names = [ident(column.column) for columns in (*by_type.values(), computed) for column in columns]
    values += [
        f"CASE WHEN event_type = {literal(column.event_type)} THEN {column.value('NULL')} END" for column in computed
    ]
    on_the_way = [f"texts_{number}" for number in range(len(texts))]
    rows = source
    for column in computed:
        rows = column.stepped(rows, f"event_type = {literal(column.event_type)}")
        on_the_way += [ident(name) for name, _ in column.steps]
    without = f" EXCLUDE ({', '.join(on_the_way)})" if on_the_way else ""
    named = [f"{value} AS {name}" for value, name in zip(values, names, strict=True)]
    statement = INSERT_ROWS.format(
        columns=", ".join([f"*{without}", *named]), texts=", ".join(["*", *texts]), rows=rows
    )
    row = connection.execute(statement).fetchone()
    return int(row[0]) if row else 0


# -- views -----------------------------------------------------------------------------------


def create_views(connection: duckdb.DuckDBPyConnection, statements: dict[str, str] | None = None) -> None:
    """Create or replace the view of each event type whose schema is in the index.

    Call it inside a transaction, since each statement would be a commit. `statements` has the CREATE VIEW statements of
    existing views, by event type; views with the same statement are skipped, and new statements are added.
    """
    statements = {} if statements is None else statements
    promoted = set(promoted_columns(connection))
    for event_type, fields in logged_fields(connection).items():
        statement = _view(event_type, fields, promoted)
        if statements.get(event_type) != statement:
            connection.execute(statement)
            statements[event_type] = statement


def _view(event_type: str, fields: Mapping[str, str], promoted: Collection[PromotedColumn]) -> str:
    envelope_columns = [name for name in CONTENT if name not in ("event_type", "payload", "extra")]
    taken = {name.lower() for name in (*envelope_columns, *POSITION)}
    parts = list(envelope_columns)
    for field, kind in fields.items():
        column = field
        while column.lower() in taken:  # DuckDB compares names without case
            column = f"payload_{column}"
        taken.add(column.lower())
        own = PromotedColumn(event_type, field, kind)
        parts.append(f"{ident(own.column) if own in promoted else _value(field, kind)} AS {ident(column)}")
    return (
        f"CREATE OR REPLACE VIEW {ident(event_type)} WITH (DEFER_BINDING) AS SELECT {', '.join([*parts, *POSITION])} "
        f"FROM event_rows WHERE event_type = {literal(event_type)}"
    )


def _value(field: str, kind: str) -> str:
    """Return the SQL expression for a field of a payload."""
    return f"payload -> {_pointer(field)}" if kind == "JSON" else f"TRY_CAST(payload ->> {_pointer(field)} AS {kind})"


def _pointers(columns: Iterable[PromotedColumn]) -> str:
    return ", ".join(_pointer(column.field) for column in columns)


def _pointer(field: str) -> str:
    pointer = "/" + field.replace("~", "~0").replace("/", "~1")  # RFC 6901
    return literal(pointer)


# -- statements ------------------------------------------------------------------------------

# `{rows}` is a FROM clause; the other parts depend on the fields of event types.

SELECT_SCHEMAS = f"""
SELECT payload FROM events WHERE event_type = {literal(SCHEMA_EVENT)}
ORDER BY TRY_CAST(payload ->> 'version' AS BIGINT), event_id, workspace NULLS FIRST
"""
SELECT_TYPES_WITH_ROWS = (
    "SELECT DISTINCT event_type FROM segments WHERE events > 0 AND event_type IN (SELECT unnest(?))"
)
COUNT_ROWS = "SELECT count(*) FROM event_rows"
ADD_COLUMN = "ALTER TABLE event_rows ADD COLUMN {column} {kind}"
SELECT_OF_SAMPLE = (
    f"SELECT {{columns}} FROM (SELECT payload FROM {{rows}} WHERE event_type = {{event_type}} LIMIT {SAMPLE_ROWS})"
)
INSERT_ROWS = "INSERT INTO event_rows BY NAME SELECT {columns} FROM (SELECT {texts} FROM {rows})"
