"""Model calls of Codex rollouts: the change of the sum, once, whatever is repeated, copied or lost."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from eventlog.indexer.indexer import Indexer
from eventlog.queries.store import ReadStore
from tests.codex_lines import (
    CHILD,
    MODEL,
    OWN_TURN,
    PARENT,
    SIBLING,
    TURN,
    TURN_2,
    Line,
    count,
    event,
    import_files,
    item,
    line,
    meta,
    store_of,
    turn,
    usage,
    write,
)  # fmt: skip

CALLS = """
SELECT uncached_input_tokens, cache_read_tokens, output_tokens, reasoning_tokens FROM llm_calls
WHERE session_id = '{}' AND ok ORDER BY timestamp, message_id
"""


def calls(store: ReadStore, session: str = PARENT) -> list[tuple[int, ...]]:
    return [tuple(row) for row in store.sql(CALLS.format(session)).rows]


ONE = usage(1000, 100, cached=200, reasoning=40)
TWO = usage(2500, 160, cached=1200, reasoning=50)
STEP = usage(1500, 60, cached=1000, reasoning=10)

#: Counts of one session, and its calls: (uncached input, read from the cache, output, reasoning in it).
COUNTS: dict[str, tuple[list[Line], list[tuple[int, ...]]]] = {
    "a call is the change of the sum": (
        [count("10:00:02", ONE), count("10:00:03", TWO, STEP)],
        [(800, 200, 100, 40), (500, 1000, 60, 10)],
    ),
    "a sum that is repeated is no call": (
        [count("10:00:02", ONE), count("10:00:03", ONE), count("10:00:04", TWO, STEP), count("10:00:05", TWO, STEP)],
        [(800, 200, 100, 40), (500, 1000, 60, 10)],
    ),
    "a call without an event of its own is in the sum, not in `last`": (
        [count("10:00:02", ONE), count("10:00:03", TWO, usage(700, 30, cached=500, reasoning=5))],
        [(800, 200, 100, 40), (500, 1000, 60, 10)],
    ),
    "rate limits alone are no call": (
        [event("10:00:02", "token_count", info=None), count("10:00:03", ONE), event("10:00:04", "token_count")],
        [(800, 200, 100, 40)],
    ),
    "a sum that falls: counting began anew, at 0": (
        [count("10:00:02", TWO), count("10:00:03", ONE), count("10:00:04", TWO, STEP)],
        [(1300, 1200, 160, 50), (800, 200, 100, 40), (500, 1000, 60, 10)],
    ),
    "a sum that falls: counting began anew, at an earlier state": (
        [count("10:00:02", usage(9000, 900)), count("10:00:03", TWO, STEP)],
        [(9000, 0, 900, 0), (500, 1000, 60, 10)],
    ),
    "a full context window sets the sum to 0": (
        [
            count("10:00:02", ONE),
            count("10:00:03", usage(0, 0) | {"total_tokens": 258400}, usage(0, 0) | {"total_tokens": 257300}),
            count("10:00:04", usage(50, 5) | {"total_tokens": 258455}, usage(50, 5)),
        ],
        [(800, 200, 100, 40), (50, 0, 5, 0)],
    ),
    "an estimate after a compaction is no call": (
        [count("10:00:02", ONE), count("10:00:03", ONE, usage(0, 0) | {"total_tokens": 7000})],
        [(800, 200, 100, 40)],
    ),
    "equal times: the order is that of the lines": (
        [count("10:00:02", ONE), count("10:00:02", TWO, STEP), count("10:00:02", TWO, STEP)],
        [(800, 200, 100, 40), (500, 1000, 60, 10)],
    ),
    "a clock that goes back": (
        [count("10:00:05", ONE), count("10:00:02", TWO, STEP)],
        [(500, 1000, 60, 10), (800, 200, 100, 40)],
    ),
    "a count without a time": (
        [count("10:00:02", ONE), count(None, TWO, STEP), count("10:00:04", TWO, STEP)],
        [(500, 1000, 60, 10), (800, 200, 100, 40)],
    ),
    "written to the cache is in the input": (
        [count("10:00:02", usage(1000, 10, cached=300) | {"cache_write_input_tokens": 100})],
        [(600, 300, 10, 0)],
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_a_call_is_counted_once(root: Path, tmp_path: Path, name: str) -> None:
    """Hand-worked: each shape of the counts that Codex writes."""
    lines, expected = COUNTS[name]
    assert calls(store_of(root, tmp_path, [meta(), turn(), *lines])) == expected


def test_a_call_has_its_model_turn_project_and_identity(root: Path, tmp_path: Path) -> None:
    """The model of the last turn_context, which may change within a turn; session, turn and position identify it."""
    store = store_of(
        root,
        tmp_path,
        [
            meta(model_provider="azure"),
            count("10:00:01", usage(1, 1)),
            turn("10:00:02", cwd="/elsewhere"),
            count("10:00:03", usage(2, 2)),
            turn("10:00:04", model="gpt-5.3-codex-spark"),
            count("10:00:05", usage(3, 3)),
            turn("10:00:06", TURN_2),
            count("10:00:07", usage(4, 4)),
        ],
    )
    rows = store.sql("SELECT message_id, request_id, model, provider, project FROM llm_calls ORDER BY timestamp").rows
    assert [tuple(row) for row in rows] == [
        (f"{PARENT}:1", None, None, "azure.ai.openai", "/home/ada/engine"),
        (f"{PARENT}:{TURN}:1", TURN, MODEL, "azure.ai.openai", "/home/ada/engine"),
        (f"{PARENT}:{TURN}:2", TURN, "gpt-5.3-codex-spark", "azure.ai.openai", "/home/ada/engine"),
        (f"{PARENT}:{TURN_2}:1", TURN_2, MODEL, "azure.ai.openai", "/home/ada/engine"),
    ]


@pytest.mark.parametrize(
    ("total", "problem"),
    [
        (usage(10, 1, cached=20), "more cached input than input"),
        (usage(10, 1, reasoning=2), "more reasoning than output"),
        (usage(10, 1) | {"input_tokens": -10}, "its counts are not whole numbers"),
        (usage(10, 1) | {"input_tokens": 1.5}, "its counts are not whole numbers"),
        (usage(10, 1) | {"output_tokens": "many"}, "its counts are not whole numbers"),
        ({"tokens": 5}, "its counts are not whole numbers"),
        ([], "its counts are not whole numbers"),
    ],
)
def test_counts_that_are_not_understood_are_said(root: Path, tmp_path: Path, total: Any, problem: str) -> None:
    """Never negative; and what comes after is counted as before."""
    store = store_of(
        root,
        tmp_path,
        [meta(), turn(), count("10:00:02", total, usage(0, 0)), count("10:00:03", usage(900, 90, cached=500), ONE)],
    )
    rows = store.sql("SELECT usage_problem, uncached_input_tokens FROM llm_calls ORDER BY timestamp").rows
    assert rows[0][0] == problem
    assert rows[1][0] is None
    assert all(row[1] >= 0 for row in rows)


# -- forks and subagents ---------------------------------------------------------------------

PARENTS = [
    meta(),
    turn("10:00:01", TURN),
    count("10:00:02", usage(100, 10)),
    turn("10:00:03", TURN_2),
    count("10:00:04", usage(300, 30), usage(200, 20)),
]
#: What a fork copies: the same lines, at the time of the fork.
COPIED = [each | {"timestamp": "2026-06-17T10:10:00.000Z"} for each in PARENTS]
AFTER = count("10:10:09", usage(350, 34), usage(50, 4))
CALL = (50, 0, 4, 0)
FIRST = usage(50, 4)


def fork(*lines: Line, session: str = CHILD, own: str | None = OWN_TURN, **more: Any) -> list[Line]:
    """A fork: its own first line, lines of its parent, its own turn, and lines."""
    first = meta(session, "10:10:00", **({"forked_from_id": PARENT} | more))
    return [first, *COPIED, *([turn("10:10:05", own)] if own else []), *lines]


SPAWNED: Any = {
    "forked_from_id": None,
    "source": {"subagent": {"thread_spawn": {"parent_thread_id": PARENT, "depth": 1}}},
}


@pytest.mark.parametrize(
    ("parents", "child", "expected"),
    [
        pytest.param(PARENTS, fork(AFTER), [CALL], id="a fork"),
        pytest.param(PARENTS, fork(AFTER, own=None), [CALL], id="without a turn of its own"),
        pytest.param(PARENTS, fork(AFTER, own="1"), [CALL], id="turns without UUIDs"),
        pytest.param(PARENTS, fork(AFTER, **SPAWNED), [CALL], id="a subagent that begins with copies"),
        pytest.param(PARENTS, fork(), [], id="an empty fork"),
        pytest.param(PARENTS[:3], fork(AFTER), [CALL], id="of its parent only the beginning is imported"),
        pytest.param(PARENTS, fork(AFTER, turn("10:10:10", "2"), own=None), [CALL], id="its own turn comes later"),
        pytest.param(
            [*PARENTS, turn("10:11:00", "2"), count("10:11:01", usage(350, 34), usage(50, 4))],
            fork(AFTER),
            [CALL],
            id="its parent went on with an equal call",
        ),
        pytest.param(
            PARENTS, [*fork()[:4], turn("10:10:05", OWN_TURN), count("10:10:09", usage(250, 24), usage(150, 14))],
            [(150, 0, 14, 0)], id="forked earlier: a call of its own below its parent's sum",
        ),
        pytest.param(
            PARENTS, [fork()[0], COPIED[0], *COPIED[3:], turn("10:10:05", OWN_TURN), AFTER], [CALL],
            id="the last turns of its parent only",
        ),
        pytest.param(
            PARENTS, [meta(CHILD, "10:10:00", **SPAWNED), turn("10:10:05", OWN_TURN), count("10:10:09", FIRST)],
            [CALL], id="a subagent that begins with nothing",
        ),
        pytest.param(
            PARENTS,
            [meta(CHILD, "10:10:00", **SPAWNED), COPIED[0], turn("10:10:05", OWN_TURN), count("10:10:09", FIRST)],
            [CALL], id="a subagent that copies no counts, and counts from 0",
        ),
        pytest.param(
            PARENTS, [meta(CHILD, "10:10:00", forked_from_id=PARENT), turn("10:10:05", OWN_TURN), AFTER], [CALL],
            id="a fork that goes on with its parent's sum, without its lines",
        ),
        pytest.param(None, fork(AFTER), [CALL], id="its parent is missing: turns tell by their time"),
        pytest.param(
            None,
            [meta(CHILD, "10:10:00", forked_from_id=PARENT, subagent_history_start_ordinal=6)]
            + [each | {"ordinal": n} for n, each in enumerate([*COPIED, turn("10:10:05", "1"), AFTER], 1)],
            [CALL], id="its parent is missing: ordinals tell",
        ),
    ],
)  # fmt: skip
def test_what_a_fork_copies_is_its_parents(
    root: Path, tmp_path: Path, parents: list[Line] | None, child: list[Line], expected: list[tuple[int, ...]]
) -> None:
    """Calls of the parent are counted with the parent, once; those of the fork with the fork, and all are priced."""
    store = store_of(root, tmp_path, *([] if parents is None else [parents]), child)
    assert calls(store, CHILD) == expected
    if parents is not None:
        assert calls(store)[:2] == [(100, 0, 10, 0), (200, 0, 20, 0)][: len(parents) // 2]
    assert store.sql("SELECT count(usage_problem) FROM llm_calls").rows == [(0,)]


def test_without_the_parent_the_doubt_is_said(root: Path, tmp_path: Path) -> None:
    """Turns without times do not tell which calls are copies: they have no price. With the parent they are told."""
    child = write(tmp_path / "child.jsonl", fork(AFTER, own="1"))
    import_files(root, child)
    Indexer(root).catch_up()
    store = ReadStore(root)
    doubt = f"may be a call of the session {PARENT}, which is not imported"
    rows = store.sql("SELECT DISTINCT usage_problem FROM llm_calls").rows
    assert [tuple(row) for row in rows] == [(doubt,)]
    import_files(root, write(tmp_path / "parent.jsonl", PARENTS))
    Indexer(root).catch_up()
    rows = store.sql("SELECT session_id, usage_problem FROM llm_calls ORDER BY timestamp").rows
    assert [tuple(row) for row in rows] == [(PARENT, None), (PARENT, None), (CHILD, None)]


def test_siblings_may_have_equal_counts(root: Path, tmp_path: Path) -> None:
    """Two forks of one session, each with the same call: two calls; and one with their own subagents' names."""
    store = store_of(root, tmp_path, PARENTS, fork(AFTER, **SPAWNED), fork(AFTER, session=SIBLING))
    rows = store.sql("SELECT session_id, subagent_id, output_tokens FROM llm_calls ORDER BY 1, 3").rows
    assert [tuple(row) for row in rows] == [
        (PARENT, None, 10), (PARENT, None, 20), (CHILD, CHILD, 4), (SIBLING, None, 4),
    ]  # fmt: skip


