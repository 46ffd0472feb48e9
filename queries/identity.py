"""How queries name a run, a session, a request or an event: by its id and its workspace; and which levels of audit.

Workspaces may share ids.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from os.path import commonprefix
from typing import Literal, NamedTuple
from uuid import UUID

import duckdb

from eventlog.errors import InvalidEvent, QueryFailed
from eventlog.format import envelope
from eventlog.format.envelope import AuditLevel
from eventlog.indexer.sql import literal

_NAMED_MAX = 5


class NotFound(QueryFailed):
    """No run, session, request, event or agent has the name that was asked for."""


#: The columns that say what an event belongs to.
Column = Literal["run_id", "session_id", "request_id"]


class Scope(NamedTuple):
    """A run, a session or a request: the rows whose `column` has this id, in this workspace (None: in none)."""

    column: Column
    id: str
    workspace: str | None

    @property
    def condition(self) -> str:
        """The SQL condition for its rows, such as `run_id = $id AND …`; see `params`."""
        return f"{self.column} = $id AND workspace IS NOT DISTINCT FROM $workspace::VARCHAR"

    @property
    def params(self) -> dict[str, str | None]:
        """The parameters of `condition`, by name."""
        return {"id": self.id, "workspace": self.workspace}

    def within(self, statement: str) -> str:
        """Return a statement in which each `{scope}` is replaced by `condition`."""
        return statement.replace("{scope}", self.condition)


def chosen(entity: str, workspaces: Collection[str | None]) -> str | None:
    """Return which of several workspaces is meant where all have an id: none (None) if it is among them.

    `entity` is for the error, such as "a run 'nightly-7'". Raises QueryFailed where only named workspaces have it, and
    more than one.
    """
    names = sorted({workspace for workspace in workspaces if workspace is not None})
    if None in workspaces:
        return None
    if len(names) > 1:
        more = ", …" if len(names) > _NAMED_MAX else ""
        raise QueryFailed(
            f"several workspaces have {entity}: {', '.join(map(repr, names[:_NAMED_MAX]))}{more}; "
            "choose one with --workspace"
        )
    return names[0]


#: Ids are shown with this many characters at least.
SHORT_CHARS = 8
_IDS_THAT_BEGIN_SO = f"""
    SELECT DISTINCT id FROM (
        SELECT run_id AS id FROM events UNION ALL SELECT session_id FROM events UNION ALL SELECT request_id FROM events
    ) WHERE left(id, {SHORT_CHARS}) IN (SELECT unnest($beginnings::VARCHAR[])) AND {{between}}
"""


def short_ids(connection: duckdb.DuckDBPyConnection, ids: Iterable[str]) -> dict[str, str]:
    """Return the shortest prefix of each id that no other run, session or request begins with: at least SHORT_CHARS.

    An id with which another one begins has no such prefix, and is returned whole.
    """
    long = [id_ for id_ in dict.fromkeys(ids) if len(id_) > SHORT_CHARS]
    if not long:
        return {}
    beginnings = sorted({id_[:SHORT_CHARS] for id_ in long})
    statement = _IDS_THAT_BEGIN_SO.replace("{between}", _between(beginnings))
    known = sorted(id_ for (id_,) in connection.execute(statement, {"beginnings": beginnings}).fetchall())
    return {id_: _short(id_, known) for id_ in long}


def _between(beginnings: Sequence[str]) -> str:
    """Return SQL that all ids with these beginnings, which are sorted, fulfil.

    Ids begin with the time, or with the name of what they are of; so DuckDB passes over most blocks of them.
    """
    least, most = beginnings[0], beginnings[-1]
    if not most.isascii():  # the next text is not that of the next character
        return f"id >= {literal(least)}"
    return f"id >= {literal(least)} AND id < {literal(most[:-1] + chr(ord(most[-1]) + 1))}"


def _short(id_: str, known: Sequence[str]) -> str:
    """Return the shortest prefix that tells an id from its neighbours among sorted ones."""
    at = bisect_left(known, id_)
    neighbours = [other for other in (*known[max(at - 1, 0) : at], *known[at : at + 2]) if other != id_]
    shared = max((len(commonprefix((id_, other))) for other in neighbours), default=0)  # noqa: RUF071 - of characters
    return id_[: max(shared + 1, SHORT_CHARS)]


def is_event_id(text: str) -> bool:
    """Say whether a text is a whole event id: a UUID."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def levels(least: AuditLevel | None) -> list[AuditLevel] | None:
    """Return the audit levels from the least on; None, which is all, for None. Raises QueryFailed for another word."""
    try:
        return None if least is None else list(envelope.levels_from(least))
    except InvalidEvent as error:
        raise QueryFailed(str(error)) from None


def names(one_or_more: str | Iterable[str]) -> list[str]:
    """Return names as a list: `names("llm_call")` and `names(["llm_call"])` are both `["llm_call"]`."""
    return [one_or_more] if isinstance(one_or_more, str) else list(one_or_more)
