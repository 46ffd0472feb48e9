"""`eventlog metrics`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from eventlog.cli.main import tell_json
from eventlog.cli.text import percent
from eventlog.queries.access.selection import Result
from eventlog.queries.cli import options, render
from eventlog.queries.cli.options import Context
from eventlog.queries.metrics.aggregates import GROUPS, Bucket, Group, Metrics, Percentiles
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
@options.reading()
def metrics(
    context: Context,
    every: str,
    by: tuple[Group, ...],
    agent: str | None,
    since: datetime | None,
    until: datetime | None,
) -> None:
    """Show runs, calls, errors, tokens, cost and latencies per day or hour of UTC.

    Counted from the events each time, so late events are in the right bucket. --json has
    more: errors by type, p50 and p99 of everything, tokens by kind.

    \b
    Example:
      eventlog metrics
      eventlog metrics hourly --since 24h --by agent --by model
    """
    bucket = _BUCKETS[every]
    found = context.store().metrics(bucket, by, since=since, until=until, agent=agent)
    if context.as_json:
        tell_json(found)
        return
    columns = {"start": "VARCHAR"} | dict.fromkeys((each for each in GROUPS if each in by), "VARCHAR") | _COLUMNS
    rows = [tuple(_row(each, bucket)[name] for name in columns) for each in found]
    elastic = ("most frequent errors", *GROUPS)
    render.fitted(Result(list(columns), list(columns.values()), rows, cut=False), _RANKS, elastic=elastic)


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


def _row(each: Metrics, bucket: Bucket) -> dict[str, Any]:
    latency = each.latency_ms or _NOTHING
    tokens = (
        each.uncached_input_tokens,
        each.cache_read_tokens,
        each.cache_write_5m_tokens,
        each.cache_write_1h_tokens,
    )
    return {
        "start": _start(each.start, bucket),
        "workspace": each.workspace,
        "agent": each.agent,
        "model": each.model,
        "runs": f"{each.runs:,}",
        "success": _success(each),
        "calls": f"{each.llm_calls:,}",
        "failed": f"{each.llm_failures:,}",
        "tokens in": f"{sum(tokens):,}",
        "tokens out": f"{each.output_tokens:,}",
        "cost": f"{units.usd(each.cost_usd)}{'+' if each.unpriced_calls else ''}" if each.llm_calls else None,
        "p50 ms": _ms(latency.p50),
        "p95 ms": _ms(latency.p95),
        "p99 ms": _ms(latency.p99),
        "first token ms": _ms((each.ttft_ms or _NOTHING).p95),
        "tools": f"{each.tool_calls:,}",
        "tools failed": f"{each.tool_failures:,}",
        "most frequent errors": _errors(each),
    }


_NOTHING = Percentiles(0, -1, -1, -1)


def _success(each: Metrics) -> str | None:
    judged = each.runs_ok + each.runs_error + each.runs_abandoned
    return percent(each.runs_ok, judged) if judged else None


def _ms(value: float) -> str | None:
    return None if value < 0 else f"{value:,.0f}"


def _start(start: datetime, bucket: Bucket) -> str:
    return f"{start:%Y-%m-%d}" if bucket == "day" else f"{start:%Y-%m-%d %H:%M}Z"


def _errors(each: Metrics) -> str:
    """The most frequent failure of each kind."""
    kinds = {"run": each.run_errors, "call": each.llm_errors, "tool": each.tool_errors, "logged": each.logged_errors}
    return ", ".join(
        f"{kind} {error_type} ×{count}"
        for kind, types in kinds.items()
        for error_type, count in list(types.items())[:1]
    )
