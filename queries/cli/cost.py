"""`eventlog cost`: what model calls cost, in tables; its blocks are in eventlog.queries.cli.cost_blocks."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import click
import msgspec

from eventlog.cli import keeping
from eventlog.cli.main import Group, configured, say, tell_json, with_root
from eventlog.cli.text import counted, percent, printable
from eventlog.errors import QueryFailed
from eventlog.format import timestamps
from eventlog.log import clock
from eventlog.queries.access.result import Result
from eventlog.queries.cli import render
from eventlog.queries.cli.cost_blocks import blocks
from eventlog.queries.cli.options import Context, reading, since_option, until_option
from eventlog.queries.cost import budgets, rates
from eventlog.queries.cost import today as costs_today
from eventlog.queries.cost.report import GROUPS, Budget, By, Cost, CostReport, Period, PriceInUse, Repriced, Unpriced
from eventlog.queries.store import ReadStore
from eventlog.queries.text import bars, paths, tables, units

_by_option = click.option("--by", type=click.Choice(GROUPS), help="One row for each of these.")
_FORMATS: dict[Period, str] = {"day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}
#: What a narrow terminal has no place for, the highest first.
_RANKS = {
    "cache savings": 6, "unpriced calls": 5, "calls": 4, "cache read": 3, "cache write": 3, "output": 2, "input": 2,
    "tokens": 1,
}  # fmt: skip
#: The tokens of each kind, in the order of the columns.
_KINDS: dict[str, Callable[[Cost], int]] = {
    "input": lambda sums: sums.uncached_input_tokens,
    "output": lambda sums: sums.output_tokens,
    "cache write": lambda sums: sums.cache_write_5m_tokens + sums.cache_write_1h_tokens,
    "cache read": lambda sums: sums.cache_read_tokens,
    "tokens": lambda sums: sum(kind(sums) for name, kind in _KINDS.items() if name != "tokens"),
}
#: What a group is called that is none of them.
_NOBODY: dict[By, str] = {"subagent": "(main)"}
#: An amount of USD on the command line.
_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")
_BAR_CHARS_MIN, _BAR_CHARS_MAX = 10, 60
_PIPE_CHARS = 80


class Daily(Group):
    """A group whose default command is `daily`, or `total` where it is asked for groups."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["total" if any(arg.partition("=")[0] == "--by" for arg in args) else "daily", *args]
        return super().parse_args(ctx, args)


@click.group(cls=Daily)
def cost() -> None:
    """Show what model calls cost, per day, in total, or per block.

    The default is `daily`, and `total` with --by: one sum for each session, project, model, …. Each call has the price
    that was in force at its time, from genai-prices and from `price_set` events. Calls without a price are in no sum;
    they are listed below. `eventlog docs cost` has the rules.

    \b
    Example:
      eventlog cost
      eventlog cost --by session --since yesterday
      eventlog cost weekly --by model --since 30d
    """


def _usd(_: click.Context, __: click.Parameter, value: str | None) -> Decimal | None:
    if value is None:
        return None
    if not _AMOUNT.fullmatch(value) or not Decimal(value):
        raise click.BadParameter(f"{value!r} is not an amount of USD, such as 100 or 12.50")
    return Decimal(value)


_budget_option = click.option(
    "--budget", metavar="USD", callback=_usd, help="Compare the month with this, instead of your setting."
)


def _summing(command: Callable[..., None]) -> Callable[..., None]:
    return _by_option(since_option(until_option(_budget_option(reading(times=True, agents=True)(command)))))


@cost.command()
@_summing
def total(context: Context, **options: Any) -> None:
    """Sum up costs, not split by time.

    \b
    Example:
      eventlog cost total --by project --since 'last month'
    """
    _print(None, context, **options)


@cost.command()
@_summing
def daily(context: Context, **options: Any) -> None:
    """Sum up costs per day.

    \b
    Example:
      eventlog cost daily --by agent --since 7d
    """
    _print("day", context, **options)


@cost.command()
@_summing
def weekly(context: Context, **options: Any) -> None:
    """Sum up costs per week, from Monday.

    \b
    Example:
      eventlog cost weekly --by project
    """
    _print("week", context, **options)


@cost.command()
@_summing
def monthly(context: Context, **options: Any) -> None:
    """Sum up costs per month.

    \b
    Example:
      eventlog cost monthly --json | jq .total.cost_usd
    """
    _print("month", context, **options)


