"""`eventlog runs`, `eventlog sessions`, `eventlog show`, `eventlog diff`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, get_args
from uuid import UUID

import click
import msgspec

from eventlog.cli.text import counted, printable
from eventlog.format import payloads, timestamps
from eventlog.indexer.views.definitions import Outcome
from eventlog.queries.cli import options, requests, verbose, waterfall
from eventlog.queries.cli.options import Context
from eventlog.queries.events.lookup import Event, FoundEvent
from eventlog.queries.runs.difference import Difference, Item, Pair
from eventlog.queries.runs.evidence import Evidence, examine
from eventlog.queries.runs.lookup import Run, Session
from eventlog.queries.runs.nodes import Node
from eventlog.queries.runs.tree import Tree
from eventlog.queries.store import ReadStore
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


# -- show ------------------------------------------------------------------------------------


class _Shown(msgspec.Struct, frozen=True, kw_only=True):
    """An event as `show EVENT --json` prints it."""

    event: Event
    path: str
    line: str | None
    evidence: Evidence


@click.command()
@click.argument("id_", metavar="RUN|SESSION|REQUEST|EVENT")
@click.option("--verbose", is_flag=True, help="Also the full prompts, responses, arguments and results.")
@options.reading(utc=True)
def show(context: Context, id_: str, verbose: bool) -> None:
    """Show a run, session, request or event.

    A run or a request as a tree over time, a session by its calls, an event with its evidence.

    Any unique prefix of the id of a run, session or request works; the id of an event must be complete.

    \b
    Example:
      eventlog show nightly-7
      eventlog show 01a1fc0e-90e7-7614-b5c5-39cd6cbb2847
    """
    store = context.store()
    event = store.events.get(id_) if _is_uuid(id_) else None
    if event is not None:
        _show_event(store, event, context)
        return
    tree = store.runs.tree(id_)
    context.show(tree, lambda: [*_tree_lines(tree, context), *(_verbose_lines(store, tree) if verbose else ())])


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _tree_lines(tree: Tree, context: Context) -> Iterator[str]:
    width = tables.terminal_columns()
    if tree.run is not None:
        head = waterfall.head(tree.run, context.time)
    elif tree.request is not None:
        head = requests.head(tree.request, context)
    else:
        head = [
            ("session", printable(tree.session_id or "")),
            ("when", f"{context.time(tree.started)} → {context.time(tree.finished)}"),
        ]
    for name, value in head:
        yield cells.cut(f"{name:9}  {value}", width)
    yield ""
    yield from waterfall.lines(tree, width, style=_coloured, usd=usd)
    if tree.nodes:
        yield ""
    yield cells.cut(waterfall.totals(tree, usd), width)
    for child in tree.children:
        what = "sub-run" if tree.run is not None else "run"
        took = duration(child.duration_ms)
        line = f"{what}  {child.run_id}  {child.name or ''}  {waterfall.status(child)}  {took}"
        yield cells.cut(printable(line.rstrip()), width)


def _coloured(text: str, node: Node) -> str:
    return click.style(text, fg="red") if node.ok is False else text


def _verbose_lines(store: ReadStore, tree: Tree) -> Iterator[str]:
    yield ""
    nodes = [node for node in tree.nodes if not node.is_group]
    found = store.payloads([node.event_id.partition("/")[0] for node in nodes], workspace=tree.workspace)
    left_out = 0
    for node in nodes:
        payload = found.get(node.event_id.partition("/")[0])
        if payload is None:
            left_out += 1
        else:
            yield from verbose.details(node, payload)
    if left_out:
        yield f"… {counted(left_out, 'more event')}, too long for here; eventlog show EVENT shows one"


def _show_event(store: ReadStore, found: FoundEvent, context: Context) -> None:
    evidence = examine(store.root, found)
    line = None if found.line is None else found.line.decode(errors="replace")
    answer = _Shown(event=found.event, path=found.path, line=line, evidence=evidence)
    context.show(answer, lambda: _event_lines(answer, context))


def _event_lines(shown: _Shown, context: Context) -> list[str]:
    event, line, evidence = shown.event, shown.line, shown.evidence
    lines = []
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if value is None or name in ("payload", "stored_payload", "extra"):
            continue
        text = _exactly(value, context) if isinstance(value, datetime) else str(value)
        lines.append(f"{name:16}  {printable(text)}")
    for name, raw in (("payload", event.payload), ("extra", event.extra)):
        if raw is not None:
            lines += [
                f"{name}:",
                *(f"  {printable(row)}" for row in verbose.pretty(payloads.decode(raw)).split("\n")),
            ]
    lines += [
        "",
        f"line at byte {event.line_offset:,} of {printable(shown.path)}:",
        printable(line) if line is not None else "(none)",
        "",
        f"same as the row: {'yes' if evidence.same else 'NO'}: {printable(evidence.why)}",
        f"as sealed: {_yes_no(evidence.as_sealed)}: {printable(evidence.seal_why)}",
    ]
    return lines


def _exactly(moment: datetime, context: Context) -> str:
    """Return a time to the microsecond, as the log has it."""
    return timestamps.shown(moment, context.zone, timespec="microseconds")


def _yes_no(known: bool | None) -> str:
    return {True: "yes", False: "NO", None: "not known"}[known]


# -- diff ------------------------------------------------------------------------------------


@click.command()
@click.argument("run_a", metavar="RUN")
@click.argument("run_b", metavar="RUN")
@options.reading()
def diff(context: Context, run_a: str, run_b: str) -> None:
    """Show where two runs differ.

    In outcome, cost, steps, tool calls, and the first prompt.

    \b
    Example:
      eventlog diff nightly-6 nightly-7
    """
    difference = context.store().runs.diff(run_a, run_b)
    context.show(difference, lambda: _diff_lines(difference))


def _diff_lines(found: Difference) -> Iterator[str]:
    width = tables.width_limit()

    def fit(line: str) -> str:
        return line if width is None else cells.cut(line, width)

    yield fit(printable(f"a  {found.a.run_id}  {found.a.name or ''}".rstrip()))
    yield fit(printable(f"b  {found.b.run_id}  {found.b.name or ''}".rstrip()))
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
        yield fit(f"prompts differ first in model call {found.prompt.call:,}, at character {found.prompt.at:,}")
        yield fit(printable(f"- {found.prompt.a}"))
        yield fit(printable(f"+ {found.prompt.b}"))
    if found.same:
        yield ""
        yield "nothing differs but times"
    if found.cut:
        yield "… of a run with so many steps or calls, only the first were compared"


def _value(field: str, value: Any) -> str:
    if value is None:
        return "–"
    if field == "duration_ms":
        return duration(value)
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
