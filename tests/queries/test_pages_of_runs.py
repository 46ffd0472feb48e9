"""A page of runs of a large index: first it is found which runs these are, and only they are summed up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.format import builtin
from eventlog.queries.runs import lookup
from eventlog.queries.store import ReadStore
from tests.queries.stories import Story

IDS = ("a", "b", "o'clock", "{gone} {has_words} {ids}", "$limit", "é", "")
#: What happens to a run: at which second, in which workspace, and what.
EVENTS = st.tuples(
    st.sampled_from(IDS), st.integers(0, 30), st.sampled_from([None, "w", "v"]),
    st.sampled_from(["start", "start of a planner", "end", "failure", "call", "heartbeat"]),
)  # fmt: skip
QUESTIONS: tuple[dict[str, Any], ...] = (
    {}, {"limit": 2}, {"status": "error"}, {"agent": "planner"},
    {"words": ["night"]},
)  # fmt: skip


def _tell(story: Story, run_id: str, seconds: float, workspace: str | None, what: str) -> None:
    event = {
        "start": builtin.RunStarted(name="nightly", task="Tidy the shelf"),
        "start of a planner": builtin.RunStarted(name="plan"),
        "end": builtin.RunFinished(status="ok", duration_ms=1500.0),
        "failure": builtin.RunFinished(status="error", error_type="Overflow"),
        "call": builtin.LlmCall(request_model="m", uncached_input_tokens=1200, output_tokens=90),
        "heartbeat": builtin.Heartbeat(interval_s=60.0),
    }[what]
    story.tell(seconds, event, run_id=run_id, workspace=workspace, agent="planner" if "planner" in what else None)


@settings(max_examples=8)
@given(history=st.lists(EVENTS, max_size=25))
def test_a_page_has_the_same_rows(history: list[tuple[str, int, str | None, str]], tmp_path_factory: Any) -> None:
    """As the whole view has them, after any history: one id in several workspaces, ends without a start, odd ids."""
    root: Path = tmp_path_factory.mktemp("any") / "root"
    with Story(root) as story:
        story.tell(0, "note", {})
        for run_id, seconds, workspace, what in history:
            if run_id:
                _tell(story, run_id, seconds, workspace, what)
    with ReadStore(root)._reader.trusted() as connection:
        for question in QUESTIONS:
            page = lookup.list_runs(connection, **question, narrowed_from=0)
            assert page == lookup.list_runs(connection, **question), question


def test_large_indexes_are_asked_so_and_workspaces_never(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader of one workspace has no table of events."""
    with Story(root) as story:
        for number in range(5):
            for workspace in ("w", "v"):
                _tell(story, f"r{number}", number, workspace, "start")
    in_full = {workspace: ReadStore(root, workspace=workspace).runs(limit=3) for workspace in (None, "w")}
    asked: list[int | None] = []
    list_runs = lookup.list_runs

    def remembered(*arguments: Any, narrowed_from: int | None, **more: Any) -> Any:
        asked.append(narrowed_from)
        return list_runs(*arguments, narrowed_from=narrowed_from, **more)

    monkeypatch.setattr(lookup, "NARROWED_ROWS_MIN", 0)
    monkeypatch.setattr(lookup, "list_runs", remembered)
    assert {workspace: ReadStore(root, workspace=workspace).runs(limit=3) for workspace in (None, "w")} == in_full
    assert asked == [0, None]
