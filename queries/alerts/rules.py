"""What a rule is: which ones are allowed, how they are said in words, and how each of them stands.

| kind | fires when, over its window | threshold |
| --- | --- | --- |
| cost | model calls cost more than | USD |
| budget | `at_percent` (100) of the threshold is spent | USD |
| error_rate | a larger share of calls (`of`) failed than | 0 to 1 |
| latency | the `percentile` (95) of calls (`of`) took longer than | ms |
| heartbeat | no heartbeat came | |
| sql | a SELECT has rows | |
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

import duckdb
import msgspec

from eventlog.errors import QueryFailed
from eventlog.format.alerts import AlertRuleSet
from eventlog.log.clock import AHEAD_S
from eventlog.queries.alerts.machine import Open, Standing

SEVERITIES = ("info", "warning", "critical")
MEASURED = ("llm_calls", "tool_calls", "runs")
#: What each kind needs and may have, besides name, window_s, severity, cooldown_s, channels and note.
KINDS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "cost": (frozenset({"threshold"}), frozenset({"agent", "model"})),
    "budget": (frozenset({"threshold"}), frozenset({"agent", "model", "at_percent"})),
    "error_rate": (frozenset({"threshold"}), frozenset({"agent", "model", "of", "min_samples"})),
    "latency": (frozenset({"threshold"}), frozenset({"agent", "model", "of", "min_samples", "percentile"})),
    "heartbeat": (frozenset(), frozenset({"agent"})),
    "sql": (frozenset({"sql"}), frozenset({"timeout_s"})),
}
_OF_KINDS = frozenset(
    {"threshold", "agent", "model", "of", "percentile", "at_percent", "min_samples", "sql", "timeout_s"}
)

NAME_CHARS_MAX = 100
SQL_CHARS_MAX = 20_000
CHANNELS_MAX = 20
WINDOW_S_MAX = 366 * 86400.0
SQL_TIMEOUT_S, SQL_TIMEOUT_S_MAX = 5.0, 60.0
PERCENTILE = 95.0
BUDGET_USD_MIN = Decimal("0.000001")
DECIMALS_MAX = 30
#: What is reckoned with: a cost has 38 digits at most, and a share of a budget is a million times as much.
DIGITS = 60
_DEFAULTS = AlertRuleSet(name="", kind="")
_decoder = msgspec.json.Decoder(AlertRuleSet)


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that is set, and how it stands. `problem` says why it cannot be evaluated as it was set."""

    workspace: str | None
    name: str
    rule_id: str
    set_at: datetime
    #: When it was set, snoozed or removed last.
    changed_at: datetime
    standing: Standing
    #: Its firings since it was set as it is now.
    firings: int
    definition: AlertRuleSet
    problem: str | None = None
    failing_because: str | None = None


# -- what is allowed -----------------------------------------------------------------------


def check(rule: AlertRuleSet) -> None:
    """Raise QueryFailed where a rule makes no sense; the message says what would."""
    if (
        not rule.name
        or len(rule.name) > NAME_CHARS_MAX
        or not rule.name.isprintable()
        or rule.name.strip() != rule.name
    ):
        raise QueryFailed(f"{rule.name!r} is no name for a rule; use 1 to {NAME_CHARS_MAX} printable characters")
    if rule.kind not in KINDS:
        raise QueryFailed(f"{rule.kind!r} is no kind of rule; it is one of {', '.join(KINDS)}")
    needs, may = KINDS[rule.kind]
    for field in sorted(_OF_KINDS):
        given = getattr(rule, field) != getattr(_DEFAULTS, field)
        if given and field not in needs | may:
            raise QueryFailed(f"a rule of kind {rule.kind} has no {_said(field)}")
        if not given and field in needs:
            raise QueryFailed(f"a rule of kind {rule.kind} needs a {_said(field)}")
    if rule.severity not in SEVERITIES:
        raise QueryFailed(f"{rule.severity!r} is no severity; it is one of {', '.join(SEVERITIES)}")
    _check_numbers(rule)
    if rule.of is not None and rule.of not in MEASURED:
        raise QueryFailed(f"{rule.of!r} is not measured; it is one of {', '.join(MEASURED)}")
    if rule.model is not None and rule.of not in (None, "llm_calls"):
        raise QueryFailed(f"only model calls have a model, not {rule.of}")
    if rule.sql is not None and len(rule.sql) > SQL_CHARS_MAX:
        raise QueryFailed(f"the SQL has {len(rule.sql):,} characters; {SQL_CHARS_MAX:,} is the limit")
    if len(rule.channels) > CHANNELS_MAX:
        raise QueryFailed(f"a rule has {CHANNELS_MAX} channels at most, not {len(rule.channels)}")


