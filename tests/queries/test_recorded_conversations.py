"""Conversations of recorded runs: each text once, however often prompts repeat it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.format import builtin
from eventlog.queries.conversation.recorded import History, ToolEvents
from eventlog.queries.conversation.structs import Conversation, Message, ToolUse
from eventlog.queries.store import ReadStore
from tests.conftest import Run
from tests.indexer.support import index, line, segment
from tests.queries.stories import Story
from tests.queries.test_conversations import WORD, words_of

Words = dict[str, Any]


def user(text: str) -> Words:
    return {"role": "user", "content": text}


def assistant(text: str) -> Words:
    return {"role": "assistant", "content": text}


def call(prompt: Any, answer: Any = None, **fields: Any) -> builtin.LlmCall:
    return builtin.LlmCall(request_model="m", input_messages=prompt, output_messages=answer, **fields)


ARGUMENTS = {"q": "ARGUMENT-WORD"}
TOOL = builtin.ToolCall(tool_name="search", tool_call_id="c1", arguments=ARGUMENTS, result="RESULT-WORD")
#: How SDKs write an answer that thinks, speaks and calls a tool, and the next prompt with its result.
FORMS: dict[str, tuple[Any, Any]] = {
    "OpenTelemetry": (
        {"role": "assistant", "parts": [
            {"type": "reasoning", "content": "THOUGHT-WORD"}, {"type": "text", "content": "ANSWER-WORD"},
            {"type": "tool_call", "id": "c1", "name": "search", "arguments": ARGUMENTS}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "RESULT-WORD"}]},
    ),
    "Anthropic": (
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "THOUGHT-WORD"}, {"type": "text", "text": "ANSWER-WORD"},
            {"type": "tool_use", "id": "c1", "name": "search", "input": ARGUMENTS}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "RESULT-WORD"}]}]},
    ),
    "OpenAI": (
        {"role": "assistant", "reasoning_content": "THOUGHT-WORD", "content": "ANSWER-WORD", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "search", "arguments": '{"q": "ARGUMENT-WORD"}'}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "RESULT-WORD"},
    ),
    "Google": (
        {"role": "assistant", "parts": [
            {"type": "thinking", "thinking": "THOUGHT-WORD"}, {"text": "ANSWER-WORD"},
            {"functionCall": {"id": "c1", "name": "search", "args": ARGUMENTS}, "id": "c1"}]},
        {"role": "tool", "parts": [{"functionResponse": {"result": "RESULT-WORD"}, "id": "c1"}]},
    ),
}  # fmt: skip
ORDER = [f"{word}-WORD" for word in ["ASKED", "THOUGHT", "ANSWER", "ARGUMENT", "RESULT", "LAST"]]


@pytest.mark.parametrize("has_event", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_messages_are_read_in_the_forms_of_sdks(root: Path, form: str, has_event: bool) -> None:
    """A call and its result are there once, whether the tool call has an event of its own or not."""
    spoken, answered = FORMS[form]
    with Story(root, run_id="r") as story:
        story.tell(1, call([user("ASKED-WORD")], [spoken]))
        if has_event:
            story.tell(2, TOOL)
        story.tell(3, call([user("ASKED-WORD"), spoken, answered], [assistant("LAST-WORD")]))
    conversation = ReadStore(root).conversation("r")
    assert words_of(conversation) == ORDER
    assert conversation is not None
    assert (conversation.totals.llm_calls, conversation.totals.tool_calls) == (2, 1)


REPEATED: dict[str, tuple[list[tuple[Any, dict[str, Any]]], str]] = {
    "prompts that grow": (
        [(call([user("A-WORD")], [assistant("B-WORD")]), {}),
         (call([user("A-WORD"), assistant("B-WORD"), user("C-WORD")], [assistant("D-WORD")]), {})], "A B C D",
    ),
    "the same answer twice": (
        [(call([user("A-WORD")], [assistant("B-WORD")]), {}),
         (call([user("A-WORD"), assistant("B-WORD"), user("A-WORD")], [assistant("B-WORD")]), {})], "A B A B",
    ),
    "prompts without a history": (
        [(call([user("A-WORD")], [assistant("B-WORD")]), {}), (call([user("C-WORD")], [assistant("B-WORD")]), {})],
        "A B C B",
    ),
    "texts for messages": ([(call("A-WORD", "B-WORD"), {}), (call(["C-WORD"], ["D-WORD"]), {})], "A B C D"),
    "instructions, which are there once": (
        [(call([user("A-WORD")], [assistant("B-WORD")], system_instructions="SYSTEM-WORD"), {}),
         (call([user("C-WORD")], [assistant("D-WORD")],
               system_instructions=[{"type": "text", "content": "SYSTEM-WORD"}]), {})], "SYSTEM A B C D",
    ),
    "message events beside calls": (
        [(builtin.Message(role="user", content="A-WORD"), {}), (call([user("A-WORD")], [assistant("B-WORD")]), {}),
         (builtin.Message(role="assistant", content="B-WORD"), {}),
         (builtin.Message(role="user", content="C-WORD"), {}),
         (call([user("A-WORD"), assistant("B-WORD"), user("C-WORD")], [assistant("B-WORD")]), {}),
         (builtin.Message(role="assistant", content="B-WORD"), {})], "A B C B",
    ),
    "message events alone": (
        [(builtin.Message(role="user", content="A-WORD"), {}),
         (builtin.Message(role="assistant", content=[{"type": "text", "text": "B-WORD"}]), {}),
         (builtin.Message(role="user", content="A-WORD"), {})], "A B A",
    ),
    "a task, where no prompt was recorded": (
        [(builtin.RunStarted(name="n", task="TASK-WORD"), {}), (call(None, [assistant("B-WORD")]), {})], "TASK B",
    ),
    "a task that is the prompt": (
        [(builtin.RunStarted(name="n", task="A-WORD"), {}), (call([user("A-WORD")], [assistant("B-WORD")]), {})], "A B",
    ),
    "a failed call, and its repetition": (
        [(call([user("A-WORD")], error_type="Overloaded", error_message="FAILED-WORD"), {}),
         (call([user("A-WORD")], [assistant("B-WORD")]), {})], "A FAILED B",
    ),
    "results that prompts repeat in words of their own": (
        [(call([user("A-WORD")], [assistant("B-WORD")]), {}),
         (builtin.ToolCall(tool_name="t", ok=False, error_type="Refused", error_message="C-WORD"), {}),
         (call([user("A-WORD"), assistant("B-WORD"), {"role": "tool", "content": "Refused: C-WORD"}],
               [assistant("D-WORD")]), {})], "A B D",
    ),
    "a summary": (
        [(builtin.Message(role="user", content="A-WORD"), {}), (builtin.ConversationState(summary="SUMMED-WORD"), {})],
        "A SUMMED",
    ),
    "an error": (
        [(call("A-WORD", "B-WORD"), {}), (builtin.Error(error_type="E", error_message="C-WORD"), {})], "A B C",
    ),
}  # fmt: skip


@pytest.mark.parametrize("blob_min_bytes", [64 * 1024, 1])
@pytest.mark.parametrize("case", REPEATED)
def test_each_text_is_there_once(root: Path, case: str, blob_min_bytes: int) -> None:
    """Whatever prompts, events and blobs repeat."""
    events, expected = REPEATED[case]
    with Story(root, run_id="r", session_id="s", blob_min_bytes=blob_min_bytes) as story:
        for second, (event, fields) in enumerate(events):
            story.tell(second, event, **fields)
    assert words_of(ReadStore(root).conversation("r")) == [f"{word}-WORD" for word in expected.split()]


def test_runs_of_one_session(root: Path) -> None:
    """One that was asked the same as another says so; one that goes on with the conversation repeats nothing."""
    with Story(root, session_id="s") as story:
        story.tell(1, call([user("A-WORD")], [assistant("B-WORD")]), run_id="r1")
        story.tell(2, call([user("A-WORD")], [assistant("B-WORD")]), run_id="r2")
        story.tell(3, call([user("A-WORD"), assistant("B-WORD"), user("C-WORD")], [assistant("D-WORD")]), run_id="r3")
    assert words_of(ReadStore(root).conversation("s")) == ["A-WORD", "B-WORD"] * 2 + ["C-WORD", "D-WORD"]


@given(
    st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), st.sampled_from(["a", "b", "c"])), max_size=12)
)
def test_prompts_that_grow_say_each_text_once(history: list[tuple[str, str]]) -> None:
    """Whatever is repeated in it: what is new in all prompts is what the last prompt has, with its answer."""
    read = History(ToolEvents(frozenset(), frozenset()))
    parts: list[tuple[str, str]] = []
    for end in (number for number, (role, _) in enumerate(history) if role == "assistant"):
        messages = [{"role": role, "content": text} for role, text in history[: end + 1]]
        payload = {"input_messages": messages[:-1], "output_messages": messages[-1:]}
        parts += [(part.role, part.text) for part, _ in read.of_call(payload, "r")]
    last = max((number for number, (role, _) in enumerate(history) if role == "assistant"), default=-1)
    assert sorted(parts) == sorted(history[: last + 1])


ODD: list[Any] = [
    None, 7, True, "text", [], {}, [None], [[]], [[{"role": "user"}]], {"role": 7},
    {"role": "user", "content": {"a": [1]}},
    {"role": "assistant", "tool_calls": "none"}, {"role": "assistant", "tool_calls": [None, {"function": 3}]},
    {"role": "tool", "content": None}, {"parts": "text"}, {"type": "tool_use"}, {"type": "tool_result"},
    {"type": "thinking"}, {"type": "reasoning", "summary": [3]}, {"content": [{"type": None}]},
    {"$blob": {"sha256": 7}},
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_odd_messages_break_nothing(root: Path, run: Run, odd: Any) -> None:
    """Wherever they stand."""
    payloads = {
        "llm_call": [{"input_messages": "ASKED-WORD", "output_messages": "LAST-WORD"},
                     {"input_messages": odd, "output_messages": odd, "system_instructions": odd, "error_message": odd}],
        "message": [{"role": odd, "content": odd}, {"content": odd}],
        "tool_call": [{"tool_name": odd, "arguments": odd, "result": odd, "tool_call_id": odd, "ok": odd}],
        "run_started": [{"task": odd}],
        "conversation_state": [{"summary": odd}],
    }  # fmt: skip
    numbers = itertools.count()
    for event_type, each in payloads.items():
        lines = [line(next(numbers), event_type, payload=payload, run_id="r", session_id="s") for payload in each]
        segment(root, *lines, event_type=event_type)
    index(root)
    words = words_of(ReadStore(root).conversation("r"))
    assert [words.count("ASKED-WORD"), words.count("LAST-WORD")] == [1, 1]
    for command in ("show r", "show s --verbose", "show r --json", "export conversation s --format html"):
        done = run(*command.split())
        assert (done.returncode, done.stderr) == (0, "")


def test_turns_by_their_numbers(root: Path) -> None:
    """Where events carry them; what carries none stands before them."""
    with Story(root, run_id="r") as story:
        story.tell(0, call([user("A-WORD")], [assistant("B-WORD")]))
        for number in (1, 2):
            story.tell(number, builtin.ToolCall(tool_name="t", arguments={"n": number}), turn_number=number)
    conversation = ReadStore(root).conversation("r")
    assert conversation is not None
    assert [(turn.number, len(turn.items)) for turn in conversation.turns] == [(None, 2), (1, 1), (2, 1)]


def test_a_text_in_a_blob_that_is_gone_says_so(root: Path) -> None:
    """In its place."""
    with Story(root, run_id="r", blob_min_bytes=1024) as story:
        story.tell(0, call([user("x" * 5000)], [assistant("LAST-WORD")]))
        story.tell(1, builtin.ToolCall(tool_name="t", result="y" * 5000))
    whole = ReadStore(root).conversation("r")
    assert whole is not None
    assert _texts(whole) == ["x" * 5000, "LAST-WORD", "y" * 5000]
    for path in (root / "blobs").glob("??/*"):
        path.unlink()
    gone = ReadStore(root).conversation("r")
    assert gone is not None
    first, last, result = _texts(gone)
    assert first.startswith("(it cannot be read: ")
    assert last == "LAST-WORD"
    assert result.startswith("(it cannot be read: ")


def _texts(conversation: Conversation) -> list[str]:
    items = [item for turn in conversation.turns for item in turn.items]
    return [
        item.text if isinstance(item, Message) else item.result or ""
        for item in items
        if isinstance(item, Message | ToolUse)
    ]


def test_a_store_of_one_workspace_sees_its_own_words(root: Path, run: Run) -> None:
    """Of a run and a session whose ids another workspace has as well."""
    for workspace, word in (("a", "A-WORD"), ("b", "B-WORD")):
        with Story(root, run_id="r", session_id="s", workspace=workspace) as story:
            story.tell(0, call([user(word)], [assistant(word)]))
    for id_ in ("r", "s"):
        assert set(words_of(ReadStore(root, workspace="a").conversation(id_))) == {"A-WORD"}
        assert set(WORD.findall(run("show", id_, "--verbose", "--workspace", "b").stdout)) == {"B-WORD"}
        assert set(WORD.findall(run("show", id_, "--raw", "--workspace", "b").stdout)) == {"B-WORD"}
