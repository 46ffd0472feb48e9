"""The reading half of sources: which columns their events have, and how their lines become rows of the shared views.

A source (eventlog.importers.sources) names its `SourceViews`; the views of the index unite their selects with those of
recorded events. An index says in `index_meta` which sources it was made with: one that lacks a source of this process
is rebuilt from the log, and one that has a source which this process does not know is refused, since its columns
could not be filled.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import duckdb
import msgspec

from eventlog.errors import IndexFailed, InvalidSource
from eventlog.importers import sources
from eventlog.importers.sources import LeftOut, Source
from eventlog.indexer.index.engine import CONFIG
from eventlog.indexer.index.schema import CONTENT, COPIED, POSITION
from eventlog.indexer.sql import ident, literal
from eventlog.indexer.views.promoted import PromotedColumn

#: The columns of each view, in this order. A select gives those of them that its source knows; the others are NULL.
COLUMNS = {
    "llm_calls": {
        "message_id": "VARCHAR",
        "request_id": "VARCHAR",
        "run_id": "VARCHAR",
        "session_id": "VARCHAR",
        "parent_event_id": "VARCHAR",
        "subagent_id": "VARCHAR",
        "workspace": "VARCHAR",
        "agent": "VARCHAR",
        "source": "VARCHAR",
        "project": "VARCHAR",
        "branch": "VARCHAR",
        "provider": "VARCHAR",
        "model": "VARCHAR",
        "request_model": "VARCHAR",
        "uncached_input_tokens": "BIGINT",
        "cache_read_tokens": "BIGINT",
        "cache_write_5m_tokens": "BIGINT",
        "cache_write_1h_tokens": "BIGINT",
        "output_tokens": "BIGINT",
        "reasoning_tokens": "BIGINT",
        "stop_reason": "VARCHAR",
        "service_tier": "VARCHAR",
        "raw_usage": "JSON",
        "usage_problem": "VARCHAR",
        "web_searches": "BIGINT",
        "inference_geo": "VARCHAR",
        "output_chars": "BIGINT",
        "latency_ms": "DOUBLE",
        "ttft_ms": "DOUBLE",
        "ok": "BOOLEAN",
        "error_type": "VARCHAR",
        "reported_cost_usd": "DECIMAL(38,18)",
        "timestamp": "TIMESTAMP",
        "last_timestamp": "TIMESTAMP",
        "event_id": "UUID",
    },
    "tool_calls": {
        "tool_call_id": "VARCHAR",
        "message_id": "VARCHAR",
        "run_id": "VARCHAR",
        "session_id": "VARCHAR",
        "parent_event_id": "VARCHAR",
        "subagent_id": "VARCHAR",
        "workspace": "VARCHAR",
        "agent": "VARCHAR",
        "source": "VARCHAR",
        "tool": "VARCHAR",
        "input": "JSON",
        "output": "JSON",
        "block": "BIGINT",
        "timestamp": "TIMESTAMP",
        "finished": "TIMESTAMP",
        "duration_ms": "DOUBLE",
        "ok": "BOOLEAN",
        "error_type": "VARCHAR",
        "event_id": "UUID",
    },
    "sessions": {
        "workspace": "VARCHAR",
        "session_id": "VARCHAR",
        "project": "VARCHAR",
        "branch": "VARCHAR",
        "summary": "VARCHAR",
        "title": "VARCHAR",
        "title_source": "VARCHAR",
    },
    "messages": {
        "role": "VARCHAR",
        "text": "VARCHAR",
        "kind": "VARCHAR",
        "block": "BIGINT",
        "model": "VARCHAR",
        "run_id": "VARCHAR",
        "session_id": "VARCHAR",
        "parent_event_id": "VARCHAR",
        "subagent_id": "VARCHAR",
        "workspace": "VARCHAR",
        "agent": "VARCHAR",
        "source": "VARCHAR",
        "timestamp": "TIMESTAMP",
        "event_id": "UUID",
    },
}
#: Those that a select must give: a row without them belongs to nobody, or would be left out of sums.
_OF_ALL = ("workspace", "source", "timestamp", "event_id")
_NEEDED = {
    "llm_calls": (
        *_OF_ALL, "model", "uncached_input_tokens", "cache_read_tokens", "cache_write_5m_tokens",
        "cache_write_1h_tokens", "output_tokens", "ok",
    ),
    "tool_calls": (*_OF_ALL, "tool", "ok"),
    "sessions": ("workspace", "session_id"),
    "messages": (*_OF_ALL, "role", "text"),
}  # fmt: skip
_META_KEY = "sources"
#: Once in a process is enough: to describe a select takes milliseconds.
_checked: set[tuple[str, tuple[str, ...], SourceViews]] = set()
#: Functions that a FROM clause may have: of their arguments alone.
_TABLE_FUNCTIONS = frozenset({"unnest", "range", "generate_series", "json_each", "json_tree"})


class Copies(NamedTuple):
    """How copies of a line are known (eventlog.indexer.load.copies), by promoted columns of one event type.

    `line` (UUID) is equal in a line and its copies, and NULL in a line that is never copied. `fork` is SQL over
    promoted columns: true for a line that says itself that it is a copy.
    """

    event_type: str
    line: PromotedColumn
    fork: str


class CopiedLines(NamedTuple):
    """How copies are known where no line has a mark of its own: by a select over the lines of one event type.

    `lines` gives workspace and event_id of each copy. `forks` gives workspace, session_id and ancestor for each session
    that may have copies and each session that these may be of, rather too many than too few: `lines` is asked with the
    lines of a fork and its ancestors alone. Both take rows from `rows_of(event_type, with_copies=True)`.
    """

    event_type: str
    lines: str
    forks: str


class SourceViews(msgspec.Struct, frozen=True, kw_only=True):
    """The reading half of a source. A select is None where the source has nothing of the kind.

    promoted    columns of its event types that are filled when an event is indexed, so that a select need not look at
                its payload
    copies      how copies of its lines are known; None where its program copies none
    llm_calls   one row per model call; COLUMNS names the columns of each select, their types and their order
    tool_calls  one row per tool call
    sessions    one row per workspace and session that its program names a project or a summary for
    messages    one row per text that somebody wrote: a user, a model; `kind` (eventlog.indexer.views.messages) tells
                what was thought from what was said

    A select reads the rows of an event type from `rows_of` and from nowhere else, and fails on no payload: TRY_CAST,
    TRY. An expression that fails gives NULL.
    """

    promoted: tuple[PromotedColumn, ...] = ()
    copies: Copies | CopiedLines | None = None
    llm_calls: str | None = None
    tool_calls: str | None = None
    sessions: str | None = None
    messages: str | None = None

    def __post_init__(self) -> None:
        # A list is as good; but what is remembered in a set must not change.
        msgspec.structs.force_setattr(self, "promoted", tuple(PromotedColumn(*column) for column in self.promoted))


def rows_of(event_type: str, *, with_copies: bool = False) -> str:
    """Return the subquery for the FROM clause of a source's select: events of a type, with their promoted columns.

    Without copies of other lines, unless they are asked for.

    Always write it with this function: a store of one workspace replaces exactly this text by a subquery over the rows
    of its workspace.
    """
    originals = "" if with_copies else " AND copied IS NULL"
    return f"(SELECT * FROM event_rows WHERE event_type = {literal(event_type)}{originals})"


def copies() -> list[Copies | CopiedLines]:
    """Return how the copies of lines are known, of all sources that have some. Raises InvalidSource."""
    return [views.copies for _, views in _all() if views.copies is not None]


def promoted() -> list[PromotedColumn]:
    """Return the promoted columns of all sources. Raises InvalidSource."""
    return [column for _, views in _all() for column in views.promoted]


def united(view: str, recorded: str, present: Collection[str]) -> str:
    """Return the query of a view: that of recorded events, and the selects of sources. Raises InvalidSource.

    Of those sources that have one of the event types `present`.
    """
    return " UNION ALL BY NAME ".join(map(_in_parentheses, [recorded, *_selects(view, present)]))


def sessions(present: Collection[str]) -> str:
    """Return a query with one row per workspace and session that a source says something of. Raises InvalidSource."""
    rows = " UNION ALL BY NAME ".join(map(_in_parentheses, [_NO_SESSIONS, *_selects("sessions", present)]))
    return _SESSIONS_OF_SOURCES.format(rows=rows)


#: For the names and types of the columns that no source gives.
_NO_SESSIONS = (
    f"SELECT {', '.join(f'NULL::{kind} AS {name}' for name, kind in COLUMNS['sessions'].items())} WHERE false"
)
#: A session without a title is called by its project.
_SESSIONS_OF_SOURCES = """
SELECT workspace, session_id, min(project) AS project, max(branch) AS branch, max(summary) AS summary,
       coalesce(max(title), min(project)) AS title,
       coalesce(max(title_source), CASE WHEN min(project) IS NOT NULL THEN 'project' END) AS title_source
