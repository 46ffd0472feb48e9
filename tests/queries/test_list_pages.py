"""Pages of runs, sessions and requests: together they are the whole list, each row once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventlog.errors import QueryFailed
from eventlog.queries.store import ReadStore
from tests.indexer.support import index, line, segment

#: Some at the same moment, in several workspaces, with ids that need quotes; of the last nothing says when it began.
_ROWS = [
    (5, "b", None), (5, "a", "w"), (5, "a", None), (5, "a", ""), (4, 'c,"x"', "w"), (9, "é", None), (9, "E", None),
    (1, "z", "acme"), (None, "lost", None), (None, "lost", "w"),
]  # fmt: skip


@pytest.fixture
def store(root: Path) -> ReadStore:
    """Every row is a run, a session and a request."""
    for n, (minute, id_, workspace) in enumerate(_ROWS):
        event_type = "run_finished" if minute is None else "run_started"
        at = {"timestamp": f"2026-01-01T00:{minute or 7:02d}:00.000000Z"}
        names = dict.fromkeys(("run_id", "session_id", "request_id"), id_)
        segment(root, line(n, event_type, **at, **names, workspace=workspace), event_type=event_type)
    index(root)
    return ReadStore(root)


_LISTS: dict[str, Callable[..., list[Any]]] = {
    "runs": lambda store, **more: store.runs.list(**more),
    "sessions": lambda store, **more: store.sessions.list(**more),
    "requests": lambda store, **more: store.requests.list(**more),
}


@pytest.mark.parametrize("name", _LISTS)
def test_pages_are_the_list_in_parts(store: ReadStore, name: str) -> None:
    """For pages of each size, also where a page ends between two rows of one moment, or of none."""
    whole = _LISTS[name](store)
    assert len(whole) == len(_ROWS)
    assert name != "runs" or [row.started for row in whole].count(None) == 2
    for size in range(1, len(whole)):
        parts: list[Any] = []
        for _ in range(0, len(whole), size):
            page = _LISTS[name](store, limit=size, after=parts[-1].cursor if parts else None)
            assert len(page) <= size
            parts += page
        assert parts == whole
        assert _LISTS[name](store, after=parts[-1].cursor) == []


@pytest.mark.parametrize("name", _LISTS)
@pytest.mark.parametrize(
    "after", ["", "x", "[]", "{}", '["yesterday","a",null]', '[5,"a",null]', '["\\ud800","a",null]']
)
def test_what_is_no_place_is_refused(store: ReadStore, name: str, after: str) -> None:
    """In words."""
    with pytest.raises(QueryFailed, match="no place in this list"):
        _LISTS[name](store, after=after)


def test_a_place_of_a_row_that_is_gone_is_a_place(store: ReadStore) -> None:
    """Between those that are there; in a workspace, one of another workspace tells nothing."""
    assert store.runs.list(after='["2026-01-01T00:04:30Z","",null]')[0].run_id == 'c,"x"'
    within = ReadStore(store.root, workspace="w")
    assert [run.run_id for run in within.runs.list(after=store.runs.list()[0].cursor)] == [
        run.run_id for run in within.runs.list()
    ]
