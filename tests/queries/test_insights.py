"""Loops and waste: every number by hand, over recorded runs and imported sessions."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.errors import QueryFailed
from eventlog.format import builtin
from eventlog.queries.insights import calls, findings
from eventlog.queries.insights.calls import ModelCall, Step, ToolCall
from eventlog.queries.insights.findings import Growth, Loop, Repeated, Resent, Retry
from eventlog.queries.store import ReadStore
from eventlog.queries.text.bars import spark
from fixtures import transcripts
from tests.conftest import Run
from tests.indexer.support import index
from tests.queries.stories import START, Story, at, nightly


def tool(number: int, name: str, *, ok: bool = True) -> ToolCall:
    return ToolCall(
        event_id=str(number), tool=name, arguments="{}", result_bytes=10, started=at(number),
        finished=at(number) + timedelta(milliseconds=500), duration_ms=500, ok=ok,
    )  # fmt: skip


def tools(names: str) -> list[ToolCall]:
    """A call a second; a capital is one that failed."""
    return [tool(number, name.lower(), ok=name.islower()) for number, name in enumerate(names)]


def model(number: int, size: int, *, cached: int = 0, context: str = "", ok: bool = True, name: str = "m") -> ModelCall:
    return ModelCall(
        event_id=f"m{number}", context=context, model=name, started=at(number), finished=at(number + 0.25),
        input_tokens=size, cache_read_tokens=cached, output_tokens=1, ok=ok,
    )  # fmt: skip


# -- steps -----------------------------------------------------------------------------------


def test_calls_by_step(root: Path) -> None:
    """Each call is one of the innermost step around it, also through a tool call; the calls add up."""
    with Story(root, run_id="r") as story:
        plan = [story.tell(n, builtin.Step(name="plan")) for n in (1, 2, 3)]
        act = story.tell(4, builtin.Step(name="act"), parent_event_id=plan[0])
        tool_id = story.tell(5, builtin.ToolCall(tool_name="t", ok=False), parent_event_id=act)
        story.tell(6, builtin.LlmCall(request_model="m", uncached_input_tokens=10), parent_event_id=tool_id)
        story.tell(7, builtin.LlmCall(request_model="m", output_tokens=5), parent_event_id=plan[1])
        story.tell(8, builtin.LlmCall(request_model="m", cache_read_tokens=7, error_type="E"), parent_event_id=plan[0])
        story.tell(9, builtin.ToolCall(tool_name="t"))
    found = ReadStore(root).insights("r")
    assert [msgspec.structs.astuple(each) for each in found.by_step] == [
        ("act", 1, 1, 1, 1, 10, 0), ("plan", 3, 2, 0, 1, 7, 5), (None, 0, 0, 1, 0, 0, 0),
    ]  # fmt: skip


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=12), st.lists(st.integers(0, 12), max_size=4))
def test_calls_by_step_add_up_whatever_the_parents_are(calls_: list[tuple[bool, int]], steps: list[int]) -> None:
    """Chains, cycles, parents that are not there."""
    made = [model(n, 1) if is_model else tool(n, "t") for n, (is_model, _) in enumerate(calls_)]
    ids = [each.event_id for each in made] + [f"s{n}" for n in range(len(steps))] + ["gone"]
    parent = {each.event_id: ids[where % len(ids)] for each, (_, where) in zip(made, calls_, strict=True)}
    placed = [msgspec.structs.replace(each, parent_event_id=parent[each.event_id]) for each in made]
    found = findings.by_step(calls.Calls(
        [each for each in placed if isinstance(each, ModelCall)],
        [each for each in placed if isinstance(each, ToolCall)], False,
        [Step(event_id=f"s{n}", parent_event_id=ids[where % len(ids)], name=f"n{n % 2}")
         for n, where in enumerate(steps)],
    ))  # fmt: skip
    assert sum(each.llm_calls + each.tool_calls for each in found) == (len(made) if steps else 0)


# -- tools -----------------------------------------------------------------------------------


def test_repeated_calls(root: Path) -> None:
    """Equal arguments in any order of their keys; waste is all but the first."""
    with Story(root, run_id="r") as story:
        ids = [
            story.tell(n, builtin.ToolCall(tool_name=name, arguments=arguments, result=result, duration_ms=ms))
            for n, (name, arguments, result, ms) in enumerate([
                ("read", {"a": 1, "b": 2}, "xx", 100.0), ("read", {"b": 2, "a": 1}, "yyy", 250.5),
                ("read", {"a": 1}, "z", 9.0), ("write", {"a": 1, "b": 2}, None, 9.0),
                ("read", {"a": 1, "b": 2}, None, None),
            ])
        ]  # fmt: skip
    found = ReadStore(root).insights("r")
    assert found.repeated == [
        Repeated(
            tool="read", arguments='{"a":1,"b":2}', times=3, wasted_ms=250.5, wasted_result_bytes=5,
            event_ids=[ids[0], ids[1], ids[4]],
        )
    ]  # fmt: skip
    assert (found.tool_calls, found.llm_calls, found.retries, found.loops, found.resent) == (5, 0, [], [], None)


@pytest.mark.parametrize(("names", "expected"), [
    ("Aa", [("a", 2, True, 500)]), ("AAA", [("a", 3, False, 1500)]),
    ("Aba", []), ("aA", []), ("AaA", [("a", 2, True, 500)]),
    ("AaAAa", [("a", 3, True, 1000), ("a", 2, True, 500)]), ("ABb", [("b", 2, True, 500)]), ("", []), ("A", []),
])  # fmt: skip
def test_retries_of_tools(names: str, expected: list[tuple[str, int, bool, float]]) -> None:
    """Failed, and the same again at once."""
    found = findings.retries(tools(names), [])
    assert [(each.name, each.attempts, each.succeeded, each.wasted_ms) for each in found] == expected


def test_retries_of_models() -> None:
    """In the same conversation, of the same model."""
    main = [model(0, 5, ok=False), model(2, 5), model(3, 5, ok=False), model(4, 5, name="other")]
    assert findings.retries([], [main]) == [
        Retry(
            kind="model", name="m", arguments="", attempts=2, succeeded=True, wasted_ms=250, event_ids=["m0", "m2"]
        )
    ]  # fmt: skip


@pytest.mark.parametrize(("names", "expected"), [
    ("aaa", [("a", 3)]), ("aa", []), ("ababab", [("ab", 3)]), ("abab", []), ("xabcabcabcabcy", [("abc", 4)]),
    ("abababa", [("ab", 3)]), ("aaaaaa", [("a", 6)]), ("aaabbb", [("a", 3), ("b", 3)]), ("", []), ("abc", []),
    ("aabaabaab", [("aab", 3)]),
])  # fmt: skip
def test_loops(names: str, expected: list[tuple[str, int]]) -> None:
    """The same sequence three or more times in a row; the shortest sequence that says it."""
    found = findings.loops(tools(names))
    assert [("".join(each.tools), each.times) for each in found] == expected


def test_a_loop_says_when_and_which() -> None:
    """Its events, from the first to the last."""
    (found,) = findings.loops(tools("xababab"))
    assert found == Loop(
        tools=["a", "b"], times=3, started=at(1), finished=at(6.5), event_ids=["1", "2", "3", "4", "5", "6"]
    )


@given(st.text("ab", max_size=30), st.text("abc", min_size=1, max_size=4), st.integers(3, 6))
def test_every_loop_is_found(before: str, cycle: str, times: int) -> None:
    """Wherever it begins; and every loop that is found is one."""
    names = before + "|" + cycle * times + "."
    found = findings.loops(tools(names))
    for each in found:
        assert "".join(each.tools) * each.times in names
    covered = {event_id for each in found for event_id in each.event_ids}
    last = len(before) + len(cycle) * times
    assert {str(last - 1), str(len(before) + 1)} <= covered or len(covered) >= findings._IDS_MAX


# -- models ----------------------------------------------------------------------------------


def test_growth_of_a_context() -> None:
    """The line that fits best through 100, 200, 400, 300 rises by 80 per call."""
    found = findings.growth([model(n, size) for n, size in enumerate([100, 200, 400, 300])])
    assert found == Growth(
        context="", calls=4, first=100, last=300, largest=400, largest_event_id="m2", slope=80.0,
        series=[100, 200, 400, 300],
    )  # fmt: skip


def test_tokens_that_are_sent_again() -> None:
    """What a cache gave, or as much as the call before had, whichever is more; conversations are apart."""
    main = [
        model(0, 100, cached=30),
        model(1, 150, cached=20),
        model(2, 80),
        model(3, 0, ok=False),
        model(4, 90, cached=85),
    ]
    # 30, then 100 of 150, then all 80; a call without tokens tells nothing; then 85 from the cache, of 90
    assert findings.resent([main]) == Resent(input_tokens=420, resent_tokens=295, cached_tokens=135, share=0.7024)
    assert findings.resent([main[:1], [model(9, 50, context="sub")]]) == Resent(
        input_tokens=150, resent_tokens=30, cached_tokens=30, share=0.2
    )
    assert findings.resent([]) is None


def test_gaps_are_times_without_any_call() -> None:
    """Calls that overlap leave none; the longest come first."""
    long = msgspec.structs.replace(tool(0, "long"), finished=at(5))
    found = findings.gaps([long, tool(2, "inside"), tool(8, "b"), model(20, 1), tool(21, "c")])
    assert [(gap.seconds, gap.after_event_id, gap.before_event_id) for gap in found] == [
        (11.5, "8", "m20"), (3.0, "0", "8"),
    ]  # fmt: skip
    assert (found[1].started, found[1].finished) == (START + timedelta(seconds=5), at(8))


# -- over logs -------------------------------------------------------------------------------


def test_insights_of_a_run_and_of_its_session(root: Path) -> None:
    """The same calls; a run goes before a session of that name."""
    ids = nightly(root)
    found = ReadStore(root).insights("nightly-7")
    assert (found.run_id, found.session_id, found.llm_calls, found.tool_calls) == ("nightly-7", None, 2, 4)
    assert [(each.tool, each.times, each.wasted_ms) for each in found.repeated] == [("search", 3, 1400)]
    assert [(each.name, each.attempts, each.succeeded, each.wasted_ms) for each in found.retries] == [
        ("search", 3, True, 1400)
    ]
    assert [(each.tools, each.times, each.event_ids) for each in found.loops] == [
        (["search"], 3, [ids["search0"], ids["search1"], ids["search2"]])
    ]
    assert found.growth[0].series == [2000, 2300]
    assert found.resent == Resent(input_tokens=4300, resent_tokens=2000, cached_tokens=2000, share=0.4651)
    assert [(each.seconds, each.before_event_id) for each in found.gaps] == [
        (5.0, ids["inner"]),
        (1.3, ids["search0"]),
        (1.0, ids["make"]),
    ]
    session = ReadStore(root).insights("s1")
    assert (session.run_id, session.session_id) == (None, "s1")
    assert (session.repeated, session.loops, session.growth) == (found.repeated, found.loops, found.growth)


def test_insights_of_an_imported_session(root: Path, run: Run) -> None:
    """A subagent has a conversation of its own."""
    run("import", "claude-code", str(transcripts.FOLDER))
    index(root)
    found = ReadStore(root).insights("main")
    assert (found.llm_calls, found.tool_calls) == (3, 3)
    assert [(each.context, each.series) for each in found.growth] == [("", [1260, 1602])]
    assert found.resent == Resent(input_tokens=3565, resent_tokens=2500, cached_tokens=2500, share=0.7013)


@pytest.mark.realdata
def test_insights_of_real_sessions(root: Path, run: Run, real_data: Path) -> None:
    """Shares are shares, ids are events, and sums are those of the session."""
    run("import", "claude-code", str(real_data / "claude-code"))
    index(root)
    store = ReadStore(root)
    for session in store.sessions(limit=25):
        found = store.insights(session.session_id)
        if found.resent is not None:
            assert 0 <= found.resent.cached_tokens <= found.resent.resent_tokens <= found.resent.input_tokens
            assert found.resent.input_tokens == session.input_tokens
        ids = [each.event_ids[0] for each in found.repeated] + [each.event_ids[0] for each in found.loops]
        assert all(store.event(event_id) is not None for event_id in ids[:3])


def test_too_many_calls_are_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ones are looked at."""
    monkeypatch.setattr(calls, "CALLS_MAX", 2)
    nightly(root)
    found = ReadStore(root).insights("nightly-7")
    assert (found.tool_calls, found.cut) == (2, True)