def _print(
    period: Period | None,
    context: Context,
    *,
    by: By | None,
    since: datetime | None,
    until: datetime | None,
    budget: Decimal | None,
) -> None:
    store = context.store()
    report = store.cost.report(period, by=by, since=since, until=until, zone=context.zone)
    costs_today.keep(store.root, report.today, workspace=store.workspace, since=since, until=until, zone=context.zone)
    report = budgets.with_budgets(report, _limits(context, budget))
    workspaces = None if store.workspace is None else (None, store.workspace)
    for text in clock.warnings(store.root, ["price_set"], workspaces=workspaces):
        say(f"warning: {text}")
        keeping.is_not_kept()
    context.keep(_next_minute(report) if context.as_json or report.today.calls or report.budgets else None)
    if context.as_json:
        tell_json(report)
        return
    if not report.rows:
        say("no such model calls; record some with obs.run(…), or import some: eventlog import --help")
    else:
        elastic = () if by is None else (by,)
        render.fitted(_table(report, store, context), _RANKS, elastic=elastic)
        click.echo("".join(f"{bar}\n" for bar in _plot(report)), nl=False)
    for line in _remarks(report, context):
        click.echo(line)


def _next_minute(report: CostReport) -> datetime:
    """Return when the rates of a report change: they are those of whole minutes."""
    return min(
        timestamps.utc(burn.day) + timedelta(seconds=burn.elapsed_s + 60) for burn in (report.today, report.month)
    )


def _limits(context: Context, per_month: Decimal | None) -> dict[budgets.Per, Decimal | None]:
    settings = configured(context.root)
    per_day, of_settings = (
        None if limit is None else Decimal(str(limit))
        for limit in (settings.budget_usd_per_day, settings.budget_usd_per_month)
    )
    return {"day": per_day, "month": of_settings if per_month is None else per_month}


def _table(report: CostReport, store: ReadStore, context: Context) -> Result:
    labels = (
        []
        if report.period is None
        else [context.heading(report.period, (row.start for row in report.rows), dates=True)]
    )
    labels += [] if report.by is None else [report.by]
    columns = [*labels, "calls", *_KINDS, "cost", "cache savings"]
    names = _names(report.by, report.rows, _shown(report, store))
    rows: list[tuple[str, ...]] = []
    for sums, name in zip(report.rows, names, strict=True):
        period = [] if report.period is None else [_label(report.period, sums)]
        rows.append((*period, *([] if report.by is None else [name]), *_cells(sums)))
    if labels:
        rows.append(("total", *[""] * (len(labels) - 1), *_cells(report.total)))
    if report.total.unpriced_calls:
        columns.append("unpriced calls")
        every = [*report.rows, *([report.total] if labels else [])]
        rows = [
            (*row, f"{sums.unpriced_calls:,}" if sums.unpriced_calls else "")
            for row, sums in zip(rows, every, strict=True)
        ]
    kinds = ["VARCHAR"] * len(labels) + ["DECIMAL"] * (len(columns) - len(labels))
    return Result(columns, kinds, rows, cut=False)


def _shown(report: CostReport, store: ReadStore) -> Mapping[str, str]:
    """Return what some groups are called in a table: folders by their ends, ids by their beginnings and titles."""
    groups = [row.group for row in report.rows if row.group is not None]
    if report.by == "project":
        return paths.tails(groups)
    if report.by not in ("session", "run"):
        return {}
    short = store.runs.short_ids(groups)
    return {
        row.group: "  ".join(filter(None, (short.get(row.group, row.group), row.group_name)))
        for row in report.rows
        if row.group is not None
    }


def _names(by: By | None, rows: Sequence[Cost | Repriced], shown: Mapping[str, str]) -> list[str]:
    """Return the names of groups, with their workspace where these are of several: "s-1 (acme)"."""
    with_workspace = len({row.group_workspace for row in rows}) > 1
    nobody = "(none)" if by is None else _NOBODY.get(by, "(none)")
    return [
        f"{shown.get(row.group, row.group) if row.group else nobody}"
        f"{f' ({row.group_workspace})' if with_workspace and row.group_workspace else ''}"
        for row in rows
    ]


def _cells(sums: Cost) -> tuple[str, ...]:
    return (
        f"{sums.calls:,}", *(units.tokens(kind(sums)) for kind in _KINDS.values()), units.usd(sums.cost_usd),
        units.usd(sums.cache_savings_usd),
    )  # fmt: skip


def _label(period: Period, sums: Cost) -> str:
    return sums.start.strftime(_FORMATS[period]) if sums.start else ""


