"""Lists of runs and sessions: what they are called, cost and took, in 80 columns; found by words; by short ids."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.errors import QueryFailed
from eventlog.format import builtin
from eventlog.queries import identity
from eventlog.queries.store import ReadStore
from eventlog.queries.text import paths
from tests.conftest import PROJECT, Run
from tests.queries.calls import MILLION, call, price, recorded
from tests.queries.claude_sessions import answered, asked, result, store_of, tool
from tests.queries.recordings import record
from tests.queries.test_cost_cli import cells
from tests.terminals import in_terminal

LOGIN, SHELF = "4ddad80c-1111-4111-8111-111111111111", "4ddad80c-2222-4111-8111-111111111111"
OTHER = "9c000000-2222-4111-8111-111111111111"
AT = "2026-03-01T10:00:00Z"


def sessions(root: Path, folder: Path) -> ReadStore:
    """Two sessions of one folder, whose ids begin alike, and one of another."""
    recorded(root, price("claude-opus", "5", "25"))
    return store_of(
        root, folder,
        [asked(LOGIN, AT, "Fix the LOGIN bug of the café"), answered(LOGIN, "2026-03-01T10:01:00Z", gitBranch="main"),
         answered(LOGIN, "2026-03-01T10:05:00Z", gitBranch="fix/login")],
        [asked(SHELF, "2026-03-02T10:00:00Z", "Tidy the shelf"), answered(SHELF, "2026-03-02T10:00:30Z", gitBranch="")],
        [asked(OTHER, "2026-03-03T10:00:00Z", "Login page", cwd="/srv/bob/engine"),
         answered(OTHER, "2026-03-03T10:00:30Z", cwd="/srv/bob/engine", gitBranch="main")],
    )  # fmt: skip


# -- what they say ---------------------------------------------------------------------------


def test_sessions_have_cost_and_branch(root: Path, tmp_path: Path) -> None:
    """The exact sum of their calls, and the branch that they were on last."""
    found = {each.session_id: each for each in sessions(root, tmp_path / "p").sessions()}
    assert {id_: (each.cost_usd, each.unpriced, each.branch) for id_, each in found.items()} == {
        LOGIN: (Decimal("0.04"), 0, "fix/login"), SHELF: (Decimal("0.02"), 0, None),
        OTHER: (Decimal("0.02"), 0, "main"),
    }  # fmt: skip


def test_each_call_has_the_branch_of_its_line(root: Path, tmp_path: Path) -> None:
    """A session that changed the branch is of both."""
    rows = sessions(root, tmp_path / "p").sql("SELECT branch, count(*) FROM llm_calls GROUP BY 1 ORDER BY 1").rows
    assert rows == [("fix/login", 1), ("main", 2), (None, 1)]


def test_runs_have_their_cost(root: Path) -> None:
    """Without calls that have no price, which are counted, and are not zero."""
    recorded(
        root, price("m", "1", "1"),
        call(AT, "m", MILLION, run_id="a"), call(AT, "m", MILLION, run_id="a"), call(AT, "x", 1, run_id="a"),
        call(AT, "x", 1, run_id="b"), ("run_started", {"name": "n", "timestamp": AT, "run_id": "a"}),
        ("run_started", {"name": "n", "timestamp": AT, "run_id": "b"}),
        ("run_started", {"name": "n", "timestamp": AT, "run_id": "c"}),
        ("run_started", {"name": "n", "timestamp": AT, "run_id": "a", "workspace": "w"}),
        call(AT, "m", 3 * MILLION, run_id="a", workspace="w"),
    )  # fmt: skip
    found = {(run.workspace, run.run_id): (run.cost_usd, run.unpriced) for run in ReadStore(root).runs()}
    assert found == {
        (None, "a"): (Decimal(2), 1), (None, "b"): (None, 1), (None, "c"): (None, 0), ("w", "a"): (Decimal(3), 0),
    }  # fmt: skip
    (of_w,) = ReadStore(root, workspace="w").runs()
    assert (of_w.cost_usd, of_w.unpriced) == (Decimal(3), 0)


def test_a_narrow_terminal_has_name_cost_and_age(root: Path, tmp_path: Path) -> None:
    """And the project by its last name, with as much before it as tells it apart."""
    sessions(root, tmp_path / "p")
    lines = in_terminal("sessions", "--root", str(root)).splitlines()
    assert lines[0].split()[:4] == ["session", "title", "project", "age"]
    assert all(len(line) <= 80 for line in lines)
    assert lines[1].startswith("9c000000    Login page ")
    assert "bob/engine" in lines[1]
    assert "$0.0200" in lines[1]
    assert lines[3].startswith("4ddad80c-1  Fix the LOGIN bug of the café  ada/engine")
    assert "$0.0400" in lines[3]


def test_a_run_in_a_narrow_terminal(root: Path) -> None:
    """Its name, its cost, its age."""
    now = datetime.now(UTC)
    run_id = "01a1fc0e-90e7-7614-b5c5-39cd6cbb2847"
    usd = builtin.LlmCall(request_model="m", uncached_input_tokens=12, cost_usd=Decimal("1.5"))
    record(
        root, (now - timedelta(hours=3), builtin.RunStarted(name="nightly tidying"), {"run_id": run_id, "agent": "p"}),
        (now - timedelta(hours=2), usd, {"run_id": run_id}),
        (now - timedelta(hours=2), builtin.RunFinished(duration_ms=3_600_000.0), {"run_id": run_id}),
    )  # fmt: skip
    heading, line = in_terminal("runs", "--root", str(root)).splitlines()
    assert heading.split()[:5] == ["run", "name", "agent", "status", "age"]
    assert line.split() == ["01a1fc0e", "nightly", "tidying", "p", "ok", "3h", "1", "h", "00", "m", "$1.50", "12"]


# -- finding ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ([], {LOGIN, SHELF, OTHER}), (["login"], {LOGIN, OTHER}), (["Login", "BUG"], {LOGIN}), (["CAFÉ"], {LOGIN}),
        (["bob"], {OTHER}), (["fix/"], {LOGIN}), (["4ddad80c"], {LOGIN, SHELF}), (["%"], set()),
        (["shelf", "x"], set()),
        (["the sh"], {SHELF}),
    ],
)  # fmt: skip
def test_sessions_are_found_by_words(root: Path, tmp_path: Path, run: Run, words: list[str], ids: set[str]) -> None:
    """In title, project, branch or id: all of them, in any case."""
    store = sessions(root, tmp_path / "p")
    assert {each.session_id for each in store.sessions(words=words)} == ids
    assert {each["session_id"] for each in json.loads(run("sessions", *words, "--json").stdout)} == ids


def test_runs_are_found_by_words(root: Path) -> None:
    """In name, task, agent or id."""
    record(root, *(
        (datetime(2026, 3, 1, tzinfo=UTC), builtin.RunStarted(name=name, task=task), {"run_id": id_, "agent": agent})
        for id_, name, task, agent in (("r-1", "Nightly", "Tidy", "planner"), ("r-2", "weekly", None, None))
    ))  # fmt: skip
    store = ReadStore(root)
    found = {
        words: [run.run_id for run in store.runs(words=words.split())] for words in ("NIGHT tidy", "plan", "r-2", "no")
    }
    assert found == {"NIGHT tidy": ["r-1"], "plan": ["r-1"], "r-2": ["r-2"], "no": []}


# -- short ids -------------------------------------------------------------------------------


def test_ids_are_as_short_as_shows_them(root: Path, tmp_path: Path, run: Run) -> None:
    """Unique among all, not only those that are listed; `--json` has them whole; `show` takes what is shown."""
    sessions(root, tmp_path / "p")
    listed = [line.split()[0] for line in run("sessions", "--limit", "2").stdout.splitlines()[1:]]
    assert listed == ["9c000000", "4ddad80c-2"]
    assert [each["session_id"] for each in json.loads(run("sessions", "--json").stdout)] == [OTHER, SHELF, LOGIN]
    for id_ in listed:
        assert run("show", id_).returncode == 0


def test_a_session_is_told_from_runs_and_requests(root: Path) -> None:
    """`show` takes an id of any of them."""
    envelopes: list[dict[str, Any]] = [
        {"session_id": "shared-prefix-a"}, {"run_id": "shared-prefix-b"}, {"request_id": "shared-preview"},
        {"session_id": "short"}, {"run_id": "nightly-7"}, {"run_id": "nightly-70"},
    ]  # fmt: skip
    record(root, *((datetime(2026, 3, 1, tzinfo=UTC), "note", each) for each in envelopes))
    ids = [next(iter(each.values())) for each in envelopes]
    assert ReadStore(root).runs.short_ids(ids) == {
        "shared-prefix-a": "shared-prefix-a", "shared-prefix-b": "shared-prefix-b", "shared-preview": "shared-prev",
        "nightly-7": "nightly-7", "nightly-70": "nightly-70",
    }  # fmt: skip


@given(st.lists(st.text("ab-", min_size=1, max_size=14), unique=True, min_size=1, max_size=12))
def test_a_short_id_means_one(ids: list[str]) -> None:
    """It is a beginning of its id and of no other one; it is no shorter than it must be; or it is the whole id."""
    known = sorted(ids)
    for id_ in ids:
        short = identity._short(id_, known)
        assert id_.startswith(short)
        others = [other for other in ids if other != id_ and other.startswith(short)]
        assert not others or short == id_
        if len(short) > identity.SHORT_CHARS:
            assert any(other != id_ and other.startswith(short[:-1]) for other in ids)


@given(st.lists(st.text("ab/", max_size=8), unique=True, max_size=8))
def test_the_end_of_a_path_tells_it_apart(folders: list[str]) -> None:
    """It is an end of the path."""
    shown = paths.tails(folders)
    assert sorted(shown) == sorted(folders)
    names = {folder: "/".join(filter(None, folder.split("/"))) for folder in folders}
    for folder, end in shown.items():
        assert end == folder or names[folder].endswith(end)
    distinct = {name: end for folder, end in shown.items() if (name := names[folder])}
    unambiguous = [end for name, end in distinct.items() if not any(other.endswith(f"/{name}") for other in distinct)]
    assert len(unambiguous) == len(set(unambiguous))


# -- nothing ---------------------------------------------------------------------------------


def test_no_runs_but_sessions(root: Path, tmp_path: Path, run: Run) -> None:
    """Who imports sessions has no runs, and is told where to look."""
    sessions(root, tmp_path / "p")
    done = run("runs")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "no runs, but 3 sessions; try: eventlog sessions\n"
    assert run("runs", "--json").stdout == "[]\n"


@pytest.mark.parametrize("name", ["score", "nope", "pg_x"])
def test_a_type_that_nobody_recorded(root: Path, name: str) -> None:
    """Is named as such, without a hint at tables of DuckDB's own; a table that is nearly meant is still hinted at."""
    record(root, (datetime(2026, 3, 1, tzinfo=UTC), "note", {}))
    with pytest.raises(QueryFailed) as caught:
        ReadStore(root).sql(f"SELECT * FROM {name}")
    said = str(caught.value)
    assert said.startswith(f"there is no table or view {name}; events whose type has no schema are in events alone")
    assert f"FROM events WHERE event_type = '{name}'" in said
    assert not re.search(r"Did you mean|pg_[a-w]|duckdb_", said)
    with pytest.raises(QueryFailed, match=r'Did you mean "(notes?|runs)"'):
        ReadStore(root).sql("SELECT * FROM runz")


