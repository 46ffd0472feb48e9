"""`eventlog insights`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from eventlog.cli.main import say
from eventlog.cli.text import percent, printable
from eventlog.queries.cli import options
from eventlog.queries.cli.options import Context
from eventlog.queries.insights.findings import LOOP_TIMES, Growth, Insights
from eventlog.queries.text import bars, cells, tables
from eventlog.queries.text.tables import Column
from eventlog.queries.text.units import duration, size


@click.command()
@click.argument("run_or_session", metavar="RUN|SESSION")
@options.reading(utc=True)
def insights(context: Context, run_or_session: str) -> None:
    """Show loops and waste of a run or a session.

    Repeated identical tool calls, retries, loops, how the context grew, what was sent again, and gaps.

    \b
    Example:
      eventlog insights nightly-7
    """
    found = context.store().insights(run_or_session)
    if not found.llm_calls and not found.tool_calls and not context.as_json:
        say("it has no calls of models or tools")
        return
    context.show(found, lambda: _lines(found, context))
    if found.cut and not context.as_json:
        say("it has more calls than are examined; these findings are about the first ones")


def _lines(found: Insights, context: Context) -> Iterator[str]:
    kind, name = ("run", found.run_id) if found.run_id is not None else ("session", found.session_id)
    lines = [printable(f"{kind} {name}: {found.llm_calls:,} model calls, {found.tool_calls:,} tool calls")]
    for title, part in (
        ("repeated: the same tool with the same arguments", _repeated(found)),
        ("retries: failed, and tried again at once", _retries(found)),
        (f"loops: the same calls {LOOP_TIMES} or more times in a row", _loops(found, context)),
        ("context: input tokens per call", _growth(found.growth)),
        ("re-sent: input that had been sent before", _resent(found)),
        ("gaps: nothing was going on", _gaps(found, context)),
    ):
        lines += ["", title if part else f"{title.partition(':')[0]}: none", *(f"  {line}" for line in part)]
    width = tables.width_limit()
    yield from lines if width is None else (cells.cut(line, width) for line in lines)


def _listed(rows: Sequence[tuple[str, ...]], *columns: Column) -> list[str]:
    return tables.listed(rows, *columns, indent=2) if rows else []


def _repeated(found: Insights) -> list[str]:
    rows = [
        (
            f"{each.times:,}", each.tool, each.arguments, duration(each.wasted_ms), size(each.wasted_result_bytes),
            each.event_ids[0],
        )
        for each in found.repeated
    ]  # fmt: skip
    return _listed(
        rows, Column("times", number=True), Column("tool"), Column("arguments", elastic=True),
        Column("wasted", number=True, rank=1), Column("results", number=True, rank=2), Column("first", rank=3),
    )  # fmt: skip


_ENDS = {True: "ok", False: "failed", None: "unknown"}


def _retries(found: Insights) -> list[str]:
    rows = [
        (
            f"{each.attempts:,}", each.kind, each.name, each.arguments, _ENDS[each.succeeded],
            duration(each.wasted_ms), each.event_ids[0],
        )
        for each in found.retries
    ]  # fmt: skip
    return _listed(
        rows, Column("attempts", number=True), Column("kind", rank=2), Column("name"),
        Column("arguments", rank=4, elastic=True), Column("at last"), Column("wasted", number=True, rank=1),
        Column("first", rank=3),
    )  # fmt: skip


def _loops(found: Insights, context: Context) -> list[str]:
    rows = [
        (
            f"{each.times:,}", " → ".join(each.tools), context.time(each.started),
            duration((each.finished - each.started).total_seconds() * 1000), each.event_ids[0],
        )
        for each in found.loops
    ]  # fmt: skip
    return _listed(
        rows, Column("times", number=True), Column("tools", elastic=True), Column("began", rank=2),
        Column("took", number=True, rank=1), Column("first", rank=3),
    )  # fmt: skip


def _growth(found: Sequence[Growth]) -> list[str]:
    rows = [
        (
            each.context or "main", f"{each.calls:,}", f"{each.first:,}", f"{each.last:,}", f"{each.largest:,}",
            f"{each.slope:+,.0f}", bars.spark(each.series),
        )
        for each in found
    ]  # fmt: skip
    return _listed(
        rows, Column("conversation", elastic=True), Column("calls", number=True), Column("first", number=True),
        Column("last", number=True), Column("largest", number=True, rank=2), Column("per call", number=True),
        Column("each", rank=3),
    )  # fmt: skip


def _resent(found: Insights) -> list[str]:
    resent = found.resent
    if resent is None:
        return []
    share = percent(resent.resent_tokens, resent.input_tokens)
    return [
        f"{share} of {resent.input_tokens:,} tokens ({resent.resent_tokens:,}; "
        f"{resent.cached_tokens:,} read from a cache)"
    ]


def _gaps(found: Insights, context: Context) -> list[str]:
    rows = [
        (
            duration(each.seconds * 1000), context.time(each.started),
            context.time(each.finished), each.before_event_id,
        )
        for each in found.gaps
    ]  # fmt: skip
    return _listed(
        rows, Column("for", number=True), Column("from"), Column("to"), Column("before", rank=1)
    )  # fmt: skip
