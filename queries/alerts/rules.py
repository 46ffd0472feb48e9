"""Alert rules: which definitions are valid, their wording, and their standing in the index.

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

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import msgspec

from eventlog.errors import QueryFailed
from eventlog.format.alerts import AlertRuleSet
from eventlog.format.timestamps import naive_utc
from eventlog.log.clock import AHEAD_S
from eventlog.queries.alerts.machine import Open, Standing
from eventlog.queries.rows import rows_as_dicts
from eventlog.queries.text import units

SEVERITIES = ("info", "warning", "critical")
#: What `of` may name.
MEASURED = ("llm_calls", "tool_calls", "runs")
#: By kind: the fields that a rule must set, and those that it may set. Every rule also has name, window_s, severity,
#: cooldown_s, channels and note.
KINDS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "cost": (frozenset({"threshold"}), frozenset({"agent", "model"})),
    "budget": (frozenset({"threshold"}), frozenset({"agent", "model", "at_percent"})),
    "error_rate": (frozenset({"threshold"}), frozenset({"agent", "model", "of", "min_samples"})),
    "latency": (frozenset({"threshold"}), frozenset({"agent", "model", "of", "min_samples", "percentile"})),
    "heartbeat": (frozenset(), frozenset({"agent"})),
    "sql": (frozenset({"sql"}), frozenset({"timeout_s"})),
}
_FIELDS_OF_KINDS = sorted(frozenset[str]().union(*(needed | optional for needed, optional in KINDS.values())))

NAME_CHARS_MAX = 100
SQL_CHARS_MAX = 20_000
CHANNELS_MAX = 20
WINDOW_S_MAX = 366 * 86400.0
SQL_TIMEOUT_S, SQL_TIMEOUT_S_MAX = 5.0, 60.0
PERCENTILE = 95.0
BUDGET_USD_MIN = Decimal("0.000001")
DECIMALS_MAX = 30
_MS = Decimal("0.001")
_DEFAULTS = AlertRuleSet(name="", kind="")
_decoder = msgspec.json.Decoder(AlertRuleSet)


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule as it was set last, and its standing, for those who evaluate it. Times are UTC.

    It holds the URLs of its channels, and so secrets: what is shown of it is a history.RuleState.
    `rule_id` is the id of its `alert_rule_set` event, and `definition` the payload. `changed_at` is when it was set,
    snoozed or removed last. `firings` counts those since it was set. `problem` says why the definition cannot be
    evaluated, such as "a budget fires at 0 to 100 percent, not at NaN"; `failing_because` is the reason of its last
    `alert_rule_failed`, None once it recovered.
    """

    workspace: str | None
    name: str
    rule_id: str
    set_at: datetime
    changed_at: datetime
    standing: Standing
    firings: int
    definition: AlertRuleSet
    problem: str | None = None
    failing_because: str | None = None
    failing_since: datetime | None = None
    removed_at: datetime | None = None


# -- valid definitions ---------------------------------------------------------------------


def check(rule: AlertRuleSet) -> None:
    """Check that a definition makes sense. Raises QueryFailed; the message says what would, with the valid range."""
    if (
        not rule.name
        or len(rule.name) > NAME_CHARS_MAX
        or not rule.name.isprintable()
        or rule.name.strip() != rule.name
    ):
        raise QueryFailed(f"{rule.name!r} is not a name for a rule; use 1 to {NAME_CHARS_MAX} printable characters")
    if rule.kind not in KINDS:
        raise QueryFailed(f"{rule.kind!r} is not a kind of rule; use one of {', '.join(KINDS)}")
    needed, optional = KINDS[rule.kind]
    for field in _FIELDS_OF_KINDS:
        is_set = getattr(rule, field) != getattr(_DEFAULTS, field)
        if is_set and field not in needed | optional:
            raise QueryFailed(f"a rule of kind {rule.kind} has no {_label(field)}")
        if not is_set and field in needed:
            raise QueryFailed(f"a rule of kind {rule.kind} needs a {_label(field)}")
    if rule.severity not in SEVERITIES:
        raise QueryFailed(f"{rule.severity!r} is not a severity; use one of {', '.join(SEVERITIES)}")
    _check_threshold(rule)
    _check_ranges(rule)
    if rule.of is not None and rule.of not in MEASURED:
        raise QueryFailed(f"{rule.of!r} cannot be measured; use one of {', '.join(MEASURED)}")
    if rule.model is not None and rule.of not in (None, "llm_calls"):
        raise QueryFailed(f"only model calls have a model, not {rule.of}")
    if rule.sql is not None and len(rule.sql) > SQL_CHARS_MAX:
        raise QueryFailed(f"the SQL has {len(rule.sql):,} characters; {SQL_CHARS_MAX:,} is the limit")
    if len(rule.channels) > CHANNELS_MAX:
        raise QueryFailed(f"a rule has at most {CHANNELS_MAX} channels, not {len(rule.channels)}")


