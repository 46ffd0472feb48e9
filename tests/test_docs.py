"""The documentation is true: its programs run, and nothing that exists is missing from it."""

from __future__ import annotations

import doctest
import inspect
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from eventlog.cli.main import COMMANDS, root
from eventlog.config import _ENVIRONMENT
from eventlog.format import builtin, schemas
from eventlog.indexer.indexer import Indexer
from eventlog.queries.store import ReadStore
from tests.conftest import PROJECT
from tests.indexer.support import line, rows, segment
from tests.test_architecture import PATHS

README = (PROJECT / "README.md").read_text()
SCHEMA = (PROJECT / "docs/schema.md").read_text()
PAGES = [PROJECT / "README.md", PROJECT / "CHANGELOG.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def block(text: str, mark: str) -> str:
    """The fenced block behind `<!-- test: mark -->`."""
    found = re.search(rf"<!-- test: {mark} -->\n```\w*\n(.*?)```", text, re.DOTALL)
    assert found, f"no block marked {mark}"
    return found[1]


def run_python(program: str, root: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], env={**os.environ, "EVENTLOG_DIR": str(root)},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def masked(text: str) -> str:
    """Text without what differs from run to run: ids, and sizes that depend on the path of the checkout."""
    return re.sub(r"\([\d,]+ bytes\)", "(N bytes)", re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", text))


def printed(shown: str, folder: Path, **environment: str) -> str:
    """What the commands in a console print, run one after the other in a folder."""
    texts = []
    for command in re.findall(r"^\$ (.*)$", shown, re.MULTILINE):
        program = command.replace("eventlog ", f"{sys.executable} -m eventlog ", 1)
        done = subprocess.run(
            ["bash", "-c", program], cwd=folder, env={**os.environ, **environment},
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        texts.append(f"$ {command}\n{done.stdout}")
    return "".join(texts)


def test_the_readme_is_short() -> None:
    """Code and figures included."""
    assert len(README.split()) <= 700


def test_the_readme_shows_what_is_printed_of_the_demo(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture to the letter, the same day each time; and what Python prints of it."""
    shown = block(README, "picture")
    assert printed(shown, tmp_path, EVENTLOG_DIR=str(root)) == shown
    monkeypatch.chdir(tmp_path)
    assert run_python(block(README, "read"), root) == block(README, "read-prints")


def test_the_tour_is_what_is_printed(root: Path, tmp_path: Path) -> None:
    """Console by console, in one folder."""
    page = (PROJECT / "docs/tour.md").read_text()
    marks = re.findall(r"<!-- test: ([\w-]+) -->", page)
    assert len(marks) == 6
    for mark in marks:
        assert printed(block(page, mark), tmp_path, EVENTLOG_DIR=str(root)) == block(page, mark)


@pytest.mark.parametrize("page", ["README.md", "docs/coding-agents.md"])
def test_the_sessions_of_coding_agents_are_what_is_printed(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Imported from where Claude Code keeps them, as in a terminal; in these pages, those of the fixtures."""
    shutil.copytree(PROJECT / "fixtures/claude-code", tmp_path / "projects")
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path))
    shown = block((PROJECT / page).read_text(), "claude-code")
    assert masked(printed(shown, tmp_path, EVENTLOG_IMPORT_AGENTS="true")) == masked(shown)


def test_the_recording_of_the_readme_is_recorded(root: Path) -> None:
    """A run with a step and a call, and an event of another type in it."""
    run_python(block(README, "record"), root)
    Indexer(root).catch_up()
    assert ReadStore(root).sql("SELECT status, steps, llm_calls, output_tokens FROM runs").rows == [("ok", 1, 1, 64)]
    assert ReadStore(root).sql("SELECT agent FROM events WHERE event_type = 'deploy'").rows == [("planner",)]


def test_the_recordings_of_the_recording_page_are_recorded(root: Path) -> None:
    """A run with two steps and a call, that prints its totals; typed events are rows with columns."""
    page = (PROJECT / "docs/recording.md").read_text()
    assert "output_tokens=64" in run_python(block(page, "record"), root)
    run_python(block(page, "emit"), root)
    Indexer(root).catch_up()
    store = ReadStore(root)
    assert store.sql("SELECT status, steps, llm_calls, output_tokens FROM runs WHERE status IS NOT NULL").rows == [
        ("ok", 2, 1, 64)
    ]
    assert store.sql("SELECT run_id, tool, seconds FROM tool_used").rows == [("nightly-7", "search", 0.8)]


def test_whether_events_are_recorded_can_be_asked(root: Path) -> None:
    """As the recording page does; and nothing is recorded by it."""
    page = (PROJECT / "docs/recording.md").read_text()
    assert run_python(block(page, "check"), root) == f"True None events are written under {root}\n"
    assert not root.exists()


def test_the_producer_of_the_format_page_is_understood(root: Path) -> None:
    """It uses nothing of eventlog."""
    program = block((PROJECT / "docs/format.md").read_text(), "producer")
    assert "eventlog" not in re.findall(r"import (\w+)", program)
    run_python(program, root, str(root))
    Indexer(root).catch_up()
    assert rows(root, "SELECT count(*), (SELECT count(*) FROM quarantine) FROM events WHERE event_type = 'demo'") == [
        (3, 0)
    ]


def test_every_table_and_every_column_is_documented(root: Path) -> None:
    """In docs/schema.md, a heading each, with the columns in order."""
    segment(root, line(1))
    Indexer(root).catch_up()
    found: dict[str, list[tuple[str, str]]] = {}
    query = (
        "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal "
        "ORDER BY table_name, column_index"
    )
    # What is made for a query that names it is there for one that does.
    made = "WITH named AS (SELECT (SELECT count(*) FROM llm_costs) + (SELECT count(*) FROM llm_rates)) "
    for table, column, kind in ReadStore(root).sql(made + query).rows:
        if "/" not in column:  # the kept ones, which no reader sees
            found.setdefault(table, []).append((column, kind))
    documented = {
        heading: [
            column
            for names, kinds in re.findall(r"^\| `?(\w+(?:, \w+)*)`? \| ([A-Z][^|]+?) \|", text, re.MULTILINE)
            for column in itertools.zip_longest(
                names.split(", "), kinds.split(", "), fillvalue=kinds if ", " not in kinds else None
            )
        ]
        for heading, text in re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", SCHEMA, re.MULTILINE | re.DOTALL)
    }
    assert documented == found


def test_every_field_of_every_built_in_event_is_documented() -> None:
    """In docs/events.md, a heading each, with the fields in order; `!` where it is required."""
    page = (PROJECT / "docs/events.md").read_text()
    documented = {
        heading: re.findall(r"^\| `(\w+)`( !|) \| [^|]+ \| [^|]*\|$", text, re.MULTILINE)
        for heading, text in re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    }
    structs = [each for each in vars(builtin).values() if isinstance(each, type) and issubclass(each, msgspec.Struct)]
    found = {
        schemas.of_struct(struct).name: [
            (field.name, " !" if field.required else "") for field in msgspec.structs.fields(struct)
        ]
        for struct in structs
    }
    assert documented == found


def test_the_python_of_the_events_page_runs(root: Path) -> None:
    """And is in the index as it says."""
    program = block((PROJECT / "docs/events.md").read_text(), "recording")
    assert run_python(program, root) == "30 2\n"
    Indexer(root).catch_up()
    assert rows(root, "SELECT name, task, status, steps, tool_calls, cache_read_tokens FROM runs") == [
        ("nightly", "find the log", "ok", 2, 1, 900)
    ]
    assert rows(root, "SELECT name FROM steps ORDER BY finished") == [("search",), ("retrieve",)]


def _subcommands(command: click.Command, context: click.Context) -> list[tuple[str, click.Command | None]]:
    if not isinstance(command, click.Group):
        return []
    return [(name, command.get_command(context, name)) for name in command.list_commands(context)]


def test_every_command_and_option_is_documented() -> None:
    """In docs/commands.md."""
    page = (PROJECT / "docs/commands.md").read_text()
    context = root.make_context("eventlog", [], resilient_parsing=True)
    for name in COMMANDS:
        command = root.get_command(context, name)
        assert command is not None
        for path, each in [
            (name, command),
            *((f"{name} {sub}", each) for sub, each in _subcommands(command, context)),
        ]:
            assert each is not None
            assert f"eventlog {path}" in page
            if isinstance(each, click.Group):
                continue
            section = page.split(f"## eventlog {path}\n")[1].split("\n## ")[0]
            options = {
                option
                for parameter in each.params
                for option in parameter.opts
                if parameter.param_type_name == "option" and option not in ("--root", "--no-index")
            }
            assert set(re.findall(r"`(--?[a-z-]+)`", section.split("| --- |")[-1])) == options


def test_every_variable_and_exit_code_is_documented() -> None:
    """In docs/commands.md, too."""
    page = (PROJECT / "docs/commands.md").read_text()
    for variable in [*_ENVIRONMENT, "EVENTLOG_CONFIG"]:
        assert f"`{variable}`" in page
    for code in (0, 1, 2, 3, 130):
        assert re.search(rf"^\| {code} \|", page, re.MULTILINE)


def sections(page: Path) -> dict[str, str]:
    """The sections of a page by the anchors of their headings, as GitHub makes them; each with its subsections."""
    texts: dict[str, str] = {}
    open_sections: list[tuple[int, str]] = []
    in_code = False
    for text in page.read_text().splitlines():
        in_code ^= text.startswith("```")
        heading = None if in_code else re.match(r"(#+) (.+)", text)
        if heading is None:
            for _, anchor in open_sections:
                texts[anchor] += f"{text}\n"
            continue
        level, words = len(heading[1]), re.sub(r"[^\w\- ]", "", heading[2].lower())
        open_sections = [section for section in open_sections if section[0] < level]
        open_sections.append((level, words.replace(" ", "-")))
        texts[open_sections[-1][1]] = ""
    return texts


def test_the_glossary_is_in_order_and_brief() -> None:
    """Forty terms or more, a few lines each; what it names of the code exists."""
    page = PROJECT / "docs/glossary.md"
    terms = re.findall(r"^## (.+)\n\n((?:.+\n)+)", page.read_text(), re.MULTILINE)
    names = [name for name, _ in terms]
    assert names == sorted(names, key=str.lower)
    assert len(names) >= 40
    assert len(names) == page.read_text().count("\n## ")
    for name, text in terms:
        assert 5 <= len(text.split()) <= 60, name
        for path in re.findall(r"`(eventlog/[\w/]+(?:\.py)?)`", text):
            assert (PROJECT / path).exists(), path
        for kind, method, path in re.findall(r"`([A-Z]\w+)(?:\.(\w+))?` in `(eventlog/[\w/]+\.py)`", text):
            code = (PROJECT / path).read_text()
            assert f"class {kind}" in code, kind
            assert not method or f"def {method}(" in code, method


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Within the project: to a file or folder that exists, and to a heading of it."""
    for link in re.findall(r"\]\(([^)]+)", page.read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in sections(target), link


def test_every_page_is_linked_from_the_list_of_pages() -> None:
    """docs/README.md, which the README links to; decisions through their folder."""
    index = (PROJECT / "docs/README.md").read_text()
    for page in (PROJECT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index
    assert "(decisions)" in index
    assert "(docs/README.md)" in README


#: Asked by a newcomer, an owner of agents, an author of one, an analyst, and an operator at 3 a.m.: the section that
#: answers, and a word that has to be in it.
QUESTIONS = {
    "What is a run, a step, a session?": ("docs/concepts.md#runs-steps-calls-sessions", "trace"),
    "How do I install it?": ("README.md#eventlog", "pip install 'agent-eventlog[all]'"),
    "Where is my data?": ("docs/concepts.md#root", "~/.local/state/eventlog"),
    "What does it not do?": ("README.md#good-to-know", "Windows"),
    "What did my agents cost this week?": ("docs/coding-agents.md#what-did-it-cost-this-week", "eventlog cost weekly"),
    "What happened in a run?": ("docs/commands.md#eventlog-show", "eventlog show RUN"),
    "Why does a call have no cost?": ("docs/cost.md#what-calls-cost", "unpriced"),
    "How am I warned when an agent fails?": ("docs/alerts.md#alerts", "error_rate"),
    "How do I import Claude Code sessions?": ("docs/coding-agents.md#ask", "eventlog import claude-code"),
    "How do I record a run?": ("docs/recording.md#record-runs-steps-and-calls", "obs.run"),
    "How do I add my own event type?": ("docs/recording.md#add-your-own-event-type", "@obs.event"),
    "How do I keep secrets out?": ("docs/recording.md#keep-secrets-out", "redact_with"),
    "How do I test my agent?": ("docs/recording.md#test-your-agent", "obs.capture()"),
    "Are my events recorded?": ("docs/recording.md#ask-whether-events-are-recorded", "obs.check()"),
    "May a cloned project change my settings?": ("docs/commands.md#settings", "trust"),
    "Is an answer up to date?": ("docs/commands.md#fresh-answers", "catch_up_s"),
    "How do I keep transcripts out?": ("docs/commands.md#fresh-answers", "import_agents"),
    "How do I monitor the index?": ("docs/operating.md#keep-the-index-up-to-date", "--max-lag"),
    "How do I turn it off?": ("docs/recording.md#turn-it-off-or-send-it-elsewhere", 'EVENTLOG_DIR=""'),
    "How do I write events from another language?": ("docs/format.md#a-minimal-producer", "fcntl.flock"),
    "How do I use it from pandas?": ("docs/read-store.md#pandas", "pandas.DataFrame"),
    "Which columns are there?": ("docs/schema.md#llm_calls", "cache_read_tokens"),
    "How do I limit a reader to one customer?": ("docs/commands.md#workspaces", "--workspace"),
    "How fast is it?": ("docs/performance.md#performance-what-to-expect", "obs.emit"),
    "Is anything lost when the process is killed?": ("docs/operating.md#a-process-was-killed", "is in the log"),
    "How do I delete the index and rebuild it?": (
        "docs/operating.md#delete-the-index-and-rebuild-it", "index.duckdb && eventlog replay",
    ),
    "How do I back up, and restore?": ("docs/operating.md#back-up-and-restore", "eventlog restore"),
    "The disk is full: what now?": ("docs/operating.md#the-disk-is-full", "eventlog prune"),
    "What are the lines in quarantine?": ("docs/operating.md#lines-are-in-quarantine", "reason"),
    "Who holds the index?": ("docs/operating.md#the-index-is-busy", "--wait"),
    "How long are events kept?": ("docs/operating.md#limit-how-long-the-log-keeps-events", "retention_set"),
    "Has anybody changed the log?": ("docs/operating.md#prove-that-nobody-changed-the-log", "eventlog verify"),
}  # fmt: skip


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_has_its_answer(question: str) -> None:
    """Under a heading that exists, in a section that holds the key word."""
    where, word = QUESTIONS[question]
    page, _, anchor = where.partition("#")
    answer = sections(PROJECT / page)[anchor]
    assert word in answer, question
    assert len(answer.split()) >= 10, question


def questions(store: ReadStore) -> dict[Callable[..., Any], set[str]]:
    """What a ReadStore can be asked: each bound method, by all names that it has."""
    names: dict[Callable[..., Any], set[str]] = {}
    for name in dir(store):
        value = getattr(store, name)
        if name.startswith("_") or isinstance(value, (str, Path)) or value is None:
            continue
        if inspect.ismethod(value):
            names.setdefault(value, set()).add(name)
            continue
        if callable(value):
            names.setdefault(value.__call__, set()).add(name)
        for verb, method in inspect.getmembers(value, inspect.ismethod):
            if not verb.startswith("_"):
                names.setdefault(method, set()).add(f"{name}.{verb}")
    return names


def signature(name: str, question: Callable[..., Any]) -> str:
    """How a question is asked, without types."""
    parameters = inspect.signature(question).parameters.values()
    return f"store.{name}{inspect.Signature([each.replace(annotation=inspect.Parameter.empty) for each in parameters])}"


def test_every_question_of_the_read_store_is_documented(tmp_path: Path) -> None:
    """In docs/read-store.md: a heading each, the signature, and an example; and all names of it in the table."""
    text = (PROJECT / "docs/read-store.md").read_text()
    documented = dict(re.findall(r"^### ([\w.]+)\n\n```\n(.*)\n```\n(?=(?:(?!^### )[\s\S])*?>>> )", text, re.MULTILINE))
    asked = questions(ReadStore(tmp_path))
    headings = {name: question for question, names in asked.items() for name in names & set(documented)}
    assert len(headings) == len(asked) == len(documented)
    assert documented == {name: signature(name, question) for name, question in headings.items()}
    table = set(re.findall(r"`store\.([\w.]+)\(…\)`", text.split("## Names\n")[1].split("\n## ")[0]))
    assert table == {name for names in asked.values() for name in names}


def test_the_examples_of_the_read_store_page_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the data of the demo, each line as Python shows it."""
    command = [sys.executable, "-m", "eventlog", "demo", "--end", "2026-11-20T18:00:00Z"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, timeout=60)
    monkeypatch.chdir(tmp_path)
    page = (PROJECT / "docs/read-store.md").read_text()
    examples = doctest.DocTestParser().get_doctest(page, {}, "read-store.md", None, None)
    report: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(examples, out=report.append)
    assert result.attempted > 40
    assert not result.failed, "".join(report)


def test_every_module_is_in_the_table_of_its_room() -> None:
    """In docs/architecture.md: a heading for each room, and a row for each module in it; nothing that is gone."""
    page = (PROJECT / "docs/architecture.md").read_text()
    documented = set()
    for room, text in re.findall(r"^### `([\w.]+)`\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL):
        documented |= {room} | {f"{room}.{module}" for module in re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)}
    assert documented == set(PATHS)
