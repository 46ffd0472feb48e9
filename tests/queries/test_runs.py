"""Runs and sessions: lists, trees, single events with their proof, differences."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.config import Config
from eventlog.errors import QueryFailed
from eventlog.format import builtin
from eventlog.maintenance import sealing
from eventlog.process.boot import boot as this_boot
from eventlog.queries.cli import waterfall
from eventlog.queries.runs import evidence, tree
from eventlog.queries.runs.difference import Change, first_difference
from eventlog.queries.runs.nodes import Node
from eventlog.queries.store import ReadStore
from eventlog.queries.text import bars, cells
from eventlog.record.recorder import Recorder
from fixtures import transcripts
from tests.conftest import Run
from tests.indexer.support import index, line, segment
from tests.queries.stories import START, Story, at, nightly

# -- lists -----------------------------------------------------------------------------------


def test_runs_come_last_begun_first_and_can_be_chosen(root: Path) -> None:
    """By agent, state and time; with their sums."""
    nightly(root)
    nightly(root, "nightly-6", shift=-86400, failing=False)
    with Story(root, run_id="other", agent="coder") as story:
        story.tell(-3600, builtin.RunStarted(name="o"))
    store = ReadStore(root)
    assert [(run.run_id, run.status) for run in store.runs()] == [
        ("nightly-7", "error"), ("other", "abandoned"), ("nightly-6", "ok"),
    ]  # fmt: skip
    assert [run.run_id for run in store.runs(agent="planner")] == ["nightly-7", "nightly-6"]
    assert [run.run_id for run in store.runs(status="ok")] == ["nightly-6"]
    assert [run.run_id for run in store.runs(status="abandoned")] == ["other"]
    assert [run.run_id for run in store.runs(since=at(-3600))] == ["nightly-7", "other"]
    assert [run.run_id for run in store.runs(limit=1)] == ["nightly-7"]
    run = store.runs()[0]
    assert (run.started, run.finished, run.duration_ms) == (START, at(20), 20_000)
    assert (run.steps, run.llm_calls, run.tool_calls, run.tool_failures, run.errors) == (1, 2, 4, 2, 1)
    assert (run.input_tokens, run.output_tokens) == (4300, 130)


def test_a_status_in_a_word_of_its_own_is_an_error(root: Path) -> None:
    """As metrics count it; a run that goes on, or that was called off, is none."""
    with Story(root) as story:
        for number, status in enumerate(["ok", "timeout", "error", "cancelled", "running", None]):
            story.tell(number, builtin.RunStarted(name="n"), run_id=f"r{number}")
            if status is not None:
                story.tell(number + 1, builtin.RunFinished(status=status), run_id=f"r{number}")
    store = ReadStore(root)
    assert [(run.run_id, run.status) for run in store.runs(status="error")] == [
        ("r4", "running"), ("r2", "error"), ("r1", "timeout"),
    ]  # fmt: skip
    (day,) = store.metrics()
    assert day.runs_error == 3


@pytest.mark.parametrize(("arguments", "message"), [
    ({"limit": 0}, "limit 0 is out of range: 1 to 10,000"),
    ({"status": "good"}, "unknown status 'good'; use one of ok, error, cancelled, running, abandoned"),
])  # fmt: skip
def test_what_runs_cannot_be_asked(root: Path, arguments: dict[str, object], message: str) -> None:
    """It says what it can be."""
    nightly(root)
    with pytest.raises(QueryFailed, match=f"^{message}$"):
        ReadStore(root).runs(**arguments)  # type: ignore[arg-type]


def test_a_run_whose_process_is_gone_is_abandoned_at_once(root: Path) -> None:
    """On this machine, in this boot; of others nothing is known."""
    boot = this_boot()
    assert boot is not None
    gone = subprocess.Popen(["true"])
    gone.wait()
    here = os.uname().nodename
    owners = {
        "gone": (here, boot, gone.pid), "alive": (here, boot, os.getpid()), "elsewhere": ("other", boot, gone.pid),
        "before the boot": (here, "another", gone.pid), "no pid": (here, boot, None), "absurd": (here, boot, 2**40),
    }  # fmt: skip
    with Story(root) as story:
        for run_id, (host, boot_id, pid) in owners.items():
            started = builtin.RunStarted(name="n", host=host, boot=boot_id, pid=pid)
            story.tell((datetime.now(UTC) - START).total_seconds(), started, run_id=run_id)
    states = {run.run_id: run.status for run in ReadStore(root).runs()}
    assert states == dict.fromkeys(owners, "running") | {"gone": "abandoned", "absurd": "abandoned"}
    assert {run.run_id for run in ReadStore(root).runs(status="running", limit=4)} == owners.keys() - {"gone", "absurd"}
    assert [run.run_id for run in ReadStore(root).runs(status="abandoned", limit=1)] == ["absurd"]
    head = ReadStore(root).run("gone").run
    assert head is not None
    assert head.status == "abandoned"


def test_sessions_of_programs_and_of_transcripts(root: Path, run: Run) -> None:
    """The one that said something last comes first."""
    nightly(root)
    run("import", "claude-code", str(transcripts.FOLDER))
    index(root)
    listed = ReadStore(root).sessions()
    assert [each.session_id for each in listed][:2] == ["s1", "glued"]
    (first,) = ReadStore(root).sessions(limit=1)
    assert (first.first, first.last, first.duration_s, first.agent) == (START, at(20), 20, "planner")
    assert (first.llm_calls, first.tool_calls, first.input_tokens, first.models) == (2, 4, 4300, ["m"])
    assert [each.session_id for each in ReadStore(root).sessions(agent="planner")] == ["s1"]
    assert [each.session_id for each in ReadStore(root).sessions(since=START)] == ["s1"]


# -- trees -----------------------------------------------------------------------------------


def test_the_tree_of_a_run(root: Path) -> None:
    """Each event once, below its parent, in order of its beginning; tokens of a step are those of its calls."""
    ids = nightly(root)
    found_ = ReadStore(root).run("nightly-7")
    names = {event_id: name for name, event_id in ids.items()}
    assert [(names[node.event_id], node.depth) for node in found_.nodes] == [
        ("start", 0), ("end", 0), ("llm", 0), ("search0", 0), ("search1", 0), ("search2", 0),
        ("step", 0), ("inner", 1), ("make", 1), ("error", 0),
    ]  # fmt: skip
    by_name = {names[node.event_id]: node for node in found_.nodes}
    step = by_name["step"]
    assert (step.started, step.finished, step.duration_ms, step.ok) == (at(8), at(15), 7000, True)
    assert (step.input_tokens, step.output_tokens) == (2300, 40)
    assert (by_name["llm"].input_tokens, by_name["llm"].started) == (2000, at(0.6))
    assert (by_name["search0"].text, by_name["search0"].ok, by_name["search2"].ok) == ("shelf", False, True)
    assert (by_name["error"].name, by_name["error"].error) == ("Overflow", "the shelf is full")
    assert (found_.input_tokens, found_.output_tokens, found_.left_out) == (4300, 130, {})
    assert found_.run is not None
    assert (found_.run.status, found_.started, found_.finished) == ("error", START, at(20))


def test_what_hangs_at_the_root(root: Path) -> None:
    """Parents that are not there, or in another run; events of a run that nobody began; sub-runs are named."""
    with Story(root, run_id="r") as story:
        elsewhere = story.tell(0, builtin.Step(name="elsewhere"), run_id="other")
        ids = [story.tell(n, builtin.Step(name="s"), parent_event_id=p) for n, p in ((1, elsewhere), (2, "no id"))]
        story.tell(3, builtin.RunStarted(name="sub", parent_run_id="r"), run_id="below")
    found_ = ReadStore(root).run("r")
    assert [(node.event_id, node.depth) for node in found_.nodes] == [(each, 0) for each in ids]
    assert [child.run_id for child in found_.children] == ["below"]
    assert found_.run is not None
    assert (found_.run.status, found_.run.started) == ("unknown", at(1))


def node(number: int, parent: int | None, second: int) -> Node:
    moment = START + timedelta(seconds=second)
    named = None if parent is None else str(parent)
    return Node(
        event_id=str(number), event_type="step", parent_event_id=named, name="n", started=moment, finished=moment
    )


@given(st.lists(st.tuples(st.none() | st.integers(0, 14), st.integers(0, 5)), max_size=12))
def test_any_events_make_a_tree_with_each_of_them_once(given_: list[tuple[int | None, int]]) -> None:
    """Whoever names whom: itself, each other, nobody, or what is not there."""
    nodes = [node(number, parent, second) for number, (parent, second) in enumerate(given_)]
    arranged = tree.arranged(nodes)
    assert sorted(each.event_id for each in arranged) == sorted(each.event_id for each in nodes)
    path: list[str] = []
    for each in arranged:
        assert each.depth <= len(path)
        del path[each.depth :]
        parents = {str(number) for number in range(len(nodes))} & {each.parent_event_id}
        in_circle = _is_in_circle(each, nodes)
        if each.depth:
            assert path[-1] == each.parent_event_id
        else:
            assert not parents or in_circle
        path.append(each.event_id)


def _is_in_circle(start: Node, nodes: list[Node]) -> bool:
    by_id = {each.event_id: each for each in nodes}
    at_ = start
    for _ in nodes:
        if at_.parent_event_id not in by_id:
            return False
        at_ = by_id[at_.parent_event_id]
        if at_.event_id == start.event_id:
            return True
    return False


def test_a_chain_of_thousands_is_arranged_drawn_and_encoded() -> None:
    """Without recursion."""
    nodes = tree.arranged([node(number, number - 1 if number else None, number) for number in range(4000)])
    assert [each.depth for each in nodes] == list(range(4000))
    whole = _tree_of(nodes)
    assert msgspec.json.decode(msgspec.json.encode(whole))["nodes"][-1]["depth"] == 3999
    drawn = waterfall.lines(whole, 80, style=lambda text, _: text, usd=str)
    assert len(drawn) == waterfall.LINES_MAX + 1
    assert max(map(cells.width, drawn)) <= 80
    assert drawn[-1] == "… 2,000 more lines; --json has them"


def _tree_of(nodes: list[Node], **fields: object) -> tree.Tree:
    values: dict[str, object] = {
        "run": None, "session_id": "s", "workspace": None, "started": min(each.started for each in nodes),
        "finished": max(each.finished for each in nodes), "nodes": nodes, "left_out": {}, "children": [],
        "input_tokens": 0, "output_tokens": 0, "cost_usd": None, "unpriced": 0,
    }  # fmt: skip
    return tree.Tree(**values | fields)  # type: ignore[arg-type]


def test_a_run_with_too_many_events_says_what_is_left_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps go first, heartbeats last."""
    monkeypatch.setattr(tree, "NODES_MAX", 4)
    with Story(root, run_id="r") as story:
        for second in range(3):
            story.tell(second, builtin.Heartbeat())
            story.tell(second, builtin.Message(content="m"))
            story.tell(second, builtin.ToolCall(tool_name="t"))
        story.tell(9, builtin.Step(name="late"))
    found_ = ReadStore(root).run("r")
    assert [each.event_type for each in found_.nodes] == ["tool_call", "tool_call", "tool_call", "step"]
    assert found_.left_out == {"heartbeat": 3, "message": 3}


