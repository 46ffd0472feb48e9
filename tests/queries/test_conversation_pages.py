"""`eventlog export conversation`, and `show`: nothing that they show can act, and no secret is in a page."""

from __future__ import annotations

import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from eventlog.format import builtin
from eventlog.indexer.indexer import Indexer
from eventlog.queries.store import ReadStore
from eventlog.queries.text import cells
from fixtures import transcripts
from tests.claude_lines import SESSION, answer, prompt, result, store_of, text, thinking, use
from tests.conftest import Run, lines_of
from tests.indexer.support import index
from tests.queries.stories import Story, nightly
from tests.terminals import in_terminal

SECRETS = {
    "a token of a vendor": "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8",
    "a key of Anthropic": "sk-ant-api03-" + "Zx9Yw8Vu7Ts6Rq5Po4Nm3Lk2Ji1Hg0Fe" * 2,
    "a password with its name": "password=hunter2Correct",
    "an authorization header": "Authorization: Bearer abcdef0123456789abcdef0123456789",
    "a password in a URL": "postgres://ada:S3cretPass@db.example/kiln",
    "a variable": "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}
HIDDEN = ("hunter2Correct", "S3cretPass", "wJalrXUtnFEMI", "abcdef0123456789", "ghp_a1B2", "sk-ant-api03")


@pytest.mark.parametrize("format_", ["markdown", "html"])
@pytest.mark.parametrize("secret", SECRETS)
def test_no_secret_is_in_a_page(root: Path, tmp_path: Path, run: Run, secret: str, format_: str) -> None:
    """Of imported text either, which the log has as it was: in prompts, answers, thinking, arguments, results."""
    leaked = SECRETS[secret]
    store_of(root, tmp_path, [
        prompt("10:00:01", f"use {leaked} please"),
        answer("10:00:02", thinking(f"so {leaked}"), text(f"I see {leaked}")),
        answer("10:00:03", use("toolu_1", "Bash", command=f"curl -H '{leaked}' x")),
        result("10:00:04", "toolu_1", f"export {leaked}\nok"),
    ])  # fmt: skip
    assert leaked in run("show", SESSION, "--verbose").stdout
    page = run("export", "conversation", SESSION, "--format", format_).stdout
    assert page.count("[redacted:") + page.count(r"[redacted\:") >= 5
    assert not [each for each in HIDDEN if each in page]


def test_names_say_what_is_secret_in_arguments(root: Path, tmp_path: Path, run: Run) -> None:
    """And what is not, stays."""
    call = use("toolu_1", "Login", user="ada", password="Tr0ub4dor-and-3")
    store_of(root, tmp_path, [prompt("10:00:01", "go"), answer("10:00:02", call)])
    page = run("export", "conversation", SESSION).stdout
    assert "Tr0ub4dor" not in page
    assert '"user": "ada"' in page


HOSTILE = {
    "a script": "<script>alert(1)</script>",
    "an image": '<img src="https://evil.example/x" onerror="alert(1)">',
    "the end of a block": "</pre></details><script src=//evil.example></script>",
    "a comment": "--><style>*{display:none}</style>",
    "the end of a fence": "```\n# Owned\n<script>alert(1)</script>\n````",
    "control characters": "\x1b]0;owned\x07\x1b[2J\u202egnp.exe\x00",
}


class Elements(HTMLParser):
    """The names and attributes of all elements of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_text_stays_text(root: Path, tmp_path: Path, run: Run, hostile: str) -> None:
    """Whoever wrote it, and wherever: nothing in a page runs, loads, or drives a terminal."""
    attack = HOSTILE[hostile]
    store_of(root, tmp_path, [
        prompt("10:00:01", attack),
        answer("10:00:02", thinking(attack), text(attack), use("toolu_1", attack, x=attack)),
        result("10:00:04", "toolu_1", attack, is_error=True),
    ])  # fmt: skip
    output = tmp_path / "chat.html"
    assert run("export", "conversation", SESSION, "-o", str(output)).returncode == 0
    elements = Elements()
    elements.feed(page := output.read_text())
    assert not elements.names & {"script", "img", "iframe", "link", "object", "a"}
    assert page.count("<style>") == 1
    assert not elements.attributes & {"src", "href", "onerror", "onclick"}
    markdown = run("export", "conversation", SESSION).stdout
    for shown in (page, markdown, run("show", SESSION, "--verbose").stdout, run("show", SESSION).stdout):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
    assert outside_of_fences(markdown).isdisjoint({"# Owned", "<script>alert(1)</script>"})


def outside_of_fences(markdown: str) -> set[str]:
    """The lines that a reader of Markdown takes for more than text."""
    lines, fence = set(), ""
    for line in markdown.splitlines():
        mark = re.match(r"(`{3,})", line)
        if fence:
            fence = "" if mark and len(mark[1]) >= len(fence) and line.strip() == mark[1] else fence
        elif mark:
            fence = mark[1]
        else:
            lines.add(line)
    assert not fence
    return lines


@pytest.mark.parametrize("format_", ["markdown", "html"])
def test_a_page_can_be_checked_against_the_log(root: Path, run: Run, tmp_path: Path, format_: str) -> None:
    """By the command that it names: it prints the lines byte for byte, and their hash is in the page."""
    run("import", "claude-code", str(transcripts.FOLDER))
    index(root)
    page = run("export", "conversation", "main", "--format", format_).stdout
    command = re.search(r"eventlog show main --raw \| sha256sum", page)
    assert command
    raw = run("show", "main", "--raw").stdout.encode()
    assert hashlib.sha256(raw).hexdigest() in page
    lines = raw.splitlines(keepends=True)
    assert sorted(line.rstrip(b"\n") for line in lines) == sorted(
        line for line in lines_of(root, "claude_code") if b'"session_id":"main"' in line
    )
    for line in lines:
        assert hashlib.sha256(line).hexdigest() in page


def test_lines_that_are_gone_are_counted(root: Path, run: Run) -> None:
    """A page is made from the index, and says what of it the log can no longer prove."""
    nightly(root)
    for path in (root / "log/tool_call").glob("*.jsonl"):
        path.unlink()
    assert "The log has 4 lines no more." in run("export", "conversation", "nightly-7").stdout
    assert run("show", "nightly-7", "--raw").stdout.count('"tool_call"') == 0


@pytest.mark.parametrize(("name", "options", "begins"), [
    ("chat.md", [], "# "), ("chat.HTML", [], "<!DOCTYPE html>"), ("chat.txt", ["--format", "html"], "<!DOCTYPE html>"),
])  # fmt: skip
def test_the_format_is_that_of_the_name(
    root: Path, run: Run, tmp_path: Path, name: str, options: list[str], begins: str
) -> None:
    """Unless another one is asked for."""
    nightly(root)
    done = run("export", "conversation", "nightly-7", "-o", str(tmp_path / name), *options)
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / name).read_text().startswith(begins)


def test_what_cannot_be_exported_says_why(root: Path, run: Run, tmp_path: Path) -> None:
    """A name without a format, an unknown id, a request."""
    with Story(root, request_id="q", run_id="r") as story:
        story.tell(0, builtin.Message(role="user", content="hello"))
    done = run("export", "conversation", "r", "-o", str(tmp_path / "chat.txt"))
    assert (done.returncode, "add --format markdown or --format html" in done.stderr) == (2, True)
    assert "there is no run, session or request 'nope'" in run("export", "conversation", "nope").stderr
    assert "'q' is a request; its runs have the conversation" in run("export", "conversation", "q").stderr


def test_a_type_that_is_called_conversation_can_be_exported(root: Path, run: Run) -> None:
    """By `export types`."""
    run("emit", "conversation", '{"n": 7}')
    Indexer(root).catch_up()
    assert '"n":7' in run("export", "types", "conversation", "--format", "jsonl").stdout.replace(" ", "").replace(
        "\\", ""
    )


# -- show ------------------------------------------------------------------------------------


def test_a_conversation_in_short(root: Path, run: Run) -> None:
    """Prompts and answers, thinking folded, tools on a line each with their results; a subagent beside a bar."""
    run("import", "claude-code", str(transcripts.FOLDER))
    index(root)
    assert run("show", "main", "--utc").stdout.splitlines() == [
        "session    main Teach the engine to count",
        "when       2026-01-05 10:00:01Z → 2026-01-05 10:00:16Z (15.5 s)",
        "project    /home/ada/engine",
        "models     claude-haiku-4-5-20251001, claude-opus-4-5-20251101",
        "",
        "── turn 1  2026-01-05 10:00:01Z  15.5 s  $0.0184  3.6k → 561 tokens  3 calls  3 tools  1 ✗",
        "user: Make it count. Résumé: naïve façade ☃",
        "thought for 3 characters",
        "assistant: I shall look.",
        "▸ Task  Find it",
        "  ┌ subagent a1",
        "  │ ▸ Glob  **/*.py",
        "  │   engine.py",
        "  └ 1 model call, 1 tool call, 703 → 61 tokens, $0.0017",
        "  It is in engine.py",
        "▸ Bash  make  ✗ failed",
        "  make: *** [all] Error 2",
        "note: API Error",
        "",
        "3 model calls, 3 tool calls (1 failed), 3.6k → 561 tokens, $0.0184",
        "whole texts: --verbose; over time: --view waterfall; to share:",
        "eventlog export conversation main",
    ]


def test_the_views_of_a_run(root: Path, run: Run) -> None:
    """A conversation where something was said, else the tree over time; --json has the structure of what is shown."""
    nightly(root)
    assert "user: Tidy the shelf now" in run("show", "nightly-7").stdout
    assert "system: You tidy." in run("show", "nightly-7").stdout
    waterfall = run("show", "nightly-7", "--view", "waterfall").stdout
    assert "└ ▸ bash make all" in waterfall
    assert "█" in waterfall
    tree = run("show", "nightly-7", "--view", "tree").stdout
    assert "└ ▸ bash make all" in tree
    assert "█" not in tree
    assert '"turns":' in run("show", "nightly-7", "--json").stdout
    assert '"nodes":' in run("show", "nightly-7", "--view", "tree", "--json").stdout
    with Story(root, run_id="silent") as story:
        story.tell(0, builtin.RunStarted(name="n", task="only a task"))
        story.tell(1, builtin.ToolCall(tool_name="t"))
    assert "▸ t" in run("show", "silent").stdout
    assert '"nodes":' in run("show", "silent", "--json").stdout


@pytest.mark.parametrize("columns", [24, 40, 80, 200])
@pytest.mark.parametrize("option", ["", "--verbose"])
def test_in_a_terminal_every_line_fits(root: Path, tmp_path: Path, columns: int, option: str) -> None:
    """However narrow it is, and however wide the characters; nothing is lost in between."""
    wide = "日本語の長い文章" * 20 + " and words that go on " * 10 + "x" * 300
    store_of(root, tmp_path, [
        prompt("10:00:01", wide), answer("10:00:02", thinking(wide), text(wide), use("toolu_1", "Bash", command=wide)),
        result("10:00:04", "toolu_1", wide), prompt("10:00:05", "sub", isSidechain=True, agentId="a1"),
        answer("10:00:06", text(wide), isSidechain=True, agentId="a1"),
    ])  # fmt: skip
    options = ["--no-pager", "show", SESSION, *filter(None, [option]), "--root", str(root)]
    shown = in_terminal(*options, COLUMNS=str(columns), LINES="200", NO_COLOR="1")
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", each) for each in shown.splitlines()]
    assert len(lines) > 10
    assert max(map(cells.width, lines)) <= columns


def test_all_of_a_session_without_words_is_there(root: Path, tmp_path: Path, run: Run) -> None:
    """Calls and results are something to read, too."""
    store_of(root, tmp_path, [answer("10:00:02", use("toolu_1", "Bash", command="ARGUMENT-WORD")),
                              result("10:00:04", "toolu_1", "RESULT-WORD")])  # fmt: skip
    assert re.findall(r"[A-Z]+-WORD", run("show", SESSION, "--verbose").stdout) == ["ARGUMENT-WORD", "RESULT-WORD"]


# -- diff ------------------------------------------------------------------------------------


def test_two_sessions_are_compared(root: Path, tmp_path: Path, run: Run) -> None:
    """As two runs are: sums, tool calls, and the first prompt that differs; one of each is refused."""
    other = "22222222-aaaa-4aaa-8aaa-000000000002"
    first = [prompt("10:00:01", "Make it count"), answer("10:00:02", use("toolu_1", "Bash", command="make"), output=5)]
    second = [prompt("11:00:01", "Make it count", other), prompt("11:00:02", "by two", other),
              answer("11:00:03", use("toolu_2", "Bash", command="make all"), session=other, output=7)]  # fmt: skip
    store = store_of(root, tmp_path, first, second)
    found = store.diff(SESSION[:8], other[:8])
    assert [change.field for change in found.changes] == ["output_tokens", "cost_usd"]
    assert [(pair.state, pair.b and pair.b.detail) for pair in found.tool_calls] == [
        ("changed", '{"command":"make all"} without a result')
    ]
    assert found.prompt is not None
    assert (found.prompt.call, found.prompt.a, found.prompt.b) == (2, "", "by two")
    assert store.diff(SESSION, SESSION).same
    printed = run("diff", SESSION[:8], other[:8])
    assert (printed.returncode, "prompts differ first in prompt 2" in printed.stdout) == (0, True)
    assert re.search(r"cost_usd +\$0\.\d+ +\$0\.\d+$", printed.stdout, re.MULTILINE)
    nightly(root)
    assert "one is a run and one a session" in run("diff", SESSION, "nightly-7").stderr
    assert "there is no run 'nope', and no such session" in run("diff", SESSION, "nope").stderr


def test_calls_without_prompts_have_none_that_differ(root: Path) -> None:
    """However many more of them one run has."""
    with Story(root) as story:
        for number, calls in enumerate((0, 2)):
            story.tell(number, builtin.RunStarted(name="n"), run_id=f"r{number}")
            for _ in range(calls):
                story.tell(number, builtin.LlmCall(request_model="m"), run_id=f"r{number}")
    assert ReadStore(root).diff("r0", "r1").prompt is None