def _label(field: str) -> str:
    return {"of": "--of", "sql": "SELECT", "min_samples": "least number of samples"}.get(field, field.replace("_", " "))


def _check_threshold(rule: AlertRuleSet) -> None:
    threshold = rule.threshold
    if threshold is None:
        return
    if not (threshold.is_finite() and 0 <= threshold < Decimal(10) ** 15):
        raise QueryFailed(f"threshold {threshold} is out of range: 0 or more")
    _check_decimals("threshold", threshold)
    if rule.kind == "error_rate" and threshold >= 1:
        raise QueryFailed(f"threshold {threshold} can never be exceeded; a share of failed calls is 0 to 1, 0.05 or 5%")
    if rule.kind == "budget" and threshold == 0:
        raise QueryFailed("a budget of 0 is always spent; give a threshold above it")
    if rule.kind == "budget" and threshold < BUDGET_USD_MIN:
        raise QueryFailed(f"a budget of {units.usd(threshold)} is too small; {units.usd(BUDGET_USD_MIN)} is the least")


def _check_ranges(rule: AlertRuleSet) -> None:
    if not 1 <= rule.window_s <= WINDOW_S_MAX:
        raise QueryFailed(f"a window is 1 s to 366 days, not {rule.window_s:g} s")
    if not 0 <= rule.cooldown_s <= WINDOW_S_MAX:
        raise QueryFailed(f"a cooldown is 0 s to 366 days, not {rule.cooldown_s:g} s")
    if not 1 <= rule.min_samples <= 10**9:
        raise QueryFailed(f"the least number of samples is 1 or more, not {rule.min_samples}")
    if rule.percentile is not None and not 0 < rule.percentile < 100:
        raise QueryFailed(f"a percentile is between 0 and 100, not {rule.percentile:g}")
    if rule.at_percent is not None:
        if not (rule.at_percent.is_finite() and 0 < rule.at_percent <= 100):
            raise QueryFailed(f"a budget fires at 0 to 100 percent, not at {rule.at_percent}")
        _check_decimals("at_percent", rule.at_percent)
    if rule.timeout_s is not None and not 0 < rule.timeout_s <= SQL_TIMEOUT_S_MAX:
        raise QueryFailed(f"a query may take at most {SQL_TIMEOUT_S_MAX:g} s, not {rule.timeout_s:g} s")


def _check_decimals(field: str, amount: Decimal) -> None:
    exponent = amount.as_tuple().exponent
    if isinstance(exponent, int) and -exponent > DECIMALS_MAX:
        raise QueryFailed(f"{_label(field)} {amount} has more than {DECIMALS_MAX} decimals")


# -- wording -------------------------------------------------------------------------------


def condition(rule: AlertRuleSet) -> str:
    """Return the condition of a rule in words, such as `cost over $5.00 in 1h (agent planner)`."""
    threshold = rule.threshold if rule.threshold is not None else Decimal(0)
    of = (rule.of or "llm_calls").replace("_", " ")
    window = units.as_option(rule.window_s)
    words = {
        "cost": f"cost over {units.usd(threshold)} in {window}",
        "budget": f"{units.plain(rule.at_percent or Decimal(100))}% of {units.usd(threshold)} spent in {window}",
        "error_rate": f"over {units.plain(threshold * 100)}% of {of} failed in {window}",
        "latency": f"p{rule.percentile or PERCENTILE:g} of {of} over {units.plain(threshold)} ms in {window}",
        "heartbeat": f"no heartbeat in {window}",
        "sql": "SELECT has rows",
    }.get(rule.kind, rule.kind)
    scope = [f"{name} {value}" for name, value in (("agent", rule.agent), ("model", rule.model)) if value]
    return f"{words} ({', '.join(scope)})" if scope else words


