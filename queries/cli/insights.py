"""`eventlog insights`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from eventlog.cli.main import say
from eventlog.cli.text import printable
from eventlog.queries.cli import options
from eventlog.queries.insights.findings import LOOP_TIMES, Growth, Insights
from eventlog.queries.text import cells, tables
from eventlog.queries.text.tables import Column
from eventlog.queries.text.units import duration, size

_SPARKS = "▁▂▃▄▅▆▇█"
_SPARK_COLUMNS = 30


@click.command()
@click.argument("what", metavar="RUN|SESSION")
@options.utc_option
@options.json_option
@options.reading
def insights(what: str, utc: bool, as_json: bool, workspace: str | None, wait_s: float, root: str | None) -> None:
    """Show loops and waste of a run or a session.

    Repeated identical tool calls, retries, loops, how the context grew, what was sent again, and gaps.

    \b
    Example:
      eventlog insights nightly-7
    """
    found = options.store(root, workspace, wait_s).insights(what)
    if as_json:
        options.echo_json(found)
        return
    if not found.llm_calls and not found.tool_calls:
        say("no calls of models or tools are in it, so there is nothing to say")
        return
    options.page("\n".join(_lines(found, utc=utc)))
    if found.cut:
        say("it has more calls than are looked at; these are the first")


def _lines(found: Insights, *, utc: bool) -> Iterator[str]:
    kind, name = ("run", found.run_id) if found.run_id is not None else ("session", found.session_id)
    lines = [printable(f"{kind} {name}: {found.llm_calls:,} model calls, {found.tool_calls:,} tool calls")]
    for title, part in (
        ("repeated: the same tool with the same arguments", _repeated(found)),
        ("retries: failed, and tried again at once", _retries(found)),
        (f"loops: the same calls {LOOP_TIMES} or more times in a row", _loops(found, utc=utc)),
        ("context: input tokens per call", _growth(found.growth)),
        ("re-sent: input that had been sent before", _resent(found)),
        ("gaps: nothing was going on", _gaps(found, utc=utc)),
    ):
        lines += ["", title if part else f"{title.partition(':')[0]}: none", *(f"  {line}" for line in part)]
    width = tables.width_limit()
    yield from lines if width is None else (cells.cut(line, width) for line in lines)


def _listed(rows: Sequence[tuple[str, ...]], *described: Column) -> list[str]:
    width = tables.width_limit()
    return tables.lines(tables.columns(rows, *described), None if width is None else width - 2) if rows else []


def _column(name: str, *, rank: int = 0, number: bool = False, elastic: bool = False) -> Column:
    return Column(name=name, cells=[], rank=rank, number=number, elastic=elastic)


def _repeated(found: Insights) -> list[str]:
    rows = [
        (
            f"{each.times:,}", each.tool, each.arguments, duration(each.wasted_ms), size(each.wasted_result_bytes),
            each.event_ids[0],
        )
        for each in found.repeated
    ]  # fmt: skip
    return _listed(
        rows, _column("times", number=True), _column("tool"), _column("arguments", elastic=True),
        _column("wasted", number=True, rank=1), _column("results", number=True, rank=2), _column("first", rank=3),
    )  # fmt: skip


def _retries(found: Insights) -> list[str]:
    rows = [
        (
            f"{each.attempts:,}", each.kind, each.name, each.arguments, "ok" if each.succeeded else "failed",
            duration(each.wasted_ms), each.event_ids[0],
        )
        for each in found.retries
    ]  # fmt: skip
    return _listed(
        rows, _column("attempts", number=True), _column("kind", rank=2), _column("name"),
        _column("arguments", rank=4, elastic=True), _column("at last"), _column("wasted", number=True, rank=1),
        _column("first", rank=3),
    )  # fmt: skip


def _loops(found: Insights, *, utc: bool) -> list[str]:
    rows = [
        (
            f"{each.times:,}", " → ".join(each.tools), options.shown(each.started, utc=utc),
            duration((each.finished - each.started).total_seconds() * 1000), each.event_ids[0],
        )
        for each in found.loops
    ]  # fmt: skip
    return _listed(
        rows, _column("times", number=True), _column("tools", elastic=True), _column("began", rank=2),
        _column("took", number=True, rank=1), _column("first", rank=3),
    )  # fmt: skip


def _growth(found: Sequence[Growth]) -> list[str]:
    rows = [
        (
            each.context or "main", f"{each.calls:,}", f"{each.first:,}", f"{each.last:,}", f"{each.largest:,}",
            f"{each.slope:+,.0f}", spark(each.series),
        )
        for each in found
    ]  # fmt: skip
    return _listed(
        rows, _column("conversation", elastic=True), _column("calls", number=True), _column("first", number=True),
        _column("last", number=True), _column("largest", number=True, rank=2), _column("per call", number=True),
        _column("each", rank=3),
    )  # fmt: skip


def spark(series: Sequence[int]) -> str:
    """Return numbers as a line of bars, the largest of them full."""
    every = max(-(-len(series) // _SPARK_COLUMNS), 1)
    drawn = [max(series[place : place + every]) for place in range(0, len(series), every)]
    top = max(drawn, default=0)
    return "".join(_SPARKS[min(value * len(_SPARKS) // (top + 1), len(_SPARKS) - 1)] for value in drawn)


def _resent(found: Insights) -> list[str]:
    resent = found.resent
    if resent is None:
        return []
    return [
        f"{resent.share:.0%} of {resent.input_tokens:,} tokens ({resent.resent_tokens:,}; "
        f"{resent.cached_tokens:,} read from a cache)"
    ]


def _gaps(found: Insights, *, utc: bool) -> list[str]:
    rows = [
        (
            duration(each.seconds * 1000), options.shown(each.started, utc=utc),
            options.shown(each.finished, utc=utc), each.before_event_id,
        )
        for each in found.gaps
    ]  # fmt: skip
    return _listed(
        rows, _column("for", number=True), _column("from"), _column("to"), _column("before", rank=1)
    )  # fmt: skip