def test_a_fork_of_a_fork(root: Path, tmp_path: Path) -> None:
    """Its file begins with three session_meta."""
    child = fork(AFTER)
    copied = [each | {"timestamp": "2026-06-17T10:20:00.000Z"} for each in child]
    grandchild = [
        meta(SIBLING, "10:20:00", forked_from_id=CHILD), *copied, turn("10:20:05", "1"),
        count("10:20:09", usage(1350, 134), usage(1000, 100)),
    ]  # fmt: skip
    store = store_of(root, tmp_path, grandchild, child, PARENTS)
    assert (calls(store), calls(store, CHILD), calls(store, SIBLING)) == (
        [(100, 0, 10, 0), (200, 0, 20, 0)], [CALL], [(1000, 0, 100, 0)],
    )  # fmt: skip


# -- failures --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failed", "error"),
    [
        (event("10:00:03", "error", message="Overloaded", codex_error_info="server_overloaded"), "server_overloaded"),
        (
            event(
                "10:00:03", "stream_error", message="…", codex_error_info={"http_connection_failed": {"status": 500}}
            ),
            "http_connection_failed",
        ),
        (event("10:00:03", "error", message="Something"), "error"),
        (event("10:00:03", "turn_aborted", turn_id=TURN, reason="model_error"), "model_error"),
        (event("10:00:03", "turn_aborted", turn_id=TURN, reason="interrupted"), None),
        (event("10:00:03", "error", message="Landlock", codex_error_info="sandbox_error"), None),
    ],
)
def test_failed_calls(root: Path, tmp_path: Path, failed: Line, error: str | None) -> None:
    """Where the file says so. A turn that the user interrupted is no failure of a call, nor is one of the sandbox."""
    store = store_of(root, tmp_path, [meta(), turn(), count("10:00:02", ONE), failed, count("10:00:04", TWO, STEP)])
    rows = store.sql("SELECT model, request_id, error_type, output_tokens FROM llm_calls WHERE NOT ok").rows
    assert [tuple(row) for row in rows] == ([] if error is None else [(MODEL, TURN, error, 0)])
    assert len(calls(store)) == 2