def test_the_calls_of_an_imported_session(root: Path, run: Run) -> None:
    """In order of time, subagents' included; each call of a message is there."""
    run("import", "claude-code", str(transcripts.FOLDER))
    index(root)
    found_ = ReadStore(root).session("main")
    assert [(each.event_type, each.name, each.kind, each.text, each.ok) for each in found_.nodes] == [
        ("llm_call", transcripts.OPUS, None, None, True),
        ("tool_call", "Task", None, "Find it", True),
        ("llm_call", transcripts.HAIKU, "subagent", None, True),
        ("tool_call", "Glob", "subagent", "**/*.py", True),
        ("llm_call", transcripts.OPUS, None, None, True),
        ("tool_call", "Bash", None, "make", False),
    ]
    assert [each.input_tokens for each in found_.nodes] == [1260, 0, 703, 0, 1602, 0]
    assert ReadStore(root).tree("glu").session_id == "glued"


def test_ids_may_be_shortened(root: Path) -> None:
    """To what alone begins so; a whole id is never taken for the beginning of another."""
    with Story(root) as story:
        for run_id in ("ab", "abc", "abd", "x%_"):
            story.tell(0, builtin.RunStarted(name=run_id), run_id=run_id)
    store = ReadStore(root)

    def named(given_: str) -> str | None:
        head = store.run(given_).run
        return None if head is None else head.name

    assert [named(each) for each in ("ab", "abc", "x", "x%")] == ["ab", "abc", "x%_", "x%_"]
    with pytest.raises(QueryFailed, match=r"^several runs begin with 'a': ab, abc, abd; give more of the id$"):
        store.run("a")
    for missing in ("%", "nope", ""):
        with pytest.raises(QueryFailed, match="there is no run"):
            store.run(missing)
    with pytest.raises(QueryFailed, match="there is no session 'ab'; try: eventlog sessions"):
        store.session("ab")


