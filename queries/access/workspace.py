"""One workspace of an index: views over its rows and no others, created for each question.

    an empty database in memory                      the index, attached read-only under a random name
    ┌───────────────────────────────┐
    │ events, runs, llm_calls, …    │ the index's own definitions, over
    │ event_rows_…, conflicts       │ ── rows WHERE workspace = 'w' LIMIT all of them ──→  event_rows, conflicts
    │ rejected_…                    │ no rows: a rejected line has no workspace
    │ price_events                  │ also those without a workspace: prices for all workspaces
    └───────────────────────────────┘

Internal tables have random names here, and only the built-in columns: the others are fields of event types that may
belong to other workspaces.

The views are computed over the rows of the workspace, not filtered afterwards: they return what an index of this
workspace alone would return.

The LIMIT is a fence against the optimizer. Without it, DuckDB pushes the conditions of a query down to the scan and
evaluates them on rows of other workspaces first, and a condition that fails (`payload::INT`) reveals the value that it
failed on. DuckDB moves no condition through a LIMIT. It would drop a LIMIT that exceeds the number of rows, and its
plans would reveal the least and the greatest value of a column of all workspaces; so it must not use such statistics
(`disabled_optimizers`). `_validate_fence` examines a plan, and refuses a DuckDB that behaves differently.

All this was checked with some versions of DuckDB (see `checked_versions`). With another one, the rows of the workspace
are copied into another database in memory, which replaces the index: there is nothing else to see.

What a query may name at all is checked before (see `confinement`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable
from typing import Any

import duckdb

from eventlog.errors import IndexFailed, QueryFailed
from eventlog.format.schemas import RESERVED, SCHEMA_EVENT
from eventlog.indexer.index import schema
from eventlog.indexer.sql import ident, literal, literals
from eventlog.indexer.views.ordering import recorded
from eventlog.queries.access import checked_versions, confinement, sandbox

#: Tables and views of the whole log, or internal ones.
HIDDEN = frozenset({"event_rows", "rejected", "segments", "index_meta", SCHEMA_EVENT})
_ALL = 2**63 - 1
_PREFIX = "index_"
#: Matches `FROM events WHERE event_type = '…'` in built-in views; rewritten to a scan of that type.
#: No view has an OR there, which would admit other types; a test checks that.
_OF_ONE_TYPE = re.compile(r"\bFROM\s+(event_rows|events)\s+WHERE\s+(?=event_type\s*=\s*'([a-z_]+)')")
#: Tables of the index that have random names here.
_INTERNAL = re.compile(r"(?<=\bFROM )(event_rows|rejected)\b")
#: "Did you mean …" names tables of all catalogs.
_HINT = re.compile(r"\n?Did you mean[^\n]*")
#: DuckDB versions whose plan was validated in this process.
_validated: set[str] = set()


def unguessable() -> str:
    """Return a name that no query can contain."""
    return f"{_PREFIX}{os.urandom(16).hex()}"


def configure(connection: duckdb.DuckDBPyConnection) -> None:
    """Change the settings that the fence needs, before the settings of a connection are locked."""
    connection.execute("SET disabled_optimizers = 'statistics_propagation'")
    # Otherwise a LIMIT preserves the order of the rows, and collects all of them first.
    connection.execute("SET preserve_insertion_order = false")


class Workspace:
    """The views of one workspace, created when they are needed. The connection is hardened, and `index` attached to it.

    Without `fenced` there is no LIMIT and no copy. That is faster where rows are selected by time or run, and only for
    trusted SQL whose conditions cannot fail on any row.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, index: str, name: str, *, fenced: bool = True) -> None:
        self._connection = connection
        self._index = index
        self._name = _name(name)
        self._limit = f" LIMIT {_ALL}" if fenced else ""
        found = connection.execute(_DEFINITIONS, [index]).fetchall()
        self._definitions: dict[str, str] = {view: _plain(view, definition) for view, definition in found}
        self._made = {"conflicts", "price_events"}
        self._suffix = index.removeprefix(_PREFIX)
        connection.execute("USE memory")
        is_checked_version = not fenced or checked_versions.is_checked(connection)
        if not is_checked_version:
            self._copy()
        for view, query in self._base().items():
            connection.execute(_CREATE_VIEW.format(name=view, query=query))
        if fenced and is_checked_version:
            _validate_fence(connection, self._internal("event_rows"))

    def _base(self) -> dict[str, str]:
        """Return the queries of the tables that all other views read, by name."""
        built_in = " ".join(text for name, text in self._definitions.items() if name in RESERVED).lower()
        # The names that the table has: what looks like one in a view may be a JSON path, such as '$."text/plain"'.
        promoted = [column for column in self._promoted() if column.lower() in built_in]
        columns = [*schema.CONTENT, *schema.POSITION, *schema.COPIED, *promoted]
        return {
            self._internal("event_rows"): self._rows_of("event_rows", columns=columns),
            self._internal("rejected"): self._nothing_of("rejected"),
            "conflicts": self._rows_of("conflicts"),
            "price_events": _PRICE_EVENTS.format(
                prices=recorded(self._is_price, rows=f"{self._index}.main.event_rows"), limit=self._limit
            ),
        }

    def _promoted(self) -> list[str]:
        """Return the promoted columns of the index, quoted."""
        return [ident(name) for name in self._columns_of("event_rows") if "/" in name]

    @property
    def _is_price(self) -> str:
        return f"event_type = 'price_set' AND (workspace IS NULL OR workspace = {self._name})"

    def _internal(self, table: str) -> str:
        return f"{table}_{self._suffix}"

    def _copy(self) -> None:
        """Replace the index by a database that holds the rows of this workspace, and no others."""
        own = self._types(self._definitions)
        used = " ".join(text for name, text in self._definitions.items() if name in RESERVED or name in own)
        copy, run = unguessable(), self._connection.execute
        run(f"ATTACH ':memory:' AS {copy}")
        for table in ("event_rows", "conflicts", "rejected"):
            names = map(ident, self._columns_of(table))
            columns = ", ".join(name for name in names if "/" not in name or name in used)
            wanted = {
                "event_rows": f"workspace = {self._name} OR {self._is_price}",
                "conflicts": f"workspace = {self._name}",
                "rejected": "false",
            }
            run(
                _COPY_TABLE.format(copy=copy, selected=columns, index=self._index, table=table, condition=wanted[table])
            )
        run(f"DETACH {self._index}")
        self._index = copy

    def _rows_of(self, table: str, event_type: str | None = None, *, columns: Iterable[str] = ("*",)) -> str:
        of_type = "" if event_type is None else f" AND event_type = {literal(event_type)}"
        return _ROWS.format(
            selected=", ".join(columns), index=self._index, table=table,
            condition=f"workspace = {self._name}{of_type}", limit=self._limit,
        )  # fmt: skip

    def _nothing_of(self, table: str) -> str:
        return _NO_ROWS.format(index=self._index, table=table)

    def _columns_of(self, table: str) -> list[str]:
        return [name for name, *_ in self._connection.execute(self._nothing_of(table)).description or ()]

    def has(self, name: str) -> bool:
        """Return whether there is such a view. The view of an event type exists if the workspace has such events."""
        if name in HIDDEN:
            return False
        if name in RESERVED:
            return name in self._definitions or name == "conflicts"
        return name in self._definitions and bool(self._types([name]))

    def names(self) -> list[str]:
        """Return the names of all views, sorted."""
        own = set(self._types(self._definitions))
        return sorted((self._definitions.keys() & (own | RESERVED) | {"conflicts"}) - HIDDEN)

    def _types(self, among: Iterable[str]) -> list[str]:
        statement = _TYPES.format(index=self._index, workspace=self._name)
        return [row[0] for row in self._connection.execute(statement, [list(among)]).fetchall()]

    def make(self, names: Collection[str] | None = None) -> None:
        """Create views that exist in the index, and those that they read; None: all but those of event types."""
        for name in sorted(self._definitions.keys() & RESERVED) if names is None else names:
            if name in self._definitions:
                self._make(name)

    def _make(self, name: str) -> None:
        if name in self._made:
            return
        self._made.add(name)
        definition = self._definitions[name]
        if name in RESERVED:
            for other in sorted(self._definitions.keys() & RESERVED):
                if re.search(rf"\b{other}\b", definition):
                    self._make(other)
            rest = iter(_OF_ONE_TYPE.split(definition))
            definition = self._renamed(next(rest))
            for table, event_type, part in zip(rest, rest, rest, strict=True):
                own = self._rows_of("event_rows", event_type)
                definition += _FROM_OWN.format(query=own, table=table, condition=self._renamed(part))
        else:
            # Fields may have any name: only the end of the definition is replaced.
            end = _FROM_ALL.format(event_type=literal(name))
            own = self._rows_of("event_rows", name)
            definition = definition.removesuffix(end) + _FROM_OWN_OF_TYPE.format(query=own)
        self._connection.execute(definition)

    def _renamed(self, definition: str) -> str:
        return _INTERNAL.sub(lambda found: self._internal(found[1]), definition)

    def admit(self, checked: sandbox.Checked, on_demand: Collection[str]) -> str:
        """Confine a query to this workspace and create the views it names; return the statement. Raises QueryFailed."""
        if checked.is_explain:
            raise QueryFailed("EXPLAIN is refused in a workspace: plans tell of tables as a whole")
        if confinement.asks_for_tables(checked.tree):
            names = literals(sorted({*self.names(), *on_demand}))
            return _SHOW_TABLES.format(names=names)
        taken = confinement.catalog_names(self._connection)
        confinement.confine(checked.tree, lambda name: name in on_demand or self.has(name), taken)
        self.make(None if checked.tables & set(on_demand) else [])
        self.make([name for name in sorted(checked.tables) if self.has(name)])
        return checked.statement