def value_text(kind: str, value: Decimal | None) -> str:
    """Return a measured value with the unit of its kind: `$7.25`, `5.0%`, `2600 ms`, `90 s`, `2 rows`."""
    if value is None:
        return ""
    if kind in ("cost", "budget"):
        return units.usd(value)
    if kind == "error_rate":
        return units.percentage(value)
    if kind == "heartbeat":
        return f"{units.plain(units.rounded(value, _MS))} s"
    return f"{units.plain(value)} {'ms' if kind == 'latency' else 'row' if value == 1 else 'rows'}"


def summary(rule: AlertRuleSet, value: Decimal | None) -> str:
    """Return the headline of a firing, such as `spend: $7.25; cost over $5.00 in 1h`."""
    if rule.kind == "heartbeat":
        last = "" if value is None else f"; the last was {units.duration(float(value) * 1000)} ago"
        return f"{rule.name}: {condition(rule)}{last}"
    return f"{rule.name}: {value_text(rule.kind, value)}; {condition(rule)}"


# -- standings -----------------------------------------------------------------------------

STANDINGS = """
    WITH open AS (
        SELECT workspace, name,
               arg_min({'firing_id': firing_id, 'rule_id': rule_id, 'fired': fired, 'severity': severity,
                        'summary': summary, 'acknowledged': acknowledged}, (fired, firing_id)) AS firing
        FROM alerts WHERE state = 'open' GROUP BY ALL
    ), past AS (
        SELECT workspace, rule_id, max(fired) FILTER (fired <= $horizon) AS last_fired,
               max(resolved) FILTER (resolved <= $horizon) AS last_resolved, count(*) AS firings
        FROM alerts GROUP BY ALL
    )
    SELECT r.workspace, r.name, r.rule_id::VARCHAR AS rule_id, r.set_at, r.changed AS changed_at,
           r.removed AS removed_at, r.snoozed_until, r.definition::VARCHAR AS definition, r.failing_because,
           r.failing_since, o.firing.firing_id::VARCHAR AS open_id, o.firing.rule_id::VARCHAR AS open_rule_id,
           o.firing.fired AS open_fired, o.firing.severity AS open_severity, o.firing.summary AS open_summary,
           o.firing.acknowledged AS open_acknowledged,
           p.last_fired, p.last_resolved, coalesce(p.firings, 0) AS firings
    FROM alert_rules r
    LEFT JOIN open o ON o.workspace IS NOT DISTINCT FROM r.workspace AND o.name = r.name
    LEFT JOIN past p ON p.workspace IS NOT DISTINCT FROM r.workspace AND p.rule_id = r.rule_id
    ORDER BY r.workspace NULLS FIRST, r.name
"""
#: Columns that a Rule has as they are.
_SAME = (
    "workspace", "name", "rule_id", "set_at", "changed_at", "removed_at", "firings", "failing_because", "failing_since",
)  # fmt: skip


def read(connection: duckdb.DuckDBPyConnection, now: datetime) -> list[Rule]:
    """Return all rules that were ever set, removed ones included, by workspace and name.

    Firings that a wrong clock dated after `now` do not count for cooldowns.
    """
    horizon = naive_utc(now + timedelta(seconds=AHEAD_S))
    return [_rule(row) for row in rows_as_dicts(connection.execute(STANDINGS, {"horizon": horizon}))]


def _rule(row: dict[str, Any]) -> Rule:
    problem = None
    try:
        definition = _decoder.decode(row["definition"])
        check(definition)
    except (msgspec.MsgspecError, QueryFailed, ArithmeticError, ValueError) as error:
        # Another program wrote the event: `eventlog alerts add` refuses such a definition.
        definition, problem = AlertRuleSet(name=row["name"], kind="?"), str(error)
    open_firing = None
    if row["open_id"] is not None:
        open_firing = Open(
            row["open_id"],
            row["open_rule_id"] or "",
            row["open_fired"],
            row["open_severity"],
            row["open_summary"],
            row["open_acknowledged"],
        )
    return Rule(
        **{name: row[name] for name in _SAME},
        definition=definition,
        problem=problem,
        standing=Standing(
            rule_id=row["rule_id"],
            removed=row["removed_at"] is not None,
            snoozed_until=row["snoozed_until"],
            cooldown_s=definition.cooldown_s,
            open=open_firing,
            last_fired=row["last_fired"],
            last_resolved=row["last_resolved"],
        ),
    )
