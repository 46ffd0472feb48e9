"""What was done in a time: asked, edited, run, failed and spent, project by project."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from eventlog.format import builtin
from eventlog.queries.store import ReadStore
from eventlog.queries.today import Times, Today
from tests.codex_lines import count, item, meta, turn, usage
from tests.codex_lines import store_of as codex_store_of
from tests.conftest import Run
from tests.queries.calls import price, recorded
from tests.queries.claude_sessions import answered, asked, result, store_of, tool
from tests.queries.recordings import record
from tests.terminals import in_terminal

DAY = datetime(2026, 3, 1, tzinfo=UTC)


def of_day(store: ReadStore) -> Today:
    return store.today(DAY, DAY + timedelta(days=1))


def at(time: str) -> str:
    return f"2026-03-01T{time}Z"


def worked(root: Path, folder: Path) -> ReadStore:
    """A session with edits, commands and failures; one of another project; one of the day before."""
    recorded(root, price("claude-opus", "5", "25"))
    return store_of(
        root, folder,
        [
            asked("s1", at("10:00:00"), "Fix the login"),
            answered("s1", at("10:01:00"), tool("1", "Edit", file_path="/home/ada/engine/src/login.py"),
                     tool("2", "Write", file_path="/home/ada/engine/src/app.py"),
                     tool("3", "Edit", file_path="/home/ada/engine/src/login.py"), gitBranch="fix/login"),
            result("s1", at("10:02:00"), "1"), result("s1", at("10:02:01"), "2"), result("s1", at("10:02:02"), "3"),
            answered("s1", at("10:03:00"), tool("4", "Bash", command="cd /home/ada/engine && pytest -q"),
                     tool("5", "Bash", command="make"), tool("6", "Edit", file_path="/etc/passwd")),
            result("s1", at("10:04:00"), "4", "Exit code 1\nE   assert 1 == 2", failed=True),
            result("s1", at("10:04:01"), "5"),
            result("s1", at("10:04:02"), "6", "<tool_use_error>File has not been read</tool_use_error>", failed=True),
            answered("s1", at("10:05:00"), tool("7", "Bash", command="pytest  -q")),
            result("s1", at("10:06:00"), "7"),
        ],
        [asked("s2", at("12:00:00"), "Look around", cwd="/home/ada/shelf"),
         answered("s2", at("12:01:00"), cwd="/home/ada/shelf")],
        [asked("s3", "2026-02-28T12:00:00Z", "Yesterday"), answered("s3", "2026-02-28T12:01:00Z")],
    )  # fmt: skip


def test_what_was_done_in_a_project(root: Path, tmp_path: Path) -> None:
    """What failed changed no file; a command is the same wherever it was run."""
    found = of_day(worked(root, tmp_path / "p"))
    engine, shelf = found.projects
    assert (engine.project, engine.branches, engine.sessions) == ("/home/ada/engine", ["fix/login"], 1)
    assert [(each.id, each.text, each.cost_usd) for each in engine.asked] == [("s1", "Fix the login", Decimal("0.06"))]
    assert (engine.edited_files, engine.edited) == (
        2, [Times(name="src/login.py", times=2), Times(name="src/app.py", times=1)],
    )  # fmt: skip
    assert (engine.command_calls, engine.distinct_commands) == (3, 2)
    assert (engine.test_calls, engine.test_failures) == (2, 1)
    assert [(each.name, each.times, each.failures) for each in engine.commands] == [("pytest -q", 2, 1), ("make", 1, 0)]
    assert (engine.tool_calls, engine.tool_failures) == (7, 2)
    assert {each.name: (each.failures, each.error) for each in engine.failed} == {
        "Bash cd /home/ada/engine && pytest -q": (1, "Exit code 1"), "Edit /etc/passwd": (1, "File has not been read"),
    }  # fmt: skip
    assert (engine.llm_calls, engine.cost_usd, engine.unpriced, engine.tokens) == (3, Decimal("0.06"), 0, 12_000)
    assert (shelf.project, shelf.cost_usd) == ("/home/ada/shelf", Decimal("0.02"))
    assert (found.cost_usd, found.llm_calls, found.unpriced) == (Decimal("0.08"), 4, 0)


def test_what_codex_did(root: Path, tmp_path: Path) -> None:
    """Patches name their files; commands are the last word of a shell's."""
    patch = "*** Begin Patch\n*** Update File: src/a.py\n@@\n-x\n+y\n*** Add File: src/b.py\n+z\n*** End Patch"
    shell = json.dumps({"command": ["bash", "-lc", "cargo test"]})
    store = codex_store_of(root, tmp_path / "c", [
        meta(), turn(),
        item("10:00:02", "custom_tool_call", call_id="c1", name="apply_patch", input=patch, status="completed"),
        item("10:00:03", "function_call", call_id="c2", name="shell", arguments=shell),
        item("10:00:04", "function_call_output", call_id="c2", output="Exit code: 101\nOutput:\nno"),
        item("10:00:05", "function_call", call_id="c3", name="exec_command", arguments='{"cmd": "ls"}'),
        count("10:00:06", usage(1_000, 10)),
    ])  # fmt: skip
    june = datetime(2026, 6, 17, tzinfo=UTC)
    (project,) = store.today(june, june + timedelta(days=1)).projects
    assert [each.name for each in project.edited] == ["src/a.py", "src/b.py"]
    assert {each.name: each.failures for each in project.commands} == {"cargo test": 1, "ls": 0}
    assert (project.tool_calls, project.test_calls, project.test_failures) == (3, 1, 1)