def _plot(report: CostReport) -> Iterator[str]:
    """Yield a bar for each period, as wide as the terminal allows."""
    if report.period is None:
        return
    per_period: dict[str, Decimal] = {}
    for sums in report.rows:
        label = _label(report.period, sums)
        per_period[label] = per_period.get(label, Decimal(0)) + (sums.cost_usd or 0)
    most = max(per_period.values())
    if len(per_period) < 2 or most <= 0:
        return
    amounts = {label: units.usd(amount) for label, amount in per_period.items()}
    beside = max(map(len, amounts)) + max(map(len, amounts.values())) + 4
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPE_CHARS
    chars = max(min(width - beside, _BAR_CHARS_MAX), _BAR_CHARS_MIN)
    for label, amount in per_period.items():
        yield f"{label}  {bars.length(amount / most, chars):{chars}}  {amounts[label]:>{beside - 4 - len(label)}}"


def _remarks(report: CostReport, context: Context) -> Iterator[str]:
    today = report.today
    if today.calls:
        yield from tables.prose(
            f"today ({today.day:%Y-%m-%d}{' UTC' if context.zone is UTC else ''}): "
            f"{units.usd(today.cost_usd)} in {counted(today.calls, 'call')}, "
            f"{units.usd(today.usd_per_hour)} an hour, {units.usd(today.projected_usd)} by midnight at this rate"
        )
    for budget in report.budgets:
        yield from tables.prose(_budget(budget))
    if report.unpriced:
        calls, verb = report.total.unpriced_calls, "has" if report.total.unpriced_calls == 1 else "have"
        yield from tables.prose(f"{counted(calls, 'call')} {verb} no price, and so no place in these sums:")
        for unpriced in report.unpriced:
            yield from _advice(unpriced, context)
    if report.total.cut_short_calls:
        yield from tables.prose(_cut_short(report.total))
    for note in report.notes:
        yield from _note(note)


def _note(note: str) -> list[str]:
    return tables.prose(f"note: {printable(note)}")


def _budget(budget: Budget) -> str:
    share = percent(int(budget.spent_usd * 10**12), int(budget.limit_usd * 10**12))
    left = budget.limit_usd - budget.spent_usd
    over = "" if left >= 0 else f", {units.usd(-left)} over"
    unpriced = f", without {counted(budget.unpriced_calls, 'unpriced call')}" if budget.unpriced_calls else ""
    return (
        f"spent {units.usd(budget.spent_usd)} of {units.usd(budget.limit_usd)} this {budget.per} ({share}{over}"
        f"{unpriced}), {units.usd(budget.projected_usd)} at this rate"
    )


def _cut_short(total: Cost) -> str:
    one = total.cut_short_calls == 1
    more = "" if total.cut_short_cost_usd is None else f", which cost about {units.usd(total.cut_short_cost_usd)} more"
    return (
        f"{counted(total.cut_short_calls, 'call')} {'looks' if one else 'look'} cut short: "
        f"{'its' if one else 'their'} output tokens are too few for what {'it' if one else 'they'} wrote; "
        f"those missing are in no sum{more} (eventlog docs cost, Exact)"
    )


def _advice(unpriced: Unpriced, context: Context) -> Iterator[str]:
    """Yield what has no price, and the command that gives it one: on one line, to be copied."""
    tier = unpriced.service_tier and f"tier {unpriced.service_tier}"
    place = unpriced.inference_geo and f"inference in {unpriced.inference_geo}"
    names = ", ".join(filter(None, (unpriced.provider, tier, place)))
    who = f"{unpriced.model or '(no model)'}{f' ({names})' if names else ''}"
    searches = f"{counted(unpriced.web_searches, 'web search', 'web searches')}, " if unpriced.web_searches else ""
    times = (timestamps.in_zone(moment, context.zone) for moment in (unpriced.first, unpriced.last))
    days = dict.fromkeys(f"{moment:%Y-%m-%d}" for moment in times)
    yield from tables.prose(
        f"  {printable(who)}: {counted(unpriced.calls, 'call')}, {units.tokens(unpriced.tokens)} tokens, "
        f"{searches}{' to '.join(days)}; {printable(unpriced.because)}"
    )
    if unpriced.model is None or not unpriced.can_be_set:
        return
    price = {
        "model": unpriced.model,
        "provider_name": unpriced.provider,
        "service_tier": unpriced.service_tier,
        "inference_geo": unpriced.inference_geo,
        "effective_from": timestamps.to_text(unpriced.first),
        "input_usd_per_mtok": "…",
        "output_usd_per_mtok": "…",
        "web_search_usd": "…" if unpriced.web_searches else None,
    }
    text = msgspec.json.encode({name: value for name, value in price.items() if value}).decode()
    yield f"    → {with_root(f'eventlog emit price_set {shlex.quote(printable(text))}')}"


# -- recompute, prices ---------------------------------------------------------------------