def _plain(name: str, definition: str) -> str:
    """Return the CREATE VIEW statement of a view, which may be run before the views that it reads exist."""
    query = schema.query_of(definition)
    return definition if query is None else _CREATE_VIEW_UNBOUND.format(name=name, query=query)


def _name(value: str) -> str:
    """Return the name of a workspace as a literal. Raises QueryFailed for what cannot be the name of a workspace."""
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        encoded = b"\0"
    if b"\0" in encoded:
        raise QueryFailed(f"{value!r} is not the name of a workspace")
    return literal(value)


def without_hints(message: str, hidden: Iterable[str]) -> str:
    """Remove the names that DuckDB proposes (they may be those of others) and hidden names from an error message."""
    text = _HINT.sub("", message)
    for name in hidden:
        text = text.replace(name, "…")
    return text


def _validate_fence(connection: duckdb.DuckDBPyConnection, rows: str) -> None:
    """Raise IndexFailed where DuckDB moves a condition through the LIMIT. Checked once in a process."""
    if duckdb.__version__ in _validated:
        return
    ((_, plan),) = connection.execute(f"EXPLAIN (FORMAT json) {_FAILS_ON_ROWS.format(rows=rows)}").fetchall()
    order = [name for name in _operators(json.loads(plan)) if name in ("FILTER", "LIMIT", "SCAN")]
    if order[-2:] != ["LIMIT", "SCAN"] or "FILTER" not in order[:-2] or order.count("LIMIT") != 1:
        raise IndexFailed(
            f"DuckDB {duckdb.__version__} plans queries in a way that could show one workspace to another; "
            f"use one of {', '.join(checked_versions.CHECKED)}"
        )
    _validated.add(duckdb.__version__)