def test_runs_are_told_by_their_agent(root: Path) -> None:
    """Recorded runs have no project; a call without a price is counted, and is not zero."""
    record(
        root,
        (DAY, builtin.RunStarted(name="nightly", task="Tidy the shelf"), {"run_id": "r", "agent": "planner"}),
        (DAY, builtin.LlmCall(request_model="x", uncached_input_tokens=5), {"run_id": "r", "agent": "planner"}),
        (DAY, builtin.LlmCall(request_model="x", cost_usd=Decimal("1.5")), {"run_id": "r", "agent": "planner"}),
        (
            DAY,
            builtin.ToolCall(tool_name="search", ok=False, error_type="Timeout"),
            {"run_id": "r", "agent": "planner"},
        ),
        (DAY + timedelta(days=1), builtin.LlmCall(request_model="x", cost_usd=Decimal(9)), {"agent": "planner"}),
    )
    (planner,) = of_day(ReadStore(root)).projects
    assert (planner.project, planner.agent, planner.runs, planner.sessions) == (None, "planner", 1, 0)
    assert [(each.text, each.cost_usd) for each in planner.asked] == [("nightly: Tidy the shelf", Decimal("1.5"))]
    assert (planner.llm_calls, planner.unpriced, planner.cost_usd) == (2, 1, Decimal("1.5"))
    assert planner.failed == [Times(name="search", times=1, failures=1, error="Timeout")]


def test_it_reads_well(root: Path, tmp_path: Path, run: Run) -> None:
    """In 80 columns; as Markdown, whose marks are not those of what people wrote."""
    worked(root, tmp_path / "p")
    options = ("--since", "2026-03-01", "--until", "2026-03-02", "--utc")
    lines = in_terminal("today", *options, "--root", str(root), "--no-pager").splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert lines == [
        "2026-03-01 00:00:00Z to 2026-03-02 00:00:00Z: $0.0800 in 4 model calls",
        "",
        "engine  $0.0600, 12.0k tokens, 1 session, on fix/login",
        "  asked  Fix the login ($0.0600)",
        "  edited 2 files: src/login.py ×2, src/app.py",
        "  ran    3 commands (2 test runs, 1 failed): pytest -q ×2, make",
        "  failed 2 of 7 tool calls:",
        "         Bash cd /home/ada/engine && pytest -q: Exit code 1",
        "         Edit /etc/passwd: File has not been read",
        "",
        "shelf  $0.0200, 4.0k tokens, 1 session",
        "  asked  Look around ($0.0200)",
    ]
    told = run("today", *options, "--md").stdout
    assert "### engine\n" in told
    assert "- Edited: 2 files: `src/login.py` ×2, `src/app.py`\n" in told
    assert json.loads(run("today", *options, "--json").stdout)["cost_usd"] == "0.08"


def test_lists_are_bounded(root: Path, tmp_path: Path, run: Run) -> None:
    """And say how many more there are."""
    edits = [tool(f"e{number}", "Edit", file_path=f"/home/ada/engine/{number:03}.py") for number in range(150)]
    asks = [
        [asked(f"s{number}", at("10:00:00"), f"*Ask* {number}"), answered(f"s{number}", at("10:00:01"))]
        for number in range(20)
    ]
    store_of(root, tmp_path / "p", [asked("s", at("09:00:00"), "Go"), answered("s", at("09:00:01"), *edits)], *asks)
    (project,) = of_day(ReadStore(root)).projects
    assert (project.edited_files, len(project.edited), project.sessions) == (150, 100, 21)
    told = run("today", "--since", "2026-03-01", "--md").stdout
    assert "`005.py` and 144 more\n" in told
    assert "  - and 15 more\n" in told
    assert "  - \\*Ask\\* " in told


def test_nothing_was_done(root: Path, run: Run) -> None:
    """And what to try."""
    record(root, (DAY, "note", {}))
    done = run("today", "--utc")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("nothing was done from ")
    assert done.stderr.endswith("; try: eventlog today --since yesterday\n")
    assert json.loads(run("today", "--json").stdout)["projects"] == []