def _said(field: str) -> str:
    return {"of": "--of", "sql": "SELECT", "min_samples": "least number of samples"}.get(field, field.replace("_", " "))


def _check_numbers(rule: AlertRuleSet) -> None:
    threshold = rule.threshold
    if threshold is not None and not (threshold.is_finite() and 0 <= threshold < Decimal(10) ** 15):
        raise QueryFailed(f"threshold {threshold} is out of range: 0 or more")
    for name, amount in (("threshold", threshold), ("at_percent", rule.at_percent)):
        if amount is not None and _decimals(amount) > DECIMALS_MAX:
            raise QueryFailed(f"{_said(name)} {amount} has more than {DECIMALS_MAX} decimals")
    if rule.kind == "error_rate" and threshold is not None and threshold >= 1:
        raise QueryFailed(f"threshold {threshold} can never be passed; a share of failed calls is 0 to 1, 0.05 or 5%")
    if rule.kind == "budget" and threshold == 0:
        raise QueryFailed("a budget of 0 is always spent; give a threshold above it")
    if rule.kind == "budget" and threshold is not None and threshold < BUDGET_USD_MIN:
        raise QueryFailed(f"a budget of {threshold} USD is too small; {BUDGET_USD_MIN} USD is the least")
    if not 1 <= rule.window_s <= WINDOW_S_MAX:
        raise QueryFailed(f"a window is 1 s to 366 days, not {rule.window_s:g} s")
    if not 0 <= rule.cooldown_s <= WINDOW_S_MAX:
        raise QueryFailed(f"a cooldown is 0 s to 366 days, not {rule.cooldown_s:g} s")
    if not 1 <= rule.min_samples <= 10**9:
        raise QueryFailed(f"the least number of samples is 1 or more, not {rule.min_samples}")
    if rule.percentile is not None and not 0 < rule.percentile < 100:
        raise QueryFailed(f"a percentile is between 0 and 100, not {rule.percentile:g}")
    if rule.at_percent is not None and not (rule.at_percent.is_finite() and 0 < rule.at_percent <= 100):
        raise QueryFailed(f"a budget fires at 0 to 100 percent, not at {rule.at_percent}")
    if rule.timeout_s is not None and not 0 < rule.timeout_s <= SQL_TIMEOUT_S_MAX:
        raise QueryFailed(f"a query has at most {SQL_TIMEOUT_S_MAX:g} s, not {rule.timeout_s:g}")


def _decimals(amount: Decimal) -> int:
    exponent = amount.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0


# -- in words ------------------------------------------------------------------------------


def span(seconds: float) -> str:
    """Return a length of time as people say it: 90s, 15m, 2h, 7d."""
    for unit, unit_s in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= unit_s and seconds % unit_s == 0:
            return f"{seconds / unit_s:.0f}{unit}"
    return f"{seconds:g}s"


