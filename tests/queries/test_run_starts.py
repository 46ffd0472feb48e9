"""How many runs used one id: counted from the events that say that a run began."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eventlog.format import builtin, ids
from eventlog.indexer.replay import replay
from eventlog.queries.store import ReadStore
from tests.conftest import Run
from tests.queries.stories import Story

_ID, _OTHER_ID = ids.new_id(1_700_000_000 * 10**9), ids.new_id(1_700_000_001 * 10**9)
Start = dict[str, str]


@pytest.mark.parametrize(
    ("starts", "expected"),
    [
        ([{}], {None: 1}),
        ([{}, {}], {None: 2}),
        ([{}, {}, {}], {None: 3}),
        ([{"workspace": "a"}, {"workspace": "b"}], {"a": 1, "b": 1}),
        ([{}, {"workspace": "a"}, {"workspace": "a"}], {None: 1, "a": 2}),
        ([{"event_id": _ID}, {"event_id": _ID}], {None: 1}),
        ([{"event_id": _ID}, {"event_id": _ID}, {"event_id": _OTHER_ID}], {None: 2}),
        ([], {None: None}),
    ],
)
def test_starts_are_counted_in_each_workspace(
    root: Path, starts: list[Start], expected: dict[str | None, int | None]
) -> None:
    """A redelivered event is one start, a run of which only the end is there has none, and a replay counts alike."""
    with Story(root, run_id="r") as story:
        for fields in starts:
            story.tell(0, builtin.RunStarted(name="n"), **fields)
        if not starts:
            story.tell(0, builtin.RunFinished(status="ok"))
    counted = {run.workspace: run.starts for run in ReadStore(root).runs()}
    assert counted == expected
    replay(root)
    assert {run.workspace: run.starts for run in ReadStore(root).runs()} == counted


def test_what_uses_one_id_is_shown(root: Path, run: Run) -> None:
    """In the list, in JSON, and in the head of the tree; a run with an id of its own has nothing beside it."""
    with Story(root) as story:
        for run_id in ("shared", "shared", "own"):
            story.tell(0, builtin.RunStarted(name="n"), run_id=run_id)
    listed = run("runs").stdout
    assert "shared ×2" in listed
    assert "own ×" not in listed
    assert {each["run_id"]: each["starts"] for each in json.loads(run("runs", "--json").stdout)} == {
        "shared": 2, "own": 1,
    }  # fmt: skip
    assert "this id was used by 2 runs" in run("show", "shared").stdout
    assert "was used by" not in run("show", "own").stdout
