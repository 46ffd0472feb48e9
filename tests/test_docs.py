"""The documentation is true: its programs run, and nothing that exists is missing from it."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

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

README = (PROJECT / "README.md").read_text()
SCHEMA = (PROJECT / "docs/schema.md").read_text()
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]


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


def printed(shown: str, folder: Path, root: Path) -> str:
    """What the commands in a console print, run one after the other in a folder."""
    said = ""
    for command in re.findall(r"^\$ (.*)$", shown, re.MULTILINE):
        program = command.replace("eventlog ", f"{sys.executable} -m eventlog ", 1)
        done = subprocess.run(
            ["bash", "-c", program], cwd=folder, env={**os.environ, "EVENTLOG_DIR": str(root)},
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        said += f"$ {command}\n{done.stdout}"
    return said


def test_the_console_of_the_readme_is_what_is_printed(root: Path) -> None:
    """Command by command."""
    shown = block(README, "console")
    assert masked(printed(shown, PROJECT, root)) == masked(shown)


def test_the_demo_in_the_readme_is_what_is_printed(root: Path, tmp_path: Path) -> None:
    """To the letter: the same day each time."""
    shown = block(README, "demo")
    assert printed(shown, tmp_path, root) == shown


def test_the_recording_of_the_readme_is_recorded(root: Path) -> None:
    """A run with two steps and a call, that prints its totals."""
    assert "output_tokens=64" in run_python(block(README, "record"), root)
    Indexer(root).catch_up()
    assert ReadStore(root).sql("SELECT status, steps, llm_calls, output_tokens FROM runs").rows == [("ok", 2, 1, 64)]


def test_the_python_of_the_readme_runs(root: Path) -> None:
    """And its events are typed rows."""
    run_python(block(README, "emit"), root)
    Indexer(root).catch_up()
    store = ReadStore(root)
    assert store.sql("SELECT run_id, tool, seconds FROM tool_used").rows == [("nightly-7", "search", 0.8)]
    output = run_python(block(README, "read"), root)
    assert "tool_used" in output


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
                if parameter.param_type_name == "option" and option != "--root"
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


def test_every_page_is_linked_from_the_readme() -> None:
    """Decisions through their folder."""
    for page in (PROJECT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in README
    assert "(docs/decisions)" in README
