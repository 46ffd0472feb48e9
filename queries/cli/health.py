"""`eventlog health`."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator
from datetime import datetime, timedelta

import click

from eventlog.cli.main import say
from eventlog.cli.text import printable
from eventlog.errors import QueryFailed
from eventlog.format import timestamps
from eventlog.queries.cli import options
from eventlog.queries.cli.options import Context
from eventlog.queries.health.score import Health

_COLOURS = {"A": "green", "B": "green", "C": "yellow", "D": "yellow", "F": "red", None: "cyan"}


@click.command()
@click.argument("agent", required=False)
@click.option("--verbose", is_flag=True, help="All checks, also those without a penalty, with the SQL of each.")
@click.option("--window", default="24h", show_default=True, metavar="AGE", help="The time that is scored.")
@click.option("--at", metavar="T", help="As of T, ISO 8601 or an age, instead of now.")
@options.reading(times=True)
def health(context: Context, agent: str | None, verbose: bool, window: str, at: datetime | None) -> None:
    """Score each agent, 0 to 100, and say what took points off.

    The last 24 hours are scored, and compared with the seven days before. `eventlog docs health` has the
    formula; --verbose shows the SQL of each check.

    \b
    Example:
      eventlog health
      eventlog health planner --verbose
    """
    window_s = timestamps.age_s(window)
    if window_s is None:
        raise QueryFailed(f"{window!r} is not a length of time; use one like 90m, 24h, 7d")
    found = context.store().health(agent, now=at, window=timedelta(seconds=window_s))
    if agent is not None and not found:
        raise QueryFailed(f"no event names the agent {agent!r}; all agents: eventlog health")
    context.show(found, lambda: _lines(found, verbose, context) if found else ["no agents"])
    latest = max((each.last_event for each in found if each.last_event is not None), default=None)
    if latest is not None and all(each.score is None for each in found) and not context.as_json:
        at_ = shlex.quote(context.stamp(latest))
        say(f"nothing to judge in these {window}; try: eventlog health --window 7d --at {at_}")


def _lines(found: list[Health], verbose: bool, context: Context) -> Iterator[str]:
    names = [_name(each) for each in found]
    width = max(map(len, names))
    for name, each in zip(names, found, strict=True):
        score = "  –  no data" if each.score is None else f"{each.score:3}  {each.grade}"
        last = ""
        if each.score is None and each.last_event is not None:
            last = f", last event {context.stamp(each.last_event)}"
        yield f"{name:{width}}  {click.style(score, fg=_COLOURS[each.grade])}{last}"
        for penalty in each.penalties:
            if verbose or penalty.points:
                points = f"−{penalty.points}" if penalty.points else "0" if penalty.judged else "–"
                yield f"  {points:>4}  {penalty.name:11}  {printable(penalty.found)}"
            if verbose:
                yield textwrap.indent("\n".join(map(printable, penalty.query.split("\n"))), " " * 8)


def _name(each: Health) -> str:
    agent = "(no agent)" if each.agent is None else each.agent
    return printable(agent if each.workspace is None else f"{agent} in {each.workspace}")
