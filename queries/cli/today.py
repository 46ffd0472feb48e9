"""`eventlog today`."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import click

from eventlog.cli.main import say
from eventlog.cli.text import counted, printable
from eventlog.queries.cli import options
from eventlog.queries.cli.options import Context
from eventlog.queries.text import cells, paths, tables, units
from eventlog.queries.today import Project, Times, Today, end_of_minute

#: So many of each are shown; `--json` has more.
_ASKED_MAX, _FILES_MAX, _COMMANDS_MAX, _FAILED_MAX = 6, 6, 4, 3
_COMMAND_CHARS, _ASKED_CHARS = 60, 120
_NAME_CHARS = 9


@click.command()
@click.option("--since", metavar="T", default="today", show_default=True, help="From T on, such as yesterday, monday.")
@options.until_option
@click.option("--md", "as_markdown", is_flag=True, help="Print Markdown, to paste.")
@options.reading(times=True, agents=True)
def today(context: Context, since: datetime, until: datetime | None, as_markdown: bool) -> None:
    """Tell what was asked, edited, run and spent today.

    From the records alone, without a model.

    \b
    Example:
      eventlog today
      eventlog today --since yesterday --md
    """
    end = end_of_minute(datetime.now(UTC)) if until is None else until
    store = context.store()
    context.keep(end if until is None else None)
    found = store.today(since, end)
    if not found.projects and not context.as_json:
        say(f"nothing was done from {_span(found, context)}; try: eventlog today --since yesterday")
        return
    context.show(found, lambda: _markdown(found, context) if as_markdown else _lines(found, context))


def _span(found: Today, context: Context) -> str:
    return f"{context.stamp(found.since)} to {context.stamp(found.until)}"


def _headline(found: Today, context: Context) -> str:
    calls = counted(found.llm_calls, "model call")
    return f"{_span(found, context)}: {units.spent(found.cost_usd, found.unpriced)} in {calls}"


# -- in a terminal ---------------------------------------------------------------------------


def _lines(found: Today, context: Context) -> Iterator[str]:
    width = tables.terminal_columns()
    yield from tables.prose(_headline(found, context))
    names = paths.tails(each.project for each in found.projects if each.project)
    for each in found.projects:
        yield ""
        yield from tables.prose(printable(f"{_name(each, names)}  {_facts(each)}"))
        for name, texts in _told(each, quoted=str):
            for number, text in enumerate(texts):
                folded = textwrap.wrap(printable(text), max(width - _NAME_CHARS, 20)) or [""]
                yield f"  {name if not number else '':{_NAME_CHARS - 2}}{folded[0]}".rstrip()
                yield from (f"{'':{_NAME_CHARS}}{rest}" for rest in folded[1:])


def _name(each: Project, names: Mapping[str, str]) -> str:
    return names[each.project] if each.project else each.agent or "(no project)"


def _facts(each: Project) -> str:
    facts = [
        units.spent(each.cost_usd, each.unpriced) if each.llm_calls else "",
        f"{units.tokens(each.tokens)} tokens" if each.llm_calls else "",
        counted(each.sessions, "session") if each.sessions else "",
        counted(each.runs, "run") if each.runs else "",
        f"on {_and_more(each.branches, len(each.branches), 2)}" if each.branches else "",
    ]
    return ", ".join(filter(None, facts))


# -- what both say ---------------------------------------------------------------------------


def _told(each: Project, quoted: Callable[[str], str]) -> Iterator[tuple[str, list[str]]]:
    """Yield what was asked, edited, run and failed, each with its texts; `quoted` marks names and commands."""
    if each.asked:
        asked = [f"{cells.cut(item.text, _ASKED_CHARS)}{_cost(item.cost_usd)}" for item in each.asked[:_ASKED_MAX]]
        more = each.sessions + each.runs - len(asked)
        yield "asked", [*asked, *([f"and {more:,} more"] if more > 0 else [])]
    if each.edited:
        files = _listed(each.edited, each.edited_files, _FILES_MAX, quoted)
        yield "edited", [f"{counted(each.edited_files, 'file')}: {files}"]
    if each.commands:
        commands = _listed(each.commands, each.distinct_commands, _COMMANDS_MAX, quoted)
        yield "ran", [f"{counted(each.command_calls, 'command')}{_tests(each)}: {commands}"]
    if each.tool_failures or each.llm_failures:
        yield "failed", list(_failures(each, quoted))


def _cost(cost: Decimal | None) -> str:
    return "" if cost is None else f" ({units.usd(cost)})"


def _listed(items: Sequence[Times], count: int, most: int, quoted: Callable[[str], str]) -> str:
    named = [
        f"{quoted(cells.cut(item.name, _COMMAND_CHARS))}{f' ×{item.times:,}' if item.times > 1 else ''}"
        for item in items
    ]
    return _and_more(named, count, most)


def _and_more(names: Sequence[str], count: int, most: int) -> str:
    shown = names[:most]
    return ", ".join(shown) + (f" and {count - len(shown):,} more" if count > len(shown) else "")


def _tests(each: Project) -> str:
    if not each.test_calls:
        return ""
    failed = f", {each.test_failures:,} failed" if each.test_failures else ""
    return f" ({counted(each.test_calls, 'test run')}{failed})"


def _failures(each: Project, quoted: Callable[[str], str]) -> Iterator[str]:
    if each.llm_failures:
        yield f"{each.llm_failures:,} of {counted(each.llm_calls, 'model call')}"
    if not each.tool_failures:
        return
    yield f"{each.tool_failures:,} of {counted(each.tool_calls, 'tool call')}:"
    for item in each.failed[:_FAILED_MAX]:
        times = f" ×{item.failures:,}" if item.failures > 1 else ""
        error = f": {cells.cut(item.error, _COMMAND_CHARS)}" if item.error else ""
        yield f"{quoted(cells.cut(item.name, _COMMAND_CHARS))}{times}{error}"
    more = each.tool_failures - sum(item.failures for item in each.failed[:_FAILED_MAX])
    if more > 0:
        yield f"and {more:,} more"


# -- Markdown --------------------------------------------------------------------------------


def _markdown(found: Today, context: Context) -> Iterator[str]:
    yield f"**{_headline(found, context)}**"
    names = paths.tails(each.project for each in found.projects if each.project)
    for each in found.projects:
        yield ""
        yield f"### {_escaped(_name(each, names))}"
        yield ""
        yield f"{_escaped(_facts(each))}"
        yield ""
        for name, texts in _told(each, quoted=_code):
            if len(texts) == 1:
                yield f"- {name.capitalize()}: {_one(name, texts[0])}"
                continue
            yield f"- {name.capitalize()}:"
            yield from (f"  - {_one(name, text)}" for text in texts)


def _one(name: str, text: str) -> str:
    """Return a text for Markdown: what people wrote must not be taken for marks."""
    return _escaped(text) if name == "asked" else printable(text)


def _code(text: str) -> str:
    """Return a text as code, whatever backticks are in it."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    marks, space = "`" * (longest + 1), " " if longest else ""
    return f"{marks}{space}{text}{space}{marks}"


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", printable(text))
