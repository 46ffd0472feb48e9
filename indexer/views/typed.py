"""Typed events in the index: promoted columns, and a view for each event type with a schema.

A registered event type logs its JSON Schema, and from then on has a view with a column for each field. The columns are
computed from the payload (eventlog.indexer.views.values). If the schema is in the index before the first row of the
type, fields with numbers, times, booleans and short texts are also stored as promoted columns, by the same rules:
reading them is far faster (docs/decisions/0014). Which columns are promoted changes no answer, so it may depend on the
order of arrival; a replay reads schemas first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple

import duckdb

from eventlog.format.schemas import SCHEMA_EVENT
from eventlog.indexer.index.schema import CONTENT, POSITION
from eventlog.indexer.sql import ident, literal, literals
from eventlog.indexer.views import recorded, sources, values
from eventlog.indexer.views.fields import Field, logged_fields
from eventlog.indexer.views.promoted import NOTHING, PromotedColumn

#: Every column costs each batch a little, even if it is empty.
PROMOTED_MAX = 200
_TEXT_MEAN_MAX_BYTES = 40
SAMPLE_ROWS = 1000
#: DuckDB writes a new column for all existing rows, in memory. If that would be more values than this, a type gets its
#: columns with the next replay, which reads a segment of each type first.
NEW_CELLS_MAX = 20_000_000
#: The column of a view with the values that do not fit their columns; promoted as the field without a name.
_UNFIT = "unfit"
_UNFIT_FIELD = ""
#: Every value fits these.
_FIT_ALL = ("VARCHAR", "JSON")
#: A context manager for a FROM clause.
Sample = AbstractContextManager[str]


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
        columns = [_own_column(event_type, field, declared) for field, declared in fields.items()]
        if any(column.kind not in _FIT_ALL for column in columns):
            columns.append(_unfit_column(event_type))
        for column in columns:
            if column.column.lower() not in names and len(names) < PROMOTED_MAX:  # DuckDB compares names without case
                _add(connection, column)
                names.add(column.column.lower())
                is_any_added = True
    return is_any_added


def _own_column(event_type: str, field: str, declared: Field) -> PromotedColumn:
    return PromotedColumn(event_type, field, declared.kind, absent=declared.absent)


def _unfit_column(event_type: str) -> PromotedColumn:
    return PromotedColumn(event_type, _UNFIT_FIELD, "JSON")


def _add(connection: duckdb.DuckDBPyConnection, column: PromotedColumn) -> None:
    connection.execute(ADD_COLUMN.format(column=ident(column.column), kind=column.kind))
    if column.absent != NOTHING:
        connection.execute(INSERT_ABSENT, [column.column, column.absent])


def _count(connection: duckdb.DuckDBPyConnection) -> int:
    row = connection.execute(COUNT_ROWS).fetchone()
    return int(row[0]) if row else 0


def _worth_promoting(
    connection: duckdb.DuckDBPyConnection, source: str, event_type: str, fields: Mapping[str, Field]
) -> dict[str, Field]:
    """Choose the fields whose values are small."""
    texts = [field for field, declared in fields.items() if declared.kind == "VARCHAR"]
    means: tuple[float | None, ...] = ()
    if texts:
        lengths = ", ".join(f"avg(strlen(payload ->> {literal(values.pointer(field))}))" for field in texts)
        statement = SELECT_OF_SAMPLE.format(columns=lengths, rows=source, event_type=literal(event_type))
        means = connection.execute(statement).fetchone() or ()
    long = {field for field, mean in zip(texts, means, strict=True) if (mean or 0) > _TEXT_MEAN_MAX_BYTES}
    return {field: each for field, each in fields.items() if each.kind != "JSON" and field not in long}


def promoted_columns(connection: duckdb.DuckDBPyConnection) -> list[PromotedColumn]:
    """Return the promoted columns of an index, in their order."""
    rows = connection.execute("PRAGMA table_info('event_rows')").fetchall()
    built_in = {column.column: column for column in (*recorded.PROMOTED, *sources.promoted())}
    absent = dict(connection.execute(SELECT_ABSENT).fetchall())
    columns = ((name, name.partition("/"), kind) for _, name, kind, *_ in rows)
    return [
        built_in.get(name) or PromotedColumn(event_type, field, kind, absent=absent.get(name, NOTHING))
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
    extracted, filled, unfits, rows = [], [], [], source
    for number, (event_type, columns) in enumerate(by_type.items()):
        fields = _Fields(event_type, [column for column in columns if column.field != _UNFIT_FIELD], f"json_{number}")
        extracted.append(f"{fields.extracted()} AS {fields.json}")
        filled += [f"{value} AS {ident(column.column)}" for column, value in fields.filled()]
        if len(columns) > len(fields.columns):
            unfits.append(f"{fields.unfit()} AS {ident(_unfit_column(event_type).column)}")
    on_the_way = {f"json_{number}": None for number in range(len(by_type))}  # in order
    for column in computed:
        condition = f"event_type = {literal(column.event_type)}"
        rows = column.stepped(rows, condition, there=on_the_way.keys())
        on_the_way |= dict.fromkeys(name for name, _ in column.steps)
        filled.append(f"CASE WHEN {condition} THEN {column.value('NULL')} END AS {ident(column.column)}")
    without = f" EXCLUDE ({', '.join(map(ident, on_the_way))})" if on_the_way else ""
    statement = INSERT_ROWS.format(
        columns=", ".join([f"*{without}", *unfits]), values=", ".join(["*", *filled]),
        json=", ".join(["*", *extracted]), rows=rows,
    )  # fmt: skip
    row = connection.execute(statement).fetchone()
    return int(row[0]) if row else 0


class _Fields(NamedTuple):
    """The promoted columns of one event type, and the name of a list with the JSON of their fields, in this order.

    All fields of a payload are extracted at once: each `->` would parse it again.
    """

    event_type: str
    columns: list[PromotedColumn]
    json: str

    def extracted(self) -> str:
        """Return SQL for the list; NULL for events of other types."""
        return f"CASE WHEN event_type = {literal(self.event_type)} THEN {_extracted(c.field for c in self.columns)} END"

    def filled(self) -> Iterator[tuple[PromotedColumn, str]]:
        """Yield SQL for the value of each column."""
        for number, column in enumerate(self.columns, start=1):
            json = f"{self.json}[{number}]"
            if column.absent == NOTHING:
                yield column, values.of_json(json, column.kind)
            else:
                given = f"CASE WHEN {self.json} IS NOT NULL THEN coalesce({json}, {column.absent}) END"
                yield column, values.of_expression(given, column.kind)

    def unfit(self) -> str:
        """Return SQL for the values that do not fit, over the columns."""
        return values.unfit(
            {
                column.field: (f"{self.json}[{number}]", ident(column.column))
                for number, column in enumerate(self.columns, start=1)
                if column.kind not in _FIT_ALL
            }
        )


def _extracted(fields: Iterable[str]) -> str:
    """Return SQL for a list with the JSON of some fields of `payload`."""
    return f"json_extract(payload, [{literals(map(values.pointer, fields))}])::VARCHAR[]"


# -- views -----------------------------------------------------------------------------------


def create_views(connection: duckdb.DuckDBPyConnection, statements: dict[str, str] | None = None) -> None:
    """Create or replace the view of each event type whose schema is in the index.

    Call it inside a transaction, since each statement would be a commit. `statements` has the CREATE VIEW statements of
    existing views, by event type; views with the same statement are skipped, and new statements are added.
    """
    statements = {} if statements is None else statements
    promoted = {*promoted_columns(connection), *recorded.AS_DECLARED}
    for event_type, fields in logged_fields(connection).items():
        statement = _view(event_type, fields, promoted)
        if statements.get(event_type) != statement:
            connection.execute(statement)
            statements[event_type] = statement


def _view(event_type: str, fields: Mapping[str, Field], promoted: Collection[PromotedColumn]) -> str:
    envelope_columns = [name for name in CONTENT if name not in ("event_type", "payload", "extra")]
    taken = {name.lower() for name in (*envelope_columns, _UNFIT, *POSITION)}
    parts = list(envelope_columns)
    for field, declared in fields.items():
        column = field
        while column.lower() in taken:  # DuckDB compares names without case
            column = f"payload_{column}"
        taken.add(column.lower())
        own = _own_column(event_type, field, declared)
        value = ident(own.column) if own in promoted else values.field(field, *declared)
        parts.append(f"{value} AS {ident(column)}")
    parts.append(f"{_unfit(event_type, fields, promoted)} AS {_UNFIT}")
    return (
        f"CREATE OR REPLACE VIEW {ident(event_type)} WITH (DEFER_BINDING) AS SELECT {', '.join([*parts, *POSITION])} "
        f"FROM event_rows WHERE event_type = {literal(event_type)}"
    )


def _unfit(event_type: str, fields: Mapping[str, Field], promoted: Collection[PromotedColumn]) -> str:
    """Return SQL for the values of a row that do not fit; the promoted column, if it is of exactly these fields."""
    kinds = {field: declared.kind for field, declared in fields.items() if declared.kind not in _FIT_ALL}
    column = _unfit_column(event_type)
    of_type = {each.field: each.kind for each in promoted if each.event_type == event_type and each != column}
    if column in promoted and {field: kind for field, kind in of_type.items() if kind not in _FIT_ALL} == kinds:
        return ident(column.column)
    pairs = {}
    for number, (field, kind) in enumerate(kinds.items(), start=1):
        pairs[field] = (f"json[{number}]", values.of_json(f"json[{number}]", kind))
    return f"[{values.unfit(pairs)} FOR json IN [{_extracted(kinds)}]][1]"


def count_unfit(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Return the event types with values that do not fit their columns, and how many events have such values."""
    counts = [
        COUNT_UNFIT.format(event_type=literal(event_type), view=ident(event_type))
        for event_type in sorted(logged_fields(connection))
    ]
    rows = connection.execute(" UNION ALL ".join(counts)).fetchall() if counts else []
    return {event_type: events for event_type, events in rows if events}


# -- statements ------------------------------------------------------------------------------

# `{rows}` is a FROM clause; the other parts depend on the fields of event types.

SELECT_TYPES_WITH_ROWS = (
    "SELECT DISTINCT event_type FROM segments WHERE events > 0 AND event_type IN (SELECT unnest(?))"
)
COUNT_ROWS = "SELECT count(*) FROM event_rows"
SELECT_ABSENT = "SELECT key, value FROM index_meta WHERE contains(key, '/')"
INSERT_ABSENT = "INSERT INTO index_meta VALUES (?, ?)"
ADD_COLUMN = "ALTER TABLE event_rows ADD COLUMN {column} {kind}"
SELECT_OF_SAMPLE = (
    f"SELECT {{columns}} FROM (SELECT payload FROM {{rows}} WHERE event_type = {{event_type}} LIMIT {SAMPLE_ROWS})"
)
COUNT_UNFIT = f"SELECT {{event_type}}, count({_UNFIT}) FROM {{view}}"
INSERT_ROWS = "INSERT INTO event_rows BY NAME SELECT {columns} FROM (SELECT {values} FROM (SELECT {json} FROM {rows}))"
