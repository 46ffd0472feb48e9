"""Tool calls, messages, titles and projects of Codex rollouts; and real rollouts, counted without the product."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eventlog.indexer.indexer import Indexer
from eventlog.indexer.views.codex import VIEWS
from tests.codex_lines import (
    CHILD,
    MODEL,
    OWN_TURN,
    PARENT,
    TURN,
    Line,
    count,
    event,
    import_files,
    item,
    line,
    meta,
    said,
    store_of,
    turn,
    usage,
    write,
)  # fmt: skip
from tests.indexer.support import rows

# -- tools -----------------------------------------------------------------------------------


def tool_call(name: str = "shell", call_id: str = "c1", at: str = "10:00:02", **more: Any) -> Line:
    return item(at, "function_call", name=name, arguments='{"cmd": "make"}', call_id=call_id, **more)


def output(text: Any, call_id: str = "c1", at: str = "10:00:05", kind: str = "function_call_output") -> Line:
    return item(at, kind, call_id=call_id, output=text)


RAN = "Chunk ID: 1e3d7f\nWall time: 30.0 seconds\nProcess exited with code {}\nOutput:\nProcess exited with code 7"
PATCH = item("10:00:02", "custom_tool_call", status="completed", call_id="c1", name="apply_patch", input="*** Begin")

#: A call and its results; the tool, whether it succeeded, and its kind of error.
TOOLS: dict[str, tuple[list[Line], tuple[str, bool | None, str | None]]] = {
    "exit code 0": ([tool_call(), output(RAN.format(0))], ("shell", True, None)),
    "another exit code": ([tool_call(), output(RAN.format(-1))], ("shell", False, "exit code -1")),
    "of an older version": (
        [tool_call(), output('{"output":"no","metadata":{"exit_code":2,"duration_seconds":0.1}}')],
        ("shell", False, "exit code 2"),
    ),
    "it still runs": (
        [tool_call(), output("Wall time: 30.0 seconds\nProcess running with session ID 69172\nOutput:\nExit code: 1")],
        ("shell", None, None),
    ),
    "interrupted": ([tool_call(), output("aborted by user after 29.7s")], ("shell", None, None)),
    "no output": ([tool_call()], ("shell", None, None)),
    "nothing says how it went": ([tool_call("update_plan"), output("Plan updated")], ("update_plan", None, None)),
    "an output with success": ([tool_call(), output({"content": "no", "success": False})], ("shell", False, None)),
    "a patch": ([PATCH, output("Exit code: 1\nOutput:\n", kind="custom_tool_call_output")],
                ("apply_patch", False, "exit code 1")),
    "the end of a patch": ([PATCH, event("10:00:03", "patch_apply_end", call_id="c1", success=False)],
                           ("apply_patch", False, None)),
    "a patch that the user declined": (
        [PATCH, event("10:00:03", "patch_apply_end", call_id="c1", success=False, status="declined")],
        ("apply_patch", None, None),
    ),
    "of a server": (
        [tool_call("_fetch", namespace="mcp__hub"),
         event("10:00:03", "mcp_tool_call_end", call_id="c1", result={"Ok": {"content": [], "isError": True}})],
        ("mcp__hub._fetch", False, None),
    ),
    "of a server that failed": (
        [tool_call("_fetch"), event("10:00:03", "mcp_tool_call_end", call_id="c1", result={"Err": "timed out"})],
        ("_fetch", False, None),
    ),
    "of a server that answered": (
        [tool_call("_fetch"), event("10:00:03", "mcp_tool_call_end", call_id="c1", result={"Ok": {"content": []}})],
        ("_fetch", True, None),
    ),
    "a shell of an older version": (
        [item("10:00:02", "local_shell_call", call_id="c1", status="completed", action={"type": "exec"}),
         output('{"output":"","metadata":{"exit_code":0}}')],
        ("local_shell", True, None),
    ),
    "a command without a call": (
        [event("10:00:03", "exec_command_end", call_id="c1", command=["make"], exit_code=2, aggregated_output="no")],
        ("exec_command", False, "exit code 2"),
    ),
    "a web search": (
        [item("10:00:02", "web_search_call", status="completed", action={"type": "search", "query": "x"}),
         event("10:00:02", "web_search_end", call_id="ws_1", query="x")],
        ("web_search", True, None),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_call_and_how_it_went(root: Path, tmp_path: Path, name: str) -> None:
    """NULL where nothing says it: unknown is not failed."""
    lines, expected = TOOLS[name]
    store = store_of(root, tmp_path, [meta(), turn(), *lines])
    assert [tuple(row) for row in store.sql("SELECT tool, ok, error_type FROM tool_calls").rows] == [expected]


def test_a_tool_call_has_its_input_output_and_times(root: Path, tmp_path: Path) -> None:
    """And an id that comes again in a later turn is another call."""
    store = store_of(
        root,
        tmp_path,
        [
            meta(), turn(), tool_call(), output(RAN.format(0)), turn("10:01:00", "t2"),
            tool_call(at="10:01:02"), output(RAN.format(1), at="10:01:03"), tool_call(at="10:01:04"),
        ],
    )  # fmt: skip
    calls = store.sql(
        "SELECT tool_call_id, input ->> 'cmd', left(output ->> '$', 16), duration_ms, ok FROM tool_calls "
        "ORDER BY timestamp"
    ).rows
    assert [tuple(row) for row in calls] == [
        ("c1", "make", "Chunk ID: 1e3d7f", 3000.0, True),
        ("c1", "make", "Chunk ID: 1e3d7f", 1000.0, False),
        ("c1", "make", None, None, None),
    ]


# -- messages, titles, projects --------------------------------------------------------------

WRAPPED = [
    said("10:00:02", "developer", "<permissions instructions>\nnone"),
    said("10:00:02", "user", "# AGENTS.md instructions for /home/ada/engine\n", "<environment_context>…"),
    said("10:00:02", "user", "<environment_context>\n  <cwd>/home/ada</cwd>"),
]
TALK = [
    *WRAPPED,
    said("10:00:03", "user", "yes"),
    event("10:00:03", "user_message", message="yes"),
    event("10:00:04", "agent_message", message="Done."),
    said("10:00:04", "assistant", "Done."),
    said("10:00:05", "user", "yes"),
    event("10:00:05", "user_message", message="yes"),
    event("10:00:06", "user_message", message="and this only as an event"),
    said("10:00:07", "user", "<image name=[1]>", "</image>", "look"),
    event("10:00:07", "user_message", message="look"),
    said("10:00:08", "assistant", "One.", "Two."),
]


def test_messages_are_there_once(root: Path, tmp_path: Path) -> None:
    """A text is written as an item and as an event; what Codex writes in the user's name is left out."""
    store = store_of(root, tmp_path, [meta(), turn(), *TALK])
    texts = store.sql("SELECT role, text, model FROM messages ORDER BY timestamp, role DESC").rows
    assert [tuple(row) for row in texts] == [
        ("user", "yes", None),
        ("assistant", "Done.", MODEL),
        ("user", "yes", None),
        ("user", "and this only as an event", None),
        ("user", "look", None),
        ("assistant", "One.\nTwo.", MODEL),
    ]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (TALK, ("yes", "prompt")),
        ([*TALK, event("10:00:09", "thread_name_updated", thread_name="Kilns"),
          event("10:00:10", "thread_name_updated", thread_name="Two  kilns")], ("Two kilns", "name")),
        ([*WRAPPED, said("10:00:03", "user", "only an item")], ("only an item", "prompt")),
        (WRAPPED, (None, None)),
        ([said("10:00:03", "user", "x" * 400)], ("x" * 200, "prompt")),
    ],
)  # fmt: skip
def test_titles(root: Path, tmp_path: Path, lines: list[Line], expected: tuple[str | None, str | None]) -> None:
    """The name that the thread was given last, else the first real prompt."""
    import_files(root, write(tmp_path / "a.jsonl", [meta(), turn(), *lines]))
    Indexer(root).catch_up()
    assert titles(root) == {PARENT: (*expected, "/home/ada/engine")}


