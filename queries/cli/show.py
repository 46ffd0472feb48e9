"""`eventlog show`: a run or a session as a conversation or a tree, a request as a tree, an event with its evidence."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Literal

import click

from eventlog.cli.main import with_root
from eventlog.cli.text import counted, harmless_json, printable
from eventlog.errors import QueryFailed
from eventlog.format import payloads, timestamps
from eventlog.queries.cli import bare_sessions, options, requests, verbose, waterfall
from eventlog.queries.cli import conversation as talk
from eventlog.queries.cli.options import Context
from eventlog.queries.conversation.building import has_words
from eventlog.queries.conversation.structs import Conversation
from eventlog.queries.events.lookup import FoundEvent
from eventlog.queries.identity import is_event_id
from eventlog.queries.runs.evidence import ExaminedEvent, examined
from eventlog.queries.runs.lookup import Run
from eventlog.queries.runs.nodes import Node
from eventlog.queries.runs.tree import Tree
from eventlog.queries.store import ReadStore
from eventlog.queries.text import cells, tables
from eventlog.queries.text.units import duration, usd

View = Literal["conversation", "tree", "waterfall"]


@click.command()
@click.argument("id_", metavar="RUN|SESSION|REQUEST|EVENT")
@click.option(
    "--view",
    type=click.Choice(["conversation", "tree", "waterfall"]),
    help="What was said, the calls below each other, or these over time; the conversation where there is one.",
)
@click.option("--verbose", is_flag=True, help="All of each text: thinking, prompts, responses, arguments, results.")
@click.option("--raw", is_flag=True, help="The lines as logged, instead.")
@options.reading(times=True)
def show(context: Context, id_: str, view: View | None, verbose: bool, raw: bool) -> None:
    """Show a run, session, request or event.

    A run or a session as a conversation, with what each turn cost; a request as a tree over time, an event with its
    evidence.

    Any unique prefix of the id of a run, session or request works; the id of an event must be complete.

    \b
    Example:
      eventlog show nightly-7
      eventlog show nightly-7 --view waterfall
      eventlog show 4ddad80c --verbose
      eventlog show 01a1fc0e-90e7-7614-b5c5-39cd6cbb2847
    """
    store = context.store()
    event = store.events.get(id_) if is_event_id(id_) else None
    if raw:
        _print_lines(store, id_, event)
    elif event is not None:
        _show_event(store, event, context)
    elif not _show_conversation(store, id_, context, view=view, whole=verbose):
        tree = store.runs.tree(id_)
        if tree.session_id is not None and not (tree.run or tree.request or tree.nodes or tree.children):
            context.show(tree, lambda: _bare_lines(store, tree.session_id or "", context))
            return
        context.show(tree, lambda: [
            *_tree_lines(tree, context, with_bars=view != "tree"), *(_verbose_lines(store, tree) if verbose else ()),
        ])  # fmt: skip


# -- lines -----------------------------------------------------------------------------------


def _print_lines(store: ReadStore, id_: str, event: FoundEvent | None) -> None:
    """Print lines as they stand in the log: in a pipe byte for byte, in a terminal so that they cannot control it."""
    if event is not None:
        lines = iter([] if event.line is None else [event.line + b"\n"])
    else:
        of_id = store.runs.lines(id_)
        if of_id is None:
            raise QueryFailed(f"{id_!r} is a request; --raw is for a run, a session or an event")
        lines = of_id.read()
    is_terminal = sys.stdout.isatty()
    for line in lines:
        sys.stdout.buffer.write(harmless_json(line) if is_terminal else line)


# -- a conversation --------------------------------------------------------------------------


def _show_conversation(store: ReadStore, id_: str, context: Context, *, view: View | None, whole: bool) -> bool:
    """Show what was said, if that is asked for, or nothing is and there is something; say whether it was shown."""
    if view not in (None, "conversation"):
        return False
    text_chars = None if whole or context.as_json else talk.SHORT_CHARS
    conversation = store.runs.conversation(id_, text_chars=text_chars)
    if conversation is None and view is not None:
        raise QueryFailed(f"{id_!r} is a request; its runs have the conversation: eventlog show {id_} names them")
    if conversation is None or (view is None and not _is_shown(conversation, whole=whole)):
        return False
    context.show(conversation, lambda: _conversation_lines(conversation, context, whole=whole))
    return True


def _is_shown(conversation: Conversation, *, whole: bool) -> bool:
    """Say whether a conversation is what to show: one without words is a tree, unless all of a session is asked for."""
    is_whole_session = whole and conversation.kind == "session" and any(turn.items for turn in conversation.turns)
    return has_words(conversation) or is_whole_session


def _conversation_lines(conversation: Conversation, context: Context, *, whole: bool) -> Iterator[str]:
    width = tables.width_limit()
    if conversation.run is not None:
        head = [entry for entry in waterfall.head(conversation.run, context.stamp) if entry[0] != "task"]
    else:
        head = talk.head(conversation, context.stamp)
    yield from _head_lines(head, width)
    yield from talk.lines(conversation, width=width, whole=whole, time=context.time)
    yield from _run_lines(conversation.runs, "sub-run" if conversation.kind == "run" else "run", width)
    if not whole:
        yield click.style(_fitted("whole texts: --verbose; over time: --view waterfall; to share:", width), dim=True)
        yield click.style(_fitted(with_root(f"eventlog export conversation {conversation.id}"), width), dim=True)


def _head_lines(head: list[tuple[str, str]], width: int | None) -> Iterator[str]:
    for name, value in head:
        yield _fitted(f"{name:9}  {value}", width)


def _run_lines(runs: list[Run], noun: str, width: int | None) -> Iterator[str]:
    for run in runs:
        line = f"{noun}  {run.run_id}  {run.name or ''}  {waterfall.status(run)}  {duration(run.duration_ms)}"
        yield _fitted(printable(line.rstrip()), width)


def _fitted(line: str, width: int | None) -> str:
    return line if width is None else cells.cut(line, width)


# -- a tree ----------------------------------------------------------------------------------


def _tree_lines(tree: Tree, context: Context, *, with_bars: bool) -> Iterator[str]:
    width = tables.terminal_columns()
    if tree.run is not None:
        head = waterfall.head(tree.run, context.stamp)
    elif tree.request is not None:
        head = requests.head(tree.request, context)
    else:
        head = [
            ("session", printable(tree.session_id or "")),
            ("when", f"{context.stamp(tree.started)} → {context.stamp(tree.finished)}"),
        ]
    yield from _head_lines(head, width)
    yield ""
    yield from waterfall.lines(tree, width, style=_coloured, usd=usd, with_bars=with_bars)
    if tree.nodes:
        yield ""
    yield cells.cut(waterfall.totals(tree, usd), width)
    yield from _run_lines(tree.children, "run" if tree.run is None else "sub-run", width)


def _bare_lines(store: ReadStore, session_id: str, context: Context) -> Iterator[str]:
    """Yield lines for a session of which no call is known."""
    width = tables.width_limit()
    yield from _head_lines([("session", printable(session_id))], width)
    yield ""
    lines = store.runs.lines(session_id)
    yield from bare_sessions.lines(() if lines is None else lines.read(), width=width, time=context.time)


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


# -- an event --------------------------------------------------------------------------------


def _show_event(store: ReadStore, found: FoundEvent, context: Context) -> None:
    answer = examined(store.root, found)
    context.show(answer, lambda: _event_lines(answer, context))


def _event_lines(shown: ExaminedEvent, context: Context) -> list[str]:
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
    return timestamps.stamped(moment, context.zone, timespec="microseconds")


def _yes_no(known: bool | None) -> str:
    return {True: "yes", False: "NO", None: "not known"}[known]
