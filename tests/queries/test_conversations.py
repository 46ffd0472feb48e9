"""Conversations: what was said and done, whole, once each, and in the order of the log."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eventlog.queries.conversation import reading
from eventlog.queries.conversation.structs import Branch, Conversation, Message, ToolUse
from eventlog.queries.store import ReadStore
from tests import codex_lines as codex
from tests.claude_lines import SESSION, answer, line, prompt, result, store_of, text, thinking, use
from tests.conftest import Run

WORD = re.compile(r"[A-Z]+-WORD")


def words_of(conversation: Conversation | None) -> list[str]:
    """The words in the texts of a conversation, in its order."""
    assert conversation is not None
    return [word for turn in conversation.turns for item in turn.items for word in _words(item)]


def _words(item: Message | ToolUse | Branch) -> list[str]:
    if isinstance(item, Message):
        return WORD.findall(item.text)
    if isinstance(item, Branch):
        return [word for each in item.items for word in _words(each)]
    inside = [word for branch in item.branches for word in _words(branch)]
    return [*WORD.findall(item.arguments), *inside, *WORD.findall(item.result or "")]


def whole(store: ReadStore, id_: str = SESSION) -> Conversation:
    conversation = store.conversation(id_)
    assert conversation is not None
    return conversation


PROMPT = prompt("10:00:01", "ASKED-WORD")
CALL = answer("10:00:03", use("toolu_1", "Bash", command="echo ARGUMENT-WORD"), message_id="msg_1")
RESULT = result("10:00:04", "toolu_1", "RESULT-WORD")
LAST = answer("10:00:09", text("LAST-WORD"))
TASK = answer("10:00:03", use("toolu_t", "Task", prompt="Look for SOUGHT-WORD"), message_id="msg_2")
FOUND = result("10:00:08", "toolu_t", [text("FOUND-WORD")])


def inside(*messages: dict[str, Any], agent_id: str = "a1") -> list[dict[str, Any]]:
    """What a subagent said, within `progress` lines of its session."""
    return [
        line(
            "progress", each["timestamp"][11:19], data={"type": "agent_progress", "agentId": agent_id, "message": each}
        )
        for each in messages
    ]


#: What was said → the words in their order.
STORIES: dict[str, tuple[list[list[dict[str, Any]]], str]] = {
    "an answer over several lines": (
        [[PROMPT, answer("10:00:02", thinking("THOUGHT-WORD"), message_id="msg_1"),
          answer("10:00:02", text("ANSWER-WORD"), message_id="msg_1"), CALL, RESULT, LAST]],
        "ASKED THOUGHT ANSWER ARGUMENT RESULT LAST",
    ),
    "an answer in one line, with several calls": (
        [[PROMPT, answer("10:00:02", thinking("THOUGHT-WORD"), text("ANSWER-WORD"),
                         use("toolu_2", "Read", path="B-WORD"), use("toolu_1", "Read", path="A-WORD")),
          result("10:00:03", "toolu_1", "RA-WORD"), result("10:00:04", "toolu_2", "RB-WORD")]],
        "ASKED THOUGHT ANSWER B RB A RA",
    ),
    "blocks of texts, and a list of texts": (
        [[prompt("10:00:01", [text("ONE-WORD"), {"type": "image"}, text("TWO-WORD")]),
          prompt("10:00:02", ["THREE-WORD"]), LAST]],
        "ONE TWO THREE LAST",
    ),
    "a subagent in the lines of its session": (
        [[PROMPT, TASK, *inside(
            prompt("10:00:04", [text("Look for SOUGHT-WORD")]),
            answer("10:00:05", use("toolu_g", "Glob", pattern="GLOB-WORD")),
            result("10:00:06", "toolu_g", "GLOBBED-WORD"), answer("10:00:07", text("SEEN-WORD"))), FOUND, LAST]],
        "ASKED SOUGHT SOUGHT GLOB GLOBBED SEEN FOUND LAST",
    ),
    "a subagent in a file of its own": (
        [[prompt("10:00:04", "SUB-WORD", isSidechain=True, agentId="a1"),
          answer("10:00:05", text("SEEN-WORD"), isSidechain=True, agentId="a1")],
         [PROMPT, TASK, FOUND, LAST]],
        "ASKED SOUGHT SUB SEEN FOUND LAST",
    ),
    "subagents side by side": (
        [[PROMPT,
          answer("10:00:02", use("toolu_a", "Task", prompt="ONE-WORD"), message_id="msg_1"),
          answer("10:00:02", use("toolu_b", "Task", prompt="TWO-WORD"), message_id="msg_1"),
          *inside(prompt("10:00:03", "TWO-WORD"), agent_id="b"), *inside(prompt("10:00:03", "ONE-WORD"), agent_id="a"),
          *inside(answer("10:00:04", text("B-WORD")), agent_id="b"),
          *inside(answer("10:00:05", text("A-WORD")), agent_id="a"),
          result("10:00:06", "toolu_a", "RA-WORD"), result("10:00:06", "toolu_b", "RB-WORD")]],
        "ASKED ONE ONE A RA TWO TWO B RB",
    ),
    "a conversation that was compacted": (
        [[PROMPT, LAST, line("system", "10:00:10", subtype="compact_boundary", content="Conversation compacted"),
          prompt("10:00:11", "SUMMED-WORD", isCompactSummary=True), prompt("10:00:12", "NEXT-WORD"),
          answer("10:00:13", text("MORE-WORD"))]],
        "ASKED LAST SUMMED NEXT MORE",
    ),
    "a clock that goes back, and lines without a time": (
        [[PROMPT, answer("10:00:09", text("ANSWER-WORD")), prompt("09:00:00", "BACK-WORD"),
          prompt("10:00:01", "TIMELESS-WORD") | {"timestamp": None}, LAST]],
        "ASKED ANSWER BACK TIMELESS LAST",
    ),
    "several lines of one moment": (
        [[prompt("10:00:01", f"{name}-WORD") for name in "DCBAE"]], "D C B A E",
    ),
    "a session that goes on in a second file, which repeats lines": (
        [[PROMPT, CALL, RESULT], [PROMPT, CALL, RESULT, LAST]], "ASKED ARGUMENT RESULT LAST",
    ),
    "calls without results, and results without calls": (
        [[result("10:00:01", "toolu_0", [text("EARLIER-WORD")]), PROMPT, CALL, LAST]],
        "EARLIER ASKED ARGUMENT LAST",
    ),
    "empty ones": (
        [[prompt("10:00:00", ""), PROMPT, answer("10:00:02", thinking(""), text(""), use("toolu_1", "Bash")),
          result("10:00:03", "toolu_1", ""), result("10:00:03", "toolu_1", []), LAST]],
        "ASKED LAST",
    ),
    "what the program wrote in the name of the user": (
        [[prompt("10:00:00", "<local-command-stdout>OUTPUT-WORD</local-command-stdout>"),
          prompt("10:00:01", "CAVEAT-WORD", isMeta=True), prompt("10:00:01", "<b>ASKED-WORD</b>"), LAST]],
        "OUTPUT CAVEAT ASKED LAST",
    ),
    "a name that is used again": (
        [[PROMPT, answer("10:00:02", use("Bash:0", "Bash", command="A-WORD")), result("10:00:03", "Bash:0", "RA-WORD"),
          answer("10:00:04", use("Bash:0", "Bash", command="B-WORD")), result("10:00:05", "Bash:0", "RB-WORD")]],
        "ASKED A RA B RB",
    ),
}  # fmt: skip


@pytest.mark.parametrize("story", STORIES)
def test_all_that_was_said_is_there_in_order(root: Path, tmp_path: Path, story: str) -> None:
    """Each text once, each result at its call, and subagents where they were started."""
    files, expected = STORIES[story]
    conversation = whole(store_of(root, tmp_path, *files))
    assert words_of(conversation) == [f"{word}-WORD" for word in expected.split()]


@pytest.mark.parametrize("story", STORIES)
def test_verbose_prints_all_of_it(root: Path, tmp_path: Path, run: Run, story: str) -> None:
    """In the same order; what a subagent was asked stands among the arguments of its call, and is not printed twice."""
    files, expected = STORIES[story]
    store_of(root, tmp_path, *files)
    printed = run("show", SESSION, "--verbose", "--view", "conversation").stdout
    words = [f"{word}-WORD" for word in re.sub(r"\b(\w+) \1\b", r"\1", expected).split()]
    assert WORD.findall(printed) == words
    assert "uuid" not in printed


def test_a_fork_says_what_is_its_own(root: Path, tmp_path: Path, run: Run) -> None:
    """The lines that it copied are in the original, and it says so."""
    fork = "22222222-aaaa-4aaa-8aaa-000000000002"
    copied = [each | {"sessionId": fork, "forkedFrom": {"sessionId": SESSION}} for each in (PROMPT, LAST)]
    own = prompt("11:00:00", "OWN-WORD", fork)
    store = store_of(root, tmp_path, [PROMPT, LAST], [*copied, own])
    assert words_of(whole(store)) == ["ASKED-WORD", "LAST-WORD"]
    assert words_of(whole(store, fork)) == ["OWN-WORD"]
    assert whole(store, fork).copied_lines == 2
    assert "2 lines at its beginning are copies of another session" in run("show", fork).stdout


def test_a_rollout_of_codex(root: Path, tmp_path: Path, run: Run) -> None:
    """Texts that are there as items and as events are there once; thinking by its summary; results at their calls."""
    lines = [
        codex.meta(), codex.turn(), codex.event("10:00:02", "user_message", message="ASKED-WORD"),
        codex.said("10:00:02", "user", "ASKED-WORD"),
        codex.item("10:00:03", "reasoning", summary=[{"type": "summary_text", "text": "THOUGHT-WORD"}]),
        codex.event("10:00:03", "agent_reasoning", text="THOUGHT-WORD"),
        codex.item("10:00:04", "function_call", name="exec", arguments='{"cmd": "ARGUMENT-WORD"}', call_id="c1"),
        codex.item("10:00:05", "function_call_output", call_id="c1", output="RESULT-WORD"),
        codex.item("10:00:05", "function_call_output", call_id="c0", output="ALONE-WORD"),
        codex.line("compacted", "10:00:06", message="SUMMED-WORD"),
        codex.event("10:00:07", "agent_message", message="LAST-WORD"), codex.said("10:00:07", "assistant", "LAST-WORD"),
        codex.count("10:00:08", codex.usage(10, 5)),
    ]  # fmt: skip
    conversation = whole(codex.store_of(root, tmp_path, lines), codex.PARENT)
    expected = [f"{word}-WORD" for word in ["ASKED", "THOUGHT", "ARGUMENT", "RESULT", "ALONE", "SUMMED", "LAST"]]
    assert words_of(conversation) == expected
    assert WORD.findall(run("show", codex.PARENT, "--verbose").stdout) == expected
    assert (conversation.totals.llm_calls, conversation.totals.tool_calls, conversation.models) == (1, 1, [codex.MODEL])


def test_thinking_that_only_events_have(root: Path, tmp_path: Path) -> None:
    """Where no item of the session can be read; encrypted items say nothing."""
    lines = [codex.meta(), codex.turn(), codex.said("10:00:02", "user", "ASKED-WORD"),
             codex.item("10:00:03", "reasoning", summary=[], encrypted_content="x"),
             codex.event("10:00:03", "agent_reasoning", text="THOUGHT-WORD")]  # fmt: skip
    assert words_of(whole(codex.store_of(root, tmp_path, lines), codex.PARENT)) == ["ASKED-WORD", "THOUGHT-WORD"]


# -- turns and sums --------------------------------------------------------------------------


def test_turns_and_what_they_cost(root: Path, tmp_path: Path) -> None:
    """A turn begins where a user speaks again; the sums of turns and subagents are those of the session."""
    store = store_of(root, tmp_path, [
        PROMPT, CALL, RESULT, prompt("10:01:00", "AGAIN-WORD"), TASK | {"timestamp": "2026-03-02T10:01:01.000Z"},
        *inside(answer("10:01:02", text("SEEN-WORD"), output=7)), result("10:01:03", "toolu_t", "R", is_error=True),
        answer("10:01:04", text("LAST-WORD")),
    ])  # fmt: skip
    conversation = whole(store)
    first, second = conversation.turns
    assert (first.number, second.number) == (1, 2)
    assert (first.totals.llm_calls, first.totals.tool_calls) == (1, 1)
    (call,) = [item for item in second.items if isinstance(item, ToolUse)]
    (branch,) = call.branches
    assert (branch.subagent_id, branch.totals.llm_calls, branch.totals.output_tokens) == ("a1", 1, 7)
    assert (call.ok, second.totals.tool_failures) == (False, 1)
    for name in ("llm_calls", "tool_calls", "tool_failures", "input_tokens", "output_tokens", "unpriced", "cost_usd"):
        assert sum(getattr(turn.totals, name) for turn in conversation.turns) == getattr(conversation.totals, name)
    (session,) = store.sessions()
    assert (session.llm_calls, session.tool_calls, session.output_tokens) == (
        conversation.totals.llm_calls, conversation.totals.tool_calls, conversation.totals.output_tokens,
    )  # fmt: skip
    assert store.costs(None).total.cost_usd == conversation.totals.cost_usd != Decimal(0)


def test_a_call_that_failed_says_why(root: Path, tmp_path: Path, run: Run) -> None:
    """Once: by the notice of the program, or by the line of the failure."""
    notice = answer("10:00:02", text("API Error: 529 overloaded"), isApiErrorMessage=True)
    notice["message"]["model"] = "<synthetic>"
    retry = line("system", "10:00:03", subtype="api_error", error={"status": 529})
    conversation = whole(store_of(root, tmp_path, [PROMPT, notice, retry]))
    kinds = [(item.kind, item.text) for item in conversation.turns[0].items if isinstance(item, Message)]
    assert kinds == [("text", "ASKED-WORD"), ("note", "API Error: 529 overloaded"), ("error", "http_529")]
    assert run("show", SESSION).stdout.count("API Error") == 1


# -- limits ----------------------------------------------------------------------------------


def test_what_is_too_much_is_counted(root: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items and characters beyond the limits of an answer; sums count all."""
    lines = [prompt(f"10:00:{n:02}", f"number {n}") for n in range(20)]
    store = store_of(root, tmp_path, [*lines, answer("10:01:00", text("x" * 1000))])
    monkeypatch.setattr(reading, "ITEMS_MAX", 10)
    conversation = whole(store)
    assert (conversation.left_out_items, conversation.left_out_chars) == (11, 10 * 9 + 1000)
    assert conversation.totals.llm_calls == 1
    monkeypatch.setattr(reading, "ITEMS_MAX", 100)
    monkeypatch.setattr(reading, "CHARS_MAX", 500)
    assert (whole(store).left_out_items, whole(store).left_out_chars) == (1, 1000)
    short = store.conversation(SESSION, text_chars=5)
    assert short is not None
    last = short.turns[-1].items[-1]
    assert isinstance(last, Message)
    assert (last.text, last.chars) == ("xxxxx", 1000)


def test_a_result_of_a_megabyte(root: Path, tmp_path: Path, run: Run) -> None:
    """Is a few lines, and with --verbose all of it."""
    data = "\n".join(f"line {n}" for n in range(100_000))
    store_of(root, tmp_path, [PROMPT, CALL, result("10:00:04", "toolu_1", data), LAST])
    short = run("show", SESSION).stdout
    assert len(short) < 2000
    hidden = len(data) - len("line 0\nline 1\nline 2")
    assert f"… {hidden:,} more characters" in short
    assert "line 99999" not in short
    assert "line 99999" in run("show", SESSION, "--verbose").stdout
