"""`eventlog search`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import click

from eventlog.cli.main import say
from eventlog.cli.text import counted, printable
from eventlog.format.envelope import AuditLevel
from eventlog.indexer.search.filler import ROWS_MIN, fill
from eventlog.queries.cli import options
from eventlog.queries.cli.options import Context
from eventlog.queries.search.hits import Hit
from eventlog.queries.search.search import CANDIDATES_MAX, SearchResult
from eventlog.queries.store import ReadStore
from eventlog.queries.text import cells, tables


@click.command()
@click.argument("text", metavar="TEXT...", nargs=-1, required=True)
@click.option("--type", "event_types", metavar="TYPE", multiple=True, help="Of this event type; may be repeated.")
@options.agent_option
@options.since_option
@options.audit_level_option
@click.option("--inside", is_flag=True, help="Find the words inside of other words, too: every event is read.")
@options.limit_option(20)
@options.reading(times=True)
def search(
    context: Context,
    text: tuple[str, ...],
    event_types: tuple[str, ...],
    agent: str | None,
    since: datetime | None,
    audit_level: AuditLevel | None,
    inside: bool,
    limit: int,
) -> None:
    """Find events by words.

    Prompts, responses, tool calls, messages, errors and transcripts are searched, for events with all words, in any
    case; where there are none, for events with some of them. A word may be the beginning of a longer one. "Quoted
    words" are a phrase. The best matches come first.

    \b
    Example:
      eventlog search rate limit --since 24h
      eventlog search '"exit code 1"' pytest --type tool_call
    """
    store = context.store()
    result = store.search(
        " ".join(text), event_types=event_types, agent=agent, since=since, audit_level=audit_level, limit=limit,
        inside=inside,
    )  # fmt: skip
    _show(result, context, store, inside=inside)
    if result.read >= ROWS_MIN and not inside and context.workspace is None and not context.no_index:
        fill(store.root, within_s=0)  # a step each time, after the answer


def _show(result: SearchResult, context: Context, store: ReadStore, *, inside: bool) -> None:
    undated = counted(result.undated, "more event")
    if result.undated and not context.as_json:
        has = "has" if result.undated == 1 else "have"
        say(f"{undated} may match and {has} no time; without --since they are shown")
    words = printable(", ".join(result.words))
    if not result.hits and not context.as_json:
        say(f"nothing found for: {words}" + ("" if inside else "; --inside also looks inside of words"))
        return
    if result.any_word and not context.as_json:
        say(f"no event has all of: {words}; these have some of them, the best first")
    shown = {} if tables.width_limit() is None else _short_ids(result, store)
    context.show(result, lambda: _lines(result, context, shown))
    if context.as_json:
        return
    events = counted(result.matches, "event")
    if result.cut:
        say(f"about {events} match; the newest {CANDIDATES_MAX:,} at most were ranked (--since, --type narrow it)")
    elif result.matches > len(result.hits):
        say(f"{events} match; --limit shows more")


def _short_ids(result: SearchResult, store: ReadStore) -> Mapping[str, str]:
    """Return what runs and sessions are called in a terminal: the beginnings of their ids, which `show` takes."""
    ids = (hit.run_id or hit.session_id for hit in result.hits)
    return store.runs.short_ids(filter(None, ids))


def _lines(result: SearchResult, context: Context, shown: Mapping[str, str]) -> Iterator[str]:
    width = tables.width_limit()
    for hit in result.hits:
        kind, id_ = ("run", hit.run_id) if hit.run_id else ("session", hit.session_id)
        where = f"{kind} {shown.get(id_, id_)}" if id_ else None
        when = "no time" if hit.timestamp is None else context.stamp(hit.timestamp)
        parts = [when, hit.event_id, hit.event_type, hit.agent, where]
        yield from _beside_each_other([printable(part) for part in parts if part], width)
        yield f"  {_snippet(hit, None if width is None else width - 2)}"
    if width is not None and result.hits:
        yield cells.cut("eventlog show ID shows more: ID is that of an event, a run or a session", width)


def _beside_each_other(parts: Sequence[str], width: int | None) -> Iterator[str]:
    """Yield the parts on one line, or on several where they do not fit: each whole, so that ids can be copied."""
    line = ""
    for part in parts:
        longer = f"{line}  {part}" if line else part
        if width is not None and line and cells.width(longer) > width:
            yield from cells.fold(line, width)
            longer = f"  {part}"
        line = longer
    yield from [line] if width is None else cells.fold(line, width)


def _snippet(hit: Hit, width: int | None) -> str:
    """The field and the snippet, words in bold; marks count characters of the snippet as it is."""
    field = f"{printable(hit.field)}: "
    if width is not None and cells.width(field) > width // 2:
        field = ""  # in a narrow terminal, what was found matters more than where
    left = None if width is None else width - cells.width(field)
    at = _beginning(hit, left)
    parts = [("…" if at else "", False)]
    for start, end in [*hit.marks, (len(hit.snippet), len(hit.snippet))]:
        parts += [(hit.snippet[at:start], False), (hit.snippet[start:end], True)]
        at = end
    drawn = ""
    for piece, bold in parts:
        text = printable(piece) if left is None else cells.cut(printable(piece), left)
        left = None if left is None else left - cells.width(text)
        drawn += click.style(text, bold=True) if bold and text else text
    return field + drawn


def _beginning(hit: Hit, width: int | None) -> int:
    """Return where to begin in a snippet so that its first word that was found is on the line."""
    start, end = hit.marks[0] if hit.marks else (0, 0)
    if width is None or cells.width(printable(hit.snippet[:end])) < width:
        return 0
    before = min(start, max(width - (end - start), 0) // 3)
    return start - before
