"""One workspace of an index: views that hold its rows and nothing else, made anew for each question.

    an empty database in memory                      the index, attached read-only under a name that nobody knows
    ┌───────────────────────────────┐
    │ events, runs, llm_calls, …    │ the index's own definitions, over
    │ event_rows, conflicts         │ ── rows WHERE workspace = 'w' LIMIT all of them ──→  event_rows, conflicts
    │ rejected                      │ no rows: what is no event has no workspace
    │ price_events                  │ also those without a workspace: prices that were set for all
    └───────────────────────────────┘

Nothing of a view is left out by a condition that comes later: the index's definitions are computed over the rows of the
workspace, so they say what an index of this workspace alone would say.

The LIMIT is a fence against the optimiser. Without it the conditions of a query are pushed down to the scan
and tried on the rows of others first, and those that fail (`payload::INT`) tell what they failed on. No
condition is moved through a LIMIT. DuckDB would drop one that cannot be reached, from what it knows
of the sizes of tables, and would tell by its plans what the least and the greatest value of a column is, whoever
it belongs to: it must not look at such statistics (`disabled_optimizers`). `_prove` looks at a plan, so
that a DuckDB that does otherwise is refused.

All this was checked with some versions of DuckDB (queries.checked_versions). With another one, the rows of the
workspace are copied into the database in memory first, and the index is detached: then there is nothing else to see.

What a query may name at all is looked at before (queries.confinement).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable
from typing import Any

import duckdb

from eventlog.errors import IndexFailed, QueryFailed
from eventlog.schemas import RESERVED, SCHEMA_EVENT
from indexer import schema
from indexer.kept import quoted
from queries import confinement, sandbox
from queries.checked_versions import CHECKED, is_checked

#: Of the whole log, or internal.
HIDDEN = frozenset({"event_rows", "rejected", "segments", "index_meta", SCHEMA_EVENT})
_ALL = 2**63 - 1
#: A part of one of our own definitions that wants one type, and perhaps more of it: it gets a scan of that type. None
#: of them has an OR, which would let in others; a test looks for that.
_OF_ONE_TYPE = re.compile(r"\bFROM\s+(event_rows|events)\s+WHERE\s+(?=event_type\s*=\s*'([a-z_]+)')")
_proven: set[str] = set()


def unguessable() -> str:
    """Return a name that no query can contain."""
    return f"index_{os.urandom(16).hex()}"


def settle(connection: duckdb.DuckDBPyConnection) -> None:
    """Set what must be set before the settings of a connection are locked."""
    connection.execute("SET disabled_optimizers = 'statistics_propagation'")
    # Otherwise a LIMIT keeps the order of the rows, and to do that collects them all.
    connection.execute("SET preserve_insertion_order = false")


class Workspace:
    """The views of one workspace, made as they are asked for. The connection is hardened, and `index` attached to it.

    Without `fenced` the LIMIT is left out, and nothing is copied. That is faster where rows are picked by time or run,
    and only for SQL of our own whose conditions cannot fail on any row.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, index: str, name: str, *, fenced: bool = True) -> None:
        self._connection = connection
        self._index = index
        self._name = text(name)
        is_copied = fenced and not is_checked(connection)
        self._limit = f" LIMIT {_ALL}" if fenced and not is_copied else ""
        found = connection.execute(
            "SELECT view_name, sql FROM duckdb_views() WHERE database_name = ? AND NOT internal", [index]
        ).fetchall()
        self._definitions: dict[str, str] = {view: _plain(view, definition) for view, definition in found}
        self._made = {"event_rows", "conflicts", "rejected", "price_events"}
        connection.execute("USE memory")
        if is_copied:
            self._copy()
            return
        for table, query in self._base().items():
            connection.execute(f"CREATE VIEW {table} AS {query}")
        if fenced:
            _prove(connection)

    def _copy(self) -> None:
        """Copy what all views stand on, and detach the index. Columns that are kept for types of others stay behind."""
        own = [*RESERVED, *self._types(self._definitions)]
        used = " ".join(self._definitions[name] for name in own if name in self._definitions)
        for table, query in self._base().items():
            names = [column[0] for column in self._connection.execute(f"FROM ({query}) LIMIT 0").description or ()]
            columns = [quoted(name) for name in names if "/" not in name or quoted(name) in used]
            self._connection.execute(f"CREATE TABLE {table} AS SELECT {', '.join(columns)} FROM ({query})")
        self._connection.execute(f"DETACH {self._index}")
        self._index = "memory"

    def _base(self) -> dict[str, str]:
        """Return the queries for what all other views stand on, by name."""
        return {
            "event_rows": self._rows_of("event_rows"),
            "conflicts": self._rows_of("conflicts"),
            "price_events": (
                f"SELECT event_id, timestamp, workspace, payload FROM {self._index}.main.event_rows "
                f"WHERE event_type = 'price_set' AND (workspace IS NULL OR workspace = {self._name}){self._limit}"
            ),
            "rejected": f"SELECT * FROM {self._index}.main.rejected LIMIT 0",
        }

    def _rows_of(self, table: str, event_type: str | None = None) -> str:
        of_type = "" if event_type is None else f" AND event_type = {text(event_type)}"
        return f"SELECT * FROM {self._index}.main.{table} WHERE workspace = {self._name}{of_type}{self._limit}"

    def has(self, name: str) -> bool:
        """Say whether there is such a view. The view of an event type is there if the workspace has such events."""
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
        found = self._connection.execute(
            f"SELECT DISTINCT event_type FROM {self._index}.main.event_rows "
            f"WHERE workspace = {self._name} AND event_type IN (SELECT unnest(?::VARCHAR[]))",
            [list(among)],
        ).fetchall()
        return [row[0] for row in found]

    def make(self, names: Collection[str] | None = None) -> None:
        """Make those of some views that are there, and what they stand on; all but those of event types, if None."""
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
            definition = _OF_ONE_TYPE.sub(
                lambda found: f"FROM ({self._rows_of('event_rows', found[2])}) AS {found[1]} WHERE ",
                definition,
            )
        else:
            # Fields have the names that somebody gave them: here nothing but the end is looked at.
            end = f"FROM event_rows WHERE (event_type = '{name}');"
            definition = definition.removesuffix(end) + f"FROM ({self._rows_of('event_rows', name)});"
        self._connection.execute(definition)

    def admit(self, checked: sandbox.Checked, on_demand: Collection[str]) -> str:
        """Return what to run for a query that stays in here, with the views that it names made. Raises QueryFailed."""
        if checked.is_explain:
            raise QueryFailed("EXPLAIN is refused in a workspace: plans tell of tables as a whole")
        if confinement.asks_for_tables(checked.tree):
            names = ", ".join(text(name) for name in sorted({*self.names(), *on_demand}))
            return f"SELECT unnest([{names}]) AS name"
        confinement.confine(checked.tree, lambda name: name in on_demand or self.has(name))
        self.make(None if checked.tables & set(on_demand) else [])
        self.make([name for name in sorted(checked.tables) if self.has(name)])
        return checked.statement