def test_metrics_of_sessions(root: Path, tmp_path: Path, run: Run) -> None:
    """Claude Code does not say how a tool failed; and sessions are no runs."""
    lines = [asked("s", AT, "Go")]
    for number, name in enumerate(("Bash", "Edit", "Bash")):
        lines += [
            answered("s", f"2026-03-01T10:0{number + 1}:00Z", tool(str(number), name)),
            result("s", f"2026-03-01T10:0{number + 1}:30Z", str(number), failed=True),
        ]
    store_of(root, tmp_path / "p", lines)
    heading, row = cells(run("metrics").stdout)
    assert "runs" not in heading
    assert row[heading.index("most frequent errors")] == "tool ×3"


def test_health_says_when_there_was_something(root: Path, tmp_path: Path, run: Run) -> None:
    """Sessions of before the window are no reason for nothing."""
    sessions(root, tmp_path / "p")
    done = run("health", "--utc")
    assert done.stdout.startswith("(no agent)    –  no data, last event 2026-03-03 10:00:30Z")
    assert done.stderr == (
        "nothing to judge in these 24h; try: eventlog health --window 7d --at '2026-03-03 10:00:30Z'\n"
    )
    assert run("health", "--window", "7d", "--at", "2026-03-03 10:00:30Z").returncode == 0


