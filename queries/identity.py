"""Which one is meant: an event, a run or a session is known by its workspace and its id."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

from eventlog.errors import QueryFailed

_NAMED_MAX = 5


class Named(NamedTuple):
    """A run or a session. `column` is the one that holds its id."""

    column: Literal["run_id", "session_id"]
    id: str
    workspace: str | None

    @property
    def condition(self) -> str:
        """The condition for rows that belong to it, with `params`."""
        return f"{self.column} = $id AND workspace IS NOT DISTINCT FROM $workspace::VARCHAR"

    @property
    def params(self) -> dict[str, str | None]:
        """The parameters of `condition`."""
        return {"id": self.id, "workspace": self.workspace}


def chosen(what: str, workspaces: Collection[str | None]) -> str | None:
    """Return which workspace is meant where these have something of one id: none, if that is among them.

    Raises QueryFailed where several have it, and none of them is meant.
    """
    names = sorted({each for each in workspaces if each is not None})
    if None in workspaces:
        return None
    if len(names) > 1:
        more = ", …" if len(names) > _NAMED_MAX else ""
        raise QueryFailed(
            f"several workspaces have {what}: {', '.join(map(repr, names[:_NAMED_MAX]))}{more}; "
            "choose one with --workspace"
        )
    return names[0]
