"""The fields of typed events, as the JSON Schemas in the log declare them."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import duckdb
import msgspec

from eventlog.format.envelope import EVENT_TYPE
from eventlog.format.schemas import RESERVED, SCHEMA_EVENT, EventSchema
from eventlog.indexer.sql import literal
from eventlog.indexer.views.promoted import NOTHING

_FIELDS_MAX = 1000
_SCALARS = {"string": "VARCHAR", "integer": "HUGEINT", "number": "DOUBLE", "boolean": "BOOLEAN"}
_FORMATS = {
    "date-time": "TIMESTAMP",
    "date": "DATE",
    "time": "TIME",
    "partial-time": "TIME",
    "uuid": "UUID",
}
#: Those that a row may have.
_VERSIONS = range(-(2**31), 2**31)
_DECIMAL_PLACES = 12
_DECIMAL_PLACES_MAX = 38

#: Names of DuckDB's own views: if one of ours hid them, SHOW TABLES would fail.
_OF_DUCKDB = frozenset(
    {
        "duckdb_columns", "duckdb_constraints", "duckdb_databases", "duckdb_indexes", "duckdb_logs", "duckdb_schemas",
        "duckdb_tables", "duckdb_types", "duckdb_views", "pragma_database_list", "sqlite_master", "sqlite_schema",
        "sqlite_temp_master", "sqlite_temp_schema",
    }
)  # fmt: skip


class Field(NamedTuple):
    """A field of a typed event: the type of its column, and what counts where a payload lacks it (PromotedColumn)."""

    kind: str
    absent: str = NOTHING


def logged_fields(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, Field]]:
    """Return the fields of each event type whose schema is in the index: `{"reading": {"celsius": Field("DOUBLE")}}`.

    If a type has several versions these are the fields of all of them; the latest version that has a field decides its
    type. A field with two types in one version is JSON. A default holds for the rows of its version, if all schemas of
    that version have it.
    """
    by_type: dict[str, dict[int, list[dict[str, _Declared]]]] = {}
    for (payload,) in connection.execute(SELECT_SCHEMAS).fetchall():
        try:
            logged = msgspec.json.decode(payload, type=EventSchema)
        except msgspec.MsgspecError:
            continue  # written by another program; it is an event like others
        if EVENT_TYPE.fullmatch(logged.name) and logged.name not in RESERVED | _OF_DUCKDB:
            schemas = by_type.setdefault(logged.name, {}).setdefault(logged.version, [])
            schemas.append(_declared(logged.json_schema))
    return {event_type: _fields(versions) for event_type, versions in by_type.items()}


class _Declared(NamedTuple):
    """What one schema says of a field: the type of its column, and its default as JSON."""

    kind: str
    default: str | None


def _fields(versions: dict[int, list[dict[str, _Declared]]]) -> dict[str, Field]:
    kinds: dict[str, str] = {}
    defaults: dict[str, dict[int, str]] = {}
    for version, schemas in sorted(versions.items()):
        for field in dict.fromkeys(field for schema in schemas for field in schema):
            declared = {schema.get(field) for schema in schemas}
            of_version = {each.kind for each in declared if each is not None}
            kinds[field] = of_version.pop() if len(of_version) == 1 else "JSON"
            defaults_of_version = {None if each is None else each.default for each in declared}
            default = defaults_of_version.pop()
            if default is not None and not defaults_of_version and version in _VERSIONS:
                defaults.setdefault(field, {})[version] = default
    fields = {field: Field(kind, default_of(defaults.get(field, {}))) for field, kind in kinds.items()}
    return dict(list(fields.items())[:_FIELDS_MAX])


def default_of(defaults: Mapping[int, str]) -> str:
    """Return SQL over `schema_version` for the default of a field, as JSON: `{1: "true"}` has one for version 1."""
    cases = [f"WHEN {version:d} THEN {literal(default)}" for version, default in defaults.items()]
    return f"CASE schema_version {' '.join(cases)} END" if cases else NOTHING


def _declared(json_schema: dict[str, Any]) -> dict[str, _Declared]:
    """Return the top-level fields of a JSON Schema, in their order."""
    properties = _resolve(json_schema, json_schema).get("properties")
    if not isinstance(properties, dict):
        return {}
    return {name: _Declared(_kind(part, json_schema), _default(part)) for name, part in properties.items() if name}


def _default(part: Any) -> str | None:
    default = part.get("default") if isinstance(part, dict) else None
    return None if default is None else msgspec.json.encode(default).decode()


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


def _kind(part: Any, whole: dict[str, Any]) -> str:
    """Return the DuckDB type of a field."""
    part = _resolve(part, whole)
    options = part.get("anyOf")
    if isinstance(options, list):
        parts = [_resolve(option, whole) for option in options]
        kinds = {_plain_kind(option) for option in parts if option.get("type") != "null"}
        return kinds.pop() if len(kinds) == 1 else "JSON"
    return _plain_kind(part)


def _plain_kind(part: dict[str, Any]) -> str:
    values = part.get("enum")
    if isinstance(values, list):
        types = {type(value) for value in values if value is not None}
        return {str: "VARCHAR", int: "HUGEINT"}.get(types.pop(), "JSON") if len(types) == 1 else "JSON"
    if part.get("type") != "string":
        return _SCALARS.get(str(part.get("type")), "JSON")
    if part.get("format") == "decimal":
        return f"DECIMAL(38,{_decimal_places(part.get('multipleOf'))})"
    return _FORMATS.get(str(part.get("format")), "VARCHAR")


def _decimal_places(unit: object) -> int:
    """Return the digits behind the point of multiples of `unit`; the usual number where a schema names no such unit."""
    if isinstance(unit, int | float) and 0 < unit < 1:
        exponent = Decimal(str(unit)).normalize().as_tuple().exponent
        return min(-int(exponent), _DECIMAL_PLACES_MAX)
    return _DECIMAL_PLACES


SELECT_SCHEMAS = f"""
SELECT payload FROM events WHERE event_type = {literal(SCHEMA_EVENT)}
ORDER BY TRY_CAST(payload ->> 'version' AS BIGINT), event_id, workspace NULLS FIRST
"""
