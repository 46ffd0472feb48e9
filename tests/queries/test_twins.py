"""Two workspaces with equal ids of everything: each face answers as if each were alone, or asks which is meant."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from eventlog.config import Config
from eventlog.errors import QueryFailed
from eventlog.format import ids
from eventlog.importers.claude_code import ClaudeCode
from eventlog.importers.engine import importing
from eventlog.queries.store import ReadStore
from fixtures import transcripts
from tests.conftest import Run
from tests.indexer.support import index, line, segment

NOW = datetime(2026, 1, 1, 1, tzinfo=UTC)
WORKSPACES = ("a", "b")
#: One id for each number, the same in both workspaces.
_ID = [ids.derived_id(n * 1000, str(n)) for n in range(100)]


def story(workspace: str) -> list[tuple[str, bytes]]:
    """A run with a sub-run: twelve calls of a model and of a tool each, a step around them. Only amounts differ."""
    cheap = workspace == "a"
    who = {"workspace": workspace, "run_id": "r", "session_id": "s", "agent": "x", "request_id": "q"}

    def told(n: int, kind: str, payload: dict[str, Any], **fields: Any) -> tuple[str, bytes]:
        return kind, line(n, kind, payload=payload, **who | fields)

    lines = [
        told(1, "run_started", {"name": f"of {workspace}"}),
        told(2, "run_started", {"name": f"below {workspace}", "parent_run_id": "r"}, run_id="child"),
        told(3, "step", {"name": "plan", "duration_ms": 1000.0 if cheap else 2000.0}),
    ]
    for n in range(12):
        model = {
            "request_model": f"m-{workspace}", "response_id": f"msg_{n}", "cost_usd": "1" if cheap else "3",
            "output_tokens": 10 if cheap else 50, "latency_ms": 100.0 if cheap else 900.0,
        }  # fmt: skip
        tool = {"tool_name": f"t-{workspace}", "tool_call_id": f"tool_{n}", "arguments": {"n": n}, "ok": cheap or n > 5}
        inside = {"parent_event_id": _ID[3]}
        lines += [told(10 + n, "llm_call", model, **inside), told(30 + n, "tool_call", tool, **inside)]
    lines.append(told(50, "message", {"role": "user", "content": f"word of {workspace}"}))
    lines.append(told(51, "run_finished", {"status": "ok" if cheap else "error", "duration_ms": 50_000.0}))
    return lines


def write(root: Path, *workspaces: str) -> ReadStore:
    by_type: dict[str, list[bytes]] = {}
    for workspace in workspaces:
        for kind, each in story(workspace):
            by_type.setdefault(kind, []).append(each)
    for kind, each_of_type in by_type.items():
        segment(root, *each_of_type, event_type=kind)
    index(root)
    return ReadStore(root)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> ReadStore:
    """The log of both workspaces."""
    return write(tmp_path_factory.mktemp("both") / "root", *WORKSPACES)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ReadStore]:
    """A log for each workspace."""
    return {each: write(tmp_path_factory.mktemp(each) / "root", each) for each in WORKSPACES}


def rows_of(view: str) -> Callable[[ReadStore], list[Any]]:
    """All rows of a view, but where their lines stand."""
    columns = "* EXCLUDE (segment, line_offset)" if view == "events" else "*"
    return lambda store: store.sql(f"SELECT {columns} FROM {view}").rows


VIEWS = ("events", "runs", "steps", "llm_calls", "tool_calls", "messages", "sessions", "requests", "llm_costs")
#: Faces that list or count: of both workspaces, the answer is what each has alone, beside one another.
LISTS: dict[str, Callable[[ReadStore], list[Any]]] = {
    "runs": lambda store: store.runs(),
    "runs that failed": lambda store: store.runs(status="error"),
    "sessions": lambda store: store.sessions(),
    "requests": lambda store: store.requests(),
    "metrics": lambda store: store.metrics("hour", ["workspace", "agent", "model"], now=NOW),
    "costs": lambda store: store.cost.by("workspace"),
    "health": lambda store: store.health(now=NOW, window=timedelta(hours=2)),
    "events": lambda store: [(each.workspace, each.event_id, each.data()) for each in store.events().events],
    "search": lambda store: [
        (hit.workspace, hit.event_id, hit.snippet) for hit in store.search("word").hits
    ],
    **{f"SQL over {view}": rows_of(view) for view in VIEWS},
}  # fmt: skip
#: Faces of one run, session or event.
SINGLE: dict[str, Callable[[ReadStore], Any]] = {
    "a run": lambda store: store.run("r"),
    "a run by the start of its id": lambda store: store.run("chi"),
    "a session": lambda store: store.session("s"),
    "a run or session": lambda store: store.tree("r"),
    "a request": lambda store: store.tree("q"),
    "insights of a run": lambda store: store.insights("r"),
    "insights of a session": lambda store: store.insights("s"),
    "a difference": lambda store: store.diff("r", "child"),
    "an event": lambda store: store.events.get(_ID[10]).event.data(),  # type: ignore[union-attr]
    "payloads": lambda store: store.payloads([_ID[10], _ID[30]]),
}


def plain(found: object) -> list[str]:
    """Answers as texts that can be compared and sorted."""
    assert isinstance(found, list)
    return sorted(repr(each) for each in found)


@pytest.mark.parametrize("face", LISTS)
def test_lists_have_both_side_by_side(both: ReadStore, alone: dict[str, ReadStore], face: str) -> None:
    """Nothing is merged, nothing is lost; and a store of one workspace answers as if it were alone."""
    ask = LISTS[face]
    each = {name: plain(ask(store)) for name, store in alone.items()}
    assert each["a"] != each["b"]
    assert plain(ask(both)) == sorted(each["a"] + each["b"])
    for name in WORKSPACES:
        assert plain(ask(ReadStore(both.root, workspace=name))) == each[name]


@pytest.mark.parametrize("face", SINGLE)
def test_one_of_them_is_never_a_mixture(both: ReadStore, alone: dict[str, ReadStore], face: str) -> None:
    """Asked without a workspace, the error names both; asked with one, the answer is that of the one alone."""
    ask = SINGLE[face]
    with pytest.raises(QueryFailed, match=r"several workspaces have an? .*: 'a', 'b'; choose one with --workspace"):
        ask(both)
    answers = {name: ask(ReadStore(both.root, workspace=name)) for name in WORKSPACES}
    assert answers == {name: ask(store) for name, store in alone.items()}
    if "difference" not in face:
        assert "insights" in face or answers["a"] != answers["b"]


def test_commands_ask_which_is_meant(both: ReadStore, run: Run) -> None:
    """All of them with the same words, and take the choice."""
    environment = {"EVENTLOG_DIR": str(both.root)}
    for command in (
        ["show", "r"],
        ["show", "s"],
        ["show", "q"],
        ["show", _ID[10]],
        ["insights", "r"],
        ["diff", "r", "child"],
    ):
        asked = run(*command, **environment)
        assert (asked.returncode, asked.stdout) == (2, ""), command
        assert ": 'a', 'b'; choose one with --workspace" in asked.stderr
        for name, other in (WORKSPACES, WORKSPACES[::-1]):
            answered = json.loads(run(*command, "--json", "--workspace", name, **environment).stdout)
            text = json.dumps(answered)
            assert f"of {other}" not in text, command
            assert f"m-{other}" not in text, command


def test_a_session_that_was_imported_for_two_workspaces(root: Path) -> None:
    """Has the same calls, tools and messages in both: no line of one is taken for a copy of the other's."""
    for workspace in WORKSPACES:
        with importing(Config(root=str(root), strict=True), ClaudeCode(workspace=workspace)) as importer:
            for path in sorted(transcripts.FOLDER.rglob("*.jsonl")):
                importer.run(path)
    index(root)
    stores = [ReadStore(root, workspace=name) for name in WORKSPACES]
    for view, columns in {
        "llm_calls": "session_id, subagent_id, message_id, request_id, model, output_tokens, timestamp",
        "tool_calls": "session_id, subagent_id, tool_call_id, tool, output, timestamp, finished, ok",
        "messages": "session_id, subagent_id, role, text, timestamp",
        "sessions": "session_id, events, first, last, title, title_source, project",
    }.items():
        a, b = (each.sql(f"SELECT {columns} FROM {view} ORDER BY ALL").rows for each in stores)
        assert a == b != [], view
