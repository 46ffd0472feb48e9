"""`eventlog alerts`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import click
import msgspec

from eventlog.cli.main import EXIT_FAILED, Group, existing_root, resolve_root, root_option, say, tell, tell_json
from eventlog.cli.text import counted, printable
from eventlog.cli.times import zone_of, zone_options
from eventlog.errors import EventlogError, MissingExtra, QueryFailed
from eventlog.format import timestamps
from eventlog.format.alerts import AlertRuleSet
from eventlog.log import clock
from eventlog.queries.access.reader import IndexReader
from eventlog.queries.access.result import Result
from eventlog.queries.alerts import allowed, changes, channels, delivery, history, rules, sql_rules
from eventlog.queries.alerts.check import Checked, check
from eventlog.queries.alerts.watch import INTERVAL_S, watch
from eventlog.queries.cli import options, render
from eventlog.queries.cli.options import Context, json_option
from eventlog.queries.text import units

_WORKSPACE = click.option(
    "--workspace", metavar="W", help="The rule of this workspace; without it, the rule over all workspaces."
)
_LIMIT = click.option(
    "--limit",
    "limit",
    metavar="AGE",
    default="60s",
    show_default=True,
    help="Time for evaluating, and again for delivering.",
)
_TO = "A webhook (https://…), an Apprise URL, or env:NAME for one in the environment; may be repeated."
_LISTED_MAX = 1000
_RULE_TYPES = (
    "alert_rule_set", "alert_rule_removed", "alert_snoozed", "alert_acknowledged", "alert_delivery_retried",
)  # fmt: skip


class _Span(click.ParamType[float]):
    """A length of time such as 15m, in seconds."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = value if isinstance(value, float) else timestamps.age_s(str(value))
        if seconds is None:
            self.fail(f"{value!r} is not a length of time; use 90s, 15m, 2h, 7d", param, ctx)
        return seconds


SPAN = _Span()


@click.group(cls=Group)
def alerts() -> None:
    """Watch cost, errors, latency, heartbeats, or any SELECT.

    Rules are events, and so are their firings. Nothing runs by itself: have a timer run `eventlog alerts check`,
    or a service `eventlog alerts watch`. See `eventlog docs alerts`.

    \b
    Example:
      eventlog alerts add spend --kind cost --threshold 5 --window 1h --to env:SLACK_URL
      eventlog alerts check
    """


@alerts.command()
@click.argument("name", metavar="NAME")
@click.option("--kind", type=click.Choice(list(rules.KINDS)), required=True, help="What it measures.")
@click.option("--threshold", metavar="N", help="USD; a share as 0.05 or 5%; milliseconds or 2.5s.")
@click.option("--window", "window_s", type=SPAN, default="1h", show_default=True, help="The rolling window.")
@click.option("--agent", metavar="A", help="Only this agent.")
@click.option("--model", metavar="M", help="Only models whose names begin with M.")
@click.option("--of", type=click.Choice(rules.MEASURED), help="For error_rate and latency; llm_calls by default.")
@click.option("--percentile", type=float, help="For latency; 95 by default.")
@click.option("--at", "at_percent", metavar="PERCENT", help="For budget: fire when this much is spent; 100 by default.")
@click.option(
    "--min-samples", type=click.IntRange(min=1), default=1, show_default=True, help="For error_rate and latency."
)
@click.option("--sql", "query", metavar="SELECT", help="For sql: fires when this has rows.")
@click.option("--timeout", "timeout_s", type=SPAN, help="For sql: the time limit; 5s by default.")
@click.option("--severity", type=click.Choice(rules.SEVERITIES), default="warning", show_default=True)
@click.option(
    "--cooldown",
    "cooldown_s",
    type=SPAN,
    default="0s",
    show_default=True,
    help="No new firing for this long after a firing and after its end.",
)
@click.option("--to", "urls", metavar="URL", multiple=True, help=_TO)
@click.option("--note", help="Why it exists, or what to do.")
@_WORKSPACE
@root_option
def add(
    name: str,
    kind: str,
    threshold: str | None,
    at_percent: str | None,
    query: str | None,
    urls: tuple[str, ...],
    workspace: str | None,
    root: str | None,
    **fields: Any,
) -> None:
    """Set a rule, or replace the one of its name.

    A URL in --to is in the log for everybody who reads it. If it holds a password or a token, use env:NAME:
    then it is read from the environment when a message is sent.

    \b
    Example:
      eventlog alerts add spend --kind cost --threshold 5 --window 1h --to env:SLACK_URL
      eventlog alerts add errors --kind error_rate --threshold 10% --min-samples 20
      eventlog alerts add stuck --kind sql --sql "SELECT run_id FROM runs WHERE outcome = 'abandoned'"
    """
    rule = AlertRuleSet(
        name=name,
        kind=kind,
        threshold=_threshold(kind, threshold),
        at_percent=None if at_percent is None else _number(at_percent.removesuffix("%").strip(), "--at"),
        sql=query,
        channels=list(map(channels.from_web_address, urls)),
        **fields,
    )
    folder = resolve_root(root)
    rule_id = changes.add(folder, rule, workspace=workspace)
    tell(f"{name}: {rules.condition(rule)}" + ("" if rule_id else " (as before)"))
    for channel in rule.channels:
        _warn_about(channel)
    if rule.sql is not None and (problem := sql_rules.problem(Path(folder), rule, workspace)):
        say(f"warning: as things stand it cannot be evaluated: {printable(problem)}")


