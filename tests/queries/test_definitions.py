"""One word means one thing: every face is asked, and they agree with the page and with each other."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from eventlog.config import Config
from eventlog.format import builtin
from eventlog.indexer.views import definitions, recorded
from eventlog.process.boot import boot as this_boot
from eventlog.queries.alerts import evaluate
from eventlog.queries.alerts.machine import Reading, Standing
from eventlog.queries.alerts.rules import Rule
from eventlog.queries.health.score import Health
from eventlog.queries.insights import findings
from eventlog.queries.insights.calls import ModelCall, ToolCall
from eventlog.queries.metrics.aggregates import Group
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder
from tests.conftest import PROJECT, Run
from tests.indexer.support import index
from tests.queries.alerts.support import rule

NOW = datetime(2026, 3, 9, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def reading(root: Path, of: str, now: datetime, *, is_present: bool = False) -> Reading:
    """What an alert rule over the last hour reads as the error rate."""
    definition = rule("r", "error_rate", "0.5", of=of, window_s=3600)
    long_ago = now - 24 * HOUR
    made = Rule(
        workspace=None, name="r", rule_id="1", set_at=long_ago, changed_at=long_ago, firings=0,
        standing=Standing(rule_id="1"), definition=definition,
    )  # fmt: skip
    (found,) = evaluate.measure(root, [made], now, limit_s=60, is_present=is_present)
    return found


def found_by(health: Health, name: str) -> str:
    """The words of a check."""
    return next(each.found for each in health.penalties if each.name == name)


# -- unknown is neither failed nor well ------------------------------------------------------


@pytest.fixture
def unknown(root: Path, monkeypatch: pytest.MonkeyPatch) -> ReadStore:
    """Two runs with 10 calls and steps of each kind: 5 went well, 3 failed, and of 2 nobody knows; in all three views.

    What a payload says in `went` stands in the column `ok`. The second run has the calls in another order.
    """
    rules = {
        "LLM_CALLS": '"llm_call/error_type" IS NULL',
        "TOOL_CALLS": definitions.tool_ok('"tool_call/ok"', '"tool_call/error_type"'),
        "STEPS": '"step/error_type" IS NULL',
    }
    for view, known in rules.items():
        query = getattr(recorded, view)
        assert query.count(f"{known} AS ok") == 1, view
        ours = query.replace(f"{known} AS ok", "TRY_CAST(payload ->> 'went' AS BOOLEAN) AS ok")
        monkeypatch.setattr(recorded, view, ours)
    recorder = Recorder(Config(root=str(root), strict=True))
    ends = [True] * 5 + [False] * 3 + [None] * 2
    for run, at in (("r1", NOW - HOUR / 2), ("r2", NOW - 30 * HOUR)):
        who = {"run_id": run, "session_id": f"session of {run}", "agent": run}
        recorder.emit("run_started", {"name": "n"}, timestamp=at, **who)
        for number, went in enumerate(ends if run == "r1" else [None, *ends[:-1]]):
            more = {} if went is None else {"went": went}
            for kind, payload in (
                ("llm_call", {"request_model": "m"}),
                ("tool_call", {"tool_name": "t", "arguments": {"n": number}}),
                ("step", {"name": f"s{number}"}),
            ):
                moment = at + timedelta(seconds=number)
                recorder.emit(kind, payload | more, timestamp=moment, **who)
    recorder.shutdown()
    index(root)
    return ReadStore(root)


def test_unknown_is_neither_failed_nor_well(unknown: ReadStore, run: Run) -> None:
    """3 of 10 failed, by every face that counts; 2 are unknown by every face that shows single calls."""
    root = unknown.root
    columns = "count(*), count(*) FILTER (ok), count(*) FILTER (NOT ok), count(*) FILTER (ok IS NULL)"
    for view in ("llm_calls", "tool_calls", "steps"):
        assert unknown.sql(f"SELECT {columns} FROM {view} WHERE run_id = 'r1'").rows == [(10, 5, 3, 2)], view
    session = next(each for each in unknown.sessions() if each.session_id == "session of r1")
    assert (session.tool_calls, session.tool_failures) == (10, 3)
    for kind in ("llm_call", "tool_call"):
        ends = Counter(node.ok for node in unknown.session("session of r1").nodes if node.event_type == kind)
        assert ends == {True: 5, False: 3, None: 2}, kind
    metrics = unknown.metrics(since=NOW - HOUR, now=NOW)[0]
    assert (metrics.llm_calls, metrics.llm_failures, metrics.llm_errors) == (10, 3, {"(unknown)": 3})
    assert (metrics.tool_calls, metrics.tool_failures, metrics.tool_errors) == (10, 3, {"(unknown)": 3})
    (health,) = unknown.health("r1", now=NOW)
    assert found_by(health, "call_errors") == "3 of 10 model calls failed (30.0%): (unknown) 3"
    assert found_by(health, "tool_errors") == "3 of 10 tool calls failed (30.0%): (unknown) 3"
    for of in ("llm_calls", "tool_calls"):
        assert (reading(root, of, NOW).samples, str(reading(root, of, NOW).value)) == (10, "0.300000"), of
    shown = run("show", "session of r1").stdout
    assert "10 model calls (3 failed, 2 without a result), 10 tool calls (3 failed, 2 without a result)" in shown
    difference = unknown.diff("r1", "r2")
    details = Counter(pair.b.detail.partition("}")[2] for pair in difference.tool_calls if pair.b is not None)
    assert details == {"": 5, " failed": 3, " without a result": 2}
    assert Counter(pair.state for pair in difference.tool_calls) == {"same": 7, "changed": 3}
    assert Counter(pair.state for pair in difference.steps) == {"same": 8, "changed": 2}


def test_an_interrupted_tool_is_shown_without_a_result(root: Path, tmp_path: Path, run: Run) -> None:
    """In the tree of an imported session, and in the line below it; no face takes it for a failure."""
    session, lines = "94e68429-aaaa-4aaa-8aaa-000000000002", []
    for number, is_error in enumerate((False, True, None)):
        tool = {"type": "tool_use", "id": f"toolu_{number}", "name": "Bash", "input": {"command": "make"}}
        message = {
            "id": f"msg_{number}", "role": "assistant", "model": "claude-opus-4-5-20251101", "content": [tool],
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }  # fmt: skip
        common = {"sessionId": session, "timestamp": f"2026-03-09T11:0{number}:00.000Z"}
        lines.append(common | {"type": "assistant", "uuid": f"u{number}", "message": message})
        if is_error is not None:
            block = {"type": "tool_result", "tool_use_id": f"toolu_{number}", "content": "x", "is_error": is_error}
            result = {"type": "user", "uuid": f"v{number}", "message": {"role": "user", "content": [block]}}
            lines.append(common | result)
    transcript = tmp_path / f"{session}.jsonl"
    transcript.write_text("".join(json.dumps(each) + "\n" for each in lines))
    run("import", "claude-code", str(transcript))
    index(root)
    shown = run("show", session).stdout
    assert [(line.count("✗"), line.count("(no result)")) for line in shown.splitlines() if "▸" in line] == [
        (0, 0), (1, 0), (0, 1),
    ]  # fmt: skip
    assert "3 tool calls (1 failed, 1 without a result)" in shown
    (retry,) = ReadStore(root).insights(session).retries
    assert (retry.attempts, retry.succeeded) == (2, None)
    assert "unknown" in run("insights", session).stdout
    assert [node["ok"] for node in json.loads(run("show", session, "--json").stdout)["nodes"]].count(None) == 1


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([True, True], []), ([None, True], []), ([None, None], []), ([False, True], [(2, True, 1.0)]),
        ([False, None], [(2, None, 1.0)]), ([False, False], [(2, False, 2.0)]), ([None, False, True], [(2, True, 1.0)]),
        ([False, None, False, True], [(2, None, 1.0), (2, True, 1.0)]),
    ],
)  # fmt: skip
def test_what_is_a_retry(ends: list[bool | None], expected: list[tuple[int, bool | None, float]]) -> None:
    """A call is made again because the one before failed, not because nobody knows how it went."""
    times = [NOW + timedelta(seconds=number) for number in range(len(ends))]
    later = timedelta(milliseconds=1)
    tools = [
        ToolCall(
            event_id=str(at), tool="t", arguments="", result_bytes=0, started=at, finished=at, duration_ms=1.0, ok=ok
        )
        for at, ok in zip(times, ends, strict=True)
    ]
    models = [
        ModelCall(
            event_id=str(at), context="", model="m", started=at, finished=at + later, input_tokens=0,
            cache_read_tokens=0, output_tokens=0, ok=ok,
        )
        for at, ok in zip(times, ends, strict=True)
    ]  # fmt: skip
    for retries in (findings.retries(tools, []), findings.retries([], [models])):
        assert [(each.attempts, each.succeeded, each.wasted_ms) for each in retries] == expected


# -- one state of a run ----------------------------------------------------------------------

#: How a run ended, if it did, and who its owner is → its outcome at the present.
OUTCOMES: dict[str, tuple[str | None, str, definitions.Outcome]] = {
    "well": ("ok", "gone", "ok"),
    "badly": ("error", "gone", "error"),
    "in a word of its own": ("timeout", "gone", "error"),
    "in the word running": ("running", "alive", "error"),
    "in the word abandoned": ("abandoned", "alive", "error"),
    "called off": ("cancelled", "gone", "cancelled"),
    "under way": (None, "alive", "running"),
    "elsewhere": (None, "elsewhere", "running"),
    "killed": (None, "gone", "abandoned"),
    "silent": (None, "silent", "abandoned"),
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> ReadStore:
    """Runs that began at the present, as OUTCOMES says; all of one agent, all called by one session."""
    root = tmp_path_factory.mktemp("ended") / "root"
    gone = subprocess.Popen(["true"])
    gone.wait()
    here, now = os.uname().nodename, datetime.now(UTC)
    recorder = Recorder(Config(root=str(root), strict=True))
    for run_id, (status, owner, _) in OUTCOMES.items():
        began = now - timedelta(minutes=20 if owner == "silent" else 1)
        started = builtin.RunStarted(
            name="n", host="far" if owner == "elsewhere" else here, boot=this_boot(),
            pid=os.getpid() if owner in ("alive", "silent") else gone.pid, parent_run_id="parent",
        )  # fmt: skip
        recorder.emit(started, timestamp=began, run_id=run_id, agent="a", session_id="s")
        if status is not None:
            finished = builtin.RunFinished(status=status, duration_ms=1000.0)
            recorder.emit(finished, timestamp=began + timedelta(seconds=1), run_id=run_id, agent="a")
    recorder.emit("note", {}, timestamp=now, run_id="parent")
    recorder.shutdown()
    index(root)
    return ReadStore(root)


def by_outcome(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    return dict(sorted(pairs))


EXPECTED = by_outcome((run_id, outcome) for run_id, (_, _, outcome) in OUTCOMES.items())
LISTS: dict[str, Callable[[ReadStore], Iterable[Any]]] = {
    "runs": lambda store: store.runs(),
    "runs in each state": lambda store: itertools.chain.from_iterable(
        store.runs(status=each) for each in get_args(definitions.Outcome)
    ),
    "one run each": lambda store: (store.run(run_id).run for run_id in OUTCOMES),
    "of a session": lambda store: store.session("s").children,
    "of a parent": lambda store: store.run("parent").children,
    "compared": lambda store: (store.diff(run_id, run_id).b for run_id in OUTCOMES),
}


@pytest.mark.parametrize("face", LISTS)
def test_a_run_is_in_one_state_by_every_list(ended: ReadStore, face: str) -> None:
    """The outcome is one of five words; the status is the run's own, where it has one."""
    listed = list(LISTS[face](ended))
    assert by_outcome((each.run_id, each.outcome) for each in listed) == EXPECTED
    assert {each.run_id: each.status for each in listed} == {
        run_id: status or outcome for run_id, (status, _, outcome) in OUTCOMES.items()
    }