# -- drawn -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "end", "drawn"), [
    (0.0, 1.0, "████"), (0.0, 0.5, "██  "), (0.5, 1.0, "  ██"), (0.0, 0.0, "▏   "), (1.0, 1.0, "   █"),
    (0.25, 0.4, " ▋  "),
])  # fmt: skip
def test_bars(start: float, end: float, drawn: str) -> None:
    """From a part to a part, never empty, never too wide."""
    assert bars.between(start, end, 4) == drawn


@pytest.mark.parametrize("width", [10, 24, 40, 60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(root: Path, width: int) -> None:
    """Whatever is in it: wide characters, control characters, long names, deep trees."""
    with Story(root, run_id="r") as story:
        parent = story.tell(9, builtin.Step(name="整理" * 40, duration_ms=9e6))
        for depth in range(20):
            parent = story.tell(9, builtin.Step(name=f"\x1b[31m{depth}\n" + "x" * 90), parent_event_id=parent)
            story.tell(
                9, builtin.LlmCall(request_model="m", uncached_input_tokens=10**9, cost_usd=Decimal("123456.789"))
            )
        story.tell(9, builtin.ToolCall(tool_name="t", arguments={"a": "/" + "p" * 300 + "/end"}, ok=False))
    found_ = ReadStore(root).run("r")
    drawn = waterfall.lines(found_, width, style=lambda text, _: text, usd=lambda cost: f"${cost:,.2f}")
    assert len(drawn) == len(found_.nodes)
    assert max(map(cells.width, drawn)) <= max(width, waterfall.WIDTH_MIN)
    assert all(each.isprintable() for each in drawn)


def test_a_wide_terminal_shows_the_calls_in_each_step(root: Path) -> None:
    """Beside steps and turns, not beside calls; where it is narrow the bar needs the place."""
    nightly(root)
    found_ = ReadStore(root).run("nightly-7")
    wide, narrow = (
        waterfall.lines(found_, width, style=lambda text, _: text, usd=lambda cost: f"${cost:,.2f}")
        for width in (120, 80)
    )
    assert [line.split("7.0 s")[1].split()[:2] for line in wide if line.startswith("retrieve")] == [["1◆", "1▸"]]
    assert sum("1▸" in line for line in wide) == 1
    assert not any("1▸" in line for line in narrow)


# -- one event -------------------------------------------------------------------------------


def test_an_event_is_compared_with_its_line(root: Path) -> None:
    """As it was written; after somebody changed the line; after the segment is gone."""
    with Story(root, run_id="r") as story:
        event_id = story.tell(0, "t", {"n": 1, "text": "é"}, agent="a")
        story.tell(0, "t", {"n": 2})
    store = ReadStore(root)

    def examined() -> evidence.Evidence:
        event = store.event(event_id)
        assert event is not None
        return evidence.examine(root, event)

    assert examined() == evidence.Evidence(
        same=True,
        why="the line at this place has this id and the same content",
        seal_why="the segment is not sealed yet",
    )
    sealing.seal(root)
    assert (examined().same, examined().seal, examined().as_sealed) == (True, 1, True)
    (path,) = (root / "log" / "t").iterdir()
    path.chmod(0o600)
    original = path.read_bytes()
    for before, after, why in (
        (b'"n":1', b'"n":7', "the payload differs"),
        (b'"agent":"a"', b'"agent":"b"', "agent: the line says 'b', the row 'a'"),
        (b"{", b"[", "the line is no event any more: "),
    ):
        path.write_bytes(original.replace(before, after, 1))
        changed = examined()
        assert (changed.same, changed.as_sealed) == (False, False)
        assert changed.why.startswith(why)
    path.unlink()
    gone = examined()
    assert (gone.same, gone.as_sealed, gone.seal_why) == (False, None, "the segment of seal 1 is gone")


def test_large_fields_are_looked_at_where_they_are(root: Path, run: Run) -> None:
    """In the proof of an event, in the whole of a run, and in the first prompt that differs."""
    with Story(root, blob_min_bytes=1024) as story:
        for number, end in enumerate("ab"):
            story.tell(number, builtin.RunStarted(name="n"), run_id=end)
            event_id = story.tell(number, builtin.LlmCall(input_messages="x" * 5000 + end), run_id=end)
    store = ReadStore(root)
    event = store.event(event_id)
    assert event is not None
    assert event.event.stored_payload is not None
    assert evidence.examine(root, event).same
    assert "x" * 5000 + "b" in run("show", "b", "--verbose").stdout
    prompt = store.diff("a", "b").prompt
    assert prompt is not None
    assert (prompt.at, prompt.a[-1], prompt.b[-1]) == (5000, "a", "b")
    for path in (root / "blobs").glob("??/*"):
        path.unlink()
    event = store.event(event_id)
    assert event is not None
    gone = evidence.examine(root, event)
    assert not gone.same
    assert gone.why.startswith("input_messages is stored in blobs, and cannot be read: ")


# -- differences -----------------------------------------------------------------------------


def test_where_two_runs_differ(root: Path) -> None:
    """Outcome, steps, calls with their arguments, the first prompt."""
    good = nightly(root, "nightly-6", shift=-86400, failing=False)
    bad = nightly(root)
    found_ = ReadStore(root).diff("nightly-6", "nightly-7")
    assert found_.changes == [
        Change("status", "ok", "error"), Change("error_type", None, "Overflow"), Change("tool_calls", 2, 4),
        Change("tool_failures", 0, 2), Change("errors", 0, 1),
    ]  # fmt: skip
    assert [(pair.state, pair.a and pair.a.name) for pair in found_.steps] == [("same", "retrieve")]
    assert [(pair.state, pair.a and pair.a.event_id, pair.b and pair.b.event_id) for pair in found_.tool_calls] == [
        ("only_b", None, bad["search0"]), ("only_b", None, bad["search1"]), ("same", good["search0"], bad["search2"]),
        ("changed", good["make"], bad["make"]),
    ]  # fmt: skip
    changed = found_.tool_calls[-1]
    assert changed.a is not None
    assert changed.b is not None
    assert (changed.a.detail, changed.b.detail) == ('{"command":"make"}', '{"command":"make all"}')
    prompt = found_.prompt
    assert prompt is not None
    assert (prompt.call, prompt.a_event_id, prompt.b_event_id) == (1, good["llm"], bad["llm"])
    assert prompt.a.endswith('"content":"Tidy the shelf"}]')
    assert prompt.b.endswith('"content":"Tidy the shelf now"}]')
    assert not found_.same


def test_a_run_does_not_differ_from_itself(root: Path) -> None:
    """Nor from one that did the same at another time."""
    nightly(root)
    nightly(root, "again", shift=100)
    for other in ("nightly-7", "again"):
        found_ = ReadStore(root).diff("nightly-7", other)
        assert (found_.changes, found_.prompt, found_.same, found_.cut) == ([], None, True, False)


@given(st.text(), st.text(), st.text())
def test_the_first_difference_of_two_texts(same: str, a: str, b: str) -> None:
    """Where they begin to differ, and nowhere else."""
    place = first_difference(same + a, same + b)
    one, other = same + a, same + b
    assert one[:place] == other[:place]
    assert one[place : place + 1] != other[place : place + 1] or place == len(one) == len(other)


# -- the commands ----------------------------------------------------------------------------


def test_the_commands_for_people(root: Path, run: Run) -> None:
    """What they print in a pipe."""
    ids = nightly(root)
    nightly(root, "nightly-6", shift=-86400, failing=False)
    assert run("runs", "--utc").stdout.splitlines() == [
        "run        name     agent    status    took  cost  tokens  began                 steps  calls    tools"
        "  workspace  error",
        "nightly-7  nightly  planner  error   20.0 s     –    4.4k  2026-03-01 23:59:50Z      1      2  4 (2 ✗)"
        "  w          Overflow",
        "nightly-6  nightly  planner  ok      20.0 s     –    4.4k  2026-02-28 23:59:50Z      1      2        2  w",
    ]
    shown = run("show", "nightly-7", "--view", "waterfall", "--utc").stdout.splitlines()
    assert shown[:3] == [
        "run        nightly-7 nightly",
        "status     error: Overflow",
        "when       2026-03-01 23:59:50Z → 2026-03-02 00:00:10Z (20.0 s)",
    ]
    assert "└ ▸ bash make all" in "\n".join(shown)
    assert shown[-1] == "1 step, 2 model calls, 4 tool calls (2 failed), 4,300 → 130 tokens"
    assert "2026-03-02 00:59:50" in run("show", "nightly-7", TZ="Europe/Berlin").stdout
    verbose = run("show", "nightly-7", "--view", "waterfall", "--verbose").stdout
    assert "   system_instructions: You tidy.\n   input user: Tidy the shelf now\n" in verbose
    assert "   result: none\n" in verbose
    event = run("show", ids["error"], "--utc").stdout
    assert "timestamp         2026-03-02 00:00:08.000000Z\n" in event
    assert "same as the row: yes: the line at this place has this id and the same content\n" in event
    compared = run("diff", "nightly-6", "nightly-7").stdout
    assert '- bash  1.0 s  {"command":"make"}\n+ bash  1.0 s  {"command":"make all"}\n' in compared
    assert run("diff", "nightly-6", "nightly-6").stdout.endswith("\nnothing differs but times\n")
    assert run("sessions", "--utc").stdout.splitlines()[1].split()[:6] == ["s1", "1", "d", "0", "h", "–"]


def test_the_commands_for_programs(root: Path, run: Run) -> None:
    """With --json."""
    ids = nightly(root)
    (listed,) = msgspec.json.decode(run("runs", "--json").stdout)
    assert (listed["run_id"], listed["started"], listed["status"]) == ("nightly-7", "2026-03-01T23:59:50Z", "error")
    shown = msgspec.json.decode(run("show", "nightly-7", "--view", "tree", "--json").stdout)
    assert [each["depth"] for each in shown["nodes"]] == [0] * 7 + [1, 1, 0]
    event = msgspec.json.decode(run("show", ids["make"], "--json").stdout)
    assert (event["event"]["payload"]["arguments"], event["evidence"]["same"]) == ({"command": "make all"}, True)
    assert msgspec.json.decode(event["line"])["event_id"] == ids["make"]
    assert msgspec.json.decode(run("diff", "nightly-7", "nightly-7", "--json").stdout)["changes"] == []
    assert msgspec.json.decode(run("sessions", "--json").stdout)[0]["session_id"] == "s1"


def test_when_there_is_nothing(root: Path, run: Run) -> None:
    """Lists that are empty say what to do, and are no errors; names that are not there are."""
    run("emit", "t")
    index(root)
    for command in ("runs", "sessions"):
        done = run(command)
        assert (done.returncode, done.stdout) == (0, "")
        assert re.match(r"no such \w+; (record|import) .*\n$", done.stderr)
        assert run(command, "--json").stdout == "[]\n"
    done = run("show", "nope")
    assert (done.returncode, done.stderr) == (
        2,
        "error: there is no run, session or request 'nope'; "
        "try: eventlog runs, eventlog sessions or eventlog requests\n",
    )  # fmt: skip
    done = run("diff", "a", "b")
    assert (done.returncode, done.stderr.startswith("error: there is no run 'a'")) == (2, True)


@pytest.mark.parametrize("columns", [30, 90])
def test_in_a_terminal_every_line_fits(root: Path, run: Run, columns: int) -> None:
    """However narrow it is."""
    nightly(root)
    nightly(root, "a-run-with-a-name-that-is-long", shift=100, failing=False)
    commands = ["runs", "sessions", "show nightly-7", "diff nightly-7 a-run", "search shelf", "insights nightly-7"]
    python = f"{sys.executable} -m eventlog"
    line = f"stty cols {columns} rows 200; " + "; ".join(f"{python} {each} --root {root} 2>&-" for each in commands)
    done = subprocess.run(
        ["script", "-qec", line, "/dev/null"], capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    lines = [_without_styles(each) for each in done.stdout.splitlines()]
    assert len(lines) > 50
    assert max(map(cells.width, lines)) <= columns


def _without_styles(text: str) -> str:
    for code in ("\x1b[31m", "\x1b[1m", "\x1b[0m"):
        text = text.replace(code, "")
    return text


# -- costs and workspaces --------------------------------------------------------------------


def test_costs_of_calls_and_steps(root: Path) -> None:
    """As reported or computed; what has no price is counted, and costs nothing."""
    with Story(root, run_id="r") as story:
        step = story.tell(9, builtin.Step(name="s"))
        for cost in ("0.01", "0.002", None):
            call = builtin.LlmCall(request_model="nobody-knows", cost_usd=None if cost is None else Decimal(cost))
            story.tell(8, call, parent_event_id=step)
        story.tell(9, builtin.LlmCall(request_model="claude-sonnet-4-5", provider_name="anthropic", output_tokens=1000))
    tree_ = ReadStore(root).run("r")
    (step_node,) = [each for each in tree_.nodes if each.event_type == "step"]
    assert step_node.cost_usd == Decimal("0.012")
    assert (tree_.cost_usd, tree_.unpriced) == (Decimal("0.027"), 1)
    with Story(root, run_id="none") as story:
        story.tell(0, builtin.RunStarted(name="n"))
    assert (ReadStore(root).run("none").cost_usd, ReadStore(root).run("none").unpriced) == (None, 0)


def test_a_store_of_one_workspace_sees_nothing_else(root: Path, run: Run) -> None:
    """By any of these questions."""
    nightly(root)
    with Story(root, workspace="other", agent="planner", session_id="s1") as story:
        story.tell(1, builtin.RunStarted(name="theirs"), run_id="nightly-8")
        secret = story.tell(2, builtin.ToolCall(tool_name="secret", arguments={"q": "shelf"}), run_id="nightly-7")
    ours, theirs = ReadStore(root, workspace="w"), ReadStore(root, workspace="other")
    assert [each.run_id for each in ours.runs()] == ["nightly-7"]
    assert [each.run_id for each in theirs.runs()] == ["nightly-8"]
    assert secret not in [each.event_id for each in ours.run("nightly").nodes]
    assert [each.event_id for each in theirs.tree("nightly-7").nodes] == [secret]
    assert (ours.sessions()[0].tool_calls, theirs.sessions()[0].tool_calls) == (4, 1)
    assert [each.event_id for each in theirs.session("s1").nodes] == [secret]
    assert secret not in [each.event_id for each in ours.search("shelf").hits]
    assert [each.event_id for each in theirs.search("shelf").hits] == [secret]
    assert (ours.insights("nightly-7").tool_calls, theirs.insights("nightly-7").tool_calls) == (4, 1)
    assert ours.payloads([secret]) == {}
    with pytest.raises(QueryFailed, match="there is no run 'nightly-8'"):
        ours.diff("nightly-7", "nightly-8")
    assert "secret" not in run("show", "nightly-7", "--verbose", "--workspace", "w").stdout
    assert "there is no run, session or request" in run("show", secret, "--workspace", "w").stderr


# -- odd events ------------------------------------------------------------------------------


def test_odd_events_break_nothing(root: Path, run: Run) -> None:
    """Fields of other types, none at all, absurd numbers and durations, names that are not text."""
    most = 2**63 - 1
    absurd = dict.fromkeys(("uncached_input_tokens", "cache_read_tokens", "output_tokens", "latency_ms"), most)
    payloads = {
        "llm_call": [{}, absurd, absurd, {"request_model": {"a": 1}, "latency_ms": "7", "output_tokens": -5}],
        "tool_call": [{}, {"arguments": [1, 2]}, {"arguments": {}}, {"arguments": {"$blob": {"sha256": 7}}, "ok": "no"},
                      {"tool_name": None, "duration_ms": -1, "error_type": ["x"]}],
        "step": [{}, {"name": 7, "duration_ms": 1e300}, {"duration_ms": "NaN", "error_message": {"deep": [None]}}],
        "message": [{"content": {"$blob": {"value": "shelf"}}}, {"content": None}],
    }  # fmt: skip
    numbers = itertools.count()
    for event_type, each in ({"run_started": [{"name": "n"}]} | payloads).items():
        lines = [line(next(numbers), event_type, payload=one, run_id="r", session_id="s") for one in each]
        segment(root, *lines, event_type=event_type)
    index(root)
    store = ReadStore(root)
    assert len(store.run("r").nodes) == 15
    assert len(store.session("s").nodes) == 9
    assert store.sessions()[0].models == ['{"a":1}']
    for command in ("runs", "sessions", "show r", "show r --verbose", "show s", "insights r", "diff r r", "search 7"):
        for json in ((), ("--json",)):
            done = run(*command.split(), *(json if "verbose" not in command else ()))
            assert done.returncode == 0, (command, done.stderr)


def test_a_task_that_is_kept_beside_the_log_says_where_it_is(root: Path, run: Run) -> None:
    """Not by its hashes; --verbose has all of it."""
    recorder = Recorder(Config(root=str(root), strict=True))
    recorder.emit(builtin.RunStarted(name="big", task="T" * 200_000), run_id="r")
    recorder.shutdown()
    index(root)
    assert [each.task for each in ReadStore(root).runs()] == ["(large; eventlog show --verbose has it)"]
    assert "T" * 200_000 in run("show", "r", "--verbose").stdout