def test_web_searches_belong_to_the_call_that_made_them(root: Path, tmp_path: Path) -> None:
    """Pages that it opened are no searches."""
    search = item("10:00:02", "web_search_call", status="completed", action={"type": "search", "query": "kilns"})
    opened = item("10:00:02", "web_search_call", status="completed", action={"type": "open_page", "url": "x"})
    store = store_of(
        root,
        tmp_path,
        [meta(), turn(), search, opened, count("10:00:03", ONE), search, search, count("10:00:05", TWO, STEP)],
    )
    assert [row[0] for row in store.sql("SELECT web_searches FROM llm_calls ORDER BY timestamp").rows] == [1, 2]


def test_each_workspace_has_its_own_calls(root: Path, tmp_path: Path) -> None:
    """The same rollouts in two workspaces: forks find their parents in their own only."""
    paths = [write(tmp_path / "0.jsonl", PARENTS), write(tmp_path / "1.jsonl", fork(AFTER, own="1"))]
    import_files(root, *paths, workspace="a")
    import_files(root, paths[1], workspace="b")
    Indexer(root).catch_up()
    assert calls(ReadStore(root, workspace="a"), CHILD) == [CALL]
    assert len(calls(ReadStore(root, workspace="b"), CHILD)) == 3
    assert len(calls(ReadStore(root), CHILD)) == 4


