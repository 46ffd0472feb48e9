"""`eventlog cost blocks`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import click

from eventlog.cli.main import say, tell_json
from eventlog.cli.text import counted
from eventlog.errors import QueryFailed
from eventlog.importers import sources
from eventlog.queries.access.result import Result
from eventlog.queries.cli import render
from eventlog.queries.cli.options import Context, reading, since_option, until_option
from eventlog.queries.cost.blocks import Block
from eventlog.queries.text import tables, units

_RANKS = {
    "models": 6, "unpriced calls": 5, "calls": 4, "cache read": 3, "cache write": 3, "output": 2, "input": 2,
    "tokens": 1,
}  # fmt: skip


@click.command()
@click.option("--active", is_flag=True, help="Only the block that is running.")
@click.option("--source", metavar="S", help="Only calls of this source, such as codex.")
@since_option
@until_option
@reading(times=True, agents=True)
def blocks(context: Context, active: bool, source: str | None, since: datetime | None, until: datetime | None) -> None:
    """Sum up costs per block of five hours.

    A block begins with the hour of its first call, and lasts five hours. For the block that is running: what it costs
    per hour, and will cost at its end at this rate.

    \b
    Example:
      eventlog cost blocks --since 3d
      eventlog cost blocks --active --source codex
    """
    found = context.store().cost.blocks(source=_known(source), since=since, until=until)
    if not any(block.active for block in found):
        context.keep()
    shown = [block for block in found if block.active] if active else found
    if context.as_json:
        tell_json(shown)
        return
    if not shown:
        say(_none(found, active, context))
        return
    render.fitted(_table(shown, context), _RANKS, elastic=("models",))
    for block in shown:
        if block.active:
            click.echo("\n".join(each for line in _running(block, context) for each in tables.prose(line)))


def _known(source: str | None) -> str | None:
    """Return a source as calls name it; hyphens are as good as underscores. Raises QueryFailed."""
    known = ("llm_call", *(name for each in sources.all_sources() for name in each.event_types))
    name = None if source is None else source.replace("-", "_")
    if name is not None and name not in known:
        raise QueryFailed(f"unknown source {source!r}; there are: {', '.join(known)}")
    return name


def _none(found: list[Block], active: bool, context: Context) -> str:
    if active and found:
        return f"no block is running; the last one ended at {context.stamp(found[-1].end)}"
    return "no such model calls; record some with obs.run(…), or import some: eventlog import --help"


def _table(found: list[Block], context: Context) -> Result:
    columns = [
        context.heading("block", [block.start for block in found]), "", "calls", "input", "output", "cache write",
        "cache read", "tokens", "cost",
    ]  # fmt: skip
    rows = [
        (
            context.minute(block.start), "running" if block.active else "", f"{block.calls:,}",
            *map(units.tokens, (
                block.uncached_input_tokens, block.output_tokens,
                block.cache_write_5m_tokens + block.cache_write_1h_tokens, block.cache_read_tokens, block.tokens,
            )),
            units.spent(block.cost_usd, block.unpriced_calls),
        )
        for block in found
    ]  # fmt: skip
    kinds = ["VARCHAR", "VARCHAR", *["DECIMAL"] * 7]
    if any(block.unpriced_calls for block in found):
        columns.append("unpriced calls")
        kinds.append("DECIMAL")
        unpriced = [f"{block.unpriced_calls:,}" if block.unpriced_calls else "" for block in found]
        rows = [(*row, count) for row, count in zip(rows, unpriced, strict=True)]
    rows = [(*row, ", ".join(block.models)) for row, block in zip(rows, found, strict=True)]
    return Result([*columns, "models"], [*kinds, "VARCHAR"], rows, cut=False)


def _running(block: Block, context: Context) -> Iterator[str]:
    left = units.duration((block.remaining_s or 0) * 1000)
    spent = f"{units.spent(block.cost_usd, block.unpriced_calls)} in {counted(block.calls, 'call')}"
    if block.unpriced_calls:
        spent += f", {block.unpriced_calls:,} of them without a price"
    yield f"running since {context.stamp(block.first)}, {left} left: {spent}"
    rate = (
        f"{units.usd(block.usd_per_hour)} an hour, {units.tokens(round(block.tokens_per_minute or 0))} tokens a minute"
    )
    at_end = f"{units.usd(block.projected_usd)} and {units.tokens(block.projected_tokens or 0)} tokens"
    yield f"{rate}; at this rate {at_end} at its end"
