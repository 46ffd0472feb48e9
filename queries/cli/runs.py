"""`eventlog runs`, `eventlog sessions`, `eventlog diff`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, get_args

import click

from eventlog.cli.main import say
from eventlog.cli.text import counted, printable
from eventlog.indexer.views.definitions import Outcome
from eventlog.queries.cli import options, waterfall
from eventlog.queries.cli.options import Context
from eventlog.queries.runs.difference import Difference, Item, Pair
from eventlog.queries.runs.lookup import PricedRun, Run, Session
from eventlog.queries.text import cells, paths, tables
from eventlog.queries.text.tables import Column
from eventlog.queries.text.units import duration, spent, tokens, usd

# -- lists -----------------------------------------------------------------------------------


@click.command()
@options.words_argument
@options.agent_option
@click.option("--status", type=click.Choice(get_args(Outcome)), help="In this state.")
@options.since_option
@options.limit_option(50)
@options.reading(times=True)
def runs(
    context: Context,
    words: tuple[str, ...],
    agent: str | None,
    status: str | None,
    since: datetime | None,
    limit: int,
) -> None:
    """List runs, newest first, with what they cost.

    With WORDS, runs that have all of them in their name, task, agent or id.

    \b
    Example:
      eventlog runs --agent planner --since yesterday
      eventlog runs nightly
      eventlog runs --status error --json | jq -r '.[].run_id'
    """
    store = context.store()
    context.keep(of_runs=True)
    found = store.runs.list(agent=agent, status=status, since=since, words=words, limit=limit)
    if not found and not context.as_json and (sessions_ := store.sessions.count()):
        say(
            f"no {'such ' if words or agent or status or since else ''}runs, but {counted(sessions_, 'session')}; "
            "try: eventlog sessions"
        )
        return
    context.show_list(
        found,
        lambda: _run_lines(found, store.runs.short_ids([run.run_id for run in found]), context),
        noun="runs",
        limit=limit,
        if_none="record one with obs.run(…)",
    )


def _run_lines(found: list[PricedRun], short: Mapping[str, str], context: Context) -> list[str]:
    rows = [
        (
            _with_starts(run, short), run.name or "", run.agent or "", waterfall.status(run),
            context.age(run.started), duration(run.duration_ms), _cost(run), _tokens(run), context.time(run.started),
            f"{run.steps:,}", _with_failures(run.llm_calls, run.llm_failures),
            _with_failures(run.tool_calls, run.tool_failures), run.workspace or "",
            ": ".join(each for each in (run.error_type, run.error_message) if each),
        )
        for run in found
    ]  # fmt: skip
    return tables.listed(
        rows,
        Column("run"), Column("name", elastic=True), Column("agent", rank=4, elastic=True, least=10),
        Column("status", rank=2), Column("age", rank=1, number=True), Column("took", rank=5, number=True),
        Column("cost", number=True), Column("tokens", rank=3, number=True),
        Column(context.heading("began", [run.started for run in found]), rank=6),
        Column("steps", rank=7, number=True), Column("calls", rank=7, number=True),
        Column("tools", rank=7, number=True), Column("workspace", rank=9), Column("error", rank=8, elastic=True),
    )  # fmt: skip


def _with_starts(run: Run, short: Mapping[str, str]) -> str:
    id_ = short.get(run.run_id, run.run_id)
    return f"{id_} ×{run.starts:,}" if run.starts is not None and run.starts > 1 else id_


def _with_failures(count: int, failures: int) -> str:
    return f"{count:,} ({failures:,} ✗)" if failures else f"{count:,}"


def _cost(row: PricedRun | Session) -> str:
    """Return its cost; with a `+` where calls without a price are not in it, "" without calls."""
    if not row.llm_calls:
        return ""
    return spent(row.cost_usd, row.unpriced)


def _tokens(row: Run | Session) -> str:
    return tokens(row.input_tokens + row.output_tokens) if row.llm_calls else ""


@click.command()
@options.words_argument
@options.agent_option
@options.since_option
@options.limit_option(50)
@options.reading(times=True, agents=True)
def sessions(context: Context, words: tuple[str, ...], agent: str | None, since: datetime | None, limit: int) -> None:
    """List sessions, newest first, with what they cost.

    With WORDS, sessions that have all of them in their title, project, branch, agent or id. (`eventlog search` finds
    words in what was said.)

    \b
    Example:
      eventlog sessions --since 'last week'
      eventlog sessions login bug
    """
    store = context.store()
    context.keep()
    found = store.sessions.list(agent=agent, since=since, words=words, limit=limit)
    if words and not found and not context.as_json:
        say(f"no such session has these words in its title or project; try: eventlog search {shlex.join(words)}")
        return
    context.show_list(
        found,
        lambda: _session_lines(found, store.runs.short_ids([session.session_id for session in found]), context),
        noun="sessions",
        limit=limit,
        if_none="import some (eventlog import --help lists the sources)",
    )


def _session_lines(found: list[Session], short: Mapping[str, str], context: Context) -> list[str]:
    folders = paths.tails(session.project for session in found if session.project)
    rows = [
        (
            short.get(session.session_id, session.session_id), _title(session),
            folders.get(session.project or "", ""), session.branch or "", context.age(session.last),
            duration(None if session.duration_s is None else session.duration_s * 1000), _cost(session),
            _tokens(session), context.time(session.last), session.agent or "", f"{session.events:,}",
            f"{session.llm_calls:,}", _with_failures(session.tool_calls, session.tool_failures),
            ", ".join(session.models),
        )
        for session in found
    ]  # fmt: skip
    return tables.listed(
        rows,
        Column("session"), Column("title", elastic=True, least=28),
        Column("project", rank=3, elastic=True, least=10), Column("branch", rank=5, elastic=True, least=12),
        Column("age", rank=1, number=True), Column("took", rank=4, number=True), Column("cost", number=True),
        Column("tokens", rank=2, number=True),
        Column(context.heading("last", [session.last for session in found]), rank=6), Column("agent", rank=5),
        Column("events", rank=9, number=True), Column("calls", rank=7, number=True),
        Column("tools", rank=7, number=True), Column("models", rank=8, elastic=True),
    )  # fmt: skip


def _title(session: Session) -> str:
    """Return the title of a session; of one of which nothing but events is known, that."""
    is_bare = session.title is None and not (session.llm_calls or session.tool_calls)
    return "(events alone, such as of hooks)" if is_bare else session.title or ""


# -- diff ------------------------------------------------------------------------------------


@click.command()
@click.argument("run_a", metavar="RUN|SESSION")
@click.argument("run_b", metavar="RUN|SESSION")
@options.reading()
def diff(context: Context, run_a: str, run_b: str) -> None:
    """Show where two runs or two sessions differ.

    In outcome, cost, steps, tool calls, and the first prompt.

    \b
    Example:
      eventlog diff nightly-6 nightly-7
      eventlog diff 4ddad80c 51a0e2b7
    """
    difference = context.store().runs.diff(run_a, run_b)
    context.show(difference, lambda: _diff_lines(difference))


def _diff_lines(found: Difference) -> Iterator[str]:
    width = tables.width_limit()

    def fit(line: str) -> str:
        return line if width is None else cells.cut(line, width)

    yield fit(printable(f"a  {_named(found.a)}"))
    yield fit(printable(f"b  {_named(found.b)}"))
    if found.changes:
        yield ""
        rows = [(each.field, _value(each.field, each.a), _value(each.field, each.b)) for each in found.changes]
        yield from tables.listed(rows, Column(""), Column("a", elastic=True), Column("b", elastic=True))
    for title, pairs in (("steps", found.steps), ("tool calls", found.tool_calls)):
        if any(pair.state != "same" for pair in pairs):
            yield ""
            yield title
            yield from map(fit, _pairs(pairs))
    if found.prompt is not None:
        yield ""
        where = "prompt" if isinstance(found.a, Session) else "model call"
        yield fit(f"prompts differ first in {where} {found.prompt.call:,}, at character {found.prompt.at:,}")
        yield fit(printable(f"- {found.prompt.a}"))
        yield fit(printable(f"+ {found.prompt.b}"))
    if found.same:
        yield ""
        yield "nothing differs but times"
    if found.cut:
        yield "… there are so many steps or calls that only the first were compared"


def _named(one: Run | Session) -> str:
    names = (one.run_id, one.name) if isinstance(one, Run) else (one.session_id, one.title)
    return "  ".join(filter(None, names))


def _value(field: str, value: Any) -> str:
    if value is None:
        return "–"
    if field == "duration_ms":
        return duration(value)
    if field == "cost_usd":
        return usd(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} × {count:,}" for name, count in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)


def _pairs(pairs: list[Pair]) -> Iterator[str]:
    """A line for each that differs; what is the same in between is counted."""
    same = 0
    for pair in pairs:
        if pair.state == "same":
            same += 1
            continue
        if same:
            yield f"  … {same:,} the same"
            same = 0
        for sign, item in (("-", pair.a), ("+", pair.b)):
            if item is not None:
                yield printable(f"{sign} {_item(item)}")
    if same:
        yield f"  … {same:,} the same"


def _item(item: Item) -> str:
    took = f"  {duration(item.duration_ms)}" if item.duration_ms is not None else ""
    return f"{item.name}{took}  {item.detail}"
