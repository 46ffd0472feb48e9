"""A session that only hooks have told of is no empty shell."""

from __future__ import annotations

from eventlog.record.recorder import Recorder
from tests.conftest import Run

SESSION = "4ddad80c-1111-4222-8333-444455556666"
TOLD = [
    {"hook_event_name": "SessionStart", "source": "startup"},
    {"hook_event_name": "UserPromptSubmit", "prompt": "please tidy\nthe shelf"},
    {"hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_input": {"command": "ls"}},
    {"hook_event_name": "PostToolUse", "tool_name": "Bash"},
    {"hook_event_name": 7},
]


def test_prompts_and_tools_that_hooks_told_of(recorder: Recorder, run: Run) -> None:
    """With how to know more."""
    for number, payload in enumerate(TOLD):
        recorder.emit("agent_hook", payload, session_id=SESSION, timestamp=f"2026-03-02T10:00:0{number}Z")
    recorder.shutdown()
    assert run("show", "4ddad80c", "--utc").stdout.splitlines() == [
        f"session    {SESSION}",
        "",
        "2026-03-02 10:00:00Z  SessionStart  startup",
        "2026-03-02 10:00:01Z  user: please tidy the shelf",
        "2026-03-02 10:00:02Z  ▸ Bash ls",
        "2026-03-02 10:00:03Z  PostToolUse  Bash",
        "2026-03-02 10:00:04Z  hook",
        "",
        "This session is known from hooks alone: they tell no answers, no tokens and no cost.",
        "To import its transcript: eventlog import claude-code",
    ]
    assert "(events alone, such as of hooks)" in run("sessions").stdout


def test_events_of_a_program_without_runs(recorder: Recorder, run: Run) -> None:
    """As they stand in the log, up to a number."""
    for number in range(203):
        recorder.emit("note", {"n": number}, session_id="s-1")
    recorder.shutdown()
    lines = run("show", "s-1").stdout.splitlines()
    assert lines[2].endswith('note  {"n":0}')
    assert lines[-3:-1] == ["… 3 more events: --raw has all", ""]
    assert lines[-1] == "No run, no call of a model and no call of a tool is known of this session."