def test_unknown_lines_do_no_harm(root: Path, tmp_path: Path) -> None:
    """Unknown types, payloads that are none, and odd ones; the calls among them are counted."""
    odd: list[Any] = [
        {"type": "event_msg"}, {"type": "event_msg", "payload": None}, {"payload": []},
        {"type": 7, "payload": {"type": []}},
        line("world_state", "10:00:02", anything=[1]), event("10:00:02", "token_count", info="soon"),
        line("session_meta", "10:00:02"), line("turn_context", None, turn_id=5, model=None), {},
        item("10:00:02", "function_call"), item("10:00:02", "function_call_output", output={"content": 1}),
        item("10:00:02", "message", role="user", content="text"), event("10:00:02", "user_message", message=None),
    ]  # fmt: skip
    store = store_of(root, tmp_path, [meta(), turn(), *odd, count("10:00:03", ONE), *odd])
    assert calls(store)[-1:] == [(800, 200, 100, 40)]
    for view in ("llm_calls", "tool_calls", "messages", "sessions"):
        store.sql(f"SELECT * FROM {view}")


# -- any rollout -----------------------------------------------------------------------------


def random_rollout(chance: random.Random, session: str, lines: list[Line], sum_: list[int]) -> list[tuple[int, ...]]:
    """Add lines of a session to `lines`, from a sum on; return its calls: input, output, and the sum moves on."""
    made: list[tuple[int, ...]] = []
    for n in range(chance.randrange(1, 9)):
        if chance.random() < 0.3:
            lines.append(turn("10:00:01", f"{session}-{n}", chance.choice([MODEL, "gpt-5.3-codex-spark"])))
        hidden = chance.random() < 0.2  # a call without an event of its own: it is in the sum with the next one
        last = (chance.randrange(1, 10**6), chance.randrange(10**4))
        call = (last[0] + 7, last[1] + 1) if hidden else last
        if chance.random() < 0.15 and last[0] < sum_[0]:  # counting begins anew
            sum_[:], call = [0, 0], last
        sum_[:] = [sum_[0] + call[0], sum_[1] + call[1]]
        at = None if chance.random() < 0.1 else f"10:00:{chance.randrange(2, 60):02d}"
        counted = count(at, usage(*sum_), usage(*last))
        lines += [counted] * chance.choice([1, 1, 1, 2, 3])
        lines += [event("10:00:02", "token_count", info=None)] * chance.choice([0, 0, 1])
        made.append(call)
    return made


def test_any_rollout_has_the_calls_that_were_made(root: Path, tmp_path: Path) -> None:
    """Sessions at random, with repeats, calls without events, new beginnings, and forks of them: each call once."""
    chance = random.Random(15)
    expected: dict[str, list[tuple[int, ...]]] = {}
    rollouts = []
    for n in range(40):
        parent, child = f"parent-{n}", f"child-{n}"
        first, sum_ = [meta(parent), turn("10:00:01", "1")], [0, 0]
        expected[parent] = random_rollout(chance, parent, first, sum_)
        copied = [each | {"timestamp": "2026-06-17T11:00:00.000Z"} for each in first]
        forked = [meta(child, "11:00:00", forked_from_id=parent), *copied]
        expected[child] = random_rollout(chance, child, forked, sum_)
        rollouts += [forked, first]
    store = store_of(root, tmp_path, *rollouts)
    found: dict[str, list[tuple[int, ...]]] = {session: [] for session in expected}
    for session, *call in store.sql("SELECT session_id, uncached_input_tokens, output_tokens FROM llm_calls").rows:
        found[session].append(tuple(call))
    assert {session: sorted(each) for session, each in found.items()} == {
        session: sorted(each) for session, each in expected.items()
    }
