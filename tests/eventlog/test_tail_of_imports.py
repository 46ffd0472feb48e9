"""`eventlog tail` of imported lines: who said what, and the newest last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventlog.importers.sources import preview
from eventlog.record.recorder import Recorder
from tests import codex_lines as codex
from tests.claude_lines import SESSION, answer, line, prompt, result, store_of, text, thinking, use
from tests.conftest import Run
from tests.terminals import in_terminal

#: An imported line → what is printed of it.
CLAUDE_CODE: list[tuple[dict[str, Any], str]] = [
    (prompt("10:00:01", "Make  it\ncount"), "user: Make it count"),
    (prompt("10:00:01", [{"type": "text", "text": "a"}, {"type": "image"}]), "user: a  user: [image]"),
    (answer("10:00:02", thinking("Hm."), text("I shall look.")), "thought: Hm.  assistant: I shall look."),
    (answer("10:00:02", use("t1", "Bash", timeout=7, command="make all")), "▸ Bash make all"),
    (answer("10:00:02", use("t1", "TodoWrite", todos=[])), "▸ TodoWrite"),
    (result("10:00:03", "t1", "done"), "result: done"),
    (result("10:00:03", "t1", [text("one"), text("two")], is_error=True), "failed: one two"),
    (prompt("10:00:03", "look", isSidechain=True), "subagent  user: look"),
    (line("progress", "10:00:04", data={"type": "agent_progress", "message": answer("10:00:04", text("seen"))}),
     "subagent  assistant: seen"),
    (line("progress", "10:00:04", data={"type": "bash_progress", "output": "50%"}), "progress  bash_progress  50%"),
    (line("system", "10:00:05", subtype="turn_duration", durationMs=7), "system  turn_duration"),
    ({"type": "summary", "summary": "Counting", "leafUuid": "u"}, "summary  Counting"),
    ({"type": "file-history-snapshot", "snapshot": {}}, "file history snapshot"),
    ({"type": "user", "message": None}, ""),
    ({"type": 7, "data": [], "message": 3}, "line"),
    ({}, "line"),
]  # fmt: skip
CODEX: list[tuple[dict[str, Any], str]] = [
    (codex.meta(), "session meta"),
    (codex.said("10:00:01", "user", "yes", "please"), "user: yes please"),
    (codex.event("10:00:01", "agent_message", message="Done."), "assistant: Done."),
    (codex.item("10:00:02", "reasoning", summary=[{"type": "summary_text", "text": "Hm."}]), "thought: Hm."),
    (codex.item("10:00:02", "reasoning", summary=[], encrypted_content="x"), "thought (encrypted)"),
    (codex.item("10:00:03", "function_call", name="exec_command", arguments='{"n": 1, "cmd": "ls -l"}'),
     "▸ exec_command ls -l"),
    (codex.item("10:00:03", "custom_tool_call", name="apply_patch", input="*** Begin"), "▸ apply_patch *** Begin"),
    (codex.item("10:00:03", "web_search_call", action={"type": "search", "query": "kiln"}), "▸ web_search search"),
    (codex.item("10:00:04", "function_call_output", output="ok"), "result: ok"),
    (codex.count("10:00:05", codex.usage(10, 5)), "token count"),
    ({"type": "event_msg", "payload": []}, "event msg"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("event_type", "payload", "words"),
    [*(("claude_code", *each) for each in CLAUDE_CODE), *(("codex", *each) for each in CODEX)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_line_in_few_words(event_type: str, payload: dict[str, Any], words: str) -> None:
    """Who said what, and which tool was called with what."""
    assert preview(event_type, msgspec.json.encode(payload)) == words


@pytest.mark.parametrize("payload", [b"", b"7", b"[]", b'"text"', b"{", b"[" * 100_000, b"\xff"])
def test_what_is_no_line_has_no_words(payload: bytes) -> None:
    """And breaks nothing; other events are shown as they are."""
    assert preview("claude_code", payload) is None
    assert preview("llm_call", b"{}") is None


def tail(root: Path, *arguments: str, columns: int = 80) -> list[str]:
    """The lines of `eventlog tail` in a terminal."""
    return in_terminal(
        "tail", *arguments, "--utc", "--root", str(root), COLUMNS=str(columns), NO_COLOR="1"
    ).splitlines()


def test_imported_lines_are_readable_in_a_terminal(root: Path, tmp_path: Path) -> None:
    """A line each, with time and session, cut where the terminal ends."""
    store_of(root, tmp_path, [prompt("10:00:01", "Make it count"), answer("10:00:02", text("word " * 100))])
    shown = tail(root, "claude_code")
    assert shown[0] == f"2026-03-02 10:00:01Z  {SESSION[:8]}  user: Make it count"
    assert shown[1].startswith(f"2026-03-02 10:00:02Z  {SESSION[:8]}  assistant: word word")
    assert len(shown[1]) == 80
    assert "parentUuid" not in "".join(shown)


def test_the_newest_imported_lines_are_the_last_in_time(root: Path, tmp_path: Path, run: Run) -> None:
    """Not those of the file that was imported last."""
    other = "22222222-aaaa-4aaa-8aaa-000000000002"
    files = [
        [prompt(f"12:00:{n:02}", f"new {n}") for n in range(5)],
        [prompt(f"09:00:{n:02}", "old", other) for n in range(5)],
    ]
    store_of(root, tmp_path, *files)
    lines = [json.loads(each) for each in run("tail", "claude_code", "-n", "2").stdout.splitlines()]
    assert [each["payload"]["message"]["content"] for each in lines] == ["new 3", "new 4"]
    assert [each.rpartition("  ")[2] for each in tail(root, "claude_code", "-n", "2")] == [
        "user: new 3",
        "user: new 4",
    ]


def test_own_events_are_cut_where_the_terminal_ends(root: Path, recorder: Recorder, run: Run) -> None:
    """Whatever the width of their characters; a pipe has them whole."""
    recorder.emit("note", {"text": "word " * 100})
    recorder.emit("note", {"text": "\u65e5\u672c" * 100}, agent="planner", run_id="r-1")
    recorder.emit("note", {"n": 1})
    recorder.shutdown()
    for columns in (100, 80, 20):
        lines = tail(root, columns=columns)
        assert len(lines) == 3
        assert all(len(each) + sum(char in "\u65e5\u672c" for char in each) <= max(columns, 33) for each in lines)
    assert (tail(root)[0][-1], len(tail(root)[0])) == ("\u2026", 80)
    assert "planner r-1" in tail(root)[1]
    assert tail(root)[2].endswith('note  {"n":1}')
    assert json.loads(run("tail").stdout.splitlines()[0])["payload"]["text"] == "word " * 100