def titles(root: Path) -> dict[str, tuple[str | None, ...]]:
    """By session: its title, where it comes from, and the project."""
    assert VIEWS.sessions is not None
    found = rows(root, f"SELECT session_id, title, title_source, project FROM ({VIEWS.sessions})")
    return {row[0]: tuple(row[1:]) for row in found}


def test_what_a_fork_copies_is_not_said_again(root: Path, tmp_path: Path) -> None:
    """Its messages and tool calls are its parent's; its title is its own first prompt, its project its own folder."""
    parents = [meta(), turn(), *TALK, tool_call(at="10:00:09"), output(RAN.format(0), at="10:00:09"),
               count("10:00:09", usage(5, 5))]  # fmt: skip
    copied = [each | {"timestamp": "2026-06-17T10:10:00.000Z"} for each in parents]
    own = [turn("10:10:02", OWN_TURN), event("10:10:03", "user_message", message="another way")]
    store = store_of(root, tmp_path, parents, [meta(CHILD, "10:10:00", forked_from_id=PARENT, cwd="/b"), *copied, *own])
    assert [tuple(row) for row in store.sql(f"SELECT text FROM messages WHERE session_id = '{CHILD}'").rows] == [
        ("another way",)
    ]
    assert [row[0] for row in store.sql("SELECT session_id FROM tool_calls").rows] == [PARENT]
    assert titles(root) == {
        PARENT: ("yes", "prompt", "/home/ada/engine"),
        CHILD: ("another way", "prompt", "/b"),
    }


# -- growing files ---------------------------------------------------------------------------

GROWING = [
    meta(), turn(), *TALK[:6], tool_call(), output(RAN.format(1)), count("10:00:06", usage(100, 10)),
    count(None, usage(150, 15), usage(50, 5)), count("10:00:07", usage(150, 15), usage(50, 5)),
    line("world_state", None), event("10:00:08", "turn_aborted", turn_id=TURN, reason="interrupted"),
    turn("10:00:09", "t2", model="gpt-5.3-codex-spark"), count("10:00:09", usage(400, 40), usage(20, 2)),
    count("10:00:10", usage(70, 7)),
]  # fmt: skip


def test_a_growing_file_gives_the_same_rows_as_a_whole_one(root: Path, tmp_path: Path) -> None:
    """Imported at each line's end by a process of its own, and in the middle of each line."""
    whole = tmp_path / "whole"
    store_of(whole, tmp_path / "one", GROWING)
    path = tmp_path / "two" / "0.jsonl"
    path.parent.mkdir()
    for end, each in enumerate(GROWING):
        done = "".join(json.dumps(line) + "\n" for line in GROWING[:end])
        path.write_text(done + json.dumps(each)[:20])
        import_files(root, path)
        path.write_text(done + json.dumps(each) + "\n")
        import_files(root, path)
    Indexer(root).catch_up()
    assert views(root) == views(whole)


def views(root: Path) -> dict[str, list[tuple[str, ...]]]:
    """All rows of the views, sorted."""
    return {
        view: sorted(tuple(map(str, row)) for row in rows(root, f"SELECT * FROM {view}"))
        for view in ("llm_calls", "tool_calls", "messages", "sessions")
    }