def _threshold(kind: str, text: str | None) -> Decimal | None:
    if text is None:
        return None
    if kind == "error_rate" and text.endswith("%"):
        return _number(text[:-1].strip(), "--threshold") / 100
    if kind == "latency" and text.endswith("ms"):
        return _number(text[:-2].strip(), "--threshold")
    if kind == "latency" and text.endswith("s"):
        return _number(text[:-1].strip(), "--threshold") * 1000
    return _number(text, "--threshold")


def _number(text: str, option: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise QueryFailed(f"{option} {text!r} is not a number") from None
    if not number.is_finite():
        raise QueryFailed(f"{option} {text!r} is not a number")
    return number


def _warn_about(channel: str) -> None:
    """Warn of what may be wrong with a channel; the rule is set all the same."""
    if channels.may_hold_secret(channel):
        say(
            f"warning: {channels.label(channel)} stands in the log as it is; if it holds a secret, put it into the "
            "environment and use --to env:NAME"
        )
    try:
        problem = delivery.problem(channel, os.environ)
    except MissingExtra as missing:
        problem = str(missing)
    if problem:
        say(f"warning: {problem}")


@alerts.command(name="list")
@click.option("--history", "past", is_flag=True, help="Firings, newest first, instead of rules.")
@click.option("--dead", is_flag=True, help="Dead letters (messages that were given up on), instead of rules.")
@click.option("--all", "removed", is_flag=True, help="Include removed rules.")
@options.reading(times=True)
def list_(context: Context, past: bool, dead: bool, removed: bool) -> None:
    """List rules, firings, or messages that could not be delivered.

    As the last check left them; `eventlog alerts check` evaluates the rules.

    \b
    Example:
      eventlog alerts list
      eventlog alerts list --history --json
    """
    if past and dead:
        raise click.UsageError("--history and --dead exclude each other; use one at a time")
    store = context.store()
    if past:
        _show(store.alerts.list(limit=_LISTED_MAX), _FIRING, context)
    elif dead:
        dead_letters = [letter for letter in store.alerts.deliveries() if letter.state in ("dead", "not_allowed")]
        _show(dead_letters, _DEAD, context)
    else:
        listed = [rule for rule in store.alerts.rules() if removed or rule.state != "removed"]
        _show(listed, _RULE, context)


_RULE = (
    "name", "workspace", "severity", "state", "since", "acknowledged", "snoozed_until", "condition", "sql", "channels",
    "problem",
)  # fmt: skip
_FIRING = (
    "fired",
    "severity",
    "state",
    "resolved",
    "because",
    "acknowledged",
    "acknowledged_note",
    "workspace",
    "summary",
    "detail",
    "deliveries",
    "firing_id",
)
_DEAD = ("fired", "name", "workspace", "channel", "failures", "last_failure", "last_error", "firing_id")


def _show(structs: Sequence[msgspec.Struct], columns: Sequence[str], context: Context) -> None:
    """Print structs as JSON, or as a table of those columns that are not empty."""
    if context.as_json:
        tell_json(structs)
        return
    if not structs:
        say("none")
        return
    values = {name: [getattr(struct, name) for struct in structs] for name in columns}
    cells = {name: [_cell(value, context) for value in values[name]] for name in columns}
    shown = [name for name in columns if any(cells[name])]
    types = ["BIGINT" if name == "failures" else "VARCHAR" for name in shown]
    rows = list(zip(*(cells[name] for name in shown), strict=True))
    headings = [context.heading(name, (each for each in values[name] if isinstance(each, datetime))) for name in shown]
    render.table(Result(headings, types, rows, False))


def _cell(value: Any, context: Context) -> str:
    if isinstance(value, datetime):
        return context.time(value)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


@alerts.command()
@click.argument("name", metavar="NAME")
@click.option("--for", "for_s", type=SPAN, help="For this long from now; 0s ends a snooze.")
@click.option("--until", metavar="T", help="Until T: a time, such as 2026-01-31 12:00.")
@click.option("--note", help="Why.")
@_WORKSPACE
@zone_options
@root_option
def snooze(
    name: str,
    for_s: float | None,
    until: str | None,
    note: str | None,
    workspace: str | None,
    utc: bool,
    time_zone: str | None,
    root: str | None,
) -> None:
    """Snooze a rule.

    It is still evaluated, and a firing that is over is resolved; but nothing fires and nothing is delivered.

    \b
    Example:
      eventlog alerts snooze spend --for 2h
      eventlog alerts snooze spend --for 0s
    """
    if (for_s is None) == (until is None):
        raise click.UsageError("use either --for or --until")
    zone = zone_of(utc, time_zone)
    end = options.when(until, zone) or datetime.now(UTC) + timedelta(seconds=for_s or 0)
    changes.snooze(existing_root(root), name, end, workspace=workspace, note=note)
    ended = end <= datetime.now(UTC)
    tell(f"{name}: not snoozed" if ended else f"{name}: snoozed until {timestamps.stamped(end, zone)}")


@alerts.command()
@click.argument("name", metavar="NAME")
@click.option("--note", help="What was seen, or who sees to it.")
@_WORKSPACE
@root_option
def ack(name: str, note: str | None, workspace: str | None, root: str | None) -> int:
    """Say that somebody has seen that a rule is firing.

    Lists show it from then on, and all else goes on as before; `eventlog alerts snooze` silences a rule. The exit code
    is 1 if the rule is not firing.

    \b
    Example:
      eventlog alerts ack spend --note "the nightly run; Anna looks at it"
    """
    firing_id = changes.acknowledge(existing_root(root), name, workspace=workspace, note=note)
    if firing_id is None:
        say(f"{name}: not firing; nothing to acknowledge")
        return EXIT_FAILED
    tell(f"{name}: acknowledged")
    return 0


@alerts.command()
@click.argument("name", metavar="NAME")
@_WORKSPACE
@root_option
def rm(name: str, workspace: str | None, root: str | None) -> None:
    """Remove a rule; its history stays.

    An open firing is resolved; messages that were not delivered yet are dropped.

    \b
    Example:
      eventlog alerts rm spend
    """
    changes.remove(existing_root(root), name, workspace=workspace)
    tell(f"{name}: removed")


@alerts.command()
@click.argument("name", metavar="[NAME]", required=False)
@_WORKSPACE
@root_option
def retry(name: str | None, workspace: str | None, root: str | None) -> None:
    """Retry dead letters, the messages that were given up on.

    The next check sends them: those of a rule, or all.

    \b
    Example:
      eventlog alerts retry spend
      eventlog alerts check
    """
    retried = changes.retry(existing_root(root), name, workspace=workspace)
    tell(f"{counted(retried, 'message')} to be tried again by the next check")


@alerts.command(name="check")
@_LIMIT
@json_option
@root_option
def check_(limit: str, as_json: bool, root: str | None) -> int:
    """Evaluate all rules, and deliver what is due.

    New events are indexed first. The exit code is 1 if a rule is firing or cannot be evaluated, or a message
    could not be delivered. Run it where the variables of the channels are set: whoever checks delivers.

    \b
    Example:
      eventlog alerts check
      eventlog alerts check --json | jq '.fired'
    """
    folder = existing_root(root)
    result = check(folder, limit_s=_limit_s(limit))
    for text in clock.warnings(folder, _RULE_TYPES):
        say(f"warning: {text}")
    if as_json:
        tell_json(result)
    else:
        tell("\n".join(map(printable, [*_news(result), _totals(result)])))
    return 0 if result.is_quiet else EXIT_FAILED


def _limit_s(text: str) -> float:
    return SPAN.convert(text, None, None)


def _news(result: Checked) -> Iterable[str]:
    """Yield a line for each firing that began or ended, rule that fails, and attempt to deliver."""
    for change in result.fired:
        yield f"fired     {change.severity:8}  {change.summary}"
    for change in result.resolved:
        yield f"resolved  {change.severity:8}  {change.name} ({change.because})"
    for outcome in result.rules:
        if outcome.error:
            yield f"failing   {outcome.severity:8}  {outcome.name}: {outcome.error}"
    for attempt in result.deliveries:
        to = f"{attempt.name} to {attempt.channel}"
        if attempt.ok:
            yield f"delivered {to}"
        else:
            then = f"again at {timestamps.stamped(attempt.retry_at)}" if attempt.retry_at else "given up"
            yield f"not delivered: {to}, attempt {attempt.attempt}: {attempt.reason}; {then}"
    if result.note:
        yield f"{counted(result.undelivered, 'message')} not delivered: {result.note}"


def _totals(result: Checked) -> str:
    states = [outcome.state for outcome in result.rules]
    parts = [f"{states.count(state):,} {state}" for state in dict.fromkeys(states)]
    return f"{counted(len(states), 'rule')}" + (f": {', '.join(parts)}" if parts else "")


@alerts.command(name="watch")
@click.option(
    "--every", "every_s", type=SPAN, default=f"{INTERVAL_S:g}s", show_default=True, help="Time between checks."
)
@_LIMIT
@root_option
def watch_(every_s: float, limit: str, root: str | None) -> None:
    """Check again and again; stop with Ctrl-C.

    It prints what is new, and goes on when the index is busy or a channel is down.

    \b
    Example:
      eventlog alerts watch
      eventlog alerts watch --every 5m
    """
    if every_s < 1:
        raise click.UsageError("--every is 1s at least")
    folder = existing_root(root)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    reported: set[str] = set()

    def report(result: Checked) -> None:
        news = list(_news(result))
        for line in news:
            if line not in reported:  # a rule that keeps failing is reported once, not at each check
                tell(printable(line))
        reported.clear()
        reported.update(news)

    say(f"checking {folder} every {units.as_option(every_s)}; stop with Ctrl-C")
    watch(
        folder,
        stop,
        interval_s=every_s,
        limit_s=_limit_s(limit),
        say=lambda text: say(printable(text)),
        on_check=report,
    )


@alerts.command()
@click.argument("target", metavar="NAME|URL")
@_WORKSPACE
@root_option
def test(target: str, workspace: str | None, root: str | None) -> int:
    """Send a test message to a rule's channels, or to a URL.

    Nothing is recorded. The exit code is 1 if a channel did not take it.

    \b
    Example:
      eventlog alerts test spend
      eventlog alerts test env:SLACK_URL
    """
    targets, is_rule = _targets(target, workspace, root)
    code = 0
    for channel in targets:
        name = f"the rule {target}" if is_rule else "a channel"
        # A channel on the command line is what the operator wants; a rule may have come from another log.
        reason = allowed.read(existing_root(root)).why_not(channel) if is_rule else None
        reason = reason or delivery.send(channel, delivery.test_message(name), os.environ)
        tell(printable(f"{channels.label(channel)}: {reason or 'delivered'}"))
        code = EXIT_FAILED if reason else code
    return code


def _targets(target: str, workspace: str | None, root: str | None) -> tuple[list[str], bool]:
    """Return the channels of a rule, or the channel that is named, and whether it is a rule. Raises QueryFailed."""
    try:
        return [channels.normal(target)], False
    except QueryFailed:
        pass
    try:
        with IndexReader(existing_root(root)).trusted() as connection:
            definitions = history.definitions(connection)
    except EventlogError as error:
        raise QueryFailed(f"{_shown(target)} is not a channel, and rules cannot be read: {error}") from None
    rule = definitions.get((workspace, target))
    if rule is None:
        raise QueryFailed(f"{_shown(target)} is neither a rule nor a channel; try: eventlog alerts list")
    if not rule.channels:
        raise QueryFailed(f"the rule {target!r} has no channels; set it again with --to")
    return rule.channels, True


def _shown(target: str) -> str:
    """Return the argument for an error; but not one that may be a mistyped URL, which may hold a secret."""
    return "the argument" if any(sign in target for sign in ":/@") else repr(target)