@cost.command()
@click.option("--as-of", "as_of", metavar="T", required=True, help="Prices in force at T: ISO 8601, or an age like 7d.")
@click.option("--by", type=click.Choice(GROUPS), default="model", show_default=True, help="One row for each of these.")
@since_option
@until_option
@reading(times=True)
def recompute(context: Context, as_of: datetime, by: By, since: datetime | None, until: datetime | None) -> None:
    """Price past calls at the prices of one moment.

    Shows both, and the difference. Nothing is changed; to correct past prices, emit a `price_set` event with an
    `effective_from` in the past. Costs that were reported stay as they are.

    \b
    Example:
      eventlog cost recompute --as-of 2026-07-01
    """
    store = context.store()
    context.keep()
    recomputed = store.cost.recomputed(as_of, by=by, since=since, until=until)
    if context.as_json:
        tell_json(recomputed)
        return
    columns = [
        by,
        "calls",
        "at their time",
        f"as of {timestamps.stamped(recomputed.as_of, context.zone, timespec='minutes')}",
        "difference",
        "unpriced calls",
    ]
    rows = [
        _repriced(repriced, name)
        for repriced, name in zip(recomputed.rows, _names(by, recomputed.rows, {}), strict=True)
    ]
    rows.append(_repriced(recomputed.total, "total"))
    kinds = ["VARCHAR", *["DECIMAL"] * 4, "VARCHAR"]
    every = [*recomputed.rows, recomputed.total]
    for name, amounts in (
        ("newly priced", [repriced.newly_priced_usd for repriced in every]),
        ("no longer priced", [repriced.no_longer_priced_usd for repriced in every]),
    ):
        if any(amount is not None for amount in amounts):
            columns.append(name)
            kinds.append("DECIMAL")
            rows = [
                (*row, "" if amount is None else units.usd(amount)) for row, amount in zip(rows, amounts, strict=True)
            ]
    render.fitted(Result(columns, kinds, rows, cut=False), {"unpriced calls": 3, "calls": 4}, elastic=(by,))
    for note in recomputed.notes:
        click.echo("\n".join(_note(note)))


def _repriced(repriced: Repriced, label: str) -> tuple[str, ...]:
    unpriced = (repriced.old_unpriced_calls, repriced.new_unpriced_calls)
    return (
        label, f"{repriced.calls:,}", units.usd(repriced.old_usd), units.usd(repriced.new_usd),
        units.usd(repriced.difference_usd),
        f"{unpriced[0]:,} → {unpriced[1]:,}" if any(unpriced) else "",
    )  # fmt: skip


@cost.command()
@click.argument("model", metavar="[MODEL]", required=False)
@reading(times=True)
def prices(context: Context, model: str | None) -> None:
    """Show the rates of the models in use.

    In USD per million tokens and per web search, with the matched name, the source of the price, and the calls that
    it applies to. MODEL is a part of the name.

    \b
    Example:
      eventlog cost prices
      eventlog cost prices opus --json
    """
    store = context.store()
    context.keep()
    in_use, notes = store.cost.prices(model)
    if context.as_json:
        tell_json({"prices": in_use, "notes": notes})
        return
    if not in_use:
        raise QueryFailed("no such model is in use; try: eventlog cost prices")
    rates_in_use = [price.rate for price in in_use if price.rate is not None]
    bounds = {"from": [r.valid_from for r in rates_in_use], "until": [r.valid_until for r in rates_in_use]}
    columns = [
        "model", "band", *(context.heading(name, moments) for name, moments in bounds.items()), "input", "cache read",
        "write 5m", "write 1h", "output",
        "web search", "matched", "version",
    ]  # fmt: skip
    kinds = [*["VARCHAR"] * 4, *["DECIMAL"] * 6, "VARCHAR", "VARCHAR"]
    render.table(Result(columns, kinds, [_price(price, context) for price in in_use], cut=False))
    for note in notes:
        click.echo("\n".join(_note(note)))


def _price(price: PriceInUse, context: Context) -> tuple[str, ...]:
    names = (
        price.model or "(no model)",
        price.provider and f"({price.provider})",
        price.workspace and f"in {price.workspace}",
    )
    name = " ".join(filter(None, names))
    if price.rate is None:
        return (name, rates.band_name(price.service_tier, price.inference_geo), *[""] * 8, "no price", "")
    rate = price.rate
    amounts = (rate.input, rate.cache_read, rate.cache_write_5m, rate.cache_write_1h, rate.output, rate.web_search)
    return (
        name, rate.band, _day(rate.valid_from, context), _day(rate.valid_until, context),
        *("–" if amount is None else format(amount, "f") for amount in amounts), rate.matched, rate.version,
    )  # fmt: skip


def _day(moment: datetime | None, context: Context) -> str:
    return context.minute(moment).removesuffix(" 00:00").removesuffix(" 00:00Z")


cost.add_command(blocks)