QUESTIONS = re.findall(
    r"^\*\*(S\d)\. .*?\*\*[^\n]*\n\n```sql\n(.*?)```",
    (PROJECT / "docs/cookbook.md").read_text(),
    re.MULTILINE | re.DOTALL,
)


def test_the_cookbook_answers_about_sessions(root: Path, tmp_path: Path) -> None:
    """Each query has something to say, but of the last week."""
    recorded(root, price("claude-opus", "5", "25"))
    store = store_of(root, tmp_path / "p", [
        asked("s", AT, "Go"), answered("s", AT, tool("1", "Bash", command="make")), result("s", AT, "1"),
        answered("s", "2026-03-01T11:00:00Z", tool("2", "Bash", command="make")),
    ])  # fmt: skip
    assert [number for number, _ in QUESTIONS] == ["S1", "S2", "S3", "S4", "S5", "S6"]
    assert [number for number, query in QUESTIONS if not store.sql(query).rows] == ["S1"]


def test_nothing_lies_between_an_end_and_a_beginning(root: Path, run: Run) -> None:
    """It is a mistake, and no empty answer."""
    record(root, (datetime(2026, 3, 1, tzinfo=UTC), "note", {}))
    done = run("cost", "--since", "2026-03-01", "--until", "2026-02-01")
    assert done.returncode == 2
    assert "--since is not before --until" in done.stderr


def test_hints_name_the_root_that_was_asked(root: Path, run: Run) -> None:
    """What is typed as it stands does not go to another log."""
    at = datetime(2026, 3, 1, tzinfo=UTC)
    record(
        root, (at, builtin.LlmCall(request_model="acme-local-7b", output_tokens=5), {"session_id": "s"}),
        (at, builtin.Message(role="user", content="hello"), {"session_id": "s"}),
    )  # fmt: skip
    shown = run("cost", "--root", str(root)).stdout
    assert f"→ eventlog emit --root {root} price_set" in shown
    assert f"eventlog export conversation --root {root} s" in run("show", "s", "--root", str(root)).stdout