def test_a_run_is_in_one_state_by_every_count(ended: ReadStore) -> None:
    """Metrics, health and alerts count what `runs` lists; another moment than the present knows of no process."""
    counts = Counter(EXPECTED.values())
    assert counts == {"error": 4, "abandoned": 2, "running": 2, "ok": 1, "cancelled": 1}
    by: list[list[Group]] = [[], ["agent"], ["workspace", "model"]]
    for groups in by:
        found = ended.metrics("hour", groups, since=datetime.now(UTC) - HOUR)
        assert {word: sum(getattr(each, f"runs_{word}") for each in found) for word in counts} == counts
    (health,) = ended.health("a")
    assert found_by(health, "run_errors").startswith("4 of 5 runs failed")
    assert found_by(health, "stuck_runs").startswith("2 abandoned of 8 runs: ")
    now = datetime.now(UTC)
    found_ = reading(ended.root, "runs", now, is_present=True)
    assert (found_.samples, found_.detail) == (7, "6 of 7 failed")
    by_silence = EXPECTED | {"killed": "running"}
    assert by_outcome(ended.sql("SELECT run_id, outcome FROM runs").rows) == by_silence
    assert sum(each.runs_abandoned for each in ended.metrics(now=now)) == 1
    (health,) = ended.health("a", now=now)
    assert found_by(health, "stuck_runs").startswith("1 abandoned of 7 runs: ")
    assert reading(ended.root, "runs", now).samples == 6


