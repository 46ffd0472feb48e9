"""`eventlog runs`, `eventlog sessions`, `eventlog diff`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, get_args

import click

from eventlog.cli.text import printable
from eventlog.indexer.views.definitions import Outcome
from eventlog.queries.cli import options, waterfall
from eventlog.queries.cli.options import Context
from eventlog.queries.runs.difference import Difference, Item, Pair
from eventlog.queries.runs.lookup import Run, Session
from eventlog.queries.text import cells, tables
from eventlog.queries.text.tables import Column
from eventlog.queries.text.units import duration, usd

# -- lists -----------------------------------------------------------------------------------


@click.command()
@options.agent_option
@click.option("--status", type=click.Choice(get_args(Outcome)), help="In this state.")
@options.since_option
@options.limit_option(50)
@options.reading(utc=True)
def runs(context: Context, agent: str | None, status: str | None, since: datetime | None, limit: int) -> None:
    """List runs, newest first.

    \b
    Example:
      eventlog runs --agent planner --since 24h
      eventlog runs --status error --json | jq -r '.[].run_id'
    """
    found = context.store().runs.list(agent=agent, status=status, since=since, limit=limit)
    if_none = "record one with obs.run(…)"
    context.show_list(found, lambda: _run_lines(found, context), noun="runs", limit=limit, if_none=if_none)


def _run_lines(found: list[Run], context: Context) -> list[str]:
    rows = [
        (
            _with_starts(run), run.name or "", run.agent or "", waterfall.status(run), context.time(run.started),
            duration(run.duration_ms), f"{run.steps:,}", _with_failures(run.llm_calls, run.llm_failures),
            _with_failures(run.tool_calls, run.tool_failures), f"{run.input_tokens:,}", f"{run.output_tokens:,}",
            run.workspace or "", ": ".join(each for each in (run.error_type, run.error_message) if each),
        )
        for run in found
    ]  # fmt: skip
    return tables.listed(
        rows,
        Column("run"), Column("name", rank=3, elastic=True), Column("agent", rank=2, elastic=True),
        Column("status"), Column("began", rank=1), Column("took", rank=4, number=True),
        Column("steps", rank=6, number=True), Column("calls", rank=6, number=True),
        Column("tools", rank=6, number=True), Column("tokens in", rank=5, number=True),
        Column("out", rank=5, number=True), Column("workspace", rank=8), Column("error", rank=7, elastic=True),
    )  # fmt: skip


def _with_starts(run: Run) -> str:
    return f"{run.run_id} ×{run.starts:,}" if run.starts is not None and run.starts > 1 else run.run_id


def _with_failures(count: int, failures: int) -> str:
    return f"{count:,} ({failures:,} ✗)" if failures else f"{count:,}"


@click.command()
@options.agent_option
@options.since_option
@options.limit_option(50)
@options.reading(utc=True, agents=True)
def sessions(context: Context, agent: str | None, since: datetime | None, limit: int) -> None:
    """List sessions, imported ones included, newest first.

    \b
    Example:
      eventlog sessions --since 7d
    """
    found = context.store().sessions.list(agent=agent, since=since, limit=limit)
    if_none = "import some (eventlog import --help lists the sources)"
    context.show_list(found, lambda: _session_lines(found, context), noun="sessions", limit=limit, if_none=if_none)


def _session_lines(found: list[Session], context: Context) -> list[str]:
    rows = [
        (
            session.session_id, context.time(session.last),
            duration(None if session.duration_s is None else session.duration_s * 1000), session.agent or "",
            f"{session.events:,}", f"{session.llm_calls:,}",
            _with_failures(session.tool_calls, session.tool_failures), f"{session.input_tokens:,}",
            f"{session.output_tokens:,}", ", ".join(session.models), session.title or "",
        )
        for session in found
    ]  # fmt: skip
    return tables.listed(
        rows,
        Column("session"), Column("last"), Column("took", rank=4, number=True), Column("agent", rank=3),
        Column("events", rank=6, number=True), Column("calls", rank=5, number=True),
        Column("tools", rank=5, number=True), Column("tokens in", rank=1, number=True),
        Column("out", rank=1, number=True), Column("models", rank=7, elastic=True),
        Column("about", rank=2, elastic=True),
    )  # fmt: skip


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