FROM ({rows}) GROUP BY ALL
"""


def _in_parentheses(select: str) -> str:
    return f"FROM (\n{select}\n)"  # the select may end in a comment


def _selects(view: str, present: Collection[str]) -> Iterator[str]:
    for source, views in _all():
        select = getattr(views, view)
        if select is not None and not set(present).isdisjoint(source.event_types):
            yield select


def _all() -> list[tuple[Source, SourceViews]]:
    loaded = [(source, sources.load_views(source, SourceViews)) for source in sources.all_sources()]
    return [(source, views) for source, views in loaded if views is not None]


def left_out() -> list[LeftOut]:
    """Return the entry points that are left out since they cannot be loaded: sources, or their reading halves.

    Raises InvalidSource.
    """
    _all()
    return sources.left_out()


# -- in an index -----------------------------------------------------------------------------


def check() -> None:
    """Raise InvalidSource where a promoted column or a select of a source could not be used in an index.

    Nothing is tried twice in a process, and the sources that come with eventlog are not tried at all: a test does that,
    and it takes longer than to make an index.
    """
    unchecked = {key: value for key, value in _keyed() if key not in _checked and not sources.is_built_in(value[0])}
    for key, (source, views) in unchecked.items():
        check_one(source, views)
        _checked.add(key)


def check_one(source: Source, views: SourceViews) -> None:
    """Try the reading half of a source in an empty database that sees no files, as a reader does not.

    Raises InvalidSource.
    """
    with duckdb.connect(config=dict(CONFIG)) as connection:
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        _check_promoted(connection, source, views)
        for view in COLUMNS:
            select = getattr(views, view)
            if select is not None:
                its_select = f"source {source.name!r}: its select for {view}"
                for columns in _described(connection, source, views, its_select, select):
                    _check_columns(its_select, view, columns)
        if isinstance(views.copies, CopiedLines):
            for part, needed in (("lines", _OF_LINE), ("forks", _OF_FORK)):
                its_select = f"source {source.name!r}: its select for {part} of copies"
                for columns in _described(connection, source, views, its_select, getattr(views.copies, part)):
                    if columns != needed:
                        raise InvalidSource(f"{its_select} is to have the columns {', '.join(needed)} alone")


def _keyed() -> Iterator[tuple[tuple[str, tuple[str, ...], SourceViews], tuple[Source, SourceViews]]]:
    return (((source.name, tuple(source.event_types), views), (source, views)) for source, views in _all())


def _check_promoted(connection: duckdb.DuckDBPyConnection, source: Source, views: SourceViews) -> None:
    names: set[str] = set()
    steps: dict[str, str] = {}
    if isinstance(views.copies, Copies) and views.copies.line not in views.promoted:
        raise InvalidSource(f"source {source.name!r}: the column of its copies is not among its promoted columns")
    for column in views.promoted:
        its_column = f"source {source.name!r}: its promoted column {column.column!r}"
        if column.event_type not in source.event_types:
            raise InvalidSource(f"{its_column} is of a type that is not its own")
        if column.column.lower() in names:
            raise InvalidSource(f"{its_column} is there twice; DuckDB compares names without case")
        names.add(column.column.lower())
        if any(steps.setdefault(name, expression) != expression for name, expression in column.steps):
            raise InvalidSource(f"{its_column} has a step of another column, with other SQL")
        try:
            connection.execute(f"SELECT {column.value('NULL')} FROM {column.stepped(_A_PAYLOAD)}")
            connection.execute(f"SELECT NULL AS {ident(column.column)}")
        except (duckdb.Error, UnicodeEncodeError) as error:
            raise InvalidSource(f"{its_column} is refused by DuckDB: {error}") from error
    if isinstance(views.copies, Copies):
        columns = ", ".join(f"NULL::{column.kind} AS {ident(column.column)}" for column in views.promoted)
        try:
            connection.execute(f"SELECT ({views.copies.fork})::BOOLEAN FROM (SELECT {columns})")
        except duckdb.Error as error:
            raise InvalidSource(f"source {source.name!r}: the mark of its copies is refused: {error}") from error


_A_PAYLOAD = "(SELECT '{}'::JSON AS payload)"


_OF_LINE = {"workspace": "VARCHAR", "event_id": "UUID"}
_OF_FORK = {"workspace": "VARCHAR", "session_id": "VARCHAR", "ancestor": "VARCHAR"}


def _described(
    connection: duckdb.DuckDBPyConnection, source: Source, views: SourceViews, its_select: str, select: str
) -> Iterator[dict[str, str]]:
    """Yield the columns of a select as views use it: over those of a whole index, and over those of one workspace."""
    rows = f"rows_{os.urandom(8).hex()}"  # in the place of `event_rows`, which a select may not name
    own = select
    for event_type in source.event_types:
        for with_copies in (False, True):
            its_rows = rows_of(event_type, with_copies=with_copies)
            own = own.replace(its_rows, its_rows.replace("event_rows", rows))
    try:
        ((text,),) = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [own]).fetchall()
        tree = msgspec.json.decode(text)
        if tree["error"] or len(tree["statements"]) != 1:
            raise InvalidSource(f"{its_select} is not one SELECT: {tree.get('error_message', 'it is several')}")
        for name in _read(tree):
            if name != rows:
                raise InvalidSource(
                    f"{its_select} reads {name}, not its own events; take rows from rows_of(event_type)"
                )
        # A store of one workspace has the promoted columns that views mention, by their quoted names.
        mentioned = [column for column in views.promoted if ident(column.column).lower() in select.lower()]
        for promoted in (views.promoted, mentioned):
            types = CONTENT | POSITION | COPIED | {ident(column.column): column.kind for column in promoted}
            connection.execute(f"CREATE TABLE {rows} ({', '.join(f'{name} {kind}' for name, kind in types.items())})")
            described = connection.execute(f"DESCRIBE {_in_parentheses(own)}").fetchall()
            connection.execute(f"DROP TABLE {rows}")
            yield {name: kind for name, kind, *_ in described}
    except duckdb.Error as error:
        raise InvalidSource(f"{its_select} is refused by DuckDB: {error}") from error


def _read(tree: Any) -> Iterator[str]:
    """Yield the names of tables and table functions that a parse tree reads, except those of its own WITH clauses."""
    nodes = [tree]
    tables: set[str] = set()
    own: set[str] = set()
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            own.update(part["key"].lower() for part in node.get("cte_map", {}).get("map", ()))
            if node.get("type") == "BASE_TABLE":
                tables.add(".".join(node["qualified_name"]["path"]))
            elif node.get("type") == "TABLE_FUNCTION" and node["function"]["function_name"] not in _TABLE_FUNCTIONS:
                tables.add(f"{node['function']['function_name']}()")
            nodes += node.values()
        elif isinstance(node, list):
            nodes += node
    return (name for name in sorted(tables) if name.lower() not in own)


def _check_columns(its_select: str, view: str, columns: dict[str, str]) -> None:
    known = COLUMNS[view]
    for name in _NEEDED[view]:
        if name not in columns:
            raise InvalidSource(f"{its_select} lacks the column {name!r} ({known[name]}); NULL::{known[name]} will do")
    for name, kind in columns.items():
        if name not in known:
            raise InvalidSource(f"{its_select} has the unknown column {name!r}; known: {', '.join(known)}")
        if kind != known[name]:
            raise InvalidSource(f"{its_select} has the column {name!r} as {kind}, which is to be {known[name]}")


def note(connection: duckdb.DuckDBPyConnection) -> None:
    """Write into a new index which sources it is made with."""
    value = msgspec.json.encode(_versions()).decode()
    connection.execute("INSERT INTO index_meta VALUES (?, ?)", [_META_KEY, value])


def lacking(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the names of the sources that an index was made without, or with an earlier version of; sorted.

    Raises IndexFailed where it was made with a source, or a version of one, that this process does not have.
    """
    rows = connection.execute("SELECT value FROM index_meta WHERE key = ?", [_META_KEY]).fetchall()
    try:
        made_with = msgspec.json.decode(rows[0][0], type=dict[str, int]) if rows else {}
    except msgspec.MsgspecError:
        made_with = {}
    here = _versions()
    unknown = sorted(name for name, version in made_with.items() if version > here.get(name, 0))
    if unknown:
        raise IndexFailed(
            f"the index was made with the source {unknown[0]!r} in a version that is not installed here; "
            "install or upgrade the package that has it, or run: eventlog replay (which makes the index without it)"
        )
    return sorted(name for name, version in here.items() if version > made_with.get(name, 0))


def _versions() -> dict[str, int]:
    return {source.name: source.version for source, _ in _all()}
