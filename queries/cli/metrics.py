"""`eventlog metrics`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from eventlog.cli.main import tell_json
from eventlog.cli.text import percent
from eventlog.queries.access.result import Result
from eventlog.queries.cli import options, render
from eventlog.queries.cli.options import Context
from eventlog.queries.metrics.aggregates import GROUPS, UNKNOWN, Bucket, Group, Metrics, Percentiles
from eventlog.queries.text import units

_BUCKETS: dict[str, Bucket] = {"daily": "day", "hourly": "hour"}


@click.command()
@click.argument("every", metavar="[daily|hourly]", type=click.Choice(list(_BUCKETS)), default="daily")
@click.option(
    "--by",
    type=click.Choice(GROUPS),
    multiple=True,
    help="One row for each workspace, agent or model; repeat it for each combination.",
)
@click.option("--agent", metavar="A", help="Only this agent.")
@options.since_option
@options.until_option
@options.reading(times=True)
def metrics(
    context: Context,
    every: str,
    by: tuple[Group, ...],
    agent: str | None,
    since: datetime | None,
    until: datetime | None,
) -> None:
    """Show figures per day or hour of the local zone.

    Runs, calls, errors, tokens, cost and latencies. Counted from the events each time, so late events are in the
    right bucket. --json has more: errors by type, p50 and p99 of everything, tokens by kind.

    \b
    Example:
      eventlog metrics
      eventlog metrics hourly --since 24h --by agent --by model
    """
    bucket = _BUCKETS[every]
    store = context.store()
    context.keep(of_runs=True)
    buckets = store.metrics(bucket, by, since=since, until=until, agent=agent, zone=context.zone)
    if context.as_json:
        tell_json(buckets)
        return
    columns = {"start": "VARCHAR"} | dict.fromkeys((group for group in GROUPS if group in by), "VARCHAR") | _COLUMNS
    if not any(figures.runs for figures in buckets):  # imported sessions have none
        columns = {name: kind for name, kind in columns.items() if name not in ("runs", "success")}
    rows = [tuple(_row(figures, bucket, context)[name] for name in columns) for figures in buckets]
    elastic = ("most frequent errors", *GROUPS)
    names = [context.heading("start", (each.start for each in buckets), dates=bucket == "day"), *list(columns)[1:]]
    render.fitted(Result(names, list(columns.values()), rows, cut=False), _RANKS, elastic=elastic)


#: Columns of the table after those of the group, and of which type they are.
_COLUMNS = dict.fromkeys(
    (
        "runs", "success", "calls", "failed", "tokens in", "tokens out", "cost", "p50 ms", "p95 ms", "p99 ms",
        "first token ms", "tools", "tools failed",
    ),
    "DOUBLE",
) | {"most frequent errors": "VARCHAR"}  # fmt: skip


#: What a narrow terminal has no place for, the highest first.
_RANKS = {
    "p99 ms": 9, "p50 ms": 8, "first token ms": 7, "tokens in": 6, "tokens out": 6, "most frequent errors": 5,
    "tools failed": 4, "tools": 4, "p95 ms": 3, "success": 2, "failed": 1,
}  # fmt: skip


def _row(figures: Metrics, bucket: Bucket, context: Context) -> dict[str, Any]:
    latency = figures.latency_ms or _NOTHING
    tokens = (
        figures.uncached_input_tokens,
        figures.cache_read_tokens,
        figures.cache_write_5m_tokens,
        figures.cache_write_1h_tokens,
    )
    return {
        "start": _start(figures.start, bucket, context),
        "workspace": figures.workspace,
        "agent": figures.agent,
        "model": figures.model,
        "runs": f"{figures.runs:,}",
        "success": _success(figures),
        "calls": f"{figures.llm_calls:,}",
        "failed": f"{figures.llm_failures:,}",
        "tokens in": f"{sum(tokens):,}",
        "tokens out": f"{figures.output_tokens:,}",
        "cost": f"{units.usd(figures.cost_usd)}{'+' if figures.unpriced_calls else ''}" if figures.llm_calls else None,
        "p50 ms": _ms(latency.p50),
        "p95 ms": _ms(latency.p95),
        "p99 ms": _ms(latency.p99),
        "first token ms": _ms((figures.ttft_ms or _NOTHING).p95),
        "tools": f"{figures.tool_calls:,}",
        "tools failed": f"{figures.tool_failures:,}",
        "most frequent errors": _errors(figures),
    }


_NOTHING = Percentiles(0, -1, -1, -1)


def _success(figures: Metrics) -> str | None:
    judged = figures.runs_ok + figures.runs_error + figures.runs_abandoned
    return percent(figures.runs_ok, judged) if judged else None


def _ms(value: float) -> str | None:
    return None if value < 0 else f"{value:,.0f}"


def _start(start: datetime, bucket: Bucket, context: Context) -> str:
    return f"{start:%Y-%m-%d}" if bucket == "day" else context.minute(start)


def _errors(figures: Metrics) -> str:
    """The most frequent failure of each kind; where it is not known how it failed, the kind alone."""
    kinds = {
        "run": figures.run_errors, "call": figures.llm_errors,
        "tool": figures.tool_errors, "logged": figures.logged_errors,
    }  # fmt: skip
    return ", ".join(
        f"{kind if error_type == UNKNOWN else f'{kind} {error_type}'} ×{count}"
        for kind, types in kinds.items()
        for error_type, count in list(types.items())[:1]
    )
