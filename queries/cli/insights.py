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
@options.reading(times=True)
def insights(context: Context, run_or_session: str) -> None:
    """Show loops and waste of a run or a session.

    Repeated identical tool calls, retries, loops, how the context grew, what was sent again, gaps, and calls by step.

    \b
    Example:
      eventlog insights nightly-7
    """
    findings = context.store().insights(run_or_session)
    if not findings.llm_calls and not findings.tool_calls and not context.as_json:
        say("it has no calls of models or tools")
        return
    context.show(findings, lambda: _lines(findings, context))
    if findings.cut and not context.as_json:
        say("it has more calls than are examined; these findings are about the first ones")


def _lines(findings: Insights, context: Context) -> Iterator[str]:
    kind, name = ("run", findings.run_id) if findings.run_id is not None else ("session", findings.session_id)
    lines = [printable(f"{kind} {name}: {findings.llm_calls:,} model calls, {findings.tool_calls:,} tool calls")]
    for title, part in (
        ("repeated: the same tool with the same arguments", _repeated(findings)),
        ("retries: failed, and tried again at once", _retries(findings)),
        (f"loops: the same calls {LOOP_TIMES} or more times in a row", _loops(findings, context)),
        ("context: input tokens per call", _growth(findings.growth)),
        ("re-sent: input that had been sent before", _resent(findings)),
        ("gaps: nothing was going on", _gaps(findings, context)),
        ("steps: the calls in each", _by_step(findings)),
    ):
        lines += ["", title if part else f"{title.partition(':')[0]}: none", *(f"  {line}" for line in part)]
    width = tables.width_limit()
    yield from lines if width is None else (cells.cut(line, width) for line in lines)


def _listed(rows: Sequence[tuple[str, ...]], *columns: Column) -> list[str]:
    return tables.listed(rows, *columns, indent=2) if rows else []


def _by_step(findings: Insights) -> list[str]:
    rows = [
        (
            "(none)" if step.step is None else step.step, f"{step.times:,}" if step.times else "",
            f"{step.llm_calls:,}", f"{step.tool_calls:,}", f"{step.failures:,}" if step.failures else "",
            f"{step.input_tokens:,}", f"{step.output_tokens:,}",
        )
        for step in findings.by_step
    ]  # fmt: skip
    return _listed(
        rows, Column("step", elastic=True), Column("times", number=True, rank=2), Column("calls", number=True),
        Column("tools", number=True), Column("failed", number=True, rank=1),
        Column("tokens in", number=True, rank=3), Column("out", number=True, rank=3),
    )  # fmt: skip


def _repeated(findings: Insights) -> list[str]:
    rows = [
        (
            f"{repeated.times:,}", repeated.tool, repeated.arguments, duration(repeated.wasted_ms),
            size(repeated.wasted_result_bytes), repeated.event_ids[0],
        )
        for repeated in findings.repeated
    ]  # fmt: skip
    return _listed(
        rows, Column("times", number=True), Column("tool"), Column("arguments", elastic=True),
        Column("wasted", number=True, rank=1), Column("results", number=True, rank=2), Column("first", rank=3),
    )  # fmt: skip


_ENDS = {True: "ok", False: "failed", None: "unknown"}


def _retries(findings: Insights) -> list[str]:
    rows = [
        (
            f"{retry.attempts:,}", retry.kind, retry.name, retry.arguments, _ENDS[retry.succeeded],
            duration(retry.wasted_ms), retry.event_ids[0],
        )
        for retry in findings.retries
    ]  # fmt: skip
    return _listed(
        rows, Column("attempts", number=True), Column("kind", rank=2), Column("name"),
        Column("arguments", rank=4, elastic=True), Column("at last"), Column("wasted", number=True, rank=1),
        Column("first", rank=3),
    )  # fmt: skip


def _loops(findings: Insights, context: Context) -> list[str]:
    rows = [
        (
            f"{loop.times:,}", " → ".join(loop.tools), context.time(loop.started),
            duration((loop.finished - loop.started).total_seconds() * 1000), loop.event_ids[0],
        )
        for loop in findings.loops
    ]  # fmt: skip
    return _listed(
        rows, Column("times", number=True), Column("tools", elastic=True),
        Column(context.heading("began", [loop.started for loop in findings.loops]), rank=2),
        Column("took", number=True, rank=1), Column("first", rank=3),
    )  # fmt: skip


def _growth(conversations: Sequence[Growth]) -> list[str]:
    rows = [
        (
            growth.context or "main", f"{growth.calls:,}", f"{growth.first:,}", f"{growth.last:,}",
            f"{growth.largest:,}", f"{growth.slope:+,.0f}", bars.spark(growth.series),
        )
        for growth in conversations
    ]  # fmt: skip
    return _listed(
        rows, Column("conversation", elastic=True), Column("calls", number=True), Column("first", number=True),
        Column("last", number=True), Column("largest", number=True, rank=2), Column("per call", number=True),
        Column("each", rank=3),
    )  # fmt: skip


def _resent(findings: Insights) -> list[str]:
    resent = findings.resent
    if resent is None:
        return []
    share = percent(resent.resent_tokens, resent.input_tokens)
    return [
        f"{share} of {resent.input_tokens:,} tokens ({resent.resent_tokens:,}; "
        f"{resent.cached_tokens:,} read from a cache)"
    ]


def _gaps(findings: Insights, context: Context) -> list[str]:
    rows = [
        (
            duration(gap.seconds * 1000), context.time(gap.started),
            context.time(gap.finished), gap.before_event_id,
        )
        for gap in findings.gaps
    ]  # fmt: skip
    return _listed(
        rows, Column("for", number=True), Column(context.heading("from", [gap.started for gap in findings.gaps])),
        Column(context.heading("to", [gap.finished for gap in findings.gaps])), Column("before", rank=1),
    )  # fmt: skip
