"""The reading half of sources: which columns their events have, and how their lines become rows of the shared views.

A source (eventlog.importers.sources) names its `SourceViews`; the views of the index unite their selects with those of
recorded events. An index says in `index_meta` which sources it was made with: one that lacks a source of this process
is rebuilt from the log, and one that has a source which this process does not know is refused, since its columns
could not be filled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import duckdb
import msgspec

from eventlog.errors import IndexFailed, InvalidSource
from eventlog.importers import sources
from eventlog.importers.sources import LeftOut, Source
from eventlog.indexer.sql import literal
from eventlog.indexer.views.promoted import PromotedColumn

#: What a select gives, in this order.
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
        "latency_ms": "DOUBLE",
        "ttft_ms": "DOUBLE",
        "ok": "BOOLEAN",
        "error_type": "VARCHAR",
        "reported_cost_usd": "DECIMAL(38,12)",
        "timestamp": "TIMESTAMP",
        "last_timestamp": "TIMESTAMP",
        "event_id": "UUID",
    },
    "tool_calls": {
        "tool_call_id": "VARCHAR",
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
        "timestamp": "TIMESTAMP",
        "finished": "TIMESTAMP",
        "duration_ms": "DOUBLE",
        "ok": "BOOLEAN",
        "error_type": "VARCHAR",
        "event_id": "UUID",
    },
    "sessions": {"workspace": "VARCHAR", "session_id": "VARCHAR", "project": "VARCHAR", "summary": "VARCHAR"},
    "messages": {
        "role": "VARCHAR",
        "text": "VARCHAR",
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
_META_KEY = "sources"
#: Once in a process is enough: to describe a select takes milliseconds.
_checked: set[SourceViews] = set()
_OF_ALL_EVENTS = re.compile(r"\b(?:FROM|JOIN)\s+(?:event_rows|events)\b", re.IGNORECASE)


class SourceViews(msgspec.Struct, frozen=True, kw_only=True):
    """The reading half of a source. A select is None where the source has nothing of the kind.

    promoted    columns of its event types that are filled when an event is indexed, so that a select need not look at
                its payload
    llm_calls   one row per model call; COLUMNS names the columns of each select, their types and their order
    tool_calls  one row per tool call
    sessions    one row per workspace and session that its program names a project or a summary for
    messages    one row per text that somebody wrote: a user, a model

    A select reads the rows of an event type from `rows_of` and from nowhere else. Neither selects nor expressions
    fail on any payload: TRY_CAST, TRY.
    """

    promoted: tuple[PromotedColumn, ...] = ()
    llm_calls: str | None = None
    tool_calls: str | None = None
    sessions: str | None = None
    messages: str | None = None


def rows_of(event_type: str) -> str:
    """Return what a select reads, for its FROM clause: all events of a type, with their promoted columns.

    A store of one workspace looks for this text, to read that workspace's rows of the type in its place.
    """
    return f"(SELECT * FROM event_rows WHERE event_type = {literal(event_type)})"


def promoted() -> list[PromotedColumn]:
    """Return the promoted columns of all sources. Raises InvalidSource."""
    return [column for _, views in _all() for column in views.promoted]


def united(view: str, recorded: str) -> str:
    """Return the query of a view: the selects of all sources and that of recorded events. Raises InvalidSource."""
    return " UNION ALL ".join(f"FROM ({select})" for select in [*_selects(view), recorded])


def sessions() -> str:
    """Return a query with one row per workspace and session that a source says something of. Raises InvalidSource."""
    rows = " UNION ALL ".join(f"FROM ({select})" for select in _selects("sessions"))
    return f"SELECT workspace, session_id, min(project) AS project, max(summary) AS summary FROM ({rows}) GROUP BY ALL"


def _selects(view: str) -> Iterator[str]:
    return (select for _, views in _all() if (select := getattr(views, view)) is not None)


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


def check_promoted(connection: duckdb.DuckDBPyConnection) -> None:
    """Raise InvalidSource where a promoted column of a source cannot be made or filled."""
    for source, views in _unchecked():
        for column in views.promoted:
            its_column = f"source {source.name!r}: its promoted column {column.column!r}"
            if column.event_type not in source.event_types:
                raise InvalidSource(f"{its_column} is of a type that is not its own")
            try:
                connection.execute(
                    f"SELECT ({column.expression or 'NULL'})::{column.kind} FROM (SELECT '{{}}'::JSON AS payload)"
                )
            except duckdb.Error as error:
                raise InvalidSource(f"{its_column} is refused by DuckDB: {error}") from error


def check_selects(connection: duckdb.DuckDBPyConnection) -> None:
    """Raise InvalidSource where a select of a source does not fit the tables of an empty index."""
    for source, views in _unchecked():
        for view in COLUMNS:
            select = getattr(views, view)
            if select is not None:
                _check_select(connection, source, view, select)
        _checked.add(views)


def _unchecked() -> list[tuple[Source, SourceViews]]:
    return [(source, views) for source, views in _all() if views not in _checked]


def _check_select(connection: duckdb.DuckDBPyConnection, source: Source, view: str, select: str) -> None:
    its_select = f"source {source.name!r}: its select for {view}"
    rest = select
    for event_type in source.event_types:
        rest = rest.replace(rows_of(event_type), "")
    if _OF_ALL_EVENTS.search(rest):
        raise InvalidSource(f"{its_select} reads events that are not its own; take rows from rows_of(event_type)")
    try:
        columns = {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE {select}").fetchall()}
    except duckdb.Error as error:
        raise InvalidSource(f"{its_select} is refused by DuckDB: {error}") from error
    for name, kind in COLUMNS[view].items():
        if name not in columns:
            raise InvalidSource(f"{its_select} lacks the column {name!r} ({kind}); NULL::{kind} will do")
        if columns[name] != kind:
            raise InvalidSource(f"{its_select} has the column {name!r} as {columns[name]}, which is to be {kind}")
    if list(columns) != list(COLUMNS[view]):
        raise InvalidSource(f"{its_select} has other columns, or another order; it is: {', '.join(COLUMNS[view])}")


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