def plain(amount: Decimal) -> str:
    """Return an amount without an exponent and without zeros at its end."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _rounded(amount: Decimal, to: str) -> Decimal:
    with localcontext(prec=DIGITS):
        return amount.quantize(Decimal(to))


def usd(amount: Decimal) -> str:
    """Return dollars with two decimals, or more where that would hide all of it."""
    if amount and abs(amount) < Decimal("0.01"):
        return f"{plain(_rounded(amount, '1e-9'))} USD"
    return f"{_rounded(amount, '0.01'):,} USD"


def percent(share: Decimal) -> str:
    """Return a share of 1 as percent."""
    return f"{plain(_rounded(share * 100, '0.01'))} %"


def condition(rule: AlertRuleSet) -> str:
    """Return what a rule watches for, in words."""
    threshold = rule.threshold if rule.threshold is not None else Decimal(0)
    of = (rule.of or "llm_calls").replace("_", " ")
    window = span(rule.window_s)
    words = {
        "cost": f"cost over {usd(threshold)} in {window}",
        "budget": f"{plain(rule.at_percent or Decimal(100))} % of {usd(threshold)} spent in {window}",
        "error_rate": f"over {percent(threshold)} of {of} failed in {window}",
        "latency": f"p{rule.percentile or PERCENTILE:g} of {of} over {plain(threshold)} ms in {window}",
        "heartbeat": f"no heartbeat in {window}",
        "sql": "SELECT has rows",
    }.get(rule.kind, rule.kind)
    scope = [f"{name} {value}" for name, value in (("agent", rule.agent), ("model", rule.model)) if value]
    return f"{words} ({', '.join(scope)})" if scope else words


def shown(kind: str, value: Decimal | None) -> str:
    """Return a value with the unit of its kind."""
    if value is None:
        return ""
    if kind in ("cost", "budget"):
        return usd(value)
    if kind == "error_rate":
        return percent(value)
    if kind == "heartbeat":
        return f"{plain(_rounded(value, '0.001'))} s"
    return f"{plain(value)} {'ms' if kind == 'latency' else 'row' if value == 1 else 'rows'}"


def summary(rule: AlertRuleSet, value: Decimal | None) -> str:
    """Return one line that says what happened: the head of a message."""
    found = shown(rule.kind, value)
    if rule.kind == "heartbeat":
        return f"{rule.name}: {condition(rule)}" + (f"; the last was {found} ago" if found else "")
    return f"{rule.name}: {found}; {condition(rule)}"


# -- how they stand ------------------------------------------------------------------------

_STANDINGS = """
    WITH open AS (
        SELECT workspace, name,
               arg_min({'firing_id': firing_id, 'rule_id': rule_id, 'fired': fired}, (fired, firing_id)) AS firing
        FROM alerts WHERE state = 'open' GROUP BY ALL
    ), past AS (
        SELECT workspace, rule_id, max(fired) FILTER (fired <= $horizon) AS last_fired,
               max(resolved) FILTER (resolved <= $horizon) AS last_resolved, count(*) AS firings
        FROM alerts GROUP BY ALL
    )
    SELECT r.workspace, r.name, r.rule_id::VARCHAR AS rule_id, r.set_at, r.changed, r.removed IS NOT NULL AS removed,
           r.snoozed_until, r.definition::VARCHAR AS definition, r.failing_because,
           o.firing.firing_id::VARCHAR AS open_id, o.firing.rule_id::VARCHAR AS open_rule_id,
           o.firing.fired AS open_fired,
           p.last_fired, p.last_resolved, coalesce(p.firings, 0) AS firings
    FROM alert_rules r
    LEFT JOIN open o ON o.workspace IS NOT DISTINCT FROM r.workspace AND o.name = r.name
    LEFT JOIN past p ON p.workspace IS NOT DISTINCT FROM r.workspace AND p.rule_id = r.rule_id
    ORDER BY r.workspace NULLS FIRST, r.name
"""


def read(connection: duckdb.DuckDBPyConnection, now: datetime) -> list[Rule]:
    """Return all rules that were ever set, the removed ones too, in order of workspace and name.

    Firings and ends that a clock gone wrong has dated after `now` delay nothing.
    """
    horizon = now + timedelta(seconds=AHEAD_S)
    cursor = connection.execute(_STANDINGS, {"horizon": horizon.astimezone(UTC).replace(tzinfo=None)})
    names = [column[0] for column in cursor.description or []]
    return [_rule(dict(zip(names, row, strict=True))) for row in cursor.fetchall()]


def _rule(row: dict[str, Any]) -> Rule:
    problem = None
    try:
        definition = _decoder.decode(row["definition"])
        check(definition)
    except (msgspec.MsgspecError, QueryFailed, ArithmeticError, ValueError) as error:
        # It was written by a program that is not ours.
        definition, problem = AlertRuleSet(name=row["name"], kind="?"), str(error)
    opened = None
    if row["open_id"] is not None:
        opened = Open(row["open_id"], row["open_rule_id"] or "", utc(row["open_fired"]))
    return Rule(
        workspace=row["workspace"],
        name=row["name"],
        rule_id=row["rule_id"],
        set_at=utc(row["set_at"]),
        changed_at=utc(row["changed"]),
        firings=row["firings"],
        definition=definition,
        problem=problem,
        failing_because=row["failing_because"],
        standing=Standing(
            rule_id=row["rule_id"],
            removed=row["removed"],
            snoozed_until=row["snoozed_until"] and utc(row["snoozed_until"]),
            cooldown_s=definition.cooldown_s,
            open=opened,
            last_fired=row["last_fired"] and utc(row["last_fired"]),
            last_resolved=row["last_resolved"] and utc(row["last_resolved"]),
        ),
    )


def utc(moment: datetime) -> datetime:
    """Return a time of the index, which has no zone, as UTC."""
    return moment.replace(tzinfo=UTC)