def _operators(plan: Any) -> list[str]:
    """Return the operators of a plan from top to bottom, by the last word of their names."""
    operators = []
    nodes = plan
    while nodes:
        (node,) = nodes
        operators.append(str(node["name"]).strip().replace(" ", "_").upper().split("_")[-1])
        nodes = node["children"]
    return operators


# -- SQL -----------------------------------------------------------------------------------
# Parts in braces: DuckDB takes no parameters in a view, and none for names.

_DEFINITIONS = "SELECT view_name, sql FROM duckdb_views() WHERE database_name = ? AND NOT internal"
_CREATE_VIEW = "CREATE VIEW {name} AS {query}"
#: May be run before the views that the query reads exist.
_CREATE_VIEW_UNBOUND = "CREATE VIEW {name} WITH (DEFER_BINDING) AS {query}"
_ROWS = "SELECT {selected} FROM {index}.main.{table} WHERE {condition}{limit}"
_NO_ROWS = "SELECT * FROM {index}.main.{table} LIMIT 0"
_COPY_TABLE = "CREATE TABLE {copy}.main.{table} AS SELECT {selected} FROM {index}.main.{table} WHERE {condition}"
_PRICE_EVENTS = """
    SELECT event_id, timestamp, workspace, payload, latest, recorded, segment, line_offset FROM ({prices}){limit}
"""
_TYPES = """
    SELECT DISTINCT event_type FROM {index}.main.event_rows
    WHERE workspace = {workspace} AND event_type IN (SELECT unnest(?::VARCHAR[]))
"""
_SHOW_TABLES = "SELECT unnest([{names}]) AS name"
#: The end of the definition of a view: of an event type in the index, and what replaces it here; of a built-in view.
_FROM_ALL = "FROM event_rows WHERE (event_type = {event_type});"
_FROM_OWN_OF_TYPE = "FROM ({query});"
_FROM_OWN = "FROM ({query}) AS {table} WHERE {condition}"
#: The cast fails on every row, so it must be evaluated for no row of another workspace.
_FAILS_ON_ROWS = "SELECT count(*) FROM {rows} WHERE run_id = 'x' AND segment::BIGINT = 1"