def test_a_word_of_its_own_is_shown_as_one(ended: ReadStore, run: Run) -> None:
    """A finished run that says "running" is not taken for one that is under way."""
    environment = {"EVENTLOG_DIR": str(ended.root)}
    shown = run("show", "in the word running", **environment).stdout
    assert 'status     error ("running")' in shown
    listed = run("runs", "--status", "error", **environment).stdout
    assert 'error ("running")' in listed
    assert 'error ("abandoned")' in listed
    assert "timeout" in listed


def test_an_end_before_the_start_is_noted(root: Path, run: Run) -> None:
    """The run is over; `show` says what is odd about it."""
    recorder = Recorder(Config(root=str(root), strict=True))
    recorder.emit(builtin.RunStarted(name="n"), timestamp=NOW, run_id="r")
    recorder.emit(builtin.RunFinished(), timestamp=NOW - timedelta(seconds=0.2), run_id="r")
    recorder.shutdown()
    index(root)
    (found,) = ReadStore(root).runs()
    assert (found.outcome, found.duration_ms) == ("ok", 0)
    assert "its end is stamped 200 ms before its start" in run("show", "r").stdout


def test_the_page_names_the_words_of_the_code() -> None:
    """docs/metrics.md lists the outcomes, and the time after which a silent run is abandoned."""
    page = (PROJECT / "docs/metrics.md").read_text().partition("## Definitions")[2]
    assert all(f"`{outcome}`" in page for outcome in get_args(definitions.Outcome))
    assert f"nothing came for {definitions.ABANDONED_AFTER_S // 60} minutes" in page
    for name in ("health", "alerts", "commands", "schema"):
        assert "metrics.md#definitions" in (PROJECT / f"docs/{name}.md").read_text(), name