def _plain(name: str, definition: str) -> str:
    """Return what makes a view, with its query in it rather than the text of one; in whatever order they are made."""
    query = schema.query_of(definition)
    return definition if query is None else f"CREATE VIEW {name} WITH (DEFER_BINDING) AS {query}"


def text(value: str) -> str:
    """Return a text as SQL has it. Raises QueryFailed for what cannot be the name of a workspace."""
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        encoded = b"\0"
    if b"\0" in encoded:
        raise QueryFailed(f"{value!r} is not the name of a workspace")
    return "'" + value.replace("'", "''") + "'"


def without_hints(message: str) -> str:
    """Return an error of DuckDB without the names that it proposes: they may be those of others."""
    return "\n".join(line for line in message.splitlines() if not line.startswith("Did you mean"))


def _prove(connection: duckdb.DuckDBPyConnection) -> None:
    """Raise IndexFailed where a condition gets past the LIMIT. Once in a process is enough."""
    if duckdb.__version__ in _proven:
        return
    query = "SELECT count(*) FROM event_rows WHERE run_id = 'x' AND segment::BIGINT = 1"
    ((_, plan),) = connection.execute(f"EXPLAIN (FORMAT json) {query}").fetchall()
    order = [name for name in _operators(json.loads(plan)) if name in ("FILTER", "LIMIT", "SCAN")]
    if order[-2:] != ["LIMIT", "SCAN"] or "FILTER" not in order[:-2] or order.count("LIMIT") != 1:
        raise IndexFailed(
            f"DuckDB {duckdb.__version__} plans queries in a way that could show one workspace to another; "
            f"use one of {', '.join(CHECKED)}"
        )
    _proven.add(duckdb.__version__)


def _operators(plan: Any) -> list[str]:
    """Return the operators from top to bottom, by the last word of their names."""
    found = []
    nodes = plan
    while nodes:
        (node,) = nodes
        found.append(str(node["name"]).strip().replace(" ", "_").upper().split("_")[-1])
        nodes = node["children"]
    return found