def test_what_is_neither_a_run_nor_a_session(root: Path) -> None:
    """Says where to look."""
    nightly(root)
    with pytest.raises(QueryFailed, match=r"^there is no run, session or request 'x'; try: eventlog runs"):
        ReadStore(root).insights("x")


# -- the command -----------------------------------------------------------------------------


def test_the_command(root: Path, run: Run) -> None:
    """For people, for programs, and where there is nothing to say."""
    ids = nightly(root)
    shown = run("insights", "nightly-7", "--utc").stdout
    assert shown.startswith("run nightly-7: 2 model calls, 4 tool calls\n\nrepeated: the same tool")
    assert f'      3  search  {{"n":1,"q":"shelf"}}   1.4 s     12 B  {ids["search0"]}\n' in shown
    assert "  46.5% of 4,300 tokens (2,000; 2,000 read from a cache)\n" in shown
    assert shown.endswith(
        "steps: the calls in each\n"
        "  step      times  calls  tools  failed  tokens in  out\n"
        "  (none)               1      3       2      2,000   90\n"
        "  retrieve      1      1      1              2,300   40\n"
    )
    whole: dict[str, Any] = msgspec.json.decode(run("insights", "nightly-7", "--json").stdout)
    assert whole["loops"][0]["times"] == 3
    with Story(root, run_id="empty") as story:
        story.tell(0, builtin.RunStarted(name="n"))
    done = run("insights", "empty")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "it has no calls of models or tools\n"


def test_sparks() -> None:
    """The largest is full; long series are drawn in thirty columns at most."""
    assert spark([0, 50, 100]) == "▁▄█"
    assert len(spark(list(range(1000)))) == 30
    assert spark([]) == ""
